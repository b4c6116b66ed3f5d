"""Laws of the picture of a scan: everything is where a radiologist looks for it, in its true shape and colour."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lungseg.errors import UserError
from lungseg.imaging.overlay import PAPER
from lungseg.imaging.planes import FAINT, LEFT_COLOUR, RIGHT_COLOUR, TEXT, WIDE, planes

QUICK = settings(deadline=None, max_examples=12)
SHAPE = (30, 60, 72)
HU = -1000.0, 1000.0  # tissue is grey, a marker white


def body(shape: tuple[int, int, int] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """Voxels of -400 HU everywhere, and a right and a left lung, the left one smaller."""
    labels = np.zeros(shape, np.uint8)
    z, y, x = (size // 6 for size in shape)
    labels[z : 5 * z, y : 5 * y, x // 2 : 5 * x // 2] = 1
    labels[z : 5 * z, 2 * y : 5 * y, 7 * x // 2 : 5 * x] = 2
    return np.full(shape, -400, np.int16), labels


def panels(picture: np.ndarray) -> list[np.ndarray]:
    """The planes of a picture without a title: all that is neither paper nor text below it, from left to right in two rows."""
    paper = (picture == PAPER).all(axis=2)
    found = []
    for top, bottom in runs(~paper.all(axis=1))[:2]:  # lines of text are too low to be a run
        found += [picture[top:bottom, left:right] for left, right in runs(~paper[top:bottom].all(axis=0))]
    return found


def runs(there: np.ndarray) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], there.astype(int), [0]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2) if b - a > 30]


def outline(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Places (n, 2) of a colour, as shares of the height and the width."""
    return (np.argwhere((picture == colour).all(axis=2)) + 0.5) / picture.shape[:2]


def test_each_lung_has_its_colour_on_its_side() -> None:
    first, second, coronal, right, left = panels(planes(*body(), (4, 2, 2)))
    for front in (first, second, coronal):  # the patient's right is at the left
        assert outline(front, RIGHT_COLOUR)[:, 1].max() < 0.5 < outline(front, LEFT_COLOUR)[:, 1].min()
    assert len(outline(right, RIGHT_COLOUR)) > len(outline(right, LEFT_COLOUR)) == 0
    assert len(outline(left, LEFT_COLOUR)) > len(outline(left, RIGHT_COLOUR)) == 0


def test_outlines_are_where_the_lungs_are() -> None:
    first, _, coronal, right, _ = panels(planes(*body(), (4, 2, 2)))
    rows, columns = outline(first, RIGHT_COLOUR).T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == pytest.approx((1 / 6, 5 / 6, 1 / 12, 5 / 12), abs=0.01)
    rows, columns = outline(coronal, RIGHT_COLOUR).T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == pytest.approx((1 / 6, 5 / 6, 1 / 12, 5 / 12), abs=0.02)
    rows, columns = outline(right, RIGHT_COLOUR).T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == pytest.approx((1 / 6, 5 / 6, 1 / 6, 5 / 6), abs=0.02)


