"""Journeys with scans and options that go wrong quietly: what is silent elsewhere is refused or warned of here."""

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from helpers import predict, table

from dicoms import cut, series, write
from greyscales import window
from lungseg.errors import UserError
from lungseg.imaging.readers import read
from patients import HU, PLACE, SIDES, image, save


def cell(out: Path, name: str, column: str = "warnings") -> str:
    return next(row[column] for row in table(out / "summary.csv") if row["file"] == name)


def test_a_truth_that_lies_elsewhere_is_refused(seeing_file: Path, tmp_path: Path) -> None:
    save(tmp_path / "scan.nii.gz", HU)
    truth = image((SIDES > 0).astype(np.uint8))
    sitk.WriteImage(truth, str(tmp_path / "right.nii.gz"))
    for name, move in (("lost", (0.0, 0.0, 0.0)), ("far", (5000.0, 0.0, 0.0))):
        truth.SetOrigin(move)
        sitk.WriteImage(truth, str(tmp_path / f"{name}.nii.gz"))
        done = predict(seeing_file, tmp_path / "scan.nii.gz", tmp_path / name, f"truth={tmp_path / name}.nii.gz")
        assert done.code == 1
        assert "lies elsewhere" in cell(tmp_path / name, "scan.nii.gz", "error")
    done = predict(seeing_file, tmp_path / "scan.nii.gz", tmp_path / "out", f"truth={tmp_path / 'right.nii.gz'}")
    assert done.code == 0
    assert float(cell(tmp_path / "out", "scan.nii.gz", "dice_3d")) > 0.9


def test_a_mask_as_it_is_written_here_is_a_truth(seeing_file: Path, tmp_path: Path) -> None:
    save(tmp_path / "scan.nii.gz", HU)
    sitk.WriteImage(image(SIDES), str(tmp_path / "sides.nii.gz"))
    done = predict(seeing_file, tmp_path / "scan.nii.gz", tmp_path / "out", f"truth={tmp_path / 'sides.nii.gz'}")
    assert done.code == 0
    assert float(cell(tmp_path / "out", "scan.nii.gz", "dice_3d")) > 0.9
    odd = SIDES * np.uint8(7)
    sitk.WriteImage(image(odd), str(tmp_path / "odd.nii.gz"))
    done = predict(seeing_file, tmp_path / "scan.nii.gz", tmp_path / "odd", f"truth={tmp_path / 'odd.nii.gz'}")
    assert done.code == 1
    assert "mask_values=1,2" in cell(tmp_path / "odd", "scan.nii.gz", "error")
    assert "data.mask_values" not in done.out


