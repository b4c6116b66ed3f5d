"""Identities of IoU and Dice, and of their summary over images, processes and repeats."""

import math
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from lungseg.errors import UserError
from lungseg.metrics.definitions import DEFINITIONS
from lungseg.metrics.overlap import Overlap, overlap, summarise
from lungseg.metrics.per_image import OverlapPerImage

IGNORE = 255


@st.composite
def masks(draw, labels: tuple[int, ...] = (0, 1)) -> tuple[np.ndarray, np.ndarray]:
    """A prediction (bool) and a truth (uint8 labels) of one shape, planes or volumes, empty ones among them."""
    shape = draw(array_shapes(min_dims=2, max_dims=3, max_side=6))
    truth = draw(arrays(np.uint8, shape, elements=st.sampled_from(labels)))
    return draw(arrays(np.bool_, shape)), truth


overlaps = st.builds(Overlap, *[st.one_of(st.just(0), st.integers(0, 10**6))] * 3)


def same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


def tensors(images: list[tuple[int, Overlap]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids (n,) and counts (n, 3)."""
    counts = [(o.true_positive, o.false_positive, o.false_negative) for _, o in images]
    return torch.tensor([image for image, _ in images], dtype=torch.int64), torch.tensor(counts).reshape(-1, 3)


@given(pair=masks())
def test_counts_are_those_of_the_sets(pair) -> None:
    prediction, truth = pair
    both, either = (prediction & (truth == 1)).sum(), (prediction | (truth == 1)).sum()
    scored = overlap(prediction, truth)
    assert scored.true_positive == both
    assert scored.true_positive + scored.false_positive + scored.false_negative == either
    if truth.any():
        assert scored.iou == pytest.approx(both / either)


@given(pair=masks())
def test_symmetric_where_both_have_lung(pair) -> None:
    prediction, truth = pair
    there, back = overlap(prediction, truth), overlap(truth == 1, prediction.astype(np.uint8))
    if prediction.any() and truth.any():
        assert there.iou == back.iou
        assert there.dice == back.dice


@given(pair=masks(labels=(0, 1, IGNORE)))
def test_a_mask_overlaps_itself_fully(pair) -> None:
    truth = pair[1]
    scored = overlap(truth == 1, truth)
    assert same(scored.iou, 1.0 if (truth == 1).any() else math.nan)
    assert same(scored.dice, scored.iou)


@given(scored=overlaps)
def test_dice_and_iou_say_the_same(scored: Overlap) -> None:
    if scored.has_lung:
        assert scored.dice == pytest.approx(2 * scored.iou / (1 + scored.iou))
    else:
        assert math.isnan(scored.iou)
        assert math.isnan(scored.dice)


@given(pair=masks(labels=(0, 1, IGNORE)), axis=st.sampled_from([0, 1]))
def test_blind_to_flips(pair, axis: int) -> None:
    prediction, truth = pair
    assert overlap(np.flip(prediction, axis), np.flip(truth, axis)) == overlap(prediction, truth)


@given(pair=masks(labels=(0, 1, IGNORE)))
def test_ignored_pixels_take_no_part(pair) -> None:
    prediction, truth = pair
    ignored = truth == IGNORE
    assert overlap(prediction ^ ignored, truth) == overlap(prediction, truth)
    assert overlap(prediction[~ignored], truth[~ignored]) == overlap(prediction, truth)


def test_the_written_rules() -> None:
    fits, half, missed = Overlap(10, 0, 0), Overlap(5, 0, 5), Overlap(0, 0, 10)
    both_empty, false_lung, more_false_lung = Overlap(0, 0, 0), Overlap(0, 7, 0), Overlap(0, 30, 0)
    assert missed.iou == missed.dice == 0
    assert summarise([fits, half, missed, both_empty, false_lung, more_false_lung]) == {
        "iou": 0.5,
        "iou_worst": 0.0,
        "iou_pooled": 15 / 67,
        "dice": pytest.approx((1 + 2 / 3) / 3),
        "images": 6,
        "images_with_lung": 3,
        "false_lung_images": 2,
        "false_lung_pixels_max": 30,
    }


def test_what_is_summarised_is_defined() -> None:
    assert [line.split()[0] for line in DEFINITIONS.splitlines() if line[2] != " " and line[0] == " "] == list(summarise([]))


def test_shapes_must_be_the_same() -> None:
    with pytest.raises(UserError, match=r"\(4, 4\).*\(1, 4\)"):
        overlap(np.zeros((4, 4), bool), np.zeros((1, 4), np.uint8))


@pytest.mark.parametrize("images", [[], [Overlap(0, 0, 0)]], ids=["none", "one without lung"])
def test_a_mean_over_none_is_nan_and_no_warning(images: list[Overlap]) -> None:
    metric = OverlapPerImage()
    if images:
        metric.update(*tensors(list(enumerate(images))))
    computed = {name: value.item() for name, value in metric.compute().items()}
    assert all(same(computed[name], value) for name, value in summarise(images).items())
    assert all(math.isnan(computed[name]) for name in ("iou", "iou_worst", "iou_pooled", "dice"))
    assert computed["images"] == len(images)
    assert computed["false_lung_images"] == computed["false_lung_pixels_max"] == 0


@given(images=st.dictionaries(st.integers(0, 2**62), overlaps, max_size=8), data=st.data())
@settings(deadline=None, max_examples=50)
def test_order_batches_and_repeats_do_not_matter(images: dict[int, Overlap], data: st.DataObject) -> None:
    repeats = data.draw(st.lists(st.sampled_from(sorted(images)), max_size=4)) if images else []
    dealt = data.draw(st.permutations([*images, *repeats]))
    metric = OverlapPerImage()
    for start in range(0, len(dealt), 3):
        metric.update(*tensors([(image, images[image]) for image in dealt[start : start + 3]]))
    for name, value in summarise(images.values()).items():
        assert same(metric.compute()[name].item(), torch.tensor(value).item()), name


def test_reset_forgets() -> None:
    metric = OverlapPerImage()
    metric.update(*tensors([(3, Overlap(1, 2, 3))]))
    metric.reset()
    assert metric.compute()["images"] == 0


IMAGES = [(i, Overlap(50 * i, 3 * i, 100 - 7 * i)) for i in range(5)] + [(5, Overlap(0, 0, 0)), (6, Overlap(0, 9, 0))]


# How a sampler may deal them to two processes: padded to equal length by a repeat, or all to one.
DEALS = [([0, 2, 4, 6], [1, 3, 5, 0]), ([6, 5, 4, 3, 2, 1, 0], [])]


def score_a_share(rank: int, folder: Path) -> None:
    """One process: for each deal the summary of all images."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    metric, said = OverlapPerImage(), []
    for deal in DEALS:
        metric.reset()
        for i in deal[rank]:
            metric.update(*tensors([IMAGES[i]]))
        said.append(metric.compute())
    torch.distributed.destroy_process_group()
    torch.save(said, folder / f"{rank}.pt")


def test_two_processes_say_what_one_says(tmp_path: Path) -> None:
    other = torch.multiprocessing.spawn(score_a_share, (tmp_path,), nprocs=1, join=False)
    score_a_share(1, tmp_path)
    while not other.join():
        pass
    alone = OverlapPerImage()
    alone.update(*tensors(IMAGES))
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt") == [alone.compute()] * len(DEALS)
