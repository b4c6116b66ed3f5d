"""DICOM studies made to order: a list of slices, changed like any list, then written into a folder.

A case is told by what is done to the list: a missing slice is ``del slices[3]``, a duplicate ``[*slices, slices[3]]``, another
rescale ``[replace(piece, stored=...) for piece in slices]``, two series interleaved ``sum(map(list, zip(a, b)), [])``.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    BasicTextSRStorage,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    MediaStorageDirectoryStorage,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    RLELossless,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)
from pydicom.valuerep import DSfloat

from kinds import dicom, gdcm_dicom

# What must never leave a file: a privacy test plants these and searches for each value in all that was written or said.
IDENTITY: dict[str, str] = {
    "PatientName": "Plantedname^Secret",
    "PatientID": "PLANTED-ID-4711",
    "PatientBirthDate": "19330217",
    "PatientAddress": "Plantedstreet 17",
    "OtherPatientIDs": "PLANTED-OTHER-815",
    "InstitutionName": "Planted General Hospital",
    "ReferringPhysicianName": "Plantedreferrer^Doctor",
    "PerformingPhysicianName": "Plantedperformer^Doctor",
    "OperatorsName": "Plantedoperator^Nurse",
    "AccessionNumber": "PLANTED-ACC-99",
    "StudyID": "PLANTED-STUDY-3",
    "StudyDate": "20190731",
    "StudyDescription": "Plantedstudy of a known person",
    "SeriesDescription": "Plantedseries of a known person",
    "ImageComments": "Plantedcomment on a known person",
    "PatientComments": "Plantedremark on a known person",
}
PLANTED = tuple(dict.fromkeys(part for value in IDENTITY.values() for part in (value, *value.split("^")) if len(part) > 6))

Vector = tuple[float, float, float]
Syntax = str | int  # a UID for pydicom, a number for GDCM

SYNTAXES: dict[str, Syntax] = {
    "implicit": ImplicitVRLittleEndian,
    "explicit": ExplicitVRLittleEndian,
    "big-endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpeg 2000": JPEG2000Lossless,  # of 64 x 64 pixels or more
    "jpeg lossless": gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    "jpeg lossless, any predictor": gdcm.TransferSyntax.JPEGLosslessProcess14,
    "jpeg-ls": gdcm.TransferSyntax.JPEGLSLossless,
}


def uid(*seeds: object) -> UID:
    """The same valid UID for the same seeds."""
    return generate_uid(entropy_srcs=["lungseg", *map(repr, seeds)])


def plain_hu(shape: tuple[int, int, int] = (7, 9, 12), seed: int = 0) -> NDArray[np.int16]:
    """Noise (Z, H, W) within what 12 bits hold, no two slices alike."""
    return np.random.default_rng(seed).integers(-1024, 1024, shape).astype(np.int16)


@dataclass(frozen=True)
class Place:
    """Where slices lie: unit vectors and millimetres, LPS; ``pixel_mm`` as in PixelSpacing, between rows and between columns.

    The table moves along the normal of ``row`` x ``column``; ``tilt_deg`` leans the slices, and not the way of the table, around
    ``row``, as the gantry of a scanner does.
    """

    row: Vector = (1.0, 0.0, 0.0)
    column: Vector = (0.0, 1.0, 0.0)
    origin_mm: Vector = (-31.5, 12.25, -140.0)
    pixel_mm: tuple[float, float] = (0.8, 0.65)
    step_mm: float = 2.5  # below zero: the first slice is the one furthest along the normal
    tilt_deg: float = 0.0

    @property
    def travel(self) -> NDArray[np.float64]:
        return np.cross(self.row, self.column)

    @property
    def orientation(self) -> NDArray[np.float64]:
        """ImageOrientationPatient, (6,)."""
        angle = np.deg2rad(self.tilt_deg)
        return np.concatenate([self.row, np.cos(angle) * np.array(self.column) - np.sin(angle) * self.travel])

    def positions(self, offsets_mm: Sequence[float]) -> NDArray[np.float64]:
        """ImagePositionPatient of slices so far along the way of the table, (Z, 3)."""
        return np.array(self.origin_mm) + np.outer(offsets_mm, self.travel)

    def points(self, shape: tuple[int, int, int]) -> NDArray[np.float64]:
        """The centre of every voxel of evenly spaced slices, (Z, H, W, 3): to paint a scene by."""
        z, y, x = (index[..., None] for index in np.indices(shape))
        row, column = self.orientation.reshape(2, 3)
        return (
            np.array(self.origin_mm) + z * self.step_mm * self.travel + y * self.pixel_mm[0] * column + x * self.pixel_mm[1] * row
        )


AXIAL = Place()
PLACES: dict[str, Place] = {
    "axial": AXIAL,
    "feet first in the file": Place(step_mm=-2.5),
    "prone": Place(row=(-1.0, 0.0, 0.0), column=(0.0, -1.0, 0.0)),
    "seen from the head": Place(row=(-1.0, 0.0, 0.0), column=(0.0, 1.0, 0.0)),
    "upside down": Place(row=(1.0, 0.0, 0.0), column=(0.0, -1.0, 0.0)),
    "rows down the body": Place(row=(0.0, 1.0, 0.0), column=(1.0, 0.0, 0.0)),
    "coronal": Place(row=(1.0, 0.0, 0.0), column=(0.0, 0.0, -1.0)),
    "sagittal": Place(row=(0.0, 1.0, 0.0), column=(0.0, 0.0, -1.0), step_mm=-1.2),
    "oblique": Place(row=(0.96, 0.28, 0.0), column=(-0.2688, 0.9216, -0.28)),
    "steep": Place(row=(0.96, 0.28, 0.0), column=(-0.168, 0.576, -0.8)),
}


@dataclass(frozen=True)
class Stored:
    """How HU lie in a file: hu = slope * stored + intercept."""

    slope: float = 1.0
    intercept: float = 0.0
    bits: int = 16
    signed: bool = True
    clear: bool = False  # the bits above the highest stored one, which carry the sign otherwise
    padding: int | None = None  # PixelPaddingValue

    def pixels(self, hu: NDArray[Any]) -> NDArray[Any]:
        exact = (hu.astype(np.float64) - self.intercept) / self.slope
        stored = np.round(exact).astype(np.int64)
        lowest, span = -(2 ** (self.bits - 1)) if self.signed else 0, 2**self.bits
        assert np.allclose(stored, exact, atol=1e-6), "these HU are none of this rescale"
        assert lowest <= stored.min() <= stored.max() < lowest + span, "these HU do not fit into the bits"
        if self.clear:
            stored %= span
        return stored.astype(np.uint16).view(np.int16 if self.signed else np.uint16)

    def tags(self) -> dict[str, Any]:
        found: dict[str, Any] = {"BitsAllocated": 16, "BitsStored": self.bits, "HighBit": self.bits - 1}
        return found if self.padding is None else found | {"PixelPaddingValue": self.padding}


STORED: dict[str, Stored] = {
    "signed 16 bit": Stored(),
    "signed 16 bit, shifted": Stored(intercept=-1024),
    "unsigned 16 bit": Stored(intercept=-1024, signed=False),
    "unsigned 12 bit": Stored(intercept=-1024, bits=12, signed=False),
    "signed 12 bit": Stored(bits=12),
    "signed 12 bit, high bits clear": Stored(bits=12, clear=True),
    "a slope of a quarter": Stored(slope=0.25, intercept=-1024),
    "a negative slope": Stored(slope=-1, intercept=100),
}


@dataclass(frozen=True)
class Slice:
    """One picture and what its file says; ``tags`` has the last word."""

    hu: NDArray[Any]  # (H, W)
    position: NDArray[np.float64]  # (3,)
    place: Place
    stored: Stored = field(default_factory=Stored)
    tags: dict[str, Any] = field(default_factory=dict)

    @property
    def uid(self) -> UID:
        return UID(self.tags["SOPInstanceUID"])

    def having(self, **tags: Any) -> "Slice":
        return replace(self, tags={**self.tags, **tags})

    def without(self, *names: str) -> "Slice":
        """Without elements that ``series`` would give it, the geometry included."""
        return self.having(**dict.fromkeys(names, ABSENT))


ABSENT = object()


def series(
    hu: NDArray[Any],
    place: Place = AXIAL,
    seed: object = "a",
    *,
    offsets_mm: Sequence[float] | None = None,
    jitter: float = 0.0,
    stored: Stored | None = None,
    **tags: Any,
) -> list[Slice]:
    """The slices of one series, hu (Z, H, W), all with the same SeriesInstanceUID, in the order in which the table moved.

    SliceThickness is no step, InstanceNumber no order and SliceLocation constant, as some exports have them: the position counts.

    Args:
        seed: of all UIDs; the study is the same for all seeds.
        offsets_mm: where each slice lies along the way of the table, for uneven steps.
        jitter: how far from its place each slice is said to lie at most, as a share of the step.
    """
    rng = np.random.default_rng(len(hu))
    positions = place.positions(place.step_mm * np.arange(len(hu)) if offsets_mm is None else offsets_mm)
    away = rng.normal(size=positions.shape)
    away *= rng.uniform(0, 1, (len(hu), 1)) / np.linalg.norm(away, axis=1, keepdims=True)
    positions = positions + jitter * abs(place.step_mm) * away
    numbers = rng.permutation(len(hu)) + 1
    common = {
        **IDENTITY,
        "StudyInstanceUID": uid("study"),
        "SeriesInstanceUID": uid("series", seed),
        "FrameOfReferenceUID": uid("frame of reference"),
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "SliceThickness": decimal(1.7 * abs(place.step_mm)),
        "SliceLocation": "0",
        "SeriesNumber": 3,
        "AcquisitionNumber": 1,
        "BodyPartExamined": "CHEST",
    }
    if place.tilt_deg:
        common["GantryDetectorTilt"] = decimal(place.tilt_deg)
    return [
        Slice(
            picture,
            position,
            place,
            stored or Stored(),
            {**common, "InstanceNumber": int(number), "SOPInstanceUID": uid("slice", seed, index), **tags},
        )
        for index, (picture, position, number) in enumerate(zip(hu, positions, numbers, strict=True))
    ]


def copied(piece: Slice) -> Slice:
    """The same picture at the same place as another object, as an archive makes it that sends twice."""
    return piece.having(SOPInstanceUID=uid("copy of", piece.uid))


def write(folder: Path, slices: Sequence[Slice], syntax: Syntax = ExplicitVRLittleEndian, names: str = "plain") -> list[Path]:
    """Each slice as a file, named in one of the ways of ``NAMES``."""
    paths = [folder / NAMES[names](index, piece) for index, piece in enumerate(slices)]
    for path, piece in zip(paths, slices, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_slice(path, piece, syntax)
    return paths


def _scrambled(index: int, piece: Slice) -> str:
    return f"{uid(index, piece.uid)[-12:]}"


NAMES: dict[str, Callable[[int, Slice], str]] = {
    "plain": lambda index, piece: f"IM{index:04d}.dcm",
    "reversed": lambda index, piece: f"IM{9999 - index:04d}.DCM",
    "shuffled": lambda index, piece: f"{_scrambled(index, piece)}.dcm",
    "without suffix": lambda index, piece: f"I{_scrambled(index, piece)}",
    "uid": lambda index, piece: f"CT.{piece.uid}.{index}",
    "numbered suffix": lambda index, piece: f"scan.{index + 1:03d}",
    "nested": lambda index, piece: f"S{index % 3}/A{index % 2}/{_scrambled(index, piece)}.ima",
    "same in sub-folders": lambda index, piece: f"D{index:03d}/00000001",
}


def write_slice(path: Path, piece: Slice, syntax: Syntax = ExplicitVRLittleEndian) -> None:
    tags: dict[str, Any] = {
        "ImagePositionPatient": decimals(piece.position),
        "ImageOrientationPatient": decimals(piece.place.orientation),
        "PixelSpacing": decimals(piece.place.pixel_mm),
        "RescaleSlope": decimal(piece.stored.slope),
        "RescaleIntercept": decimal(piece.stored.intercept),
        "ConvolutionKernel": "B",
        "Modality": "CT",
        **piece.stored.tags(),
        **piece.tags,
    }
    _save(path, piece.stored.pixels(piece.hu), syntax, tags)


def enhanced(path: Path, *stacks: Sequence[Slice], seed: object = "a", syntax: Syntax = ExplicitVRLittleEndian) -> None:
    """One Enhanced CT file (PS3.3 A.38.1) whose frames are the slices in the order given, of one stack or of several.

    What all frames have in common stands in the shared functional groups, everything else in those of the frame.
    """
    pieces = [(number, place, piece) for number, stack in enumerate(stacks, 1) for place, piece in enumerate(stack, 1)]
    groups = [_groups(piece) for _, _, piece in pieces]
    shared = [name for name, item in groups[0].items() if all(other[name] == item for other in groups)]
    frames = []
    for (stack_number, in_stack, _), group in zip(pieces, groups, strict=True):
        content = _item(StackID=str(stack_number), InStackPositionNumber=in_stack, DimensionIndexValues=[stack_number, in_stack])
        own = {name: [item] for name, item in group.items() if name not in shared}
        frames.append(_item(FrameContentSequence=[content], **own))
    first = pieces[0][2]
    common = {
        name: value for name, value in first.tags.items() if name not in ("InstanceNumber", "SliceThickness", "SliceLocation")
    }
    tags = {
        **first.stored.tags(),
        **common,
        "SOPClassUID": EnhancedCTImageStorage,
        "SOPInstanceUID": uid("multi-frame", seed),
        "InstanceNumber": 1,
        "NumberOfFrames": len(pieces),
        "SharedFunctionalGroupsSequence": [_item(**{name: [groups[0][name]] for name in shared})],
        "PerFrameFunctionalGroupsSequence": frames,
    }
    _save(path, np.stack([piece.stored.pixels(piece.hu) for _, _, piece in pieces]), syntax, tags)


def _groups(piece: Slice) -> dict[str, Dataset]:
    kernel = piece.tags.get("ConvolutionKernel", "B")
    return {
        "PlanePositionSequence": _item(ImagePositionPatient=decimals(piece.position)),
        "PlaneOrientationSequence": _item(ImageOrientationPatient=decimals(piece.place.orientation)),
        "PixelMeasuresSequence": _item(PixelSpacing=decimals(piece.place.pixel_mm), SliceThickness=piece.tags["SliceThickness"]),
        "PixelValueTransformationSequence": _item(
            RescaleSlope=decimal(piece.stored.slope), RescaleIntercept=decimal(piece.stored.intercept), RescaleType="HU"
        ),
        "CTImageFrameTypeSequence": _item(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]),
        "CTReconstructionSequence": _item(ConvolutionKernel=kernel),
    }


def _item(**tags: Any) -> Dataset:
    item = Dataset()
    for name, value in tags.items():
        setattr(item, name, value)
    return item


def _save(path: Path, pixels: NDArray[Any], syntax: Syntax, tags: dict[str, Any]) -> None:
    tags = {"SOPClassUID": CTImageStorage} | {name: value for name, value in tags.items() if value is not ABSENT}
    if isinstance(syntax, int):
        gdcm_dicom(path, pixels, syntax, **tags)
    else:
        dicom(path, pixels.astype(pixels.dtype.newbyteorder(">")) if syntax == ExplicitVRBigEndian else pixels, syntax, **tags)


def decimal(number: float) -> DSfloat:
    """A number as DICOM writes it, in 16 letters at most."""
    return DSfloat(float(number), auto_format=True)


def decimals(numbers: Sequence[float] | NDArray[np.float64]) -> list[DSfloat]:
    return [decimal(number) for number in numbers]


def others() -> dict[str, Callable[[Path], Any]]:
    """What is no slice of a CT series and lies in the folders of hospitals nevertheless; each writes one file into a folder."""
    picture = series(plain_hu((1, 20, 14), seed=5), seed="other")[0]
    coronal = replace(picture, place=PLACES["coronal"])
    geometry = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept")
    bare = ("FrameOfReferenceUID", "SliceThickness", "SliceLocation", "ConvolutionKernel", *geometry)

    def alone(name: str, piece: Slice, **tags: Any) -> Callable[[Path], Any]:
        own = {"SOPInstanceUID": uid("alone", name), "SeriesInstanceUID": uid("series", name), **tags}
        return lambda folder: write_slice(folder / name, piece.having(**own))

    def headed(name: str, **tags: Any) -> Callable[[Path], Any]:
        own = {**IDENTITY, "SOPInstanceUID": uid("alone", name), "SeriesInstanceUID": uid("series", name), **tags}
        return lambda folder: _save(folder / name, np.empty(0), ExplicitVRLittleEndian, own)

    return {
        "localizer": alone("scout.dcm", coronal, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        "secondary capture": alone(
            "capture.dcm",
            picture.without(*bare),
            SOPClassUID=SecondaryCaptureImageStorage,
            Modality="OT",
            ConversionType="WSD",
            ImageType=["DERIVED", "SECONDARY"],
        ),
        "secondary capture that says CT": alone(
            "report.dcm", picture.without(*bare), SOPClassUID=SecondaryCaptureImageStorage, ImageType=["DERIVED", "SECONDARY"]
        ),
        "mr": alone("mr.dcm", picture.without("ConvolutionKernel"), SOPClassUID=MRImageStorage, Modality="MR"),
        "pt": alone(
            "pt.dcm", picture.without("ConvolutionKernel"), SOPClassUID=PositronEmissionTomographyImageStorage, Modality="PT"
        ),
        "sr": headed("sr.dcm", SOPClassUID=BasicTextSRStorage, Modality="SR"),
        "rtstruct": headed("structures.dcm", SOPClassUID=RTStructureSetStorage, Modality="RTSTRUCT", StructureSetLabel="lungs"),
        "dicomdir": headed(
            "DICOMDIR", SOPClassUID=MediaStorageDirectoryStorage, FileSetID="DISC", Modality=None, DirectoryRecordSequence=[]
        ),
        "text": lambda folder: (folder / "readme.txt").write_text("Open with the viewer on this disc.\n"),
        "nonsense named dicom": lambda folder: (folder / "nonsense.dcm").write_bytes(b"no image at all" * 40),
        "empty": lambda folder: (folder / "empty.dcm").write_bytes(b""),
        "cut off in its header": lambda folder: cut(
            _written(folder / "cut.dcm", picture.having(SeriesInstanceUID=uid("cut"))), 0.15
        ),
    }


HIDDEN = (".DS_Store", "Thumbs.db", "desktop.ini", "._IM0001.dcm", ".hidden/IM0001")


def litter(folder: Path) -> None:
    """Files that operating systems leave in folders and no user sees."""
    for name in HIDDEN:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"\0\0\0\1Bud1" + bytes(200))


def cut(path: Path, share: float) -> Path:
    """The first part of a file, as a full disc or a broken line leaves it."""
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    return path


def duplicate(path: Path) -> Path:
    """The same file under another name."""
    return Path(shutil.copy(path, path.with_name(f"copy of {path.name}")))


def _written(path: Path, piece: Slice) -> Path:
    write_slice(path, piece)
    return path