@QUICK
@example(shape=(31, 30, 30), spacing=(6.0, 1.0, 1.0))
@example(shape=(60, 30, 30), spacing=(6.0, 1.0, 1.0))
@given(
    shape=st.tuples(st.integers(12, 60), st.integers(30, 90), st.integers(30, 90)),
    spacing=st.tuples(st.floats(2, 6), st.floats(1, 2), st.floats(1, 2)),
)
def test_millimetres_are_as_long_either_way(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> None:
    depth, height, width = (size * mm for size, mm in zip(shape, spacing, strict=True))
    picture = planes(*body(shape), spacing)
    found = panels(picture)
    truth = [height / width] * (len(found) - 3) + [depth / width, depth / height, depth / height]
    for panel, expected in zip(found, truth, strict=True):
        if panel.shape[1] == 5 * TEXT:  # one that would be too narrow for its letters has black beside it
            assert panel.shape[0] / panel.shape[1] <= expected * 1.03
        else:
            assert panel.shape[0] / panel.shape[1] == pytest.approx(expected, rel=0.03)
    assert picture.shape[1] <= WIDE + 4


@pytest.mark.parametrize(
    ("marked", "panel", "place"),
    [
        (np.s_[:, 4:8], 0, (0.1, 0.5)),  # in front: at the top of an axial plane
        (np.s_[:, 4:8], 3, (0.5, 0.1)),  # and at the left of a sagittal one
        (np.s_[:, :, 5:9], 0, (0.5, 0.1)),  # the patient's right: at the left
        (np.s_[:, :, 5:9], 2, (0.5, 0.1)),
        (np.s_[26:28], 2, (0.1, 0.5)),  # the head: at the top
        (np.s_[26:28], 4, (0.1, 0.5)),
    ],
)
def test_a_marker_is_where_a_radiologist_looks_for_it(marked: tuple[slice, ...], panel: int, place: tuple[float, float]) -> None:
    voxels, labels = body()
    before = panels(planes(voxels, labels, (4, 2, 2), window_hu=HU))[panel]
    voxels[marked] = 1000
    after = panels(planes(voxels, labels, (4, 2, 2), window_hu=HU))[panel]
    changed = (np.argwhere((after != before).any(axis=2)) + 0.5) / after.shape[:2]
    assert changed.mean(axis=0) == pytest.approx(place, abs=0.03)


def test_planes_go_where_most_lung_is() -> None:
    voxels, labels = body()
    labels[:] = 0
    labels[20:26, 40:50, 10:20] = 1
    labels[20:26, 45, 10:30] = 1
    labels[22, 50:55, 50:52] = 2
    assert all(len(outline(panel, RIGHT_COLOUR)) for panel in panels(planes(voxels, labels, (4, 2, 2)))[:4])
    assert len(outline(panels(planes(voxels, labels, (4, 2, 2)))[4], LEFT_COLOUR))


def test_a_mask_without_sides_has_one_colour_and_both_lungs_are_cut() -> None:
    voxels, labels = body()
    picture = planes(voxels, np.minimum(labels, 1), (4, 2, 2))
    assert all(len(outline(panel, RIGHT_COLOUR)) for panel in panels(picture))
    assert not len(outline(picture, LEFT_COLOUR))
    assert not len(outline(planes(voxels, labels, (4, 2, 2), sided=False), LEFT_COLOUR))


def test_a_single_slice_is_shown_alone() -> None:
    voxels, labels = body()
    (panel,) = panels(planes(voxels[15:16], labels[15:16], (4, 2, 2)))
    assert panel.shape[0] / panel.shape[1] == pytest.approx(60 / 72, rel=0.01)


def test_without_lung_the_middle_is_shown_and_said() -> None:
    voxels, labels = body()
    picture = planes(voxels, np.zeros_like(labels), (4, 2, 2))
    assert len(panels(picture)) == 5
    assert not len(outline(picture, RIGHT_COLOUR)) + len(outline(picture, LEFT_COLOUR))
    assert (picture[-30:] == FAINT).all(axis=2).any()


def test_stored_values_look_as_their_hu_do() -> None:
    voxels, labels = body()
    voxels += (np.arange(72) * 10).astype(np.int16)
    np.testing.assert_array_equal(planes(voxels, labels, (4, 2, 2)), planes(voxels + 1024, labels, (4, 2, 2), intercept=-1024.0))


def test_padding_takes_no_contrast_from_values_that_are_no_hu() -> None:
    voxels, labels = body()
    voxels += (np.arange(72) * 10).astype(np.int16)
    voxels[:, :5] = -400
    plain = planes(voxels, labels, (4, 2, 2), window_hu=None)
    voxels[:, :5] = -30000
    padded = planes(voxels, labels, (4, 2, 2), window_hu=None)
    assert np.abs(plain.astype(int) - padded).max() <= 8


@pytest.mark.parametrize("window_hu", [HU, None])
def test_what_is_no_number_is_black_and_takes_no_contrast(window_hu: tuple[float, float] | None) -> None:
    voxels, labels = body()
    voxels += (np.arange(72) * 10).astype(np.int16)
    voxels[:, :5] = -1000
    holed = voxels.astype(np.float32)
    holed[:, :5] = np.nan
    np.testing.assert_allclose(
        planes(holed, labels, (4, 2, 2), window_hu=window_hu), planes(voxels, labels, (4, 2, 2), window_hu=window_hu), atol=8
    )


def test_title_and_captions_have_lines_of_their_own_and_wrap() -> None:
    scan = body()
    plain = planes(*scan, (4, 2, 2))
    told = planes(*scan, (4, 2, 2), title="S1-101 Größe", captions=["right 2218 ml", "left 1848 ml"])
    long = planes(*scan, (4, 2, 2), captions=["word " * 200])
    assert told.shape[1] == plain.shape[1] == long.shape[1]
    assert told.shape[0] > plain.shape[0]
    assert long.shape[0] > told.shape[0]


def test_only_planes_are_copied() -> None:
    voxels, labels = np.broadcast_to(np.int16(-400), (1000, 300, 300)), np.zeros((1000, 300, 300), np.uint8)
    labels[100:900, 100:200, 50:100] = 1
    tracemalloc.start()
    planes(voxels, labels, (0.5, 1, 1))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < labels.nbytes / 2


def test_shapes_must_be_the_same() -> None:
    with pytest.raises(UserError, match=r"\(1, 2, 2\).*\(2, 2, 2\)"):
        planes(np.ones((2, 2, 2)), np.ones((1, 2, 2), np.uint8), (1, 1, 1))
