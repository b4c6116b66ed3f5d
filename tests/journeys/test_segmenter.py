"""Journeys in Python: two lines from a checkpoint to lungs, whatever the image is given as."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from dicoms import series, write
from lungseg import Segmenter
from lungseg.errors import UserError
from lungseg.imaging.readers import read
from lungseg.inference.volumes import Settings
from patients import HU, PLACE, SIDES, SPACING_MM, dice, image, save


@pytest.fixture(scope="module")
def segmenter(seeing_file: Path) -> Segmenter:
    return Segmenter.load(seeing_file)


def test_two_lines_give_two_lungs(seeing_file: Path) -> None:
    lungs = Segmenter.load(seeing_file)(HU, spacing_mm=SPACING_MM)
    assert (lungs.shape, lungs.dtype) == (HU.shape, np.uint8)
    assert set(np.unique(lungs)) == {0, 1, 2}
    assert min(dice(lungs, SIDES, side) for side in (1, 2)) > 0.9


def test_however_a_volume_is_given_its_lungs_are_the_same(segmenter: Segmenter, tmp_path: Path) -> None:
    expected = segmenter(HU, spacing_mm=SPACING_MM)
    write(tmp_path / "ct", series(HU, PLACE), names="shuffled")
    given = (
        tmp_path / "ct",
        str(tmp_path / "ct"),
        save(tmp_path / "a.nii.gz"),
        save(tmp_path / "a.nrrd"),
        save(tmp_path / "a.mha"),
    )
    for path in given:
        np.testing.assert_array_equal(segmenter(path), expected)
    found = segmenter(image())
    assert isinstance(found, sitk.Image)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found), expected)
    np.testing.assert_array_equal(segmenter(HU.astype(np.float32), spacing_mm=SPACING_MM), expected)


def test_a_file_in_another_order_gives_labels_in_its_own_order(segmenter: Segmenter, tmp_path: Path) -> None:
    stored = image(orientation="ASR")
    path = save(tmp_path / "a.nii.gz", orientation="ASR")
    found = segmenter(path)
    assert (found.shape, found.dtype) == (sitk.GetArrayFromImage(stored).shape, np.uint8)
    turned = segmenter(stored)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(turned), found)
    for get in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(turned, get)(), getattr(stored, get)(), atol=1e-9)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.DICOMOrient(turned, "LPS")), segmenter(HU, spacing_mm=SPACING_MM))
    assert found.flags.c_contiguous


def test_slices_that_lie_nowhere_give_masks(segmenter: Segmenter) -> None:
    one = segmenter(HU[12])
    assert (one.shape, one.dtype) == (HU.shape[1:], np.bool_)
    assert dice(one, SIDES[12] > 0, True) > 0.8
    stack = segmenter(HU)
    assert (stack.shape, stack.dtype) == (HU.shape, np.bool_)
    np.testing.assert_array_equal(stack[12], one)
    assert segmenter(HU[12:13]).shape == (1, *HU.shape[1:])


def test_a_flat_image_gives_a_flat_image(segmenter: Segmenter) -> None:
    flat = image()[:, :, 12]
    found = segmenter(flat)
    assert isinstance(found, sitk.Image)
    assert (found.GetSize(), found.GetDimension(), found.GetPixelID()) == (flat.GetSize(), 2, sitk.sitkUInt8)
    assert (found.GetSpacing(), found.GetOrigin()) == (flat.GetSpacing(), flat.GetOrigin())
    assert min(dice(sitk.GetArrayFromImage(found), SIDES[12], side) for side in (1, 2)) > 0.8


def test_everything_that_is_known_of_a_volume(segmenter: Segmenter, tmp_path: Path) -> None:
    volume = read(save(tmp_path / "a.nii.gz", orientation="RAI")).volume
    advanced = []
    found = segmenter.segment(volume, probabilities=True, advance=lambda: advanced.append(1))
    np.testing.assert_array_equal(volume.stored(found.labels), segmenter(tmp_path / "a.nii.gz"))
    assert found.has_sides
    assert found.is_hu
    assert [lung.side for lung in found.lungs] == ["right", "left", "both"]
    assert found.probability is not None
    assert (found.probability.shape, len(advanced)) == (HU.shape, len(HU))
    np.testing.assert_array_equal(found.volume.voxels, HU)
    assert found.hu[3].dtype == np.float32
    plain = Segmenter(segmenter.net, segmenter.preprocess, settings=Settings(postprocess=None)).segment(volume)
    np.testing.assert_array_equal(plain.labels, found.probability > 0.5)
    assert not plain.has_sides


def test_doubts_are_logged(segmenter: Segmenter, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "lungseg"):
        segmenter(HU + np.int16(1024), spacing_mm=SPACING_MM)
    assert any("HU with an offset" in message for message in caplog.messages)


def test_a_folder_of_several_scans_asks_which(segmenter: Segmenter, tmp_path: Path) -> None:
    for number in range(2):
        write(tmp_path / f"p{number}", series(HU[:4], PLACE, seed=number, StudyInstanceUID=f"1.2.{number + 1}"))
    with pytest.raises(UserError, match="holds 2 scans"):
        segmenter(tmp_path)


@pytest.mark.parametrize(
    ("given", "spacing_mm", "part"),
    [
        (HU, (1.0, 1.0), "three lengths"),
        (HU, (1.0, 0.0, 1.0), "above 0"),
        (HU, (1.0, -1.0, 1.0), "above 0"),
        (HU, (1.0, float("nan"), 1.0), "above 0"),
        (HU[None], SPACING_MM, "no slice"),
        (np.repeat(HU[12][..., None], 3, axis=2), None, "channels last"),
        (np.where(HU.max() == HU, np.nan, HU), SPACING_MM, "nan"),
        (image(), SPACING_MM, "spacing_mm is for arrays"),
        ("a.nii.gz", SPACING_MM, "spacing_mm is for arrays"),
        (sitk.Image([8, 8, 8, 2], sitk.sitkInt16), None, "no single volume"),
        (sitk.Image([8, 8, 8], sitk.sitkVectorInt16, 3), None, "no single volume"),
        (sitk.Image([8, 8, 8], sitk.sitkComplexFloat32), None, "real numbers"),
        (image(np.where(HU.max() == HU, np.nan, HU).astype(np.float32)), None, "the image holds nan"),
        (np.array([["a", "b"], ["c", "d"]]), None, "real numbers"),
        (HU[12] * 1j, None, "real numbers"),
        ("nowhere.nii.gz", None, "nowhere"),
        (".", None, "holds"),
    ],
)
def test_what_is_no_image_is_refused_in_one_sentence(
    given: object, spacing_mm: tuple[float, float, float] | None, part: str, segmenter: Segmenter, tmp_path: Path
) -> None:
    image = tmp_path / given if isinstance(given, str) else given
    with pytest.raises(UserError, match=part):
        segmenter(image, spacing_mm)  # type: ignore[arg-type]


def test_all_that_was_found_comes_for_whatever_is_given(seeing_file: Path, tmp_path: Path) -> None:
    segmenter = Segmenter.load(seeing_file)
    path = save(tmp_path / "a.nii.gz", HU)
    found = [segmenter.segment(path), segmenter.segment(image()), segmenter.segment(HU, SPACING_MM)]
    for one in found:
        np.testing.assert_array_equal(one.labels, found[0].labels)
        assert [lung.side for lung in one.lungs] == ["right", "left", "both"]
        assert one.lungs == found[0].lungs


def test_slices_go_side_by_side_and_few_at_a_time(segmenter: Segmenter, seeing_file: Path) -> None:
    drawn: list[int] = []

    def slices() -> Iterator[np.ndarray]:
        for number, slice_ in enumerate(HU):
            drawn.append(number)
            yield slice_

    alone = list(segmenter.stream(HU))
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        segmenter = Segmenter.load(seeing_file, "cpu")
        for number, logits in enumerate(segmenter.stream(slices())):
            np.testing.assert_array_equal(logits, alone[number])
            assert len(drawn) - number <= 4  # or a whole scan would wait in memory
        assert torch.get_num_threads() == 3
        with pytest.raises(ValueError, match="no slice"):
            list(segmenter.stream([*HU, "no slice", *HU]))
        assert torch.get_num_threads() == 3
        with ThreadPoolExecutor(2) as users:  # each has its own slices side by side
            for found in users.map(lambda _: list(segmenter.stream(HU)), range(2)):
                np.testing.assert_array_equal(np.stack(found), np.stack(alone))
        assert torch.get_num_threads() == 3
        with ThreadPoolExecutor(1) as later:
            assert later.submit(torch.get_num_threads).result() == 3
    finally:
        torch.set_num_threads(before)
