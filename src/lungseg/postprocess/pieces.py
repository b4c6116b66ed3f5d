"""Which pieces of a mask are lung, and of which side.

Two lungs are known by how they lie to each other, before any piece is dropped for its size; every other piece is then judged
by its size and by how far it lies from them.
"""
# mypy: allow-untyped-calls

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungseg.labels import LEFT, RIGHT
from lungseg.postprocess.coarse import BlockGrid, Blocks, Floats, Labels, box_of
from lungseg.postprocess.division import Part, are_beside, divide, parts_of
from lungseg.postprocess.necks import THICKEST_MM, drop_bridges

ACROSS = 0.65  # of the width of both lungs: a piece that reaches so far may be both of them
GAS_HU, GAS_BELOW_LUNG_HU = -930.0, 50.0  # a piece so dark, and so much darker than the lungs, is gas in the bowels
LOW = 0.4  # of the lungs' height: bowel and stomach lie no higher
LOW_GAS_HU, LOW_GAS_BELOW_LUNG_HU = -870.0, 40.0  # of the dark quarter
LEAST_ROOFED = 0.6  # of a piece's columns that have lung above and none below: it lies under the dome of the diaphragm
MOST_OUTSIDE = 0.8  # of a piece lies outside the body
PIECE_SHARE = 0.01  # of the lungs; a smaller piece is not worth counting
CORNER_BLOCKS = 1.8  # blocks that touch by a corner are no farther apart


@dataclass(frozen=True)
class Reach:
    """Which pieces besides the two lungs are kept: those of a certain size near to them, and large ones farther off."""

    smallest_ml: float = 1.0
    near_mm: float = 8.0
    far_mm: float = 45.0
    far_share: float = 0.05  # of all lung, that a piece beyond near_mm must have

    def least_ml(self, grid: BlockGrid) -> float:
        """The smallest volume; less in a few thin slices, which show a slice of a ball of that volume only."""
        diameter_mm = (6000 / np.pi * self.smallest_ml) ** (1 / 3)
        return self.smallest_ml * min(1.0, grid.shape[0] * grid.spacing_mm[0] / max(float(diameter_mm), 1e-9))


@dataclass(frozen=True)
class Scene:
    """What the grey values say, on the coarse grid: the mean of each block, the body, its middle column in blocks."""

    hu: Floats
    body: Blocks
    midline: float | None


@dataclass(frozen=True)
class Sorted:
    """What became of the pieces.

    Attributes:
        sides: of each block (z, y, x): 0 none or dropped, 1 right lung, 2 left lung.
        dropped_ml: volume of each piece that was dropped, the largest first.
        pieces: of the right and of the left lung that are kept, those of some size.
        divided: the lungs touched and were divided.
        bridge_ml: of the bridge between them, that was dropped.
        sure: the sides are known from two lungs or from the body's midline, not from the place in the picture.
    """

    sides: Labels
    dropped_ml: tuple[float, ...] = ()
    pieces: tuple[int, int] = (0, 0)
    divided: bool = False
    bridge_ml: float = 0.0
    sure: bool = True


def sort_pieces(
    mask: Blocks,
    grid: BlockGrid,
    scene: Scene | None = None,
    reach: Reach | None = None,
    touching: bool = True,
    bridge_mm: float = THICKEST_MM,
) -> Sorted:
    """The sides of the pieces of a mask (z, y, x), and which are dropped.

    Args:
        scene: what the grey values say; without it the lungs are told apart by how they lie to each other, and a single
            lung by its place in the picture.
        reach: which pieces are kept; None keeps all, each with the lung that is nearest.
        touching: divide lungs that touch.
        bridge_mm: the thickness at most of a bridge between them that is dropped; 0 keeps all.
    """
    numbered, _ = ndimage.label(mask)
    parts = parts_of(numbered)
    if not parts:
        return Sorted(np.zeros(mask.shape, np.uint8))
    midline = None if scene is None else scene.midline
    pair = _pair(parts, numbered, grid, scene)
    divided = touching and (pair is None or _reaches_across(*pair)) and _divide_largest(numbered, parts[0], grid, midline)
    bridge_ml = 0.0
    if divided:
        first, new = parts[0].number, int(numbered.max())
        parts = parts_of(numbered)
        one, two = (next(part for part in parts if part.number == number) for number in (first, new))
        pair = (one, two)
        if bridge_mm > 0:
            bridge_ml = _without_bridges(numbered, pair, grid, scene, bridge_mm)
    side_of = np.zeros(int(numbered.max()) + 1, np.uint8)
    if pair is not None:
        right, left = sorted(pair, key=lambda part: part.column)
        side_of[right.number], side_of[left.number] = RIGHT, LEFT
    else:
        middle = (mask.shape[2] - 1) / 2 if midline is None else midline
        side_of[parts[0].number] = RIGHT if parts[0].column < middle else LEFT
    others = [part for part in parts if not side_of[part.number]]
    if others:
        _place(others, side_of, numbered, grid, scene, reach)
    dropped = tuple(part.blocks * grid.block_ml for part in others if not side_of[part.number])
    blocks = sum(part.blocks for part in parts if side_of[part.number])
    large = [int(side_of[part.number]) for part in parts if part.blocks >= PIECE_SHARE * blocks]
    pieces = (large.count(RIGHT), large.count(LEFT))
    return Sorted(side_of[numbered], dropped, pieces, divided, bridge_ml, pair is not None or midline is not None)


