"""Tables of many scans: a row each, and a row for each lung."""

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path

from lungseg.files import write_text
from lungseg.inference.items import Result
from lungseg.log import cell
from lungseg.metrics.lungs import rows


def write_summary(results: Sequence[Result], output: Path) -> None:
    """``summary.csv``: a row for each scan or picture, with the figures of ``metrics.cases`` where there is a truth."""
    text = io.StringIO()
    columns = ["file", "status", "lung_fraction", "seconds", "warnings", "error"]
    if any(result.item.truth is not None for result in results):
        columns += dict.fromkeys(["iou", "dice", *(figure for result in results for figure in result.figures)])
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for result in results:
        row = {
            "file": result.item.name,
            "status": result.status,
            "lung_fraction": cell(result.lung_fraction, ".5f"),
            "seconds": cell(sum(result.seconds.values()) if result.seconds else math.nan, ".3f"),
            "warnings": "; ".join(result.warnings),
            "error": result.error or "",
            **{figure: cell(value) for figure, value in result.figures.items()},
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
