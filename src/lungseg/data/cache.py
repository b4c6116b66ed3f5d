"""Every slice decoded once: on the network's grid, and for scoring on its own grid."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungseg.data import duplicates
from lungseg.data.split import Case
from lungseg.errors import UserError
from lungseg.files import writing
from lungseg.preprocess import Preprocess

WHERES = ("memory", "disk")
ROOM = "use loader.cache=memory or make room"


@dataclass(frozen=True)
class SliceInfo:
    """Where a slice comes from.

    Attributes:
        shape: its own (H, W).
        digest: of its grey values; None where it has no structure.
    """

    name: str
    source: str
    shape: tuple[int, int]
    digest: bytes | None = None


class SliceCache:
    """Decoded slices, readable from any process without decoding again.

    ``image(i)`` (N, N) float32 are raw grey values on the grid, ``target(i)`` (N, N, 2) uint8 what to learn there, and ``truth(i)``
    (H, W) uint8 the labels on the slice's own grid, if they were kept.
    """

    def __init__(
        self, infos: Sequence[SliceInfo], size: int, digest: str, images: "Block", targets: "Block", truths: "Block"
    ) -> None:
        self.infos, self.size, self.digest = tuple(infos), size, digest
        self._images, self._targets, self._truths = images, targets, truths
        self._ends = np.cumsum([info.shape[0] * info.shape[1] for info in self.infos])

    def __len__(self) -> int:
        return len(self.infos)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the slices take; none for a cache on disk."""
        return sum(block.nbytes for block in (self._images, self._targets, self._truths))

    def image(self, index: int) -> NDArray[np.float32]:
        image: NDArray[np.float32] = self._images.array().reshape(-1, self.size, self.size)[index]
        return image

    def target(self, index: int) -> NDArray[np.uint8]:
        target: NDArray[np.uint8] = self._targets.array().reshape(-1, self.size, self.size, 2)[index]
        return target

    def truth(self, index: int) -> NDArray[np.uint8]:
        height, width = self.infos[index].shape
        end = int(self._ends[index])
        return self._truths.array()[end - height * width : end].reshape(height, width)


class Block:
    """A long one-dimensional array, in memory or in a file that each process maps for itself; made by appending parts."""

    def __init__(self, dtype: type, file: Path | None) -> None:
        self.dtype, self.file = np.dtype(dtype), file
        self._parts: list[NDArray[Any]] = []
        self._whole: NDArray[Any] | None = None
        if file is not None:
            with writing(file, ROOM):
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(b"")

    @property
    def nbytes(self) -> int:
        """Bytes held in memory; what a file holds the system may drop and read again."""
        if self.file is not None:
            return 0
        return sum(part.nbytes for part in (self._parts if self._whole is None else [self._whole]))

    def append(self, part: NDArray[Any]) -> None:
        if self.file is None:
            self._parts.append(part.astype(self.dtype, copy=False).ravel())
            return
        with writing(self.file, ROOM), self.file.open("ab") as stream:
            stream.write(np.ascontiguousarray(part, self.dtype).data)

    def array(self) -> NDArray[Any]:
        """All of it, flat; nothing can be appended any more.

        Raises:
            UserError: the file is gone.
        """
        if self._whole is None:
            if self.file is not None and _size(self.file) > 0:
                self._whole = np.memmap(self.file, dtype=self.dtype, mode="r")
            else:
                self._whole = np.concatenate([np.zeros(0, self.dtype), *self._parts])
                self._parts = []
        return self._whole

    def __getstate__(self) -> dict[str, Any]:
        # A pickled memmap would be a copy of the whole file; a forked worker shares memory without pickling.
        return {**self.__dict__, "_whole": None} if self.file is not None else {**self.__dict__, "_whole": self.array()}


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError as error:
        raise UserError(f"{file} is gone ({error.strerror}); leave the cache alone while a training uses it.") from error


def build_cache(
    cases: Sequence[Case],
    preprocess: Preprocess,
    keep_truth: bool,
    folder: Path | None = None,
    done: Callable[[], None] = lambda: None,
) -> SliceCache:
    """Reads every case once.

    Args:
        keep_truth: keep the labels on the slices' own grids too, which validation and test need.
        folder: where to keep the slices; None is memory.
        done: called after each case, for a progress bar.

    Raises:
        UserError: a file cannot be read, or an image and its mask differ in size.
    """

    infos: list[SliceInfo] = []
    digest = hashlib.blake2b(digest_size=16)

    def block(dtype: type, name: str) -> Block:
        return Block(dtype, None if folder is None else folder / name)

    images, targets, truths = block(np.float32, "images.f32"), block(np.uint8, "targets.u8"), block(np.uint8, "truths.u8")
    for case in cases:
        stack, labels = case.read()
        for part in (case.name.encode(), stack.tobytes(), labels.tobytes()):
            digest.update(part)
        for z, (image, truth) in enumerate(zip(stack, labels, strict=True)):
            name = f"{case.name}#{z}" if len(stack) > 1 else case.name
            own = duplicates.digest(image) if image.min() < image.max() else None
            infos.append(SliceInfo(name, case.source, (image.shape[0], image.shape[1]), own))
            try:
                on_grid = preprocess.to_grid(image)
            except UserError as error:
                raise UserError(f"{name}: {error}") from error
            images.append(on_grid)
            targets.append(preprocess.target_to_grid(truth))
            if keep_truth:
                truths.append(truth)
        done()
    return SliceCache(infos, preprocess.size, digest.hexdigest(), images, targets, truths)
