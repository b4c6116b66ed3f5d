"""Every slice decoded once: on the network's grid, and for scoring on its own grid."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lungseg.data import duplicates
from lungseg.data.cases import Stack
from lungseg.data.split import Case
from lungseg.errors import UserError
from lungseg.preprocess import Preprocess


@dataclass(frozen=True)
class SliceInfo:
    """Where a slice comes from.

    Attributes:
        shape: its own (H, W).
        spacing_mm: y, x; None where nobody knows it.
        digest: of its grey values; None where it has no structure.
        lung: share of the grid that is lung.
    """

    name: str
    source: str
    shape: tuple[int, int]
    patient: str | None = None
    spacing_mm: tuple[float, float] | None = None
    digest: bytes | None = None
    lung: float = 0.0


@dataclass(frozen=True)
class Scan:
    """Slices that lie on each other.

    Attributes:
        case: the number of its case.
        slices: the numbers of its slices, from the feet to the head.
        spacing_mm: z, y, x; None where nobody knows it, as of a stack.
        doubts: sentences to be read after its name.
    """

    name: str
    case: int
    slices: range
    spacing_mm: tuple[float, float, float] | None
    doubts: tuple[str, ...]


class SliceFacts(NamedTuple):
    """What is known of a slice without looking at it: ``content`` is a digest of grey values and labels, the rest as in
    ``SliceInfo``."""

    digest: bytes | None
    lung: float
    content: bytes


@dataclass(frozen=True)
class Facts:
    """What is known of the slices of a case without looking at them.

    Attributes:
        shape: Z, H, W.
        spacing_mm: as of its ``Stack``.
        doubts: of the stack, and what is to be said of its grey values.
    """

    shape: tuple[int, int, int]
    slices: tuple[SliceFacts, ...]
    spacing_mm: tuple[float, float, float] | None
    doubts: tuple[str, ...]

    @staticmethod
    def of(stack: Stack, slices: Sequence[SliceFacts]) -> "Facts":
        depth, height, width = stack.labels.shape
        return Facts((depth, height, width), tuple(slices), stack.spacing_mm, (*stack.doubts, *filter(None, [stack.unit])))


class Prepared(NamedTuple):
    """A slice as it is kept: raw grey values on the grid (N, N) float32, what to learn there (N, N, 2) uint8, and the labels on its
    own grid (H, W) uint8."""

    image: NDArray[np.float32]
    target: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    facts: SliceFacts


class Held(Protocol):
    """The slices of a case, wherever they are kept."""

    @property
    def facts(self) -> Facts: ...

    @property
    def nbytes(self) -> int:
        """Of memory."""
        ...

    def image(self, z: int) -> NDArray[np.float32]: ...

    def target(self, z: int) -> NDArray[np.uint8]: ...

    def truth(self, z: int) -> NDArray[np.uint8]: ...


class SliceCache:
    """Decoded slices, readable from any process without decoding again.

    ``image(i)`` (N, N) float32 are raw grey values on the grid, ``target(i)`` (N, N, 2) uint8 what to learn there, and ``truth(i)``
    (H, W) uint8 the labels on the slice's own grid, if they were kept.
    """

    def __init__(self, cases: Sequence[Case], held: Sequence[Held], size: int) -> None:
        self.size, self._held = size, tuple(held)
        self._firsts = np.cumsum([0, *(one.facts.shape[0] for one in held)])
        self.infos: list[SliceInfo] = []
        self.scans: list[Scan] = []
        digest = hashlib.blake2b(digest_size=16)
        for number, (case, one) in enumerate(zip(cases, held, strict=True)):
            facts, first = one.facts, len(self.infos)
            count, height, width = facts.shape
            spacing = None if facts.spacing_mm is None else facts.spacing_mm[1:]
            digest.update(case.name.encode())
            for z, own in enumerate(facts.slices):
                digest.update(own.content)
                name = _slice_name(case.name, z, count)
                self.infos.append(SliceInfo(name, case.source, (height, width), case.patient, spacing, own.digest, own.lung))
            if facts.spacing_mm is not None or count > 1:
                self.scans.append(Scan(case.name, number, range(first, first + count), facts.spacing_mm, facts.doubts))
        self.digest = digest.hexdigest()

    def __len__(self) -> int:
        return len(self.infos)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the slices take; none for a cache on disk."""
        return sum(one.nbytes for one in self._held)

    def image(self, index: int) -> NDArray[np.float32]:
        case, z = self._place(index)
        return self._held[case].image(z)

    def target(self, index: int) -> NDArray[np.uint8]:
        case, z = self._place(index)
        return self._held[case].target(z)

    def truth(self, index: int) -> NDArray[np.uint8]:
        case, z = self._place(index)
        return self._held[case].truth(z)

    def _place(self, index: int) -> tuple[int, int]:
        case = int(np.searchsorted(self._firsts, index, side="right")) - 1
        return case, index - int(self._firsts[case])


@dataclass(frozen=True)
class InMemory:
    """The slices of a case in memory; without truths where nobody will score it."""

    facts: Facts
    images: NDArray[np.float32]
    targets: NDArray[np.uint8]
    truths: NDArray[np.uint8] | None

    @property
    def nbytes(self) -> int:
        return self.images.nbytes + self.targets.nbytes + (0 if self.truths is None else self.truths.nbytes)

    def image(self, z: int) -> NDArray[np.float32]:
        image: NDArray[np.float32] = self.images[z]
        return image

    def target(self, z: int) -> NDArray[np.uint8]:
        target: NDArray[np.uint8] = self.targets[z]
        return target

    def truth(self, z: int) -> NDArray[np.uint8]:
        assert self.truths is not None
        truth: NDArray[np.uint8] = self.truths[z]
        return truth


def in_memory(
    cases: Sequence[Case], preprocess: Preprocess, keep_truth: bool, done: Callable[[], None] = lambda: None
) -> SliceCache:
    """Reads every case once.

    Args:
        keep_truth: keep the labels on the slices' own grids too, which validation and test need.
        done: called after each case, for a progress bar.

    Raises:
        UserError: a file cannot be read, or an image and its mask differ in size.
    """
    held = []
    for case in cases:
        stack = case.read()
        count, size = len(stack.labels), preprocess.size
        images, targets = np.empty((count, size, size), np.float32), np.empty((count, size, size, 2), np.uint8)
        facts = []
        for z, slice_ in enumerate(prepared(case.name, stack, preprocess)):
            images[z], targets[z] = slice_.image, slice_.target
            facts.append(slice_.facts)
        held.append(InMemory(Facts.of(stack, facts), images, targets, stack.labels if keep_truth else None))
        done()
    return SliceCache(cases, held, preprocess.size)


def prepared(name: str, stack: Stack, preprocess: Preprocess) -> Iterator[Prepared]:
    """The slices of a case, one after the other.

    Raises:
        UserError: the grey values are not what the preprocessing needs.
    """
    for z, truth in enumerate(stack.labels):
        image = stack.image[z]
        try:
            on_grid = preprocess.to_grid(image)
        except UserError as error:
            raise UserError(f"{_slice_name(name, z, len(stack.labels))}: {error}") from error
        target = preprocess.target_to_grid(truth)
        pixels = duplicates.digest(image)
        content = hashlib.blake2b(pixels + truth.tobytes(), digest_size=16).digest()
        own = pixels if image.min() < image.max() else None
        yield Prepared(on_grid, target, truth, SliceFacts(own, float(target[..., 0].mean() / 255), content))


def _slice_name(name: str, z: int, slices: int) -> str:
    return f"{name}#{z}" if slices > 1 else name
