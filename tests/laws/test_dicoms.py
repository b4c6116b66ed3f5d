"""The factory of DICOM studies, held against the libraries that read what it writes: what tests believe must be in the files."""

from dataclasses import replace
from pathlib import Path

import gdcm
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from dicoms import NAMES, PLACES, PLANTED, STORED, SYNTAXES, Place, enhanced, litter, others, plain_hu, series, write
from lungseg.imaging.quiet import quiet

HU = plain_hu()


@pytest.mark.parametrize("place", PLACES)
def test_itk_sees_the_same_places(place: str, tmp_path: Path) -> None:
    slices = series(HU, PLACES[place])
    paths = write(tmp_path, slices)
    along = slices if PLACES[place].step_mm > 0 else slices[::-1]
    image = sitk.ReadImage([str(path) for path in (paths if along is slices else paths[::-1])], imageIO="GDCMImageIO")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), [piece.hu for piece in along])
    points = PLACES[place].points(HU.shape)
    points = points if along is slices else points[::-1]
    for z, y, x in ((0, 0, 0), (6, 0, 0), (0, 8, 0), (0, 0, 11), (6, 8, 11)):
        np.testing.assert_allclose(image.TransformIndexToPhysicalPoint((x, y, z)), points[z, y, x], atol=1e-3)


@pytest.mark.parametrize("stored", STORED)
def test_pydicom_rescales_to_the_same_values(stored: str, tmp_path: Path) -> None:
    slices = series(HU, stored=STORED[stored])
    for path, piece in zip(write(tmp_path, slices), slices, strict=True):
        dataset = pydicom.dcmread(path)
        np.testing.assert_array_equal(dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept), piece.hu)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_transfer_syntax_is_written_with_all_tags(syntax: str, tmp_path: Path) -> None:
    slices = series(plain_hu((2, 64, 66)), PLACES["oblique"], stored=STORED["unsigned 12 bit"])
    for path, piece in zip(write(tmp_path, slices, SYNTAXES[syntax]), slices, strict=True):
        dataset = pydicom.dcmread(path)
        np.testing.assert_array_equal(dataset.pixel_array.astype(int) + int(dataset.RescaleIntercept), piece.hu)
        np.testing.assert_allclose(dataset.ImagePositionPatient, piece.position, atol=1e-4)
        np.testing.assert_allclose(dataset.ImageOrientationPatient, piece.place.orientation, atol=1e-6)
        assert tuple(dataset.PixelSpacing) == piece.place.pixel_mm
        assert (dataset.SOPInstanceUID, str(dataset.PatientName)) == (piece.uid, "Plantedname^Secret")
        assert dataset.file_meta.MediaStorageSOPInstanceUID == piece.uid
    name = SYNTAXES[syntax] if isinstance(SYNTAXES[syntax], str) else gdcm.TransferSyntax(SYNTAXES[syntax]).GetString()
    assert {str(pydicom.dcmread(path).file_meta.TransferSyntaxUID) for path in tmp_path.iterdir()} == {str(name)}


def test_a_tilted_gantry_leans_the_slices_and_not_the_table() -> None:
    """The numbers of a scanner: 18.5 degrees, rows across, columns leaning to the feet, positions along z alone."""
    place = Place(tilt_deg=18.5)
    np.testing.assert_allclose(place.orientation, [1, 0, 0, 0, 0.9483237, -0.3173047], atol=1e-7)
    steps = np.diff([piece.position for piece in series(HU, place)], axis=0)
    np.testing.assert_allclose(steps, [[0, 0, 2.5]] * 6, atol=1e-9)


def test_jitter_is_no_more_than_said() -> None:
    exact, moved = (np.array([piece.position for piece in series(HU, jitter=share)]) for share in (0, 0.1))
    away = np.linalg.norm(moved - exact, axis=1)
    assert 0 < away.max() <= 0.25


def test_frames_carry_their_own_places_and_rescale(tmp_path: Path) -> None:
    slices = series(HU, stored=STORED["unsigned 12 bit"])
    slices[2] = replace(slices[2], stored=STORED["a slope of a quarter"])
    slices = [replace(piece, stored=replace(piece.stored, bits=16, signed=True)) for piece in slices]
    enhanced(tmp_path / "a.dcm", slices[::-1])
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    assert "PlaneOrientationSequence" in dataset.SharedFunctionalGroupsSequence[0]
    for piece, frame, pixels in zip(slices[::-1], dataset.PerFrameFunctionalGroupsSequence, dataset.pixel_array, strict=True):
        np.testing.assert_allclose(frame.PlanePositionSequence[0].ImagePositionPatient, piece.position, atol=1e-4)
        rescale = frame.PixelValueTransformationSequence[0]
        np.testing.assert_array_equal(pixels * float(rescale.RescaleSlope) + float(rescale.RescaleIntercept), piece.hu)


def test_names_are_all_different(tmp_path: Path) -> None:
    for names in NAMES:
        assert len(set(write(tmp_path / names, series(HU), names=names))) == len(HU)


def test_the_same_files_are_written_again(tmp_path: Path) -> None:
    first, again = (write(tmp_path / name, series(HU)) for name in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]


def test_what_must_not_leave_is_in_the_files(tmp_path: Path) -> None:
    content = b"".join(path.read_bytes() for path in write(tmp_path, series(HU)))
    assert [value for value in PLANTED if value.encode() not in content] == []


def test_other_files_are_what_they_are_called(tmp_path: Path) -> None:
    for name, write_other in others().items():
        before = set(tmp_path.iterdir())
        write_other(tmp_path)
        assert len(set(tmp_path.iterdir()) - before) == 1, name
    litter(tmp_path)
    with quiet():
        modalities = {
            path.name: pydicom.dcmread(path).get("Modality")
            for path in tmp_path.iterdir()
            if path.is_file() and path.read_bytes()[128:132] == b"DICM" and path.name != "cut.dcm"
        }
    assert modalities["mr.dcm"] == "MR"
    assert modalities["sr.dcm"] == "SR"
    assert len(modalities) == 8
