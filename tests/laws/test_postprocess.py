"""Laws of what comes after a network: what is sound stays, what is broken is mended, and sides are the patient's."""

import subprocess
import sys
import tracemalloc
from functools import lru_cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage

from lungseg.data.phantom import PhantomVolume, phantom_volume
from lungseg.errors import UserError
from lungseg.postprocess.airways import find_airways
from lungseg.postprocess.coarse import BlockGrid, greys, nearest, paint, shares
from lungseg.postprocess.division import divide
from lungseg.postprocess.faults import find_faults
from lungseg.postprocess.holes import fill_holes, find_holes
from lungseg.postprocess.midline import bodies, midline
from lungseg.postprocess.pieces import LEFT, RIGHT, sort_pieces
from lungseg.postprocess.steps import Lungs, Postprocess, separate
from mishaps import dice, with_ball, with_bridge, with_holes, with_islands

SEEDS = [0, 3, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 4, 5))]
CUBE_MM = (3.0, 3.0, 3.0)
volumes = arrays(np.bool_, st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 9)))


@lru_cache(maxsize=4)
def phantom(seed: int) -> PhantomVolume:
    return phantom_volume(seed, (96, 128, 128))


def scores(lungs: Lungs, sides: NDArray[np.uint8]) -> list[float]:
    """Dice of both lungs together, of the right and of the left."""
    return [dice(lungs.labels > 0, sides > 0), dice(lungs.labels == RIGHT, sides == 1), dice(lungs.labels == LEFT, sides == 2)]


def airways_of(made: PhantomVolume) -> NDArray[np.bool_]:
    """Air inside the body that is no lung and goes on to the highest slice: trachea and bronchi, with a wall of a voxel."""
    body = bodies(made.voxels_hu)
    air = (made.voxels_hu < -600) & body & (made.sides == 0) & (np.arange(96) > 30)[:, None, None]
    parts, _ = ndimage.label(air)
    tops = [part for part in np.unique(parts[-3, 30:98]) if part]
    column = midline(made.voxels_hu, body, made.spacing_mm) or 0.0
    trachea = min(tops, key=lambda part: abs(np.argwhere(parts[-3] == part)[:, 1].mean() - column))
    return np.asarray(ndimage.binary_dilation(parts == trachea) & body)


