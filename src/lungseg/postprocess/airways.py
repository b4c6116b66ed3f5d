"""Trachea and main bronchi, tracked from above on the coarse grid.

The trachea is the round dark tube that goes on through the slices near the body's middle; below its end a front grows wave
by wave into the main bronchi, and a branch whose front swells has broken out into the lung and is taken back (explosion
control: Mori 1996, Schlathoelter 2002). That lungs are freed of the large airways so is van Rikxoort 2009's and
van Ginneken 2008's way.
"""
# mypy: allow-untyped-calls

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungseg.postprocess.coarse import Blocks, Floats, Spacing

AIR_HU = -700.0  # the mean of a block
DARK_HU = -860.0  # the darkest block of a trachea is darker
LEAST_TUBE_MM2, MOST_TUBE_MM2 = 40.0, 700.0
LONGEST_SIDE = 2.4  # of a tube's box, in its short side
LEAST_FILLED = 0.5  # of its box
MOST_ASIDE = 0.18  # of the body's width, from its middle
DEPTHS = (0.15, 0.85)  # of the body, where a tube may lie
LEAST_LENGTH_MM = 25.0
BRONCHI_HU = (-700.0, -800.0, -880.0, -930.0)
BACK_MM = 45.0  # above the end of the chain of tubes, where growth starts
REACH_MM = 55.0  # beyond that end along the bronchi
ASIDE_MM = 60.0
MOST_FRONT_MM2 = 420.0
MOST_SWELLING = 1.7
MOST_BRONCHI_ML = 40.0


@dataclass(frozen=True)
class _Tube:
    z: int
    plane: Blocks  # (y, x)


def find_airways(hu: Floats, body: Blocks, spacing_mm: Spacing, most_ml: float = MOST_BRONCHI_ML) -> Blocks:
    """Trachea and main bronchi without their wall, (z, y, x); nothing where no tube of some length is seen.

    Args:
        hu: grey values (z, y, x).
        body: the body (z, y, x).
        most_ml: of both main bronchi; growth beyond it is taken back.
    """
    airways = np.zeros(hu.shape, bool)
    trachea = _trachea(hu, body, spacing_mm)
    for tube in trachea:
        airways[tube.z] |= tube.plane
    if trachea:
        # The chain may go on into one main bronchus; growth starts above, and finds the other one.
        start = trachea[max(0, len(trachea) - 1 - round(BACK_MM / spacing_mm[0]))]
        box = _around(start, hu.shape, spacing_mm)
        seed = np.zeros(hu.shape, bool)
        seed[start.z] = start.plane
        airways[box] |= _bronchi(hu[box], body[box], seed[box], airways[box], spacing_mm, most_ml)
    return airways


def _trachea(hu: Floats, body: Blocks, spacing_mm: Spacing) -> list[_Tube]:
    """The longest chain of tubes that overlap from slice to slice, from the head down."""
    chains: list[list[_Tube]] = []
    for z in range(len(hu) - 1, -1, -1):
        for plane in _tubes(hu[z], body[z], spacing_mm):
            above = [chain for chain in chains if chain[-1].z == z + 1 and (chain[-1].plane & plane).any()]
            tube = _Tube(z, plane)
            chains.append([*max(above, key=len), tube] if above else [tube])
    longest = max(chains, key=len, default=[])
    return longest if len(longest) * spacing_mm[0] >= LEAST_LENGTH_MM else []


