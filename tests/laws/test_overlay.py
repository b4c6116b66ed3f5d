"""Laws of the pictures that a person judges a mask by: they show the errors, all of them, and nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lungseg.imaging.overlay import GAP, LEGEND, PAPER, grid, overlay, to_grey

QUICK = settings(deadline=None, max_examples=40)
SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=4, max_side=40)
QUARTERS = st.integers(-12000, 12000).map(lambda quarters: quarters / 4)  # a contrast of 1e-38 would be lost in a shift by 512
IMAGES = hnp.arrays(np.float32, SHAPES, elements=QUARTERS)


def disc(x: int, radius: int = 20) -> np.ndarray:
    return np.hypot(*(np.mgrid[-40:40, -60:60] - np.array([0, x])[:, None, None])) < radius


@QUICK
@given(image=IMAGES, scale=st.sampled_from([0.25, 1.0, 8.0]), shift=st.sampled_from([-1024.0, 0.0, 512.0]))
def test_the_grey_on_the_screen_does_not_depend_on_the_unit(image: np.ndarray, scale: float, shift: float) -> None:
    grey = to_grey(image)
    assert grey.dtype == np.uint8
    assert np.abs(to_grey(image.astype(np.float64) * scale + shift).astype(int) - grey).max() <= 1


@pytest.mark.parametrize("padding", ["one grey", "noise"])
def test_padding_outside_a_round_field_takes_no_contrast(padding: str) -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(-200, 400, (200, 160)).clip(-1024, 1500)
    y, x = (np.linspace(-1, 1, side) for side in image.shape)
    outside = np.hypot(y[:, None], x) > 1
    padded = np.where(outside, -2048 if padding == "one grey" else rng.normal(-1650, 50, image.shape), image)
    np.testing.assert_array_equal(to_grey(padded), np.where(outside, 0, to_grey(image)))


def test_padding_of_one_grey_beside_the_field_takes_no_contrast() -> None:
    image = np.random.default_rng(0).normal(-200, 400, (200, 160)).clip(-1000, 1500)
    padded = np.where(np.arange(160) < 40, -2048, image)
    assert (to_grey(padded)[:, :40] == 0).all()
    assert abs(to_grey(padded)[:, 40:].mean() - to_grey(image)[:, 40:].mean()) < 3


@QUICK
@given(image=IMAGES)
def test_without_masks_the_slice_is_shown_as_it_is(image: np.ndarray) -> None:
    nothing = np.zeros(image.shape, dtype=bool)
    np.testing.assert_array_equal(overlay(image, nothing, nothing), np.repeat(to_grey(image)[..., None], 3, axis=2))


def test_errors_are_tinted_and_nothing_else() -> None:
    image, truth, mask = np.full((80, 120), 50.0), disc(-10), disc(10)
    picture = overlay(image, mask, truth).astype(int)
    missed, excess, both, none = picture[40, 35], picture[40, 85], picture[40, 60], picture[5, 5]
    np.testing.assert_array_equal(both, to_grey(image)[0, 0])
    np.testing.assert_array_equal(none, to_grey(image)[0, 0])
    assert missed[0] > missed[2]  # reddish
    assert excess[2] > excess[0]  # bluish
    assert (overlay(image, mask)[40, 85] == to_grey(image)[0, 0]).all()  # without truth there are no errors


def test_ignored_pixels_are_no_error() -> None:
    image, mask = np.full((80, 120), 50.0), disc(0)
    labels = np.where(mask, np.uint8(255), np.uint8(0))
    np.testing.assert_array_equal(overlay(image, mask, labels), overlay(image, mask))


@QUICK
@given(shapes=st.lists(SHAPES, min_size=1, max_size=7), columns=st.integers(1, 5))
def test_a_grid_holds_every_picture_in_a_tile_of_one_size(shapes: list[tuple[int, int]], columns: int) -> None:
    pictures = [np.full((*shape, 3), 200, dtype=np.uint8) for shape in shapes]
    sheet = grid(pictures, columns)
    height, width = max(s[0] for s in shapes), max(s[1] for s in shapes)
    across = min(columns, len(shapes))
    down = -(-len(shapes) // across)
    assert sheet.shape == (GAP + down * (height + GAP), GAP + across * (width + GAP), 3)
    for index in range(len(shapes)):
        top, left = GAP + index // across * (height + GAP), GAP + index % across * (width + GAP)
        assert (sheet[top + height // 2, left + width // 2] == 200).all()
    assert (sheet[:GAP] == PAPER).all()


def test_captions_and_legend_are_drawn() -> None:
    pictures = [np.zeros((64, 256), np.uint8), np.zeros((256, 256, 3), np.uint8)]
    plain, captioned = grid(pictures, 2), grid(pictures, 2, captions=["IoU 0.97", "Größe 日"])
    assert plain.shape == captioned.shape
    assert all((plain != captioned)[:40, half].any() for half in (slice(0, 260), slice(260, None)))
    with_legend = grid(pictures, 2, legend=LEGEND)
    np.testing.assert_array_equal(with_legend[: plain.shape[0] - GAP], plain[:-GAP])
    for _, colour in LEGEND:
        assert (with_legend[plain.shape[0] :] == colour).all(axis=2).any()
    with pytest.raises(ValueError, match="argument"):
        grid(pictures, 2, captions=["one"])
