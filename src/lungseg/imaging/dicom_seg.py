"""Lung labels of a DICOM series as a DICOM segmentation (SEG, PS3.3 A.51), which a PACS files beside the scan.

Every frame is a picture of the series: its size, its place, its orientation, and a reference to it. highdicom builds the object
from headers that hold the geometry alone; what names the patient is copied past it, for it logs what it doubts.
"""
# mypy: allow-untyped-calls

import hashlib
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import UID, CTImageStorage
from pydicom.valuerep import DSfloat

from lungseg.errors import UserError
from lungseg.files import written_whole
from lungseg.imaging.dicom import Frame
from lungseg.imaging.planes import LEFT_COLOUR, RIGHT_COLOUR
from lungseg.imaging.quiet import quiet
from lungseg.imaging.refusals import reading
from lungseg.imaging.series import EVEN, Series
from lungseg.imaging.stacking import onto_slices
from lungseg.imaging.volume import Grid
from lungseg.labels import LEFT, RIGHT

if TYPE_CHECKING:
    from highdicom.seg import Segmentation, SegmentDescription

NAME = "lungseg"
CATEGORY = Code("123037004", "SCT", "Anatomical Structure")
LUNG = Code("39607008", "SCT", "Lung")
SIDES = {RIGHT: Code("3341006", "SCT", "Right lung"), LEFT: Code("44029006", "SCT", "Left lung")}
NEURAL = Code("123110", "DCM", "Artificial Intelligence")  # CID 7162, algorithm families
# What makes an object one of its patient and study (PS3.3 C.7.1.1, C.7.2.1): empty where the scan has none, but there.
SHARED = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID",
    "AccessionNumber", "PositionReferenceIndicator",
)  # fmt: skip
IF_THERE = ("SpecificCharacterSet", "IssuerOfPatientID")
ESSENTIAL = ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID", "FrameOfReferenceUID")
LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
DAYS = ("ContentDate", "AcquisitionDate", "SeriesDate", "StudyDate")
NEEDED = (*SHARED, *IF_THERE, *ESSENTIAL, *LOSSY, *DAYS, *(name.replace("Date", "Time") for name in DAYS))
MOST_NUMBER = 2**31 - 1


@dataclass(frozen=True)
class Maker:
    """By what labels were made, as the SEG tells it: the version of lungseg, and the SHA-256 of the checkpoint."""

    version: str
    checkpoint_sha256: str


class NoSegmentation(Exception):
    """Why there can be no DICOM-SEG, as a clause; no value of a header stands in it."""


def check_highdicom() -> None:
    """Refuses what needs highdicom where it is not installed."""
    if find_spec("highdicom") is None:
        raise UserError('A DICOM-SEG needs the package highdicom: pip install "lungseg[dicom]".')


def write_dicom_seg(path: Path, labels: NDArray[Any], grid: Grid, series: Series, maker: Maker) -> None:
    """Labels of a series in canonical order (Z, H, W) as a binary DICOM-SEG on the pictures of the series.

    Labels 1 and 2 are the segments right lung and left lung, bool is one segment, lung. What is not there is no segment, and
    the segments are numbered from 1. The same labels of the same files by the same maker give the same bytes, UIDs included;
    so the date of its content is the scan's. Beside the labels it takes about a byte a voxel.

    Args:
        grid: of the volume that ``stacking.load`` made of the series.

    Raises:
        NoSegmentation: there is no lung, or the headers lack what a SEG must repeat.
        UserError: the file cannot be written.
    """
    pictures = onto_slices(series, grid.turn.back(labels))
    held = [index for index, picture in enumerate(pictures) if picture.any()]
    if not held:
        raise NoSegmentation("no lung was found, and a DICOM-SEG cannot be empty")
    headers, part = _headers(series), slice(held[0], held[-1] + 1)  # a view; highdicom leaves out what is empty within
    with quiet():
        try:
            dataset = _segmentation(pictures[part], series.frames[part], series, grid.spacing_mm[0], maker)
            _refer(dataset, series, headers)
            _belong(dataset, headers[series.first.path])
            _name(dataset)
        except (MemoryError, UserError):
            raise
        except Exception as error:  # a library refuses a header by any exception, and the mask must not be lost to it
            raise NoSegmentation(f"the headers of the scan do not allow it ({type(error).__name__})") from None
        with written_whole(path) as beside:
            dataset.save_as(beside, enforce_file_format=True)


