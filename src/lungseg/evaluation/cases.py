"""Masks against true masks, case by case: which belong together, and the figures of both lungs and of each."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungseg.data.owners import compiled, owner
from lungseg.errors import UserError
from lungseg.imaging.pairs import common_stem, find_images, pair_files
from lungseg.imaging.readers import read
from lungseg.imaging.slices import PLACED_SUFFIXES, read_mask, suffix_of
from lungseg.imaging.truths import SIDES, Truth, labels_of, read_truth
from lungseg.imaging.volume import Grid, Volume
from lungseg.labels import BACKGROUND, IGNORE, LEFT, LUNG, RIGHT
from lungseg.metrics.cases import TOLERANCE, case_figures

BOTH = "both"
NAMES = {RIGHT: "right", LEFT: "left"}
OWN = "prediction_values=1,2 say"  # what says which values of a predicted mask are lung
TRUE = "mask_values=1,2 say"
ONE_VALUE = "it has one value for both lungs, where its true mask tells right (1) from left (2)"
SWAPPED = "right and left lie the other way round in the two masks: here 1 is the patient's right lung and 2 the left one"


@dataclass(frozen=True)
class Case:
    """A predicted mask and the true one; one of the two may be missing.

    Attributes:
        name: of the true mask's file below its folder, without the suffix.
        patient: whose it is; the name itself where nobody says.
    """

    name: str
    patient: str
    prediction: Path | None
    truth: Path | None


@dataclass(frozen=True)
class Reading:
    """How masks are read and judged.

    Attributes:
        mask_values, ignore_values: values of true masks that are lung, and where nobody knows; as of ``to_labels``.
        prediction_values: values of predicted masks that are lung.
        tolerance: of the surface Dice, in mm, or pixels where no spacing is known.
    """

    mask_values: tuple[float, ...] | None = None
    ignore_values: tuple[float, ...] = ()
    prediction_values: tuple[float, ...] | None = None
    tolerance: float = TOLERANCE


@dataclass(frozen=True)
class Shown:
    """The slice of a case that has the most wrong pixels.

    Attributes:
        z: its number in canonical order; ``grid``, of the true mask in that order, is None where it lies nowhere.
        mask: (H, W) bool.
        truth: (H, W) of 0, 1 and 255.
    """

    z: int
    grid: Grid | None
    mask: NDArray[np.bool_]
    truth: NDArray[np.uint8]


@dataclass(frozen=True)
class Judged:
    """A case with its figures by side, ``both`` first; there are none where an ``error`` says why.

    Attributes:
        told: whether the predicted and the true mask have a value for the left lung, which tells the sides apart.
        undivided: whether only the true one has, and the predicted one covers its left lung all the same.
        shown: None where a case has no figures, or nobody wants to see it any more.
    """

    case: Case
    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    error: str = ""
    doubts: tuple[str, ...] = ()
    told: tuple[bool, bool] = (False, False)
    undivided: bool = False
    shown: Shown | None = None


def find_cases(predictions: Path, truth: Path, patient_regex: str | None, without: Collection[Path] = ()) -> list[Case]:
    """The masks of two folders, or of two files, paired by sub-folder and stem; what has no partner is a case too.

    Args:
        without: folders whose files are no predictions.

    Raises:
        UserError: a folder is missing or empty, no two belong together, a mask has two partners, or a name tells no patient.
    """
    pattern = compiled(patient_regex, "patient_regex")
    if predictions.is_file() and truth.is_file():
        return [_case(predictions, truth, truth.parent, pattern)]
    for name, folder in (("predictions", predictions), ("truth", truth)):
        if not folder.is_dir():
            raise UserError(f"{name}={folder} is no folder: give the folders of both masks, or two files.")
    own, true = find_images(predictions, (truth, *without)), find_images(truth, (predictions, *without))
    alone: list[str] = []
    pairs = pair_files(predictions, truth, own, true, alone, ("prediction", "true mask"))
    if not pairs:
        raise UserError(alone[0])
    paired = {path for pair in pairs for path in (pair.image, pair.mask)}
    cases = [_case(pair.image, pair.mask, truth, pattern) for pair in pairs]
    cases += [_case(path, None, predictions, pattern) for path in own if path not in paired]
    cases += [_case(None, path, truth, pattern) for path in true if path not in paired]
    return sorted(cases, key=lambda case: case.name)


def judge(cases: Sequence[Case], reading: Reading) -> Iterator[Judged]:
    """Each case in turn; one that cannot be judged has its reason, and the others go on."""
    for case in cases:
        try:
            yield _judged(case, reading)
        except UserError as error:
            yield Judged(case, error=str(error))


def sides_unknown(judged: Sequence[Judged]) -> bool:
    """Whether the true masks tell the sides apart, and the predicted ones hold one value, be it of both lungs or of one."""
    return any(one.told[1] for one in judged) and not any(one.told[0] for one in judged)


def with_sides(judged: Sequence[Judged]) -> list[Judged]:
    """The same, with the figures of each lung only if predictions and truths tell the sides apart, as their others show."""
    told = [any(one.told[which] for one in judged) for which in (0, 1)]
    if all(told):
        return [replace(one, doubts=(*one.doubts, ONE_VALUE)) if one.undivided else one for one in judged]
    return [replace(one, figures=_only_both(one.figures)) for one in judged]


def _only_both(figures: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    return {side: own for side, own in figures.items() if side == BOTH}


def _case(prediction: Path | None, truth: Path | None, root: Path, pattern: Any) -> Case:
    path = truth or prediction
    assert path is not None
    name = path.relative_to(root).with_name(common_stem(path)).as_posix()
    return Case(name, owner(pattern, path, "patient_regex") or name, prediction, truth)


def _judged(case: Case, reading: Reading) -> Judged:
    if case.truth is None:
        raise UserError(f"{case.prediction} has no true mask: give one of its sub-folder and stem, or remove it.")
    if case.prediction is None:
        raise UserError(f"{case.truth} has no prediction: give one of its sub-folder and stem, or remove the true mask.")
    volume, true = _truth(case.truth, reading)
    own = read_truth(case.prediction, volume, case.truth, reading.prediction_values, (), OWN)
    grid = volume.canonical().grid
    spacing_mm = None if grid is None else grid.spacing_mm
    mask = own.labels == LUNG
    figures = {BOTH: case_figures(mask, true.labels, spacing_mm, reading.tolerance)}
    found = [_sides(one) for one in (own, true)]
    told = (LEFT in found[0], LEFT in found[1])
    undivided = told == (False, True) and _covers_left(own, true)
    doubts = own.doubts
    if any(told) and all(values <= set(SIDES) for values in found):
        if not undivided and _are_swapped(own, true):
            doubts += (SWAPPED,)
        for side, name in NAMES.items():
            one = np.where((true.labels == LUNG) & (true.stored != side), np.uint8(BACKGROUND), true.labels)
            figures[name] = case_figures(mask & (own.stored == side), one, spacing_mm, reading.tolerance)
    wrong = np.count_nonzero((mask != (true.labels == LUNG)) & (true.labels != IGNORE), axis=(1, 2))
    z = int(np.argmax(wrong))
    shown = Shown(z, grid, mask[z].copy(), true.labels[z].copy())
    return Judged(case, figures, doubts=doubts, told=told, undivided=undivided, shown=shown)


def _truth(path: Path, reading: Reading) -> tuple[Volume, Truth]:
    """The true mask as it lies in the patient, and its labels in canonical order."""
    volume = read(path).volume if suffix_of(path) in PLACED_SUFFIXES else Volume(read_mask(path))
    stored = volume.canonical().voxels
    return volume, Truth(labels_of(stored, path, reading.mask_values, reading.ignore_values, TRUE), stored)


def _covers_left(own: Truth, true: Truth) -> bool:
    """Whether most of the true left lung was found, by whatever value."""
    left = (true.stored == LEFT) & (true.labels == LUNG)
    return 2 * int(np.count_nonzero(left & (own.labels == LUNG))) > int(np.count_nonzero(left))


def _are_swapped(own: Truth, true: Truth) -> bool:
    """Whether the sides agree better when those of one mask change places."""
    agree, cross = 0, 0
    for side, other in ((RIGHT, LEFT), (LEFT, RIGHT)):
        here = (own.stored == side) & (own.labels == LUNG) & (true.labels == LUNG)
        agree += int(np.count_nonzero(here & (true.stored == side)))
        cross += int(np.count_nonzero(here & (true.stored == other)))
    return cross > agree


def _sides(mask: Truth) -> set[float]:
    """The values that are lung."""
    return {
        float(value) for stored, labels in zip(mask.stored, mask.labels, strict=True) for value in np.unique(stored[labels == LUNG])
    }
