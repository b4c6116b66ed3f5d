"""Intervals and paired tests: they cover what they promise, and say nothing where there is too little."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from lungseg.metrics.statistics import LEAST_PATIENTS, Interval, by_patient, mean_interval, paired

laws = settings(deadline=None, max_examples=40)
figures = st.floats(-1, 1).map(lambda value: round(value, 3))


def tables(least: int = LEAST_PATIENTS) -> st.SearchStrategy[np.ndarray]:
    """(runs, patients), entries missing here and there."""
    shapes = st.tuples(st.integers(1, 3), st.integers(least, 12))
    return shapes.flatmap(lambda shape: arrays(np.float64, shape, elements=st.one_of(figures, figures, st.just(math.nan))))


def interval_of(values: np.ndarray) -> Interval | None:
    return mean_interval(values, draws=400)


def width(values: np.ndarray) -> float:
    interval = mean_interval(values, draws=2000)
    assert interval is not None
    return interval.high - interval.low


def present(values: np.ndarray) -> int:
    return int(np.isfinite(values).any(axis=0).sum())


@given(values=tables(least=1))
@laws
def test_an_interval_holds_the_mean_and_needs_five_patients(values: np.ndarray) -> None:
    interval = interval_of(values)
    assert (interval is None) == (present(values) < LEAST_PATIENTS)
    if interval is not None:
        spread = np.nanmax(values) - np.nanmin(values)
        assert interval.low - 0.2 * spread <= np.nanmean(values) <= interval.high + 0.2 * spread


@given(values=tables())
@settings(deadline=None)
def test_an_interval_stays_within_the_range_of_its_figure(values: np.ndarray) -> None:
    whole, cut = mean_interval(values), mean_interval(values, (0.0, 1.0))
    if whole is None:
        assert cut is None
    else:
        assert cut == Interval(*np.clip([whole.low, whole.high], 0, 1).tolist())


@given(values=tables(), data=st.data())
@laws
def test_blind_to_the_order_of_patients(values: np.ndarray, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(values.shape[1])))
    assert interval_of(values[:, order]) == interval_of(values)
    other = np.roll(values, 1, axis=0) ** 2
    there, turned = paired(values, other), paired(values[:, order], other[:, order])
    assert turned.difference == pytest.approx(there.difference, nan_ok=True)
    assert replace(turned, difference=there.difference) == there
    back = paired(other, values)
    assert (back.better, back.worse, back.p_value) == (there.worse, there.better, there.p_value)
    if there.interval is not None and back.interval is not None:
        assert (-back.interval.high, -back.interval.low) == (there.interval.low, there.interval.high)


@given(values=tables(), factor=st.floats(0.1, 10), shift=figures)
@laws
def test_intervals_have_the_unit_of_their_values(values: np.ndarray, factor: float, shift: float) -> None:
    plain, other = interval_of(values), interval_of(factor * values + shift)
    assert (plain is None) == (other is None)
    if plain is not None and other is not None:
        expected = plain.low * factor + shift, plain.high * factor + shift
        assert (other.low, other.high) == pytest.approx(expected, abs=1e-9)


@given(values=arrays(np.float64, st.integers(5, 12), elements=figures))
@laws
def test_one_run_may_be_a_row(values: np.ndarray) -> None:
    assert interval_of(values) == interval_of(values[None])


def test_the_same_figure_for_all_leaves_no_doubt() -> None:
    assert mean_interval(np.full((3, 8), 0.5)) == Interval(0.5, 0.5)


def test_an_interval_of_many_patients_is_the_textbook_one() -> None:
    values = np.random.default_rng(0).normal(0.9, 0.05, 200)
    interval = mean_interval(values)
    error = values.std(ddof=1) / math.sqrt(200)
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx(
        (values.mean() - 1.97 * error, values.mean() + 1.97 * error), abs=0.1 * error
    )


@pytest.mark.parametrize("patients", [5, 8])
def test_intervals_of_few_patients_are_as_wide_as_those_of_student(patients: int) -> None:
    rng, ratios = np.random.default_rng(7), []
    for seed in range(40):
        values = rng.standard_normal(patients)
        interval = mean_interval(values, draws=1000, seed=seed)
        assert interval is not None
        textbook = 2 * stats.t.ppf(0.975, patients - 1) * values.std(ddof=1) / math.sqrt(patients)
        ratios.append((interval.high - interval.low) / textbook)
    assert 0.93 < np.mean(ratios) < 1.03


def covered(patients: int, runs: int, run_spread: float, times: int = 300) -> float:
    """How often the interval holds the true mean, 0, of patients that differ by 1 and runs that differ by this much."""
    rng = np.random.default_rng(5)
    hits = 0
    for seed in range(times):
        noise = 0.2 * rng.standard_normal((runs, patients))
        values = rng.standard_normal(patients) + run_spread * rng.standard_normal((runs, 1)) + noise
        interval = mean_interval(values, draws=400, seed=seed)
        assert interval is not None
        hits += interval.low <= 0 <= interval.high
    return hits / times


# Of 300 intervals that hold the mean 95 times in 100, 91 to 99 in 100 do, but for once in a thousand times.
@pytest.mark.parametrize(
    ("patients", "runs", "run_spread"), [(5, 1, 0), (8, 1, 0), (30, 1, 0), (20, 5, 0.2), (12, 3, 0.5)], ids=str
)
def test_intervals_hold_the_mean_as_often_as_they_say(patients: int, runs: int, run_spread: float) -> None:
    assert 0.91 <= covered(patients, runs, run_spread) <= 0.99


def test_seeds_that_differ_make_the_interval_wider() -> None:
    rng = np.random.default_rng(2)
    patients = rng.standard_normal(30)
    alike, apart = np.tile(patients, (4, 1)), patients + np.array([[-0.5], [-0.2], [0.1], [0.6]])
    assert width(alike) == pytest.approx(width(patients), rel=0.05)
    assert width(apart) > 1.3 * width(apart.mean(axis=0))


def in_folds(seeds: np.ndarray, folds: int = 5) -> np.ndarray:
    """Runs of each seed (seeds, patients) that have a part of the patients each, as a cross-validation has them."""
    parts = np.full((folds * len(seeds), seeds.shape[1]), np.nan)
    for row, part in enumerate(parts):
        seed, fold = divmod(row, folds)
        part[fold::folds] = seeds[seed, fold::folds]
    return parts


def test_folds_are_one_run_or_wider() -> None:
    """Patients that fall into folds as it happens are no less certain than in one run, but for the few folds there are."""
    whole = np.random.default_rng(3).standard_normal((2, 20))
    for seeds in (whole[:1], whole):
        parted, together = interval_of(in_folds(seeds)), interval_of(seeds)
        assert parted.low <= together.low < together.high <= parted.high


@pytest.mark.parametrize("folds", [3, 5])
def test_intervals_of_folds_know_of_the_luck_of_each_training(folds: int) -> None:
    """A training's luck is half of what patients differ by; patients alone would miss the mean more than six times too often."""
    rng = np.random.default_rng(6)
    hits = alone = 0
    for seed in range(300):
        luck = 0.5 * rng.standard_normal(folds)
        values = rng.standard_normal(30 * folds) + np.tile(luck, 30)
        parted, together = (mean_interval(runs, draws=400, seed=seed) for runs in (in_folds(values[None], folds), values))
        assert parted is not None
        assert together is not None
        hits += parted.low <= 0 <= parted.high
        alone += together.low <= 0 <= together.high
    assert hits / 300 >= 0.91 > 0.7 > alone / 300


