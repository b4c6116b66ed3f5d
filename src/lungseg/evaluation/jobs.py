"""A job of a sweep that is finished, as it lies in its folder."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from lungseg.errors import UserError, printable
from lungseg.evaluation.tables import Cases, Kind, find_table, read_cases

NEEDED = "give a folder that `lungseg train --multirun` has made"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Job:
    """A finished job.

    Attributes:
        name: for sentences, with its folder where there are several sweeps.
        settings: its values of what is varied, but for ``REPEATS``.
        repeat: its values of these; jobs of two choices with the same ones are a pair.
        metrics: ``metrics.json``; what has no value is left out.
        history: ``history.csv`` by column, a row an epoch, nan where nothing was validated.
        val, test: the cases, if there is a table of them.
        scans: those of the validation that are whole scans, judged in 3-D.
    """

    name: str
    settings: dict[str, str]
    repeat: tuple[str, ...]
    metrics: dict[str, float]
    history: dict[str, Floats]
    val: Cases | None
    test: Cases | None
    scans: Cases | None

    def rest(self, setting: str) -> tuple[str, ...]:
        """All but this setting: two jobs that have it in common are a pair."""
        return (*self.repeat, *(value for name, value in self.settings.items() if name != setting))


def read_job(name: str, folder: Path, settings: dict[str, str], repeat: tuple[str, ...]) -> Job:
    """What a finished job has left in its folder.

    Raises:
        UserError: a file of it cannot be read.
    """
    metrics = {key: float(value) for key, value in read_json(folder / "metrics.json").items() if value is not None}
    val, test, scans = (_cases(folder, *which) for which in (("val", "images"), ("test", "images"), ("val", "volumes")))
    return Job(name, settings, repeat, metrics, _history(folder / "history.csv"), val, test, scans)


def read_json(path: Path) -> dict[str, Any]:
    """A file of a sweep.

    Raises:
        UserError: it is no such file, or cannot be read.
    """
    try:
        return _settings(path, json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({printable(error)}): {NEEDED}.") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """The same of YAML."""
    try:
        return _settings(path, yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read ({printable(error)}): {NEEDED}.") from error


def _settings(path: Path, content: Any) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise UserError(f"{path} is no file of a sweep: {NEEDED}.")
    return content


def _cases(folder: Path, part: str, kind: Kind) -> Cases | None:
    return read_cases(folder, part, kind) if find_table(folder, part, kind) is not None else None


def _history(path: Path) -> dict[str, Floats]:
    if not path.is_file():  # of a training without epochs
        return {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return {name: np.array([float(row[name]) for row in rows]) for name in (rows[0] if rows else ())}
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as the curves of a training ({printable(error)}): train this job again.") from error
