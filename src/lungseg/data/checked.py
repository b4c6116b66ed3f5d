"""What there is to say about one pair of an image and its mask."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungseg.data.cases import FileCase, Stack
from lungseg.imaging.greys import Judgement, judge
from lungseg.imaging.plausibility import Doubt, Look, doubts, look, suspicion
from lungseg.imaging.readers import file_doubts
from lungseg.labels import LUNG

MOST_VALUES = 4  # of a mask that are told one by one
SPOTS, APART = 3, 5  # slices of a volume that are kept, and how far apart they lie


@dataclass(frozen=True)
class Spot:
    """A slice to look at; ``degree`` is below 1 where nothing is odd about it."""

    z: int
    degree: float
    doubts: tuple[Doubt, ...]


@dataclass(frozen=True)
class Checked:
    """What was found in a pair of files.

    Attributes:
        shape: (Z, H, W).
        lung: share of the mask's pixels that are lung.
        with_lung: slices that hold lung.
        greys: the unit of its grey values.
        values: of the mask, as stored, in words.
        doubts: about the whole; of a picture the same as about its slice.
        spots: the slices to look at, the oddest first, at most ``SPOTS`` of a volume.
    """

    part: str
    case: FileCase
    shape: tuple[int, int, int]
    lung: float
    with_lung: int
    greys: Judgement
    values: str
    doubts: tuple[Doubt, ...]
    spots: tuple[Spot, ...]

    @property
    def degree(self) -> float:
        """Of the gravest doubt, below 1 where there is none."""
        return max([*(doubt.degree for doubt in self.doubts), self.spots[0].degree])

    @property
    def sentences(self) -> list[str]:
        """All that is odd."""
        if self.shape[0] == 1:
            return [doubt.sentence for doubt in self.doubts]
        spots = [f"slice {spot.z}: {doubt.sentence}" for spot in self.spots for doubt in spot.doubts]
        return [*(f"as a whole: {doubt.sentence}" for doubt in self.doubts), *spots]

    def slice_name(self, z: int) -> str:
        """What a slice is called in sentences."""
        return self.case.name if self.shape[0] == 1 else f"{self.case.name} slice {z}"


def read_and_check(part: str, case: FileCase) -> tuple[Checked, Stack]:
    """What was found in a pair, and the pair.

    Raises:
        UserError: one of the files cannot be read, or they do not fit each other.
    """
    stack = case.read()
    image, labels = stack.image, stack.labels
    looks = [look(image[z], own) for z, own in enumerate(labels)]
    lung = np.count_nonzero(labels == LUNG, axis=(1, 2))
    known = [Doubt("header", sentence, 5.0) for sentence in (stack.doubts if case.is_volume else file_doubts(case.image))]
    own = (*known, *doubts(Look.total(looks)))
    spots = _volume_spots(looks) if len(looks) > 1 else [Spot(0, max([suspicion(looks[0]), *(d.degree for d in known)]), own)]
    found = Checked(
        part=part,
        case=case,
        shape=(labels.shape[0], labels.shape[1], labels.shape[2]),
        lung=float(lung.sum() / labels.size),
        with_lung=int(np.count_nonzero(lung)),
        greys=stack.greys or judge(image[:]),
        values=_in_words(np.unique(labels if stack.stored is None else stack.stored)),
        doubts=own,
        spots=tuple(spots),
    )
    return found, stack


def _volume_spots(looks: Sequence[Look]) -> list[Spot]:
    """The oddest slices of a volume, none beside another; at least one."""
    degrees = np.array([suspicion(one, in_volume=True) for one in looks])
    spots: list[Spot] = []
    for z in np.argsort(-degrees, kind="stable"):
        near = any(abs(z - spot.z) < APART for spot in spots)
        if not near and (degrees[z] > 1 or not spots):
            spots.append(Spot(int(z), float(degrees[z]), tuple(doubts(looks[z], in_volume=True))))
        if len(spots) == SPOTS:
            break
    return spots


def _in_words(values: NDArray[np.float32]) -> str:
    if len(values) <= MOST_VALUES:
        return ", ".join(f"{value:g}" for value in values)
    return f"{values[0]:g} to {values[-1]:g} ({len(values)} values)"
