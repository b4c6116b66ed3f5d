"""Generated patients: the same seed gives the same patient, the anatomy is plausible, the task is no toy."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from lungseg.data.phantom import PhantomSlice, PhantomVolume, phantom_slice, phantom_volume
from lungseg.labels import LEFT, RIGHT

SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def many() -> list[PhantomSlice]:
    return [phantom_slice(seed, size=96) for seed in range(200)]


@pytest.fixture(scope="module")
def volumes() -> list[PhantomVolume]:
    return [phantom_volume(seed, shape=(32, 80, 80)) for seed in range(6)]


def is_prone(phantom: PhantomSlice) -> bool:
    return column(phantom, RIGHT) > column(phantom, LEFT)


def column(phantom: PhantomSlice, side: int) -> float:
    return float(np.nonzero(phantom.sides == side)[1].mean())


@settings(deadline=None, max_examples=10)
@given(seed=SEEDS)
def test_a_seed_is_a_slice(seed: int) -> None:
    once, again, other = phantom_slice(seed, 96), phantom_slice(seed, 96), phantom_slice(seed + 1, 96)
    assert once.image_hu.tobytes() == again.image_hu.tobytes()
    assert once.sides.tobytes() == again.sides.tobytes()
    assert once.image_hu.tobytes() != other.image_hu.tobytes()


@settings(deadline=None, max_examples=12)
@given(seed=SEEDS, size=st.sampled_from([97, 128, 160, 256]))
def test_a_slice_has_its_size_and_types(seed: int, size: int) -> None:
    phantom = phantom_slice(seed, size)
    assert phantom.image_hu.shape == phantom.sides.shape == (size, size)
    assert (phantom.image_hu.dtype, phantom.sides.dtype) == (np.float32, np.uint8)
    assert set(np.unique(phantom.sides)) <= {0, RIGHT, LEFT}
    assert np.isfinite(phantom.image_hu).all()
    assert phantom.image_hu.min() >= -3024
    assert phantom.image_hu.max() <= 3071


@settings(deadline=None, max_examples=10)
@given(seed=SEEDS)
def test_the_picture_size_does_not_change_the_anatomy(seed: int) -> None:
    coarse, fine = (np.mean(phantom_slice(seed, size, height=0.5).sides > 0) for size in (128, 256))
    assert coarse == pytest.approx(fine, abs=0.01)


@settings(deadline=None, max_examples=10)
@given(seed=SEEDS, height=st.sampled_from([0.0, 0.05, 0.95, 1.0]))
def test_there_is_no_lung_below_and_above_the_lungs(seed: int, height: float) -> None:
    assert not phantom_slice(seed, 128, height=height).sides.any()


def test_about_one_slice_in_eight_is_free_of_lung(many: list[PhantomSlice]) -> None:
    assert 0.06 < np.mean([not phantom.sides.any() for phantom in many]) < 0.2


def test_lungs_cover_a_plausible_part_of_the_picture(many: list[PhantomSlice]) -> None:
    shares = np.array([np.mean(phantom.sides > 0) for phantom in many if phantom.sides.any()])
    assert 0.08 < np.median(shares) < 0.3
    assert shares.max() < 0.75
    assert np.percentile(shares, 5) < 0.5 * np.median(shares)  # apices and bases are among them


def test_grey_values_are_those_of_ct(many: list[PhantomSlice]) -> None:
    middle = [phantom_slice(seed, 128, height=0.5) for seed in range(24)]
    lung = np.median([np.median(phantom.image_hu[phantom.sides > 0]) for phantom in middle])
    bone = np.median([np.percentile(phantom.image_hu, 99.9) for phantom in middle])
    tissue = [phantom.image_hu[(phantom.image_hu > 0) & (phantom.image_hu < 100)] for phantom in middle]
    assert -900 < lung < -700
    assert bone > 300
    assert 20 < np.median([np.median(values) for values in tissue]) < 80
    air = [np.median(phantom.image_hu[(phantom.image_hu > -1200) & (phantom.image_hu < -930)]) for phantom in many]
    assert np.median(air) == pytest.approx(-1000, abs=20)


def test_the_right_lung_is_at_the_left_of_the_picture_unless_the_patient_is_prone(many: list[PhantomSlice]) -> None:
    both = [phantom for phantom in many if {RIGHT, LEFT} <= set(np.unique(phantom.sides))]
    prone = [phantom for phantom in both if is_prone(phantom)]
    assert 0.02 < len(prone) / len(both) < 0.16


def test_sides_do_not_overlap_in_x(volumes: list[PhantomVolume]) -> None:
    for volume in volumes:
        centres = [np.nonzero(volume.sides == side)[2].mean() for side in (RIGHT, LEFT) if (volume.sides == side).any()]
        assert len(centres) < 2 or abs(centres[0] - centres[1]) > 12


def test_neighbouring_planes_of_a_volume_fit_together(volumes: list[PhantomVolume]) -> None:
    for volume in volumes:
        lung = volume.sides > 0
        areas = lung.sum(axis=(1, 2))
        large = np.flatnonzero((areas[:-1] > 150) & (areas[1:] > 150))
        overlap = [(lung[z] & lung[z + 1]).sum() / min(areas[z], areas[z + 1]) for z in large]
        assert np.median(overlap) > 0.9
        assert min(overlap) > 0.4
        swapped = (volume.sides[:-1] == RIGHT) & (volume.sides[1:] == LEFT)
        assert swapped.sum() < 0.002 * lung.sum()


def test_a_volume_holds_whole_lungs_broad_base_first(volumes: list[PhantomVolume]) -> None:
    broader = []
    for volume in volumes:
        lung = (volume.sides > 0).any(axis=1)  # (Z, W)
        assert not lung[[0, -1]].any()
        planes = np.flatnonzero(lung.any(axis=1))
        low, high = (np.ptp(np.flatnonzero(lung[z])) for z in (planes[3], planes[-3]))
        broader.append(low > high)
    assert np.mean(broader) > 0.7


def test_there_is_no_lung_outside_the_field_of_view(many: list[PhantomSlice]) -> None:
    padded = [phantom for phantom in many if phantom.image_hu.min() < -1024]
    assert len(padded) > 20
    assert not any(phantom.sides[phantom.image_hu < -1024].any() for phantom in padded)


def test_a_volume_has_the_spacing_asked_for_and_a_plausible_amount_of_lung() -> None:
    volume = phantom_volume(3, shape=(20, 64, 80), spacing_mm=(16.0, 5.0, 5.0))
    assert volume.voxels_hu.shape == volume.sides.shape == (20, 64, 80)
    assert volume.spacing_mm == (16.0, 5.0, 5.0)
    litres = (volume.sides > 0).sum() * np.prod(volume.spacing_mm) / 1e6
    finer = phantom_volume(3, shape=(40, 128, 160), spacing_mm=(8.0, 2.5, 2.5))
    assert 1 < litres < 9
    assert litres == pytest.approx((finer.sides > 0).sum() * np.prod(finer.spacing_mm) / 1e6, rel=0.05)
    with pytest.raises(ValueError, match="square"):
        phantom_volume(3, shape=(2, 32, 32), spacing_mm=(5.0, 1.0, 2.0))


def threshold_baseline(image_hu: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The textbook method: below -500 HU, off the border, holes filled, the two largest components."""
    dark, _ = ndimage.label(image_hu < -500)
    border = np.unique(np.concatenate([dark[0], dark[-1], dark[:, 0], dark[:, -1]]))
    parts, _ = ndimage.label(ndimage.binary_fill_holes((dark > 0) & ~np.isin(dark, border)))
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    largest = np.argsort(sizes)[-2:]
    return np.isin(parts, largest[sizes[largest] > 0])


def test_a_threshold_does_not_solve_it(capsys: pytest.CaptureFixture[str]) -> None:
    scores = []
    for seed in range(10_000, 10_060):
        phantom = phantom_slice(seed)
        truth = phantom.sides > 0
        if truth.any():
            found = threshold_baseline(phantom.image_hu)
            scores.append((found & truth).sum() / (found | truth).sum())
    with capsys.disabled():
        print(f"\nphantoms: threshold and two largest components: mean IoU {np.mean(scores):.3f}, {len(scores)} slices")
    assert 0.4 < np.mean(scores) < 0.85


def test_it_is_fast_enough_to_make_slices_on_the_fly(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = []
    for seed in range(40):
        start = time.process_time()
        phantom_slice(seed, 256)
        seconds.append(time.process_time() - start)
    each = float(np.median(seconds))
    with capsys.disabled():
        print(f"\nphantoms: {1000 * each:.1f} ms a slice of 256 x 256, {60 / each:.0f} a minute")
    assert each < 0.06
