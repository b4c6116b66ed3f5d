"""A coarse grid of blocks of about 3 mm: decisions are taken on it and carried back to the fine mask, slice by slice.

Whatever the size of the scan, no second array of that size is made; the coarse arrays hold a few million values.
"""
# mypy: allow-untyped-calls

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungseg.labels import PADDING_HU

BLOCK_MM = 3.0
MOST_VOXELS = 2**12  # along a side of a block, whatever spacing a header claims
HIGHEST_HU = 1500.0  # metal would weigh too much in the mean of a block, and so would what is below padding

Blocks = NDArray[np.bool_]  # (z, y, x)
Labels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Spacing = tuple[float, float, float]  # z, y, x


@dataclass(frozen=True)
class BlockGrid:
    """Blocks of ``factors`` voxels along z, y, x; the last of an axis may hold fewer."""

    fine: tuple[int, int, int]
    factors: tuple[int, int, int]
    spacing_mm: Spacing  # of the blocks

    @staticmethod
    def of(shape: tuple[int, ...], spacing_mm: Spacing, block_mm: float = BLOCK_MM) -> "BlockGrid":
        """The grid of a volume (Z, H, W) whose voxels have this spacing."""
        z, y, x = shape
        fz, fy, fx = (max(1, round(min(block_mm / mm, MOST_VOXELS))) for mm in spacing_mm)
        return BlockGrid((z, y, x), (fz, fy, fx), (fz * spacing_mm[0], fy * spacing_mm[1], fx * spacing_mm[2]))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Blocks along z, y, x."""
        z, y, x = (-(-size // factor) for size, factor in zip(self.fine, self.factors, strict=True))
        return z, y, x

    @property
    def block_ml(self) -> float:
        """The volume of a block."""
        return float(np.prod(self.spacing_mm)) / 1000

    def slab(self, z: int) -> range:
        """Fine slices of a plane of blocks."""
        return range(z * self.factors[0], min((z + 1) * self.factors[0], self.fine[0]))


def shares(mask: NDArray[Any], grid: BlockGrid) -> Labels:
    """How much of each block is set, 0 to 255, (z, y, x); whatever is above 0 in the mask (Z, H, W) is set."""
    out = np.empty(grid.shape, np.uint8)
    for z in range(grid.shape[0]):
        planes = [_shrunk((mask[k] > 0).view(np.uint8) * np.uint8(255), grid) for k in grid.slab(z)]
        out[z] = np.mean(planes, axis=0).round()
    return out


def greys(voxels: NDArray[Any], grid: BlockGrid) -> Floats:
    """The mean of each block, (z, y, x), of grey values (Z, H, W) in HU of any type."""
    out = np.empty(grid.shape, np.float32)
    for z in range(grid.shape[0]):
        planes = [np.nan_to_num(voxels[k].astype(np.float32), nan=PADDING_HU).clip(PADDING_HU, HIGHEST_HU) for k in grid.slab(z)]
        out[z] = np.mean([_shrunk(plane, grid) for plane in planes], axis=0)
    return out


def nearest(decided: Labels, spacing_mm: Spacing, within_mm: float = 0.0) -> Labels:
    """The decision of each block (z, y, x) or of the nearest decided one (above 0), in the box around all that are decided.

    Args:
        within_mm: how far a decision reaches; 0 for any distance, within the box.
    """
    spread = np.zeros_like(decided)
    margins = tuple(int(np.ceil(within_mm / mm)) for mm in spacing_mm)
    box = box_of(decided, margins)
    if box is None:
        return spread
    own = decided[box]
    if within_mm:
        distance, where = ndimage.distance_transform_edt(own == 0, sampling=spacing_mm, return_indices=True)
        spread[box] = np.where(distance <= within_mm, own[tuple(where)], 0)
    else:
        where = ndimage.distance_transform_edt(own == 0, sampling=spacing_mm, return_distances=False, return_indices=True)
        spread[box] = own[tuple(where)]
    return spread


def box_of(where: NDArray[Any], margins: tuple[int, ...] = (0, 0, 0)) -> tuple[slice, ...] | None:
    """The box around all that is above 0, with margins in blocks; None where nothing is."""
    if not where.any():
        return None
    box = []
    for axis, margin in enumerate(margins):
        others = tuple(other for other in range(where.ndim) if other != axis)
        first, last = np.flatnonzero(where.any(axis=others))[[0, -1]]
        box.append(slice(max(0, first - margin), last + 1 + margin))
    return tuple(box)


def enlarged(plane: Labels, grid: BlockGrid) -> Labels:
    """A plane of blocks (y, x) as fine pixels (H, W)."""
    _, fy, fx = grid.factors
    return plane.repeat(fy, axis=0).repeat(fx, axis=1)[: grid.fine[1], : grid.fine[2]]


def paint(labels: Labels, decided: Labels, grid: BlockGrid) -> None:
    """Give each voxel above 0 (Z, H, W) the decision of its block (z, y, x), in place."""
    for z in range(grid.shape[0]):
        plane = enlarged(decided[z], grid)
        for k in grid.slab(z):
            np.multiply(labels[k] > 0, plane, out=labels[k])


def _shrunk(plane: NDArray[Any], grid: BlockGrid) -> NDArray[Any]:
    _, fy, fx = grid.factors
    _, y, x = grid.shape
    more = y * fy - plane.shape[0], x * fx - plane.shape[1]
    if any(more):
        plane = cv2.copyMakeBorder(plane, 0, more[0], 0, more[1], cv2.BORDER_REPLICATE)
    return np.asarray(cv2.resize(plane, (x, y), interpolation=cv2.INTER_AREA))
