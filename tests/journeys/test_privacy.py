"""Who was scanned is in no file that is written, in no file's name and in no word that is said."""

import gzip
import re
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers import Done, lungseg, predict

from dicoms import IDENTITY, PLANTED, Slice, copied, cut, enhanced, others, series, uid, write
from patients import HU, PLACE

# Beside what every made slice carries: further elements, private ones, the file's own head, what is free to be typed.
MORE = {
    "StationName": "PLANTED-STATION",
    "DeviceSerialNumber": "PLANTED-SERIAL-5",
    "ProtocolName": "Plantedprotocol",
    "RequestedProcedureDescription": "Plantedrequest",
    "PatientMotherBirthName": "Plantedmother",
    "AdditionalPatientHistory": "Plantedhistory",
    "InstitutionalDepartmentName": "Planteddepartment",
}
PRIVATE, META = "Plantedprivate", "PLANTED-AE"
UIDS = str(uid())[:20]  # all of them begin so
SECRETS = (*PLANTED, *MORE.values(), PRIVATE, META, UIDS)


def plant(folder: Path) -> Path:
    """Puts more about the patient into every DICOM file of a folder."""
    for path in folder.rglob("*.dcm"):
        if path.name in ("empty.dcm", "nonsense.dcm", "cut.dcm", "broken.dcm"):
            continue
        dataset = pydicom.dcmread(path)
        for name, value in MORE.items():
            setattr(dataset, name, value)
        dataset.private_block(0x0029, "PLANTED PRIVATE", create=True).add_new(1, "LO", PRIVATE)
        dataset.file_meta.SourceApplicationEntityTitle = META
        dataset.save_as(path)
    return folder


def contents(path: Path) -> bytes:
    """The bytes of a file, and what is packed inside it."""
    raw = path.read_bytes()
    parts = [raw]
    for start in (match.start() for match in re.finditer(rb"\x1f\x8b\x08|x\x9c|x\xda|x\x5e|x\x01", raw)):
        try:
            parts.append(zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(raw[start:]))
        except zlib.error:
            continue
    return b"\n".join(parts)


def assert_nobody_is_named(done: Sequence[Done], beside: tuple[str, str], *places: Path) -> None:
    """In files, their names, what the commands said, and what libraries wrote to the terminal beside it."""
    written = [path for place in places for path in (place.rglob("*") if place.is_dir() else [place])]
    said = {f"said {number}": (one.out + one.err).encode() for number, one in enumerate(done)}
    said["beside"] = "".join(beside).encode()
    said |= {f"in {path.name}": contents(path) for path in written if path.is_file()}
    said |= {f"name of {path.name}": str(path).encode() for path in written}
    assert written
    found = [(secret, where) for where, text in said.items() for secret in SECRETS if secret.lower().encode() in text.lower()]
    assert found == []


# What makes a DICOM-SEG an object of its patient and study: the standard asks for it, and for nothing more.
OWN = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "ReferringPhysicianName",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "ContentDate",
)


def assert_only_what_must_is_named(seg: Path, aside: Path) -> None:
    """A DICOM-SEG names the patient in those elements, refers to the scan by its UIDs, and holds nothing else of it."""
    dataset = pydicom.dcmread(seg)
    assert [str(dataset[name].value) for name in OWN[:7]] == [IDENTITY[name] for name in OWN[:7]]
    for name in OWN:
        del dataset[name]
    references = [element for element in dataset.iterall() if element.VR == "UI" and str(element.value).startswith(UIDS)]
    assert {element.keyword for element in references} == {
        "StudyInstanceUID", "SeriesInstanceUID", "ReferencedSOPInstanceUID", "FrameOfReferenceUID",
    }  # fmt: skip
    for element in references:
        element.value = "2.25.1"
    dataset.file_meta.ImplementationClassUID = "2.25.1"  # highdicom's, which begins as those of pydicom do
    dataset.save_as(aside)
    assert_nobody_is_named([], ("", ""), aside)


