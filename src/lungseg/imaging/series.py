"""DICOM series: pictures sorted into series and put in order by where they lie, or refused where that is not certain.

File names and instance numbers say nothing here: slices lie where the header says, along the normal of their plane
(DICOM PS3.3, C.7.6.2.1.1). No position is ever guessed.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungseg.imaging.dicom import Frame, pictures
from lungseg.imaging.refusals import reading

SAME_PLACE_MM = 0.01
ALIKE_COSINE = 2e-3
EVEN = 0.05  # of the spacing may a step differ from the others
STRAIGHT = 0.02  # of the spacing may a slice lie beside the line through all
OFF_PLACE = 0.25  # of the spacing may a slice lie away from its place on the regular grid
ROUNDED_MM = 0.1  # what headers may round away
FACE_ON = 0.8  # of the normal points along the body in an axial series
SOFTEST_SHARP = {"B": 50, "BR": 50, "BV": 50, "BF": 50, "BL": 50, "I": 50, "FC": 30}  # numbered kernels of Siemens and Canon
SHARP = ("LUNG", "BONE", "EDGE", "DETAIL", "SHARP", "L", "D", "YA", "YB", "YC", "YD", "YE")  # of GE and Philips


@dataclass(frozen=True)
class Series:
    """Pictures that belong together.

    Attributes:
        frames: in order along the normal; copies are left out.
        fault: why it is no regular volume, as the end of a sentence; empty where it is one.
        is_gap: whether the fault is a missing slice or uneven steps, which interpolation mends.
        is_mixed: whether its series also holds pictures of another size or orientation.
        remarks: what was left out, or is odd.
    """

    frames: tuple[Frame, ...]
    fault: str = ""
    is_gap: bool = False
    is_mixed: bool = False
    remarks: tuple[str, ...] = ()

    @property
    def first(self) -> Frame:
        return self.frames[0]

    @property
    def kernel(self) -> str:
        return self.first.kernel

    @property
    def modality(self) -> str:
        return self.first.modality

    @property
    def number(self) -> int | None:
        """The series number in the header."""
        return self.first.number

    @property
    def slices(self) -> int:
        return len(self.frames)

    @property
    def heights_mm(self) -> NDArray[np.float64]:
        """Of the slices along their normal."""
        return _positions(self.frames) @ self.first.normal

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Along z, y, x; of a single slice its thickness."""
        rows, columns = self.first.pixel_mm or (0.0, 0.0)
        steps = np.diff(self.heights_mm)
        return (float(np.median(steps)) if len(steps) else self.first.thickness_mm or 0.0), rows, columns

    @property
    def direction(self) -> tuple[float, ...]:
        """Nine cosines in SimpleITK's order, orthonormal."""
        row, column = np.array(self.first.orientation).reshape(2, 3)
        row = row / np.linalg.norm(row)
        column = column - (column @ row) * row
        column /= np.linalg.norm(column)
        return tuple(np.stack([row, column, np.cross(row, column)], axis=1).ravel().tolist())

    @property
    def is_axial(self) -> bool:
        return bool(abs(self.first.normal[2]) > FACE_ON)

    @property
    def is_sharp(self) -> bool | None:
        """Whether its kernel is a sharp one, for lung or bone; None where the name says nothing."""
        words = re.findall(r"[A-Z]+|\d+", self.kernel.upper())
        if not words:
            return None
        if len(words) > 1 and words[0] in SOFTEST_SHARP and words[1].isdigit():
            return int(words[1]) >= SOFTEST_SHARP[words[0]]
        return any(word.removesuffix("PLUS") in SHARP for word in words)

    def can_be_read(self, allow_gaps: bool) -> bool:
        """Whether it is a regular volume, or may be made one."""
        return not self.fault or (self.is_gap and allow_gaps)

    def describe(self) -> str:
        """For a list of series: nothing that a person typed stands in it."""
        z, y, x = self.spacing_mm
        size = f"{self.first.columns} x {self.first.rows}"
        kernel = f", kernel {self.kernel}" if self.kernel else ""
        return f"{self.slices} slice{'s' * (self.slices != 1)} of {size}, {x:.3g} x {y:.3g} x {z:.3g} mm{kernel}"


