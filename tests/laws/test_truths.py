"""Laws of true masks of volumes: the same points have the same labels, however the mask's file lies."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from lungseg.errors import UserError
from lungseg.imaging.readers import read
from lungseg.imaging.truths import read_truth
from patients import HU, SIDES, image, save

ORIENTATIONS = [a + b + c for a in "RL" for b in "AP" for c in "IS"] + ["SAR", "PIR", "ILP"]


@settings(deadline=None, max_examples=12)
@given(
    image_way=st.sampled_from(ORIENTATIONS),
    mask_way=st.sampled_from(ORIENTATIONS),
    suffix=st.sampled_from([".nrrd", ".mha", ".nii"]),
)
def test_a_mask_of_any_orientation_and_format_is_put_onto_its_image(
    image_way: str, mask_way: str, suffix: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("turned")
    scan = read(save(folder / "scan.nii", HU, image_way))
    mask = save(folder / f"mask{suffix}", SIDES, mask_way)
    truth = read_truth(mask, scan.volume, folder / "scan.nii", None, ())
    np.testing.assert_array_equal(truth.labels, SIDES > 0)
    assert truth.doubts == ()


def test_a_mask_on_a_finer_grid_is_sampled_at_the_voxels_of_its_image(tmp_path: Path) -> None:
    fine = image(SIDES)
    fine = sitk.Resample(
        fine, [2 * side for side in fine.GetSize()], sitk.Transform(), sitk.sitkNearestNeighbor,
        [origin - mm / 4 for origin, mm in zip(fine.GetOrigin(), fine.GetSpacing(), strict=True)],
        [mm / 2 for mm in fine.GetSpacing()], fine.GetDirection(),
    )  # fmt: skip
    sitk.WriteImage(fine, str(tmp_path / "mask.mha"))
    truth = read_truth(tmp_path / "mask.mha", read(save(tmp_path / "a.nrrd")).volume, tmp_path / "a.nrrd", None, ())
    np.testing.assert_array_equal(truth.labels, SIDES > 0)
    assert truth.doubts == ()


def test_a_mask_that_covers_a_part_is_doubted(tmp_path: Path) -> None:
    half = image(SIDES)[:, :, : SIDES.shape[0] // 2]
    sitk.WriteImage(half, str(tmp_path / "mask.nrrd"))
    truth = read_truth(tmp_path / "mask.nrrd", read(save(tmp_path / "a.nrrd")).volume, tmp_path / "a.nrrd", None, ())
    middle = SIDES.shape[0] // 2
    np.testing.assert_array_equal(truth.labels[:middle], SIDES[:middle] > 0)
    assert not truth.labels[middle:].any()
    (doubt,) = truth.doubts
    assert doubt.startswith("its mask covers 50% of it")


def moved(folder: Path, mm: float, planes: int = len(SIDES)) -> Path:
    made = image(SIDES)[:, :, :planes]
    made.SetOrigin([made.GetOrigin()[0] + mm, *made.GetOrigin()[1:]])
    sitk.WriteImage(made, str(folder / "mask.mha"))
    return folder / "mask.mha"


@pytest.mark.parametrize(("mm", "planes", "said"), [(20.0, 24, "lies elsewhere"), (2000.0, 20, "lies beside")])
def test_a_mask_of_another_place_is_refused(mm: float, planes: int, said: str, tmp_path: Path) -> None:
    scan = read(save(tmp_path / "a.nrrd"))
    with pytest.raises(UserError, match=rf"mask\.mha .*{said}"):
        read_truth(moved(tmp_path, mm, planes), scan.volume, tmp_path / "a.nrrd", None, ())


def test_which_values_are_lung(tmp_path: Path) -> None:
    """Both sides where there are no others; else as of pictures, or as it is said."""
    scan = read(save(tmp_path / "a.nrrd")).volume

    def lung(values: np.ndarray, named: tuple[float, ...] | None = None) -> np.ndarray:
        return read_truth(save(tmp_path / "mask.nrrd", values.astype(np.uint8)), scan, tmp_path / "a.nrrd", named, ()).labels

    for values in (SIDES, SIDES > 0, 2 * (SIDES > 0), 1 + (SIDES > 0), 255 * (SIDES > 0)):
        np.testing.assert_array_equal(lung(values), SIDES > 0)
    np.testing.assert_array_equal(lung(SIDES, (2.0,)), SIDES == 2)
    with pytest.raises(UserError, match=r"holds 4 values \(0, 1, 2, 3\): say which of them are lung, data\.mask_values"):
        lung(np.where(SIDES == 0, np.arange(64) > 60, SIDES).astype(int) + 2 * ((SIDES == 0) & (np.arange(64) > 60)))
