"""What an evaluation says of all its cases: means with intervals, medians, the worst, and what was missed."""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lungseg.errors import UserError, count_of, named, printable
from lungseg.evaluation.cases import BOTH, NAMES, Judged
from lungseg.evaluation.tables import short
from lungseg.log import aligned, cell
from lungseg.metrics.cases import HIGHER_IS_BETTER, SIGNED, TITLES, range_of
from lungseg.metrics.statistics import LEAST_PATIENTS, Interval, by_patient, mean_interval

SIDES = (BOTH, *NAMES.values())
# On the screen; all others are in the tables.
OF_VOLUMES = ("iou_3d", "dice_3d", "hd95_3d_mm", "assd_3d_mm", "nsd_3d", "volume_error")
OF_IMAGES = ("iou", "dice", "hd95_mm", "hd95_px", "assd_mm", "assd_px", "nsd", "area_error")
REASONS = 3  # different ones, where none could be judged
HEAD = ("lungs", "figure", "mean", "95 % interval", "median", "worst", "of", "cases")


@dataclass(frozen=True)
class Line:
    """A figure on a side over all cases that have it.

    Attributes:
        mean: over patients, the cases of each averaged first; ``interval`` is of it, None for fewer than ``LEAST_PATIENTS``.
        median, worst: over cases; the worst is of ``worst_case``.
    """

    side: str
    figure: str
    mean: float
    interval: Interval | None
    median: float
    worst: float
    worst_case: str
    cases: int
    patients: int


@dataclass(frozen=True)
class Summary:
    """What an evaluation found.

    Attributes:
        cases, failed: how many were to be judged, and could not be.
        missed: cases by side whose truth has lung, none of which was found.
        lung_free_slices, false_lung_slices: slices whose truth has no lung, and those of them where some was found.
    """

    lines: tuple[Line, ...]
    cases: int
    failed: int
    patients: int
    missed: dict[str, int]
    lung_free_slices: int
    false_lung_slices: int


def summarised(judged: Sequence[Judged]) -> Summary:
    """The summary of cases.

    Raises:
        UserError: none could be judged.
    """
    scored = [one for one in judged if not one.error]
    if not scored:
        raise _none_judged(judged)
    lines = [line for side in SIDES for figure in HIGHER_IS_BETTER if (line := _line(judged, side, figure)) is not None]
    sides = [side for side in SIDES if any(side in one.figures for one in scored)]
    free = [_lung_free(one.figures[BOTH]) for one in scored]
    return Summary(
        tuple(lines),
        cases=len(judged),
        failed=len(judged) - len(scored),
        patients=len({one.case.patient for one in scored}),
        missed={side: sum(_overlap(one.figures[side]) == 0 for one in scored if side in one.figures) for side in sides},
        lung_free_slices=sum(number for number, _ in free),
        false_lung_slices=sum(number for _, number in free),
    )


def reasons(judged: Sequence[Judged]) -> list[str]:
    """Why cases could not be judged: of all with the same remedy the sentence of the first, and the names of the others."""
    return [_reason(*same) for same in _alike(judged)]


def as_screen(summary: Summary) -> str:
    """The main figures as a table, and the counts below."""
    volumes = {line.side: line.cases for line in summary.lines if line.figure == "iou_3d"}
    chosen = [
        line
        for line in summary.lines
        if line.figure in OF_VOLUMES or (line.figure in OF_IMAGES and line.cases > volumes.get(line.side, 0))
    ]
    table = aligned([HEAD, *map(_shown, chosen)], right=(2, 4, 5, 7)) if chosen else []
    return "\n".join([*table, *_counts(summary)])


def as_json(summary: Summary, tolerance: float) -> dict[str, Any]:
    """All of it as plain values."""
    return {
        "cases": summary.cases,
        "failed": summary.failed,
        "patients": summary.patients,
        "tolerance": tolerance,
        "missed_lungs": summary.missed,
        "lung_free_slices": summary.lung_free_slices,
        "lung_free_slices_with_false_lung": summary.false_lung_slices,
        "figures": list(_rows(summary)),
    }


def as_csv(summary: Summary) -> str:
    """A row for each figure on each side."""
    rows = list(_rows(summary))
    text = io.StringIO()
    writer = csv.DictWriter(text, ROW, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def cases_csv(judged: Sequence[Judged]) -> str:
    """A row for each case and side, with all figures; an empty cell is one that the case does not have."""
    figures = list(dict.fromkeys(figure for one in judged for own in one.figures.values() for figure in own))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("case", "patient", "side", *figures, "doubts", "error"))
    for one in judged:
        for side, own in (one.figures or {BOTH: {}}).items():
            cells = [cell(own.get(figure, math.nan)) for figure in figures]
            writer.writerow((one.case.name, one.case.patient, side, *cells, "; ".join(one.doubts), one.error))
    return text.getvalue()


