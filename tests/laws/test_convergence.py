"""Laws of convergence: a band holds its mean, one run is its own curve, and a higher mark is never reached sooner."""

import math
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lungseg.evaluation.convergence import Run, curve, reached, run_of
from lungseg.evaluation.jobs import Job
from lungseg.evaluation.plots import DEEPEST, LONG, shown_range

CURVES = st.lists(st.none() | st.floats(0, 1), min_size=1, max_size=12)


def run(ious: list[float | None], images: int = 10, seconds: float = 2.0) -> Run | None:
    history = {
        "epoch": np.arange(1.0, len(ious) + 1),
        "images": np.full(len(ious), float(images)),
        "seconds": np.full(len(ious), seconds),
        "val/iou": np.array([np.nan if iou is None else iou for iou in ious]),
    }
    return run_of(Job("job", {}, (), {}, history, None, None, None))


def some(ious: list[float | None]) -> Run:
    made = run(ious)
    assert made is not None
    return made


@given(ious=CURVES)
def test_a_run_is_what_was_validated(ious: list[float | None]) -> None:
    made = run(ious)
    there = [(epoch, iou) for epoch, iou in enumerate(ious, 1) if iou is not None]
    assert (made is None) == (not there)
    if made is not None:
        assert list(zip(made.epochs, made.iou, strict=True)) == there
        assert list(made.images) == [10 * epoch for epoch, _ in there]
        alone = curve([[made]])
        assert alone is not None
        for values, own in zip(astuple(alone), (made.epochs, made.images, made.seconds, *[made.iou] * 3), strict=True):
            np.testing.assert_array_equal(values, own)


@given(repeats=st.lists(st.lists(CURVES, min_size=1, max_size=3), min_size=1, max_size=3))
def test_a_band_holds_its_mean(repeats: list[list[list[float | None]]]) -> None:
    runs = [[made for ious in one if (made := run(ious)) is not None] for one in repeats]
    runs = [one for one in runs if one]
    found = curve(runs)
    shared = set.intersection(*(set(made.epochs) for one in runs for made in one)) if runs else set()
    assert (found is None) == (not shared)
    if found is not None:
        assert list(found.epochs) == sorted(shared)
        assert (found.low <= found.mean + 1e-12).all()
        assert (found.mean <= found.high + 1e-12).all()


def test_the_runs_of_a_repeat_are_averaged_before_the_band() -> None:
    found = curve([[some([0.0]), some([1.0])], [some([0.5])]])
    assert found is not None
    assert (found.low[0], found.mean[0], found.high[0]) == (0.5, 0.5, 0.5)


@given(ious=CURVES.filter(lambda ious: any(iou is not None for iou in ious)), low=st.floats(0, 1), high=st.floats(0, 1))
def test_a_higher_mark_is_never_reached_sooner(ious: list[float | None], low: float, high: float) -> None:
    low, high = sorted((low, high))
    sooner, later = reached([some(ious)], low), reached([some(ious)], high)
    assert sooner.runs >= later.runs
    if later.runs:
        assert sooner.epochs <= later.epochs
    first = next((epoch for epoch, iou in enumerate(ious, 1) if iou is not None and iou >= low), None)
    assert (math.isnan(sooner.epochs) and first is None) or sooner.epochs == first


def test_means_are_over_the_runs_that_came_so_far() -> None:
    found = reached([some([0.1, 0.6]), some([0.7, 0.9]), some([0.1, 0.2])], 0.5)
    assert (found.runs, found.of, found.epochs, found.images, found.seconds) == (2, 3, 1.5, 15.0, pytest.approx(3.0))


@given(ious=st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=2 * LONG), min_size=1, max_size=3))
def test_short_curves_are_shown_whole_and_long_ones_to_their_end(ious: list[list[float]]) -> None:
    curves = [found for one in ious if (found := curve([[some(list(one))]])) is not None]
    bottom, top = shown_range(curves)
    every = [iou for one in ious for iou in one]
    assert top == max(every)
    if max(map(len, ious)) < LONG:
        assert bottom == min(every)
    assert min(every) <= bottom <= min(one[-1] for one in ious)
    assert bottom <= max(top - DEEPEST, min(every))
