"""Laws of scans as training data: what is learnt does not depend on file, orientation or unit, and a scan is one patient."""

import logging
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from dicoms import series, write
from lungseg.data.cases import FileCase, Stack
from lungseg.data.sources import FolderSource
from lungseg.data.volumes import VolumeSource
from lungseg.errors import UserError
from lungseg.imaging.readers import read
from lungseg.imaging.units import as_seen
from patients import HU, PLACE, SIDES, SPACING_MM, image, save

LUNG = (SIDES > 0).astype(np.uint8)


def scan(folder: Path, hu: np.ndarray = HU) -> FileCase:
    return FileCase("a", save(folder / "a.nrrd", hu), save(folder / "mask.nrrd", LUNG))


def assert_is_the_patient(stack: Stack) -> None:
    np.testing.assert_array_equal(stack.image[:], HU)
    np.testing.assert_array_equal(stack.labels, LUNG)
    assert stack.spacing_mm == pytest.approx(SPACING_MM, abs=1e-4)
    assert stack.is_hu


@pytest.mark.parametrize(
    ("name", "way", "mask", "mask_way"),
    [("a.nii.gz", "LPS", "m.nrrd", "RAI"), ("a.nrrd", "PIR", "m.nii", "LPS"), ("a.mha", "ASR", "m.mha", "ASR")],
)
def test_a_scan_is_the_same_however_its_files_lie(name: str, way: str, mask: str, mask_way: str, tmp_path: Path) -> None:
    case = FileCase("a", save(tmp_path / name, HU, way), save(tmp_path / mask, LUNG, mask_way))
    assert case.is_volume
    assert_is_the_patient(case.read())


def test_a_dicom_folder_with_a_mask_volume_is_a_scan(tmp_path: Path) -> None:
    write(tmp_path / "a" / "ct", series(HU, PLACE))
    case = FileCase("a", tmp_path / "a", save(tmp_path / "mask.nrrd", LUNG, "PIR"))
    assert_is_the_patient(case.read())


@pytest.mark.parametrize("voxels", [HU + 1024, -HU, HU], ids=["offset", "inverted", "hu"])
def test_training_sees_the_grey_values_that_prediction_shows(voxels: np.ndarray, tmp_path: Path) -> None:
    case = scan(tmp_path, voxels)
    stack, seen = case.read(), as_seen(read(case.image).volume.canonical().voxels)
    np.testing.assert_array_equal(stack.image[:], seen.hu[:])
    np.testing.assert_allclose(stack.image[:], HU, atol=24)
    assert stack.is_hu == seen.is_hu
    assert bool(stack.unit) == (voxels is not HU)


def test_who_gives_slope_and_intercept_knows_better(tmp_path: Path) -> None:
    hu = FileCase("a", save(tmp_path / "a.nrrd", HU + 1024), save(tmp_path / "m.nrrd", LUNG), slope=2.0, intercept=-7.0)
    np.testing.assert_array_equal(hu.read().image[:], 2.0 * (HU + 1024) - 7)
    assert hu.read().unit == ""


def test_labels_given_for_an_image_are_refused(tmp_path: Path) -> None:
    case = FileCase("a", save(tmp_path / "a.nrrd", SIDES), save(tmp_path / "m.nrrd", LUNG))
    with pytest.raises(UserError, match=r"a\.nrrd holds labels, no grey values"):
        case.read()


def test_a_mask_of_another_scan_is_refused_in_any_folder_of_volumes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(tmp_path / "images" / f"{name}.mha")
        made = image(LUNG)
        made.SetOrigin([0.0, 0.0, 0.0])
        (tmp_path / "masks").mkdir(exist_ok=True)
        sitk.WriteImage(made, str(tmp_path / "masks" / f"{name}.mha"))
    for source in (FolderSource(str(tmp_path)), VolumeSource(str(tmp_path))):
        with pytest.raises(UserError, match=r"has the shape of .* but lies elsewhere"):
            source.split().train[0].read()


def test_a_scan_is_a_patient_unless_it_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = ["p1_a_0000.nii.gz", "p1_b_0000.nii.gz", "p2_a_0000.nii.gz", "p3_a_0000.nii.gz"]
    for name in names:
        for folder in ("imagesTr", "labelsTr"):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / name.replace("_0000", "" if folder == "labelsTr" else "_0000")).touch()
    with caplog.at_level(logging.WARNING, "lungseg"):
        alone = VolumeSource(str(tmp_path)).split()
        named = VolumeSource(str(tmp_path), patient_regex=r"p\d", val_patients=["p1"]).split()
    assert not caplog.records
    assert {case.patient for case in (*alone.train, *alone.val)} == {name.removesuffix("_0000.nii.gz") for name in names}
    assert len(alone.val) == 1
    assert [case.name for case in named.val] == [f"train/{name}" for name in names[:2]]
    rows = [f"imagesTr/{name},labelsTr/{name.replace('_0000', '')},{patient}" for name, patient in zip(names, "AA--", strict=True)]
    (tmp_path / "list.csv").write_text("\n".join(["image,mask,patient", *rows]).replace("-", ""), encoding="utf-8")
    split = VolumeSource(manifest=str(tmp_path / "list.csv"), val_patients=["A"]).split()
    assert [case.patient for case in (*split.val, *split.train)] == ["A", "A", "p2_a", "p3_a"]


def test_the_same_name_in_train_and_test_is_one_patient(tmp_path: Path) -> None:
    for part in ("Train", "Test"):
        for folder in ("Images", "Masks"):
            (tmp_path / part / folder).mkdir(parents=True)
            for name in ("a", *(("b",) if part == "Train" else ())):
                (tmp_path / part / folder / f"{name}.nrrd").touch()
    with pytest.raises(UserError, match=r"1 patient is both in \w+ and in test \(a\)"):
        VolumeSource(str(tmp_path)).split()


def test_a_manifest_may_name_a_dicom_folder(tmp_path: Path) -> None:
    write(tmp_path / "a", series(HU, PLACE))
    save(tmp_path / "a.nrrd", LUNG)
    (tmp_path / "list.csv").write_text("image,mask,split\na,a.nrrd,train\n", encoding="utf-8")
    (case,) = VolumeSource(manifest=str(tmp_path / "list.csv")).parts()["train"]
    assert case.patient == "a"
    assert_is_the_patient(case.read())