@pytest.mark.parametrize("with_voxels", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_sound_lungs_stay_as_they_are(seed: int, with_voxels: bool) -> None:
    made = phantom(seed)
    lungs = separate(made.sides, made.spacing_mm, made.voxels_hu if with_voxels else None)
    assert min(scores(lungs, made.sides)) >= 0.998
    assert not lungs.divided


@pytest.mark.parametrize("seed", SEEDS)
def test_trachea_and_main_bronchi_go(seed: int) -> None:
    made = phantom(seed)
    airways = airways_of(made)
    lungs = separate((made.sides > 0) | airways, made.spacing_mm, made.voxels_hu)
    assert min(scores(lungs, made.sides)) >= 0.99
    trachea = airways & (np.arange(96) > 62)[:, None, None]
    assert np.count_nonzero(trachea & (lungs.labels > 0)) < 0.05 * np.count_nonzero(trachea)
    assert any(remark.startswith("airways of") for remark in lungs.remarks)
    kept = separate((made.sides > 0) | airways, made.spacing_mm, made.voxels_hu, Postprocess(airways=False, pieces=False))
    assert np.count_nonzero(trachea & (kept.labels > 0)) > 0.95 * np.count_nonzero(trachea)


@pytest.mark.parametrize("seed", SEEDS)
def test_airways_are_tubes_outside_the_lungs_that_fork(seed: int) -> None:
    made = phantom(seed)
    body = bodies(made.voxels_hu)
    found = find_airways(made.voxels_hu, body, made.spacing_mm)
    assert np.count_nonzero(found & (made.sides > 0)) < 0.02 * np.count_nonzero(found)
    forks = [ndimage.label(plane)[1] for plane in found]
    assert max(forks) >= 2
    assert not find_airways(np.full_like(made.voxels_hu, 40), body, made.spacing_mm).any()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("mishap", ["holes", "islands", "bridge", "all"])
def test_damage_is_mended(seed: int, mishap: str) -> None:
    made = phantom(seed)
    rng = np.random.default_rng(seed)
    mask, right = made.sides > 0, made.sides == 1
    if mishap in ("holes", "all"):
        mask = with_holes(mask, made.spacing_mm, rng)
    if mishap in ("bridge", "all"):
        mask = with_bridge(mask, right, made.spacing_mm, rng)
    if mishap in ("islands", "all"):
        mask = with_islands(mask, made.spacing_mm, rng)
    lungs = separate(mask, made.spacing_mm)
    assert lungs.divided == (mishap in ("bridge", "all"))
    assert min(scores(lungs, made.sides)) >= 0.995
    if mishap in ("islands", "all"):
        assert lungs.dropped_ml > 1
    if mishap in ("holes", "all"):
        assert lungs.filled_ml > 1


def test_labels_in_the_mask_do_not_matter() -> None:
    made = phantom(0)
    plain = separate(made.sides > 0, made.spacing_mm).labels
    swapped = np.where(made.sides > 0, 3 - made.sides, 0).astype(np.uint8)
    swapped[::3] = made.sides[::3]
    assert (separate(swapped, made.spacing_mm).labels == plain).all()
    assert (separate((made.sides > 0).astype(np.float32), made.spacing_mm).labels == plain).all()


@pytest.mark.parametrize("side", [RIGHT, LEFT])
def test_one_lung_keeps_its_side(side: int) -> None:
    made = phantom(0)
    alone = np.where(made.sides == side, made.sides, 0).astype(np.uint8)
    for voxels in (made.voxels_hu, None):
        lungs = separate(alone, made.spacing_mm, voxels)
        assert dice(lungs.labels == side, alone > 0) >= 0.998
        assert not (lungs.labels == 3 - side).any()
        assert "one lung only" in lungs.remarks[0]
        assert ("picture" in lungs.remarks[0]) == (voxels is None)


def test_a_lung_in_two_pieces_keeps_both() -> None:
    made = phantom(0)
    sides = made.sides.copy()
    planes = np.flatnonzero((sides == 2).any(axis=(1, 2)))
    cut = int(np.quantile(planes, 0.6))
    sides[cut : cut + 4][sides[cut : cut + 4] == 2] = 0  # fluid in the fissure
    lungs = separate(sides, made.spacing_mm, made.voxels_hu)
    assert min(scores(lungs, sides)) >= 0.995
    assert "the left lung lies in 2 pieces" in lungs.remarks


def test_a_shrunken_lung_is_kept_beside_a_lung_that_crosses_the_middle() -> None:
    made = phantom(0)
    sides = np.where(made.sides == 1, made.sides, 0).astype(np.uint8)
    sides = np.maximum(sides, ndimage.shift(sides, (0, 0, 9), order=0))  # the right lung herniates
    small = ndimage.binary_erosion(made.sides == 2, iterations=6) & (ndimage.binary_dilation(sides > 0, iterations=3) == 0)
    sides[small] = 2
    lungs = separate(sides, made.spacing_mm, made.voxels_hu)
    assert min(scores(lungs, sides)) >= 0.98


@pytest.mark.parametrize("first", [0, 45])
def test_a_field_of_view_that_cuts_a_lung(first: int) -> None:
    made = phantom(0)
    sides, voxels = (np.ascontiguousarray(a[:, :, first : first + 83]) for a in (made.sides, made.voxels_hu))
    for given_voxels in (voxels, None):
        assert min(scores(separate(sides, made.spacing_mm, given_voxels), sides)) >= 0.99


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("thin_mm", [0.6, 5.0])
def test_a_single_slice_keeps_both_lungs_and_loses_small_holes(seed: int, thin_mm: float) -> None:
    made = phantom(seed)
    z = 45
    sides, spacing_mm = made.sides[z : z + 1], (thin_mm, *made.spacing_mm[1:])
    mask = sides > 0
    centre = np.unravel_index(ndimage.distance_transform_edt(sides[0] == 1).argmax(), sides[0].shape)
    with_ball(mask, np.array([0, *centre]), 6, (100.0, *spacing_mm[1:]), False)
    for voxels in (made.voxels_hu[z : z + 1], None):
        lungs = separate(mask, spacing_mm, voxels)
        assert min(scores(lungs, sides)) >= 0.99
        assert lungs.filled_ml > 0
    with_ball(mask, np.array([0, *centre]), 15, (100.0, *spacing_mm[1:]), False)
    assert separate(mask, spacing_mm).filled_ml == 0


@pytest.mark.parametrize("midst", range(30, 60, 10))
def test_few_slices(midst: int) -> None:
    made = phantom(2)
    sides, voxels = made.sides[midst : midst + 3], made.voxels_hu[midst : midst + 3]
    assert min(scores(separate(sides, made.spacing_mm, voxels), sides)) >= 0.99


@given(mask=volumes, spacing=st.sampled_from([(0.6, 0.6, 0.6), (5.0, 0.8, 0.8), (3.0, 3.0, 3.0), (9.0, 2.0, 1.0)]))
@settings(deadline=None, max_examples=60)
def test_any_mask_gives_labels_in_its_box(mask: NDArray[np.bool_], spacing: tuple[float, float, float]) -> None:
    before = mask.copy()
    lungs = separate(mask, spacing, np.where(mask, -900, 0).astype(np.int16))
    assert (mask == before).all()
    assert lungs.labels.dtype == np.uint8
    assert set(np.unique(lungs.labels)) <= {0, 1, 2}
    assert mask.any() or lungs.remarks == ("no lung was found",)
    kept = separate(mask, spacing, settings=Postprocess(bridge_mm=0, pieces=False, holes=False)).labels > 0
    assert (kept == mask).all()


@given(mask=volumes)
@settings(deadline=None, max_examples=200)
def test_holes_are_what_three_dimensions_enclose(mask: NDArray[np.bool_]) -> None:
    padded = np.pad(mask, ((1, 1), (0, 0), (0, 0)))  # open above and below, so that no end slice needs a rule
    labels = padded.view(np.uint8).copy()
    grid = BlockGrid.of(labels.shape, CUBE_MM)
    truth = ndimage.binary_fill_holes(padded)
    _, count = ndimage.label(truth & ~padded)
    found = find_holes(labels, CUBE_MM)
    assert (found.count, round(found.volume_ml, 6)) == (count, round(np.count_nonzero(truth & ~padded) * 0.027, 6))
    fill_holes(labels, np.ones(grid.shape, np.uint8), grid, CUBE_MM)
    assert (labels == truth).all()


def test_a_dome_stays_open_and_ends_of_the_volume_have_their_rule() -> None:
    lung = np.zeros((12, 40, 40), np.uint8)
    lung[2:, 5:35, 5:35] = 1
    dome, well = lung.copy(), lung.copy()
    with_ball(dome, np.array([2, 20, 20]), 21, CUBE_MM, False)  # open below, closed in its slices
    assert find_holes(dome, CUBE_MM).count == 0
    well[8:, 20:24, 20:24] = 0  # 144 mm2 out of the last slice
    assert find_holes(well, CUBE_MM).count == 1
    assert find_holes(well, CUBE_MM, end_hole_mm2=100).count == 0


def test_holes_take_the_side_around_them() -> None:
    made = phantom(0)
    mask = with_holes(made.sides > 0, made.spacing_mm, np.random.default_rng(1))
    damaged = made.sides * mask
    grid = BlockGrid.of(damaged.shape, made.spacing_mm)
    fill_holes(damaged, nearest(damaged, made.spacing_mm), grid, made.spacing_mm)
    filled = ~mask & (damaged > 0)
    assert np.count_nonzero(filled) > 0.8 * np.count_nonzero(~mask & (made.sides > 0))
    assert (damaged == made.sides)[filled].mean() > 0.999


@given(shape=st.tuples(st.integers(1, 9), st.integers(1, 20), st.integers(1, 20)), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_blocks_are_means_and_decisions_come_back(shape: tuple[int, int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(-1000, 1000, shape).astype(np.int16)
    grid = BlockGrid.of(shape, (1.4, 0.8, 1.0))
    assert grid.factors == (2, 4, 3)
    coarse = greys(values, grid)
    assert coarse.shape == shares(values, grid).shape == grid.shape
    assert coarse[0, 0, 0] == pytest.approx(np.mean(values[:2, :4, :3]), abs=0.1) or min(shape[1:]) < 4
    decided = rng.integers(0, 3, grid.shape).astype(np.uint8)
    labels = np.ones(shape, np.uint8)
    paint(labels, decided, grid)
    z, y, x = (np.arange(size) // factor for size, factor in zip(shape, grid.factors, strict=True))
    assert (labels == decided[np.ix_(z, y, x)]).all()


def test_the_nearest_decision_and_no_farther() -> None:
    line = np.zeros((1, 1, 12), np.uint8)
    line[..., 2], line[..., 9] = 1, 2
    assert nearest(line, CUBE_MM, 6.0).ravel().tolist() == [1, 1, 1, 1, 1, 0, 0, 2, 2, 2, 2, 2]
    assert nearest(line, CUBE_MM).ravel().tolist() == [0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 0, 0]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_midline_lies_between_the_lungs(seed: int) -> None:
    made = phantom(seed)
    column = midline(made.voxels_hu, bodies(made.voxels_hu), made.spacing_mm)
    assert column is not None
    right, left = ((made.sides == side).sum(axis=(0, 1)) @ np.arange(128) / np.count_nonzero(made.sides == side) for side in (1, 2))
    assert abs(column - (right + left) / 2) * made.spacing_mm[2] < 15
    assert midline(np.full((2, 8, 8), -1000, np.float32), np.zeros((2, 8, 8), bool), CUBE_MM) is None


def test_one_lung_is_not_divided() -> None:
    made = phantom(0)
    assert divide(made.sides == 1, made.spacing_mm) is None
    joined = with_bridge(made.sides > 0, made.sides == 1, made.spacing_mm, np.random.default_rng(0))
    halves = divide(joined, made.spacing_mm)
    assert halves is not None
    assert dice(halves == 1, made.sides == 1) > 0.99
    assert not separate(joined, made.spacing_mm, settings=Postprocess(touching=False)).divided


def test_gas_under_the_diaphragm_goes() -> None:
    made = phantom(0)
    mask, voxels = made.sides > 0, made.voxels_hu.copy()
    lowest = np.flatnonzero((made.sides == 2).any(axis=(1, 2)))[0]
    centre = np.array([lowest, *np.argwhere(made.sides == 2)[:, 1:].mean(axis=0)])
    gas = np.zeros_like(mask)
    with_ball(gas, centre, 22, made.spacing_mm, True)
    gas &= ~ndimage.binary_dilation(mask, iterations=2)
    assert np.count_nonzero(gas) * np.prod(made.spacing_mm) > 10_000
    voxels[gas] = -985
    lungs = separate(mask | gas, made.spacing_mm, voxels)
    assert not (lungs.labels[gas] > 0).any()
    assert min(scores(lungs, made.sides)) >= 0.998


@pytest.mark.parametrize(
    ("kind", "grave"),
    [("empty", True), ("values", True), ("one_label", True), ("one_lung", False), ("exchanged", True), ("exchanged_slices", True),
     ("islands", True), ("holes", True), ("touching", False), ("size", True), ("upside_down", True)],
)  # fmt: skip
def test_each_fault_is_told_and_no_other(kind: str, grave: bool) -> None:
    made = phantom(0)
    labels, spacing_mm = made.sides.copy(), made.spacing_mm
    if kind == "empty":
        labels[:] = 0
    elif kind == "values":
        labels[40][labels[40] == 1] = 7
    elif kind == "one_label":
        labels[labels > 0] = 1
    elif kind == "one_lung":
        labels[labels == 2] = 0
    elif kind == "exchanged":
        labels = np.where(labels > 0, 3 - labels, 0).astype(np.uint8)
    elif kind == "exchanged_slices":
        labels[40:44] = np.where(labels[40:44] > 0, 3 - labels[40:44], 0)
    elif kind == "islands":
        with_ball(labels, np.array([5, 64, 64]), 22, spacing_mm, True)
    elif kind == "holes":
        depth = ndimage.distance_transform_edt(labels == 1, sampling=spacing_mm)
        with_ball(labels, np.asarray(np.unravel_index(depth.argmax(), depth.shape)), depth.max() - 6, spacing_mm, False)
    elif kind == "touching":
        bridged = with_bridge(labels > 0, labels == 1, spacing_mm, np.random.default_rng(0))
        labels[bridged & (labels == 0)] = 1
    elif kind == "size":
        spacing_mm = (spacing_mm[0], *(mm / 3 for mm in spacing_mm[1:]))
    elif kind == "upside_down":
        labels = labels[::-1]
    found = find_faults(labels, spacing_mm)
    assert [(fault.kind, fault.grave) for fault in found] == [(kind, grave)], found
    if kind == "exchanged_slices":
        assert found[0].slices == (40, 41, 42, 43)
        assert "40-43" in found[0].sentence


@pytest.mark.parametrize("seed", SEEDS)
def test_sound_labels_have_no_grave_fault(seed: int) -> None:
    made = phantom(seed)
    assert not [fault for fault in find_faults(made.sides, made.spacing_mm) if fault.grave]
    other = np.where(made.sides > 0, 10 * made.sides, 0).astype(np.int16)
    assert find_faults(other, made.spacing_mm, right=10, left=20) == find_faults(made.sides, made.spacing_mm)


@pytest.mark.parametrize(
    ("values", "word"), [({"near_mm": -1}, "near_mm"), ({"far_share": 2}, "far_share"), ({"far_mm": 1}, "far_mm"),
                         ({"smallest_ml": float("nan")}, "smallest_ml")]
)  # fmt: skip
def test_settings_have_ranges(values: dict[str, float], word: str) -> None:
    with pytest.raises(UserError, match=word):
        Postprocess(**values)


def test_what_does_not_fit_is_refused() -> None:
    mask = np.zeros((2, 4, 4), bool)
    for arguments in ((mask[0], CUBE_MM), (mask, (0.0, 1.0, 1.0)), (mask, CUBE_MM, np.zeros((2, 4, 5)))):
        with pytest.raises(UserError):
            separate(*arguments)
    with pytest.raises(TypeError, match="in place"):
        separate(mask, CUBE_MM, in_place=True)


def test_in_place_the_mask_takes_the_labels() -> None:
    made = phantom(0)
    mask = (made.sides > 0).astype(np.uint8)
    assert separate(mask, made.spacing_mm, in_place=True).labels is mask
    assert (mask == separate(made.sides, made.spacing_mm).labels).all()


def test_memory_grows_with_the_blocks_and_not_with_the_voxels() -> None:
    made = phantom(0)
    peaks = []
    for times in (1, 4):
        mask = (made.sides > 0).view(np.uint8).repeat(times, axis=0)
        voxels = made.voxels_hu.astype(np.int16).repeat(times, axis=0)
        z, y, x = made.spacing_mm
        tracemalloc.start()
        separate(mask, (z / times, y, x), voxels, in_place=True)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert all(later < 1.15 * earlier for earlier, later in pairwise(peaks)), peaks


FULL_SIZE = """
import re, time
from pathlib import Path
import numpy as np
from lungseg.data.phantom import phantom_volume
from lungseg.postprocess.steps import separate
made = phantom_volume(0, (100, 128, 128))
z, y, x = made.spacing_mm
def peak_mib():  # of this process alone: what getrusage tells begins with that of the one that started it
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
mask, voxels = np.empty((1000, 512, 512), np.uint8), np.empty((1000, 512, 512), np.int16)
for k in range(1000):  # slice by slice, for a higher peak before would hide what is to be measured
    mask[k] = (made.sides[k // 10] > 0).repeat(4, 0).repeat(4, 1)
    voxels[k] = made.voxels_hu[k // 10].repeat(4, 0).repeat(4, 1)
before, start = peak_mib(), time.perf_counter()
lungs = separate(mask, (z / 10, y / 4, x / 4), voxels, in_place=True)
print(peak_mib() - before, time.perf_counter() - start, lungs.labels.max())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of one process alone")
def test_a_thousand_slices_need_little_more_than_the_mask() -> None:
    done = subprocess.run([sys.executable, "-c", FULL_SIZE], capture_output=True, text=True, check=True)
    grown_mib, seconds, highest = (float(word) for word in done.stdout.split())
    print(f"1000 x 512 x 512: {grown_mib:.0f} MiB more, {seconds:.1f} s")
    assert highest == LEFT
    assert 10 < grown_mib < 200  # a second mask would be 250
    assert seconds < 40


def test_pieces_are_placed_without_grey_values() -> None:
    made = phantom(0)
    grid = BlockGrid.of(made.sides.shape, made.spacing_mm)
    sorted_pieces = sort_pieces(made.sides > 0, grid)
    assert sorted_pieces.sure
    assert sorted_pieces.pieces == (1, 1)
    assert sort_pieces(np.zeros((3, 4, 5), bool), BlockGrid.of((3, 4, 5), CUBE_MM)).pieces == (0, 0)