def test_a_window_says_nothing_of_hu(seeing_file: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    save(tmp_path / "in" / "hu.nii.gz", HU)
    save(tmp_path / "in" / "grey.nii.gz", window(HU, -600, 1500))
    assert predict(seeing_file, tmp_path / "in", tmp_path / "out", "input.window=-600,1500").code == 0
    assert predict(seeing_file, tmp_path / "in" / "hu.nii.gz", tmp_path / "plain").code == 0
    means = {row["file"]: float(row["mean_hu"]) for row in table(tmp_path / "out" / "measurements.csv") if row["side"] == "both"}
    plain = [float(row["mean_hu"]) for row in table(tmp_path / "plain" / "measurements.csv") if row["side"] == "both"]
    assert [means["hu.nii.gz"]] == plain
    assert means["grey.nii.gz"] == pytest.approx(plain[0], abs=25)  # the window ends at 150 HU


def test_a_slope_on_hu_is_applied_and_warned_of(seeing_file: Path, tmp_path: Path) -> None:
    save(tmp_path / "hu.nii.gz", HU)
    assert predict(seeing_file, tmp_path / "hu.nii.gz", tmp_path / "out", "input.intercept=-100").code == 0
    assert "look like HU" in cell(tmp_path / "out", "hu.nii.gz")


def test_lungs_that_a_window_cut_have_no_densities(seeing_file: Path, tmp_path: Path) -> None:
    save(tmp_path / "soft.nii.gz", window(HU, 40, 400))
    assert predict(seeing_file, tmp_path / "soft.nii.gz", tmp_path / "out", "input.window=40,400").code == 0
    assert "no densities are measured" in cell(tmp_path / "out", "soft.nii.gz")
    assert {row["mean_hu"] for row in table(tmp_path / "out" / "measurements.csv")} == {""}


def test_what_is_no_tilt_moves_no_pixel(tmp_path: Path) -> None:
    slices = series(HU, PLACE)
    aside = [replace(one, position=np.add(one.position, (0.02 * z, 0, 0))) for z, one in enumerate(slices)]
    write(tmp_path / "scan", aside)
    scan = read(tmp_path / "scan")
    np.testing.assert_array_equal(scan.volume.voxels, HU)
    assert not any("tilted" in remark for remark in scan.remarks)


def test_damaged_slices_beside_a_series_are_in_its_row(seeing_file: Path, tmp_path: Path) -> None:
    paths = write(tmp_path / "scan", series(HU, PLACE))
    cut(paths[-1], 0.02)
    assert predict(seeing_file, tmp_path / "scan", tmp_path / "out", "-q").code == 0
    assert "slices may be missing" in cell(tmp_path / "out", "scan")


def test_a_hole_in_a_scan_is_not_made_up(tmp_path: Path) -> None:
    slices = series(HU, PLACE)
    del slices[4:16]
    write(tmp_path / "scan", slices)
    with pytest.raises(UserError, match="missing in one place, more than the 30 mm"):
        read(tmp_path / "scan", allow_gaps=True)


def test_a_slope_without_an_intercept_counts(tmp_path: Path) -> None:
    write(tmp_path / "scan", [one.having(RescaleSlope=2).without("RescaleIntercept") for one in series(HU, PLACE)])
    plain = [one.having(RescaleSlope=1).without("RescaleIntercept") for one in series(HU, PLACE)]
    write(tmp_path / "plain", plain)
    np.testing.assert_array_equal(read(tmp_path / "scan").volume.voxels, 2 * read(tmp_path / "plain").volume.voxels)


def test_tables_of_an_earlier_run_do_not_stay(seeing_file: Path, tmp_path: Path) -> None:
    save(tmp_path / "scan.nii.gz", HU)
    assert predict(seeing_file, tmp_path / "scan.nii.gz", tmp_path / "out").code == 0
    assert (tmp_path / "out" / "measurements.csv").is_file()
    (tmp_path / "scan.nii.gz").write_bytes(b"damaged")
    assert predict(seeing_file, tmp_path / "scan.nii.gz", tmp_path / "out", "overwrite=true").code == 1
    assert not (tmp_path / "out" / "measurements.csv").exists()


@pytest.mark.parametrize("high", [1, 255, 1.0])
def test_a_mask_is_no_scan(high: float, seeing_file: Path, tmp_path: Path) -> None:
    save(tmp_path / "mask.nii.gz", ((SIDES > 0) * high).astype(type(high) if isinstance(high, float) else np.uint8))
    done = predict(seeing_file, tmp_path / "mask.nii.gz", tmp_path / "out")
    assert done.code == 1
    assert "holds labels" in cell(tmp_path / "out", "mask.nii.gz", "error")


def test_a_sheared_volume_is_told_from_a_damaged_one(tmp_path: Path) -> None:
    save(tmp_path / "a.nii.gz", HU)
    data = bytearray(gzip.decompress((tmp_path / "a.nii.gz").read_bytes()))
    data[252:254] = bytes(2)  # no qform
    rows = np.frombuffer(bytes(data[280:328]), "<f4").reshape(3, 4).copy()
    rows[1, 2] = rows[2, 2] / 3  # as a gantry tilted by 18 degrees
    data[280:328] = rows.tobytes()
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(bytes(data)))
    with pytest.raises(UserError, match="not at right angles"):
        read(tmp_path / "a.nii.gz")


def test_warnings_stand_in_the_picture_too(seeing_file: Path, tmp_path: Path) -> None:
    pictures = []
    for name, tags in (("chest", {}), ("head", {"BodyPartExamined": "HEAD"})):
        write(tmp_path / name, [one.having(**tags) for one in series(HU, PLACE)])
        assert predict(seeing_file, tmp_path / name, tmp_path / "out" / name).code == 0
        pictures.append((tmp_path / "out" / name / "overlays" / f"{name}.nii.gz.overlay.png").read_bytes())
    assert "not chest" in cell(tmp_path / "out" / "head", "head")
    heights = [int.from_bytes(picture[20:24], "big") for picture in pictures]
    assert heights[1] > heights[0]  # by a line of text


def test_lungs_too_small_for_anybody_are_warned_of(seeing_file: Path, tmp_path: Path) -> None:
    small = image(HU)
    small.SetSpacing([mm / 4 for mm in small.GetSpacing()])
    sitk.WriteImage(small, str(tmp_path / "a.nii.gz"))
    assert predict(seeing_file, tmp_path / "a.nii.gz", tmp_path / "out").code == 0
    assert "not the volume of lungs" in cell(tmp_path / "out", "a.nii.gz")


def test_a_run_that_made_no_mask_blocks_no_other(seeing_file: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.nii.gz").write_bytes(b"damaged")
    assert predict(seeing_file, tmp_path / "bad.nii.gz", tmp_path / "out").code == 1
    save(tmp_path / "scan.nii.gz", HU)
    assert predict(seeing_file, tmp_path / "scan.nii.gz", tmp_path / "out").code == 0
