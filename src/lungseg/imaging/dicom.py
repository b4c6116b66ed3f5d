"""One DICOM file: what its header says of each picture in it, and the pictures themselves.

Nothing that names a patient, a physician, a place or a date is taken from a header.
"""
# mypy: allow-untyped-calls

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.pixels.processing import apply_modality_lut
from pydicom.uid import DeflatedExplicitVRLittleEndian, MediaStorageDirectoryStorage
from scipy import ndimage

from lungseg.errors import UserError, printable
from lungseg.imaging.codecs import stored_values
from lungseg.imaging.limits import MAX_PIXELS, MAX_VOXELS, check_size, too_large
from lungseg.imaging.quiet import quiet
from lungseg.labels import PADDING_HU

ELSEWHERE = ("HEAD", "BRAIN", "SKULL")
MOST_TILT = 0.7  # of the slice normal may point elsewhere than along the body; a tilted gantry reaches 0.5
BEYOND = 1e9  # no grey value lies there, and no slice
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
PICTURE = ("PixelData", "Rows", "Columns", "PhotometricInterpretation")
NEEDED = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "InstanceNumber", "AcquisitionNumber",
    "TemporalPositionIdentifier", "Modality", "ImageType", "ConvolutionKernel", "SliceThickness", "BodyPartExamined", "Rows",
    "Columns", "NumberOfFrames", "PhotometricInterpretation", "ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)  # fmt: skip


@dataclass(frozen=True)
class Frame:
    """One picture in a DICOM file, as its header describes it; what is missing or damaged is None or empty.

    Attributes:
        index: of the frame in a multi-frame file; None for a file of one picture.
        uid: of the file; two files with the same are copies.
        kind: the image type, such as ORIGINAL, PRIMARY, AXIAL.
        is_capture: a secondary capture: a picture of a screen or a table.
        orientation: six cosines, of a row and of a column (PS3.3, C.7.6.2.1.1).
        position_mm: x, y, z of the first pixel.
        pixel_mm: between rows, between columns.
    """

    path: Path
    index: int | None
    uid: str
    study: str
    series: str
    number: int | None
    instance: int | None
    acquisition: str
    modality: str
    kind: tuple[str, ...]
    is_capture: bool
    kernel: str
    thickness_mm: float | None
    body_part: str
    rows: int
    columns: int
    orientation: tuple[float, ...] | None
    position_mm: tuple[float, float, float] | None
    pixel_mm: tuple[float, float] | None

    @property
    def has_geometry(self) -> bool:
        return self.orientation is not None and self.position_mm is not None and self.pixel_mm is not None

    @property
    def place(self) -> NDArray[np.float64]:
        """``position_mm`` to reckon with, of a frame that has geometry."""
        return np.array(self.position_mm, dtype=np.float64)

    @property
    def normal(self) -> NDArray[np.float64]:
        """Of the slice: rows x columns."""
        cosines = np.array(self.orientation).reshape(2, 3)
        return np.cross(cosines[0], cosines[1])


class NoPicture(Exception):
    """Why a DICOM file holds no grey picture, as the end of a sentence."""


