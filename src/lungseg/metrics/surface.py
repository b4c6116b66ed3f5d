"""How far the surface of a predicted mask lies from the true one: HD95, ASSD and normalised surface Dice.

Each element of a surface counts by its area (Nikolov et al. 2018, arXiv 1809.04430; ``metrics.elements``), so that a figure
does not depend on how many voxels a piece of surface happens to cross.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from lungseg.metrics.elements import surface_elements

SHARE = 0.95  # of the area, in HD95
SLACK = 1e-9  # relative: sums and roots that should be equal differ by some 1e-15, by the order of their terms


@dataclass(frozen=True)
class SurfaceScores:
    """How two surfaces lie to each other.

    Attributes:
        hd95: the distance within which 95 % of a surface's area lies from the other surface; the larger of both directions.
        assd: mean distance of an element of either surface from the other one, weighted by area.
        nsd: share of the area of both surfaces within the tolerance of the other one, 0..1 (normalised surface Dice).
    """

    hd95: float
    assd: float
    nsd: float


def surface_scores(
    prediction: NDArray[np.bool_], truth: NDArray[np.bool_], spacing: Sequence[float], tolerance: float
) -> SurfaceScores:
    """Surface metrics of two masks, (H, W) or (Z, H, W); what lies beyond the field of view is background.

    Distances are between the corners of voxels, in the unit of the spacing. A mask that is empty has no surface: beside
    one that is not, both distances are the diagonal of the field of view and nsd is 0; where both are empty, all is nan.

    Args:
        spacing: of the axes, in the order of the arrays.
        tolerance: at or below which a distance counts as none, in the unit of the spacing.

    Raises:
        ValueError: the shapes differ, or the spacing has another number of axes.
    """
    if prediction.shape != truth.shape or len(spacing) != truth.ndim or truth.ndim not in (2, 3):
        raise ValueError(f"masks of shapes {prediction.shape} and {truth.shape} and a spacing of {len(spacing)} axes do not fit")
    some = prediction.any(), truth.any()
    if not any(some):
        return SurfaceScores(np.nan, np.nan, np.nan)
    if not all(some):
        diagonal = float(np.linalg.norm(np.multiply(truth.shape, spacing)))
        return SurfaceScores(diagonal, diagonal, 0.0)
    box = _box(prediction | truth)
    (here, areas), (there, true_areas) = (surface_elements(mask[box], spacing) for mask in (prediction, truth))
    steps = np.array([1.0, *spacing][-3:])
    both = [(_distances(here, there, steps), areas), (_distances(there, here, steps), true_areas)]
    area = sum(float(areas.sum()) for _, areas in both)
    return SurfaceScores(
        hd95=max(_percentile(distances, areas) for distances, areas in both),
        assd=sum(float(distances @ areas) for distances, areas in both) / area,
        nsd=sum(float(areas[distances <= tolerance * (1 + SLACK)].sum()) for distances, areas in both) / area,
    )


def _box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """The least box that holds a mask."""
    box = []
    for axis in range(mask.ndim):
        there = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        box.append(slice(int(there[0]), int(there[-1]) + 1))
    return tuple(box)


def _distances(here: NDArray[np.bool_], there: NDArray[np.bool_], spacing: NDArray[np.float64]) -> NDArray[np.float64]:
    """From each corner of one surface to the nearest of another, in the order of ``here[here]``."""
    apart = here & ~there  # the others have distance 0, most of them where masks are alike
    distances = np.zeros(np.count_nonzero(here))
    if apart.any():
        # A distance transform and no search tree: noise and distant masks, which make a tree slow, cost it nothing more.
        # It gives places and not distances: half the time, a fifth of the memory (12 bytes a corner).
        nearest = distance_transform_edt(~there, sampling=spacing, return_distances=False, return_indices=True)
        steps = np.argwhere(apart) - nearest[:, apart].T
        distances[apart[here]] = np.linalg.norm(steps * spacing, axis=1)
    return distances


def _percentile(distances: NDArray[np.float64], areas: NDArray[np.float64]) -> float:
    """The least distance at or below which 95 % of the area lies."""
    order = np.argsort(distances)
    covered = np.cumsum(areas[order])
    return float(distances[order[np.searchsorted(covered, covered[-1] * SHARE * (1 - SLACK))]])