def studies(root: Path) -> dict[str, list[Slice]]:
    """A sound study, and others with one fault each."""
    slices = series(HU, PLACE)
    shifted = replace(PLACE, origin_mm=(0.0, 0.0, 5.0))
    made = {
        "sound": slices,
        "copies": [*slices, copied(slices[0])],
        "gap": slices[:3] + slices[4:],
        "uneven": series(HU, PLACE, offsets_mm=[0, *(13.5 * np.arange(1, 24) + 4)]),
        "tilted": series(HU, replace(PLACE, tilt_deg=12.0)),
        "coronal": series(HU[:6], replace(PLACE, column=(0.0, 0.0, -1.0))),
        "mixed": slices[:12] + series(HU[12:, :40], shifted),
        "two pictures": [*slices, replace(copied(slices[4]), hu=slices[4].hu + np.int16(1))],
        "nowhere": [piece.without("ImagePositionPatient") for piece in slices[:3]],
        "colour": [piece.having(PhotometricInterpretation="RGB") for piece in slices[:3]],
        "sharp": series(HU, PLACE, seed="b", ConvolutionKernel="B70f") + slices,
        "MR": [piece.having(Modality="MR") for piece in slices[:3]],
        "no pixels": [piece.having(Rows=999) for piece in slices],
    }
    for name, pieces in made.items():
        own = [piece.having(StudyInstanceUID=uid("study of", name)) for piece in pieces]
        write(root / name, own if name != "sound" else pieces)
    write(root / "broken", [piece.having(StudyInstanceUID=uid("study of broken")) for piece in slices])
    cut(root / "broken" / "IM0003.dcm", 0.5).rename(root / "broken" / "broken.dcm")
    return made


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hospital")
    studies(root)
    enhanced(root / "frames.dcm", [piece.having(StudyInstanceUID=uid("study of frames")) for piece in series(HU, PLACE)])
    (root / "litter").mkdir()
    for write_other in others().values():
        write_other(root / "litter")
    return plant(root)


def test_what_is_planted_is_there_and_would_be_found(hospital: Path, tmp_path: Path) -> None:
    raw = (hospital / "sound" / "IM0000.dcm").read_bytes().lower()
    assert [secret for secret in SECRETS if secret.lower().encode() not in raw] == []
    assert len(SECRETS) > len(IDENTITY)
    for packed in (gzip.compress(raw), b"header" + zlib.compress(raw)):
        path = tmp_path / "a"
        path.write_bytes(packed)
        with pytest.raises(AssertionError):
            assert_nobody_is_named([], ("", ""), path)


@pytest.mark.parametrize("ending", ["nifti", "nrrd", "mha"])
def test_a_prediction_names_nobody(
    ending: str, hospital: Path, seeing_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ("overlays=true", "probabilities=true", "debug=true", f"format={ending}")
    done = predict(seeing_file, hospital / "sound", tmp_path / "out", *words)
    assert done.code == 0
    assert_nobody_is_named([done], capfd.readouterr(), tmp_path / "out")


@pytest.mark.parametrize("words", [(), pytest.param(("input.allow_gaps=true", "series=all", "debug=true"), marks=pytest.mark.slow)])
def test_a_dicom_seg_alone_names_its_patient(
    words: tuple[str, ...], hospital: Path, seeing_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("highdicom")
    out = tmp_path / "out"
    done = predict(seeing_file, hospital, out, "overlays=false", "dicom_seg=true", *words)
    beside = capfd.readouterr()
    found = sorted((out / "dicom_seg").rglob("*.dcm"))
    assert len(found) > 3
    for number, seg in enumerate(found):
        assert not [secret for secret in SECRETS if secret.lower() in str(seg.relative_to(out)).lower()]
        assert_only_what_must_is_named(seg, tmp_path / f"{number}.dcm")
        seg.unlink()
    assert not files_in(out / "dicom_seg")
    assert_nobody_is_named([done], beside, out)


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("words", [(), pytest.param(("input.allow_gaps=true", "series=all", "debug=true"), marks=pytest.mark.slow)])
def test_failures_name_nobody(
    words: tuple[str, ...], hospital: Path, seeing_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    done = predict(seeing_file, hospital, tmp_path / "out", "overlays=false", *words)
    assert done.code == 1
    assert "failed" in done.out
    assert_nobody_is_named([done], capfd.readouterr(), tmp_path / "out")


def test_refusals_and_inspection_name_nobody(
    hospital: Path, seeing_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said = [predict(seeing_file, hospital, tmp_path / "no", "series=lung", "debug=true")]
    said += [predict(seeing_file, hospital / name, tmp_path / "no") for name in ("MR", "litter")]
    assert {done.code for done in said} == {2}
    said.append(lungseg("inspect", str(hospital), f"json={tmp_path / 'found.json'}", "debug=true"))
    assert said[-1].code == 0
    assert "sound" in said[-1].out
    said += [lungseg("inspect", str(hospital / name), "debug=true") for name in ("gap", "MR", "frames.dcm", "litter/DICOMDIR")]
    assert_nobody_is_named(said, capfd.readouterr(), tmp_path / "found.json")
