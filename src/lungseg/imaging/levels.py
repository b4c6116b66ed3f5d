"""The levels of grey that a CT has in whatever unit: air around the body, lung, tissue; and which end of the greys is air."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungseg.imaging.body import BEYOND, Parts, divide, shrunk
from lungseg.imaging.plausibility import is_unlike_ct
from lungseg.labels import PADDING_HU

MOST_SLICES = 24  # of a volume that are looked at, evenly spread
MOST_PIXELS = 256  # along a side that are looked at; of a larger slice every second, third, ... one
FEWEST = 0.02  # of the pixels must be air around the body, or a lung that the field of view cuts would pass for it
EVEN = 0.7  # of the corners' pixels have one value: more than noise of few steps of grey has
FEWEST_LUNG = 0.02  # of the body must be enclosed air, or it is bowel gas and trachea
RIM = 0.5  # of the edge of the field is bright: the body fills it, or the air is bright
HELD = 0.1  # of what is dark inside a bright edge is bright again: lungs in a body, which lungs themselves do not hold
TAIL = 0.2  # of the way from air to tissue; bone lies so far beyond tissue, and nothing lies beyond air


@dataclass(frozen=True)
class Levels:
    """Grey values of the slices looked at, in their own unit. A picture is told by what lies where, not by HU.

    Attributes:
        low, high: the least and the greatest of all values.
        air: the middle grey of the air around the body; None where hardly any is seen.
        backdrop: the one grey from the corners on, where there is one: outside the field of view, or air cut to one grey.
        lung: the middle grey of the air inside the body; None where hardly any is seen.
        tissue: the middle grey of tissue.
        spread: how far apart the quarters of tissue lie.
        darkest: a hundredth of the values, the backdrop left out, is darker.
        mean, deviation: of all values.
        cut_high: share of the pixels, the backdrop left out, that have the very greatest value: bone, where a window cut it.
        padding: share of pixels below ``PADDING_HU``.
        flat: share of the air inside the body that has the lowest value of all: high where a window cut the lungs to black.
        falling: air is bright and tissue dark.
        unlike: share of the slices that do not look like an axial CT.
        whole: there are whole numbers only.
    """

    low: float
    high: float
    air: float | None
    backdrop: float | None
    lung: float | None
    tissue: float
    spread: float
    darkest: float
    mean: float
    deviation: float
    cut_high: float
    padding: float
    flat: float
    falling: bool
    unlike: float
    whole: bool

    def negative(self) -> "Levels":
        """Of the negative of the picture, what is told by the order of its greys left as it is."""
        air, backdrop, lung = (None if level is None else -level for level in (self.air, self.backdrop, self.lung))
        levels = replace(self, air=air, backdrop=backdrop, lung=lung, tissue=-self.tissue, mean=-self.mean)
        return replace(levels, low=-self.high, high=-self.low, darkest=-self.darkest)


def measure(voxels: NDArray[Any], turned: bool = False) -> Levels:
    """The levels of a volume (Z, H, W) or a slice (H, W), any type; where ``turned``, of its negative."""
    stack = voxels if voxels.ndim == 3 else voxels[None]
    chosen = np.unique(np.linspace(0, len(stack) - 1, MOST_SLICES).round().astype(int))
    step = -(-max(stack.shape[1:]) // MOST_PIXELS)
    low, high = (float(f([f(stack[z]) for z in chosen])) for f in (np.min, np.max))
    pixels = np.clip(np.stack([stack[z, ::step, ::step] for z in chosen]), -BEYOND, BEYOND).astype(np.float32)
    whole = voxels.dtype.kind in "iub" or bool(np.all(pixels == np.rint(pixels)))
    if turned:
        low, high, pixels = -high, -low, -pixels
    return _pooled(_without_noise(pixels), low, high, whole)


def _without_noise(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Slices (Z, H, W) whose greys outside a round field of view are one, where they lie apart from all inside it."""
    y, x = (np.linspace(-1, 1, side, dtype=np.float32) for side in pixels.shape[1:])
    radius = np.hypot(y[:, None], x[None, :])
    outside, inside = pixels[:, radius > 1.02], pixels[:, radius < 0.97]
    if not outside.size or not inside.size:
        return pixels
    for sign in (1, -1):
        ends = (float(np.max(sign * outside)), float(np.percentile(sign * inside[:, ::4], 0.2)))
        if ends[0] < ends[1]:
            return np.where(sign * pixels < sum(ends) / 2, np.median(outside), pixels).astype(np.float32)
    return pixels


