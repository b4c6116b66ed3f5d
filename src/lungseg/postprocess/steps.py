"""From a mask of both lungs to a right and a left lung: airways out, lungs parted, islands dropped, holes filled."""
# mypy: allow-untyped-calls

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungseg.errors import UserError
from lungseg.labels import LEFT, RIGHT
from lungseg.postprocess.airways import MOST_BRONCHI_ML, find_airways
from lungseg.postprocess.coarse import BlockGrid, Blocks, Labels, Spacing, greys, nearest, paint, shares
from lungseg.postprocess.holes import END_HOLE_MM2, fill_holes
from lungseg.postprocess.midline import bodies, midline
from lungseg.postprocess.necks import THICKEST_MM
from lungseg.postprocess.pieces import Reach, Scene, Sorted, sort_pieces

DROPPED, AIRWAY = 3, 4  # decisions beside the two sides
WITHIN_BLOCKS = 2.0  # a voxel takes the decision of a block so near
WORTH_SAYING_ML = 1.0
NAMES = {RIGHT: "right", LEFT: "left"}


@dataclass(frozen=True)
class Postprocess:
    """Which steps are taken, and their limits.

    Attributes:
        airways: trachea and main bronchi are taken out; needs grey values.
        touching: lungs that grew together are divided.
        pieces: what lies away from the lungs is dropped.
        holes: holes are filled.
        bridge_mm: thickness up to which what joins lungs that grew together is dropped; 0 only divides it.
        bronchi_ml: volume of both main bronchi at most; growth beyond it is taken for a leak into the lung.
        smallest_ml: volume of a piece beside the lungs that is kept, if it lies within near_mm.
        near_mm: gap to a lung.
        far_mm: gap up to which a large piece is kept, such as a lobe cut off by fluid.
        far_share: share of all lung that such a piece has.
        end_hole_mm2: area up to which a gap in the first or last slice counts as closed.
    """

    airways: bool = True
    touching: bool = True
    pieces: bool = True
    holes: bool = True
    bridge_mm: float = THICKEST_MM
    bronchi_ml: float = MOST_BRONCHI_ML
    smallest_ml: float = Reach.smallest_ml
    near_mm: float = Reach.near_mm
    far_mm: float = Reach.far_mm
    far_share: float = Reach.far_share
    end_hole_mm2: float = END_HOLE_MM2

    def __post_init__(self) -> None:
        for name in ("bridge_mm", "bronchi_ml", "smallest_ml", "near_mm", "far_mm", "far_share", "end_hole_mm2"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise UserError(f"postprocess.{name} must be a number of at least 0, not {value}.")
        if self.far_share > 1:
            raise UserError(f"postprocess.far_share is a share of the lungs, 0 to 1, not {self.far_share}.")
        if self.far_mm < self.near_mm:
            raise UserError(f"postprocess.far_mm ({self.far_mm}) must not be below postprocess.near_mm ({self.near_mm}).")


@dataclass(frozen=True)
class Lungs:
    """Two lungs, and what was done to get them.

    Attributes:
        labels: (Z, H, W): 0 none, 1 right lung, 2 left lung, the patient's sides.
        remarks: sentences for the user.
        airways_ml: taken out of the mask, with the wall.
        dropped_ml: of pieces away from the lungs.
        filled_ml: of holes.
        divided: the lungs touched.
        bridge_ml: of the bridge between them.
    """

    labels: Labels
    remarks: tuple[str, ...] = ()
    airways_ml: float = 0.0
    dropped_ml: float = 0.0
    filled_ml: float = 0.0
    divided: bool = False
    bridge_ml: float = 0.0


def separate(
    mask: NDArray[Any],
    spacing_mm: Spacing,
    voxels: NDArray[Any] | None = None,
    settings: Postprocess | None = None,
    in_place: bool = False,
) -> Lungs:
    """The right and the left lung of a mask.

    Args:
        mask: (Z, H, W), whatever is above 0 is lung; slices run from the feet to the head, rows from front to back, columns
            from the patient's right to the patient's left.
        spacing_mm: z, y, x.
        voxels: (Z, H, W) grey values in HU, of any type; without them airways stay in, and a single lung gets its side
            by its place in the picture.
        settings: by default every step.
        in_place: work in the mask itself (uint8), which then holds the labels; no copy is made.

    Raises:
        UserError: the shapes differ, or the spacing is not positive.
    """
    settings = settings or Postprocess()
    _check(mask, spacing_mm, voxels)
    if in_place and mask.dtype != np.uint8:
        raise TypeError(f"only a mask of type uint8 can take the labels in place, not {mask.dtype}")
    labels = mask if in_place else (mask > 0).view(np.uint8)
    grid = BlockGrid.of(labels.shape, spacing_mm)
    filled = shares(labels, grid)
    found = (filled >= 128) if (filled >= 128).any() else filled > 0
    scene, airways = None, np.zeros(grid.shape, bool)
    if voxels is not None:
        hu = greys(voxels, grid)
        body = bodies(hu)
        scene = Scene(hu, body, midline(hu, body, grid.spacing_mm))
        if settings.airways:
            airways = ndimage.binary_dilation(find_airways(hu, body, grid.spacing_mm, settings.bronchi_ml))
    reach = Reach(settings.smallest_ml, settings.near_mm, settings.far_mm, settings.far_share) if settings.pieces else None
    lungs = sort_pieces(found & ~airways, grid, scene, reach, settings.touching, settings.bridge_mm)
    paint(labels, _decided(found, lungs.sides, airways, grid, settings.pieces), grid)
    airways_ml = float(filled[airways].sum()) / 255 * grid.block_ml
    filled_ml = 0.0
    if settings.holes and lungs.sides.any():
        filled_ml = fill_holes(labels, nearest(lungs.sides, grid.spacing_mm), grid, spacing_mm, settings.end_hole_mm2).volume_ml
    return Lungs(
        labels, _remarks(lungs, airways_ml, filled_ml), airways_ml, sum(lungs.dropped_ml), filled_ml, lungs.divided, lungs.bridge_ml
    )


def _check(mask: NDArray[Any], spacing_mm: Spacing, voxels: NDArray[Any] | None) -> None:
    if mask.ndim != 3:
        raise UserError(f"a lung mask has three axes (slices, rows, columns), this one has {mask.ndim}.")
    if voxels is not None and voxels.shape != mask.shape:
        raise UserError(f"a mask of shape {mask.shape} does not lie on an image of shape {voxels.shape}.")
    if not all(np.isfinite(mm) and mm > 0 for mm in spacing_mm):
        raise UserError(f"voxels of {spacing_mm} mm (z, y, x) have no size; correct the spacing in the file's header.")


def _decided(found: Blocks, sides: Labels, airways: Blocks, grid: BlockGrid, pieces: bool) -> Labels:
    """The side of each block and of those near it; 0 for what is taken out."""
    decided = np.where(found, DROPPED, 0).astype(np.uint8)
    decided[sides > 0] = sides[sides > 0]
    decided[airways] = AIRWAY
    anywhere = float(np.dot(grid.shape, grid.spacing_mm))
    spread = nearest(decided, grid.spacing_mm, WITHIN_BLOCKS * max(grid.spacing_mm) if pieces else anywhere)
    spread[spread > LEFT] = 0
    return spread


def _remarks(lungs: Sorted, airways_ml: float, filled_ml: float) -> tuple[str, ...]:
    said = []
    present = [side for side in (RIGHT, LEFT) if lungs.pieces[side - 1]]
    if not present:
        said.append("no lung was found")
    elif len(present) == 1:
        how = "" if lungs.sure else ", taken for it by its place in the picture"
        said.append(f"one lung only was found, the patient's {NAMES[present[0]]} lung{how}")
    if lungs.divided:
        said.append("the lungs touched and were divided")
    if lungs.bridge_ml >= WORTH_SAYING_ML:
        said.append(f"a bridge of {lungs.bridge_ml:.0f} mL between the lungs was dropped")
    said += [f"the {NAMES[side]} lung lies in {lungs.pieces[side - 1]} pieces" for side in present if lungs.pieces[side - 1] > 1]
    if airways_ml >= WORTH_SAYING_ML:
        said.append(f"airways of {airways_ml:.0f} mL were taken out")
    if sum(lungs.dropped_ml) >= WORTH_SAYING_ML:
        count = len(lungs.dropped_ml)
        said.append(
            f"{count} {'piece' if count == 1 else 'pieces'} away from the lungs, {sum(lungs.dropped_ml):.0f} mL, "
            f"{'was' if count == 1 else 'were'} dropped"
        )
    if filled_ml >= WORTH_SAYING_ML:
        said.append(f"holes of {filled_ml:.0f} mL were filled")
    return tuple(said)
