"""The true mask of a volume at the volume's own voxels, however the mask's file lies."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungseg.errors import UserError
from lungseg.imaging.readers import read
from lungseg.imaging.slices import DICOM_SUFFIXES, PLACED_SUFFIXES, read_mask, suffix_of, to_labels
from lungseg.imaging.volume import Grid, Volume
from lungseg.labels import LEFT, RIGHT

SIDES = (RIGHT, LEFT)
LOOKED_AT = 40  # points along an axis that tell how much of a volume a mask covers
ALL_BUT = 1e-3  # of a volume may lie beside its mask without a word
EDGE = 0.5 + 1e-3  # voxels around the outermost centres that belong to a grid


@dataclass(frozen=True)
class Truth:
    """The mask of a volume, in the volume's canonical order.

    Attributes:
        labels: (Z, H, W) of 0, 1 (lung) and 255 (ignored).
        stored: (Z, H, W) as the file has them.
        doubts: sentences about the mask, to be read after the volume's name.
    """

    labels: NDArray[np.uint8]
    stored: NDArray[Any]
    doubts: tuple[str, ...] = ()


def read_truth(
    mask: Path,
    volume: Volume,
    image: Path,
    lung_values: Collection[float] | None,
    ignore_values: Collection[float],
    option: str = "data.mask_values=[...]",
) -> Truth:
    """The mask in a file at the voxels of a volume: a mask of another orientation or on another grid is put there, by the
    nearest voxel; an array or a picture, which lies nowhere, must have the volume's canonical shape.

    Args:
        image: where the volume was read from, for sentences.
        lung_values, ignore_values, option: as of ``to_labels``; in a volume of 0, 1 and 2 both sides are lung.

    Raises:
        UserError: the mask cannot be read or is no mask, or it lies elsewhere than the volume.
    """
    grid = volume.canonical().grid
    given = read(mask).volume.canonical() if grid is not None and suffix_of(mask) in PLACED_SUFFIXES else None
    if grid is not None and given is not None and given.grid is not None:
        stored, doubts = _on(grid, given, given.grid, mask, image)
    else:
        stored, doubts = read_mask(mask), ()
    check_alike(mask, stored, image, volume.canonical().voxels)
    return Truth(labels_of(stored, mask, lung_values, ignore_values, option), stored, doubts)


def check_alike(mask: Path, stored: NDArray[Any], image: Path, voxels: NDArray[Any]) -> None:
    """Refuses a mask (Z, H, W) that has not the shape of its image.

    Raises:
        UserError: both sizes as a picture has them, columns first.
    """
    own, wanted = (" x ".join(map(str, shape[:0:-1] if shape[0] == 1 else shape[::-1])) for shape in (stored.shape, voxels.shape))
    if stored.shape != voxels.shape:
        remedy = "resize the former by nearest neighbour, or " if len(stored) == len(voxels) else ""
        raise UserError(f"{mask} has {own} pixels but {image} has {wanted}: {remedy}give the mask that belongs there.")


def labels_of(
    stored: NDArray[Any], mask: Path, lung_values: Collection[float] | None, ignore_values: Collection[float], option: str
) -> NDArray[np.uint8]:
    """What ``to_labels`` gives of the values of a mask (Z, H, W), where of 0, 1 and 2 both sides are lung."""
    held = np.unique([value for plane in stored for value in np.unique(plane)])  # not of all at once, which copies and sorts
    if lung_values is None and 0 in held and np.isin(held, (0, *SIDES)).all():
        lung_values = SIDES  # as masks of volumes are written here
    return to_labels(stored, mask, lung_values, ignore_values, option)


def _on(grid: Grid, given: Volume, own: Grid, mask: Path, image: Path) -> tuple[NDArray[Any], tuple[str, ...]]:
    if own.shape == grid.shape and not own.is_same(grid):
        raise UserError(
            f"{mask} has the shape of {image} but lies elsewhere: its header was lost or is another scan's; "
            "give it the header of the scan."
        )
    stored = given.on(grid, labels=True).voxels
    if given.voxels.any() and not stored.any():
        raise UserError(f"{mask} lies beside {image}: give the mask of this scan.")
    share = _covered(grid, own)
    if share >= 1 - ALL_BUT or suffix_of(mask) in DICOM_SUFFIXES:  # a DICOM-SEG leaves empty slices out
        return stored, ()
    return stored, (f"its mask covers {share:.0%} of it, and what lies beside the mask counts as free of lung",)


def _covered(grid: Grid, by: Grid) -> float:
    """The share of a grid that lies within another."""
    axes = (np.linspace(0, side - 1, min(side, LOOKED_AT)) for side in grid.shape)
    points = grid.point(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1))
    # The axes are at right angles, so that their transpose leads back.
    index = ((points - np.asarray(by.origin_mm)) @ by.axes.T) / by.spacing_mm
    return float(((index >= -EDGE) & (index <= np.asarray(by.shape) - 1 + EDGE)).all(axis=-1).mean())
