"""Cases and how they are divided into training, validation and test, by patient."""

from collections.abc import Collection, Sequence
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


def split_validation(
    cases: Sequence[Case], fraction: float, patients: Collection[str] | None, seed: int
) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    """Training and validation cases; all of one patient go to the same side.

    Args:
        fraction: share of the patients that is drawn for validation, at least one of them.
        patients: the validation patients by name, instead of a draw.
        seed: of the draw; the same cases and seed give the same split, whatever the order of the files.

    Raises:
        UserError: a named patient is not there, or one side would be empty.
    """
    groups = sorted({_group(case) for case in cases})
    if patients is not None:
        chosen = {str(patient) for patient in patients}
        unknown = sorted(chosen - set(groups))
        if unknown:
            raise UserError(
                f"data.val_patients: no {', '.join(unknown[:5])} among the {len(groups)} patients ({', '.join(groups[:5])}, ...)."
            )
    else:
        check_draw(fraction, seed)
        if len(groups) < 2:
            raise UserError(
                f"there is only one patient or case ({', '.join(groups)}): give at least two, one is needed for validation."
            )
        count = min(max(1, round(fraction * len(groups))), len(groups) - 1)
        order = np.random.default_rng(seed).permutation(len(groups))
        chosen = {groups[i] for i in order[:count]}
    val = tuple(case for case in cases if _group(case) in chosen)
    train = tuple(case for case in cases if _group(case) not in chosen)
    if not train or not val:
        raise UserError(f"data.val_patients leaves {len(train)} cases for training and {len(val)} for validation: both need some.")
    return train, val


def check_draw(fraction: float, seed: int) -> None:
    """Raise a UserError unless a share of the patients can be drawn so."""
    if not 0 < fraction < 1:
        raise UserError(f"data.val_fraction={fraction} must be above 0 and below 1.")
    if seed < 0:
        raise UserError(f"data.split_seed={seed} must be 0 or more.")


def _group(case: Case) -> str:
    return case.patient if case.patient is not None else case.name


def _patients(cases: Sequence[Case]) -> set[str]:
    return {case.patient for case in cases if case.patient is not None}
