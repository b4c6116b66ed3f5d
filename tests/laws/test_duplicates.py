"""Laws of pictures that come twice: copies are known, strangers are not."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lungseg.data.duplicates import ALIKE, alike, digest, fingerprint
from lungseg.data.phantom import phantom_slice

IMAGES = [phantom_slice(seed, 128).image_hu for seed in range(60)]


def likeness(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    first, second = fingerprint(one), fingerprint(other)
    assert first is not None
    assert second is not None
    return float(2 * np.mean(first == second) - 1)


def moved(image: NDArray[np.float32], down: float, right: float) -> NDArray[np.float32]:
    matrix = np.array([[1, 0, right * image.shape[1]], [0, 1, down * image.shape[0]]], np.float32)
    return cv2.warpAffine(image, matrix, image.shape[::-1], borderMode=cv2.BORDER_CONSTANT, borderValue=float(image.min()))


@given(number=st.integers(0, 59), axis=st.sampled_from([0, 1, (0, 1)]))
def test_a_flipped_copy_has_nearly_the_same_print(number: int, axis: int | tuple[int, int]) -> None:
    assert likeness(IMAGES[number], np.flip(IMAGES[number], axis)) > 0.95


@given(number=st.integers(0, 59), down=st.floats(-0.04, 0.04), right=st.floats(-0.04, 0.04), flip=st.booleans())
def test_a_copy_shifted_by_up_to_a_twentyfifth_is_known(number: int, down: float, right: float, flip: bool) -> None:
    copy = moved(IMAGES[number], down, right)
    assert likeness(IMAGES[number], copy[:, ::-1] if flip else copy) > ALIKE


@given(number=st.integers(0, 59), quality=st.integers(70, 100))
def test_a_copy_that_was_windowed_and_saved_as_jpeg_is_known(number: int, quality: int) -> None:
    grey = np.clip((IMAGES[number] + 1000) * 255 / 1400, 0, 255).astype(np.uint8)
    copy = cv2.imdecode(cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE)
    assert likeness(IMAGES[number], copy.astype(np.float32)) > ALIKE


def test_strangers_are_no_twins() -> None:
    prints = [print_ for print_ in map(fingerprint, IMAGES) if print_ is not None]
    assert len(prints) == len(IMAGES)
    assert list(alike(prints, range(len(prints)))) == []


def test_twins_are_found_across_blocks_and_not_within_a_group() -> None:
    rng = np.random.default_rng(0)
    prints = list(rng.random((2500, 576)) < 0.5)
    prints[2400] = prints[5].copy()
    prints[7] = prints[6].copy()
    groups = list(range(2500))
    assert [(i, j, round(by, 3)) for i, j, by in alike(prints, groups)] == [(6, 7, 1.0), (5, 2400, 1.0)]
    groups[7] = groups[6]
    assert [(i, j) for i, j, _ in alike(prints, groups)] == [(5, 2400)]
    assert list(alike([], [])) == []


@pytest.mark.parametrize("value", [0.0, -1000.0, 3e38])
def test_a_picture_without_structure_has_no_print(value: float) -> None:
    assert fingerprint(np.full((40, 50), value, np.float32)) is None


def test_a_digest_knows_shape_and_values_but_not_the_type() -> None:
    image = np.arange(12, dtype=np.int16).reshape(3, 4)
    assert digest(image) == digest(image.astype(np.float32))
    assert digest(image) != digest(image.reshape(4, 3))
    assert digest(image) != digest(image + 1)
