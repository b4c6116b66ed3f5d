"""Surface metrics: identities, shapes with answers that can be written down, and what other packages say of the same masks."""

import importlib
import itertools
import math
import time
import warnings
from types import ModuleType

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial import cKDTree

from lungseg.data.phantom import phantom_volume
from lungseg.metrics.elements import areas_of_codes, surface_elements
from lungseg.metrics.surface import SurfaceScores, surface_scores

SPACINGS = st.floats(0.3, 5).map(lambda value: round(value, 3))
laws = settings(deadline=None, max_examples=40)


@st.composite
def pairs(draw) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
    """Two masks of one shape, blobs or noise, neither empty, and a spacing of their axes; planes or volumes."""
    shape = draw(st.sampled_from([(7, 11), (20, 13), (1, 9), (4, 7, 5), (6, 9, 12), (1, 6, 5)]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    noise = rng.standard_normal((2, *shape))
    blurred = [ndimage.gaussian_filter(values, draw(st.sampled_from([0, 0.7, 1.5]))) for values in noise]
    own = draw(st.sampled_from([1, 0.5, 0.1, 0]))  # how much of the second mask is not the first one's; 0: they are equal
    first, second = blurred[0], own * blurred[1] + (1 - own) * blurred[0]
    masks = [values > np.quantile(values, draw(st.sampled_from([0.1, 0.5, 0.9]))) for values in (first, second)]
    assume(all(mask.any() for mask in masks))
    return masks[0], masks[1], tuple(draw(SPACINGS) for _ in shape)


def close(a: SurfaceScores, b: SurfaceScores, scale: float = 1.0) -> bool:
    """Whether the distances of a are those of b times the scale."""
    return (a.hd95, a.assd, a.nsd) == pytest.approx((b.hd95 * scale, b.assd * scale, b.nsd), rel=1e-9, abs=1e-12)


@given(pair=pairs(), tolerance=st.floats(0, 6))
@laws
def test_both_directions_count(pair, tolerance: float) -> None:
    a, b, spacing = pair
    assert close(surface_scores(a, b, spacing, tolerance), surface_scores(b, a, spacing, tolerance))


@given(pair=pairs())
@laws
def test_a_mask_lies_on_itself(pair) -> None:
    mask, _, spacing = pair
    assert surface_scores(mask, mask.copy(), spacing, 0.0) == SurfaceScores(hd95=0.0, assd=0.0, nsd=1.0)


@given(pair=pairs(), data=st.data())
@laws
def test_blind_to_flips_and_the_order_of_axes(pair, data: st.DataObject) -> None:
    a, b, spacing = pair
    axes = data.draw(st.permutations(range(a.ndim)))
    flipped = [axis for axis in axes if data.draw(st.booleans())]
    turned = [np.flip(mask, flipped).transpose(axes) for mask in (a, b)]
    assert close(surface_scores(*turned, [spacing[axis] for axis in axes], 2.0), surface_scores(a, b, spacing, 2.0))


@given(pair=pairs(), scale=st.floats(0.1, 20))
@laws
def test_distances_have_the_unit_of_the_spacing(pair, scale: float) -> None:
    a, b, spacing = pair
    scaled = surface_scores(a, b, [scale * step for step in spacing], 2.0 * scale)
    assert close(scaled, surface_scores(a, b, spacing, 2.0), scale)


@given(pair=pairs(), margin=st.integers(1, 4))
@laws
def test_blind_to_empty_margins(pair, margin: int) -> None:
    a, b, spacing = pair
    padded = [np.pad(mask, margin) for mask in (a, b)]
    assert close(surface_scores(*padded, spacing, 2.0), surface_scores(a, b, spacing, 2.0))


@given(pair=pairs(), tolerances=st.lists(st.floats(0, 20), min_size=2, max_size=5))
@laws
def test_nsd_rises_with_the_tolerance(pair, tolerances: list[float]) -> None:
    a, b, spacing = pair
    shares = [surface_scores(a, b, spacing, tolerance).nsd for tolerance in sorted(tolerances)]
    assert shares == sorted(shares)
    assert all(0 <= share <= 1 for share in shares)
    diagonal = math.hypot(*np.multiply(a.shape, spacing))
    assert surface_scores(a, b, spacing, diagonal).nsd == 1


@given(pair=pairs())
@laws
def test_no_figure_exceeds_the_largest_distance(pair) -> None:
    a, b, spacing = pair
    points = [np.argwhere(surface_elements(mask, spacing)[0]) * [1.0, *spacing][-3:] for mask in (a, b)]
    largest = max(cKDTree(there).query(here)[0].max() for here, there in (points, points[::-1]))
    scores = surface_scores(a, b, spacing, 0.0)
    assert scores.hd95 <= largest * (1 + 1e-12)
    assert scores.assd <= largest * (1 + 1e-12)
    assert (scores.assd == 0) == (largest == 0)


@given(pair=pairs())
@laws
def test_a_missed_lung_is_as_far_as_the_field_is_wide(pair) -> None:
    mask, _, spacing = pair
    diagonal = math.sqrt(sum((side * step) ** 2 for side, step in zip(mask.shape, spacing, strict=True)))
    none = np.zeros_like(mask)
    for scores in (surface_scores(none, mask, spacing, 2.0), surface_scores(mask, none, spacing, 2.0)):
        assert (scores.hd95, scores.assd, scores.nsd) == (pytest.approx(diagonal), pytest.approx(diagonal), 0.0)
    empty = surface_scores(none, none, spacing, 2.0)
    assert all(math.isnan(value) for value in (empty.hd95, empty.assd, empty.nsd))


@pytest.mark.parametrize(("prediction", "truth", "axes"), [((4, 4), (4, 5), 2), ((4, 4), (4, 4), 3), ((4,), (4,), 1)])
def test_shapes_and_spacing_must_fit(prediction, truth, axes: int) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        surface_scores(np.ones(prediction, bool), np.ones(truth, bool), [1.0] * axes, 2.0)


# ---- shapes with answers that can be written down


@given(height=st.integers(12, 30), width=st.integers(12, 30), shift=st.integers(1, 4), step=SPACINGS)
@laws
def test_a_rectangle_moved_sideways(height: int, width: int, shift: int, step: float) -> None:
    field = np.zeros((40, 40), bool)
    there, moved = field.copy(), field.copy()
    there[2 : 2 + height, 3 : 3 + width] = True
    moved[2 : 2 + height, 3 + shift : 3 + shift + width] = True
    corner = math.sqrt(0.5)  # each corner of a rectangle is cut off between the middles of two edges
    outline = 2 * (height - 1) + 2 * (width - 1) + 4 * corner
    outer = (height - 1 + 2 * corner) * shift  # the side that lies outside
    inner = sum(min(y, height - y, shift) for y in range(1, height))  # the side inside, next to another one at its ends
    strips = 2 * sum(shift - x for x in range(1, shift))  # of the long sides, what sticks out
    scores = surface_scores(there, moved, (step, step), tolerance=0.0)
    assert scores.hd95 == pytest.approx(shift * step)
    assert scores.assd == pytest.approx((outer + inner + strips) / outline * step)
    assert scores.nsd == pytest.approx((outline - 2 * (height - 1) - 2 * corner - 2 * (shift - 1)) / outline)
    assert surface_scores(there, moved, (step, step), tolerance=shift * step).nsd == 1


@given(sides=st.tuples(*[st.integers(1, 6)] * 3), spacing=st.tuples(*[SPACINGS] * 3))
@laws
def test_the_surface_of_a_box(sides, spacing) -> None:
    """Faces, edges cut off between the middles of two voxels' faces, and corners cut off between three."""
    z, y, x = spacing
    long = [side - 1 for side in sides]  # in corners that have a whole piece of edge or face
    faces = 2 * (long[0] * long[1] * z * y + long[0] * long[2] * z * x + long[1] * long[2] * y * x)
    edges = 2 * (long[0] * z * math.hypot(y, x) + long[1] * y * math.hypot(z, x) + long[2] * x * math.hypot(z, y))
    corners = math.sqrt((z * y) ** 2 + (z * x) ** 2 + (y * x) ** 2)
    assert surface_elements(np.ones(sides, bool), spacing)[1].sum() == pytest.approx(faces + edges + corners)


@given(spacing=st.tuples(SPACINGS, SPACINGS))
@laws
def test_exactly_95_percent_are_95_percent(spacing) -> None:
    """Of 20 single pixels 19 are where they should be, whatever their areas are rounded to."""
    there, other = np.zeros((2, 60, 7), bool)
    there[1:58:3, 1] = other[1:58:3, 1] = True
    there[58, 5], other[1, 5] = True, True
    scores = surface_scores(there, other, spacing, tolerance=0.0)
    assert (scores.hd95, scores.nsd) == (0.0, pytest.approx(0.95))


@given(steps=st.integers(1, 50), step=SPACINGS)
@laws
def test_a_distance_of_the_tolerance_is_within_it(steps: int, step: float) -> None:
    there = np.zeros((3, 60), bool)
    there[1, 1] = True
    tolerance = float(f"{steps * step:.6g}")  # as a person writes it: 0.3, not 0.1 * 3 = 0.30000000000000004
    assert surface_scores(there, np.roll(there, steps, axis=1), (step, step), tolerance).nsd == 1


def ball(radius: float, spacing: tuple[float, ...], half_mm: float = 30.0) -> np.ndarray:
    """A ball, or a disc, in the middle of its field."""
    axes = [np.arange(-half_mm, half_mm + 1e-6, step) for step in spacing]
    return sum(grid**2 for grid in np.meshgrid(*axes, indexing="ij")) <= radius**2


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 0.8), (1.0, 1.0, 1.0), (2.0, 0.8, 1.0)], ids=str)
def test_concentric_balls_lie_apart_by_the_difference_of_their_radii(spacing) -> None:
    """Within a step: corners lie on both sides of a round surface, and those nearest to the other one are the ones found."""
    scores = surface_scores(ball(18.0, spacing), ball(25.0, spacing), spacing, tolerance=2.0)
    assert scores.hd95 == pytest.approx(7.0, abs=max(spacing))
    assert scores.assd == pytest.approx(7.0, abs=0.7 * max(spacing))
    assert scores.nsd == 0


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 0.8), (1.0, 1.0, 1.0), (2.0, 0.8, 1.0)], ids=str)
def test_the_surface_of_a_ball(spacing) -> None:
    """Through the middles of edges a round surface goes in facets of few directions, which make it too large by 5 to 15 %."""
    exact = 2 * math.pi * 25 if len(spacing) == 2 else 4 * math.pi * 25**2
    assert 1.04 * exact < surface_elements(ball(25.0, spacing), spacing)[1].sum() < 1.15 * exact


