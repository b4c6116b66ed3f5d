"""Whatever a hospital has to a volume: the one function that turns a path into voxels and where they lie."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lungseg.errors import UserError
from lungseg.imaging.dicom import Frame, NoPicture, frames, has_dicom_mark, header_doubts
from lungseg.imaging.dicom_seg_labels import read_seg
from lungseg.imaging.refusals import reading
from lungseg.imaging.series import Series, best_axial, folder_of, sort_into_series
from lungseg.imaging.slices import DICOM_SUFFIXES, VOLUME_SUFFIXES, is_image, read_stack, suffix_of
from lungseg.imaging.stacking import load
from lungseg.imaging.volume import Volume
from lungseg.imaging.volume_files import header_doubts as volume_doubts
from lungseg.imaging.volume_files import read_volume
from lungseg.imaging.walk import walk

ALL = "all"
SAID = 5  # reasons
PARTS_OF_OTHERS = (".raw", ".zraw")  # the voxels of a MetaImage header
DIRECTORY = "DICOMDIR"
PIXELS_MM, SLICES_MM = (0.1, 10.0), (0.1, 25.0)  # of a CT, with room to spare
FINEST_MM, COARSEST_MM = 1e-3, 1e3  # of a voxel
NO_FILES = ("thumbs.db", "desktop.ini")


@dataclass(frozen=True)
class Scan:
    """What was read.

    Attributes:
        volume: as stored: rescaled values, no reorientation.
        remarks: what was chosen, left out or corrected.
        doubts: why it may be no axial chest CT.
    """

    volume: Volume
    remarks: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """What lies in a folder, or in a file.

    Attributes:
        series: DICOM series of CT slices that say where they lie.
        files: pictures, volumes and DICOM slices that do not say where they lie.
        skipped: files that nothing can be done with, each with the reason as the end of a sentence.
    """

    series: tuple[Series, ...] = ()
    files: tuple[Path, ...] = ()
    skipped: tuple[tuple[Path, str], ...] = ()

    @property
    def damaged(self) -> list[tuple[Path, str]]:
        """What was skipped that should have been an image, so that a scan may lack a slice."""
        return [(file, reason) for file, reason in self.skipped if _is_damage(reason)]


def read(path: Path, series: str | None = None, allow_gaps: bool = False) -> Scan:
    """One scan: a NIfTI, NRRD or MetaImage file, a DICOM file of one or many frames, a DICOM-SEG (its
    labels), a picture, or a folder that holds one.

    Args:
        series: of several in a DICOM folder: its number in the order of ``find``, or the name of its kernel. None takes the
            best axial CT.
        allow_gaps: a missing slice and uneven steps are interpolated, which is otherwise refused.

    Raises:
        UserError: nothing there can be read as one volume, with the reason.
    """
    if path.is_dir():
        found = find(path)
        if not found.series and len(found.files) == 1:
            return read(found.files[0])
        if not found.series:
            raise UserError(f"{path} holds {nothing_but(found)}: give a file, or a folder with one scan.")
        scan = _read_one(path, found.series, series, allow_gaps)
        lost = said_of_skipped(found.damaged)
        return replace(scan, doubts=(f"slices may be missing, left out: {lost}", *scan.doubts)) if lost else scan
    if path.name == DIRECTORY and path.is_file():
        raise UserError(f"{path} is a table of contents, which holds no picture: give the folder that it lies in.")
    suffix = suffix_of(path)
    if series is not None and suffix not in ("", *DICOM_SUFFIXES):
        raise UserError(f"{path} is no DICOM series, of which series={series} could choose: leave it out.")
    if suffix in VOLUME_SUFFIXES:
        with reading(path):
            volume = read_volume(path, suffix)
            if volume.voxels.dtype.kind not in "buif":
                raise UserError(f"{path} holds no grey values (type {volume.voxels.dtype}): save real numbers.")
            _check_spacing(path, volume)
            _check_finite(path, volume)
            doubts = volume_doubts(path, suffix)
        return Scan(volume, doubts=(*doubts, *_spacing_doubts(volume)))
    if suffix in DICOM_SUFFIXES or (suffix == "" and is_image(path)):
        return _dicom_file(path, series, allow_gaps)
    return Scan(Volume(read_stack(path)))


def file_doubts(path: Path) -> tuple[str, ...]:
    """Why the header of a DICOM file that was read already says that it is no axial slice of a chest CT; of others nothing."""
    if suffix_of(path) not in ("", *DICOM_SUFFIXES):
        return ()
    with reading(path):
        held = _frames(path)
    return () if isinstance(held, str) else header_doubts(held[0])


def read_series(series: Series, allow_gaps: bool = False, remarks: Sequence[str] = ()) -> Scan:
    """The volume of one DICOM series.

    Raises:
        UserError: a file cannot be read, or the slices are no regular volume.
    """
    voxels, grid, own = load(series, allow_gaps)
    sharp = (f"its kernel {series.kernel} is a sharp one, which raises the share below -950 HU",) if series.is_sharp else ()
    volume = Volume(voxels, grid)
    _check_spacing(folder_of(series), volume)
    made = own if series.is_gap else ()  # what was never scanned is no mere remark
    doubts = (*header_doubts(series.first), *made, *_spacing_doubts(volume))
    return Scan(volume, (*remarks, *(() if series.is_gap else own), *sharp), doubts)


def find(path: Path, without: Collection[Path] = ()) -> Found:
    """What can be read in a file, or in a folder and the folders in it, in order of their names; only headers are read.

    Args:
        without: folders inside that are left out, such as that of an earlier output.
    """
    here: list[Frame] = []
    files: list[Path] = []
    skipped: list[tuple[Path, str]] = []

    def closed(error: OSError) -> None:
        skipped.append((Path(error.filename), f"cannot be opened ({error.strerror})"))

    for file in _files(path, without, closed) if path.is_dir() else [path]:
        suffix = suffix_of(file)
        try:
            is_dicom = suffix in DICOM_SUFFIXES or (suffix == "" and has_dicom_mark(file))
        except OSError as error:
            skipped.append((file, f"cannot be opened ({error.strerror})"))
            continue
        if is_dicom:
            _sort_dicom(file, here, files, skipped)
        elif suffix:
            files.append(file)
        elif not file.name.lower().endswith(PARTS_OF_OTHERS):
            skipped.append((file, "is no image"))
    series = sort_into_series(here)
    # Slices of their own, each of its own series, are pictures.
    companions = Counter(one.first.study for one in series if one.slices > 1 or one.first.index is not None)
    alone = [one for one in series if one.slices == 1 and one.first.index is None and not companions[one.first.study]]
    files += [one.first.path for one in alone if one.is_axial]
    skipped += [(one.first.path, "is no axial slice") for one in alone if not one.is_axial]
    return Found(tuple(one for one in series if one not in alone), tuple(sorted(files)), tuple(skipped))


@dataclass(frozen=True)
class Chosen:
    """A series to segment.

    Attributes:
        remarks: what is to be said about the choice.
        refusal: why it, or whatever its study holds, cannot be read; empty where it can.
    """

    series: Series
    remarks: tuple[str, ...] = ()
    refusal: str = ""


def choose(series: Sequence[Series], wanted: str | None, allow_gaps: bool = False) -> list[Chosen]:
    """The series to segment, of each study one unless more are wanted.

    Args:
        wanted: numbers in the order of ``series``, beginning with 1, a kernel's name, ``all``, or None for the best axial CT.

    Raises:
        UserError: none is as wanted.
    """
    if wanted is not None:
        return [Chosen(one, refusal=_fault(one, allow_gaps)) for one in (series if wanted == ALL else _wanted(series, wanted))]
    studies: dict[str, list[Series]] = {}
    for one in series:
        studies.setdefault(one.first.study, []).append(one)
    numbers = _numbers(series)
    return [_best(numbers, own, allow_gaps) for own in studies.values()]


def _numbers(series: Sequence[Series]) -> dict[int, int]:
    """The number of each series by its identity: to compare them frame by frame would take long in an archive."""
    return {id(one): number for number, one in enumerate(series, 1)}


def _best(numbers: Mapping[int, int], own: Sequence[Series], allow_gaps: bool) -> Chosen:
    """The choice among the series of one study."""
    best = best_axial(own, allow_gaps) or (own[0] if len(own) == 1 else None)
    if best is None:
        faulty = next((one for one in own if one.fault and one.is_axial), None)
        listed = f"{folder_of(own[0])} holds no axial CT series ({_listed(numbers, own)}): choose one, series=1 say."
        return Chosen(faulty or own[0], refusal=_fault(faulty, allow_gaps) if faulty else listed)
    number = numbers[id(best)]
    if best.is_mixed:
        sizes = f"its series mixes sizes or orientations ({_listed(numbers, own)})"
        return Chosen(best, refusal=f"{folder_of(best)}: {sizes}: choose one, series={number} say.")
    taken = f"of {len(own)} series ({_listed(numbers, own)}) number {number} was taken; series=... takes another"
    return Chosen(best, (taken,) if len(own) > 1 else (), _fault(best, allow_gaps))


def _fault(series: Series, allow_gaps: bool) -> str:
    return "" if series.can_be_read(allow_gaps) else f"{folder_of(series)}: {series.fault}."


def _wanted(series: Sequence[Series], wanted: str) -> list[Series]:
    chosen: list[Series] = []
    for word in wanted.split(","):
        numbers = [one for number, one in enumerate(series, 1) if word.strip() == str(number)]
        names = [one for one in series if word.strip().lower() in (one.kernel.lower(), folder_of(one).name.lower())]
        fit = numbers or names
        if not fit:
            raise UserError(f"series={word.strip()} is none of these: {_listed(_numbers(series), series)}.")
        chosen += [one for one in fit if all(one is not other for other in chosen)]
    return chosen


def _listed(numbers: Mapping[int, int], chosen: Sequence[Series]) -> str:
    folders = [folder_of(one).name for one in chosen]
    names = [f" {folder}" for folder in folders] if len(set(folders)) == len(folders) > 1 else [""] * len(folders)
    return "; ".join(f"{numbers[id(one)]}{name}: {one.describe()}" for one, name in zip(chosen, names, strict=True))


def _dicom_file(path: Path, series: str | None, allow_gaps: bool) -> Scan:
    with reading(path):
        held = _frames(path) if has_dicom_mark(path) else []
    if isinstance(held, str):
        held = []  # the stack below says so in full
    if held and held[0].modality == "SEG":
        return Scan(read_seg(path))
    if held and all(frame.has_geometry for frame in held):
        if len(held) > 1 or held[0].thickness_mm:
            return _read_one(path, sort_into_series(held), series, allow_gaps)
    elif len(held) > 1:
        raise UserError(f"{path} holds {len(held)} pictures and does not say where they lie: give a CT series.")
    return Scan(Volume(read_stack(path)), doubts=header_doubts(held[0]) if held else ())


def _read_one(path: Path, held: Sequence[Series], wanted: str | None, allow_gaps: bool) -> Scan:
    chosen = choose(held, wanted, allow_gaps)
    if len(chosen) > 1:
        raise UserError(f"{path} holds {len(chosen)} scans ({_listed(_numbers(held), held)}): choose one, series=1 say.")
    if chosen[0].refusal:
        raise UserError(chosen[0].refusal)
    return read_series(chosen[0].series, allow_gaps, chosen[0].remarks)


def _frames(file: Path) -> list[Frame] | str:
    """The pictures in a DICOM file, or why it has none."""
    try:
        return frames(file)
    except NoPicture as reason:
        return str(reason)


def _sort_dicom(file: Path, here: list[Frame], files: list[Path], skipped: list[tuple[Path, str]]) -> None:
    try:
        with reading(file):
            held = _frames(file) if has_dicom_mark(file) else "is no DICOM file, or one that lost its header"
    except UserError as error:
        held = str(error).removeprefix(f"{file} ").partition(": ")[0]
    if isinstance(held, str):
        skipped.append((file, held))
        return
    first = held[0]
    if "LOCALIZER" in first.kind:
        skipped.append((file, "is a localizer"))
    elif first.modality not in ("CT", ""):
        skipped.append((file, f"is {first.modality}, no CT"))
    elif all(frame.has_geometry for frame in held):
        here += held
    elif first.is_capture:
        skipped.append((file, "is a secondary capture that does not say where it lies"))
    elif len(held) > 1:
        skipped.append((file, f"holds {len(held)} pictures and does not say where they lie"))
    else:
        files.append(file)


def _files(folder: Path, without: Collection[Path], closed: Callable[[OSError], None]) -> Iterator[Path]:
    for here, names in walk(folder, [other.resolve() for other in without], closed):
        yield from (here / name for name in names if name.lower() not in NO_FILES)


def nothing_but(found: Found) -> str:
    """What a place holds instead of scans, as the end of a sentence."""
    lost = [path for path in found.files if suffix_of(path) in ("", *DICOM_SUFFIXES)]
    if lost:
        return f"{len(lost)} DICOM slices that do not say where they lie (position, orientation or pixel spacing is missing)"
    if found.files:
        return f"{len(found.files)} images"
    said = said_of_skipped(found.skipped)
    return f"no image that can be read ({said})" if said else "no image that can be read"


def _is_damage(reason: str) -> bool:
    return reason.startswith(("cannot be", "is empty", "is no DICOM file", "is a CT file without", "is a DICOM file without"))


def said_of_skipped(skipped: Sequence[tuple[Path, str]]) -> str:
    """How many files were left out for which reasons, most of them first."""
    reasons = Counter(reason for _, reason in skipped)
    said = [f"{count} file{'s' if count > 1 else ''} ({reason})" for reason, count in reasons.most_common(SAID)]
    return ", ".join([*said, *([f"{len(reasons) - SAID} reasons more"] if len(reasons) > SAID else [])])


def _spacing_doubts(volume: Volume) -> tuple[str, ...]:
    """Whether voxels are as large as those of a CT: a header may speak of other units, or of none."""
    assert volume.grid is not None
    z, y, x = volume.grid.canonical().spacing_mm
    if PIXELS_MM[0] <= min(x, y) and max(x, y) <= PIXELS_MM[1] and SLICES_MM[0] <= z <= SLICES_MM[1]:
        return ()
    return (f"voxels of {x:.3g} x {y:.3g} x {z:.3g} mm are not those of a CT: correct the spacing in its header",)


def _check_spacing(path: Path, volume: Volume) -> None:
    assert volume.grid is not None
    if not all(FINEST_MM <= mm <= COARSEST_MM for mm in volume.grid.spacing_mm):
        said = " x ".join(f"{mm:.3g}" for mm in reversed(volume.grid.spacing_mm))
        raise UserError(f"{path} has voxels of {said} mm, as no scan has: correct the spacing in its header, or export it again.")


def _check_finite(path: Path, volume: Volume) -> None:
    if volume.voxels.dtype.kind == "f":
        bad = sum(part.size - int(np.count_nonzero(np.isfinite(part))) for part in volume.voxels)
        if bad:
            values = "1 value that is" if bad == 1 else f"{bad} values that are"
            raise UserError(f"{path} holds {values} not finite (NaN, infinite): replace them, say by air.")
