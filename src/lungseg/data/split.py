"""Cases and how they are divided into training, validation and test, by patient."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lungseg.data.cases import Stack
from lungseg.errors import UserError


class Case(Protocol):
    """One image with its mask, read only when asked for; a picture has one slice, a volume many."""

    @property
    def name(self) -> str: ...

    @property
    def patient(self) -> str | None: ...

    @property
    def source(self) -> str: ...

    def identity(self) -> tuple[object, ...]:
        """Plain values that are the same as long as ``read`` gives the same."""
        ...

    def read(self) -> Stack: ...


@dataclass(frozen=True)
class Split:
    """Disjoint cases.

    Attributes:
        balanced: whether an epoch draws from the sources evenly instead of taking every image once.
    """

    train: tuple[Case, ...]
    val: tuple[Case, ...]
    test: tuple[Case, ...]
    balanced: bool = False

    def __post_init__(self) -> None:
        for left, right in (("train", "val"), ("train", "test"), ("val", "test")):
            shared = sorted(_patients(getattr(self, left)) & _patients(getattr(self, right)))
            if shared:
                patients = "1 patient is" if len(shared) == 1 else f"{len(shared)} patients are"
                raise UserError(
                    f"{patients} both in {left} and in {right} ({', '.join(shared[:5])}): results would be too "
                    "good; move each patient to one side."
                )

    def as_table(self) -> dict[str, list[dict[str, str | None]]]:
        """Names and patients of each part, to be saved with a run."""
        return {
            part: [{"name": case.name, "patient": case.patient, "source": case.source} for case in getattr(self, part)]
            for part in ("train", "val", "test")
        }


@dataclass(frozen=True)
class Holdout:
    """Which of the training patients are kept for validation.

    Args:
        fraction: share of the patients that is drawn, at least one of them.
        patients: those patients by name, instead of a draw.
        seed: of the draw; the same cases and seed give the same split, whatever the order of the files.
        folds: of a cross-validation (Stone 1974), instead of one draw: so many parts of the patients, each source dealt out evenly.
        fold: the part that is kept, from 0 on.
    """

    fraction: float = 0.1
    patients: tuple[str, ...] | None = None
    seed: int = 0
    folds: int | None = None
    fold: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.fraction < 1:
            raise UserError(f"data.val_fraction={self.fraction} must be above 0 and below 1.")
        if self.seed < 0:
            raise UserError(f"data.split_seed={self.seed} must be 0 or more.")
        if self.folds is None:
            if self.fold:
                raise UserError(f"data.fold={self.fold} must be 0 without data.folds, the number of parts.")
            return
        if self.folds < 2:
            raise UserError(f"data.folds={self.folds} must be 2 or more, or null.")
        if not 0 <= self.fold < self.folds:
            every = ",".join(map(str, range(self.folds)))
            raise UserError(
                f"data.fold={self.fold} must be 0 to {self.folds - 1} for data.folds={self.folds}: data.fold={every} in a sweep."
            )
        if self.patients is not None:
            raise UserError("data.folds must be null beside data.val_patients: give one of them.")


def split_validation(cases: Sequence[Case], holdout: Holdout) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    """Training and validation cases; all of one patient go to the same side.

    Raises:
        UserError: a named patient is not there, or one side would be empty.
    """
    groups = sorted({_group(case) for case in cases})
    if holdout.patients is not None:
        chosen = set(holdout.patients)
        unknown = sorted(chosen - set(groups))
        if unknown:
            raise UserError(
                f"data.val_patients: no {', '.join(unknown[:5])} among the {len(groups)} patients ({', '.join(groups[:5])}, ...)."
            )
    elif len(groups) < 2:
        raise UserError(
            f"there is only one patient or case ({', '.join(groups)}): give at least two, one is needed for validation."
        )
    else:
        chosen = _drawn(groups, holdout) if holdout.folds is None else _dealt(cases, groups, holdout)
    val = tuple(case for case in cases if _group(case) in chosen)
    train = tuple(case for case in cases if _group(case) not in chosen)
    if not train or not val:
        raise UserError(f"data.val_patients leaves {len(train)} cases for training and {len(val)} for validation: both need some.")
    return train, val


def _drawn(groups: Sequence[str], holdout: Holdout) -> set[str]:
    count = min(max(1, round(holdout.fraction * len(groups))), len(groups) - 1)
    order = np.random.default_rng(holdout.seed).permutation(len(groups))
    return {groups[i] for i in order[:count]}


def _dealt(cases: Sequence[Case], groups: Sequence[str], holdout: Holdout) -> set[str]:
    assert holdout.folds is not None
    if holdout.folds > len(groups):
        raise UserError(f"data.folds={holdout.folds} must be at most {len(groups)}, the patients to be dealt out.")
    source = {_group(case): case.source for case in sorted(cases, key=lambda case: case.name, reverse=True)}
    order = np.random.default_rng(holdout.seed).permutation(len(groups))
    dealt = sorted((groups[i] for i in order), key=source.__getitem__)
    return set(dealt[holdout.fold :: holdout.folds])


def _group(case: Case) -> str:
    return case.patient if case.patient is not None else case.name


def _patients(cases: Sequence[Case]) -> set[str]:
    return {case.patient for case in cases if case.patient is not None}