@given(code=st.integers(0, 255), data=st.data(), spacing=st.tuples(*[SPACINGS] * 3))
@laws
def test_areas_are_those_of_mirror_images_turns_and_the_complement(code: int, data: st.DataObject, spacing) -> None:
    cube = np.array([code >> bit & 1 for bit in range(8)]).reshape(2, 2, 2)
    axes = data.draw(st.permutations(range(3)))
    turned = np.flip(cube, [axis for axis in range(3) if data.draw(st.booleans())]).transpose(axes)
    other = int((turned.ravel() << np.arange(8)).sum())
    area = areas_of_codes(spacing)[code]
    assert areas_of_codes([spacing[axis] for axis in axes])[other] == pytest.approx(area)
    assert areas_of_codes(spacing)[255 - code] == pytest.approx(area)


# ---- other packages


def quietly(name: str) -> ModuleType:
    """A package whose import, or whose use of scipy, warns."""
    pytest.importorskip(name, reason=f"{name} is not installed (the extra dev has it)")
    with warnings.catch_warnings(action="ignore"):
        return importlib.import_module(name)


def oracle(a: np.ndarray, b: np.ndarray, spacing, tolerance: float) -> SurfaceScores:
    """What the package of Nikolov et al. says."""
    package = quietly("surface_distance")
    with warnings.catch_warnings(action="ignore"):
        found = package.compute_surface_distances(a, b, spacing)
    sides = [
        (found[f"distances_{way}"], found[f"surfel_areas_{side}"]) for way, side in (("gt_to_pred", "gt"), ("pred_to_gt", "pred"))
    ]
    total = sum(areas.sum() for _, areas in sides)
    return SurfaceScores(
        # A share of exactly 95 %, and a distance that is exactly the tolerance, are rounded up or down there by chance.
        hd95=package.compute_robust_hausdorff(found, 95 * (1 - 1e-9)),
        assd=sum((distances * areas).sum() for distances, areas in sides) / total,
        nsd=package.compute_surface_dice_at_tolerance(found, tolerance * (1 + 1e-9)),
    )


