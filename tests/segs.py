"""DICOM segmentations as others read them: pydicom alone, dcmqi (the code of 3D Slicer), dciodvfy, and the rules of viewers.

Nothing here uses highdicom, which writes them.
"""

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom.dataset import Dataset

BINARY = {
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4", "Modality": "SEG", "SegmentationType": "BINARY", "SegmentsOverlap": "NO",
    "BitsAllocated": 1, "BitsStored": 1, "HighBit": 0, "PixelRepresentation": 0, "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
}  # fmt: skip
FILLED = ("ContentDate", "ContentTime", "ContentLabel", "Manufacturer", "ManufacturerModelName", "DeviceSerialNumber",
          "SoftwareVersions", "SeriesNumber", "InstanceNumber", "SeriesDescription", "LossyImageCompression")  # fmt: skip
THERE = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber",
         "ReferringPhysicianName", "PositionReferenceIndicator", "ContentCreatorName", "ContentDescription")  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """A frame of a SEG: which segment, on which picture of the scan, and where."""

    segment: int
    code: str
    uid: str
    frame: int | None
    position: NDArray[np.float64]
    index: tuple[int, ...]
    mask: NDArray[np.bool_]  # (H, W)


def pictures_of(dataset: Dataset) -> list[Picture]:
    """The frames, by the bits of the pixel data (PS3.5 D: the first pixel is the lowest bit) and what the file says of each."""
    codes = {int(s.SegmentNumber): str(s.SegmentedPropertyTypeCodeSequence[0].CodeValue) for s in dataset.SegmentSequence}
    shape = (int(dataset.NumberOfFrames), int(dataset.Rows), int(dataset.Columns))
    bits = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")
    assert not bits[np.prod(shape) :].any(), "the pixel data are padded by something"
    assert len(bits) == -(-int(np.prod(shape)) // 16) * 16
    shared = dataset.SharedFunctionalGroupsSequence[0]
    found = []
    for mask, group in zip(bits[: np.prod(shape)].reshape(shape), dataset.PerFrameFunctionalGroupsSequence, strict=True):
        owner = group if "SegmentIdentificationSequence" in group else shared  # where there is one segment only
        number = int(owner.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        frame = source.get("ReferencedFrameNumber")
        found.append(
            Picture(
                number,
                codes[number],
                str(source.ReferencedSOPInstanceUID),
                None if frame is None else int(frame),
                np.array(group.PlanePositionSequence[0].ImagePositionPatient, dtype=float),
                tuple(group.FrameContentSequence[0].DimensionIndexValues),
                mask.astype(bool),
            )
        )
    return found


def viewer_faults(dataset: Dataset, sources: Sequence[Dataset]) -> list[str]:
    """What keeps OHIF, Cornerstone or 3D Slicer from showing a binary SEG on the pictures that it was made from.

    OHIF wants the referenced series (OHIF/Viewers #4030) and lays each frame on the picture that it refers to, of the same size
    (dcmjs #198); 3D Slicer goes by position and orientation; archives by the study and the frame of reference.
    """
    faults = [f"{name} is {dataset.get(name)}" for name, value in BINARY.items() if dataset.get(name) != value]
    faults += [f"{name} is empty" for name in FILLED if dataset.get(name) in (None, "")]
    faults += [f"{name} is missing" for name in THERE if name not in dataset]
    first = sources[0]
    for name in ("Rows", "Columns", "StudyInstanceUID", "FrameOfReferenceUID"):
        faults += [f"{name} is not the scan's"] * (dataset.get(name) != first.get(name))
    own = [dataset.SOPInstanceUID, dataset.SeriesInstanceUID, dataset.DimensionOrganizationSequence[0].DimensionOrganizationUID]
    faults += [
        f"{uid} is no UID of its own" for uid in own if not uid.is_valid or not uid.startswith("2.25.") or own.count(uid) > 1
    ]
    faults += ["the meta header names another instance"] * (dataset.file_meta.MediaStorageSOPInstanceUID != dataset.SOPInstanceUID)
    faults += _fault_of_references(dataset, sources)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    if not {"PixelMeasuresSequence", "PlaneOrientationSequence"} <= {element.keyword for element in shared}:
        return [*faults, "pixel measures or orientation are not shared"]
    numbers = [int(segment.SegmentNumber) for segment in dataset.SegmentSequence]
    faults += [f"segments are numbered {numbers}"] * (numbers != list(range(1, len(numbers) + 1)))
    for segment in dataset.SegmentSequence:
        wanted = ("SegmentLabel", "SegmentAlgorithmName", "RecommendedDisplayCIELabValue", "SegmentedPropertyCategoryCodeSequence")
        faults += [f"a segment has no {name}" for name in wanted if not segment.get(name)]
        faults += ["a segment is not AUTOMATIC"] * (segment.SegmentAlgorithmType != "AUTOMATIC")
    return faults + _faults_of_frames(dataset, sources, numbers)


def _fault_of_references(dataset: Dataset, sources: Sequence[Dataset]) -> list[str]:
    wanted = {(str(source.SOPClassUID), str(source.SOPInstanceUID)) for source in sources}
    series = list(dataset.get("ReferencedSeriesSequence", ()))
    if [one.SeriesInstanceUID for one in series] != [sources[0].SeriesInstanceUID]:
        return ["the series is not referred to, or not alone"]
    told = [(str(one.ReferencedSOPClassUID), str(one.ReferencedSOPInstanceUID)) for one in series[0].ReferencedInstanceSequence]
    return ["not every file of the series is referred to once"] if len(told) != len(wanted) or set(told) != wanted else []


def _faults_of_frames(dataset: Dataset, sources: Sequence[Dataset], numbers: Sequence[int]) -> list[str]:
    faults = []
    places = {key: place for source in sources for key, place in _places(source).items()}
    shared = dataset.SharedFunctionalGroupsSequence[0]
    orientation = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
    normal = np.cross(orientation[:3], orientation[3:])
    for group in dataset.PerFrameFunctionalGroupsSequence:
        derived = list(group.get("DerivationImageSequence", ()))
        origins = [source for one in derived for source in one.SourceImageSequence]
        if len(derived) != 1 or len(origins) != 1:
            return [*faults, "a frame has no source image, or several"]
        purpose = origins[0].PurposeOfReferenceCodeSequence[0]
        faults += ["a frame does not say what its source is for"] * (purpose.CodeValue != "121322")
        faults += ["a frame repeats what is shared"] * ("PlaneOrientationSequence" in group or "PixelMeasuresSequence" in group)
    pictures = pictures_of(dataset)
    for picture in pictures:
        place = places.get((picture.uid, picture.frame))
        if place is None:
            return [*faults, "a frame refers to a picture that is none of the scan's"]
        faults += ["a frame lies elsewhere than its picture"] * (not np.allclose(place[0], picture.position, atol=1e-4))
        faults += ["a frame has another orientation than its picture"] * (not np.allclose(place[1], orientation, atol=2e-3))
        spacing = np.array(shared.PixelMeasuresSequence[0].PixelSpacing, dtype=float)
        faults += ["a frame has other pixels than its picture"] * (not np.allclose(place[2], spacing, rtol=1e-3))
        faults += ["a frame is empty"] * (not picture.mask.any())
        faults += ["the segment is not the first dimension"] * (picture.index[0] != picture.segment or len(picture.index) != 2)
    faults += ["a segment has no frame"] * ({picture.segment for picture in pictures} != set(numbers))
    faults += ["frames are not in the order of their dimensions"] * (
        [picture.index for picture in pictures] != sorted({picture.index for picture in pictures})
    )
    heights = {picture.index[1]: float(picture.position @ normal) for picture in pictures}
    steps = np.diff([heights[index] for index in sorted(heights)])
    faults += ["positions do not go one way with their index"] * (not ((steps > 0).all() or (steps < 0).all()))
    faults += ["indices of positions have gaps"] * (sorted(heights) != list(range(1, len(heights) + 1)))
    return faults


def _places(source: Dataset) -> dict[tuple[str, int | None], tuple[Any, Any, Any]]:
    """Position, orientation and pixel spacing of each picture of a file, by its UID and frame number."""
    names = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    if "PerFrameFunctionalGroupsSequence" not in source:
        return {(str(source.SOPInstanceUID), None): tuple(np.array(source[name].value, dtype=float) for name in names)}
    sequences = ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")
    shared = source.SharedFunctionalGroupsSequence[0]
    return {
        (str(source.SOPInstanceUID), number): tuple(
            np.array((group if sequence in group else shared)[sequence][0][name].value, dtype=float)
            for sequence, name in zip(sequences, names, strict=True)
        )
        for number, group in enumerate(source.PerFrameFunctionalGroupsSequence, 1)
    }


def said_by_dciodvfy(path: Path) -> list[str]:
    """The errors that David Clunie's validator finds in a file."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("needs dciodvfy (Debian: dicom3tools)")
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, timeout=60, check=False)
    said = (done.stdout + done.stderr).splitlines()
    assert "Segmentation" in said
    return [line for line in said if line.startswith("Error")]


def by_dcmqi(path: Path, folder: Path) -> sitk.Image:
    """The segments as one label image, as the code of 3D Slicer makes it; labels are the numbers of the segments."""
    if find_spec("dcmqi") is None:
        pytest.skip("needs dcmqi")
    import dcmqi

    folder.mkdir()
    binary = Path(dcmqi.__file__).parent / "bin" / "segimage2itkimage"
    words = [str(binary), "--inputDICOM", str(path), "--outputDirectory", str(folder), "-t", "nrrd", "-p", "a", "--mergeSegments"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "W:" not in done.stderr, done.stderr  # what is missing in the file
    return sitk.ReadImage(str(folder / "a-1.nrrd"))


def headers(paths: Sequence[Path]) -> list[Dataset]:
    return [pydicom.dcmread(path, stop_before_pixels=True) for path in paths]
