"""Laws of bridges between two lungs: they go, whole, and lungs that truly touch lose nothing but what tapers."""

from functools import lru_cache

import numpy as np
import pytest
from numpy.typing import NDArray

from lungseg.data.phantom import PhantomVolume, phantom_volume
from lungseg.postprocess.necks import cut_of, drop_bridges
from lungseg.postprocess.pieces import LEFT, RIGHT
from lungseg.postprocess.steps import Lungs, Postprocess, separate
from mishaps import dice, with_bridge

BLOCK_MM = (3.0, 3.0, 3.0)
SEEDS = [0, 3, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 4, 5))]


@lru_cache(maxsize=4)
def phantom(seed: int) -> PhantomVolume:
    return phantom_volume(seed, (96, 128, 128))


def scores(lungs: Lungs, right: NDArray[np.bool_], left: NDArray[np.bool_]) -> list[float]:
    return [dice(lungs.labels > 0, right | left), dice(lungs.labels == RIGHT, right), dice(lungs.labels == LEFT, left)]


def joined(cut: int, thick: int = 2) -> NDArray[np.uint8]:
    """Two cubes of 12 blocks, 10 blocks apart, and between them a bridge 6 blocks high; the cut before the column."""
    halves = np.zeros((14, 20, 34), np.uint8)
    halves[1:13, 3:15, :12] = 1
    halves[1:13, 3:15, 22:] = 2
    halves[4:10, 8 : 8 + thick, 12:22] = 1
    halves[4:10, 8 : 8 + thick, cut:22] = 2
    return halves


@pytest.mark.parametrize("cut", [12, 14, 17, 22])
def test_a_bridge_goes_wherever_the_division_cut_it(cut: int) -> None:
    halves = joined(cut)
    parted = drop_bridges(halves, BLOCK_MM)
    assert not parted[:, :, 13:21].any()  # a ball bulges by a block into its root
    assert (parted[:, :, :12] == halves[:, :, :12]).all()
    assert (parted[:, :, 22:] == halves[:, :, 22:]).all()


@pytest.mark.parametrize("cut", [13, 17, 21])
def test_what_is_air_stays_and_is_cut_in_the_middle(cut: int) -> None:
    halves = joined(cut)
    parted = drop_bridges(halves, BLOCK_MM, np.full(halves.shape, -850, np.float32))
    assert ((parted > 0) == (halves > 0)).all()
    assert np.unique(np.argwhere(cut_of(parted))[:, 2]).tolist() == [16, 17]


def test_what_is_thick_and_what_does_not_touch_stays() -> None:
    for halves in (joined(17, thick=8), np.where(np.arange(34) == 17, 0, joined(17)).astype(np.uint8)):
        assert (drop_bridges(halves, BLOCK_MM) == halves).all()
    assert ((drop_bridges(joined(17, thick=3), BLOCK_MM, thickest_mm=3) > 0) == (joined(17, thick=3) > 0)).all()


@pytest.mark.parametrize("back", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("seed", SEEDS)
def test_bridges_of_any_place_and_size_go_from_phantoms(seed: int, back: bool) -> None:
    made = phantom(seed)
    right, left = made.sides == 1, made.sides == 2
    for number in range(3):
        rng = np.random.default_rng([seed, number])
        mask = with_bridge(right | left, right, made.spacing_mm, rng, back, highest_mm=80, starts=(0.2, 0.7))
        for voxels in (None, made.voxels_hu):
            lungs = separate(mask, made.spacing_mm, voxels)
            print(seed, back, number, [round(score, 4) for score in scores(lungs, right, left)], lungs.remarks)
            assert lungs.divided
            assert min(scores(lungs, right, left)) >= 0.995
    kept = separate(mask, made.spacing_mm, settings=Postprocess(bridge_mm=0))
    assert np.count_nonzero(kept.labels) > 0.999 * np.count_nonzero(mask)
    assert kept.bridge_ml == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_lungs_that_truly_touch_stay(seed: int) -> None:
    made = phantom(seed)
    right = made.sides == 1
    for columns in range(30):  # the left lung comes nearer until the two share three square centimetres
        left = np.roll(made.sides == 2, -columns, axis=2) & ~right
        sheet = right[:, :, :-1] & left[:, :, 1:]
        if np.count_nonzero(sheet) * made.spacing_mm[0] * made.spacing_mm[1] >= 300:
            break
    voxels = np.where(right | left, -850, made.voxels_hu)
    for hu, least in ((None, 0.995), (voxels, 0.998)):
        lungs = separate(right | left, made.spacing_mm, hu, Postprocess(airways=False))
        print(seed, [round(score, 4) for score in scores(lungs, right, left)], lungs.remarks)
        assert lungs.divided
        assert min(scores(lungs, right, left)) >= least