def has_dicom_mark(path: Path) -> bool:
    """Whether 'DICM' stands where every DICOM file has it."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def frames(path: Path) -> list[Frame]:
    """All pictures in a DICOM file; its pixels are not read.

    Raises:
        NoPicture: it is a DICOM file of another kind.
        UserError: a deflated file is far larger than it seems.
        Exception: of any kind, where the header is damaged.
    """
    with quiet(), path.open("rb") as file:
        _check_inflated(path)
        bounded: Any = _Bounded(file)
        header = pydicom.dcmread(bounded, stop_before_pixels=True, specific_tags=list(NEEDED))
        if header.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
            raise NoPicture("is a table of contents (DICOMDIR), which holds no picture")
        if not all(_value(header, name) for name in PICTURE[1:]):
            raise NoPicture(f"is a {_kind_of_file(header)} file without a picture")
        if header.PhotometricInterpretation not in ("MONOCHROME1", "MONOCHROME2"):
            raise NoPicture("is a colour picture")
        many = _count_of_frames(path, header)
        per_frame = _value(header, "PerFrameFunctionalGroupsSequence")
        if many == 1 and not per_frame:
            return [_frame(path, None, [header])]
        shared = [group for item in (_value(header, "SharedFunctionalGroupsSequence") or ()) for group in _groups(item)]
        own = list(per_frame or ())
        if len(own) != many:  # nothing says where each frame lies
            return [replace(_frame(path, 0, [header]), position_mm=None)] * many
        return [_frame(path, index, [*_groups(group), *shared, header]) for index, group in enumerate(own)]


def pictures(path: Path) -> Iterator[NDArray[Any]]:
    """The pictures in a DICOM file in turn, each (Rows, Columns), rescaled (HU for CT): int16 where that is exact.

    Raises:
        UserError: it holds no grey picture, or too large a one.
        Exception: of any kind, where the file is damaged.
    """
    data = path.read_bytes()  # whole, so that no length in it takes more memory than there is file
    if data[128:132] != b"DICM":
        raise UserError(f"{path} is no DICOM file, or one that lost its header: export it again, or remove it.")
    _check_inflated(path)
    dataset = pydicom.dcmread(BytesIO(data))
    if not all(tag in dataset for tag in PICTURE):
        kind = _kind_of_file(dataset)
        raise UserError(f"{path} is a {kind} file without a picture: remove it, or give the image files of the series.")
    if dataset.PhotometricInterpretation not in ("MONOCHROME1", "MONOCHROME2"):
        raise UserError(f"{path} is a colour picture, no grey slice: export it with one grey channel, or remove it.")
    many = _count_of_frames(path, dataset)
    check_size(path, dataset.Rows * dataset.Columns)
    check_size(path, dataset.Rows * dataset.Columns * many, MAX_VOXELS)
    for index in range(many):
        pixels = stored_values(dataset, index)
        if pixels.shape != (dataset.Rows, dataset.Columns):
            raise ValueError(f"its header says {dataset.Rows} x {dataset.Columns} pixels, and there are {pixels.shape}")
        yield _rescaled(pixels, dataset, index)


def header_doubts(frame: Frame) -> tuple[str, ...]:
    """Why a picture that was read may be no axial slice of a chest CT."""
    found = []
    if frame.modality != "CT":
        found.append(f"its header says {frame.modality or 'no modality'}, not CT")
    if "LOCALIZER" in frame.kind:
        found.append("it is a localizer, no axial slice")
    if frame.body_part.upper() in ELSEWHERE:
        found.append(f"its header says {frame.body_part}, not chest")
    if frame.orientation is not None and np.hypot(*frame.normal[:2]) > MOST_TILT:
        found.append("its header says that it is no axial slice")
    return tuple(found)


class _Bounded:
    """A file in which no read asks for more than there is, whatever a length in it says."""

    def __init__(self, file: Any) -> None:
        self.seek, self.tell, self._file = file.seek, file.tell, file
        self._size = os.fstat(file.fileno()).st_size

    def read(self, count: int = -1) -> bytes:
        left = max(0, self._size - self.tell())
        return bytes(self._file.read(left if count < 0 else min(count, left)))


def _count_of_frames(path: Path, dataset: Dataset) -> int:
    """How many pictures a file says it holds.

    Raises:
        ValueError: fewer than one, or more than it has bytes.
    """
    many = int(_value(dataset, "NumberOfFrames") or 1)
    if not 1 <= many <= path.stat().st_size:
        raise ValueError(f"its header says that it holds {many} pictures")
    return many


def _frame(path: Path, index: int | None, groups: list[Dataset]) -> Frame:
    """What the first of some groups of elements says of each; the groups go from the particular to the general."""

    def first(name: str) -> Any:
        return next((value for group in groups if (value := _value(group, name)) is not None), None)

    header = groups[-1]
    kind = first("FrameType") or first("ImageType") or ()
    parts = ("AcquisitionNumber", "FrameAcquisitionNumber", "TemporalPositionIdentifier", "StackID")
    return Frame(
        path=path,
        index=index,
        uid=str(_value(header, "SOPInstanceUID") or path),
        study=str(_value(header, "StudyInstanceUID") or ""),
        series=str(_value(header, "SeriesInstanceUID") or ""),
        number=_whole(_value(header, "SeriesNumber")),
        instance=_whole(_value(header, "InstanceNumber")) if index is None else index,
        acquisition=" ".join(str(first(name)) for name in parts),
        modality=printable(_value(header, "Modality") or "", most=20),
        kind=tuple(str(part).upper() for part in ([kind] if isinstance(kind, str) else kind)),
        is_capture=str(_value(header, "SOPClassUID") or "").startswith(SECONDARY_CAPTURE),
        kernel=_text(first("ConvolutionKernel")),
        thickness_mm=next(iter(_floats(first("SliceThickness"), 1) or ()), None),
        body_part=printable(_value(header, "BodyPartExamined") or "", most=20),
        rows=int(header.Rows),
        columns=int(header.Columns),
        orientation=_cosines(first("ImageOrientationPatient")),
        position_mm=_point(first("ImagePositionPatient")),
        pixel_mm=_positive(_floats(first("PixelSpacing"), 2)),
    )


def _groups(frame: Dataset) -> list[Dataset]:
    """The functional groups of a frame, such as its plane position (PS3.3, C.7.6.16)."""
    return [item for element in frame if element.VR == "SQ" for item in list(element.value)[:1]]


def _rescaled(pixels: NDArray[Any], dataset: Dataset, index: int) -> NDArray[Any]:
    """Stored values as what they mean; padding as air, for a scanner may mark it by the highest value there is."""
    padding = _padded(pixels, dataset)
    if dataset.PhotometricInterpretation == "MONOCHROME1" and dataset.get("Modality") != "CT":
        # White is low only on the screen; HU mean what they mean, all other values are turned so that bright is high.
        highest = -1 if dataset.PixelRepresentation else 2**dataset.BitsStored - 1
        pixels = highest - pixels.astype(np.int64)
    rescale = _transformation(dataset, index)
    if _number(_value(rescale, "RescaleSlope")) == 0:
        raise ValueError("its rescale slope is 0, which leaves no grey values")
    for name, other, value in (("RescaleSlope", "RescaleIntercept", 1), ("RescaleIntercept", "RescaleSlope", 0)):
        if other in rescale and name not in rescale:  # pydicom would leave out both
            setattr(rescale, name, value)
    values = np.asarray(apply_modality_lut(pixels, rescale))
    low, high = float(values.min()), float(values.max())
    if not max(abs(low), abs(high)) < BEYOND:
        raise ValueError("its rescaled values are beyond all grey values")
    if padding is not None and dataset.get("Modality") == "CT":
        values = np.where(_at_the_edge(padding), np.minimum(values, PADDING_HU), values)
    if low >= -(2**15) and high < 2**15 and (values.dtype.kind in "iu" or (values == np.rint(values)).all()):
        return values.astype(np.int16)
    return values


def _at_the_edge(padding: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pieces of padding that reach the edge of the picture: elsewhere the same value is tissue, as 0 may be."""
    labels, count = ndimage.label(padding)
    at_edge = np.zeros(count + 1, dtype=bool)
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        at_edge[edge] = True
    at_edge[0] = False
    return np.asarray(at_edge[labels])


