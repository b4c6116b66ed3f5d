"""What is wrong with a label volume that calls itself a right and a left lung, in sentences.

The geometry says which side is which (``pieces.sort_pieces``), and the labels are held against it; nothing is mended.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungseg.labels import LEFT, RIGHT
from lungseg.postprocess.coarse import BlockGrid, Labels, Spacing, enlarged, nearest, shares
from lungseg.postprocess.holes import find_holes
from lungseg.postprocess.pieces import Reach, Sorted, sort_pieces

ALL_EXCHANGED = 0.8  # of the lungs bears the other side's label
SLICE_EXCHANGED, LEAST_EXCHANGED_MM2 = 0.3, 150.0  # of the lungs in a slice, and so much of it
WIDTH_MM, HEIGHT_MM = (180.0, 380.0), (120.0, 420.0)  # of both lungs of an adult, with room to spare
NARROWING = -0.04  # lungs lie nearer to each other at the top, by a tenth of their distance at least
GRAVE_SHARE = 0.01  # of the lungs, in islands, in holes or under the other side's label
WORTH_SAYING_ML = 0.5


@dataclass(frozen=True)
class Fault:
    """Something wrong with a label volume.

    Attributes:
        kind: one word for tables: ``empty``, ``one_label``, ``one_lung``, ``values``, ``exchanged``, ``exchanged_slices``,
            ``islands``, ``holes``, ``touching``, ``size`` or ``upside_down``.
        sentence: for a person, to be read after the file's name.
        grave: the volume should not be used as it is.
        slices: those that it is about, if not all; counted from 0 at the feet.
    """

    kind: str
    sentence: str
    grave: bool = True
    slices: tuple[int, ...] = ()


def find_faults(labels: NDArray[Any], spacing_mm: Spacing, right: int = RIGHT, left: int = LEFT) -> tuple[Fault, ...]:
    """The faults of a label volume (Z, H, W), the grave ones first.

    Args:
        labels: slices run from the feet to the head, rows from front to back, columns from the patient's right to left.
        spacing_mm: z, y, x.
        right: the value that is to mean the patient's right lung.
        left: the value that is to mean the left one.
    """
    counts = _counts(labels)
    if not any(value > 0 for value in counts):
        return (Fault("empty", "it holds no lung"),)
    faults = []
    strange = sorted(value for value in counts if value > 0 and value not in (right, left))
    if strange:
        named = ", ".join(str(value) for value in strange[:5]) + (" ..." if len(strange) > 5 else "")
        faults.append(Fault("values", f"it holds values that are neither {right} (right) nor {left} (left): {named}"))
    grid = BlockGrid.of(labels.shape, spacing_mm)
    filled = shares(labels, grid)
    found = (filled >= 128) if (filled >= 128).any() else filled > 0
    lungs = sort_pieces(found, grid, reach=Reach())
    both = all(lungs.pieces)
    total_ml = sum(count for value, count in counts.items() if value > 0) * float(np.prod(spacing_mm)) / 1000
    if not both:
        faults.append(Fault("one_lung", "it holds one lung only", grave=False))
    elif right in counts and left in counts:
        faults += _exchanged(labels, lungs, grid, spacing_mm, right, left)
        faults += [Fault("touching", "the lungs touch each other", grave=False)] * lungs.divided
    else:
        faults.append(Fault("one_label", "both lungs bear one label"))
    islands_ml = sum(lungs.dropped_ml)
    if islands_ml >= WORTH_SAYING_ML:
        sentence = f"{_number(len(lungs.dropped_ml), 'island')} away from the lungs, {islands_ml:.1f} mL"
        faults.append(Fault("islands", sentence, islands_ml > GRAVE_SHARE * total_ml))
    holes = find_holes(labels, spacing_mm)
    if holes.volume_ml >= WORTH_SAYING_ML:
        sentence = f"{_number(holes.count, 'hole')} in the lungs, {holes.volume_ml:.1f} mL"
        faults.append(Fault("holes", sentence, holes.volume_ml > GRAVE_SHARE * total_ml))
    if both:
        faults += _size(lungs.sides, grid) + _upside_down(lungs.sides)
    return tuple(sorted(faults, key=lambda fault: not fault.grave))


def _counts(labels: NDArray[Any]) -> dict[int, int]:
    """How many voxels each value has."""
    counts: dict[int, int] = {}
    for plane in labels:
        values = np.bincount(plane.ravel()) if plane.dtype == np.uint8 else None
        pairs = zip(*np.unique(plane, return_counts=True), strict=True) if values is None else enumerate(values)
        for value, count in pairs:
            if count:
                counts[int(value)] = counts.get(int(value), 0) + int(count)
    return counts


def _exchanged(labels: NDArray[Any], lungs: Sorted, grid: BlockGrid, spacing_mm: Spacing, right: int, left: int) -> list[Fault]:
    sides = nearest(lungs.sides, grid.spacing_mm)
    wrong, lung = np.zeros(len(labels)), np.zeros(len(labels))
    for z, plane in enumerate(labels):
        side = enlarged(sides[z // grid.factors[0]], grid)
        is_right, is_left = plane == right, plane == left
        lung[z] = np.count_nonzero(is_right) + np.count_nonzero(is_left)
        wrong[z] = np.count_nonzero(is_right & (side == LEFT)) + np.count_nonzero(is_left & (side == RIGHT))
    if wrong.sum() > ALL_EXCHANGED * lung.sum():
        return [Fault("exchanged", f"left and right are exchanged: {right} lies on the patient's left")]
    pixel_mm2 = spacing_mm[1] * spacing_mm[2]
    bad = np.flatnonzero((wrong > SLICE_EXCHANGED * lung) & (wrong * pixel_mm2 >= LEAST_EXCHANGED_MM2))
    if not len(bad):
        return []
    share = wrong.sum() / lung.sum()
    sentence = (
        f"left and right are exchanged, wholly or in part, in {_number(len(bad), 'slice')} of {len(labels)} "
        f"({_runs(bad)}, counted from 0 at the feet), {share:.1%} of the lungs"
    )
    return [Fault("exchanged_slices", sentence, bool(share > GRAVE_SHARE), tuple(int(z) for z in bad))]


def _size(sides: Labels, grid: BlockGrid) -> list[Fault]:
    """Both lungs together against an adult's; a height that an end of the volume cuts is not judged."""
    planes, columns = np.flatnonzero(sides.any(axis=(1, 2))), np.flatnonzero(sides.any(axis=(0, 1)))
    width, height = (int(np.ptp(where) + 1) * mm for where, mm in ((columns, grid.spacing_mm[2]), (planes, grid.spacing_mm[0])))
    faults = []
    cut_across = columns[0] == 0 or columns[-1] == sides.shape[2] - 1
    cut_along = planes[0] == 0 or planes[-1] == sides.shape[0] - 1
    for size, (least, most), name, cut, spacing in (
        (width, WIDTH_MM, "wide", cut_across, "pixel size"),
        (height, HEIGHT_MM, "high", cut_along, "slice spacing"),
    ):
        if size > most or (size < least and not cut):
            sentence = f"both lungs are {size:.0f} mm {name}, an adult's {least:.0f} to {most:.0f}: a child, or a wrong {spacing}"
            faults.append(Fault("size", sentence))
    return faults


def _upside_down(sides: Labels) -> list[Fault]:
    """The middles of the lungs lie nearer to each other at the apices than at the bases."""
    columns = np.arange(sides.shape[2])
    right, left = ((sides == side).sum(axis=1) for side in (RIGHT, LEFT))  # (z, x)
    planes = np.flatnonzero(right.any(axis=1) & left.any(axis=1))
    if len(planes) < 6:
        return []
    apart = left[planes] @ columns / left[planes].sum(axis=1) - right[planes] @ columns / right[planes].sum(axis=1)
    third = len(planes) // 3
    if (apart[:third].mean() - apart[-third:].mean()) / apart.mean() > NARROWING:
        return []
    return [Fault("upside_down", "the apices of the lungs lie below their bases: the order of the slices is reversed")]


def _number(count: int, name: str) -> str:
    return f"{count} {name}" if count == 1 else f"{count} {name}s"


def _runs(numbers: NDArray[np.integer]) -> str:
    """3-5, 8, 10-11."""
    groups = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    return ", ".join(str(group[0]) if len(group) == 1 else f"{group[0]}-{group[-1]}" for group in groups)