def _pooled(pixels: NDArray[np.float32], low: float, high: float, whole: bool) -> Levels:
    seen = [_seen(image) for image in pixels if image.min() < image.max()]
    padding = float(np.mean(pixels < PADDING_HU)) if high > PADDING_HU else 0.0
    if not seen:
        return Levels(low, high, None, None, None, low, 0.0, low, low, 0.0, 1.0, padding, 0.0, False, 1.0, whole)
    air, lung, tissue = (np.concatenate([getattr(one, name) for one in seen]) for name in ("air", "lung", "tissue"))
    area = sum(one.area for one in seen)
    backdrops = [one.backdrop for one in seen if one.backdrop is not None]
    backdrop = float(np.median(backdrops)) if len(backdrops) > len(seen) / 2 else None
    middle = float(np.median(tissue)) if len(tissue) else high
    air_level = float(np.median(air)) if len(air) >= FEWEST * area else None
    own = pixels if backdrop is None else pixels[pixels != backdrop]
    darkest = float(np.percentile(own[:, ::2, ::2] if backdrop is None else own[::4], 1))
    if air_level is not None and air_level - darkest > TAIL * (middle - darkest):
        air_level = None  # lung that the field of view cuts
    lung_level = float(np.median(lung)) if len(lung) > FEWEST_LUNG * sum(one.body for one in seen) else None
    dark = (air_level, backdrop if backdrop is not None and backdrop < middle else None, lung_level, darkest)
    return Levels(
        low=low,
        high=high,
        air=air_level,
        backdrop=backdrop,
        lung=lung_level,
        tissue=middle,
        spread=float(np.subtract(*np.percentile(tissue, (75, 25)))) if len(tissue) else 0.0,
        darkest=darkest,
        mean=float(pixels.mean()),
        deviation=float(pixels.std()),
        cut_high=float(np.mean(own >= high)),
        padding=padding,
        flat=sum(one.black for one in seen) / max(len(lung), 1),
        falling=_falls(own, next(level for level in dark if level is not None), middle, seen),
        unlike=float(np.mean([one.unlike for one in seen])),
        whole=whole,
    )


@dataclass(frozen=True)
class _Seen:
    """One slice: its greys by place, (N,) each, on a coarse grid of ``area`` pixels, ``body`` of them in the body."""

    air: NDArray[np.float32]
    lung: NDArray[np.float32]
    tissue: NDArray[np.float32]
    backdrop: float | None
    area: int
    body: int
    black: int  # of the lung's pixels that have the lowest value of the slice
    unlike: bool
    polarity: int  # 1 where air is dark, -1 where it is bright, 0 where this slice does not tell


def _seen(image: NDArray[np.float32]) -> _Seen:
    flat, backdrop = _without_backdrop(image)
    parts, zero, step = _divided(flat)
    field = ~parts.padding
    outside = field & ~parts.body
    if backdrop is not None:
        outside &= ~ndimage.binary_dilation(shrunk(image == backdrop, field.shape))
        outside = ndimage.binary_erosion(outside, border_value=1)  # beside cut air what is left may be skin and blanket
    lungs = ndimage.binary_opening(parts.body & ~parts.tissue & field)
    solid = ndimage.binary_erosion(parts.tissue)
    air, lung, tissue = (parts.values[where] * step + zero for where in (outside, lungs, solid if solid.any() else parts.tissue))
    black = int(np.count_nonzero(lungs & shrunk(image <= image.min(), field.shape)))
    return _Seen(air, lung, tissue, backdrop, field.size, int(parts.body.sum()), black, is_unlike_ct(parts), _polarity(flat, parts))


def _without_backdrop(image: NDArray[np.float32]) -> tuple[NDArray[np.float32], float | None]:
    """A slice whose one grey from the corners on lies no farther out than its other greys, and that grey, if there is one."""
    corners = np.array([image[:3, :3], image[:3, -3:], image[-3:, :3], image[-3:, -3:]]) if min(image.shape) >= 3 else image
    backdrop = float(np.median(corners))
    is_backdrop = image == backdrop
    if np.mean(corners == backdrop) < EVEN or is_backdrop.mean() < FEWEST or is_backdrop.all():
        return image, None
    low, high = (float(value) for value in np.percentile(image[~is_backdrop], (1, 99)))
    flat = np.where(is_backdrop, np.float32(np.clip(backdrop, low, high)), image)
    if (
        not 0.05 < (backdrop - low) / max(high - low, 1e-30) < 0.95
    ):  # air, or as good as air, which ``divide`` would leave out of everything
        flat[[0, 0, -1, -1], [0, -1, 0, -1]] += np.float32((high - low) / 1000)
    return flat, backdrop


def _divided(image: NDArray[np.float32]) -> tuple[Parts, float, float]:
    """The parts of a slice, with values where no unit is taken for another, 0 to 1000; and what zero and one stand for."""
    low, high = (float(value) for value in np.percentile(image, (0.5, 99.5)))
    if high <= low:
        low, high = float(image.min()), float(image.max())
    step = (high - low) / 1000 or 1.0
    return divide(np.clip((image - low) / step, -900, 9000)), low, step


def _polarity(image: NDArray[np.float32], parts: Parts) -> int:
    field = ~parts.padding
    rim = field & ~ndimage.binary_erosion(field, iterations=2)
    if parts.tissue[rim].mean() < RIM:
        return 1
    turned, _, _ = _divided(-image)
    lungs = ndimage.binary_opening(turned.body & ~turned.tissue & ~turned.padding, iterations=2)
    return -1 if lungs.sum() > HELD * turned.body.sum() and turned.body.mean() > HELD else 0


def _falls(values: NDArray[np.float32], air: float, tissue: float, seen: list[_Seen]) -> bool:
    """Whether air is bright: told by bone beyond tissue where a window left it, else by what encloses what."""
    far = TAIL * (tissue - air)
    above, below = float(np.mean(values > tissue + far)), float(np.mean(values < air - far))
    if max(above, below) > 0.003 and not 1 / 3 < above / max(below, 1e-9) < 3:
        return below > above
    return sum(one.polarity for one in seen) < 0
