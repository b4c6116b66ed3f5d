"""Laws of the lungs' volumes and densities: closed forms, symmetries, and what the field of view cuts."""

import json
import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from lungseg.errors import UserError
from lungseg.metrics.lungs import BORDERS, Lung, measure, rows

QUICK = settings(deadline=None, max_examples=60)
SHAPES = array_shapes(min_dims=3, max_dims=3, max_side=7)
SPACINGS = st.tuples(*[st.floats(0.3, 8)] * 3)
WHOLE_HU = st.integers(-1100, 3000)
OPPOSITE = dict(
    zip(("top", "front", "right", "bottom", "back", "left"), ("bottom", "back", "left", "top", "front", "right"), strict=True)
)


@st.composite
def scans(draw, dtype=np.int16, values=WHOLE_HU) -> tuple[np.ndarray, np.ndarray]:
    """Labels of both sides, some of them missing, and HU."""
    shape = draw(SHAPES)
    labels = draw(arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, 255])))
    return labels, draw(arrays(dtype, shape, elements=values))


def same(a: Lung, b: Lung) -> None:
    for name, value in vars(a).items():
        assert getattr(b, name) == (pytest.approx(value) if isinstance(value, float) else value), name


def box(shape: tuple[int, int, int] = (20, 24, 28)) -> tuple[np.ndarray, np.ndarray]:
    """A right and a left lung of 10 x 12 x 5 voxels, away from every end."""
    right, left = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    right[5:15, 6:18, 4:9] = 1
    left[5:15, 6:18, 15:20] = 2
    return right, left


def round_field(shape: tuple[int, int], radius: float = 1.0) -> np.ndarray:
    y, x = (np.linspace(-1, 1, side) for side in shape)
    return y[:, None] ** 2 + x[None, :] ** 2 <= radius**2


@QUICK
@given(scan=scans(), spacing=SPACINGS)
def test_right_and_left_make_both(scan, spacing) -> None:
    labels, voxels = scan
    right, left, both = measure(labels, spacing, voxels, sided=True)
    assert [lung.side for lung in (right, left, both)] == ["right", "left", "both"]
    assert right.volume_ml + left.volume_ml == pytest.approx(both.volume_ml)
    assert set(right.borders) | set(left.borders) == set(both.borders)
    assert both.height_mm >= max(right.height_mm, left.height_mm)
    one = np.where((labels == 1) | (labels == 2), np.uint8(1), np.uint8(0))
    (alone,) = measure(one, spacing, voxels)
    same(both, alone)


@QUICK
@given(scan=scans(), spacing=SPACINGS)
def test_whole_hu_are_measured_as_numpy_does(scan, spacing) -> None:
    labels, voxels = scan
    for lung, label in zip(measure(labels, spacing, voxels, sided=True), ([1], [2], [1, 2]), strict=True):
        mask = np.isin(labels, label)
        hu = voxels[mask & (voxels >= -1024)]
        assert lung.found == mask.any() == (lung.volume_ml > 0)
        assert lung.volume_ml == pytest.approx(mask.sum() * np.prod(spacing) / 1000)
        if not hu.size:
            assert lung.mean_hu is lung.median_hu is lung.percentile_15_hu is lung.emphysema_fraction_below_950_hu is None
            continue
        assert lung.mean_hu == pytest.approx(hu.mean())
        assert lung.median_hu == pytest.approx(np.median(hu))
        assert lung.percentile_15_hu == pytest.approx(np.percentile(hu, 15))
        assert lung.emphysema_fraction_below_950_hu == np.mean(hu < -950)


@QUICK
@given(scan=scans(np.float32, st.floats(-1024, 3000, width=32)))
def test_fractions_of_hu_cost_half_a_unit(scan) -> None:
    labels, voxels = scan
    both = measure(labels, (1, 1, 1), voxels)[-1]
    hu = voxels[(labels == 1) | (labels == 2)].astype(np.float64)
    if both.found:
        assert both.mean_hu == pytest.approx(hu.mean())
        assert both.median_hu == pytest.approx(np.median(hu), abs=0.501)
        assert both.percentile_15_hu == pytest.approx(np.percentile(hu, 15), abs=0.501)
        assert both.emphysema_fraction_below_950_hu == np.mean(hu < -950)


