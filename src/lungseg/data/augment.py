"""Augmentation: what a training slice goes through between ``Preprocess.to_grid`` and ``Preprocess.normalise``.

Grey values come in raw, so what speaks HU comes first: a window, whose ends carry the HU scale and offset. It maps the
slice to 0..1, which is what albumentations' float32 transforms expect: given HU they clip it to 0..1, or give nan, and
say nothing. The last transform is the very ``normalise`` that prediction uses.
"""

import math
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lungseg.errors import UserError
from lungseg.preprocess import Preprocess

_NOT_HU_ABOVE = -100.0  # a slice in HU holds air; Preprocess.to_grid draws the line at the same value
_PICTURE_CUT = 0.25  # of a picture's own range: it was windowed before, and a narrow second window may hide the lungs
_PROBABILITIES = (
    "half_turn",
    "flip_horizontal",
    "flip_vertical",
    "elastic",
    "window",
    "gamma",
    "clahe",
    "noise",
    "blur",
)
# The least and the most that either end of a range may be.
_RANGES = {"scale": (0.1, 10), "hu_scale": (0.1, 10), "window_width_hu": (1, 10_000), "window_level_hu": (-10_000, 10_000)}


@dataclass
class Augmentation:
    """Random change of a slice and its target, every draw a function of the seed alone. The defaults change nothing.

    Args:
        rotation_deg: standard deviation of the rotation, in degrees.
        half_turn: probability of half a turn on top of it (a patient lying prone).
        flip_horizontal: probability of swapping left and right.
        flip_vertical: probability of swapping front and back.
        scale: smallest and largest zoom, drawn log-uniformly.
        aspect: largest ratio between the zoom of the width and that of the height, either way.
        shift: largest shift along each axis, as a fraction of the side.
        elastic: probability of a smooth bend of a few pixels (Simard 2003).
        window: probability of a random grey-value window; ``normalisation=window`` leaves it out, its window is fixed.
        window_width_hu: narrowest and widest random window, drawn log-uniformly.
        window_level_hu: lowest and highest centre of the random window.
        hu_scale: smallest and largest factor on the HU values (scanners and exports that are not true HU).
        hu_offset: largest offset of the HU values, either way.
        gamma: probability of a gamma curve.
        clahe: probability of a local contrast equalisation (Zuiderveld 1994).
        noise: probability of Gaussian noise.
        blur: probability of a Gaussian blur.

    A slice without a value below -100 is a picture, not HU: its random window cuts up to a quarter off either end of
    its own range. Where no window applies, HU scale and offset do nothing: percentiles are blind to them.

    Raises:
        UserError: a value is out of range.
    """

    rotation_deg: float = 0.0
    half_turn: float = 0.0
    flip_horizontal: float = 0.0
    flip_vertical: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    aspect: float = 1.0
    shift: float = 0.0
    elastic: float = 0.0
    window: float = 0.0
    window_width_hu: tuple[float, float] = (400.0, 3000.0)
    window_level_hu: tuple[float, float] = (-700.0, 50.0)
    hu_scale: tuple[float, float] = (1.0, 1.0)
    hu_offset: float = 0.0
    gamma: float = 0.0
    clahe: float = 0.0
    noise: float = 0.0
    blur: float = 0.0
    _built: tuple[Preprocess, Any] | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for key in _PROBABILITIES:
            if not 0 <= getattr(self, key) <= 1:
                raise UserError(f"augmentation.{key}={getattr(self, key)} must be 0 to 1: it is a probability.")
        for key, (lowest, highest) in _RANGES.items():
            ends = tuple(float(v) for v in getattr(self, key))
            if len(ends) != 2 or not lowest <= ends[0] <= ends[1] <= highest:
                allowed = f"two numbers from {lowest:g} to {highest:g}, the smaller first"
                raise UserError(f"augmentation.{key}={list(ends)} must be {allowed}.")
            setattr(self, key, ends)
        if not 0 <= self.rotation_deg <= 180:
            raise UserError(f"augmentation.rotation_deg={self.rotation_deg} must be 0 to 180 degrees.")
        if not 1 <= self.aspect <= 4:
            raise UserError(f"augmentation.aspect={self.aspect} must be 1 (unchanged) to 4: it is a ratio.")
        if not 0 <= self.shift <= 1:
            raise UserError(f"augmentation.shift={self.shift} must be 0 to 1: it is a fraction of the side.")
        if not 0 <= self.hu_offset < math.inf:
            raise UserError(f"augmentation.hu_offset={self.hu_offset} must be 0 HU or more and finite; it is drawn either way.")

    def __call__(
        self, image: NDArray[np.float32], target: NDArray[np.uint8], preprocess: Preprocess, seed: Sequence[int]
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Raw grey values (N, N) and target (N, N, 2) to network input (N, N) in 0..1 and its target; both are new arrays.

        Args:
            seed: what the draws depend on and nothing else, such as (seed, epoch, sample); none of them negative.
        """
        if self == Augmentation():
            return preprocess.normalise(image), target.copy()
        rng = np.random.default_rng(np.random.SeedSequence(seed))
        low, high = self._window(image, preprocess, rng)
        unit = (image - np.float32(low)) / np.float32(high - low)
        np.clip(unit, 0.0, 1.0, out=unit)
        pipeline = self.pipeline(preprocess)
        # Not set_random_seed: it gives each transform a copy of one stream, and both flips then always come together.
        pipeline.set_random_state(rng, random.Random(int(rng.integers(2**63))))
        result = pipeline(image=unit, mask=target.copy())
        return result["image"], result["mask"]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_built": None}  # albumentations stays behind: a worker builds its own pipeline

    def pipeline(self, preprocess: Preprocess) -> Any:
        """The ``albumentations.Compose`` that a slice in 0..1 goes through, built at first use."""
        if self._built is None or self._built[0] != preprocess:
            self._built = (preprocess, _build(self, preprocess))
        return self._built[1]

    def _window(self, image: NDArray[np.float32], preprocess: Preprocess, rng: np.random.Generator) -> tuple[float, float]:
        """The two raw grey values that become 0 and 1."""
        # Scaled and offset values seen through a window are the values seen through a window that is moved back.
        scale, offset = rng.uniform(*self.hu_scale), rng.uniform(-self.hu_offset, self.hu_offset)
        if preprocess.normalisation == "window":
            low, high = preprocess.window_hu
            return (low - offset) / scale, (high - offset) / scale
        # The slice's own range. Every fourth pixel will do: the exact percentiles come last, in normalise.
        own_low, own_high = (float(v) for v in np.percentile(image[::4, ::4], preprocess.percentiles))
        if own_high <= own_low:
            return own_low, own_low + 1.0
        if rng.random() >= self.window:
            return own_low, own_high
        if image.min() >= _NOT_HU_ABOVE:
            low_cut, high_cut = rng.uniform(0, _PICTURE_CUT, 2) * (own_high - own_low)
            return own_low + low_cut, own_high - high_cut
        width, level = math.exp(rng.uniform(*np.log(self.window_width_hu))), rng.uniform(*self.window_level_hu)
        low, high = (level - width / 2 - offset) / scale, (level + width / 2 - offset) / scale
        # Beyond the slice's own range a window shows nothing, and its air would be grey beside the black fill.
        low, high = max(low, own_low), min(high, own_high)
        return (low, high) if low < high else (own_low, own_high)


def _build(a: Augmentation, preprocess: Preprocess) -> Any:
    """The albumentations pipeline; imported and subclassed here so that prediction and ``--help`` never pay for it."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # else the import asks the network for a newer version
    import albumentations as A
    from albumentations.augmentations.geometric.functional import center, create_affine_transformation_matrix

    class Place(A.Affine):  # type: ignore[misc]
        """An affine whose draws are ours: normal rotation, log-uniform zoom, an aspect, half turns; one resampling."""

        def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
            rng, (height, width) = self.random_generator, params["shape"][:2]
            zoom = np.exp(rng.uniform(*np.log(a.scale)))
            stretch = np.exp(rng.uniform(-1, 1) * np.log(a.aspect) / 2)
            turn_deg = rng.normal(0, a.rotation_deg) + 180 * (rng.random() < a.half_turn)
            right, down = rng.uniform(-a.shift, a.shift, 2) * (width, height)
            matrix = create_affine_transformation_matrix(
                translate={"x": right, "y": down},
                shear={"x": 0.0, "y": 0.0},
                scale={"x": zoom * stretch, "y": zoom / stretch},
                rotate=turn_deg,
                shift=center((height, width)),
            )
            return {"matrix": matrix, "output_shape": (height, width)}

    class Bend(A.ElasticTransform):  # type: ignore[misc]
        """An elastic transform whose smooth field is drawn on 8 x 8 knots, far cheaper than smoothing a noise image."""

        def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
            height, width = params["shape"][:2]
            knots = self.random_generator.normal(0, 0.012 * width, (2, 8, 8)).astype(np.float32)
            right, down = (cv2.resize(k, (width, height), interpolation=cv2.INTER_CUBIC) for k in knots)
            columns, rows = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
            return {"map_x": columns + right, "map_y": rows + down}

    class Normalise(A.ImageOnlyTransform):  # type: ignore[misc]
        """Network input, by the object that prediction uses."""

        # A fixed window wants its HU back; percentiles are blind to scale and offset and take 0..1 as it is.
        low, high = preprocess.window_hu if preprocess.normalisation == "window" else (0.0, 1.0)

        def apply(self, img: NDArray[np.float32], **params: Any) -> NDArray[np.float32]:
            return preprocess.normalise(self.low + (self.high - self.low) * img)

    # Both fills are 0, air in the image and background in the target, whose shares mix as grey values do.
    moves = a.rotation_deg > 0 or a.half_turn > 0 or a.scale != (1.0, 1.0) or a.aspect > 1 or a.shift > 0
    transforms = [
        A.HorizontalFlip(p=a.flip_horizontal),
        A.VerticalFlip(p=a.flip_vertical),
        Place(p=float(moves), mask_interpolation=cv2.INTER_LINEAR),
        Bend(p=a.elastic, mask_interpolation=cv2.INTER_LINEAR),
        # As a picture comes about: the scanner's sharpness and noise, then what was done for display.
        A.GaussianBlur(blur_limit=0, sigma_limit=(0.4, 1.2), p=a.blur),
        A.GaussNoise(std_range=(0.003, 0.04), p=a.noise),
        A.RandomGamma(gamma_limit=(60, 160), p=a.gamma),
        A.CLAHE(clip_limit=(1.0, 4.0), p=a.clahe),
    ]
    return A.Compose([t for t in transforms if t.p > 0] + [Normalise(p=1.0)])
