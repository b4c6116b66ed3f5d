"""Laws of grey values: what is HU is never repaired, what is not is told for what it is, and what a user says wins."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from builders import chest
from greyscales import DEGRADED, KINDS, REPAIRED, narrowed, whole, window
from lungseg.data.phantom import phantom_slice, phantom_volume
from lungseg.errors import UserError
from lungseg.imaging import greys
from lungseg.imaging.greys import Judgement, judge
from lungseg.imaging.units import Units, to_hu

SHAPES = [(12, 128, 128), (10, 96, 128), (8, 160, 160)]
VOLUMES = [phantom_volume(seed, SHAPES[seed % 3]).voxels_hu for seed in (1000, 1001, 1002, 1003)]


def is_untouched(judgement: Judgement) -> bool:
    return (judgement.slope, judgement.intercept) == (1.0, 0.0)


@pytest.mark.parametrize("name", DEGRADED)
def test_each_degradation_is_told(name: str) -> None:
    told = [judge(DEGRADED[name](hu)) for hu in VOLUMES]
    right = [one.name in KINDS[name] for one in told]
    assert sum(right) >= len(VOLUMES) - (name == "like MR"), [one.name for one in told]
    assert all(one.is_repaired == (not is_untouched(one)) for one in told)
    assert sum(one.is_hu for one in told) >= len(VOLUMES) - 1 if name in REPAIRED else not any(one.is_hu for one in told)


@pytest.mark.parametrize("name", sorted(REPAIRED))
def test_a_repair_gives_back_hu(name: str) -> None:
    for hu in VOLUMES:
        voxels = DEGRADED[name](hu)
        judgement = judge(voxels)
        if judgement.is_hu:
            slope, intercept = to_hu(voxels, judgement)
            mended = np.float32(slope) * voxels.astype(np.float32) + np.float32(intercept)
            inside = hu >= -1024  # a file without a sign holds no lower padding
            assert np.abs(mended - hu)[inside].max() <= 24 + 10  # 1000 and 1024 may be taken for each other; rounding of tenths
            assert judge(mended).name == greys.HU


def test_sound_scans_are_hu_and_stay_as_they_are() -> None:
    for seed in range(2000, 2006):
        volume = phantom_volume(seed, (8, 96, 96)).voxels_hu
        assert (judge(volume).name, is_untouched(judge(volume))) == (greys.HU, True), seed
        assert all(is_untouched(judge(slice_)) for slice_ in volume), seed
    for seed in range(60):
        image = phantom_slice(seed, 96).image_hu
        assert is_untouched(judge(image)), seed
        assert is_untouched(judge(whole(image[20:-20, 20:-20]))), seed


@pytest.mark.parametrize("air", [-1050, -1020, -980, -950])
@pytest.mark.parametrize("padding", [-1024, -2000, -3024, 0])
def test_what_scanners_do_is_no_fault(air: float, padding: float) -> None:
    for seed in range(3):
        image, _ = chest(128, seed)
        image = np.where(image < -930, image + (air + 1000), image)
        image[60:63, 60:63] = 30000  # metal
        y, x = np.mgrid[-1:1:128j, -1:1:128j]
        image = np.where(y**2 + x**2 > 1, np.float32(padding), image)
        for voxels in (image, whole(image), image.astype(np.float64)):
            told = judge(voxels)
            assert (told.name, told.sentence, is_untouched(told), told.is_hu) == (greys.HU, "HU", True, True)


def test_a_field_of_view_without_air_is_no_fault() -> None:
    told = [judge(narrowed(volume)) for volume in VOLUMES]
    assert all(is_untouched(one) for one in told)
    assert sum(one.name == greys.HU for one in told) >= 2, told  # lung that the edge cuts may pass for air


def not_ct() -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(0)
    volume = VOLUMES[0]
    thickness = np.maximum(volume + 1000, 0).sum(axis=1)[::-1]
    blobs = np.add.outer(np.sin(np.arange(120) / 9), np.cos(np.arange(100) / 5)) * 60 + 120
    return {
        "constant": np.full((20, 30), 7, np.int16),
        "noise": rng.normal(0, 50, (100, 100)).astype(np.float32),
        "noise of 8 bits": rng.integers(0, 256, (4, 90, 90)).astype(np.uint8),
        "radiograph": np.repeat(thickness, 5, axis=0)[:128, 16:112],
        "photo": (blobs + rng.normal(0, 10, blobs.shape)).clip(0, 255).astype(np.uint8),
        "ramp": np.add.outer(np.arange(100), np.arange(100)).astype(np.uint16),
    }


@pytest.mark.parametrize("name", not_ct())
def test_what_is_no_ct_is_told_and_left_alone(name: str) -> None:
    told = judge(not_ct()[name])
    assert told.kind == greys.NOT_CT
    assert is_untouched(told)
    assert not told.is_hu


@given(
    shape=st.one_of(
        st.tuples(st.integers(1, 60), st.integers(1, 60)), st.tuples(st.integers(1, 4), st.integers(1, 30), st.integers(1, 30))
    ),
    kind=st.sampled_from(["float32", "float64", "int16", "uint8", "uint16", "int32", "bool"]),
    scale=st.sampled_from([1e-30, 1.0, 100.0, 1e30]),
    seed=st.integers(0, 99),
)
def test_anything_can_be_judged(shape: tuple[int, ...], kind: str, scale: float, seed: int) -> None:
    with np.errstate(all="ignore"):
        voxels = (np.random.default_rng(seed).normal(0, 1, shape) * scale).astype(kind)
    before = voxels.copy()
    told = judge(voxels)
    assert np.array_equal(before, voxels)
    assert told.sentence
    assert not told.is_repaired or told.certain


def test_a_window_that_is_given_gives_hu_back() -> None:
    hu = VOLUMES[0]
    for voxels in (window(hu, -600, 1500), 255 - window(hu, -600, 1500), window(hu, -600, 1500, 4095)):
        judgement = judge(voxels)
        slope, intercept = to_hu(voxels, judgement, Units(window=(-600, 1500)))
        assert np.abs(voxels * slope + intercept - hu.clip(-1350, 150)).max() < 3.1
    assert not judge(window(hu, -600, 1500)).is_hu


def test_what_is_given_wins_over_a_repair() -> None:
    voxels = DEGRADED["offset 1024"](VOLUMES[0])
    judgement = judge(voxels)
    assert to_hu(voxels, judgement) == (1, -1024)
    assert to_hu(voxels, judgement, Units()) == (1, -1024)
    assert to_hu(voxels, judgement, Units(intercept=-1000)) == (1, -1000)
    assert to_hu(voxels, judgement, Units(slope=2)) == (2, 0)
    assert to_hu(voxels, judgement, Units(slope=-1, intercept=3)) == (-1, 3)


@pytest.mark.parametrize(
    "given_",
    [
        {"window": (0, 0)},
        {"window": (0, -5)},
        {"window": (1,)},
        {"window": (float("nan"), 5)},
        {"window": (0, float("inf"))},
        {"slope": 0.0},
        {"slope": float("nan")},
        {"intercept": float("inf")},
        {"window": (40, 400), "slope": 1.0},
    ],
)
def test_units_out_of_range_are_refused(given_: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"input\."):
        Units(**given_)


def test_lungs_that_a_window_cut_to_black_are_told() -> None:
    image = phantom_slice(3, 128, height=0.5).image_hu
    assert judge(window(image, -300, 1600)).levels.flat < 0.1 < 0.5 < judge(window(image, 40, 400)).levels.flat
