"""The faults of a data set, found before a training learns them."""

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, count

import cv2
import numpy as np
from numpy.typing import NDArray

from lungseg.data.brief import NO_LUNG
from lungseg.data.cases import FileCase, Stack
from lungseg.data.checked import Checked, Spot, read_and_check
from lungseg.data.twins import NAMED, Prints, Twins, leaks
from lungseg.errors import UserError, named
from lungseg.imaging import greys
from lungseg.imaging.overlay import overlay
from lungseg.imaging.plausibility import grave

SHOWN = 10  # slices as pictures
PICTURE_SIDE = 360  # pixels at most, so that an outline stays seen where the picture is shown small
FEW, MISFIT = 4, 0.5  # from so many files on, more than this share with a grave doubt is one mistake made in all of them
RARE = 0.1  # of the files; a unit of grey values that fewer have may be a mistake of ours
FLAT = 0.5  # of the air inside the body has the lowest value: the lungs are cut to black


@dataclass(frozen=True)
class Shown:
    """One of the oddest slices, as a picture (h, w, 3) with the mask's outline."""

    checked: Checked
    spot: Spot
    picture: NDArray[np.uint8]


@dataclass
class Findings:
    """All that a check has found.

    Attributes:
        faults: sentences about what spoils a training or its scores, each to be mended.
        notes: sentences about what is worth knowing.
        twins: pictures that come twice, those that leak first.
        shown: the oddest slices, the oddest first.
    """

    checked: list[Checked] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    twins: list[Twins] = field(default_factory=list)
    shown: list[Shown] = field(default_factory=list)

    def ranked(self) -> list[Checked]:
        """The oddest first."""
        return sorted(self.checked, key=lambda one: (-one.degree, one.case.name))

    def odd(self) -> list[Checked]:
        """Those with a doubt, the oddest first."""
        return [one for one in self.ranked() if one.sentences]


def check(parts: Mapping[str, Sequence[FileCase]], done: Callable[[], None] = lambda: None) -> Findings:
    """What is wrong or odd in the pairs of a data set; one that cannot be read is a fault, and the others go on.

    Args:
        parts: train, test and, where it is named, val.
        done: called after each pair, for a progress bar.
    """
    found, prints, gallery = Findings(), Prints(), _Gallery()
    for part, cases in parts.items():
        for case in cases:
            try:
                one, stack = read_and_check(part, case)
            except UserError as error:
                found.faults.append(str(error))
            except MemoryError:
                found.faults.append(f"{case.image} does not fit into the memory of this machine: cut it into smaller parts.")
            else:
                prints.add(len(found.checked), stack)
                gallery.add(one, stack)
                found.checked.append(one)
            done()
    found.shown = gallery.shown()
    found.twins = prints.twins(found.checked, validation_is_drawn=not parts.get("val"))
    found.faults += [*_too_few(parts), *_patients_in_two_parts(parts)]
    found.faults += leaks(found.twins)
    found.faults += _unfit(found.checked)
    if not parts.get("train"):
        found.notes.append("There is no training part: this set can be predicted and scored, not trained on.")
    found.notes += _notes(found.checked) + prints.shared_masks(found.checked)
    return found


def grey_kinds(checked: Sequence[Checked]) -> Counter[str]:
    """The units of grey values that a good part of the files have, and how many have each."""
    kinds = Counter(one.greys.name for one in checked)
    return Counter({kind: number for kind, number in kinds.items() if number >= RARE * len(checked)})


class _Gallery:
    """Pictures of the oddest slices so far, so that no file need be read again to show them."""

    def __init__(self) -> None:
        self.heap: list[tuple[float, int, Shown]] = []
        self.order = count(0, -1)  # of equal degrees the first stays

    def add(self, one: Checked, stack: Stack) -> None:
        for spot in one.spots:
            if len(self.heap) < SHOWN or spot.degree > self.heap[0][0]:
                shown = Shown(one, spot, overlay(*small(stack.image[spot.z], stack.labels[spot.z])))
                heapq.heappush(self.heap, (spot.degree, next(self.order), shown))
                if len(self.heap) > SHOWN:
                    heapq.heappop(self.heap)

    def shown(self) -> list[Shown]:
        return [shown for _, _, shown in sorted(self.heap, key=lambda entry: entry[:2], reverse=True)]


