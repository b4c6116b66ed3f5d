"""How the jobs of a sweep ended, and which choice is the best by ``val/iou``."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lungseg.evaluation.jobs import read_json
from lungseg.log import aligned

FINISHED = "finished"


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        words: its values of what the sweep varies.
        status: ``finished``, ``failed``, or ``not finished`` for one that was interrupted or never started.
        exit_code: of its process, below 0 for a signal; None for one that did not get so far.
        error: what it said, if it failed.
    """

    job: int
    folder: Path
    words: tuple[str, ...]
    status: str
    exit_code: int | None
    error: str
    val_iou: float | None
    test_iou: float | None
    seconds: float | None


def outcome_of(folder: Path, job: int, words: Sequence[str]) -> Outcome:
    """What a job has left in its folder.

    Raises:
        UserError: a file of it cannot be read.
    """
    record, metrics = (read_json(path) if path.is_file() else {} for path in (folder / "job.json", folder / "metrics.json"))
    finished = record.get("status") == FINISHED
    return Outcome(
        job=job,
        folder=folder,
        words=tuple(words),
        status=record.get("status", "not finished"),
        exit_code=record.get("exit_code"),
        error=record.get("error", ""),
        val_iou=metrics.get("val/iou") if finished else None,
        test_iou=metrics.get("test/iou") if finished else None,
        seconds=metrics.get("seconds") if finished else record.get("seconds"),
    )


def ranked(outcomes: Sequence[Outcome], repeats: Sequence[str]) -> list[list[Outcome]]:
    """The finished jobs by what they chose, which are all words but those of ``repeats``: the best choice first.

    A choice is as good as the mean of its jobs; one with fewer scores, which may be the easier ones, comes after.
    """
    choices: dict[tuple[str, ...], list[Outcome]] = {}
    for one in sorted(outcomes, key=lambda one: one.job):
        if one.status == FINISHED:
            choices.setdefault(chosen(one, repeats), []).append(one)
    return sorted(choices.values(), key=lambda jobs: (-len(ious(jobs)), -mean_iou(jobs)))


def chosen(one: Outcome, repeats: Sequence[str]) -> tuple[str, ...]:
    """Its words but those of ``repeats``."""
    return tuple(word for word in one.words if word.lstrip("+").partition("=")[0] not in repeats)


def ious(jobs: Sequence[Outcome]) -> list[float]:
    """The ``val/iou`` of those that have one."""
    return [one.val_iou for one in jobs if one.val_iou is not None]


def mean_iou(jobs: Sequence[Outcome]) -> float:
    """The mean ``val/iou`` of those that have one; 0 where none has."""
    return sum(ious(jobs)) / max(1, len(ious(jobs)))


def as_table(outcomes: Sequence[Outcome]) -> str:
    """Columns of plain text, whole in a file as on a screen of any width."""
    tested = any(one.test_iou is not None for one in outcomes)
    head = ["job", "val/iou", *(["test/iou"] if tested else []), "seconds", "overrides"]
    rows = [
        [
            str(one.job),
            _number(one.val_iou, 4) if one.status == FINISHED else one.status,
            *([_number(one.test_iou, 4)] if tested else []),
            _number(one.seconds, 1),
            " ".join(one.words),
        ]
        for one in outcomes
    ]
    return "\n".join(aligned([head, *rows], right=range(len(head) - 1)))


def as_csv(outcomes: Sequence[Outcome]) -> str:
    """The same with a column for every setting that varies."""
    names = list(dict.fromkeys(word.partition("=")[0] for one in outcomes for word in one.words))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("job", "status", "exit_code", "val/iou", "test/iou", "seconds", *names, "error"))
    for one in outcomes:
        values = dict(word.split("=", 1) for word in one.words)
        scores = (_number(one.val_iou, 6), _number(one.test_iou, 6), _number(one.seconds, 1))
        code = "" if one.exit_code is None else one.exit_code
        table.writerow((one.job, one.status, code, *scores, *(values.get(name, "") for name in names), one.error))
    return text.getvalue()


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
