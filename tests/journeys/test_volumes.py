"""Journeys of prediction with what a hospital has: volumes and DICOM folders in, two lungs on the very same grid out."""

import gzip
import hashlib
import json
import os
import shutil
import struct
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from helpers import Done, assert_refused, files, predict, read_png, table
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from scipy.special import expit

from builders import write_slice
from dicoms import copied, enhanced, litter, others, series, write
from greyscales import DEGRADED, turned, window
from lungseg import Segmenter
from patients import HU, ORIGIN_MM, PLACE, SIDES, SPACING_MM, VOXEL_ML, dice, image, save

OBLIQUE = Rotation.from_euler("zyx", [20, -10, 15], degrees=True).as_matrix()
NIFTI_GEOMETRY = ((80, 92), (76, 80), (123, 124), (252, 328))  # pixdim, qfac, units, qform and sform (nifti1.h)
TABLES = {"summary.csv", "measurements.csv", "measurements.json", "run.json"}
GET = ("GetSize", "GetSpacing", "GetOrigin", "GetDirection")


def labels(path: Path, orientation: str | None = None) -> NDArray[np.uint8]:
    """A mask (Z, H, W) in the order of its file, or turned into an orientation."""
    found = sitk.ReadImage(str(path))
    array: NDArray[np.uint8] = sitk.GetArrayFromImage(found if orientation is None else sitk.DICOMOrient(found, orientation))
    return array


def record(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / "run.json").read_text(encoding="utf-8")))


def row(out: Path, name: str, side: str | None = None) -> dict[str, str]:
    """The row of a file in the summary, or that of one of its lungs in the measurements."""
    rows = table(out / ("summary.csv" if side is None else "measurements.csv"))
    return next(row for row in rows if row["file"] == name and side in (None, row.get("side")))


def assert_same_grid(one: Path, other: Path) -> None:
    first, second = (sitk.ReadImage(str(path)) for path in (one, other))
    for get in GET:
        np.testing.assert_allclose(getattr(first, get)(), getattr(second, get)(), rtol=1e-6, atol=1e-5, err_msg=get)


def geometry(path: Path) -> bytes:
    """What places a NIfTI file's voxels, as its header has it."""
    header = (gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())[:348]
    return b"".join(header[first:end] for first, end in NIFTI_GEOMETRY)


def done_well(done: Done) -> Done:
    assert (done.code, done.err) == (0, ""), done.out + done.err
    return done


# A folder as a hospital gives it


