"""Journeys of a mask to the archive: ``predict dicom_seg=true``, what it writes, what it says where it cannot, and the way back."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from helpers import Done, assert_refused, files, lungseg, predict, table

from dicoms import Place, Slice, series, uid, write
from lungseg.data.volumes import VolumeSource
from patients import HU, PLACE, save
from segs import headers, pictures_of, viewer_faults

SIDE = {"3341006": 1, "44029006": 2, "39607008": 1}


def well(done: Done) -> Done:
    assert done.code == 0, done.out + done.err
    return done


def patient(place: Place = PLACE, seed: object = "a") -> list[Slice]:
    return series(HU, place, seed)


def assert_is_the_mask(seg: Path, mask: Path, scan: Path) -> None:
    """Every frame is a slice of the mask, and what has no frame is empty; read with pydicom alone."""
    dataset = pydicom.dcmread(seg)
    assert viewer_faults(dataset, headers(sorted(scan.iterdir()))) == []
    image = sitk.ReadImage(str(mask))
    expected, found = sitk.GetArrayFromImage(image), np.zeros(image.GetSize()[::-1], np.uint8)
    for picture in pictures_of(dataset):
        x, y, z = image.TransformPhysicalPointToContinuousIndex(picture.position)
        assert max(abs(x), abs(y), abs(z - round(z))) < 1e-3
        found[round(z)][picture.mask] = SIDE[picture.code]
    np.testing.assert_array_equal(found, expected)
    assert found.any()


def test_each_series_gets_its_own_and_the_mask_stays(seeing_file: Path, tmp_path: Path) -> None:
    write(tmp_path / "in" / "p1" / "ct", patient())
    write(
        tmp_path / "in" / "p2", [piece.having(StudyInstanceUID=uid("other study")) for piece in patient(seed="b")], names="shuffled"
    )
    save(tmp_path / "in" / "c.nrrd")
    done = well(predict(seeing_file, tmp_path / "in", tmp_path / "out", "dicom_seg=true", "overlays=false"))
    assert {"p1/ct.nii.gz", "p2.nii.gz", "c.nrrd", "dicom_seg/p1/ct.dcm", "dicom_seg/p2.dcm"} <= files(tmp_path / "out")
    assert len([name for name in files(tmp_path / "out") if name.endswith(".dcm")]) == 2
    assert "1 scan without a DICOM-SEG, which needs a DICOM series." in done.out
    assert "dicom_seg/" in done.out
    for name in ("p1/ct", "p2"):
        assert_is_the_mask(tmp_path / "out/dicom_seg" / f"{name}.dcm", tmp_path / "out" / f"{name}.nii.gz", tmp_path / "in" / name)
    well(predict(seeing_file, tmp_path / "in", tmp_path / "again", "dicom_seg=true", "overlays=false"))
    for name in ("p1/ct", "p2"):
        seg = Path("dicom_seg") / f"{name}.dcm"
        assert (tmp_path / "out" / seg).read_bytes() == (tmp_path / "again" / seg).read_bytes()


def test_one_label_is_one_segment(seeing_file: Path, tmp_path: Path) -> None:
    write(tmp_path / "ct", patient())
    for words in (("labels=binary",), ("postprocess=false",)):
        out = tmp_path / words[0]
        well(predict(seeing_file, tmp_path / "ct", out, "dicom_seg=true", *words))
        assert [segment.SegmentLabel for segment in pydicom.dcmread(out / "dicom_seg/ct.dcm").SegmentSequence] == ["Lung"]
        assert_is_the_mask(out / "dicom_seg/ct.dcm", out / "ct.nii.gz", tmp_path / "ct")


def test_a_tilted_series_is_written_on_its_slices_and_warned_of(seeing_file: Path, tmp_path: Path) -> None:
    write(tmp_path / "ct", patient(replace(PLACE, tilt_deg=12.0)))
    done = well(predict(seeing_file, tmp_path / "ct", tmp_path / "out", "dicom_seg=true"))
    assert "3D Slicer" in done.out
    assert "3D Slicer" in table(tmp_path / "out/summary.csv")[0]["warnings"]
    dataset = pydicom.dcmread(tmp_path / "out/dicom_seg/ct.dcm")
    assert viewer_faults(dataset, headers(sorted((tmp_path / "ct").iterdir()))) == []
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out/ct.nii.gz")))
    assert mask.shape[1:] != (dataset.Rows, dataset.Columns) == HU.shape[1:]
    of_mask = sum(int(picture.mask.sum()) for picture in pictures_of(dataset))
    assert of_mask == pytest.approx(np.count_nonzero(mask), rel=0.01)


def test_a_multi_frame_file_and_a_gap(seeing_file: Path, tmp_path: Path) -> None:
    write(tmp_path / "ct", patient()[:9] + patient()[10:])
    refused = predict(seeing_file, tmp_path / "ct", tmp_path / "no", "dicom_seg=true")
    assert refused.code == 1
    assert "dicom_seg" not in {path.name for path in (tmp_path / "no").iterdir()}
    well(predict(seeing_file, tmp_path / "ct", tmp_path / "out", "dicom_seg=true", "input.allow_gaps=true"))
    dataset = pydicom.dcmread(tmp_path / "out/dicom_seg/ct.dcm")
    assert viewer_faults(dataset, headers(sorted((tmp_path / "ct").iterdir()))) == []
    assert len({picture.uid for picture in pictures_of(dataset)}) < 24


@pytest.mark.parametrize("name", ["FrameOfReferenceUID", "StudyInstanceUID"])
def test_a_header_that_allows_no_segmentation_costs_no_mask(name: str, seeing_file: Path, tmp_path: Path) -> None:
    write(tmp_path / "ct", [piece.without(name) for piece in patient()])
    done = well(predict(seeing_file, tmp_path / "ct", tmp_path / "out", "dicom_seg=true", "debug=true"))
    assert "Traceback" not in done.out + done.err
    assert f"no DICOM-SEG: IM0000.dcm has no {name}" in table(tmp_path / "out/summary.csv")[0]["warnings"]
    assert "ct.nii.gz" in files(tmp_path / "out")
    assert not [name for name in files(tmp_path / "out") if name.endswith(".dcm")]


def test_where_there_is_no_lung_there_is_no_file_and_none_of_an_earlier_run(seeing_file: Path, tmp_path: Path) -> None:
    write(tmp_path / "ct", patient())
    well(predict(seeing_file, tmp_path / "ct", tmp_path / "out", "dicom_seg=true"))
    write(tmp_path / "ct", [replace(piece, hu=np.where(piece.hu > -200, piece.hu, np.int16(-1000))) for piece in patient()])
    done = well(predict(seeing_file, tmp_path / "ct", tmp_path / "out", "dicom_seg=true", "overwrite=true"))
    assert "no DICOM-SEG: no lung was found" in done.out
    assert not [name for name in files(tmp_path / "out") if name.endswith(".dcm")]


def test_without_its_library_nothing_begins(seeing_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "ct", patient())
    monkeypatch.setitem(sys.modules, "highdicom", None)
    assert_refused(predict(seeing_file, tmp_path / "ct", tmp_path / "out", "dicom_seg=true"), 'pip install "lungseg[dicom]"')
    assert not (tmp_path / "out").exists()
    well(predict(seeing_file, tmp_path / "ct", tmp_path / "out"))


def test_a_segmentation_is_a_truth_and_no_scan(seeing_file: Path, tmp_path: Path) -> None:
    write(tmp_path / "in" / "ct", patient())
    well(predict(seeing_file, tmp_path / "in", tmp_path / "out", "dicom_seg=true"))
    seg = tmp_path / "out/dicom_seg/ct.dcm"
    for truth in (seg, seg.parent):
        done = well(predict(seeing_file, tmp_path / "in", tmp_path / truth.name, f"truth={truth}"))
        assert "3-D Dice 1.0000" in done.out
    seg.rename(tmp_path / "in" / "ct" / "seg.dcm")
    assert "is SEG, no CT" in well(predict(seeing_file, tmp_path / "in", tmp_path / "beside")).out
    alone = predict(seeing_file, tmp_path / "in/ct/seg.dcm", tmp_path / "alone")
    assert alone.code == 1
    assert "holds labels, no grey values" in alone.out + alone.err
    assert "is SEG, no CT" in lungseg("inspect", str(tmp_path / "in")).out


def test_segmentations_are_labels_to_learn_from(seeing_file: Path, tmp_path: Path) -> None:
    for number, patient_ in enumerate("ab"):
        own = [piece.having(StudyInstanceUID=uid("study of", patient_)) for piece in patient(seed=patient_)]
        write(tmp_path / "data" / "images" / f"p{number}" / "ct", own)
    well(predict(seeing_file, tmp_path / "data" / "images", tmp_path / "out", "dicom_seg=true", "overlays=false"))
    (tmp_path / "data" / "labels").mkdir()
    for number in (0, 1):
        (tmp_path / "out" / "dicom_seg" / f"p{number}" / "ct.dcm").rename(tmp_path / "data" / "labels" / f"p{number}.dcm")
    split = VolumeSource(str(tmp_path / "data"), val_fraction=0.5).split()
    assert sorted(case.patient or "" for case in (*split.train, *split.val)) == ["p0", "p1"]
    for case in (*split.train, *split.val):
        stack = case.read()
        mask = sitk.ReadImage(str(tmp_path / "out" / (case.patient or "") / "ct.nii.gz"))
        np.testing.assert_array_equal(stack.labels > 0, sitk.GetArrayFromImage(sitk.DICOMOrient(mask, "LPS")) > 0)
        assert stack.doubts == ()  # a SEG leaves out slices without lung
