"""Whether one choice beats another: the same cases, paired by patient and run, figure by figure."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from lungseg.errors import UserError
from lungseg.evaluation.tables import Cases
from lungseg.imaging.pairs import common_stem
from lungseg.metrics.cases import HIGHER_IS_BETTER, SIGNED, largest_difference
from lungseg.metrics.statistics import Paired, by_patient, paired

SURE = 0.05  # of a p value
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """A figure of A against that of B; of a signed one the size counts.

    Attributes:
        a, b: means over runs and patients.
        gain: A's over B's, positive where A is better; its ``better`` and ``worse`` are patients.
        winner: ``A``, ``B``, or empty where the data cannot tell or are too few.
    """

    figure: str
    a: float
    b: float
    gain: Paired
    winner: str


@dataclass(frozen=True)
class CasePair:
    """A case in a run of A and of B, with the figures that both have, and the names of those that one alone has."""

    run: int
    name: str
    patient: str
    figures: dict[str, tuple[float, float]]
    of_one: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """What came of it.

    Attributes:
        is_repeated: most patients are in more than one run: runs are seeds, and no folds.
        only_a, only_b: names of cases, once each, that the other side lacks in the same run.
        tolerances: of the surface Dice in both, which is left out where they differ.
    """

    outcomes: tuple[Outcome, ...]
    cases: tuple[CasePair, ...]
    runs: int
    is_repeated: bool
    patients: int
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    tolerances: tuple[float, ...]


def compare(a: Sequence[Cases], b: Sequence[Cases]) -> Comparison:
    """The runs of one choice against those of another, the first against the first and so on.

    A wins a figure if the 95 % interval of the mean difference excludes 0 and Wilcoxon's p is below ``SURE``. Where patients come
    in several runs, as with seeds, the interval alone decides, which is over runs and patients.

    Raises:
        UserError: there are not as many runs on both sides, or two share no case or no figure.
    """
    if len(a) != len(b):
        raise UserError(f"A has {len(a)} runs and B {len(b)}: give as many of both, those of one seed at the same place.")
    matched = [_matched(own, other, run) for run, (own, other) in enumerate(zip(a, b, strict=True), 1)]
    cases = tuple(case for run, (own, other, pairs) in enumerate(matched, 1) for case in _cases(own, other, pairs, run))
    runs_of = Counter(patient for _, patient in {(case.run, case.patient) for case in cases})
    is_repeated = median(runs_of.values()) > 1
    outcomes = tuple(found for figure in HIGHER_IS_BETTER if (found := _outcome(figure, cases, len(a), is_repeated)) is not None)
    if not outcomes:
        raise UserError("A and B share no figure: score both with lungseg evaluate, and compare its folders.")
    only_a = dict.fromkeys(name for own, _, pairs in matched for i, name in enumerate(own.names) if i not in dict(pairs))
    taken = [{other for _, other in pairs} for _, _, pairs in matched]
    only_b = dict.fromkeys(
        name for (_, own, _), used in zip(matched, taken, strict=True) for i, name in enumerate(own.names) if i not in used
    )
    patients, tolerances = len({case.patient for case in cases}), sorted({one.tolerance for one in (*a, *b)})
    return Comparison(outcomes, cases, len(a), is_repeated, patients, tuple(only_a), tuple(only_b), tuple(tolerances))


def _matched(a: Cases, b: Cases, run: int) -> tuple[Cases, Cases, list[tuple[int, int]]]:
    """Both tables and the rows in them that are of one case: by name, else by names without suffixes, if each is of one only."""
    for key in (str, _stem):
        ours, theirs = ([key(name) for name in table.names] for table in (a, b))
        once = set.intersection(*({name for name, count in Counter(names).items() if count == 1} for names in (ours, theirs)))
        rows = {name: row for row, name in enumerate(theirs)}
        pairs = [(row, rows[name]) for row, name in enumerate(ours) if name in once]
        if pairs:
            return a, b, pairs
    where = f" in run {run}" if run > 1 else ""
    raise UserError(f"A and B share no case{where}: compare what was made of the same images (cases are matched by name).")


def _stem(name: str) -> str:
    return Path(name).with_name(common_stem(Path(name))).as_posix()


def _cases(a: Cases, b: Cases, pairs: Sequence[tuple[int, int]], run: int) -> Iterator[CasePair]:
    shared = [figure for figure in HIGHER_IS_BETTER if figure in a.columns and figure in b.columns]
    if a.tolerance != b.tolerance:
        shared = [figure for figure in shared if not figure.startswith("nsd")]
    for own, other in pairs:
        values = {figure: (float(a.columns[figure][own]), float(b.columns[figure][other])) for figure in shared}
        only_b_knows = a.patients[own] == a.names[own] and b.patients[other] != b.names[other]
        patient = b.patients[other] if only_b_knows else a.patients[own]
        of_both = {figure: both for figure, both in values.items() if np.isfinite(both).all()}
        of_one = tuple(figure for figure, both in values.items() if np.isfinite(both).sum() == 1)
        yield CasePair(run, a.names[own], patient, of_both, of_one)


def _outcome(figure: str, cases: Sequence[CasePair], runs: int, is_repeated: bool) -> Outcome | None:
    have = [case for case in cases if figure in case.figures]
    if not have:
        return None
    patients = list(dict.fromkeys(case.patient for case in have))
    a, b = (np.full((runs, len(patients)), np.nan) for _ in range(2))
    for run in range(runs):
        own = [case for case in have if case.run == run + 1]
        for side, table in enumerate((a, b)):
            values = np.array([case.figures[figure][side] for case in own])
            means = by_patient(np.abs(values) if figure in SIGNED else values, [case.patient for case in own])
            for patient, mean in means.items():
                table[run, patients.index(patient)] = mean
    sign = 1 if HIGHER_IS_BETTER[figure] else -1
    gain = paired(sign * a, sign * b, largest_difference(figure))
    return Outcome(figure, float(np.nanmean(a)), float(np.nanmean(b)), gain, winner_of(gain, is_repeated))


def winner_of(gain: Paired, is_repeated: bool) -> str:
    """``A`` or ``B`` by the rule of ``compare``, of the gain of A over B; empty where the data cannot tell or are too few."""
    if gain.interval is None or gain.p_value is None or (not is_repeated and gain.p_value >= SURE):
        return ""
    return "A" if gain.interval.low > 0 else "B" if gain.interval.high < 0 else ""
