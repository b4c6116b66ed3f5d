"""Laws of grids: to turn a volume moves no voxel in space, changes none, and copies none."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from lungseg.imaging.volume import Grid, Volume

SHAPE = (4, 5, 7)
VOXELS = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)  # no two alike
VOXELS.setflags(write=False)
CORNERS = np.array(list(product((0, 1), repeat=3)))
TURNS = {  # of the index axes x, y, z, as columns
    "".join("-+"[sign > 0] + "xyz"[axis] for axis, sign in zip(axes, signs, strict=True)): np.stack(
        [sign * np.eye(3)[axis] for axis, sign in zip(axes, signs, strict=True)], axis=1
    )
    for axes in permutations(range(3))
    for signs in product((1, -1), repeat=3)
}
turns = st.sampled_from(sorted(TURNS)).map(TURNS.__getitem__)
coordinates = st.floats(-500, 500)
spacings = st.tuples(*[st.floats(0.2, 6)] * 3)
origins = st.tuples(*[coordinates] * 3)


@st.composite
def rotations(draw: st.DrawFn, most_deg: float = 180) -> NDArray[np.float64]:
    axis = np.array(draw(st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda axis: np.linalg.norm(axis) > 0.1)))
    return Rotation.from_rotvec(np.deg2rad(draw(st.floats(0, most_deg))) * axis / np.linalg.norm(axis)).as_matrix()


def grid_of(
    direction: NDArray[np.float64], spacing_mm: tuple[float, ...] = (2.5, 0.8, 0.7), origin_mm: tuple[float, ...] = (9, -8, 7)
):
    return Grid(SHAPE, spacing_mm, origin_mm, tuple(map(float, direction.ravel())))


def matrix(grid: Grid) -> NDArray[np.float64]:
    return np.array(grid.direction).reshape(3, 3)


def corners(grid: Grid) -> NDArray[np.float64]:
    """The corner voxels in space, sorted so that the order of axes does not matter, (8, 3)."""
    points = np.array([grid.point(tuple(corner * (np.array(grid.shape) - 1))) for corner in CORNERS])
    return points[np.lexsort(points.round(6).T)]


def back(index_zyx: NDArray[np.int64], to: Grid, of: Grid) -> NDArray[np.float64]:
    """The index in one grid of what has an index in another, by linear algebra alone."""
    away = of.point(tuple(index_zyx)) - np.array(to.origin_mm)
    return np.linalg.solve(matrix(to) * np.array(to.spacing_mm)[::-1], away)[::-1]


@given(rotation=rotations(), turn=turns, spacing_mm=spacings, origin_mm=origins, index=st.tuples(*[st.floats(-3, 9)] * 3))
def test_a_point_is_the_origin_and_steps_along_the_axes(rotation, turn, spacing_mm, origin_mm, index) -> None:
    direction = rotation @ turn
    point = grid_of(direction, spacing_mm, origin_mm).point(index)
    expected = np.array(origin_mm)
    for axis in range(3):  # x, y, z
        expected = expected + direction[:, axis] * spacing_mm[2 - axis] * index[2 - axis]
    assert np.shape(point) == (3,)
    np.testing.assert_allclose(point, expected, atol=1e-9)


@pytest.mark.parametrize("turn", TURNS)
def test_canonical_axes_are_left_back_and_head(turn: str) -> None:
    grid = grid_of(TURNS[turn]).canonical()
    np.testing.assert_array_equal(matrix(grid), np.eye(3))
    assert not np.signbit(grid.direction).any()


@given(rotation=rotations(most_deg=44), turn=turns)
def test_canonical_axes_are_the_closest_ones(rotation, turn) -> None:
    """Up to 45 degrees each axis of the body has one index axis that is nearest to it, by any measure."""
    found = matrix(grid_of(rotation @ turn).canonical())
    np.testing.assert_allclose(found, rotation, atol=1e-12)


@given(rotation=rotations(), turn=turns)
def test_canonical_axes_point_the_right_way_at_any_angle(rotation, turn) -> None:
    assert (np.diag(matrix(grid_of(rotation @ turn).canonical())) >= -1e-9).all()


@given(rotation=rotations(), turn=turns, spacing_mm=spacings, origin_mm=origins)
def test_turning_moves_no_voxel(rotation, turn, spacing_mm, origin_mm) -> None:
    volume = Volume(VOXELS, grid_of(rotation @ turn, spacing_mm, origin_mm))
    turned = volume.canonical()
    assert turned.grid is not None
    assert turned.voxels.shape == tuple(turned.grid.shape)
    assert sorted(turned.grid.spacing_mm) == sorted(spacing_mm)
    np.testing.assert_allclose(corners(turned.grid), corners(volume.grid), atol=1e-6)
    for index in np.ndindex(2, 2, 2):  # the corner itself and the values in it
        place = tuple(np.array(index) * (np.array(turned.voxels.shape) - 1))
        found = back(np.array(place), to=volume.grid, of=turned.grid)
        np.testing.assert_allclose(found, found.round(), atol=1e-6)
        assert turned.voxels[place] == VOXELS[tuple(found.round().astype(int))]


@given(rotation=rotations(), turn=turns)
def test_turning_back_gives_the_same_array(rotation, turn) -> None:
    volume = Volume(VOXELS, grid_of(rotation @ turn))
    turned = volume.canonical()
    first, *ends = (back(np.array(index), to=volume.grid, of=turned.grid) for index in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)))
    steps = np.array(ends - first).round().astype(int)  # (3, 3): a step along each canonical axis, in the axes as stored
    axes = np.abs(steps).argmax(axis=1)
    assert sorted(axes) == [0, 1, 2]
    flipped = [axis for axis in range(3) if steps[axis].sum() < 0]
    np.testing.assert_array_equal(np.flip(turned.voxels, flipped).transpose(np.argsort(axes)), VOXELS)


@given(rotation=rotations(), turn=turns)
def test_what_is_canonical_stays_as_it_is(rotation, turn) -> None:
    once = Volume(VOXELS, grid_of(rotation @ turn)).canonical()
    again = once.canonical()
    assert again.grid == once.grid
    assert once.grid.canonical() == once.grid
    np.testing.assert_array_equal(again.voxels, once.voxels)


@given(rotation=rotations(), turn=turns)
def test_a_volume_turns_as_its_grid_does_and_is_a_view(rotation, turn) -> None:
    grid = grid_of(rotation @ turn)
    turned = Volume(VOXELS, grid).canonical()
    assert turned.grid == grid.canonical()
    assert np.shares_memory(turned.voxels, VOXELS)
    assert turned.voxels.dtype == VOXELS.dtype


def test_a_picture_of_unknown_geometry_stays_as_it_is() -> None:
    picture = Volume(VOXELS, None)
    assert picture.canonical().grid is None
    np.testing.assert_array_equal(picture.canonical().voxels, VOXELS)


@given(rotation=rotations(), turn=turns, spacing_mm=spacings, origin_mm=origins, labels=st.booleans())
def test_resampling_to_its_own_grid_changes_nothing(rotation, turn, spacing_mm, origin_mm, labels) -> None:
    grid = grid_of(rotation @ turn, spacing_mm, origin_mm)
    np.testing.assert_array_equal(Volume(VOXELS, grid).on(grid, labels).voxels, VOXELS)


@pytest.mark.parametrize("turn", TURNS)
def test_resampling_to_its_canonical_grid_is_turning(turn: str) -> None:
    volume = Volume(VOXELS, grid_of(TURNS[turn]))
    canonical = volume.canonical()
    for labels in (True, False):
        np.testing.assert_array_equal(volume.on(canonical.grid, labels).voxels, canonical.voxels)


@given(rotation=rotations(), other=rotations(most_deg=20), origin_mm=st.tuples(*[st.floats(-3, 3)] * 3))
def test_resampling_keeps_a_ramp_at_its_points(rotation, other, origin_mm) -> None:
    """Linear interpolation of a linear function is exact wherever there are voxels around."""
    grid = Grid((9, 10, 11), (1.5, 1.0, 0.8), (0, 0, 0), tuple(rotation.ravel()))
    slope = np.array([1.0, -2.0, 0.5])
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    volume = Volume((grid.point(index) @ slope).astype(np.float64), grid)
    onto = Grid((4, 5, 6), (1.1, 0.9, 1.2), tuple(grid.point((4, 4, 4)) + origin_mm), tuple((other @ rotation).ravel()))
    found = volume.on(onto, labels=False, outside=np.nan).voxels
    points = onto.point(np.stack(np.meshgrid(*map(np.arange, onto.shape), indexing="ij"), axis=-1))
    place = (points - grid.point((0, 0, 0))) @ grid.axes.T / grid.spacing_mm
    inside = ((place >= 0) & (place <= np.array(grid.shape) - 1)).all(axis=-1)  # between voxels, not half a voxel beyond them
    np.testing.assert_allclose(found[inside], (points @ slope)[inside], atol=1e-4)
    assert inside.any()
