"""The figures of a case: one rule for lungs that are missed, that are not there, and for pixels that are ignored."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lungseg.errors import UserError
from lungseg.metrics.cases import HIGHER_IS_BETTER, SIGNED, TITLES, case_figures, image_figures, volume_figures
from lungseg.metrics.definitions import CASE_DEFINITIONS
from lungseg.metrics.overlap import overlap, summarise, volume_scores
from lungseg.metrics.surface import surface_scores

IGNORE = 255
SPACING = (3.0, 0.7, 0.8)
laws = settings(deadline=None, max_examples=60)


@st.composite
def cases(draw) -> tuple[np.ndarray, np.ndarray]:
    """A prediction and a truth (Z, H, W), slices without lung among them."""
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6)))
    truth = draw(arrays(np.uint8, shape, elements=st.sampled_from([0, 1, IGNORE])))
    prediction = draw(arrays(np.bool_, shape))
    empty = draw(st.lists(st.integers(0, shape[0] - 1), max_size=3))
    truth[empty] *= truth[empty] == IGNORE
    return prediction, truth


def same(a: dict[str, float], b: dict[str, float]) -> bool:
    return a == pytest.approx(b, nan_ok=True)


@given(case=cases(), spacing=st.sampled_from([None, SPACING[1:]]))
@laws
def test_an_image_is_scored_by_overlap_and_surface(case, spacing) -> None:
    prediction, truth = case[0][0], case[1][0]
    figures = image_figures(prediction, truth, spacing)
    counts = overlap(prediction, truth)
    unit = "mm" if spacing else "px"
    assert list(figures) == ["iou", "dice", f"hd95_{unit}", f"assd_{unit}", "nsd", "area_error", "false_lung_pixels"]
    if not (truth == 1).any():
        assert figures.pop("false_lung_pixels") == (prediction & (truth == 0)).sum()
        assert all(math.isnan(value) for value in figures.values())
        return
    known = truth != IGNORE
    surface = surface_scores(prediction & known, truth == 1, spacing or (1, 1), 2.0)
    assert (figures["iou"], figures["dice"]) == (counts.iou, counts.dice)
    assert figures["dice"] == pytest.approx(2 * figures["iou"] / (1 + figures["iou"]))
    assert (figures[f"hd95_{unit}"], figures[f"assd_{unit}"], figures["nsd"]) == (surface.hd95, surface.assd, surface.nsd)
    assert figures["area_error"] == pytest.approx((prediction & known).sum() / (truth == 1).sum() - 1)
    assert math.isnan(figures["false_lung_pixels"])


@given(case=cases(), tolerance=st.floats(0, 4))
@laws
def test_ignored_pixels_do_not_count_whatever_is_predicted_there(case, tolerance: float) -> None:
    prediction, truth = case
    assert same(
        volume_figures(prediction ^ (truth == IGNORE), truth, SPACING, tolerance),
        volume_figures(prediction, truth, SPACING, tolerance),
    )


@given(case=cases(), spacing=st.sampled_from([None, SPACING]))
@laws
def test_a_volume_has_the_means_of_its_slices_with_lung_and_its_own_figures(case, spacing) -> None:
    prediction, truth = case
    figures = volume_figures(prediction, truth, spacing)
    images = [image_figures(*pair, spacing and spacing[1:]) for pair in zip(prediction, truth, strict=True)]
    with_lung = [image for image, labels in zip(images, truth, strict=True) if (labels == 1).any()]
    for name in images[0].keys() - {"false_lung_pixels"}:
        expected = np.mean([image[name] for image in with_lung]) if with_lung else math.nan
        assert figures[name] == pytest.approx(expected, nan_ok=True), name
    overlaps = [overlap(*pair) for pair in zip(prediction, truth, strict=True)]
    summary = summarise(overlaps)
    assert (figures["iou_3d"], figures["dice_3d"]) == pytest.approx(volume_scores(overlaps), nan_ok=True)
    assert figures["slices"] == summary["images"]
    assert figures["slices_with_lung"] == summary["images_with_lung"]
    assert figures["false_lung_slices"] == summary["false_lung_images"]
    assert figures["false_lung_pixels_max"] == summary["false_lung_pixels_max"]
    assert figures["iou"] == pytest.approx(summary["iou"], nan_ok=True)
    assert spacing is not None or not {"hd95_3d_mm", "assd_3d_mm", "nsd_3d", "volume_error_ml"} & figures.keys()
    if spacing is None or not with_lung:
        assert with_lung or all(math.isnan(figures[name]) for name in figures if not re.search("slices|false", name))
        return
    known = truth != IGNORE
    surface = surface_scores(prediction & known, truth == 1, spacing, 2.0)
    assert (figures["hd95_3d_mm"], figures["assd_3d_mm"], figures["nsd_3d"]) == (surface.hd95, surface.assd, surface.nsd)
    volumes = [mask.sum() * math.prod(spacing) / 1000 for mask in (prediction & known, truth == 1)]
    assert figures["volume_error_ml"] == pytest.approx(volumes[0] - volumes[1], abs=1e-12)
    assert figures["volume_error"] == pytest.approx(volumes[0] / volumes[1] - 1, abs=1e-12)


def test_a_missed_lung_counts_in_every_mean() -> None:
    truth = np.zeros((3, 30, 40), np.uint8)
    truth[:2, 5:20, 5:20] = 1
    prediction = truth == 1
    prediction[1] = False
    figures = volume_figures(prediction, truth, SPACING)
    assert (figures["iou"], figures["dice"], figures["nsd"], figures["area_error"]) == (0.5, 0.5, 0.5, -0.5)
    diagonal = math.hypot(30 * 0.7, 40 * 0.8)
    assert (figures["hd95_mm"], figures["assd_mm"]) == pytest.approx((diagonal / 2, diagonal / 2))
    gone = volume_figures(np.zeros_like(prediction), truth, SPACING)
    assert gone["hd95_3d_mm"] == gone["assd_3d_mm"] == pytest.approx(math.hypot(3 * 3.0, 30 * 0.7, 40 * 0.8))
    assert (gone["iou_3d"], gone["nsd_3d"], gone["volume_error"]) == (0, 0, -1)


def test_a_single_slice_without_a_spacing_is_an_image() -> None:
    truth = np.ones((2, 3, 4), np.uint8)
    assert same(case_figures(truth[:1] == 1, truth[:1], None), image_figures(truth[0] == 1, truth[0], None))
    assert same(case_figures(truth == 1, truth, None), volume_figures(truth == 1, truth, None))
    assert same(case_figures(truth[:1] == 1, truth[:1], SPACING), volume_figures(truth[:1] == 1, truth[:1], SPACING))


def test_shapes_must_be_the_same() -> None:
    with pytest.raises(UserError, match=r"\(4, 4\).*\(4, 5\)"):
        image_figures(np.zeros((4, 4), bool), np.zeros((4, 5), np.uint8), None)
    with pytest.raises(UserError, match=r"\(2, 4, 4\).*\(3, 4, 4\)"):
        volume_figures(np.zeros((2, 4, 4), bool), np.zeros((3, 4, 4), np.uint8), None)


@pytest.mark.parametrize("spacing", [None, SPACING])
def test_each_figure_has_a_title_a_direction_and_a_definition(spacing) -> None:
    mask = np.ones((2, 3, 3), np.uint8)
    names = {*volume_figures(mask == 1, mask, spacing), *image_figures(mask[0] == 1, mask[0], spacing and spacing[1:])}
    assert names <= TITLES.keys()
    counts = {"slices", "slices_with_lung", "false_lung_slices", "false_lung_pixels_max"}
    assert names - HIGHER_IS_BETTER.keys() <= counts
    assert {name for name in names if name.removesuffix("_ml").endswith("_error")} <= SIGNED <= HIGHER_IS_BETTER.keys()
    defined = set(re.findall(r"[a-z0-9_]+", CASE_DEFINITIONS))
    assert names - {"hd95_px", "assd_px"} <= defined
