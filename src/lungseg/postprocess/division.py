"""Lungs that grew together, as at the anterior junction line, are divided at the neck between them.

Rising distances from the mask's surface take thin bridges away until two parts are left that lie beside each other; from
these the rest is flooded (watershed from markers, Beucher and Meyer 1993). Hu 2001 divides at the same place by a path of
the least grey; here the mask alone decides.
"""
# mypy: allow-untyped-calls

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from lungseg.postprocess.coarse import Blocks, Spacing

EROSIONS_MM = (1.5, 3.0, 4.5, 6.0, 7.5, 9.0, 10.5, 12.0, 15.0, 18.0)
LEAST_APART = 0.35  # of the width across both: how far the middles of two lungs lie from each other
LEAST_ABREAST = 0.4  # of the height of the shorter that the other reaches along
LEAST_OF_OTHER = 0.05  # of the larger part is the smaller at least
MIDLINE_SLACK_MM = 15.0  # a lung's middle may lie so far beyond the midline


@dataclass(frozen=True)
class Part:
    """A piece of the mask: volume, the middle of its columns, first and last block along z and x.

    Attributes:
        column: mean index, in blocks.
    """

    number: int
    blocks: int
    column: float
    z: tuple[int, int]
    x: tuple[int, int]


def parts_of(numbered: NDArray[np.integer]) -> list[Part]:
    """The pieces (numbers above 0) of an array (z, y, x), the largest first."""
    sizes = np.bincount(numbered.ravel())
    found = []
    for number, where in enumerate(ndimage.find_objects(numbered), start=1):
        if where is None:
            continue
        columns = np.count_nonzero(numbered[where] == number, axis=(0, 1))
        middle = where[2].start + float(columns @ np.arange(len(columns))) / float(columns.sum())
        found.append(Part(number, int(sizes[number]), middle, (where[0].start, where[0].stop), (where[2].start, where[2].stop)))
    return sorted(found, key=lambda part: -part.blocks)


def are_beside(a: Part, b: Part, spacing_mm: Spacing, midline: float | None) -> bool:
    """Whether two parts lie as the two lungs of a patient do: beside each other, on the two sides of a midline (column)."""
    width = max(a.x[1], b.x[1]) - min(a.x[0], b.x[0])
    shared = min(a.z[1], b.z[1]) - max(a.z[0], b.z[0])
    right, left = sorted((a.column, b.column))
    slack = MIDLINE_SLACK_MM / spacing_mm[2]
    return (
        left - right >= LEAST_APART * width
        and shared >= LEAST_ABREAST * min(a.z[1] - a.z[0], b.z[1] - b.z[0])
        and min(a.blocks, b.blocks) >= LEAST_OF_OTHER * max(a.blocks, b.blocks)
        and (midline is None or right - slack < midline < left + slack)
    )


def divide(
    piece: Blocks, spacing_mm: Spacing, midline: float | None = None, erosions_mm: Sequence[float] = EROSIONS_MM
) -> NDArray[np.uint8] | None:
    """A connected piece (z, y, x) divided into two lungs: 1 and 2 by rising column; None where it is one.

    Args:
        midline: the body's middle column, in blocks, if known.
        erosions_mm: how deep the surface is taken off, one after the other.
    """
    depth = ndimage.distance_transform_edt(piece, sampling=spacing_mm).astype(np.float32)
    for erosion in erosions_mm:
        cores, count = ndimage.label(depth > erosion)
        if count == 0:
            return None
        found = [part for part in parts_of(cores) if part.blocks >= 8]
        pair = next(
            ((a, b) for i, a in enumerate(found[:4]) for b in found[i + 1 : 6] if are_beside(a, b, spacing_mm, midline)), None
        )
        if pair is not None:
            first, second = sorted(pair, key=lambda part: part.column)
            markers = np.where(cores == first.number, 1, np.where(cores == second.number, 2, 0)).astype(np.uint8)
            return _flooded(markers, depth, piece)
    return None


def _flooded(markers: NDArray[np.uint8], depth: NDArray[np.float32], piece: Blocks) -> NDArray[np.uint8]:
    """Markers (z, y, x) grown over the piece, the deepest blocks first."""
    relief, seeds = sitk.GetImageFromArray(-depth), sitk.GetImageFromArray(markers)
    flooded = sitk.MorphologicalWatershedFromMarkers(relief, seeds, markWatershedLine=False, fullyConnected=False)
    return np.asarray(np.where(piece, sitk.GetArrayViewFromImage(flooded), 0).astype(np.uint8))
