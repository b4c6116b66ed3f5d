"""Laws of preprocessing: geometry there and back, grey values without a unit, shares that add up."""

import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from builders import chest
from lungseg.errors import UserError
from lungseg.labels import IGNORE, LUNG
from lungseg.preprocess import NORMALISATIONS, Preprocess

few = settings(deadline=None, max_examples=40)
SIZES = st.integers(16, 97)
SHAPES = st.tuples(st.integers(1, 400), st.integers(1, 400))  # tiny, large, odd and as flat as can be
PLAIN_SHAPES = st.tuples(st.integers(24, 300), st.integers(24, 300)).filter(lambda s: max(s) < 3 * min(s))
SEEDS = st.integers(0, 2**32 - 1)
BOTH = pytest.mark.parametrize("normalisation", NORMALISATIONS)


def waves(shape: tuple[int, int], centre: float = 0.0, height: float = 100.0) -> NDArray[np.float32]:
    """A smooth image (H, W), flat at its borders and alike at no two corners but the opposite ones."""
    y, x = (np.cos(np.pi * (np.arange(side) + 0.5) / side) for side in shape)
    return (centre + height * (y[:, None] + 0.5 * x + 0.5 * y[:, None] * x)).astype(np.float32)


def noise(shape: tuple[int, int], seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-1000, 1000, shape).astype(np.float32)


def there_and_back(preprocess: Preprocess, image: NDArray[np.float32]) -> NDArray[np.float32]:
    return preprocess.from_grid(preprocess.to_grid(image), (image.shape[0], image.shape[1]))


@few
@given(size=SIZES, shape=SHAPES)
@example(size=16, shape=(1, 1))
@example(size=16, shape=(1, 2000))
@example(size=17, shape=(1999, 3))
def test_any_shape_goes_there_and_comes_back(size: int, shape: tuple[int, int]) -> None:
    preprocess = Preprocess(size)
    grid = preprocess.to_grid(waves(shape))
    assert (grid.shape, grid.dtype) == ((size, size), np.float32)
    back = preprocess.from_grid(grid, shape)
    assert (back.shape, back.dtype) == (shape, np.float32)


@few
@given(size=SIZES, shape=SHAPES)
def test_nothing_of_the_padding_comes_back(size: int, shape: tuple[int, int]) -> None:
    preprocess = Preprocess(size)
    everywhere = preprocess.target_to_grid(np.full(shape, LUNG, np.uint8))[..., 0].astype(np.float32)
    assert everywhere.max() == 255
    np.testing.assert_allclose(preprocess.from_grid(everywhere, shape), 255, rtol=1e-5)


@few
@given(size=st.integers(32, 97), shape=PLAIN_SHAPES)
def test_a_smooth_image_comes_back_as_it_was(size: int, shape: tuple[int, int]) -> None:
    image = waves(shape)
    np.testing.assert_allclose(there_and_back(Preprocess(size), image), image, atol=0.02 * np.ptp(image))


@few
@given(size=SIZES, shape=SHAPES, seed=SEEDS, axis=st.sampled_from([0, 1]))
def test_flips_and_turns_commute_with_the_way_there_and_back(size: int, shape: tuple[int, int], seed: int, axis: int) -> None:
    preprocess, image = Preprocess(size), noise(shape, seed)
    back = there_and_back(preprocess, image)
    np.testing.assert_allclose(there_and_back(preprocess, np.flip(image, axis)), np.flip(back, axis), atol=0.5)
    np.testing.assert_allclose(preprocess.to_grid(image.T), preprocess.to_grid(image).T, atol=0.5)


@few
@given(seed=SEEDS, factor=st.floats(0.01, 100), offset=st.floats(-5000, 5000))
def test_percentiles_are_blind_to_the_unit(seed: int, factor: float, offset: float) -> None:
    preprocess, image = Preprocess(32), noise((32, 32), seed)
    other = image.astype(np.float64) * factor + offset
    np.testing.assert_allclose(preprocess.normalise(other), preprocess.normalise(image), atol=1e-3)


@few
@given(seed=SEEDS)
def test_percentiles_leave_what_they_made(seed: int) -> None:
    once = Preprocess(32).normalise(chest(64, seed)[0])
    assert once.min() == 0
    assert once.max() == 1
    np.testing.assert_allclose(Preprocess(32).normalise(once), once, atol=0.02)


@few
@given(value=st.floats(-1024, 70000, width=32, allow_subnormal=False), shape=SHAPES)
@example(value=1.0, shape=(1, 55))  # where resampling gives 1.0000001
def test_a_constant_slice_is_zero(value: float, shape: tuple[int, int]) -> None:
    preprocess = Preprocess(16)
    image = np.full(shape, value, np.float32)
    assert (preprocess.normalise(preprocess.to_grid(image)) == 0).all()


