"""Tables of cases, as a training, a prediction with ``truth=`` or an evaluation wrote them: a row a case, a column a figure."""

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lungseg.errors import UserError, printable
from lungseg.metrics.cases import TOLERANCE

Kind = Literal["images", "volumes"]

PLAN = "sweep.json"  # in the folder of a sweep: its jobs, with their folders and words
PARTS = ("test", "val")  # of a training, the more telling one first
WITH_BOTH = ("cases.csv", "summary.csv")  # of an evaluation and of a prediction: pictures and volumes in one table
NAMES = ("case", "image", "scan", "file")  # of the column that names the case
TEXTS = (*NAMES, "patient", "source", "side", "status", "warnings", "error")
NO_FIGURES = ("seconds", "lung_fraction")  # numbers that say nothing of the truth
NEEDED = "give the folder of a training, of lungseg evaluate, or of lungseg predict truth=, or such a table"


@dataclass(frozen=True)
class Cases:
    """The figures of cases, one row each.

    Attributes:
        names, patients, sources: (cases); a patient is the case itself and a source empty where the table does not say.
        columns: (cases) float64 by figure, nan where a case has none.
        tolerance: of the surface Dice, in mm or pixels.
    """

    names: tuple[str, ...]
    patients: tuple[str, ...]
    sources: tuple[str, ...]
    columns: dict[str, NDArray[np.float64]]
    tolerance: float = TOLERANCE


def read_cases(where: Path, part: str | None = None, kind: Kind = "images") -> Cases:
    """The cases of a folder or of a table itself, both lungs together; those that failed are left out.

    Args:
        where: the folder of a training, an evaluation or a prediction, or a CSV file.
        part: of a training; by default ``test`` where there is a table, else ``val``.
        kind: of a training the table of slices or that of whole scans; others have all in one, which is that of ``images``.

    Raises:
        UserError: there is no such table, or it cannot be read.
    """
    table = find_table(where, part, kind)
    if table is None:
        if (where / PLAN).is_file():
            raise UserError(f"{where} is a sweep: lungseg report says what it shows; name two of its jobs to compare them.")
        if (where / "config.yaml").is_file() and not (where / "metrics.json").is_file():
            raise UserError(f"{where} is a training that is not finished: go on with it first.")
        of = f" of {kind}" if kind == "volumes" else ""
        raise UserError(f"{where} holds no table{of} with scores{f' of its {part} part' if part else ''}: {NEEDED}.")
    return _cases(table)


def find_table(where: Path, part: str | None = None, kind: Kind = "images") -> Path | None:
    """The file that ``read_cases`` reads; None where there is none.

    Raises:
        UserError: there is nothing at this path.
    """
    if not where.exists():
        raise UserError(f"{where} is neither a file nor a folder: {NEEDED}.")
    if where.is_file():
        return where if kind == "images" else None
    names = [f"{one}_{kind}.csv" for one in ((part,) if part else PARTS)]
    if kind == "images":
        names += WITH_BOTH
    return next((where / name for name in names if (where / name).is_file()), None)


def _cases(table: Path) -> Cases:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            rows = list(reader)
            head = list(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{table} cannot be read as a table ({printable(error)}): {NEEDED}.") from error
    name = next((one for one in NAMES if one in head), None)
    figures = [one for one in head if one not in (*TEXTS, *NO_FIGURES)]
    if name is None or not figures:
        raise UserError(f"{table} is no table of scores, its columns are {printable(', '.join(head)) or 'none'}: {NEEDED}.")
    uneven = next((line for line, row in enumerate(rows, 2) if None in row or None in row.values()), None)
    if uneven is not None:
        raise UserError(f"{table} has a row that is not as long as its first line, number {uneven}: write it again.")
    rows = [row for row in rows if row.get("side", "both") == "both" and not row.get("error")]
    names = tuple(row[name] for row in rows)
    twice = next((one for one, following in zip(sorted(names), sorted(names)[1:], strict=False) if one == following), None)
    if twice is not None:
        raise UserError(f"{table} names {printable(twice)} twice: keep one of the two rows.")
    return Cases(
        names,
        patients=tuple(row.get("patient") or row[name] for row in rows),
        sources=tuple(row.get("source") or "" for row in rows),
        columns={figure: np.array([_number(row[figure], figure, table) for row in rows], np.float64) for figure in figures},
        tolerance=_tolerance(table.with_name("summary.json")),
    )


def _tolerance(summary: Path) -> float:
    """As the summary beside a table says, which evaluations alone have."""
    try:
        return float(json.loads(summary.read_text(encoding="utf-8"))["tolerance"]) if summary.is_file() else TOLERANCE
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{summary} cannot be read ({printable(error)}): {NEEDED}.") from error


def _number(cell: str, figure: str, table: Path) -> float:
    try:
        value = float(cell) if cell.strip() else math.nan
    except ValueError:
        raise UserError(
            f"{table} has {printable(cell)!r} in the column {printable(figure)}, which is no number: {NEEDED}."
        ) from None
    if math.isinf(value):  # as some tools write where nothing was found, the very cases that a mean must not lose
        raise UserError(
            f"{table} has {printable(cell)!r} in the column {printable(figure)}: score the masks with lungseg evaluate."
        )
    return value


def short(value: float) -> str:
    """A figure on the screen."""
    return "" if math.isnan(value) else f"{round(value, 4) + 0.0:.4f}" if abs(value) < 10 else f"{value:.1f}"  # + 0.0: -0 is 0
