"""Files with the same picture: which of them let a network be scored on what it has learnt."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from lungseg.data import duplicates
from lungseg.data.cases import Stack
from lungseg.data.checked import Checked
from lungseg.errors import named
from lungseg.labels import LUNG

NAMED = 5  # names in a sentence, then a count


@dataclass(frozen=True)
class Twins:
    """Two files with the same picture.

    Attributes:
        likeness: 1 for the same pixels, at least ``duplicates.ALIKE`` for a copy that was flipped, shifted or saved again.
        slices: of either file that are most alike.
        leak: whether a network may be scored on what it has learnt.
    """

    first: Checked
    second: Checked
    likeness: float
    slices: tuple[int, int]
    leak: bool

    @property
    def names(self) -> str:
        return f"{self.first.slice_name(self.slices[0])} and {self.second.slice_name(self.slices[1])}"

    @property
    def sentence(self) -> str:
        if self.likeness == 1:
            return f"{self.names} hold the same picture"
        what = "a copy that was flipped, shifted or saved again, or a neighbouring slice"
        return f"{self.names} are alike ({self.likeness:.2f}), {what}"


class Prints:
    """Of all slices what they are recognised by, with the number of their file and their place in it."""

    def __init__(self) -> None:
        self.prints: list[duplicates.Print] = []
        self.places: list[tuple[int, int]] = []
        self.pixels: dict[bytes, list[tuple[int, int]]] = defaultdict(list)
        self.masks: dict[bytes, list[int]] = defaultdict(list)

    def add(self, file: int, stack: Stack) -> None:
        labels = stack.labels
        for z in range(len(labels)):
            slice_ = stack.image[z]
            if slice_.min() < slice_.max():
                self.pixels[duplicates.digest(slice_)].append((file, z))
            print_ = duplicates.fingerprint(slice_)
            if print_ is not None:
                self.prints.append(print_)
                self.places.append((file, z))
        if (labels == LUNG).any():
            self.masks[hashlib.blake2b(labels.tobytes(), digest_size=16).digest()].append(file)

    def twins(self, checked: Sequence[Checked], validation_is_drawn: bool) -> list[Twins]:
        """For any two files the two slices that are most alike.

        Args:
            validation_is_drawn: two equal training pictures may come to lie on both sides, unless they are one patient's.
        """
        best: dict[tuple[int, int], Twins] = {}
        for (i, z), (j, other_z), likeness in self._pairs():
            first, second = checked[i], checked[j]
            one_patient = first.case.patient is not None and first.case.patient == second.case.patient
            across = first.part != second.part
            if likeness < 1 and one_patient and not across:
                continue  # neighbouring scans
            if (i, j) not in best or best[i, j].likeness < likeness:
                drawn_apart = likeness == 1 and first.part == "train" and validation_is_drawn and not one_patient
                best[i, j] = Twins(first, second, likeness, (z, other_z), leak=across or drawn_apart)
        return sorted(best.values(), key=lambda twins: (not twins.leak, -twins.likeness))

    def _pairs(self) -> Iterator[tuple[tuple[int, int], tuple[int, int], float]]:
        for places in self.pixels.values():
            yield from ((one, other, 1.0) for one, other in combinations(places, 2) if one[0] != other[0])
        for i, j, likeness in duplicates.alike(self.prints, [file for file, _ in self.places]):
            yield self.places[i], self.places[j], min(likeness, 0.999)

    def shared_masks(self, checked: Sequence[Checked]) -> list[str]:
        """Masks that are the same in every pixel, which two patients' never are."""
        return [
            f"{named([checked[file].case.name for file in files], NAMED)} have one and the same mask."
            for files in self.masks.values()
            if len(files) > 1
        ]


def leaks(twins: Sequence[Twins]) -> Iterator[str]:
    """What must be mended; one sentence for many, as a scan in slices whose patient is not named gives thousands."""
    for how, equal in (("hold the same picture", True), ("are alike", False)):
        own = [one for one in twins if one.leak and (one.likeness == 1) == equal]
        if len(own) <= NAMED:
            yield from (f"{one.sentence}: results would be too good; remove one." for one in own)
        else:
            shown = "; ".join(one.names for one in own[:NAMED])
            yield (
                f"{len(own)} pairs of files {how} ({shown}; ...): results would be too good; remove copies, and name the patients "
                "by data.patient_regex='...' or in a manifest if these are slices of one scan."
            )