ROW = ("side", "figure", "mean", "low", "high", "median", "worst", "worst_case", "cases", "patients", "not_judged")


def _rows(summary: Summary) -> Iterator[dict[str, Any]]:
    for line in summary.lines:
        low, high = (None, None) if line.interval is None else (line.interval.low, line.interval.high)
        numbers = (line.mean, low, high, line.median, line.worst)
        rounded = [None if number is None else float(cell(number)) for number in numbers]
        yield dict(
            zip(ROW, (line.side, line.figure, *rounded, line.worst_case, line.cases, line.patients, summary.failed), strict=True)
        )


def _shown(line: Line) -> tuple[str, ...]:
    interval = "" if line.interval is None else f"{short(line.interval.low)} to {short(line.interval.high)}"
    numbers = (short(line.mean), interval, short(line.median), short(line.worst))
    return line.side, TITLES[line.figure], *numbers, printable(line.worst_case), str(line.cases)


def _reason(first: Judged, *others: Judged) -> str:
    said = printable(first.error, most=5000)
    if not others:
        return said
    names = named([one.case.name for one in others])
    return f"{said} The like holds for {count_of(len(others), 'more case')}, each with its reason in cases.csv: {names}."


def _none_judged(judged: Sequence[Judged]) -> UserError:
    pairs = [one for one in judged if one.case.prediction and one.case.truth]  # that others lack a partner is not why
    said = " ".join(same[0].error for same in _alike(pairs)[:REASONS])
    return UserError(f"none of {len(pairs)} pairs of masks can be judged: {said}" if len(pairs) > 1 else said)


def _alike(judged: Sequence[Judged]) -> list[list[Judged]]:
    """Those that could not be judged, by their remedy."""
    alike: dict[str, list[Judged]] = {}
    for one in judged:
        if one.error:
            alike.setdefault(one.error.rpartition(": ")[2], []).append(one)
    return list(alike.values())


def _counts(summary: Summary) -> Iterator[str]:
    failed = f", {summary.failed} more could not be judged and are in no mean" if summary.failed else ""
    yield f"{count_of(summary.cases - summary.failed, 'case')} of {count_of(summary.patients, 'patient')}{failed}"
    if summary.patients < LEAST_PATIENTS:
        yield f"Fewer than {LEAST_PATIENTS} patients: no interval is given."
    missed = [f"{side} in {count_of(number, 'case')}" for side, number in summary.missed.items() if number]
    yield f"Lungs of which nothing was found: {', '.join(missed) or 'none'}."
    if summary.lung_free_slices:
        yield f"Slices without lung: {summary.lung_free_slices}, false lung in {summary.false_lung_slices} of them."


def _line(judged: Sequence[Judged], side: str, figure: str) -> Line | None:
    have = [one for one in judged if not math.isnan(one.figures.get(side, {}).get(figure, math.nan))]
    if not have:
        return None
    values = np.array([one.figures[side][figure] for one in have])
    patients = by_patient(values, [one.case.patient for one in have])
    return Line(
        side,
        figure,
        mean=float(np.mean(list(patients.values()))),
        interval=mean_interval(np.array(list(patients.values())), range_of(figure)),
        median=float(np.median(values)),
        worst=float(values[worst := _worst(values, figure)]),
        worst_case=have[worst].case.name,
        cases=len(have),
        patients=len(patients),
    )


def _worst(values: np.ndarray[Any, np.dtype[np.float64]], figure: str) -> int:
    if figure in SIGNED:  # the farthest from 0
        return int(np.argmax(np.abs(values)))
    return int(np.argmin(values) if HIGHER_IS_BETTER[figure] else np.argmax(values))


def _overlap(figures: dict[str, float]) -> float:
    """The IoU of a case as a whole; nan where its truth has no lung."""
    return figures.get("iou_3d", figures["iou"])


def _lung_free(figures: dict[str, float]) -> tuple[int, int]:
    """Slices without lung in the truth, and those of them with some in the prediction."""
    if "slices" in figures:
        return int(figures["slices"] - figures["slices_with_lung"]), int(figures["false_lung_slices"])
    false_lung = figures["false_lung_pixels"]
    return (0, 0) if math.isnan(false_lung) else (1, int(false_lung > 0))
