"""Results of several seeds and patients as one row for each network and budget, and the rows as a table."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungseg.log import aligned
from lungseg.metrics.cases import TITLES, range_of
from lungseg.metrics.statistics import mean_interval, paired

SHOWN = ("hd95_mm", "hd95_px", "nsd")  # means beside the IoU, those that there are


def summary(
    results: Sequence[Mapping[str, Any]], networks: Mapping[str, Mapping[str, Any]], reference: str
) -> list[dict[str, Any]]:
    """A row for each budget and network: means over its seeds and patients, and how its IoU differs from the reference's of the
    same budget. An interval is None where there are too few patients for one.

    Args:
        results: each with ``budget``, ``network``, ``seed``, counts, times and ``figures``, values by patient.
        networks: what each weighs.
    """
    runs: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for result in results:
        runs.setdefault((result["budget"], result["network"]), []).append(result)
    rows = []
    for budget, name in sorted(runs, key=lambda key: key[0]):  # budgets one after the other, networks as they come
        own = runs[budget, name]
        iou, interval = _values(own, "iou"), mean_interval(_values(own, "iou"), range_of("iou"))
        row: dict[str, Any] = {"budget": budget, "network": name, "seeds": len(own)}
        row |= {key: networks[name][key] for key in ("parameters", "multiply_adds")}
        row |= {key: sum(one[key] for one in own) / len(own) for key in ("step_seconds", "seconds", "images")}
        row |= {"iou": _mean(iou), "iou_interval": None if interval is None else [interval.low, interval.high]}
        row["iou_worst"] = float(np.nanmin(np.nanmean(iou[:, _known(iou)], axis=0))) if _known(iou).any() else None
        row |= {key: _mean(_values(own, key)) for key in SHOWN if key in own[0]["figures"]}
        if name != reference:
            against = paired(iou, _values(runs[budget, reference], "iou"))
            low_high = None if against.interval is None else [against.interval.low, against.interval.high]
            difference = None if math.isnan(against.difference) else against.difference
            row |= {"difference": difference, "difference_interval": low_high, "p_value": against.p_value}
        rows.append(row)
    return rows


def as_screen(rows: Sequence[Mapping[str, Any]], reference: str) -> str:
    """Aligned columns, names on the left and numbers on the right."""
    cells = _cells(rows, reference)
    return "\n".join(aligned(cells, right=range(2, len(cells[0]))))


def as_markdown(rows: Sequence[Mapping[str, Any]], reference: str) -> str:
    """The same as a table in Markdown."""
    head, *others = _cells(rows, reference)
    rule = ["---" if column < 2 else "---:" for column in range(len(head))]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *others))


def _cells(rows: Sequence[Mapping[str, Any]], reference: str) -> list[list[str]]:
    shown = [key for key in SHOWN if any(row.get(key) is not None for row in rows)]
    head = ["budget", "network", "parameters", "multiply-adds", "s a step", "images", "seconds"]
    head += ["IoU (95 %)", f"minus {reference} (95 %)", "worst", *(TITLES[key] for key in shown)]
    lines = [head]
    for row in rows:
        lines.append(
            [
                row["budget"],
                row["network"],
                f"{row['parameters'] / 1e6:.2f} M",
                f"{row['multiply_adds'] / 1e9:.2f} G",
                f"{row['step_seconds']:.2f}",
                f"{row['images']:.0f}",
                f"{row['seconds']:.{0 if row['seconds'] >= 10 else 1}f}",
                _with_interval(row["iou"], row["iou_interval"], ".4f"),
                _with_interval(row.get("difference"), row.get("difference_interval"), "+.4f"),
                _number(row["iou_worst"], ".3f"),
                *(_number(row.get(key), ".3f" if key == "nsd" else ".2f") for key in shown),
            ]
        )
    return lines


def _values(runs: Sequence[Mapping[str, Any]], key: str) -> NDArray[np.float64]:
    """(runs, patients), nan where a patient has no figure."""
    return np.array([[math.nan if value is None else value for value in run["figures"][key]] for run in runs], dtype=np.float64)


def _known(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.logical_not(np.isnan(values).all(axis=0))


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(np.nanmean(values)) if _known(values).any() else None


def _with_interval(value: float | None, interval: Sequence[float] | None, form: str) -> str:
    if value is None or interval is None:
        return _number(value, form)
    return f"{_number(value, form)} ({interval[0]:{form}} to {interval[1]:{form}})"


def _number(value: float | None, form: str) -> str:
    return "" if value is None or math.isnan(value) else format(value, form)