def _headers(series: Series) -> dict[Path, Dataset]:
    """What a SEG needs of the header of each file."""
    found: dict[Path, Dataset] = {}
    for path in dict.fromkeys(frame.path for frame in series.frames):
        try:
            with reading(path):
                header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(NEEDED))
                lacking = [name for name in ESSENTIAL if not header.get(name)]
        except UserError:
            raise NoSegmentation(f"{path.name} cannot be read again") from None
        if lacking:
            raise NoSegmentation(f"{path.name} has no {lacking[0]}, which it must repeat")
        found[path] = header
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        if len({header[name].value for header in found.values()}) > 1:
            raise NoSegmentation(f"the files of the series differ in {name}")
    return found


def _segmentation(labels: NDArray[Any], frames: Sequence[Frame], series: Series, step_mm: float, maker: Maker) -> "Segmentation":
    """The labels (slices, Rows, Columns) of some frames of a series as a SEG of nobody."""
    import highdicom as hd

    places = (series.heights_mm - series.heights_mm[0]) / step_mm
    is_even = not series.is_gap or np.abs(places - np.rint(places)).max() <= EVEN
    found = (
        [LUNG] if labels.dtype == bool else [code for value, code in SIDES.items() if any((own == value).any() for own in labels)]
    )
    version, number = maker.version[:64], maker.checkpoint_sha256[:16]
    made = hd.seg.Segmentation(
        source_images=[_place(frame, series, step_mm if is_even else None) for frame in frames],
        pixel_array=labels if len(found) > 1 or labels.dtype == bool else labels > 0,
        segmentation_type="BINARY",
        segment_descriptions=[_description(number, code, maker) for number, code in enumerate(found, 1)],
        series_instance_uid=_uid("series"),
        series_number=min(1000 + max(series.number or 0, 0), MOST_NUMBER),
        sop_instance_uid=_uid("instance"),
        instance_number=1,
        manufacturer=NAME,
        manufacturer_model_name=NAME,
        software_versions=version,
        device_serial_number=number,
        content_label="LUNG",
        content_description="Lungs segmented by lungseg",
        series_description="lungseg lung segmentation",
    )
    made.ContentCreatorName = ""  # nobody, but the standard asks for it (PS3.3 C.8.20.2, type 2)
    # What highdicom takes from the clock is optional.
    del made.ContributingEquipmentSequence, made.InstanceCreationDate, made.InstanceCreationTime
    if len(made.PixelData) > -(-made.NumberOfFrames * made.Rows * made.Columns // 8):  # highdicom pads by the letter 0
        made.PixelData = made.PixelData[:-1] + b"\0"
    return made


def _description(number: int, code: Code, maker: Maker) -> "SegmentDescription":
    import highdicom as hd

    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=code.meaning,
        segmented_property_category=CATEGORY,
        segmented_property_type=code,
        algorithm_type="AUTOMATIC",
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            NAME, NEURAL, maker.version[:64], parameters={"checkpoint_sha256": maker.checkpoint_sha256[:16]}
        ),
        display_color=hd.color.CIELabColor.from_rgb(*(LEFT_COLOUR if code == SIDES[LEFT] else RIGHT_COLOUR)),
    )