def _tubes(plane: Floats, body: Blocks, spacing_mm: Spacing) -> list[Blocks]:
    """Round dark spots near the middle of a slice."""
    where = np.argwhere(body)
    if not len(where):
        return []
    (top, left), (bottom, right) = where.min(axis=0), where.max(axis=0)
    count, parts, stats, centres = cv2.connectedComponentsWithStats(((plane < AIR_HU) & body).view(np.uint8), connectivity=4)
    block_mm2 = spacing_mm[1] * spacing_mm[2]
    found = []
    for part in range(1, count):
        width, height, area = stats[part][2:5]
        sides = width * spacing_mm[2], height * spacing_mm[1]
        aside = abs(centres[part][0] - (left + right) / 2) / max(right - left, 1)
        depth = (centres[part][1] - top) / max(bottom - top, 1)
        if (
            LEAST_TUBE_MM2 <= area * block_mm2 <= MOST_TUBE_MM2
            and max(sides) <= LONGEST_SIDE * min(sides)
            and area >= LEAST_FILLED * width * height
            and aside <= MOST_ASIDE
            and DEPTHS[0] <= depth <= DEPTHS[1]
        ):
            own = parts == part
            if plane[own].min() < DARK_HU:
                found.append(own)
    return found


def _around(start: _Tube, shape: tuple[int, ...], spacing_mm: Spacing) -> tuple[slice, slice, slice]:
    """The box below and beside a tube that main bronchi stay in."""
    lowest = max(0, start.z - round((BACK_MM + REACH_MM) / spacing_mm[0]))
    sides = []
    for axis in (1, 2):
        middle = float(np.flatnonzero(start.plane.any(axis=2 - axis)).mean())
        reach = ASIDE_MM / spacing_mm[axis]
        sides.append(slice(max(0, round(middle - reach)), min(shape[axis], round(middle + reach) + 1)))
    return slice(lowest, start.z + 1), sides[0], sides[1]


def _bronchi(hu: Floats, body: Blocks, seed: Blocks, trachea: Blocks, spacing_mm: Spacing, most_ml: float) -> Blocks:
    """What grows from the seed: the most that a threshold gives and that stays within the limit."""
    block_ml = float(np.prod(spacing_mm)) / 1000
    best, most = trachea, 0
    for threshold in BRONCHI_HU:
        grown = _waves(seed, body & (hu < threshold), spacing_mm)
        gained = int(np.count_nonzero(grown & ~trachea))
        if most < gained <= most_ml / block_ml:
            best, most = grown, gained
    return best


def _waves(seed: Blocks, allowed: Blocks, spacing_mm: Spacing) -> Blocks:
    """A seed grown through what is allowed, wave by wave, each branch until its front swells."""
    step = min(spacing_mm)
    reach = round((BACK_MM + REACH_MM) / step)
    structure = ndimage.generate_binary_structure(3, 1)
    when = np.where(seed, 1, 0).astype(np.int16)  # the wave that reached a block
    closed = np.zeros(seed.shape, bool)
    first = float(np.count_nonzero(seed))
    fronts = [(seed, [first])]
    most = max(MOST_FRONT_MM2 * step / float(np.prod(spacing_mm)), MOST_SWELLING * first)
    for wave in range(2, reach + 2):
        following = []
        for front, sizes in fronts:
            new = _dilated(front, structure) & allowed & (when == 0) & ~closed
            parts, count = ndimage.label(new, np.ones((3, 3, 3)))
            for part in range(1, count + 1):
                own = parts == part
                size = float(np.count_nonzero(own))
                usual = float(np.median(sizes[-5:]))
                if size > most or (len(sizes) > 4 and size > MOST_SWELLING * usual + 4):
                    back = _dilated(own, structure, 3) & (when > max(1, wave - 3))
                    when[back] = 0
                    closed |= own | back
                else:
                    when[own] = wave
                    following.append((own, [*sizes, size]))
        fronts = following
        if not fronts:
            break
    return np.asarray(when > 0)


def _dilated(where: Blocks, structure: NDArray[np.bool_], times: int = 1) -> Blocks:
    """Dilation within the box that it can reach."""
    box = tuple(slice(max(0, s.start - times), s.stop + times) for s in ndimage.find_objects(where.astype(np.uint8))[0])
    out = np.zeros(where.shape, bool)
    out[box] = ndimage.binary_dilation(where[box], structure, iterations=times)
    return out
