"""A DICOM series as one volume: pictures stacked, gaps interpolated if asked for, a tilted gantry set upright."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungseg.errors import UserError
from lungseg.imaging.limits import MAX_VOXELS, check_size
from lungseg.imaging.series import Series, folder_of, pictures_of
from lungseg.imaging.volume import Grid

TILTED_PIXELS = 0.5  # that a series drifts sideways in all; what is less is rounding, and no slice is interpolated for it
MOST_MISSING_MM = 30.0  # of a scan in one place are interpolated at most


def load(series: Series, allow_gaps: bool = False) -> tuple[NDArray[Any], Grid, tuple[str, ...]]:
    """The voxels (Z, Y, X) of a series, rising along its normal, their grid, and what was done to get there.

    Values are int16 where that is exact. A tilted gantry is corrected: every slice is shifted within its own plane until the
    planes stand upright over each other.

    Args:
        allow_gaps: missing slices and uneven steps are interpolated linearly.

    Raises:
        UserError: a file cannot be read, or the slices are no regular volume.
    """
    if not series.can_be_read(allow_gaps):
        raise UserError(f"{folder_of(series)}: {series.fault}.")
    first, heights = series.first, series.heights_mm
    step = series.spacing_mm[0]
    count = series.slices if not series.is_gap else round((heights[-1] - heights[0]) / step) + 1
    even = (heights[-1] - heights[0]) / (count - 1) if count > 1 else step
    remarks = list(series.remarks)
    check_size(folder_of(series), count * first.rows * first.columns, MAX_VOXELS)
    if series.is_gap and np.diff(heights).max() > max(MOST_MISSING_MM, 1.5 * step):
        raise UserError(
            f"{folder_of(series)}: {np.diff(heights).max():.3g} mm of the scan are missing in one place, more than the "
            f"{MOST_MISSING_MM:g} mm that are interpolated: copy the series again."
        )
    if series.is_gap:
        remarks.append(f"{series.fault.partition(':')[0]}: interpolated to {count} slices {even:.3g} mm apart")
    drift = _drift(series)
    pixels = _stacked(series, count)
    grid = Grid(
        pixels.shape,
        (float(even) or 1.0, *(first.pixel_mm or (1.0, 1.0))),
        first.position_mm or (0.0, 0.0, 0.0),
        series.direction,
    )
    if np.abs(drift * (heights[-1] - heights[0]) / grid.spacing_mm[1:]).max() > TILTED_PIXELS:
        angle = np.degrees(np.arctan(np.linalg.norm(drift)))
        remarks.append(f"the gantry was tilted by {angle:.1f} degrees: corrected")
        pixels, grid = _upright(folder_of(series), pixels, grid, drift)
    return pixels, grid, tuple(remarks)


def _drift(series: Series) -> NDArray[np.float64]:
    """By how many mm along columns (y) and rows (x) of the slices each mm along their normal moves them."""
    if series.slices < 2:
        return np.zeros(2)
    row, column = np.array(series.first.orientation).reshape(2, 3)
    moved = series.frames[-1].place - series.first.place
    return np.array([moved @ column, moved @ row]) / (moved @ series.first.normal)


def _stacked(series: Series, count: int) -> NDArray[Any]:
    """The pictures at ``count`` even heights; where each picture has its own place they are exactly what is in the files."""
    first = series.first
    voxels = np.empty((count, first.rows, first.columns), dtype=np.int16)
    if count == series.slices and not series.is_gap:
        for z, picture in pictures_of(series.frames):
            voxels = _with_room_for(picture, voxels)
            voxels[z] = picture
        return voxels
    given = _stacked(replace(series, is_gap=False), series.slices)
    if given.dtype != np.int16:
        voxels = voxels.astype(given.dtype)
    heights = series.heights_mm
    places = np.linspace(heights[0], heights[-1], count)
    below = np.clip(np.searchsorted(heights, places, side="right") - 1, 0, len(heights) - 2)
    share = (places - heights[below]) / (heights[below + 1] - heights[below])
    for z, (lower, part) in enumerate(zip(below, share, strict=True)):
        mixed = given[lower] * np.float32(1 - part) + given[lower + 1] * np.float32(part)
        voxels[z] = np.rint(mixed) if voxels.dtype == np.int16 else mixed
    return voxels


def _with_room_for(picture: NDArray[Any], voxels: NDArray[Any]) -> NDArray[Any]:
    """The voxels in a type that holds the picture's values."""
    if voxels.dtype == np.float32 or picture.dtype == np.int16:
        return voxels
    return voxels if np.abs(picture).max() < 2**15 and (picture == np.rint(picture)).all() else voxels.astype(np.float32)


def _upright(path: Path, voxels: NDArray[Any], grid: Grid, drift: NDArray[np.float64]) -> tuple[NDArray[Any], Grid]:
    """Slices (Z, Y, X) that drift sideways on a grid whose axes are at right angles, wide enough for all of them.

    Each is shifted within its own plane by linear interpolation; what lies outside of it gets the lowest value.
    """
    count, rows, columns = voxels.shape
    shifts = np.outer(np.arange(count) * grid.spacing_mm[0], drift) / grid.spacing_mm[1:]  # in pixels, y and x
    shifts = np.round(shifts, 6)
    least = np.floor(shifts.min(axis=0))
    more = np.ceil(shifts.max(axis=0) - least).astype(int)
    air = float(voxels.min())
    check_size(path, count * (rows + int(more[0])) * (columns + int(more[1])), MAX_VOXELS)
    upright = np.full((count, rows + more[0], columns + more[1]), air, dtype=voxels.dtype)
    for z, picture in enumerate(voxels):
        down, across = shifts[z] - least
        moved = _moved(picture.astype(np.float32), float(down), float(across), air)
        upright[z, : moved.shape[0], : moved.shape[1]] = np.rint(moved) if voxels.dtype == np.int16 else moved
    wide = replace(grid, shape=(count, rows + int(more[0]), columns + int(more[1])))
    return upright, replace(wide, origin_mm=tuple(wide.point((0, *least)).tolist()))


def _moved(picture: NDArray[np.float32], down: float, across: float, air: float) -> NDArray[np.float32]:
    """A picture moved by a part of a pixel or more, by linear interpolation; what lies outside of it is air."""
    for axis, by in ((0, down), (1, across)):
        whole = int(np.floor(by))
        part = np.float32(by - whole)
        edges = [(whole, int(part > 0)) if axis == own else (0, 0) for own in (0, 1)]
        wide = np.pad(picture, edges, constant_values=air)
        picture = wide * (1 - part) + np.roll(wide, 1, axis) * part if part else wide
    return picture
