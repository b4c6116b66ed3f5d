"""Real scans through the readers, where they are there: what pydicom says of them is where they lie."""

import os
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers import lungseg

from lungseg.data.cases import FileCase
from lungseg.errors import UserError
from lungseg.imaging.dicom import has_dicom_mark
from lungseg.imaging.readers import find, read
from lungseg.labels import LUNG

DATA = Path(os.environ.get("LUNGSEG_DATA", Path(__file__).parents[3] / "shared" / "data"))
pytestmark = pytest.mark.skipif(not (DATA / "messy_dicom").is_dir(), reason="the real data are not there (LUNGSEG_DATA)")

STUDY, MESSY = DATA / "ct_dicom" / "study", DATA / "messy_dicom"


@pytest.mark.parametrize(("kernel", "folder"), [("L", "sharp_kernel"), ("B", "soft_kernel")])
def test_two_kernels_of_a_study_are_told_apart_and_lie_where_pydicom_says(kernel: str, folder: str) -> None:
    scan = read(STUDY, series=kernel)
    grid = scan.volume.grid
    assert grid is not None
    headers = {}
    for path in (STUDY / folder).iterdir():
        header = pydicom.dcmread(path)
        headers[float(header.ImagePositionPatient[2])] = header
    assert grid.shape == (64, 512, 512) == (len(headers), 512, 512)
    for z, height in enumerate(sorted(headers)):
        header = headers[height]
        rows, columns = (float(mm) for mm in header.PixelSpacing)
        first = np.array(header.ImagePositionPatient, dtype=float)
        row, column = np.array(header.ImageOrientationPatient, dtype=float).reshape(2, 3)
        last = first + row * columns * 511 + column * rows * 511
        np.testing.assert_allclose(grid.point([(z, 0, 0), (z, 511, 511)]), [first, last], atol=1e-3)
    middle = headers[sorted(headers)[32]]
    stored = middle.pixel_array.astype(int) * int(middle.RescaleSlope) + int(middle.RescaleIntercept)
    np.testing.assert_array_equal(scan.volume.voxels[32], stored)


def test_the_soft_kernel_is_taken_unasked_and_said() -> None:
    scan = read(STUDY)
    np.testing.assert_array_equal(scan.volume.voxels, read(STUDY, series="B").volume.voxels)
    assert any("number 2 was taken" in remark and "kernel L" in remark for remark in scan.remarks)


def test_uneven_steps_are_refused_with_the_reason_and_the_way_out() -> None:
    with pytest.raises(UserError, match=r"uneven: 1\.08 to 7 mm.*input\.allow_gaps=true"):
        read(DATA / "gantry_tilt")
    assert any("tilted by 18.5 degrees" in doubt for doubt in read(DATA / "gantry_tilt", allow_gaps=True).doubts)


@pytest.mark.parametrize("path", sorted(MESSY.iterdir()) if MESSY.is_dir() else [], ids=lambda path: path.name)
def test_what_a_folder_may_hold_is_read_or_refused_in_a_sentence(path: Path, checkpoint_file: Path, tmp_path: Path) -> None:
    done = lungseg("predict", f"ckpt={checkpoint_file}", f"input={path}", f"output={tmp_path / 'out'}")
    assert done.code in (0, 1)
    assert "Traceback" not in done.out + done.err
    grid, refusal = None, ""
    try:
        grid = read(path).volume.grid
    except UserError as error:
        refusal = str(error)
    assert done.code == int(bool(refusal))
    assert "\n" not in refusal
    if refusal:
        assert refusal.startswith(str(path))
        assert refusal.removeprefix(f"{path} ")[:40] in done.out.replace("\n", " ")
        return
    header = pydicom.dcmread(path, stop_before_pixels=True)
    if "ImagePositionPatient" not in header and "PerFrameFunctionalGroupsSequence" not in header:
        assert grid is None, "its geometry is invented"


def test_a_messy_folder_has_a_reason_for_each_file() -> None:
    found = find(MESSY)
    told = {file for file, _ in found.skipped} | set(found.files) | {f.path for one in found.series for f in one.frames}
    assert told == set(MESSY.iterdir())
    assert all(reason for _, reason in found.skipped)
    for file in found.files:
        assert has_dicom_mark(file)
        assert pydicom.dcmread(file, stop_before_pixels=True).Modality == "CT"


def test_a_mask_on_another_grid_lies_on_the_lung_of_its_image() -> None:
    image, mask = (read(DATA / "tiny_mha" / f"3DCT_lung_baseline_{name}.mha").volume for name in ("small", "mask"))
    assert image.grid is not None
    assert mask.voxels.shape != image.voxels.shape
    lung = mask.on(image.grid, labels=True).voxels > 0
    air = image.voxels < -500
    assert (air & lung).sum() > 0.85 * lung.sum()  # vessels are the rest
    shifted = np.roll(lung, 12, axis=2)
    assert (air & shifted).sum() < 0.7 * lung.sum()


@pytest.mark.skipif(not (DATA / "tiny_mha").is_dir(), reason="this set is not there")
def test_a_mask_on_another_grid_is_learnt_where_the_lung_is() -> None:
    """Of the right lung only, on voxels a quarter as large."""
    folder = DATA / "tiny_mha"
    stack = FileCase("a", folder / "3DCT_lung_baseline_small.mha", folder / "3DCT_lung_baseline_mask.mha").read()
    assert stack.labels.shape == stack.image.shape == (64, 78, 57)
    assert stack.doubts == ()
    lung = stack.labels == LUNG
    assert np.mean(stack.image[:][lung] < -500) > 0.95
    assert 3000 < lung.sum() * np.prod(stack.spacing_mm) / 1000 < 4000  # mL, of an emphysematous lung
