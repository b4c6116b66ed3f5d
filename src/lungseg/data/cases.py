"""What a source is made of: a generated slice, or an image file with its mask file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lungseg.data.phantom import phantom_slice
from lungseg.errors import UserError
from lungseg.imaging.slices import read_mask, read_stack, to_labels


@dataclass(frozen=True)
class PhantomCase:
    """One generated slice; every seed is a patient of its own."""

    seed: int
    size: int
    source: str = "phantom"

    @property
    def name(self) -> str:
        return f"phantom-{self.seed}"

    @property
    def patient(self) -> str:
        return self.name

    def read(self) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        slice_ = phantom_slice(self.seed, self.size)
        return slice_.image_hu[None], (slice_.sides > 0).astype(np.uint8)[None]


@dataclass(frozen=True)
class FileCase:
    """An image file and its mask file.

    Attributes:
        slope, intercept: grey values become ``slope * value + intercept``, so that sources of different scale train together.
    """

    name: str
    image: Path
    mask: Path
    patient: str | None = None
    source: str = "folder"
    slope: float = 1.0
    intercept: float = 0.0
    lung_values: tuple[float, ...] | None = None
    ignore_values: tuple[float, ...] = ()

    def read(self) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        return self.read_with_mask(read_mask(self.mask))

    def read_with_mask(self, stored: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """What ``read`` gives, where the values in the mask file, (Z, H, W), were read before.

        Raises:
            UserError: the image cannot be read or is constant, the two differ in size, or nobody knows which values are lung.
        """
        image, labels = read_stack(self.image), to_labels(stored, self.mask, self.lung_values, self.ignore_values)
        if image.shape != labels.shape:
            raise UserError(
                f"{self.image} is {_size(image.shape)} but its mask {self.mask} is {_size(labels.shape)}: they must be alike."
            )
        if self.slope != 1.0 or self.intercept != 0.0:
            with np.errstate(over="ignore", invalid="ignore"):
                image = image * np.float32(self.slope) + np.float32(self.intercept)
            if not np.isfinite(image).all():
                raise UserError(f"{self.image} has no finite values with slope {self.slope:g} and intercept {self.intercept:g}.")
        if image.min() == image.max():
            raise UserError(
                f"{self.image} is constant (all {image.flat[0]:g}), there is nothing to learn from: replace it, or remove it and "
                "its mask."
            )
        return image, labels


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(side) for side in (shape[1:] if shape[0] == 1 else shape))
