"""Every slice decoded once: on the network's grid, and for scoring on its own grid."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lungseg.data.split import Case
from lungseg.errors import UserError
from lungseg.preprocess import Preprocess

WHERES = ("memory", "disk")


@dataclass(frozen=True)
class SliceInfo:
    """Where a slice comes from; ``shape`` is its own (H, W)."""

    name: str
    source: str
    shape: tuple[int, int]


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
    """A long one-dimensional array that workers share: shared memory, or a file that each process maps for itself."""

    def __init__(self, parts: Sequence[NDArray[Any]], dtype: type, file: Path | None) -> None:
        self.dtype, self.file = np.dtype(dtype), file
        self._tensor: torch.Tensor | None = None
        self._map: NDArray[Any] | None = None
        if file is None:
            flat = np.concatenate([part.ravel() for part in parts]) if parts else np.zeros(0, self.dtype)
            self._tensor = torch.from_numpy(flat).share_memory_()
            return
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("wb") as stream:
                for part in parts:
                    part.tofile(stream)
        except OSError as error:
            raise UserError(f"{file} cannot be written ({error.strerror}); use loader.cache=memory or make room.") from error

    def array(self) -> NDArray[Any]:
        """All of it, flat."""
        if self._tensor is not None:
            return self._tensor.numpy()
        if self._map is None:
            assert self.file is not None
            empty = self.file.stat().st_size == 0
            self._map = np.zeros(0, self.dtype) if empty else np.memmap(self.file, dtype=self.dtype, mode="r")
        return self._map

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_map": None}  # a pickled memmap would be a copy of the whole file


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
        folder: where to keep the slices; None is shared memory.
        done: called after each case, for a progress bar.

    Raises:
        UserError: a file cannot be read, or an image and its mask differ in size.
    """

    def on_grid(case: Case) -> list[tuple[SliceInfo, NDArray[np.float32], NDArray[np.uint8], NDArray[np.uint8]]]:
        stack, labels = case.read()
        many = len(stack) > 1
        return [
            (
                SliceInfo(f"{case.name}#{z}" if many else case.name, case.source, (image.shape[0], image.shape[1])),
                preprocess.to_grid(image),
                preprocess.target_to_grid(label),
                label,
            )
            for z, (image, label) in enumerate(zip(stack, labels, strict=True))
        ]

    infos: list[SliceInfo] = []
    images: list[NDArray[np.float32]] = []
    targets: list[NDArray[np.uint8]] = []
    truths: list[NDArray[np.uint8]] = []
    digest = hashlib.blake2b(digest_size=16)
    for case in cases:
        for info, image, target, truth in on_grid(case):
            digest.update(info.name.encode())
            digest.update(image.tobytes())
            digest.update(truth.tobytes())
            infos.append(info)
            images.append(image)
            targets.append(target)
            if keep_truth:
                truths.append(truth)
        done()

    def block(parts: Sequence[NDArray[Any]], dtype: type, name: str) -> Block:
        return Block(parts, dtype, None if folder is None else folder / name)

    return SliceCache(
        infos,
        preprocess.size,
        digest.hexdigest(),
        images=block(images, np.float32, "images.f32"),
        targets=block(targets, np.uint8, "targets.u8"),
        truths=block(truths, np.uint8, "truths.u8"),
    )