def agrees(a: SurfaceScores, b: SurfaceScores) -> bool:
    return (a.hd95, a.assd, a.nsd) == pytest.approx((b.hd95, b.assd, b.nsd), rel=1e-6, abs=1e-9)


@given(pair=pairs(), tolerance=st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0]))
@settings(deadline=None, max_examples=150)
def test_blobs_are_scored_as_the_reference_implementation_does(pair, tolerance: float) -> None:
    a, b, spacing = pair
    assert agrees(surface_scores(a, b, spacing, tolerance), oracle(a, b, spacing, tolerance))


@given(spacing=st.tuples(*[SPACINGS] * 3))
@settings(deadline=None, max_examples=5)
def test_each_code_has_the_area_of_the_reference_implementation(spacing) -> None:
    tables = quietly("surface_distance").metrics.lookup_tables
    theirs = tables.create_table_neighbour_code_to_surface_area(spacing)
    mirrored = [int(f"{code:08b}"[::-1], 2) for code in range(256)]  # it counts neighbours from the other end
    np.testing.assert_allclose(areas_of_codes(spacing)[mirrored], theirs, rtol=1e-12)
    lengths = [surface_elements(np.array([p[:2], p[2:]]), spacing[1:])[1].sum() for p in itertools.product([False, True], repeat=4)]
    theirs = tables.create_table_neighbour_code_to_contour_length(spacing[1:])
    for pixels, length in zip(itertools.product([0, 1], repeat=4), lengths, strict=True):
        codes = ndimage.correlate(np.pad(np.reshape(pixels, (2, 2)), 1), [[8, 4], [2, 1]], mode="constant")
        assert length == pytest.approx(theirs[codes].sum())