def small(image: NDArray[np.float32], labels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """A slice (H, W) and its labels (H, W) with at most ``PICTURE_SIDE`` pixels along a side."""
    scale = min(1.0, PICTURE_SIDE / max(image.shape))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    shrunk = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32, copy=False)
    return shrunk, cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST).astype(np.uint8, copy=False)


def _unfit(checked: Sequence[Checked]) -> Iterator[str]:
    """What makes a whole part useless."""
    for part in dict.fromkeys(one.part for one in checked):
        own = [one for one in checked if one.part == part]
        if not any(one.with_lung for one in own):
            yield NO_LUNG if part == "train" else f"no {part} mask holds any lung, and nothing can be scored: look at the masks."
            continue
        misfits = [kinds for one in own if (kinds := [doubt.sentence for doubt in grave(one.doubts)])]
        if len(own) >= FEW and len(misfits) > MISFIT * len(own):
            yield (
                f"{len(misfits)} of {len(own)} masks in {part} do not fit their images (such as: {misfits[0][0]}): images and "
                "masks may be exchanged or turned against each other, or other values be lung (data.mask_values=[...])."
            )


def _too_few(parts: Mapping[str, Sequence[FileCase]]) -> Iterator[str]:
    patients = {case.patient if case.patient is not None else case.name for case in parts.get("train", ())}
    if len(patients) == 1 and not parts.get("val"):
        yield f"there is only one training patient or case ({named(sorted(patients))}): give at least two, one is for validation."


def _patients_in_two_parts(parts: Mapping[str, Sequence[FileCase]]) -> list[str]:
    patients = {part: {case.patient for case in cases if case.patient is not None} for part, cases in parts.items()}
    return [
        f"{len(both)} patient{'s are' if len(both) > 1 else ' is'} both in {left} and in {right} ({named(both, NAMED)}): "
        "results would be too good; move each to one side."
        for left, right in combinations(parts, 2)
        if (both := sorted(patients[left] & patients[right]))
    ]


def _notes(checked: Sequence[Checked]) -> list[str]:
    """What is worth knowing about all files together."""
    notes = []
    if any(one.case.patient is None for one in checked):
        notes.append(
            "The patient is not known for every image, so that one patient's images may lie on both sides of the split: name "
            "them by data.patient_regex='...' or in a manifest."
        )
    kinds = grey_kinds(checked)
    if len(kinds) > 1:
        told = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
        notes.append(f"The grey values are of several kinds ({told}): a manifest can give each source its slope and intercept.")
    rare = [f"{one.case.name} ({one.greys.name})" for one in checked if one.greys.name not in kinds]
    if rare:
        notes.append(f"Grey values that seem to be of another kind than the others: {named(rare, NAMED)}.")
    if kinds[greys.SCALED]:
        airs = [one.greys.levels.air for one in checked if one.greys.name == greys.SCALED and one.greys.levels.air is not None]
        if airs and np.median(airs) < -100:  # without an offset a slope says it all
            air = float(np.median(airs))
            notes.append(
                f"Not true HU ({_files(kinds[greys.SCALED])}): the air around the body lies at {air:.0f}, not at -1000. With other "
                f"sources, or preprocess.normalisation=window, give a slope near {1000 / -air:.2f} in a manifest."
            )
    if kinds[greys.OFFSET]:
        told = _files(kinds[greys.OFFSET])
        notes.append(
            f"HU with an offset ({told}): volumes are read without it; of pictures an intercept near -1000 or -1024 in a manifest "
            "takes it off."
        )
    padded = [one for one in checked if one.greys.levels.padding > 0]
    if padded:
        lowest = min(one.greys.levels.low for one in padded)
        notes.append(f"Values down to {lowest:.0f} mark what lies outside the field of view ({_files(len(padded))}).")
    flat = [one.case.name for one in checked if one.greys.levels.flat > FLAT]
    if flat:
        notes.append(f"Lungs in the lowest grey of all, as a narrow window leaves them: {named(flat, NAMED)}.")
    empty = sum(one.shape[0] - one.with_lung for one in checked)
    if empty:
        notes.append(f"Without lung: {empty} of {sum(one.shape[0] for one in checked)} slices.")
    values = Counter(one.values for one in checked)
    if len(values) > 1:
        told = "; ".join(f"{held} in {_files(number)}" for held, number in values.most_common(NAMED))
        notes.append(f"Not all masks hold the same values: {told}.")
    return notes


def _files(number: int) -> str:
    return "1 file" if number == 1 else f"{number} files"
