"""What figures of some patients and some runs say of others: intervals of a mean, and differences of pairs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEAST_PATIENTS = 5  # fewer say nothing of others: no interval, no test
CONFIDENCE = 0.95
DIGITS = 12  # figures that differ by less are equal: their rounding errors must not count as better or worse


@dataclass(frozen=True)
class Interval:
    """Of a mean, 95 %."""

    low: float
    high: float


@dataclass(frozen=True)
class Paired:
    """How much two choices, a and b, differ on the same patients.

    Attributes:
        difference: mean of a - b over all runs and patients that both have.
        interval: of the difference; None with too few patients.
        p_value: of Wilcoxon's signed rank test (1945) of the patients' mean differences, two-sided; None with too few patients.
        better, worse, equal: patients whose mean difference is above, below and at 0.
        patients: those that both have.
    """

    difference: float
    interval: Interval | None
    p_value: float | None
    better: int
    worse: int
    equal: int
    patients: int


def mean_interval(
    values: NDArray[np.float64], within: tuple[float, float] = (-np.inf, np.inf), draws: int = 10_000, seed: int = 0
) -> Interval | None:
    """Where the mean may lie with other patients, and other runs where there are several: a bootstrap interval of 95 %.

    Patients and runs are drawn apart from each other, and an entry counts as often as its run times as often as its
    patient (Owen, Ann Appl Stat 1:386, 2007). Percentiles of such means alone are too narrow for few patients or runs; so one
    fewer is drawn than there are (Rao & Wu, JASA 83:231, 1988), and they are stretched as Student's t is beside a normal
    distribution. Two runs stretch them up to sixfold. Runs that share no patient, as folds, are parts of one run, and of the
    luck of each training its patients tell nothing: so the interval is no narrower than that of the runs' means by Student's t.

    Args:
        values: (runs, patients), nan where a patient is not in a run; (patients,) of one run.
        within: what the mean cannot leave, and the interval neither.

    Returns:
        None where fewer than ``LEAST_PATIENTS`` have a value.
    """
    values = _present(values)
    if values.shape[1] < LEAST_PATIENTS:
        return None
    apart, values = (one[:, np.lexsort(one)] for one in (values, _joined(values)))  # sums and draws do not see the patients' order
    rng = np.random.default_rng(seed)
    there = np.isfinite(values).astype(np.float64)
    by_run, by_patient = (_times_drawn(rng, number, draws) for number in values.shape)
    total = ((by_run @ np.where(there > 0, values, 0)) * by_patient).sum(axis=1)
    weight = ((by_run @ there) * by_patient).sum(axis=1)
    low, high = np.quantile(total[weight > 0] / weight[weight > 0], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    mean, stretch = float(np.nanmean(values)), _stretch(values)
    low, high = mean + stretch * (low - mean), mean + stretch * (high - mean)
    if len(values) < len(apart):
        half = _half_width(apart, mean)
        low, high = min(low, mean - half), max(high, mean + half)
    low, high = np.clip([low, high], *within)
    return Interval(float(low), float(high))


def paired(a: NDArray[np.float64], b: NDArray[np.float64], limit: float = np.inf) -> Paired:
    """Differences of two choices in the same runs and patients; an entry that is missing on one side counts on neither.

    Args:
        a, b: (runs, patients), nan where a patient is not in a run; (patients,) of one run.
        limit: what two values cannot differ by more than, nor does the interval.

    Raises:
        ValueError: the shapes differ.
    """
    if a.shape != b.shape:
        raise ValueError(f"figures of shapes {a.shape} and {b.shape} are no pairs")
    differences = _present(np.round(a - b, DIGITS))
    means = np.asarray(np.nanmean(differences, axis=0)).round(DIGITS) if differences.size else np.zeros(0)
    p_value = None
    if len(means) >= LEAST_PATIENTS:
        p_value = float(stats.wilcoxon(means[means != 0]).pvalue) if means.any() else 1.0
    difference = float(np.nanmean(differences)) if differences.size else np.nan
    turn = 1 if difference >= 0 else -1  # so that b - a has the interval of a - b turned round
    interval = mean_interval(turn * differences, (-limit, limit))
    return Paired(
        difference,
        interval if interval is None or difference >= 0 else Interval(-interval.high, -interval.low),
        p_value=p_value,
        better=int(np.count_nonzero(means > 0)),
        worse=int(np.count_nonzero(means < 0)),
        equal=int(np.count_nonzero(means == 0)),
        patients=len(means),
    )


def by_patient(values: NDArray[np.float64], patients: Sequence[str]) -> dict[str, float]:
    """Each patient's mean over its cases (n,), nan where none has a value; in the order in which patients first come."""
    found: dict[str, list[float]] = {patient: [] for patient in patients}
    for value, patient in zip(values.tolist(), patients, strict=True):
        if np.isfinite(value):
            found[patient].append(value)
    return {patient: float(np.mean(own)) if own else np.nan for patient, own in found.items()}


def _present(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(runs, patients) without runs and patients that have no value at all."""
    values = np.atleast_2d(values)
    there = np.isfinite(values)
    return values[there.any(axis=1)][:, there.any(axis=0)]


def _joined(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(runs, patients), where a run that shares no patient with one before it is taken up by that one."""
    joined: list[NDArray[np.float64]] = []
    for run in values:
        for other in joined:
            if not (np.isfinite(run) & np.isfinite(other)).any():
                other[np.isfinite(run)] = run[np.isfinite(run)]
                break
        else:
            joined.append(run.copy())
    return np.array(joined)


def _half_width(runs: NDArray[np.float64], mean: float) -> float:
    """Half of Student's interval of the means of runs, each of which counts as often as it has patients."""
    share = np.isfinite(runs).sum(axis=1) / np.isfinite(runs).sum()
    freedom = len(runs) - 1
    error = np.sqrt((share**2 * (np.nanmean(runs, axis=1) - mean) ** 2).sum() * len(runs) / freedom)
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * error)


def _stretch(values: NDArray[np.float64]) -> float:
    """How much wider than normal the distribution of a mean over (runs, patients) is.

    Its variance comes from patients and from runs, whose degrees of freedom are put together after Satterthwaite (1946).
    """
    axes = [axis for axis in (0, 1) if values.shape[1 - axis] > 1]
    variances = np.array([np.nanmean(values, axis=axis).var(ddof=1) / values.shape[1 - axis] for axis in axes])
    freedom = np.array([values.shape[1 - axis] - 1 for axis in axes])
    together = variances.sum() ** 2 / (variances**2 / freedom).sum() if variances.any() else freedom.max()
    level = (1 + CONFIDENCE) / 2
    return float(stats.t.ppf(level, together) / stats.norm.ppf(level))


def _times_drawn(rng: np.random.Generator, number: int, draws: int) -> NDArray[np.float64]:
    """How often each of some is drawn with replacement, one fewer than there are: (draws, number). A single one stays."""
    drawn = rng.multinomial(max(number - 1, 1), np.full(number, 1 / number), size=draws)
    return drawn.astype(np.float64)
