"""What a choice scores over patients and runs, and what one setting changes with everything else equal."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from lungseg.evaluation.jobs import Job
from lungseg.evaluation.tables import Cases
from lungseg.metrics.cases import HIGHER_IS_BETTER, largest_difference, range_of
from lungseg.metrics.statistics import Interval, Paired, by_patient, mean_interval, paired

Patients = Mapping[str, float]  # a figure by patient


@dataclass(frozen=True)
class Score:
    """The mean of a figure over the patients and runs of a choice; its 95 % interval is None for few patients."""

    mean: float
    interval: Interval | None
    patients: int


@dataclass(frozen=True)
class Effect:
    """How much better ``one`` value of a setting is than the ``other`` in a figure, over pairs of jobs that differ in nothing else.

    Attributes:
        gain: over repeats (same seed, same fold) and patients, positive where ``one`` is better, also where less is better; the
            pairs of a repeat are averaged first.
        pairs: of jobs.
        repeats: seeds and folds among them.
        is_repeated: most patients come in several of these, as with seeds; of folds each patient comes once.
    """

    setting: str
    one: str
    other: str
    figure: str
    gain: Paired
    pairs: int
    repeats: int
    is_repeated: bool


def score(tables: Iterable[Cases | None], figure: str) -> Score | None:
    """Of the jobs of a choice, a table each; None where no patient has the figure."""
    values = patient_values(tables, figure)
    return Score(float(np.nanmean(values)), mean_interval(values, range_of(figure)), values.shape[1]) if values.size else None


def patient_values(tables: Iterable[Cases | None], figure: str) -> NDArray[np.float64]:
    """(runs, patients) of the jobs of a choice, nan where a patient is not in a run; empty where nobody has the figure."""
    return _matrix([_patients(cases, figure) for cases in tables if cases is not None])


def false_lung(tables: Iterable[Cases | None]) -> float:
    """The share of cases without lung in the truth where some was found, as a mean over runs; nan where there are none."""
    found = [cases.columns["false_lung_pixels"] for cases in tables if cases is not None and "false_lung_pixels" in cases.columns]
    shares = [float(np.mean(pixels[there] > 0)) for pixels in found if (there := np.isfinite(pixels)).any()]
    return float(np.mean(shares)) if shares else np.nan


def effects(jobs: Sequence[Job], varied: Mapping[str, Sequence[str]], figure: str, source: str | None = None) -> list[Effect]:
    """Of every varied setting every two of its values, as far as there are pairs; by validation alone."""
    scored = [(job, _patients(job.val, figure, source)) for job in jobs if job.val is not None]
    found = []
    for setting, values in varied.items():
        for one, other in combinations(values, 2):
            effect = _effect(scored, setting, one, other, figure)
            if effect is not None:
                found.append(effect)
    return found


def sources_of(jobs: Sequence[Job]) -> list[str]:
    """Where the cases of a validation come from, by name."""
    return sorted({source for job in jobs if job.val is not None for source in job.val.sources})


def _effect(scored: Sequence[tuple[Job, Patients]], setting: str, one: str, other: str, figure: str) -> Effect | None:
    first, second = (
        {job.rest(setting): (job.repeat, patients) for job, patients in scored if job.settings[setting] == value}
        for value in (one, other)
    )
    both = [rest for rest in first if rest in second]
    repeats: dict[tuple[str, ...], list[tuple[Patients, Patients]]] = {}
    for rest in both:
        (repeat, ours), (_, theirs) = first[rest], second[rest]
        shared = ours.keys() & theirs.keys()
        pair = ({patient: ours[patient] for patient in shared}, {patient: theirs[patient] for patient in shared})
        repeats.setdefault(repeat, []).append(pair)
    a = _matrix([_mean([ours for ours, _ in pairs]) for pairs in repeats.values()])
    b = _matrix([_mean([theirs for _, theirs in pairs]) for pairs in repeats.values()])
    if a.size == 0:
        return None
    sign = 1 if HIGHER_IS_BETTER[figure] else -1
    is_repeated = bool(np.median(np.isfinite(a).sum(axis=0)) > 1)
    gain = paired(sign * a, sign * b, largest_difference(figure))
    return Effect(setting, one, other, figure, gain, len(both), len(repeats), is_repeated)


def _patients(cases: Cases, figure: str, source: str | None = None) -> Patients:
    """Each patient's mean over its cases that have the figure, and come from this source."""
    values = cases.columns.get(figure)
    if values is None:
        return {}
    rows = [i for i, named in enumerate(cases.sources) if source in (None, named) and np.isfinite(values[i])]
    return by_patient(values[rows], [cases.patients[i] for i in rows])


def _mean(several: Sequence[Patients]) -> Patients:
    patients = set().union(*several)
    return {patient: float(np.mean([one[patient] for one in several if patient in one])) for patient in patients}


def _matrix(runs: Sequence[Patients]) -> NDArray[np.float64]:
    """(runs, patients), nan where a patient is not in a run."""
    columns = sorted(set().union(*runs))
    return np.array([[run.get(patient, np.nan) for patient in columns] for run in runs], np.float64).reshape(
        len(runs), len(columns)
    )