@pytest.fixture(scope="module")
def lungs() -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
    """A patient's lungs as they may be predicted, 64 x 256 x 256, the truth, and their spacing: some rims gone, some too wide."""
    volume = phantom_volume(3, (64, 256, 256))
    truth = volume.sides > 0
    wave = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(truth.shape).astype(np.float32), (2, 8, 8))
    thin, wide = ndimage.binary_erosion(truth, iterations=2), ndimage.binary_dilation(truth, iterations=2)
    return np.where(wave > 0.01, wide, np.where(wave < -0.01, thin, truth)), truth, volume.spacing_mm


def test_lungs_are_scored_as_the_reference_implementation_does(lungs) -> None:
    prediction, truth, spacing = lungs
    scores = surface_scores(prediction, truth, spacing, 2.0)
    assert 0.5 < scores.nsd < 0.99, "the two must differ as masks do"
    assert agrees(scores, oracle(prediction, truth, spacing, 2.0))
    for z in (20, 32, 45):
        plane = prediction[z], truth[z], spacing[1:], 2.0
        assert agrees(surface_scores(*plane), oracle(*plane))


def test_lungs_are_scored_as_monai_does_but_for_its_points(lungs) -> None:
    """MONAI has no areas: it counts the voxels inside along the edge, whose middles lie up to half a diagonal within.

    So each distance may differ by a diagonal of a voxel. The mean differs by much less, for both surfaces move the same way;
    by most where slices are far thicker than pixels, and each of their voxels counts as much as one along a slice.
    """
    metrics = quietly("monai.metrics")
    torch = importlib.import_module("torch")
    prediction, truth, spacing = lungs
    for a, b, steps in ((prediction, truth, spacing), (prediction[32], truth[32], spacing[1:])):
        scores, diagonal = surface_scores(a, b, steps, 2.0), math.hypot(*steps)
        masks = [torch.from_numpy(mask)[None, None] for mask in (a, b)]
        with warnings.catch_warnings(action="ignore"):
            hd95 = metrics.compute_hausdorff_distance(*masks, include_background=True, percentile=95, spacing=steps).item()
            assd = metrics.compute_average_surface_distance(*masks, include_background=True, symmetric=True, spacing=steps).item()
        assert scores.hd95 == pytest.approx(hd95, abs=diagonal)
        assert scores.assd == pytest.approx(assd, abs=0.15 * diagonal)


# ---- time


def seconds(*args) -> float:
    """Of the processor, so that what else the machine does counts little."""
    start = time.process_time()
    surface_scores(*args)
    return time.process_time() - start


def test_a_volume_takes_less_than_a_second(lungs) -> None:
    prediction, truth, spacing = lungs
    assert min(seconds(prediction, truth, spacing, 2.0) for _ in range(3)) < 1


@pytest.mark.parametrize("share", [0.02, 0.5])
def test_noise_takes_seconds_and_no_minutes(share: float) -> None:
    a, b = np.random.default_rng(0).random((2, 64, 256, 256), dtype=np.float32) < share
    assert seconds(a, b, (3.0, 0.8, 0.8), 2.0) < 20


def test_a_mask_that_fills_the_field_takes_no_longer(lungs) -> None:
    _, truth, spacing = lungs
    assert seconds(np.ones_like(truth), truth, spacing, 2.0) < 4
