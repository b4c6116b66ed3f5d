"""Grey values of a slice to network input and back: the one object that training and prediction share.

Two steps, each used by both sides: ``to_grid`` (geometry) and ``normalise`` (grey values). Between them training puts its
augmentation; prediction puts nothing. ``from_grid`` takes logits back to the slice's own grid, before any threshold.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lungseg.errors import UserError
from lungseg.labels import IGNORE, LUNG, PADDING_HU

NORMALISATIONS = ("percentile", "window")


@dataclass(frozen=True)
class Preprocess:
    """How a slice becomes network input.

    Args:
        size: side N of the network's square grid in pixels.
        normalisation: ``percentile`` stretches each slice between two of its own percentiles, so that a picture in any
            unit can be read; ``window`` maps a fixed HU window and so needs true HU.
        percentiles: the two percentiles that become 0 and 1.
        window_hu: the two HU values that become 0 and 1.

    Raises:
        UserError: a value is out of range.
    """

    size: int = 192
    normalisation: str = "percentile"
    percentiles: tuple[float, float] = (0.5, 99.5)
    window_hu: tuple[float, float] = (-1000.0, 400.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "percentiles", tuple(float(p) for p in self.percentiles))
        object.__setattr__(self, "window_hu", tuple(float(v) for v in self.window_hu))
        if not 16 <= self.size <= 2048:
            raise UserError(f"preprocess.size={self.size} must be 16 to 2048 pixels.")
        if self.normalisation not in NORMALISATIONS:
            raise UserError(f"preprocess.normalisation={self.normalisation} must be one of {', '.join(NORMALISATIONS)}.")
        if len(self.percentiles) != 2 or not 0 <= self.percentiles[0] < self.percentiles[1] <= 100:
            raise UserError(f"preprocess.percentiles={list(self.percentiles)} must be two rising numbers from 0 to 100.")
        if len(self.window_hu) != 2 or not -math.inf < self.window_hu[0] < self.window_hu[1] < math.inf:
            raise UserError(f"preprocess.window_hu={list(self.window_hu)} must be two rising numbers in HU.")

    def state(self) -> dict[str, Any]:
        """Plain values for a checkpoint; ``Preprocess(**state)`` builds the same object."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    def to_grid(self, image: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """A slice (H, W) on the network's grid (N, N): aspect kept, centred, padded with the slice's own air (its darkest grey).

        Raises:
            UserError: ``window`` was chosen and the values cannot be HU.
        """
        pixels = np.asarray(image, dtype=np.float32)
        if pixels.max() > PADDING_HU:  # else the values have an offset of their own, and nothing is known about the lowest
            pixels = np.maximum(pixels, np.float32(PADDING_HU))
        air = float(self._low_high(pixels)[0])
        if self.normalisation == "window" and pixels.min() >= -100:
            # Even a slice without lung has air around the body; a picture of 0 to 255 has none below zero.
            raise UserError(
                f"the grey values ({pixels.min():.0f} to {pixels.max():.0f}) are not HU, which preprocess.normalisation=window "
                "needs; use preprocess.normalisation=percentile."
            )
        return self._fit(pixels, fill=air)

    def target_to_grid(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Labels (H, W) of 0, 1 and 255 (ignore) as what the network is to learn, (N, N, 2): the share of each grid pixel that is
        lung and the share that is to be ignored, 0 to 255 for none to all.

        A share says where inside a coarse pixel the edge runs, so that a small grid can learn masks of a finer one.
        """
        shares = [self._fit((labels == value).astype(np.float32), fill=0) for value in (LUNG, IGNORE)]
        return np.rint(255 * np.stack(shares, axis=-1)).astype(np.uint8)

    def normalise(self, image: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Grey values (H, W) to 0..1; with ``percentile`` a constant slice gives zeros, and any rising affine change drops out."""
        low, high = self._low_high(image)
        if high <= low:
            return np.zeros(image.shape, dtype=np.float32)
        scaled = (np.asarray(image, dtype=np.float32) - np.float32(low)) / np.float32(high - low)
        return np.clip(scaled, 0.0, 1.0, out=scaled)

    def from_grid(self, values: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
        """Logits or probabilities (N, N) back on a slice's own grid (H, W), linearly interpolated."""
        top, left, height, width = self._placement(shape)
        inner = np.ascontiguousarray(values[top : top + height, left : left + width])
        return cv2.resize(inner, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR).astype(np.float32, copy=False)

    def _low_high(self, image: NDArray[np.floating[Any]]) -> tuple[float, float]:
        if self.normalisation == "window":
            return self.window_hu
        low, high = np.percentile(image, self.percentiles)
        return float(low), float(high)

    def _placement(self, shape: tuple[int, int]) -> tuple[int, int, int, int]:
        """Where a slice of this shape (H, W) lies on the grid: top, left, height, width."""
        scale = self.size / max(shape)
        height, width = (max(1, round(side * scale)) for side in shape)
        return (self.size - height) // 2, (self.size - width) // 2, height, width

    def _fit(self, image: NDArray[np.float32], fill: float) -> NDArray[np.float32]:
        top, left, height, width = self._placement((image.shape[0], image.shape[1]))
        shrinks = max(image.shape) > self.size
        resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        # Resampling may overshoot by a rounding error, which normalise would stretch where the slice is constant.
        np.clip(resized, image.min(), image.max(), out=resized)
        grid = np.full((self.size, self.size), fill, dtype=np.float32)
        grid[top : top + height, left : left + width] = resized
        return grid