def _transformation(dataset: Dataset, index: int) -> Dataset:
    """The dataset that says how the stored values of a frame are rescaled."""
    own: Any = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    shared: Any = dataset.get("SharedFunctionalGroupsSequence") or ()
    for group in (*own[index : index + 1], *shared):
        if "PixelValueTransformationSequence" in group:
            rescale: Dataset = group.PixelValueTransformationSequence[0]
            return rescale
    return dataset


def _padded(pixels: NDArray[Any], dataset: Dataset) -> NDArray[np.bool_] | None:
    """Where a header says that pixels lie outside the scanned field (PS3.3, C.7.5.1.1.2)."""
    ends = [_number(_value(dataset, name)) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if ends[0] is None:
        return None
    low, high = sorted((ends[0], ends[0] if ends[1] is None else ends[1]))
    return np.asarray((pixels >= low) & (pixels <= high))


def _check_inflated(path: Path) -> None:
    """Refuses a deflated file that is a thousand times as large inside, which pydicom would inflate first and judge later."""
    with path.open("rb") as file:
        bounded: Any = _Bounded(file)
        bounded.seek(132)
        meta = read_dataset(
            bounded, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, _vr, _length: tag.group != 2
        )
        if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
            return
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        inflater.decompress(bounded.read(), 4 * MAX_PIXELS)
        if inflater.unconsumed_tail:
            raise too_large(path, "too many")


def _kind_of_file(dataset: Dataset) -> str:
    return printable(_value(dataset, "Modality") or "DICOM", most=20)


def _value(dataset: Dataset, name: str) -> Any:
    """An element, or None if it is missing or damaged: pydicom decodes it only now, and raises whatever comes up."""
    try:
        return dataset.get(name)
    except Exception:  # the picture itself is read and judged all the same
        return None


def _floats(value: Any, count: int) -> tuple[float, ...] | None:
    try:
        numbers = tuple(float(number) for number in np.atleast_1d(np.array(value, dtype=float)))
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and np.isfinite(numbers).all() else None


def _point(value: Any) -> tuple[float, float, float] | None:
    numbers = _floats(value, 3)
    return None if numbers is None or max(map(abs, numbers)) > BEYOND else (numbers[0], numbers[1], numbers[2])


def _cosines(value: Any) -> tuple[float, ...] | None:
    """Six cosines that span a plane."""
    numbers = _floats(value, 6)
    if numbers is None:
        return None
    row, column = np.array(numbers).reshape(2, 3)
    is_unit = all(abs(np.linalg.norm(cosines) - 1) < 0.01 for cosines in (row, column))
    return numbers if is_unit and abs(row @ column) < 0.01 else None


def _positive(value: tuple[float, ...] | None) -> tuple[float, float] | None:
    return (value[0], value[1]) if value is not None and min(value) > 0 else None


def _number(value: Any) -> float | None:
    numbers = _floats(value, 1)
    return None if numbers is None else numbers[0]


def _whole(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _text(value: Any) -> str:
    """A word or several of a header."""
    parts = value if isinstance(value, (list, tuple, pydicom.multival.MultiValue)) else [value]
    return printable(" ".join(str(part) for part in parts if part), most=40)
