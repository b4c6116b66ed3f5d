"""Bridges of the mask between two lungs: what is left near their cut when a ball somewhat thicker is rolled through them.

A morphological opening (Serra 1982) restores all that holds the ball. What it does not restore and what lies on the way from
lung to lung is a neck: a bridge that a network drew over the mediastinum, or the thin fronts of lungs that truly touch. Where
grey values are given, air is lung.
"""
# mypy: allow-untyped-calls

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungseg.postprocess.coarse import Blocks, Floats, Spacing, box_of

THICKEST_MM = 10.0  # of a bridge; lungs that touch over more are not parted by more than a cut
MORE_MM = 3.0  # the ball's radius beyond half the thickness at the cut, for a bridge is not even
SLACK_BLOCKS = 2  # on the way from lung to lung, over the shortest way in a slice
ROOT_BLOCKS = 4  # from a lung; so far it may taper to the thickness at the cut
MOST_SCRAP = 0.03  # of a lung, that a cut at one end of the bridge took from it
DENSE_HU = -500.0  # a block of lung is darker
IN_PLANE_OR_CORNER = np.array([[[0]], [[1]], [[0]]], bool) & np.ones((3, 3, 3), bool)
IN_PLANE = IN_PLANE_OR_CORNER & np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)


def drop_bridges(
    halves: NDArray[np.uint8], spacing_mm: Spacing, hu: Floats | None = None, thickest_mm: float = THICKEST_MM
) -> NDArray[np.uint8]:
    """Two lungs that were divided, 1 and 2 (z, y, x), without the bridges between them.

    What stays of a neck goes to the lung that is nearer, so that the cut lies in its middle wherever the division put it.

    Args:
        halves: the two lungs, that touch at the cut (z, y, x); 0 elsewhere.
        hu: grey values of the blocks; where given, only what is dense is a bridge.
        thickest_mm: the thickness of a bridge at most.
    """
    out = halves.copy()
    cuts, count = ndimage.label(cut_of(halves), np.ones((3, 3, 3)))
    if not count:
        return out
    padded = np.pad(halves, ((0, 0), (1, 1), (1, 1)))  # a lung may lie against the side of the volume
    depth = ndimage.distance_transform_edt(padded, sampling=spacing_mm)[:, 1:-1, 1:-1]
    bridges = np.zeros(halves.shape, bool)
    deepest_mm = _deepest(thickest_mm, max(spacing_mm[1:]))
    for cut_mm in np.unique(ndimage.maximum(depth, cuts, range(1, count + 1))):
        if cut_mm <= deepest_mm + max(spacing_mm[1:]) / 2:  # a cut at a root lies deeper than the bridge
            half_mm = min(cut_mm, deepest_mm)
            bridges |= _recut(out, depth, half_mm, min(half_mm + MORE_MM, deepest_mm), spacing_mm)
    out[bridges if hu is None else bridges & (hu > DENSE_HU)] = 0
    return out


def cut_of(halves: NDArray[np.uint8]) -> Blocks:
    """The blocks (z, y, x) of either lung that share a face with the other."""
    cut = np.zeros(halves.shape, bool)
    for axis in range(3):
        lower, upper = (tuple(slice(*ends) if a == axis else slice(None) for a in range(3)) for ends in ((None, -1), (1, None)))
        meet = (halves[lower] > 0) & (halves[upper] > 0) & (halves[lower] != halves[upper])
        cut[lower] |= meet
        cut[upper] |= meet
    return cut


def _recut(halves: NDArray[np.uint8], depth: NDArray[np.float64], half_mm: float, ball_mm: float, spacing_mm: Spacing) -> Blocks:
    """Move the cut to the middle of the necks, in place; the necks without their roots.

    A neck is what a ball does not restore and leads, within a slice, from one lung to the other.
    """
    bridges = np.zeros(halves.shape, bool)
    opened = _opened(depth, ball_mm, spacing_mm)
    lungs = _uncut(np.where(opened, halves, 0).astype(np.uint8))
    thin = (halves > 0) & ~opened
    parts, count = ndimage.label(thin, IN_PLANE)
    for half in (1, 2):
        thin &= np.isin(parts, np.unique(parts[thin & ndimage.binary_dilation(lungs == half, IN_PLANE)]))
    box = box_of(thin, (0, 1, 1))
    if box is None:
        return bridges
    thin, parts, depth = thin[box], parts[box], depth[box]
    steps = [_steps(lungs[box] == half, thin) for half in (1, 2)]
    ways = np.add(*steps)
    shortest = np.append(0, ndimage.minimum(ways, parts * thin, range(1, count + 1)))
    neck = thin & (ways <= shortest[parts] + SLACK_BLOCKS)
    near = np.minimum(*steps) <= ROOT_BLOCKS
    half_mm = float(depth[neck & ~near].max(initial=half_mm))
    bridges[box] = neck & ~(near & _opened(depth, half_mm, spacing_mm))
    halves[box][thin] = np.where(steps[0] <= steps[1], 1, 2)[thin]
    halves[opened] = lungs[opened]
    return bridges


def _deepest(thick_mm: float, block_mm: float) -> float:
    """The greatest depth in a bridge of this thickness, whose blocks are those filled by half, and a little for rounding."""
    return float(np.ceil(np.floor(thick_mm / block_mm + 1) / 2)) * block_mm + 0.1


def _opened(depth: NDArray[np.float64], ball_mm: float, spacing_mm: Spacing) -> Blocks:
    """What a ball restores that fits into the depth."""
    wide = depth > ball_mm
    return np.asarray(ndimage.distance_transform_edt(~wide, sampling=spacing_mm) <= ball_mm if wide.any() else wide)


def _uncut(lungs: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pieces of which the cut took a scrap, made whole; where lungs touch, the cut stays."""
    parts, count = ndimage.label(lungs > 0)
    blocks, second = np.bincount(parts.ravel(), minlength=count + 1), np.bincount(parts[lungs == 2], minlength=count + 1)
    share = second / np.maximum(blocks, 1)
    whole = np.where(share < MOST_SCRAP, 1, np.where(share > 1 - MOST_SCRAP, 2, 0)).astype(np.uint8)[parts]
    return np.where((lungs > 0) & (whole > 0), whole, lungs)


def _steps(start: Blocks, room: Blocks) -> NDArray[np.int32]:
    """How many blocks it is from a start through a room, slice by slice; far more than all blocks where no way leads."""
    steps = np.full(room.shape, room.size, np.int32)
    front, number = start, 0
    while front.any():
        number += 1
        front = ndimage.binary_dilation(front, IN_PLANE if number % 2 else IN_PLANE_OR_CORNER) & room & (steps == room.size)
        steps[front] = number
    return steps
