"""The faults of a data set, found before a training learns them."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from lungseg.data import duplicates
from lungseg.data.sources import FileCase
from lungseg.errors import UserError
from lungseg.imaging import greys
from lungseg.imaging.greys import Greys
from lungseg.imaging.plausibility import Doubt, Look, doubts, look, suspicion
from lungseg.imaging.slices import mask_values
from lungseg.labels import LUNG

NO_LUNG = "no training mask holds any lung: look at the masks, or name their lung values by data.mask_values=[...]."
NAMED = 5  # names in a sentence, then a count
MOST_VALUES = 16  # of a mask that are kept
SPOTS, APART = 3, 5  # slices of a volume that are shown, and how far apart they lie
RARE = 0.1  # of the files; a unit of grey values that fewer have may be a mistake of ours
FLAT = 0.5  # of the air inside the body has the lowest value: the lungs are cut to black


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
        greys: of the slice that holds most lung.
        values: of the mask, as stored.
        doubts: about the whole; of a picture the same as about its slice.
        spots: the slices to look at, the oddest first, at most ``SPOTS`` of a volume.
    """

    part: str
    case: FileCase
    shape: tuple[int, int, int]
    lung: float
    with_lung: int
    greys: Greys
    values: tuple[float, ...]
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


@dataclass(frozen=True)
class Twins:
    """Two files with the same picture.

    Attributes:
        likeness: 1 for the same pixels, at least ``duplicates.ALIKE`` for a copy that was flipped, shifted or saved again.
        slices: of either file that are most alike.
    """

    first: Checked
    second: Checked
    likeness: float
    slices: tuple[int, int]

    @property
    def leak(self) -> bool:
        """Whether a network would be tested on what it has learnt."""
        return self.first.part != self.second.part

    @property
    def sentence(self) -> str:
        how = "hold the same picture" if self.likeness == 1 else f"are alike ({self.likeness:.2f}), flipped, shifted or saved again"
        return f"{_slice_name(self.first, self.slices[0])} and {_slice_name(self.second, self.slices[1])} {how}"


@dataclass
class Findings:
    """All that a check has found.

    Attributes:
        faults: sentences about what spoils a training or its scores, each to be mended.
        notes: sentences about what is worth to know.
    """

    checked: list[Checked] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    twins: list[Twins] = field(default_factory=list)

    def ranked(self) -> list[Checked]:
        """The oddest first."""
        return sorted(self.checked, key=lambda one: (-one.degree, one.case.name))

    def odd(self) -> list[Checked]:
        """Those with a doubt, the oddest first."""
        return [one for one in self.ranked() if one.sentences]

    def spots(self) -> list[tuple[Checked, Spot]]:
        """Slices of all pairs, the oddest first."""
        every = [(one, spot) for one in self.checked for spot in one.spots]
        return sorted(every, key=lambda pair: (-pair[1].degree, pair[0].case.name))


def check(parts: Mapping[str, Sequence[FileCase]], done: Callable[[], None] = lambda: None) -> Findings:
    """Reads every pair once; one that cannot be read is a fault, and the others go on.

    Args:
        done: called after each pair, for a progress bar.
    """
    found = Findings()
    prints = _Prints()
    for part, cases in parts.items():
        for case in cases:
            try:
                image, labels = case.read()
                one = _checked(part, case, image, labels)
            except UserError as error:
                found.faults.append(str(error))
            else:
                prints.add(len(found.checked), image, labels)
                found.checked.append(one)
            done()
    found.twins = list(prints.twins(found.checked))
    found.faults += _patients_in_two_parts(parts)
    found.faults += [f"{twins.sentence}: results would be too good; remove one." for twins in found.twins if twins.leak]
    learnt = [one for one in found.checked if one.part == "train"]
    if learnt and not any(one.with_lung for one in learnt):
        found.faults.append(NO_LUNG)
    found.notes += _notes(found.checked) + prints.shared_masks(found.checked)
    return found


def grey_kinds(checked: Sequence[Checked]) -> Counter[str]:
    """The units of grey values that a good part of the files have, and how many have each."""
    kinds = Counter(one.greys.kind for one in checked)
    return Counter({kind: count for kind, count in kinds.items() if count >= RARE * len(checked)})


def _checked(part: str, case: FileCase, image: NDArray[np.float32], labels: NDArray[np.uint8]) -> Checked:
    looks = [look(slice_, own) for slice_, own in zip(image, labels, strict=True)]
    lung = np.count_nonzero(labels == LUNG, axis=(1, 2))
    largest = int(lung.argmax())
    spots = _volume_spots(looks) if len(looks) > 1 else [Spot(0, suspicion(looks[0]), tuple(doubts(looks[0])))]
    return Checked(
        part=part,
        case=case,
        shape=(image.shape[0], image.shape[1], image.shape[2]),
        lung=float(lung.sum() / labels.size),
        with_lung=int(np.count_nonzero(lung)),
        greys=greys.describe(image[largest]),
        values=tuple(float(value) for value in mask_values(case.mask)[:MOST_VALUES]),
        doubts=tuple(doubts(Look.total(looks))),
        spots=tuple(spots),
    )


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