def _place(frame: Frame, series: Series, step_mm: float | None) -> Dataset:
    """A header that says where a picture lies and nothing else.

    The orientation is the first picture's: within a series files round it each in its own way, and a SEG has one.
    """
    header = Dataset()
    header.SOPClassUID, header.SOPInstanceUID, header.Modality = CTImageStorage, _uid("source", repr(frame.position_mm)), "CT"
    header.StudyInstanceUID = header.SeriesInstanceUID = header.FrameOfReferenceUID = _uid("scan")
    header.Rows, header.Columns = frame.rows, frame.columns
    header.ImagePositionPatient, header.ImageOrientationPatient, header.PixelSpacing = (
        [_decimal(number) for number in numbers or ()]
        for numbers in (frame.position_mm, series.first.orientation, series.first.pixel_mm)
    )
    header.SliceThickness = _decimal(series.first.thickness_mm or step_mm or 1.0)
    if step_mm is not None:
        header.SpacingBetweenSlices = _decimal(step_mm)
    for name in SHARED:
        setattr(header, name, None)
    return header


def _refer(dataset: Dataset, series: Series, headers: dict[Path, Dataset]) -> None:
    """Refers to every file of the series, and of each frame to the very picture that it lies on."""

    def reference(header: Dataset) -> Dataset:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
        return item

    own = Dataset()
    own.SeriesInstanceUID = headers[series.first.path].SeriesInstanceUID
    own.ReferencedInstanceSequence = [reference(header) for header in headers.values()]
    dataset.ReferencedSeriesSequence = [own]
    dataset.SourceImageSequence = [reference(header) for header in headers.values()]
    heights = series.heights_mm
    for group in dataset.PerFrameFunctionalGroupsSequence:
        height = np.array(group.PlanePositionSequence[0].ImagePositionPatient, dtype=float) @ series.first.normal
        frame = series.frames[int(np.abs(heights - height).argmin())]
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        source.ReferencedSOPClassUID = headers[frame.path].SOPClassUID
        source.ReferencedSOPInstanceUID = headers[frame.path].SOPInstanceUID
        if frame.index is not None:
            source.ReferencedFrameNumber = frame.index + 1


def _belong(dataset: Dataset, header: Dataset) -> None:
    """Makes it an object of the scan's patient, study and frame of reference, and as old as the scan."""
    for name in (*SHARED, "StudyInstanceUID", "FrameOfReferenceUID"):
        if name in header:
            dataset[name] = header[name]
    for name in (*IF_THERE, *LOSSY):
        if header.get(name):  # none of them may be empty
            dataset[name] = header[name]
    days = [(header.get(name), header.get(name.replace("Date", "Time"))) for name in DAYS]
    day, moment = next(((day, moment) for day, moment in days if re.fullmatch(r"\d{8}", str(day))), ("19000101", ""))
    dataset.ContentDate = day
    dataset.ContentTime = moment if re.fullmatch(r"\d{6}(\.\d{1,6})?", str(moment)) else "000000"


def _name(dataset: "Segmentation") -> None:
    """Gives it UIDs that follow from all that it holds: another SEG has others, and the same one has the same."""
    dataset.DimensionOrganizationSequence[0].DimensionOrganizationUID = _uid("dimensions")
    for index in dataset.DimensionIndexSequence:
        index.DimensionOrganizationUID = _uid("dimensions")
    content = BytesIO()
    dataset.save_as(content, enforce_file_format=True)
    digest = hashlib.sha256(content.getbuffer()).hexdigest()
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = _uid("instance", digest)
    dataset.SeriesInstanceUID = _uid("series", digest)
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = _uid("dimensions", digest)


def _uid(*words: str) -> UID:
    """The same UID for the same words, under the root that the standard keeps for UUIDs (PS3.5 B.2)."""
    return UID(f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, ' '.join((NAME, *words))).int}")


def _decimal(number: float) -> DSfloat:
    """A number in the 16 letters that DICOM has for one."""
    return DSfloat(float(number), auto_format=True)
