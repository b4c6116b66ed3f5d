"""The unit of grey values as a user gives it, and what is made of a file's values then."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungseg.errors import UserError
from lungseg.imaging.greys import HU, Judgement, ends_of, judge

WIDEST_HU, FARTHEST = 100_000.0, 1e6


@dataclass(frozen=True)
class Units:
    """What a user says about the grey values of the files.

    Args:
        window: level and width in HU; the ends of the files' greys are the ends of the window.
        slope, intercept: HU is slope * value + intercept; a slope below 0 for what is inverted. One of them alone leaves the
            other at 1 or 0.

    Raises:
        UserError: a value is out of range, or a window is given and a slope or an intercept too.
    """

    window: tuple[float, float] | None = None
    slope: float | None = None
    intercept: float | None = None

    def __post_init__(self) -> None:
        if self.window is not None:
            window = tuple(float(value) for value in self.window)
            object.__setattr__(self, "window", window)
            if len(window) != 2 or not (abs(window[0]) <= WIDEST_HU and 0 < window[1] <= WIDEST_HU):
                raise UserError(f"input.window={_listed(window)} must be a level and a width above 0, in HU, such as -600,1500.")
            if self.slope is not None or self.intercept is not None:
                raise UserError("input.window and input.slope or input.intercept say the same thing twice: give one of them.")
        if self.slope is not None and not (math.isfinite(self.slope) and 1 / FARTHEST <= abs(self.slope) <= FARTHEST):
            raise UserError(f"input.slope={self.slope:g} must be a number other than 0 (HU for one step of grey).")
        if self.intercept is not None and not abs(self.intercept) <= FARTHEST:
            raise UserError(f"input.intercept={self.intercept:g} must be a number of HU (what grey 0 stands for).")

    @property
    def are_given(self) -> bool:
        return (self.window, self.slope, self.intercept) != (None, None, None)


class Rescaled:
    """A view of grey values (Z, H, W) as ``slope * value + intercept``, float32; computed when a part is asked for."""

    def __init__(self, voxels: NDArray[Any], slope: float, intercept: float) -> None:
        self.voxels, self.slope, self.intercept = voxels, slope, intercept
        self.shape, self.ndim = voxels.shape, voxels.ndim

    def __len__(self) -> int:
        return len(self.voxels)

    def __getitem__(self, index: Any) -> NDArray[np.float32]:
        part = np.asarray(self.voxels[index], dtype=np.float32)
        return part if (self.slope, self.intercept) == (1, 0) else part * np.float32(self.slope) + np.float32(self.intercept)


@dataclass(frozen=True)
class Greys:
    """The grey values of a scan as a network sees them, in training as in prediction.

    Attributes:
        is_hu: they are HU, as far as anybody knows.
    """

    hu: Rescaled
    is_hu: bool
    judgement: Judgement


def as_seen(voxels: NDArray[Any], units: Units | None = None) -> Greys:
    """Grey values (Z, H, W) in canonical order, judged, and repaired where that is certain or the user says how."""
    judgement = judge(voxels)
    is_given = units is not None and units.are_given
    return Greys(Rescaled(voxels, *to_hu(voxels, judgement, units)), is_given or judgement.is_hu, judgement)


def to_hu(voxels: NDArray[Any], judgement: Judgement, units: Units | None = None) -> tuple[float, float]:
    """Slope and intercept to apply to each slice: ``slope * slice + intercept``, in float32.

    Of values that are HU already a window says nothing. Else what the user gives wins over any repair: a slope or an intercept is
    applied as it is, and so are both ends of a window, the first and the last grey that such a file can hold (0 and 255 of 8 bits,
    0 and 1 of values between them, 0 and 4095 where that is the greatest, else the least and the greatest value of all);
    only which end is air is taken from the judgement. Where nothing is given it is the judgement's repair; the result is HU then if
    ``judgement.is_hu``.

    Args:
        voxels: all of them, of which the ends of a window are told.
    """
    if units is None or not units.are_given:
        return judgement.slope, judgement.intercept
    if units.window is None:
        slope, intercept = units.slope, units.intercept
        return 1.0 if slope is None else slope, 0.0 if intercept is None else intercept
    if judgement.kind == HU and not judgement.inverted:
        return judgement.slope, judgement.intercept
    level, width = units.window
    first, last = ends_of(judgement.kind, float(np.min(voxels)), float(np.max(voxels)))
    if judgement.inverted and judgement.certain:
        first, last = last, first
    if first == last:
        return 1.0, 0.0
    slope = width / (last - first)
    return slope, level - width / 2 - slope * first


def _listed(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:g}" for value in values)