def sort_into_series(frames: Iterable[Frame]) -> list[Series]:
    """Frames with geometry as series, in the order of their series numbers; each in order along its normal."""
    by_uid: dict[tuple[str, str], list[list[Frame]]] = defaultdict(list)
    for frame in frames:
        groups = by_uid[frame.study, frame.series]
        group = next((group for group in groups if _are_alike(frame, group[0])), None)
        if group is None:
            groups.append([frame])
        else:
            group.append(frame)
    found = []
    for groups in by_uid.values():
        is_mixed = not all(_have_one_plane(groups[0][0], group[0]) for group in groups)
        for group in groups:
            found += [replace(one, is_mixed=is_mixed) for one in _arranged(group)]
    return sorted(found, key=lambda one: (one.number is None, one.number, str(one.first.path), one.heights_mm[0]))


def best_axial(series: Sequence[Series], allow_gaps: bool = False) -> Series | None:
    """The one to segment where nobody chose: an axial CT without faults that covers a chest best; then soft kernel, thin slices."""
    fit = [one for one in series if one.is_axial and not _is_derived(one) and one.can_be_read(allow_gaps)]

    def rank(one: Series) -> tuple[bool, float, bool, float]:
        step = one.spacing_mm[0]
        height = one.slices * step
        # Beyond a chest's height more is no better; a run of few slices that finds the place is worse than any.
        return not one.fault, round(min(height, 250.0) / 25), one.is_sharp is not True, -abs(step - 1.25)

    return max(fit, key=rank, default=None)


def folder_of(series: Series) -> Path:
    """The folder that all files of a series lie below; of a series in one file that file."""
    paths = {frame.path for frame in series.frames}
    return series.first.path if len(paths) == 1 else Path(os.path.commonpath([path.parent for path in paths]))