@QUICK
@given(scan=scans(), slope=st.sampled_from([0.5, 1, 2]), intercept=st.integers(-1024, 1024))
def test_stored_values_and_hu_say_the_same(scan, slope: float, intercept: int) -> None:
    labels, stored = scan
    for told, direct in zip(
        measure(labels, (1, 1, 1), stored, slope, intercept), measure(labels, (1, 1, 1), stored * slope + intercept), strict=True
    ):
        same(told, direct)


@QUICK
@given(scan=scans(), spacing=SPACINGS, axis=st.sampled_from([0, 1, 2]))
def test_a_flip_exchanges_ends_and_sides(scan, spacing, axis: int) -> None:
    labels, voxels = scan
    flipped = np.flip(labels, axis)
    if axis == 2:
        flipped = np.choose(np.minimum(flipped, 3), [0, 2, 1, 255]).astype(np.uint8)
    there = measure(labels, spacing, voxels, sided=True)
    back = measure(flipped, spacing, np.flip(voxels, axis), sided=True)
    moved = {
        end: OPPOSITE[end] for ends in (("top", "bottom"), ("front", "back"), ("right", "left"))[axis : axis + 1] for end in ends
    }
    for lung, other in zip(there, (back[1], back[0], back[2]) if axis == 2 else back, strict=True):
        ends = {moved.get(end, end) for end in lung.borders}
        same(replace(lung, side=other.side, borders=tuple(end for end in BORDERS if end in ends)), other)


@QUICK
@given(scan=scans(), spacing=SPACINGS, times=st.integers(2, 4))
def test_thinner_slices_of_the_same_lungs_measure_the_same(scan, spacing, times: int) -> None:
    labels, voxels = (np.repeat(array, times, axis=0) for array in scan)
    thin = measure(labels, (spacing[0] / times, *spacing[1:]), voxels, sided=True)
    for lung, other in zip(measure(scan[0], spacing, scan[1], sided=True), thin, strict=True):
        # The voxels are the same ones, each several times: between two of them a percentile may lie elsewhere.
        same(replace(lung, median_hu=None, percentile_15_hu=None), replace(other, median_hu=None, percentile_15_hu=None))


def test_boxes_measure_what_they_are() -> None:
    right, left = box()
    voxels = np.where(right > 0, -900, np.where(left > 0, -960, 40)).astype(np.int16)
    voxels[:, 0] = -1000  # air beside the body
    first, second, both = measure(right + left, (5.0, 0.7, 0.7), voxels)
    whole = Lung("right", True, pytest.approx(1.47), -900, -900, -900, 0.0, 50.0, False, ())
    same(whole, first)
    same(
        replace(whole, side="left", mean_hu=-960, median_hu=-960, percentile_15_hu=-960, emphysema_fraction_below_950_hu=1.0),
        second,
    )
    assert (both.volume_ml, both.mean_hu, both.emphysema_fraction_below_950_hu) == (pytest.approx(2.94), -930, 0.5)


@pytest.mark.parametrize(
    ("end", "cut"),
    [
        ("bottom", np.s_[8:, :, :]),
        ("top", np.s_[:12, :, :]),
        ("front", np.s_[:, 8:, :]),
        ("back", np.s_[:, :12, :]),
        ("right", np.s_[:, :, 6:]),
        ("left", np.s_[:, :, :17]),
    ],
)
def test_a_lung_that_the_field_cuts_is_flagged_and_has_the_volume_that_is_seen(end: str, cut: tuple[slice, ...]) -> None:
    labels = sum(box())
    whole, seen = measure(labels, (1, 1, 1)), measure(labels[cut], (1, 1, 1))
    assert not any(lung.touches_border for lung in whole)
    for before, lung in zip(whole, seen, strict=True):
        if end in ("right", "left") and lung.side not in (end, "both"):
            assert lung.borders == ()
            continue
        assert lung.touches_border
        assert lung.borders == (end,)
        assert lung.found
        assert 0 < lung.volume_ml < before.volume_ml


