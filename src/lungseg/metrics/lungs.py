"""Volumes and densities of the lungs in a CT volume, counted slice by slice.

Arrays are z, y, x with z rising to the head, rows from the patient's front to the back and columns from the patient's
right to the left.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungseg.errors import UserError
from lungseg.labels import LEFT, PADDING_HU, RIGHT

EMPHYSEMA_HU = -950.0
HIGHEST_HU = 4095  # no lung is as dense; what is denser falls into this bin

ENDS = (("bottom", "top"), ("front", "back"), ("right", "left"))  # of the axes z, y, x: index 0 and the last
BORDERS = ("top", "bottom", "front", "back", "right", "left")


@dataclass(frozen=True)
class Lung:
    """One lung, or both, as far as the field of view shows it.

    Densities are of the lung's voxels from -1024 HU on, for what is lower is padding; they are None where no HU are
    known. The mean and the share below -950 HU are exact. Percentiles interpolate between voxels (Hyndman & Fan 1996,
    type 7, as numpy does) and are exact for whole HU, else within 0.5 HU.

    Attributes:
        side: ``right``, ``left`` or ``both``.
        found: whether the mask has any of it. If not, volume and height are 0 and densities None.
        volume_ml: of what is seen; of a lung that the field of view cuts it is a lower bound.
        percentile_15_hu: the emphysema index Perc15 (Parr et al., Respiratory Research 7:21, 2006); it falls with emphysema.
        emphysema_fraction_below_950_hu: share of voxels below -950 HU, 0 to 1 (LAA-950; Gevenois et al., Am J Respir Crit
            Care Med 154:187-192, 1996). It was validated on thin slices in full inspiration: noise and sharp kernels raise it.
        height_mm: from the lowest slice with lung to the highest, their thickness included.
        touches_border: whether the field of view cuts it.
        borders: which ends do, of ``BORDERS``: first or last slice, row or column, or the edge of a round field. A single
            slice is cut at top and bottom.
    """

    side: str
    found: bool
    volume_ml: float
    mean_hu: float | None
    median_hu: float | None
    percentile_15_hu: float | None
    emphysema_fraction_below_950_hu: float | None
    height_mm: float
    touches_border: bool
    borders: tuple[str, ...]


def measure(
    labels: NDArray[np.uint8],
    spacing_mm: tuple[float, float, float],
    voxels: NDArray[Any] | None = None,
    slope: float = 1.0,
    intercept: float = 0.0,
    sided: bool | None = None,
) -> tuple[Lung, ...]:
    """Right lung, left lung and both together; both together alone where the labels tell no sides.

    One slice at a time is looked at, so that arrays may be mapped from a disk. With voxels, padding shows where a round
    field of view ends: one lowest value, from a corner on.

    Args:
        labels: (Z, H, W), 1 right lung, 2 left lung; or 1 both lungs. Other values are no lung.
        spacing_mm: z, y, x.
        voxels: (Z, H, W); HU are slope * voxels + intercept.
        sided: whether 1 is the right lung; by default it is if there is any 2.

    Raises:
        UserError: the shapes differ.
    """
    if voxels is not None and voxels.shape != labels.shape:
        raise UserError(
            f"a mask of shape {labels.shape} cannot be measured in a volume of shape {voxels.shape}: give the mask of this volume."
        )
    right, left = _Tally(), _Tally()
    for z in range(labels.shape[0]):
        plane = np.asarray(labels[z])
        image = None if voxels is None else np.asarray(voxels[z])
        for tally, label in ((right, RIGHT), (left, LEFT)):
            tally.add(z, plane == label, image, slope, intercept)
    for tally in (right, left):
        tally.see_ends(labels.shape[0])
    both = right.joined(left)
    named = [("both", both)]
    if sided or (sided is None and left.voxels):
        named = [("right", right), ("left", left), *named]
    return tuple(tally.lung(side, spacing_mm) for side, tally in named)


def rows(lungs: Sequence[Lung]) -> list[dict[str, Any]]:
    """A row of plain values for each lung, units in the names and rounded for reading: lines of a table, or JSON.

    Borders are words in one text, ``top left``.
    """
    return [
        {
            "side": lung.side,
            "found": lung.found,
            "volume_ml": _significant(lung.volume_ml),
            "mean_hu": _rounded(lung.mean_hu, 1),
            "median_hu": _rounded(lung.median_hu, 1),
            "percentile_15_hu": _rounded(lung.percentile_15_hu, 1),
            "emphysema_fraction_below_950_hu": _rounded(lung.emphysema_fraction_below_950_hu, 4),
            "height_mm": _significant(lung.height_mm),
            "touches_border": lung.touches_border,
            "borders": " ".join(lung.borders),
        }
        for lung in lungs
    ]


@dataclass
class _Tally:
    """What has been counted of one lung so far; z of its first and last slice, HU in bins of 1."""

    voxels: int = 0
    first: int = -1
    last: int = -1
    borders: set[str] = field(default_factory=set)
    dense: int = 0  # voxels with HU
    total_hu: float = 0.0
    emphysema: int = 0
    histogram: NDArray[np.int64] = field(default_factory=lambda: np.zeros(HIGHEST_HU - int(PADDING_HU) + 1, dtype=np.int64))

    def add(self, z: int, lung: NDArray[np.bool_], image: NDArray[Any] | None, slope: float, intercept: float) -> None:
        """A slice: lung (H, W), and its stored values (H, W)."""
        in_row, in_column = np.asarray(lung.any(axis=1)), np.asarray(lung.any(axis=0))
        if not in_row.any():
            return
        self.voxels += int(np.count_nonzero(lung))
        self.first, self.last = (z if self.first < 0 else self.first), z
        for ends, there in ((ENDS[1], in_row), (ENDS[2], in_column)):
            self.borders |= {end for end, cut in zip(ends, there[[0, -1]], strict=True) if cut}
        if image is None:
            return
        self.borders |= _ends_of_round_field(lung, image)
        box = tuple(slice(int(at[0]), int(at[-1]) + 1) for at in (np.flatnonzero(in_row), np.flatnonzero(in_column)))
        hu = image[box][lung[box]].astype(np.float64) * slope + intercept
        hu = hu[(hu >= PADDING_HU) & (hu < np.inf)]
        self.dense += hu.size
        self.total_hu += float(hu.sum())
        self.emphysema += int(np.count_nonzero(hu < EMPHYSEMA_HU))
        bins = (np.rint(np.minimum(hu, HIGHEST_HU)) - PADDING_HU).astype(np.int64)
        self.histogram += np.bincount(bins, minlength=self.histogram.size)

    def see_ends(self, slices: int) -> None:
        """That the first or the last slice of the volume has cut it."""
        self.borders |= {end for end, at, cut in zip(ENDS[0], (self.first, self.last), (0, slices - 1), strict=True) if at == cut}

    def joined(self, other: "_Tally") -> "_Tally":
        """Both counted as one."""
        firsts = [tally.first for tally in (self, other) if tally.voxels]
        return _Tally(
            voxels=self.voxels + other.voxels,
            first=min(firsts, default=-1),
            last=max(self.last, other.last),
            borders=self.borders | other.borders,
            dense=self.dense + other.dense,
            total_hu=self.total_hu + other.total_hu,
            emphysema=self.emphysema + other.emphysema,
            histogram=self.histogram + other.histogram,
        )

    def lung(self, side: str, spacing_mm: tuple[float, float, float]) -> Lung:
        """The result."""
        return Lung(
            side=side,
            found=self.voxels > 0,
            volume_ml=self.voxels * float(np.prod(spacing_mm)) / 1000,
            mean_hu=self.total_hu / self.dense if self.dense else None,
            median_hu=self._percentile(50) if self.dense else None,
            percentile_15_hu=self._percentile(15) if self.dense else None,
            emphysema_fraction_below_950_hu=self.emphysema / self.dense if self.dense else None,
            height_mm=(self.last - self.first + 1) * spacing_mm[0] if self.voxels else 0.0,
            touches_border=bool(self.borders),
            borders=tuple(border for border in BORDERS if border in self.borders),
        )

    def _percentile(self, percent: int) -> float:
        whole, part = divmod(percent * (self.dense - 1), 100)
        up_to = np.cumsum(self.histogram)
        low, high = (int(np.searchsorted(up_to, rank, side="right")) for rank in (whole, min(whole + 1, self.dense - 1)))
        return PADDING_HU + low + (high - low) * part / 100


def _ends_of_round_field(lung: NDArray[np.bool_], image: NDArray[Any]) -> set[str]:
    """The ends at which lung (H, W) meets padding: the slice's lowest value, from a corner on."""
    lowest = image.min()
    if not (image[[0, 0, -1, -1], [0, -1, 0, -1]] == lowest).any():
        return set()
    shown = image != lowest
    if not shown.any():
        return set()
    across, down = [], []  # of the places where they meet, from the middle in half fields
    for axis, flip in ((0, 1), (0, -1), (1, 1), (1, -1)):
        lines = (array.swapaxes(0, axis)[:, ::flip] for array in (lung, shown))
        at, met = _meetings(*lines)
        along = (2 * at + 1) / lung.shape[1 - axis] - 1
        beside = (2 * met + 1) / lung.shape[axis] - 1
        across.append(flip * along if axis == 0 else beside)
        down.append(beside if axis == 0 else flip * along)
    x, y = np.concatenate(across), np.concatenate(down)
    sideways, upright = np.abs(x) >= np.abs(y), np.abs(y) >= np.abs(x)
    ways = (sideways & (x <= 0), sideways & (x >= 0), upright & (y <= 0), upright & (y >= 0))
    return {end for end, way in zip((*ENDS[2], *ENDS[1]), ways, strict=True) if way.any()}


def _meetings(lung: NDArray[np.bool_], shown: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where padding that fills a line (row of both arrays) from its start ends in lung: places in the lines, and the lines."""
    lines = np.flatnonzero(lung.any(axis=1))
    lung, shown = np.ascontiguousarray(lung[lines]), np.ascontiguousarray(shown[lines])  # along which numpy looks fast
    start, first = shown.argmax(axis=1), lung.argmax(axis=1)
    start = np.where(shown.any(axis=1), start, shown.shape[1])
    met = (start > 0) & (first <= start)
    return first[met], lines[met]


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _significant(value: float) -> float:
    """Six digits, so that the smallest volume is no 0."""
    return float(f"{value:.6g}")