def _pair(parts: list[Part], numbered: NDArray[np.integer], grid: BlockGrid, scene: Scene | None) -> tuple[Part, Part] | None:
    """The largest piece and the largest that lies beside it as the other lung does."""
    midline = None if scene is None else scene.midline
    for other in parts[1:8]:
        if are_beside(parts[0], other, grid.spacing_mm, midline):
            if scene is not None and _is_gas(numbered == other.number, numbered == parts[0].number, scene):
                continue
            return parts[0], other
    return None


def _reaches_across(a: Part, b: Part) -> bool:
    return a.x[1] - a.x[0] > ACROSS * (max(a.x[1], b.x[1]) - min(a.x[0], b.x[0]))


def _divide_largest(numbered: NDArray[np.integer], largest: Part, grid: BlockGrid, midline: float | None) -> bool:
    """Give one half of the largest piece a new number, in place, if it is two lungs."""
    where = ndimage.find_objects(numbered, max_label=largest.number)[largest.number - 1]
    within = None if midline is None else midline - where[2].start
    halves = divide(numbered[where] == largest.number, grid.spacing_mm, within)
    if halves is None:
        return False
    numbered[where][halves == 2] = numbered.max() + 1
    return True


def _without_bridges(
    numbered: NDArray[np.integer], pair: tuple[Part, Part], grid: BlockGrid, scene: Scene | None, bridge_mm: float
) -> float:
    """Take the bridges between two lungs out of the numbers, in place; their volume."""
    halves = np.where(numbered == pair[0].number, 1, np.where(numbered == pair[1].number, 2, 0)).astype(np.uint8)
    box = box_of(halves) or ()
    parted = drop_bridges(halves[box], grid.spacing_mm, None if scene is None else scene.hu[box], bridge_mm)
    both = halves[box] > 0
    numbered[box][both] = np.array([0, pair[0].number, pair[1].number], numbered.dtype)[parted[both]]
    return np.count_nonzero(both & (parted == 0)) * grid.block_ml


def _place(
    others: list[Part],
    side_of: Labels,
    numbered: NDArray[np.integer],
    grid: BlockGrid,
    scene: Scene | None,
    reach: Reach | None,
) -> None:
    """Give each other piece that is lung the side of the lung that is nearest, in place."""
    lungs = side_of[numbered]
    box = box_of(numbered) or ()
    own = lungs[box]
    distance, where = ndimage.distance_transform_edt(own == 0, sampling=grid.spacing_mm, return_indices=True)
    numbers = [part.number for part in others]
    gaps = ndimage.minimum(distance, numbered[box], numbers)
    spots = ndimage.minimum_position(distance, numbered[box], numbers)
    lung_blocks = int(np.count_nonzero(lungs))
    for part, gap, spot in zip(others, gaps, spots, strict=True):
        if reach is None or _is_lung(part, float(gap), lung_blocks, lungs, numbered, grid, scene, reach):
            side_of[part.number] = own[tuple(axis[spot] for axis in where)]


def _is_lung(
    part: Part,
    gap_mm: float,
    lung_blocks: int,
    lungs: Labels,
    numbered: NDArray[np.integer],
    grid: BlockGrid,
    scene: Scene | None,
    reach: Reach,
) -> bool:
    touches = gap_mm <= CORNER_BLOCKS * max(grid.spacing_mm)
    if part.blocks * grid.block_ml < reach.least_ml(grid):
        return touches
    if gap_mm > reach.far_mm or (gap_mm > reach.near_mm and part.blocks < reach.far_share * lung_blocks):
        return False
    own = numbered == part.number
    if scene is not None and (_is_gas(own, lungs > 0, scene) or np.count_nonzero(own & ~scene.body) > MOST_OUTSIDE * part.blocks):
        return False
    small = part.blocks < reach.far_share * lung_blocks  # a large piece may be emphysema
    if scene is not None and small and _is_low_gas(own, part, lungs > 0, scene):
        return False
    return gap_mm <= reach.near_mm or not _is_roofed(own, part, lungs)


def _is_gas(own: Blocks, lungs: Blocks, scene: Scene) -> bool:
    darkness = float(np.median(scene.hu[own]))
    return darkness < GAS_HU and darkness < float(np.median(scene.hu[lungs])) - GAS_BELOW_LUNG_HU


def _is_low_gas(own: Blocks, part: Part, lungs: Blocks, scene: Scene) -> bool:
    """Whether the dark quarter of a piece low in the chest is darker than the lungs' own: gas whose rim is half wall."""
    planes = np.flatnonzero(lungs.any(axis=(1, 2)))
    if (part.z[0] + part.z[1]) / 2 > planes[0] + LOW * (planes[-1] - planes[0]):
        return False
    core, lung = (float(np.percentile(scene.hu[where], 25)) for where in (own, lungs))
    return core < LOW_GAS_HU and core < lung - LOW_GAS_BELOW_LUNG_HU


def _is_roofed(own: Blocks, part: Part, lungs: Labels) -> bool:
    shadow = own.any(axis=0)
    above, below = (lungs[part.z[1] :] > 0).any(axis=0), (lungs[: part.z[0]] > 0).any(axis=0)
    return bool(np.count_nonzero(shadow & above & ~below) >= LEAST_ROOFED * np.count_nonzero(shadow))