class _Prints:
    """Fingerprints of all slices, and which file and slice each is of."""

    def __init__(self) -> None:
        self.prints: list[duplicates.Print] = []
        self.files: list[int] = []
        self.slices: list[int] = []
        self.digests: list[bytes] = []
        self.masks: dict[bytes, list[int]] = defaultdict(list)

    def add(self, file: int, image: NDArray[np.float32], labels: NDArray[np.uint8]) -> None:
        for z, slice_ in enumerate(image):
            print_ = duplicates.fingerprint(slice_)
            if print_ is not None:
                self.prints.append(print_)
                self.files.append(file)
                self.slices.append(z)
                self.digests.append(duplicates.digest(slice_))
        if (labels == LUNG).any():
            self.masks[hashlib.blake2b(labels.tobytes(), digest_size=16).digest()].append(file)

    def twins(self, checked: Sequence[Checked]) -> Iterator[Twins]:
        """For any two files the two slices that are most alike. Neighbouring scans of one patient in one part may look alike."""
        best: dict[tuple[int, int], Twins] = {}
        for i, j, likeness in duplicates.alike(self.prints, self.files):
            first, second = checked[self.files[i]], checked[self.files[j]]
            same = self.digests[i] == self.digests[j]
            known = first.case.patient is not None and first.case.patient == second.case.patient and first.part == second.part
            key = (self.files[i], self.files[j])
            twins = Twins(first, second, 1.0 if same else min(likeness, 0.999), (self.slices[i], self.slices[j]))
            if (same or not known) and (key not in best or best[key].likeness < twins.likeness):
                best[key] = twins
        yield from sorted(best.values(), key=lambda twins: (not twins.leak, -twins.likeness))

    def shared_masks(self, checked: Sequence[Checked]) -> list[str]:
        """Masks that are the same in every pixel, which two patients' never are."""
        return [
            f"{_named([checked[file].case.name for file in files])} have one and the same mask."
            for files in self.masks.values()
            if len(files) > 1
        ]


def _patients_in_two_parts(parts: Mapping[str, Sequence[FileCase]]) -> list[str]:
    patients = {part: {case.patient for case in cases if case.patient is not None} for part, cases in parts.items()}
    return [
        f"{len(both)} patient{'s are' if len(both) > 1 else ' is'} both in {left} and in {right} ({_named(both)}): "
        "results would be too good; move each to one side."
        for left, right in combinations(parts, 2)
        if (both := sorted(patients[left] & patients[right]))
    ]


def _notes(checked: Sequence[Checked]) -> list[str]:
    """What is worth to know about all files together."""
    notes = []
    if any(one.case.patient is None for one in checked):
        notes.append(
            "No patient is known for every image, so that one patient's images may lie on both sides of the split: name them by "
            "data.patient_regex='...' or in a manifest."
        )
    kinds = grey_kinds(checked)
    if len(kinds) > 1:
        told = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        notes.append(f"The grey values are of several kinds ({told}): a manifest can give each source its slope and intercept.")
    if kinds[greys.SCALED]:
        airs = [one.greys.air for one in checked if one.greys.kind == greys.SCALED and one.greys.air is not None]
        if airs:
            air = float(np.median(airs))
            notes.append(
                f"{kinds[greys.SCALED]} files are not true HU: the air around the body lies at {air:.0f}, not at -1000. With other "
                f"sources, or preprocess.normalisation=window, give them a slope near {1000 / -air:.2f} in a manifest."
            )
    if kinds[greys.OFFSET]:
        notes.append(f"{kinds[greys.OFFSET]} files are HU with an offset: an intercept near -1000 or -1024 in a manifest mends it.")
    padded = [one for one in checked if one.greys.padding > 0]
    if padded:
        lowest = min(one.greys.low for one in padded)
        notes.append(f"{len(padded)} files mark what lies outside the field of view by values down to {lowest:.0f}: taken for air.")
    flat = [one.case.name for one in checked if one.greys.flat > FLAT]
    if flat:
        notes.append(
            f"{len(flat)} files show the lungs in the lowest grey of all ({_named(flat)}): a window cut off their texture."
        )
    empty = sum(one.shape[0] - one.with_lung for one in checked)
    if empty:
        notes.append(f"Without lung: {empty} of {sum(one.shape[0] for one in checked)} slices.")
    values = Counter(one.values for one in checked)
    if len(values) > 1:
        told = "; ".join(f"{', '.join(f'{v:g}' for v in held)} in {count}" for held, count in values.most_common(NAMED))
        notes.append(f"Not all masks hold the same values ({told} files).")
    return notes


def _slice_name(one: Checked, z: int) -> str:
    return one.case.name if one.shape[0] == 1 else f"{one.case.name} slice {z}"


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
