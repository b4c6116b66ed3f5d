"""Holes in a label volume, found exactly at full resolution with the memory of a few slices.

The background of each slice is labelled in two dimensions; what overlaps from slice to slice is linked in a union-find
(Hoshen and Kopelman 1976). A hole is linked neither to the border of a slice nor out of the ends of the volume, so that a
dome of the diaphragm, closed in its slices and open below, stays open.
"""
# mypy: allow-untyped-calls

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lungseg.postprocess.coarse import BlockGrid, Labels, Spacing, enlarged

END_HOLE_MM2 = 300.0

OPEN = 0  # the node of all that is open


@dataclass(frozen=True)
class Holes:
    """What was found or filled.

    Attributes:
        count: of holes, each counted once however many slices it crosses.
        volume_ml: of all of them.
    """

    count: int
    volume_ml: float


def fill_holes(labels: Labels, sides: Labels, grid: BlockGrid, spacing_mm: Spacing, end_hole_mm2: float = END_HOLE_MM2) -> Holes:
    """Fill the holes of labels (Z, H, W), in place.

    Args:
        sides: the label for each block (z, y, x) of the grid, to fill with.
        spacing_mm: of the voxels.
        end_hole_mm2: in the first and the last slice nobody sees how it goes on; there a gap up to this area is no way out.
    """
    return _holes(labels, spacing_mm, end_hole_mm2, (sides, grid))


def find_holes(labels: NDArray[Any], spacing_mm: Spacing, end_hole_mm2: float = END_HOLE_MM2) -> Holes:
    """Count the holes of labels (Z, H, W) and leave them."""
    return _holes(labels, spacing_mm, end_hole_mm2, None)


def _holes(labels: NDArray[Any], spacing_mm: Spacing, end_hole_mm2: float, filling: tuple[Labels, BlockGrid] | None) -> Holes:
    box = _box(labels)
    if box is None:
        return Holes(0, 0.0)
    rows, columns = box
    links = _Links()
    first = np.zeros(len(labels) + 1, np.int64)  # node of a slice's first gap
    before = np.zeros((0, 0), np.int32)
    pixel_mm2 = spacing_mm[1] * spacing_mm[2]
    for z, plane in enumerate(labels):
        gaps, areas = _gaps(plane[rows, columns])
        first[z + 1] = first[z] + len(areas)
        links.add(len(areas))
        if z in (0, len(labels) - 1):
            for gap in np.flatnonzero(areas * pixel_mm2 > end_hole_mm2):
                links.join(OPEN, int(first[z] + gap + 1))
        if z > 0:
            for upper, lower in _overlaps(gaps, before):
                links.join(int(first[z] + upper) if upper else OPEN, int(first[z - 1] + lower) if lower else OPEN)
        before = gaps
    pixels, found = 0, set()
    for z in range(len(labels)):
        holes = [gap for gap in range(1, int(first[z + 1] - first[z]) + 1) if links.root(int(first[z] + gap)) != OPEN]
        if holes:
            gaps, areas = _gaps(labels[z][rows, columns])
            pixels += int(areas[np.asarray(holes) - 1].sum())
            found |= {links.root(int(first[z] + gap)) for gap in holes}
            if filling is not None:
                sides, grid = filling
                value = enlarged(sides[z // grid.factors[0]], grid)[rows, columns]
                chosen = np.isin(gaps, holes)
                labels[z][rows, columns][chosen] = value[chosen]
    return Holes(len(found), pixels * float(np.prod(spacing_mm)) / 1000)


class _Links:
    """Union-find over gaps; the root of a group is its lowest node, so that what is open has the root ``OPEN``."""

    def __init__(self) -> None:
        self.above = [OPEN]

    def add(self, count: int) -> None:
        self.above += range(len(self.above), len(self.above) + count)

    def root(self, node: int) -> int:
        while self.above[node] != node:
            self.above[node] = self.above[self.above[node]]
            node = self.above[node]
        return node

    def join(self, a: int, b: int) -> None:
        low, high = sorted((self.root(a), self.root(b)))
        self.above[high] = low


def _box(labels: NDArray[Any]) -> tuple[slice, slice] | None:
    """Rows and columns that hold anything, and one more around."""
    _, height, width = labels.shape
    rows, columns = np.zeros(height, bool), np.zeros(width, bool)
    for plane in labels:
        rows |= plane.any(axis=1)
        columns |= plane.any(axis=0)
    if not rows.any():
        return None
    (top, bottom), (left, right) = np.flatnonzero(rows)[[0, -1]], np.flatnonzero(columns)[[0, -1]]
    return slice(max(0, top - 1), bottom + 2), slice(max(0, left - 1), right + 2)


def _gaps(plane: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Background that the mask encloses in a slice, numbered from 1, background at the border 0, mask -1; and the areas."""
    background = (plane == 0).view(np.uint8)
    count, parts, stats, _ = cv2.connectedComponentsWithStats(background, connectivity=4, ltype=cv2.CV_32S)
    edge = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    is_open = np.zeros(count, bool)
    is_open[edge] = True
    closed = ~is_open
    closed[0] = False  # the mask
    number = np.cumsum(closed) * closed
    number[0] = -1
    return number.astype(np.int32)[parts], stats[closed, cv2.CC_STAT_AREA].astype(np.int64)


def _overlaps(upper: NDArray[np.int32], lower: NDArray[np.int32]) -> list[tuple[int, int]]:
    """Pairs of numbers of gaps that lie on one another, at least one of each pair enclosed."""
    where = np.flatnonzero(((upper > 0) & (lower >= 0)) | ((lower > 0) & (upper >= 0)))
    if not len(where):
        return []
    pairs = np.unique(upper.ravel()[where].astype(np.int64) << 32 | lower.ravel()[where].astype(np.int64))
    return [(int(pair >> 32), int(pair & 0xFFFFFFFF)) for pair in pairs]