def test_a_small_fold_counts_for_as_much_as_it_has_patients() -> None:
    """Without any luck, one of two patients beside four of a hundred widens the interval little."""
    ratios = []
    for seed in range(40):
        values = np.random.default_rng(seed).standard_normal(402)
        runs = np.full((5, 402), np.nan)
        for row, part in enumerate(np.split(np.arange(402), [100, 200, 300, 400])):
            runs[row, part] = values[part]
        ratios.append(width(runs) / width(values))
    assert 1 <= np.median(ratios) < 1.5


@given(values=tables())
@laws
def test_equal_figures_cannot_be_told_apart(values: np.ndarray) -> None:
    found = paired(values, values.copy())
    assert found.patients == found.equal == present(values)
    assert found.better == found.worse == 0
    if found.patients:
        assert found.difference == 0
    if found.patients >= LEAST_PATIENTS:
        assert (found.interval, found.p_value) == (Interval(0, 0), 1.0)


@given(a=tables(), data=st.data())
@laws
def test_exchanging_both_sides_turns_the_sign(a: np.ndarray, data: st.DataObject) -> None:
    b = data.draw(arrays(np.float64, a.shape, elements=st.one_of(figures, figures, st.just(math.nan))))
    there, back = paired(a, b), paired(b, a)
    both = np.isfinite(a - b)
    assert there.patients == back.patients == both.any(axis=0).sum() == there.better + there.worse + there.equal
    assert (there.better, there.worse) == (back.worse, back.better)
    assert there.difference == pytest.approx(-back.difference, nan_ok=True)
    assert (there.interval is None) == (there.p_value is None) == (there.patients < LEAST_PATIENTS)
    if there.p_value is not None:
        assert there.p_value == pytest.approx(back.p_value)
        assert 0 < there.p_value <= 1


