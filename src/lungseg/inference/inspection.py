"""What lies in a file or a folder, and what a prediction would do with it: from headers and a few slices of each."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from lungseg.errors import UserError
from lungseg.imaging.dicom import header_doubts
from lungseg.imaging.greys import HU, are_labels, judge
from lungseg.imaging.plausibility import look
from lungseg.imaging.readers import Chosen, Found, choose, find, read
from lungseg.imaging.series import Series, folder_of, pictures_of
from lungseg.imaging.slices import VOLUME_SUFFIXES, suffix_of
from lungseg.imaging.volume import Grid
from lungseg.postprocess.faults import find_faults

SAMPLES = 6  # slices of a DICOM series whose grey values are read
UNLIKE = 0.5  # of the slices looked at may be unlike an axial chest


@dataclass(frozen=True)
class Entry:
    """A scan or a picture.

    Attributes:
        number: what ``series=`` takes, of a DICOM series.
        name: of the file, or of the folder of a series, below the path that was inspected.
        kind: ``DICOM series``, ``volume``, ``labels`` or ``picture``.
        size: columns and rows.
        spacing_mm: z, y, x; None where nobody knows.
        orientation: letters of the directions in which the indices x, y and z rise, such as LPS.
        greys: their unit; ``grey_range`` of the slices that were read.
        segmented: whether a prediction would segment it unasked; if not, ``verdict`` says why.
        doubts: what somebody should know before.
    """

    number: int | None
    name: str
    kind: str
    modality: str
    slices: int
    size: tuple[int, int]
    spacing_mm: tuple[float, float, float] | None
    orientation: str
    kernel: str
    greys: str
    grey_range: tuple[float, float] | None
    segmented: bool
    verdict: str
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inspection:
    """What was found, and files that nothing can be done with, each with the reason."""

    entries: tuple[Entry, ...]
    skipped: tuple[tuple[str, str], ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "scans": [asdict(entry) for entry in self.entries],
            "skipped": [{"file": name, "reason": reason} for name, reason in self.skipped],
        }


def inspect(path: Path, right: int = 1, started: Callable[[int], Callable[[], None]] = lambda count: lambda: None) -> Inspection:
    """Looks at a file, or at a folder with its sub-folders.

    Args:
        right: the value that means the right lung in label volumes; the left one has the other of 1 and 2.
        started: called once with the number of scans and pictures, gives what is called after each.
    """
    found = find(path)
    root = path if path.is_dir() else path.parent
    advance = started(len(found.series) + len(found.files))
    entries = []
    for number, (one, verdict) in enumerate(zip(found.series, _verdicts(found), strict=True), 1):
        entries.append(_series(number, one, verdict, root))
        advance()
    for file in found.files:
        entries.append(_file(file, root, right))
        advance()
    return Inspection(tuple(entries), tuple((_below(file, root), reason) for file, reason in found.skipped))


def _verdicts(found: Found) -> list[str]:
    """Why each series would not be segmented; empty where it would."""
    chosen: dict[int, Chosen] = {id(one.series): one for one in choose(found.series, None)}
    verdicts = []
    for one in found.series:
        if id(one) in chosen:
            verdicts.append(chosen[id(one)].refusal.removeprefix(f"{folder_of(one)}: ").rstrip("."))
        else:
            verdicts.append(one.fault or "another series of its study is taken")
    return verdicts


def _series(number: int, series: Series, verdict: str, root: Path) -> Entry:
    first = series.first
    chosen = np.unique(np.linspace(0, series.slices - 1, SAMPLES).round().astype(int))
    try:
        stack = np.stack([picture for _, picture in pictures_of([series.frames[z] for z in chosen])])
        greys, low_high, doubts = _judged(stack, series.is_axial, is_volume=True)
    except UserError as error:
        greys, low_high, doubts = "", None, []
        verdict = verdict or str(error)
    # As of a volume; of a single slice nobody may know the thickness.
    z, y, x = series.spacing_mm
    grid = Grid((series.slices, first.rows, first.columns), (z or 1.0, y, x), first.position_mm or (0, 0, 0), series.direction)
    return Entry(
        number,
        _below(folder_of(series), root),
        "DICOM series",
        series.modality,
        series.slices,
        (first.columns, first.rows),
        (round(z, 4), y, x),
        _letters(grid),
        series.kernel,
        greys,
        low_high,
        not verdict,
        verdict,
        (*header_doubts(first), *series.remarks, *doubts),
    )


def _file(file: Path, root: Path, right: int) -> Entry:
    kind = "volume" if suffix_of(file) in VOLUME_SUFFIXES else "picture"
    name = _below(file, root)
    try:
        scan = read(file)
    except UserError as error:
        return Entry(
            None, name, kind, "", 0, (0, 0), None, "", "", "", None, False, str(error).removeprefix(f"{file} ").rstrip(".")
        )
    volume = scan.volume.canonical()
    depth, rows, columns = scan.volume.voxels.shape
    grid, doubts = scan.volume.grid, list(scan.doubts)
    verdict = ""
    low, high = float(volume.voxels.min()), float(volume.voxels.max())
    if kind == "volume" and grid is not None and are_labels(volume.voxels):
        kind, greys, verdict = "labels", f"values {low:g} to {high:g}", "it holds labels, no grey values"
        if high > 0:
            assert volume.grid is not None
            doubts += [fault.sentence for fault in find_faults(volume.voxels, volume.grid.spacing_mm, right, 3 - right)]
        doubts += _direction_doubts(grid)
    else:
        greys, _, odd = _judged(volume.voxels, True, grid is not None)
        doubts += odd
    return Entry(
        None,
        name,
        kind,
        "",
        depth,
        (columns, rows),
        None if grid is None else grid.spacing_mm,
        "" if grid is None else _letters(grid),
        "",
        greys,
        (low, high),
        not verdict,
        verdict,
        tuple(doubts),
    )


def _judged(stack: NDArray[Any], is_axial: bool, is_volume: bool) -> tuple[str, tuple[float, float], list[str]]:
    """Unit and range of grey values (Z, H, W), and what is odd about them."""
    found = judge(stack)
    is_news = found.kind != HU or found.inverted
    doubts = [f"grey values are {found.sentence}"] if is_news and is_volume else []
    chosen = np.unique(np.linspace(0, len(stack) - 1, SAMPLES).round().astype(int))
    looks = [look(stack[z], np.zeros(stack.shape[1:], bool)) for z in chosen]
    if is_axial and sum(one.unlike_ct for one in looks) > UNLIKE * len(looks):
        doubts.append("it does not look like an axial chest CT")
    return found.name, (float(stack.min()), float(stack.max())), doubts


def _direction_doubts(grid: Grid) -> Sequence[str]:
    """A mask whose slices run from the head to the feet is nothing wrong, but often enough a header that lies."""
    return ["its slices run from the head to the feet"] if grid.axes[0][2] < 0 else []


def _letters(grid: Grid) -> str:
    return str(sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(grid.direction))


def _below(path: Path, root: Path) -> str:
    return path.name if path == root else path.relative_to(root).as_posix()
