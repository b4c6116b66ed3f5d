"""Tables of many scans: a row each, and a row for each lung."""

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path

from lungseg.files import write_text
from lungseg.inference.items import Result
from lungseg.metrics.lungs import rows
from lungseg.metrics.overlap import summarise, volume_scores


def write_summary(results: Sequence[Result], output: Path) -> None:
    """``summary.csv``: a row for each scan or picture, with scores where there is a truth."""
    text = io.StringIO()
    columns = ["file", "status", "lung_fraction", "seconds", "warnings", "error"]
    if any(result.item.truth is not None for result in results):
        columns += ["iou", "dice"]
    if any(result.item.truth is not None and result.item.is_volume for result in results):
        columns += ["iou_3d", "dice_3d"]
    writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for result in results:
        own = summarise(result.scores)
        iou_3d, dice_3d = volume_scores(result.scores) if result.item.is_volume else (math.nan, math.nan)
        row = {
            "file": result.item.name,
            "status": result.status,
            "lung_fraction": _cell(result.lung_fraction, 5),
            "seconds": _cell(sum(result.seconds.values()) if result.seconds else math.nan, 3),
            "warnings": "; ".join(result.warnings),
            "error": result.error or "",
            "iou": _cell(own["iou"], 5),
            "dice": _cell(own["dice"], 5),
            "iou_3d": _cell(iou_3d, 5),
            "dice_3d": _cell(dice_3d, 5),
        }
        writer.writerow(row)
    write_text(output / "summary.csv", text.getvalue())


def write_measurements(results: Sequence[Result], output: Path) -> None:
    """``measurements.csv`` and ``measurements.json``: volumes and densities of each lung of each volume."""
    measured = [result for result in results if result.lungs]
    if not measured:
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, ["file", *rows(measured[0].lungs)[0]], lineterminator="\n")
    writer.writeheader()
    writer.writerows({"file": result.item.name, **row} for result in measured for row in rows(result.lungs))
    write_text(output / "measurements.csv", text.getvalue())
    scans = [
        {
            "file": result.item.name,
            "shape": list(result.shape),
            "spacing_mm": list(result.spacing_mm),
            "lungs": rows(result.lungs),
            "warnings": list(result.warnings),
        }
        for result in measured
    ]
    write_text(output / "measurements.json", json.dumps(scans, indent=1))


def _cell(value: float, digits: int) -> str:
    return "" if math.isnan(value) else f"{value:.{digits}f}"