def test_a_window_maps_its_ends_to_0_and_1() -> None:
    preprocess = Preprocess(16, "window", window_hu=(-1000, 500))
    values = np.array([[-2000.0, -1000.0, -250.0, 500.0, 3000.0]])
    np.testing.assert_allclose(preprocess.normalise(values), [[0, 0, 0.5, 1, 1]], atol=1e-6)


def test_a_window_refuses_what_is_no_hu() -> None:
    picture = np.arange(256, dtype=np.uint8).reshape(16, 16)
    with pytest.raises(UserError, match=r"0 to 255.*normalisation=percentile"):
        Preprocess(16, "window").to_grid(picture)
    Preprocess(16, "percentile").to_grid(picture)
    Preprocess(16, "window").to_grid(chest(32)[0])


@BOTH
@few
@given(size=SIZES, seed=SEEDS, cut=st.integers(25, 64), lie=st.booleans())
def test_the_padding_is_air(normalisation: str, size: int, seed: int, cut: int, lie: bool) -> None:
    preprocess = Preprocess(size, normalisation)
    image = chest(64, seed)[0][:cut]
    image = image.T if lie else image
    inside = preprocess.target_to_grid(np.full(image.shape, LUNG, np.uint8))[..., 0] == 255
    padding = preprocess.normalise(preprocess.to_grid(image))[~inside]
    assert padding.max(initial=0) < 0.02


@BOTH
@given(seed=SEEDS, mark=st.sampled_from([-1025.0, -2048.0, -3024.0, -32768.0]))
@few
def test_what_lies_below_1024_counts_as_1024(normalisation: str, seed: int, mark: float) -> None:
    preprocess, image = Preprocess(32, normalisation), chest(64, seed)[0]
    round_field = np.hypot(*(np.mgrid[:64, :64] - 31.5)) > 32
    marked, air = (np.where(round_field, value, image) for value in (mark, -1024.0))
    np.testing.assert_array_equal(preprocess.to_grid(marked), preprocess.to_grid(air))


@few
@given(size=SIZES, shape=PLAIN_SHAPES, seed=SEEDS)
def test_shares_add_up(size: int, shape: tuple[int, int], seed: int) -> None:
    """The area of lung and of what is ignored is that of the mask, in whatever pixels, and no pixel is shared out twice."""
    edges = np.random.default_rng(seed).uniform(-60, 60, 2)
    labels = np.where(waves(shape) > edges.max(), LUNG, np.where(waves(shape) < edges.min(), IGNORE, 0)).astype(np.uint8)
    preprocess = Preprocess(size)
    target = preprocess.target_to_grid(labels)
    assert (target.shape, target.dtype) == ((size, size, 2), np.uint8)
    assert target.sum(axis=-1, dtype=int).max() <= 256  # 1 for rounding
    inner = np.count_nonzero(preprocess.target_to_grid(np.full(shape, LUNG, np.uint8))[..., 0])
    for channel, value in enumerate((LUNG, IGNORE)):
        share = target[..., channel].sum() / 255 / inner
        assert share == pytest.approx((labels == value).mean(), abs=0.002 if max(shape) > size else 0.02)


@few
@given(seed=SEEDS, factor=st.floats(2, 4))
def test_a_soft_target_keeps_a_finer_mask(seed: int, factor: float) -> None:
    preprocess = Preprocess(96)
    lung = chest(round(96 * factor), seed)[1] == LUNG
    soft = preprocess.target_to_grid(lung.astype(np.uint8))[..., 0].astype(np.float32)
    hard = np.where(soft >= 127.5, np.float32(255), np.float32(0))
    kept, stepped = (iou(preprocess.from_grid(share, lung.shape) > 127.5, lung) for share in (soft, hard))
    assert kept > 0.98
    assert kept > stepped


def iou(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    return float((found & truth).sum() / (found | truth).sum())


@given(
    preprocess=st.builds(
        Preprocess,
        size=st.integers(16, 2048),
        normalisation=st.sampled_from(NORMALISATIONS),
        percentiles=st.tuples(st.floats(0, 49), st.floats(50, 100)),
        window_hu=st.tuples(st.floats(-2000, -500), st.floats(0, 3000)),
    )
)
def test_plain_values_build_it_again(preprocess: Preprocess) -> None:
    assert Preprocess(**json.loads(json.dumps(preprocess.state()))) == preprocess


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("size", 15),
        ("size", -192),
        ("normalisation", "zscore"),
        ("percentiles", (99.5, 0.5)),
        ("percentiles", (1, 1)),
        ("percentiles", (-1, 99)),
        ("percentiles", (1, 101)),
        ("percentiles", (1, 50, 99)),
        ("percentiles", (float("nan"), 99)),
        ("window_hu", (400, -1000)),
        ("window_hu", (-1000,)),
        ("window_hu", (float("-inf"), 400)),
    ],
)
def test_a_value_out_of_range_is_named(key: str, value: object) -> None:
    with pytest.raises(UserError, match=rf"preprocess\.{key}="):
        Preprocess(**{key: value})