@given(a=tables(), limit=st.floats(0.1, 2))
@laws
def test_no_interval_leaves_what_differences_can_be(a: np.ndarray, limit: float) -> None:
    b = np.where(np.arange(len(a))[:, None] % 2, a, a - limit)  # seeds that disagree as much as can be
    free, held = paired(a, b), paired(a, b, limit)
    assert replace(held, interval=None) == replace(free, interval=None)
    if held.interval is not None:
        assert free.interval is not None
        expected = np.clip([free.interval.low, free.interval.high], -limit, limit)
        assert [held.interval.low, held.interval.high] == pytest.approx(expected)


def test_what_the_test_says_by_hand() -> None:
    """Five patients, all better: of 32 ways to give signs two are as extreme. Rounding errors are no differences."""
    a = np.array([0.91, 0.92, 0.93, 0.94, 0.95])
    found = paired(a, a - [0.01, 0.02, 0.03, 0.04, 0.05])
    assert (found.better, found.worse, found.equal, found.patients) == (5, 0, 0, 5)
    assert found.p_value == pytest.approx(2 / 32)
    assert found.difference == pytest.approx(0.03)
    assert found.interval is not None
    assert found.interval.low > 0
    same = paired(np.array([0.1 + 0.2] * 5), np.array([0.3] * 5))
    assert (same.equal, same.p_value, same.interval) == (5, 1.0, Interval(0, 0))
    even = paired(np.tile([[0.3], [-0.1], [-0.2]], 5), np.zeros((3, 5)))
    assert (even.equal, even.better, even.worse, even.p_value) == (5, 0, 0, 1.0)
    few = paired(a[:4], a[:4] - 0.1)
    assert (few.difference, few.interval, few.p_value) == (pytest.approx(0.1), None, None)
    none = paired(np.full((2, 3), np.nan), np.zeros((2, 3)))
    assert math.isnan(none.difference)
    assert none.patients == 0


def test_pairs_have_one_shape() -> None:
    with pytest.raises(ValueError, match="no pairs"):
        paired(np.zeros((2, 5)), np.zeros((1, 5)))


def test_cases_of_a_patient_are_averaged() -> None:
    means = by_patient(np.array([0.9, 0.2, 0.7, np.nan, np.nan]), ["b", "a", "b", "a", "c"])
    assert list(means) == ["b", "a", "c"]
    assert means == pytest.approx({"b": 0.8, "a": 0.2, "c": math.nan}, nan_ok=True)
