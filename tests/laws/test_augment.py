"""Laws of augmentation: what moves moves together, what is filled is air, and albumentations only ever sees 0..1."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lungseg.data.augment import Augmentation
from lungseg.errors import UserError
from lungseg.preprocess import Preprocess

SIDE = 64
PERCENTILE = Preprocess(size=SIDE)
WINDOW = Preprocess(size=SIDE, normalisation="window")
GREY = {"window": 1.0, "hu_scale": (0.8, 1.2), "hu_offset": 50, "gamma": 1.0, "clahe": 1.0, "noise": 1.0, "blur": 1.0}
MOVES = {"rotation_deg": 30, "half_turn": 0.5, "flip_horizontal": 0.5, "flip_vertical": 0.5, "scale": (0.7, 1.3)}
MOVES |= {"aspect": 1.2, "shift": 0.1, "elastic": 0.5}
seeds = st.tuples(*[st.integers(0, 2**31)] * 3)
few = settings(deadline=None, max_examples=30)


def disc(inside: float = 40.0, outside: float = -1000.0) -> tuple[np.ndarray, np.ndarray]:
    """A bright disc off centre (SIDE, SIDE) and its target (SIDE, SIDE, 2): the disc, and all but the disc."""
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    disc = (x - 0.15) ** 2 + (y + 0.1) ** 2 < 0.4**2
    target = np.stack([disc, ~disc], axis=-1).astype(np.uint8) * np.uint8(255)
    return np.where(disc, inside, outside).astype(np.float32), target


def nothing(side: int = SIDE) -> np.ndarray:
    """A target without lung, (side, side, 2)."""
    return np.zeros((side, side, 2), np.uint8)


def noise_slice(side: int = SIDE) -> np.ndarray:
    """Grey values between -1000 and 1000 HU (side, side), alike nowhere."""
    return np.random.default_rng(0).uniform(-1000, 1000, (side, side)).astype(np.float32)


@few
@given(seed=seeds)
@pytest.mark.parametrize("preprocess", [PERCENTILE, WINDOW], ids=lambda p: p.normalisation)
def test_image_and_target_move_together(preprocess, seed):
    image, target = Augmentation(**MOVES)(*disc(), preprocess, seed)
    # The disc is bright where it is lung, and both go through the same two warps, which OpenCV does with rounded weights for bytes:
    # over 5,000 seeds they differed by more than 0.03 in at most one pixel, by 0.035 at most and by 0.0004 on average.
    apart = np.abs(image / image.max() - target[..., 0] / 255)
    assert apart.mean() < 0.001
    assert np.count_nonzero(apart > 0.03) <= 4
    assert apart.max() <= 2 / 32


@few
@given(seed=seeds)
@pytest.mark.parametrize("preprocess", [PERCENTILE, WINDOW], ids=lambda p: p.normalisation)
def test_what_comes_in_from_outside_is_air_and_background(preprocess, seed):
    image, target = noise_slice(), np.full((SIDE, SIDE, 2), 255, np.uint8)
    image, target = Augmentation(scale=(0.5, 0.5), elastic=0.5)(image, target, preprocess, seed)
    frame = np.ones((SIDE, SIDE), bool)
    frame[12:-12, 12:-12] = False
    assert (image[frame] == 0).all()
    assert (target[frame] == 0).all()
    assert (target[24:-24, 24:-24] == 255).all()


@few
@given(seed=seeds, level=st.floats(-700, 50))
def test_a_wide_window_leaves_no_grey_square_on_the_fill(seed, level):
    """A window that starts below air would show the slice's own air grey, and the fill beside it black."""
    wide = Augmentation(scale=(0.6, 0.6), window=1, window_width_hu=(3000, 3000), window_level_hu=(level, level))
    image, target = wide(*disc(), PERCENTILE, seed)
    far = np.hypot(*(np.mgrid[:SIDE, :SIDE] - np.argwhere(target[..., 0]).mean(axis=0)[:, None, None])) > 12
    assert (image[far] == 0).all()


@few
@given(seed=seeds)
@pytest.mark.parametrize("preprocess", [PERCENTILE, WINDOW], ids=lambda p: p.normalisation)
@pytest.mark.parametrize("picture", [False, True])
def test_albumentations_only_sees_zero_to_one(preprocess, picture, seed):
    import albumentations as A

    seen = []

    class Look(A.ImageOnlyTransform):
        def apply(self, img, **_):
            seen.append((img.min(), img.max(), img.dtype))
            return img

    augmentation = Augmentation(**MOVES, **GREY)
    steps = augmentation.pipeline(preprocess)
    steps.transforms = [step for t in steps.transforms for step in (Look(p=1), t)]
    image, target = noise_slice(), nothing()
    augmentation((image + 1000) / 8 if picture else image, target, preprocess, seed)
    assert len(seen) == 9  # before each of two flips, the affine, the bend, four grey-value steps and normalise
    assert all(low >= 0 and high <= 1 and dtype == np.float32 for low, high, dtype in seen)
    assert picture or seen[0][1] - seen[0][0] > 0.5  # HU were mapped to the range, not squeezed or cut to nothing