def pictures_of(frames: Sequence[Frame]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Places in ``frames`` and pictures (Rows, Columns), file by file.

    Raises:
        UserError: a file cannot be read.
    """
    wanted: dict[Path, dict[int, int]] = defaultdict(dict)
    for z, frame in enumerate(frames):
        wanted[frame.path][frame.index or 0] = z
    for path, places in wanted.items():
        with reading(path):
            for index, picture in enumerate(pictures(path)):
                if index in places:
                    yield places[index], picture


def picture_of(frame: Frame) -> NDArray[Any]:
    """``pictures_of`` one frame."""
    return next(picture for _, picture in pictures_of([frame]))


def _are_alike(one: Frame, other: Frame) -> bool:
    """Whether two slices may belong to one volume."""
    made = [(frame.kernel, frame.kind[2:3] == ("MPR",)) for frame in (one, other)]
    return made[0] == made[1] and _have_one_plane(one, other)


def _have_one_plane(one: Frame, other: Frame) -> bool:
    """Whether two slices have one size and one orientation, but for what headers round away."""
    return (one.rows, one.columns) == (other.rows, other.columns) and all(
        np.allclose(a or (), b or (), rtol=1e-3, atol=ALIKE_COSINE)
        for a, b in ((one.orientation, other.orientation), (one.pixel_mm, other.pixel_mm))
    )


def _is_derived(series: Series) -> bool:
    return any(word in series.first.kind for word in ("MIP", "MINIP", "AVERAGE", "MPR", "PERFUSION", "PROJECTION IMAGE"))


def _positions(frames: Sequence[Frame]) -> NDArray[np.float64]:
    return np.array([frame.place for frame in frames]).reshape(-1, 3)


def _arranged(group: list[Frame]) -> Iterator[Series]:
    """One series of alike frames, or several where several pictures lie at each place."""
    frames = sorted(group, key=lambda frame: (float(frame.place @ frame.normal), frame.instance or 0))
    unique: dict[Any, Frame] = {}
    for frame in frames:
        key = (frame.uid, frame.index, *frame.place.round(2))
        if key not in unique or frame.path.stat().st_size > unique[key].path.stat().st_size:  # a copy may be cut off
            unique[key] = frame
    frames, copies = list(unique.values()), len(frames) - len(unique)
    remarks = [_said_of(copies)] if copies else []
    heights = _positions(frames) @ frames[0].normal
    crowded = np.flatnonzero(np.diff(heights) < SAME_PLACE_MM)
    if len(crowded):
        acquisitions = defaultdict(list)
        for frame in frames:
            acquisitions[frame.acquisition].append(frame)
        if len(acquisitions) > 1 and not _are_copies(frames[crowded[0]], frames[crowded[0] + 1]):
            for own in acquisitions.values():
                for one in _arranged(own):
                    yield replace(one, remarks=(*remarks, *one.remarks))
            return
        kept = [frames[0]]
        for frame in frames[1:]:
            if np.linalg.norm(frame.place - kept[-1].place) < SAME_PLACE_MM:
                if not _are_copies(kept[-1], frame):
                    fault = (
                        f"two different slices lie at the same place ({kept[-1].path.name} and {frame.path.name}): "
                        "give the files of one series or phase only"
                    )
                    yield Series(tuple(frames), fault, remarks=tuple(remarks))
                    return
                copies += 1
            else:
                kept.append(frame)
        frames, remarks = kept, [_said_of(copies)]
    yield _judged(Series(tuple(frames), remarks=tuple(remarks)))


def _said_of(copies: int) -> str:
    return "1 copy of a slice was left out" if copies == 1 else f"{copies} copies of slices were left out"


def _are_copies(one: Frame, other: Frame) -> bool:
    """Whether two frames hold the same picture."""
    return np.array_equal(picture_of(one), picture_of(other))


def _judged(series: Series) -> Series:
    """The series with what speaks against a regular volume."""
    if series.slices < 2:
        return series
    heights, places = series.heights_mm, _positions(series.frames)
    steps = np.diff(heights)
    step = float(np.median(steps))
    option = "input.allow_gaps=true interpolates"
    # The line through all slices; what is left are jumps, not a tilt.
    offsets = places - places[0] - np.outer(heights - heights[0], series.first.normal)
    slope = offsets.T @ (heights - heights[0]) / np.sum((heights - heights[0]) ** 2)
    beside = np.linalg.norm(offsets - np.outer(heights - heights[0], slope), axis=1).max()
    if beside > max(STRAIGHT * step, ROUNDED_MM):
        return replace(series, fault=f"its slices are shifted against each other by up to {beside:.1f} mm: export the series again")
    whole = np.rint(steps / step)
    even = np.abs(steps / np.maximum(whole, 1) / step - 1) <= EVEN
    if even.all() and (whole > 1).any():
        at = int(np.argmax(whole > 1))
        missing = int((whole - 1).sum())
        said = f"{missing} slice{'s are' if missing > 1 else ' is'} missing"
        where = f"between {heights[at]:.1f} and {heights[at + 1]:.1f} mm the step is {steps[at]:.3g} mm, elsewhere {step:.3g}"
        return replace(series, fault=f"{said}: {where}; copy the series again, or {option}", is_gap=True)
    regular = heights[0] + np.arange(len(heights)) * (heights[-1] - heights[0]) / (len(heights) - 1)
    if not even.all() or np.abs(heights - regular).max() > OFF_PLACE * step:
        said = f"the steps between its slices are uneven: {steps.min():.3g} to {steps.max():.3g} mm"
        return replace(series, fault=f"{said}, which is no regular volume; give another series, or {option}", is_gap=True)
    return series