@pytest.mark.parametrize("padding", [-3024, -1024])
@pytest.mark.parametrize(("end", "move"), [("front", (-1, 0)), ("back", (1, 0)), ("right", (0, -1)), ("left", (0, 1))])
def test_the_edge_of_a_round_field_cuts_too(end: str, move: tuple[int, int], padding: int) -> None:
    field = round_field((96, 96), 0.9)
    y, x = np.mgrid[-48:48, -48:48]
    voxels = np.full((3, 96, 96), -1000, np.int16)
    voxels[:, np.hypot(y, x) < 46] = 30
    voxels[:, ~field] = padding
    for distance, cut in ((5, False), (40, True)):
        lung = (np.hypot(y - distance * move[0], x - distance * move[1]) < 12) & field
        labels = np.zeros(voxels.shape, np.uint8)
        labels[1] = lung
        (both,) = measure(labels, (1, 1, 1), np.where(labels > 0, -850, voxels))
        assert both.borders == ((end,) if cut else ())
        assert both.volume_ml == pytest.approx(lung.sum() / 1000)


def test_padding_and_what_is_no_number_have_a_volume_and_no_density() -> None:
    labels = np.ones((1, 1, 6), np.uint8)
    voxels = np.array([-3024, -800, np.nan, np.inf, -900, -1024.5]).reshape(labels.shape)
    (both,) = measure(labels, (1, 1, 1), voxels)
    assert (both.volume_ml, both.mean_hu, both.median_hu) == (0.006, -850, -850)


def test_no_lung_is_not_found_and_has_no_density() -> None:
    nothing = np.zeros((3, 4, 5), np.uint8)
    none = Lung("both", False, 0.0, None, None, None, None, 0.0, False, ())
    assert measure(nothing, (1, 1, 1), nothing) == (none,)
    assert measure(np.ones((3, 4, 5), np.uint8), (1, 1, 1), sided=True)[1] == replace(none, side="left")


def test_one_lung_alone_has_a_side_where_sides_are_known() -> None:
    right, left = box()
    assert [lung.side for lung in measure(right, (1, 1, 1))] == ["both"]
    assert [lung.found for lung in measure(right, (1, 1, 1), sided=True)] == [True, False, True]
    assert [lung.found for lung in measure(left, (1, 1, 1))] == [False, True, True]
    assert [lung.side for lung in measure(right + left, (1, 1, 1), sided=False)] == ["both"]


@QUICK
@given(scan=scans(), spacing=st.tuples(*[st.floats(0.01, 8)] * 3))
def test_rows_are_plain_and_keep_the_smallest_volume(scan, spacing) -> None:
    lungs = measure(scan[0], spacing, scan[1], sided=True)
    one_each = rows(lungs)
    assert json.loads(json.dumps(one_each, allow_nan=False)) == one_each
    for lung, row in zip(lungs, one_each, strict=True):
        assert (row["volume_ml"] > 0) == lung.found
        assert row["volume_ml"] == pytest.approx(lung.volume_ml, rel=1e-5)
        assert set(row["borders"].split()) == set(lung.borders)


def test_shapes_must_be_the_same() -> None:
    with pytest.raises(UserError, match=r"\(1, 2, 2\).*\(2, 2, 2\)"):
        measure(np.ones((1, 2, 2), np.uint8), (1, 1, 1), np.ones((2, 2, 2)))


def test_memory_is_that_of_slices() -> None:
    labels, voxels = np.ones((200, 128, 128), np.uint8), np.zeros((200, 128, 128), np.int16)
    labels[:, :, 64:] = 2
    measure(labels[:1], (1, 1, 1), voxels[:1])
    tracemalloc.start()
    measure(labels, (1, 1, 1), voxels)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.5e6 < labels.nbytes / 2


@pytest.mark.slow
def test_a_thousand_slices_take_seconds() -> None:
    y, x = np.mgrid[-1:1:512j, -1:1:512j].astype(np.float32)
    lungs = np.where(np.hypot((np.abs(x) - 0.4) / 0.3, y / 0.5) < 1, np.where(x < 0, 1, 2), 0).astype(np.uint8)  # 23 % of a slice
    slab = np.random.default_rng(0).integers(-1000, 100, (512, 512)).astype(np.int16)
    slab[np.hypot(y, x) > 1] = -2048
    labels, voxels = (np.broadcast_to(array, (1000, 512, 512)) for array in (lungs, slab))
    start = time.process_time()
    both = measure(labels, (1, 0.7, 0.7), voxels)[-1]
    assert time.process_time() - start < 8
    assert both.borders == ("top", "bottom")
