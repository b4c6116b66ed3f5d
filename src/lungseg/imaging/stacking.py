"""A DICOM series as one volume: pictures stacked, gaps interpolated if asked for, a tilted gantry set upright; and the way back."""

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
    count, even = _even(series)
    remarks = list(series.remarks)
    check_size(folder_of(series), count * first.rows * first.columns, MAX_VOXELS)
    if series.is_gap and np.diff(heights).max() > max(MOST_MISSING_MM, 1.5 * series.spacing_mm[0]):
        raise UserError(
            f"{folder_of(series)}: {np.diff(heights).max():.3g} mm of the scan are missing in one place, more than the "
            f"{MOST_MISSING_MM:g} mm that are interpolated: copy the series again."
        )
    if series.is_gap:
        remarks.append(f"{series.fault.partition(':')[0]}: interpolated to {count} slices {even:.3g} mm apart")
    pixels = _stacked(series, count)
    grid = Grid(
        pixels.shape,
        (even, *(first.pixel_mm or (1.0, 1.0))),
        first.position_mm or (0.0, 0.0, 0.0),
        series.direction,
    )
    shifts = _shifts(series)
    if shifts is not None:
        angle = np.degrees(np.arctan(np.linalg.norm(_drift(series))))
        remarks.append(f"the gantry was tilted by {angle:.1f} degrees: corrected")
        pixels, grid = _upright(folder_of(series), pixels, grid, shifts)
    return pixels, grid, tuple(remarks)


def onto_slices(series: Series, labels: NDArray[Any]) -> NDArray[Any]:
    """Labels (Z, Y, X) on the grid that ``load`` gave a series, on its pictures as they were taken, (slices, Rows, Columns).

    Of a regular series these are the labels themselves. What was interpolated falls away: each picture takes the plane next to
    it, moved back within it by whole pixels where the gantry was tilted.
    """
    shifts = _shifts(series)
    if shifts is None and not series.is_gap:
        return labels
    count, step = _even(series)
    nearest = np.rint((series.heights_mm - series.heights_mm[0]) / step).astype(int).clip(0, count - 1)
    back = np.zeros((count, 2), dtype=int) if shifts is None else np.rint(shifts).astype(int)
    rows, columns = series.first.rows, series.first.columns
    pictures = np.empty((series.slices, rows, columns), dtype=labels.dtype)
    for picture, z in zip(pictures, nearest, strict=True):
        down, across = back[z]
        picture[:] = labels[z, down : down + rows, across : across + columns]
    return pictures


def is_tilted(series: Series) -> bool:
    """Whether its slices were taken by a tilted gantry, and drift sideways."""
    return _shifts(series) is not None


def _even(series: Series) -> tuple[int, float]:
    """How many planes the grid of a series has, and how many mm lie between two of them."""
    heights, step = series.heights_mm, series.spacing_mm[0]
    count = series.slices if not series.is_gap else round((heights[-1] - heights[0]) / step) + 1
    return count, float((heights[-1] - heights[0]) / (count - 1) if count > 1 else step) or 1.0


def _shifts(series: Series) -> NDArray[np.float64] | None:
    """By how many pixels, none below 0, each plane of a tilted series is moved down and across, (planes, 2); None for others."""
    drift, pixel_mm = _drift(series), series.first.pixel_mm or (1.0, 1.0)
    if np.abs(drift * (series.heights_mm[-1] - series.heights_mm[0]) / pixel_mm).max() <= TILTED_PIXELS:
        return None
    count, step = _even(series)
    shifts = np.round(np.outer(np.arange(count) * step, drift) / pixel_mm, 6)
    return np.asarray(shifts - np.floor(shifts.min(axis=0)))


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


def _upright(path: Path, voxels: NDArray[Any], grid: Grid, shifts: NDArray[np.float64]) -> tuple[NDArray[Any], Grid]:
    """Slices (Z, Y, X) that drift sideways on a grid whose axes are at right angles, wide enough for all of them.

    Each is shifted within its own plane by linear interpolation; what lies outside of it gets the lowest value.
    """
    count, rows, columns = voxels.shape
    more = np.ceil(shifts.max(axis=0)).astype(int)
    air = float(voxels.min())
    check_size(path, count * (rows + int(more[0])) * (columns + int(more[1])), MAX_VOXELS)
    upright = np.full((count, rows + more[0], columns + more[1]), air, dtype=voxels.dtype)
    for z, picture in enumerate(voxels):
        down, across = shifts[z]
        moved = _moved(picture.astype(np.float32), float(down), float(across), air)
        upright[z, : moved.shape[0], : moved.shape[1]] = np.rint(moved) if voxels.dtype == np.int16 else moved
    wide = replace(grid, shape=(count, rows + int(more[0]), columns + int(more[1])))
    return upright, replace(wide, origin_mm=tuple(wide.point((0, *-shifts[0])).tolist()))


def _moved(picture: NDArray[np.float32], down: float, across: float, air: float) -> NDArray[np.float32]:
    """A picture moved by a part of a pixel or more, by linear interpolation; what lies outside of it is air."""
    for axis, by in ((0, down), (1, across)):
        whole = int(np.floor(by))
        part = np.float32(by - whole)
        edges = [(whole, int(part > 0)) if axis == own else (0, 0) for own in (0, 1)]
        wide = np.pad(picture, edges, constant_values=air)
        picture = wide * (1 - part) + np.roll(wide, 1, axis) * part if part else wide
    return picture