@few
@given(seed=seeds)
def test_a_fixed_window_gets_its_hu_back(seed):
    """A flip and nothing else: the way to 0..1 and back to HU must cancel, and the random window must keep away."""
    image, target = noise_slice(), disc()[1]
    out, moved = Augmentation(flip_horizontal=1, window=1)(image, target, WINDOW, seed)
    np.testing.assert_allclose(out, WINDOW.normalise(image)[:, ::-1], atol=1e-5)
    np.testing.assert_array_equal(moved, target[:, ::-1])


@few
@given(seed=seeds, scale=st.floats(0.01, 100), offset=st.floats(0, 1000))
def test_the_unit_of_a_picture_does_not_matter(seed, scale, offset):
    picture, target = (noise_slice() + 1000) / 8, disc()[1]
    augmentation = Augmentation(flip_vertical=0.5, window=1, gamma=1)
    out = augmentation(picture, target, PERCENTILE, seed)[0]
    other = augmentation((picture * scale + offset).astype(np.float32), target, PERCENTILE, seed)[0]
    np.testing.assert_allclose(out, other, atol=2e-2)


@few
@given(seed=seeds, width=st.floats(300, 1500), level=st.floats(-600, 100))
def test_the_random_window_is_the_one_asked_for(seed, width, level):
    ramp = np.linspace(-1500, 1500, SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE)
    augmentation = Augmentation(window=1, window_width_hu=(width, width), window_level_hu=(level, level))
    out = augmentation(ramp, nothing(), PERCENTILE, seed)[0]
    expected = np.clip((ramp - (level - width / 2)) / width, 0, 1)
    np.testing.assert_allclose(out, expected, atol=1e-3)


@pytest.mark.parametrize("name", ["rotation_deg", "scale", "aspect", "shift", "elastic", *GREY])
def test_each_draw_changes_the_slice_and_depends_on_the_seed_alone(name):
    value = {**MOVES, **GREY, "window": 1.0, "elastic": 1.0}[name]
    preprocess = Preprocess(size=256, normalisation="window" if name.startswith("hu_") else "percentile")
    image, target = noise_slice(side=256), nothing(side=256)
    draws = []
    for _ in range(2):
        random.seed()
        draws.append([Augmentation(**{name: value})(image, target, preprocess, (5, 0, i))[0] for i in range(3)])
    np.testing.assert_array_equal(draws[0], draws[1])
    assert len({d.tobytes() for d in draws[0]} | {preprocess.normalise(image).tobytes()}) == 4


def test_flips_and_half_turns_are_drawn_apart():
    """One stream copied into every transform would flip both ways or not at all."""
    image, target = noise_slice(), disc()[1]
    ways = {(v, h): target[::v, ::h].tobytes() for v in (1, -1) for h in (1, -1)}
    both = Augmentation(flip_horizontal=0.5, flip_vertical=0.5)
    turns = Augmentation(half_turn=0.5)
    flipped = [both(image, target, PERCENTILE, (0, 0, i))[1].tobytes() for i in range(200)]
    for way in ways.values():
        assert 25 < flipped.count(way) < 75
    turned = [turns(image, target, PERCENTILE, (0, 0, i))[1].tobytes() for i in range(200)]
    assert 70 < turned.count(ways[-1, -1]) < 130
    assert turned.count(ways[-1, -1]) + turned.count(ways[1, 1]) == 200


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rotation_deg", -1),
        ("rotation_deg", 181),
        ("half_turn", 1.5),
        ("flip_horizontal", -0.1),
        ("noise", float("nan")),
        ("scale", (1.2, 0.8)),
        ("scale", (0, 1)),
        ("scale", (1,)),
        ("aspect", 0.9),
        ("shift", 1.1),
        ("window_width_hu", (-400, 400)),
        ("window_level_hu", (100, -100)),
        ("hu_scale", (0, 2)),
        ("hu_offset", -5),
    ],
)
def test_a_value_out_of_range_is_named(key, value):
    with pytest.raises(UserError, match=rf"augmentation\.{key}="):
        Augmentation(**{key: value})