@pytest.fixture(scope="module")
def hospital(seeing_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """The output and the words of a prediction of a nested folder whose files have no order, with all that lies in such folders."""
    home = tmp_path_factory.mktemp("hospital")
    study = home / "study"
    slices = series(HU, PLACE)
    write(study, [*slices, copied(slices[5])], names="nested")
    litter(study)
    (study / "disc").mkdir()
    for write_other in others().values():
        write_other(study / "disc")
    return home / "out", predict(seeing_file, study, home / "out")


def test_a_hospital_folder_gives_one_mask_with_both_lungs(hospital: tuple[Path, Done]) -> None:
    out, done = hospital
    done_well(done)
    assert files(out) == {"study.nii.gz", "overlays/study.nii.gz.overlay.png"} | TABLES
    mask = sitk.ReadImage(str(out / "study.nii.gz"))
    assert mask.GetPixelID() == sitk.sitkUInt8
    np.testing.assert_allclose(mask.GetSpacing(), SPACING_MM[::-1], atol=1e-5)
    np.testing.assert_allclose(mask.GetOrigin(), ORIGIN_MM, atol=1e-4)
    np.testing.assert_allclose(mask.GetDirection(), np.eye(3).ravel(), atol=1e-6)
    found = sitk.GetArrayFromImage(mask)
    assert set(np.unique(found)) == {0, 1, 2}
    for side in (1, 2):
        assert dice(found, SIDES, side) > 0.9
    assert "1 mask and summary.csv are in" in done.out
    assert "Look at " in done.out


def test_what_was_left_out_is_said(hospital: tuple[Path, Done]) -> None:
    out, done = hospital
    assert done.out.startswith("1 scan, cpu; left out: ")
    for part in ("DICOMDIR", "1 file (is OT, no CT)", "reasons more"):
        assert part in done.out
    assert "1 copy of a slice was left out" in done.out
    assert "1 copy of a slice was left out" in record(out)["scans"][0]["remarks"]


def test_the_overlay_is_a_picture_in_colour(hospital: tuple[Path, Done]) -> None:
    picture = read_png(hospital[0] / "overlays" / "study.nii.gz.overlay.png")
    assert picture.ndim == 3
    assert min(picture.shape[:2]) > 200
    assert (np.ptp(picture.astype(int), axis=2) > 60).sum() > 100  # outlines on grey


def test_measurements_are_those_of_the_mask(hospital: tuple[Path, Done]) -> None:
    out, _ = hospital
    found = labels(out / "study.nii.gz")
    rows = table(out / "measurements.csv")
    assert list(rows[0]) == [
        "file", "side", "found", "volume_ml", "mean_hu", "median_hu", "percentile_15_hu", "emphysema_fraction_below_950_hu",
        "height_mm", "touches_border", "borders",
    ]  # fmt: skip
    assert [(row["file"], row["side"]) for row in rows] == [("study", "right"), ("study", "left"), ("study", "both")]
    for row_, lung in zip(rows, (found == 1, found == 2, found > 0), strict=True):
        hu = HU[lung].astype(float)
        assert float(row_["volume_ml"]) == pytest.approx(lung.sum() * VOXEL_ML, rel=1e-5)
        assert float(row_["mean_hu"]) == pytest.approx(hu.mean(), abs=0.06)
        assert float(row_["median_hu"]) == pytest.approx(np.median(hu), abs=0.06)
        assert float(row_["percentile_15_hu"]) == pytest.approx(np.percentile(hu, 15), abs=0.06)
        assert float(row_["emphysema_fraction_below_950_hu"]) == pytest.approx((hu < -950).mean(), abs=1e-4)
        assert float(row_["height_mm"]) == pytest.approx(np.ptp(np.flatnonzero(lung.any(axis=(1, 2)))) * 13.5 + 13.5)
        assert (row_["touches_border"], row_["borders"]) == ("False", "")
    volumes = [float(row_["volume_ml"]) for row_ in rows]
    assert volumes[0] + volumes[1] == pytest.approx(volumes[2], rel=1e-5)
    (scan,) = json.loads((out / "measurements.json").read_text())
    assert (scan["file"], scan["shape"]) == ("study", [24, 56, 64])
    assert scan["spacing_mm"] == pytest.approx(SPACING_MM)
    assert [str(lung["volume_ml"]) for lung in scan["lungs"]] == [row_["volume_ml"] for row_ in rows]
    assert float(row(out, "study")["lung_fraction"]) == pytest.approx((found > 0).mean(), abs=1e-5)


def test_the_record_says_by_what_and_how(hospital: tuple[Path, Done], seeing_file: Path) -> None:
    said = record(hospital[0])
    assert said["versions"]["SimpleITK"] == version("SimpleITK")
    assert {"python", "lungseg", "torch", "numpy", "pydicom"} <= set(said["versions"])
    assert said["checkpoint_sha256"] == hashlib.sha256(seeing_file.read_bytes()).hexdigest()
    assert (said["options"]["labels"], said["options"]["threshold"], said["options"]["tta"]) == ("sides", 0.5, False)
    assert Path(said["options"]["input"]).name == "study"
    (scan,) = said["scans"]
    stages = ("reading", "grey_values", "network", "postprocessing", "measurements", "writing")
    for stage in stages:
        assert 0 <= scan["seconds"][stage] < 60
    assert scan["seconds"]["network"] > 0
    assert said["seconds"] == scan["seconds"]  # of one scan
    assert 50 < said["peak_memory_mb"] < 1e5
    assert (scan["error"], scan["shape"]) == (None, [24, 56, 64])
    assert isinstance(scan["warnings"], list)
    assert sum(scan["seconds"].values()) == pytest.approx(float(row(hospital[0], "study")["seconds"]), abs=0.02)


# Formats and orientations


@pytest.mark.parametrize(
    ("name", "words", "mask"),
    [
        ("a.nii", (), "a.nii.gz"),
        ("a.nrrd", (), "a.nrrd"),
        ("a.mha", (), "a.mha"),
        ("a.mhd", (), "a.mha"),
        ("a.mha", ("format=nifti",), "a.nii.gz"),
        ("a.nii.gz", ("format=nrrd",), "a.nrrd"),
        ("a.nrrd", ("format=mha",), "a.mha"),
    ],
)
def test_a_mask_has_the_format_of_its_volume_or_the_one_asked_for(
    name: str, words: tuple[str, ...], mask: str, seeing_file: Path, tmp_path: Path
) -> None:
    source = save(tmp_path / "in" / name, orientation="LPI", direction=OBLIQUE)
    done = done_well(predict(seeing_file, source.parent, tmp_path / "out", *words, "overlays=false"))
    assert "volumes and densities are in measurements.csv" in done.out
    assert "overlays/" not in done.out  # there are none
    assert files(tmp_path / "out") == {mask} | TABLES  # the .raw beside a .mhd is no scan of its own
    written = tmp_path / "out" / mask
    assert_same_grid(written, source)
    np.testing.assert_array_equal(labels(written), Segmenter.load(seeing_file)(source))
    if mask.endswith(".nrrd"):
        header = written.read_bytes().partition(b"\n\n")[0].decode()
        for line in ("Segment0_Name:=right lung", "Segment0_LabelValue:=1", "Segment1_Name:=left lung", "Segment1_LabelValue:=2"):
            assert line in header


def test_a_dicom_folder_gives_the_format_asked_for(seeing_file: Path, hospital: tuple[Path, Done], tmp_path: Path) -> None:
    write(tmp_path / "scan", series(HU, PLACE))
    done_well(predict(seeing_file, tmp_path / "scan", tmp_path / "out", "format=nrrd"))
    assert_same_grid(tmp_path / "out" / "scan.nrrd", hospital[0] / "study.nii.gz")
    np.testing.assert_array_equal(labels(tmp_path / "out" / "scan.nrrd"), labels(hospital[0] / "study.nii.gz"))


def test_an_unknown_format_is_refused(seeing_file: Path, tmp_path: Path) -> None:
    source = save(tmp_path / "a.nii")
    assert_refused(predict(seeing_file, source, tmp_path / "out", "format=dicom"), "format=dicom", "nifti, nrrd, mha")
    assert_refused(predict(seeing_file, source, tmp_path / "out", "labels=both"), "labels=both", "sides or binary")


def test_the_same_points_have_the_same_labels_however_a_file_lies(seeing_file: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    names = {f"{orientation}.nii.gz": None for orientation in ("LPS", "RAS", "RPI", "SAL", "IPR", "PIR", "ASR", "LSP")}
    names |= {f"oblique_{orientation}.nrrd": OBLIQUE for orientation in ("LPS", "LAS", "IRP")}
    names |= {"oblique_RAS.nii": OBLIQUE}
    for name, direction in names.items():
        save(folder / name, orientation=name.partition(".")[0][-3:], direction=direction)
    done_well(predict(seeing_file, folder, out, "overlays=false"))
    expected = labels(out / "LPS.nii.gz")
    assert min(dice(expected, SIDES, side) for side in (1, 2)) > 0.9
    for name in names:
        mask = out / name.replace(".nii", ".nii.gz").replace(".gz.gz", ".gz")
        assert_same_grid(mask, folder / name)
        np.testing.assert_array_equal(labels(mask, "LPS"), expected, err_msg=name)
        if ".nii" in name:
            assert geometry(mask) == geometry(folder / name), name
        volumes = [row(out, name, side)["volume_ml"] for side in ("right", "left")]
        assert volumes == [row(out, "LPS.nii.gz", side)["volume_ml"] for side in ("right", "left")]


def test_a_nifti_header_that_places_voxels_in_one_way_only_is_kept(seeing_file: Path, tmp_path: Path) -> None:
    whole = save(tmp_path / "in" / "both.nii", orientation="LAS").read_bytes()
    for name, qform, sform in (("q.nii", 1, 0), ("s.nii", 0, 1), ("aligned.nii", 2, 4)):
        (tmp_path / "in" / name).write_bytes(whole[:252] + struct.pack("<2h", qform, sform) + whole[256:])
    done_well(predict(seeing_file, tmp_path / "in", tmp_path / "out", "overlays=false"))
    for name in ("q.nii", "s.nii", "aligned.nii"):
        mask = tmp_path / "out" / f"{name}.gz"
        assert geometry(mask) == geometry(tmp_path / "in" / name)
        np.testing.assert_array_equal(labels(mask), labels(tmp_path / "out" / "both.nii.gz"))


def test_sides_are_the_patients_in_a_prone_series_too(seeing_file: Path, tmp_path: Path) -> None:
    """The same patient face down: the picture is turned by 180 degrees, and the header says so."""
    corner = image().TransformIndexToPhysicalPoint((HU.shape[2] - 1, HU.shape[1] - 1, 0))
    prone = replace(PLACE, row=(-1.0, 0.0, 0.0), column=(0.0, -1.0, 0.0), origin_mm=corner)
    write(tmp_path / "prone", series(HU[:, ::-1, ::-1], prone))
    done_well(predict(seeing_file, tmp_path / "prone", tmp_path / "out"))
    found = labels(tmp_path / "out" / "prone.nii.gz")[:, ::-1, ::-1]
    assert min(dice(found, SIDES, side) for side in (1, 2)) > 0.9


# What may be chosen


def test_labels_and_postprocessing_can_be_chosen(seeing_file: Path, tmp_path: Path) -> None:
    source = save(tmp_path / "a.nii.gz")

    def mask(*words: str) -> NDArray[np.uint8]:
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        done_well(predict(seeing_file, source, out, "overlays=false", "probabilities=true", *words))
        found = labels(out / "a.nii.gz")
        sides = [row["side"] for row in table(out / "measurements.csv")]
        assert sides == (["both"] if "postprocess=false" in words else ["right", "left", "both"])
        if "postprocess=false" in words:
            written = out / "probabilities" / "a.nii.gz.probability.nii.gz"
            assert_same_grid(written, source)
            assert geometry(written) == geometry(source)
            probability = labels(written)
            assert probability.dtype == np.float32
            np.testing.assert_array_equal(probability > 0.5, found == 1)
        return found

    both, binary, raw, airways = mask(), mask("labels=binary"), mask("postprocess=false"), mask("postprocess.airways=false")
    np.testing.assert_array_equal(binary, both > 0)
    assert set(np.unique(raw)) == {0, 1}
    pieces = mask("postprocess.pieces=false")
    assert (pieces > 0).sum() > (both > 0).sum() * 1.01  # what was dropped
    taken = (airways > 0) & (both == 0)
    assert 1 < taken.sum() * VOXEL_ML < 60
    assert (SIDES[taken] > 0).mean() < 0.5


def test_tta_is_the_mean_over_mirror_images(checkpoint_file: Path, tmp_path: Path) -> None:
    source = save(tmp_path / "a.nii.gz", HU[8:12])
    words = ("tta=true", "probabilities=true", "postprocess=false")
    done_well(predict(checkpoint_file, source, tmp_path / "out", *words))
    segmenter = Segmenter.load(checkpoint_file)
    mean = np.zeros(HU[8:12].shape)
    for step_y, step_x in ((1, 1), (-1, 1), (1, -1), (-1, -1)):
        mean += np.stack(segmenter.logits(HU[8:12, ::step_y, ::step_x]))[:, ::step_y, ::step_x] / 4
    found = labels(tmp_path / "out" / "probabilities" / "a.nii.gz.probability.nii.gz")
    np.testing.assert_allclose(found, expit(mean), atol=1e-4)
    plain = expit(np.stack(segmenter.logits(HU[8:12])))
    assert np.abs(found - plain).max() > 1e-3


@pytest.fixture
def two_kernels(tmp_path: Path) -> Path:
    """A study of 24 soft slices, and of 12 sharp ones of the same patient."""
    sharp = replace(PLACE, step_mm=2 * PLACE.step_mm)
    soft = series(HU, PLACE, ConvolutionKernel="B30f", SeriesNumber=2)
    write(
        tmp_path / "study", [*soft, *series(HU[::2], sharp, seed="b", ConvolutionKernel="B60f", SeriesNumber=7)], names="shuffled"
    )
    return tmp_path / "study"


@pytest.mark.parametrize(
    ("words", "slices"),
    [((), 24), (("series=1",), 24), (("series=2",), 12), (("series=B60f",), 12), (("series=b30F",), 24)],
)
def test_a_series_is_chosen_by_number_or_kernel(
    words: tuple[str, ...], slices: int, two_kernels: Path, seeing_file: Path, tmp_path: Path
) -> None:
    done = done_well(predict(seeing_file, two_kernels, tmp_path / "out", *words))
    assert len(labels(tmp_path / "out" / "study.nii.gz")) == slices
    assert ("of 2 series (1: 24 slices of 64 x 56" in done.out) == (not words)


def test_all_series_can_be_taken(two_kernels: Path, seeing_file: Path, tmp_path: Path) -> None:
    for out, word in (("out", "series=all"), ("again", "series=1,2")):
        done_well(predict(seeing_file, two_kernels, tmp_path / out, word))
        depths = [len(labels(tmp_path / out / f"study_series{number}.nii.gz")) for number in (1, 2)]
        assert depths == [24, 12]
        assert [row["file"] for row in table(tmp_path / out / "summary.csv")] == ["study_series1", "study_series2"]


def test_a_series_that_is_not_there_is_refused_with_those_that_are(two_kernels: Path, seeing_file: Path, tmp_path: Path) -> None:
    for unknown in ("3", "0", "B99", "lung"):
        done = predict(seeing_file, two_kernels, tmp_path / "out", f"series={unknown}")
        assert_refused(done, f"series={unknown}", "1: 24 slices", "2: 12 slices", "B60f")
    assert not (tmp_path / "out").exists()


def test_a_gap_is_refused_unless_it_may_be_closed(seeing_file: Path, tmp_path: Path) -> None:
    slices = series(HU, PLACE)
    write(tmp_path / "scan", slices[:9] + slices[10:])
    done = predict(seeing_file, tmp_path / "scan", tmp_path / "out")
    assert done.code == 1
    assert "1 slice is missing" in row(tmp_path / "out", "scan")["error"]
    assert "input.allow_gaps=true" in row(tmp_path / "out", "scan")["error"]
    assert "Traceback" not in done.out + done.err
    assert files(tmp_path / "out") == {"summary.csv", "run.json"}
    done = done_well(predict(seeing_file, tmp_path / "scan", tmp_path / "closed", "input.allow_gaps=true"))
    found = labels(tmp_path / "closed" / "scan.nii.gz")
    assert found.shape == HU.shape
    assert min(dice(found, SIDES, side) for side in (1, 2)) > 0.9
    assert "1 slice is missing" in done.out
    assert "interpolated to 24 slices" in row(tmp_path / "closed", "scan")["warnings"]


# The unit of grey values


@pytest.fixture(scope="module")
def unusual(seeing_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What became of one patient in several units of grey values."""
    home = tmp_path_factory.mktemp("greys")
    save(home / "in" / "sound.nii.gz")
    save(home / "in" / "offset.nii.gz", DEGRADED["offset 1024"](HU))
    save(home / "in" / "inverted.nii.gz", DEGRADED["HU, inverted"](HU))
    save(home / "in" / "picture.nii.gz", window(HU, -600, 1500))
    save(home / "in" / "negative.nii.gz", turned(window(HU, -600, 1500)))
    save(home / "in" / "scaled.nii.gz", DEGRADED["slope 0.8165"](HU))
    done_well(predict(seeing_file, home / "in", home / "out", "overlays=false"))
    return home / "out"


def test_sound_hu_are_not_touched(unusual: Path) -> None:
    found = labels(unusual / "sound.nii.gz")
    assert float(row(unusual, "sound.nii.gz", "both")["mean_hu"]) == pytest.approx(HU[found > 0].mean(), abs=0.06)
    assert "grey values" not in row(unusual, "sound.nii.gz")["warnings"]


@pytest.mark.parametrize(("name", "part"), [("offset", "value - 1024"), ("inverted", "inverted")])
def test_a_usual_mistake_is_repaired_and_said(name: str, part: str, unusual: Path) -> None:
    warnings = row(unusual, f"{name}.nii.gz")["warnings"]
    assert warnings.startswith("grey values are ")
    assert part in warnings
    np.testing.assert_array_equal(labels(unusual / f"{name}.nii.gz"), labels(unusual / "sound.nii.gz"))
    for side in ("right", "left", "both"):
        ours, sound = ({**row(unusual, f"{stem}.nii.gz", side), "file": ""} for stem in (name, "sound"))
        assert ours == sound


@pytest.mark.parametrize("name", ["picture", "negative", "scaled"])
def test_without_hu_there_are_volumes_and_no_densities(name: str, unusual: Path) -> None:
    measured = row(unusual, f"{name}.nii.gz", "both")
    assert {measured[key] for key in measured if key.endswith("_hu")} == {""}
    assert float(measured["volume_ml"]) > 500
    warnings = row(unusual, f"{name}.nii.gz")["warnings"]
    assert "input.slope=" in warnings if name == "scaled" else "input.window=" in warnings
    found = labels(unusual / f"{name}.nii.gz")
    assert min(dice(found, SIDES, side) for side in (1, 2)) > 0.65


@pytest.mark.parametrize("negative", [False, True])
def test_a_window_that_is_given_makes_hu_of_a_picture(negative: bool, seeing_file: Path, unusual: Path, tmp_path: Path) -> None:
    grey = window(HU, -600, 1500)
    source = save(tmp_path / "a.nii.gz", turned(grey) if negative else grey)
    done = done_well(predict(seeing_file, source, tmp_path / "out", "input.window=-600,1500"))
    found = labels(tmp_path / "out" / "a.nii.gz")
    assert float(row(tmp_path / "out", "a.nii.gz", "both")["mean_hu"]) == pytest.approx(HU[found > 0].clip(-1350).mean(), abs=4)
    assert "no HU" not in done.out
    assert record(tmp_path / "out")["options"]["input_window"] == [-600, 1500]


def test_a_slope_and_an_intercept_make_hu(seeing_file: Path, tmp_path: Path) -> None:
    source = save(tmp_path / "a.nii.gz", (2 * (HU.astype(int) + 3000)).astype(np.int16))
    done = done_well(predict(seeing_file, source, tmp_path / "out", "input.slope=0.5", "input.intercept=-3000"))
    found = labels(tmp_path / "out" / "a.nii.gz")
    assert float(row(tmp_path / "out", "a.nii.gz", "both")["mean_hu"]) == pytest.approx(HU[found > 0].mean(), abs=0.06)
    assert "grey values" not in done.out


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("input.window=-600",), ("level and width",)),
        (("input.window=-600,0",), ("width above 0",)),
        (("input.window=-600,1500", "input.slope=1"), ("give one of them",)),
        (("input.slope=0",), ("other than 0",)),
        (("input.slope=nan",), ("input.slope",)),
        (("input.windows=-600,1500",), ("input.window",)),
    ],
)
def test_units_that_make_no_sense_are_refused(
    words: tuple[str, ...], parts: tuple[str, ...], seeing_file: Path, tmp_path: Path
) -> None:
    assert_refused(predict(seeing_file, save(tmp_path / "a.nii"), tmp_path / "out", *words), *parts)


# Fields of view


def test_a_lung_that_is_cut_says_where(seeing_file: Path, tmp_path: Path) -> None:
    source = save(tmp_path / "a.nii.gz", HU[:14])
    done_well(predict(seeing_file, source, tmp_path / "out"))
    for side in ("right", "left", "both"):
        measured = row(tmp_path / "out", "a.nii.gz", side)
        assert (measured["touches_border"], measured["borders"]) == ("True", "top")


def test_a_mask_without_lung_has_no_number_that_is_wrong(seeing_file: Path, tmp_path: Path) -> None:
    source = save(tmp_path / "a.nii.gz")
    done = done_well(predict(seeing_file, source, tmp_path / "out", "threshold=0.99"))  # the network is never as sure
    assert not labels(tmp_path / "out" / "a.nii.gz").any()
    for side in ("right", "left", "both"):
        measured = row(tmp_path / "out", "a.nii.gz", side)
        assert (measured["found"], measured["mean_hu"], measured["touches_border"]) == ("False", "", "False")
    assert "no lung" in row(tmp_path / "out", "a.nii.gz")["warnings"]
    assert "no lung" in done.out


# Truth


def test_truth_on_any_grid_gives_the_same_scores(seeing_file: Path, tmp_path: Path) -> None:
    source = save(tmp_path / "in" / "a.nii.gz")
    scores = []
    # As it lies, in another order and format, and without the empty planes around the lungs.
    save(tmp_path / "truth" / "a.nii.gz", SIDES)
    save(tmp_path / "turned" / "a.nrrd", SIDES, orientation="RAI")
    found = np.nonzero(SIDES)
    whole, box = image(SIDES), [(int(index.min()), int(index.max()) + 1) for index in found[::-1]]
    (tmp_path / "cropped").mkdir()
    (x0, x1), (y0, y1), (z0, z1) = box
    sitk.WriteImage(whole[x0:x1, y0:y1, z0:z1], str(tmp_path / "cropped" / "a.mha"))
    for name in ("truth", "turned", "cropped"):
        out = tmp_path / f"out_{name}"
        done_well(predict(seeing_file, source.parent, out, f"truth={tmp_path / name}", "mask_values=1,2"))
        own = row(out, "a.nii.gz")
        scores.append([own[key] for key in ("iou", "dice", "iou_3d", "dice_3d")])
        means = json.loads((out / "metrics.json").read_text())
        assert means["iou_pooled"] == pytest.approx(float(own["iou_3d"]), abs=1e-5)
        assert means["dice_3d"] == pytest.approx(float(own["dice_3d"]), abs=1e-5)
    assert scores[0] == scores[1] == scores[2]
    mask, true = labels(tmp_path / "out_truth" / "a.nii.gz") > 0, SIDES > 0
    assert float(scores[0][2]) == pytest.approx((mask & true).sum() / (mask | true).sum(), abs=1e-5)
    assert float(scores[0][3]) == pytest.approx(2 * (mask & true).sum() / (mask.sum() + true.sum()), abs=1e-5)


def test_the_truth_of_a_dicom_folder_is_a_file_named_after_it(seeing_file: Path, tmp_path: Path) -> None:
    for patient in ("p1", "p2"):
        write(tmp_path / "in" / patient / "ct", series(HU, PLACE, seed=patient, StudyInstanceUID=f"1.2.{patient[1]}"))
        save(tmp_path / "truth" / patient / "ct.nii.gz", (SIDES > 0).astype(np.uint8))
    done_well(predict(seeing_file, tmp_path / "in", tmp_path / "out", f"truth={tmp_path / 'truth'}"))
    rows = table(tmp_path / "out" / "summary.csv")
    assert [row["file"] for row in rows] == ["p1/ct", "p2/ct"]
    assert all(float(row["dice_3d"]) > 0.9 for row in rows)
    one = predict(seeing_file, tmp_path / "in" / "p1", tmp_path / "one", f"truth={tmp_path / 'truth' / 'p1' / 'ct.nii.gz'}")
    done_well(one)
    assert table(tmp_path / "one" / "summary.csv")[0]["dice_3d"] == rows[0]["dice_3d"]


def test_truth_of_another_shape_is_refused_where_nothing_places_it(seeing_file: Path, tmp_path: Path) -> None:
    write_slice(tmp_path / "in", tmp_path / "truth", "a.png", seed=0)
    write_slice(tmp_path / "other", tmp_path / "wide", "a.png", seed=0, side=80)
    done = predict(seeing_file, tmp_path / "in", tmp_path / "out", f"truth={tmp_path / 'wide'}")
    assert done.code == 1
    assert "resize the former by nearest neighbour" in row(tmp_path / "out", "a.png")["error"]
    volume = save(tmp_path / "b.nii.gz")
    done = predict(seeing_file, volume, tmp_path / "out_b", f"truth={tmp_path / 'wide' / 'a.png'}")
    assert done.code == 1
    said = row(tmp_path / "out_b", "b.nii.gz")["error"]  # a picture has one slice only, which no other size helps
    assert said.endswith(": give the mask that belongs there.")


# What goes wrong


def test_a_faulty_scan_does_not_stop_the_others(seeing_file: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    slices = series(HU, PLACE, seed="1", StudyInstanceUID="1.2.1")
    write(folder / "a_gap", slices[:9] + slices[10:])
    write(folder / "b_sound", series(HU, PLACE, seed="2", StudyInstanceUID="1.2.2"))
    whole = save(tmp_path / "whole.nii.gz").read_bytes()
    (folder / "c_cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    save(folder / "d_sound.nrrd")
    nan = HU.astype(np.float32)
    nan[3, 4, 5] = np.nan
    save(folder / "e_nan.mha", nan)
    shutil.copy(folder / "d_sound.nrrd", folder / "f_liar.nii")
    done = predict(seeing_file, folder, out)
    assert done.code == 1
    assert "Traceback" not in done.out + done.err
    rows = {row["file"]: row for row in table(out / "summary.csv")}
    sound = ["b_sound", "d_sound.nrrd"]
    assert sorted(rows) == ["a_gap", "b_sound", "c_cut.nii.gz", "d_sound.nrrd", "e_nan.mha", "f_liar.nii"]
    for name, part in (
        ("a_gap", "is missing"),
        ("c_cut.nii.gz", "damaged"),
        ("e_nan.mha", "1 value that is not finite"),
        ("f_liar.nii", "damaged"),
    ):
        assert part in rows[name]["error"], rows[name]
        assert (rows[name]["lung_fraction"], rows[name]["seconds"]) == ("", "")
        assert f"Error: {name}: " in done.out
    np.testing.assert_array_equal(labels(out / "b_sound.nii.gz"), labels(out / "d_sound.nrrd"))
    assert {row["file"] for row in table(out / "measurements.csv")} == set(sound)
    assert sorted(scan["file"] for scan in record(out)["scans"] if scan["error"] is None) == sound
    assert "4 files failed" in done.out
    assert len([name for name in files(out) if not name.endswith((".csv", ".json", ".html"))]) == 4


@pytest.mark.parametrize("what", ["empty", "only MR", "only litter", "only a DICOMDIR"])
def test_a_folder_without_scans_is_refused(what: str, seeing_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    if what == "only MR":
        write(folder, series(HU[:4], PLACE, Modality="MR"))
    elif what == "only litter":
        litter(folder)
    elif what == "only a DICOMDIR":
        others()["dicomdir"](folder)
    done = predict(seeing_file, folder, tmp_path / "out")
    assert_refused(done, "holds no image that can be read", *(["4 files (is MR, no CT)"] if what == "only MR" else []))
    assert not (tmp_path / "out").exists()


def test_a_table_of_contents_is_no_scan(seeing_file: Path, tmp_path: Path) -> None:
    others()["dicomdir"](tmp_path)
    done = predict(seeing_file, tmp_path / "DICOMDIR", tmp_path / "out")
    assert done.code != 0
    assert "give the folder" in done.out + done.err


def test_a_study_without_an_axial_series_is_a_fault_that_asks_for_a_choice(seeing_file: Path, tmp_path: Path) -> None:
    coronal = replace(PLACE, column=(0.0, 0.0, -1.0))
    write(tmp_path / "in" / "a", series(HU[:4], coronal, seed="c"))
    write(tmp_path / "in" / "b", series(HU[:4], coronal, seed="d"))
    done = predict(seeing_file, tmp_path / "in", tmp_path / "out")
    assert done.code == 1
    assert "no axial CT series" in table(tmp_path / "out" / "summary.csv")[0]["error"]
    assert "series=1" in done.out


def test_one_dicom_file_of_many_frames_is_a_scan(seeing_file: Path, hospital: tuple[Path, Done], tmp_path: Path) -> None:
    enhanced(tmp_path / "scan.dcm", series(HU, PLACE))
    done_well(predict(seeing_file, tmp_path / "scan.dcm", tmp_path / "out"))
    (mask,) = (name for name in files(tmp_path / "out") if name.endswith(".nii.gz"))
    assert mask == "scan.nii.gz"
    np.testing.assert_array_equal(labels(tmp_path / "out" / mask), labels(hospital[0] / "study.nii.gz"))


# Nothing is replaced


def test_masks_never_replace_scans(seeing_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    save(folder / "a.nii.gz")
    paths = write(folder / "ct", series(HU, PLACE))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert_refused(predict(seeing_file, folder, folder, "overwrite=true"), "must not replace")
    assert_refused(predict(seeing_file, folder / "ct", folder / "ct", "overwrite=true"), "must not replace")
    assert_refused(predict(seeing_file, folder / "a.nii.gz", folder, "overwrite=true"), "must not replace")
    assert_refused(predict(seeing_file, paths[0], folder / "ct", "overwrite=true"), "must not replace")
    # A mask's name that is a slice by another way.
    for name in ("ct.nii.gz", "overlays/ct.nii.gz.overlay.png"):
        out = tmp_path / f"out_{Path(name).suffix}"
        (out / name).parent.mkdir(parents=True)
        (out / "summary.csv").write_text("file\n")
        os.link(paths[3], out / name)
        assert_refused(predict(seeing_file, folder / "ct", out, "overwrite=true"), "must not replace it")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_an_output_inside_the_input_is_no_input_the_next_time(seeing_file: Path, tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.nii.gz")
    write(tmp_path / "in" / "ct", series(HU, PLACE))
    out = tmp_path / "in" / "ct" / "out"
    done_well(predict(seeing_file, tmp_path / "in", out))
    before = files(out)
    assert {"a.nii.gz", "ct.nii.gz"} <= before
    assert_refused(predict(seeing_file, tmp_path / "in", out), "is not empty", "overwrite=true")
    mask = (out / "ct.nii.gz").read_bytes()
    done_well(predict(seeing_file, tmp_path / "in", out, "overwrite=true"))
    assert files(out) == before
    assert [row["file"] for row in table(out / "summary.csv")] == ["a.nii.gz", "ct"]
    assert (out / "ct.nii.gz").read_bytes() == mask  # the same bytes again
