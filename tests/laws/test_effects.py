"""Laws of effects: what is added to one value is what is found, equals cannot be told apart, and the order does not matter."""

import math
from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lungseg.evaluation.changes import sentence
from lungseg.evaluation.effects import Effect, effects, false_lung, score
from lungseg.evaluation.groups import only
from lungseg.evaluation.jobs import Job
from lungseg.evaluation.tables import Cases
from lungseg.metrics.statistics import Interval, Paired

PATIENTS = [f"p{i}" for i in range(8)]


def cases(iou: Mapping[str, float], source: str = "") -> Cases:
    names = tuple(iou)
    return Cases(names, names, (source,) * len(names), {"iou": np.array(list(iou.values()), np.float64)})


def job(repeat: str, val: Cases | None, **named: str) -> Job:
    return Job("job", named, (repeat,), {}, {}, val, None, None)


def grid(shift: float, seed: int, folds: bool) -> list[Job]:
    """Two networks and two losses, three repeats; network b scores ``shift`` above a, whatever else."""
    rng = np.random.default_rng(seed)
    jobs = []
    for repeat, loss in product("012", ("dice", "bce")):
        patients = [f"{repeat}{name}" for name in PATIENTS] if folds else PATIENTS
        base = {patient: rng.uniform(0.3, 0.8) for patient in patients}
        jobs += [job(repeat, cases(base), net="a", loss=loss)]
        jobs += [job(repeat, cases({patient: iou + shift for patient, iou in base.items()}), net="b", loss=loss)]
    return jobs


@settings(max_examples=20, deadline=None)
@given(shift=st.floats(-0.2, 0.2), seed=st.integers(0, 99), folds=st.booleans())
def test_what_was_added_is_found(shift: float, seed: int, folds: bool) -> None:
    jobs = grid(shift, seed, folds)
    (effect,) = effects(jobs, {"net": ("b", "a")}, "iou")
    assert effect.gain.difference == pytest.approx(shift, abs=1e-9)
    assert (effect.pairs, effect.repeats, effect.is_repeated) == (6, 3, not folds)
    assert effect.gain.patients == (24 if folds else 8)
    assert effect.gain.interval is not None
    assert effect.gain.interval.low == pytest.approx(shift, abs=1e-9)
    (turned,) = effects(jobs[::-1], {"net": ("a", "b")}, "iou")
    assert turned.gain.difference == pytest.approx(-shift, abs=1e-9)
    assert (turned.gain.better, turned.gain.worse) == (effect.gain.worse, effect.gain.better)
    if abs(shift) > 1e-6:
        assert sentence(effect).startswith(
            f"net: {'b' if shift > 0 else 'a'} beats {'a' if shift > 0 else 'b'} by {abs(shift):.4f} IoU"
        )


def test_equals_cannot_be_told_apart() -> None:
    (effect,) = effects(grid(0.0, 0, False), {"net": ("a", "b")}, "iou")
    assert sentence(effect) == (
        "net: the data cannot tell a from b: the difference in IoU lies within +0.0000 to +0.0000 (8 patients, 6 pairs of jobs)."
    )


def test_only_what_is_equal_in_all_else_is_a_pair() -> None:
    """Network b with the other loss, another seed, or without a table has nothing to be compared with."""
    jobs = [
        job("0", cases({"p": 0.1}), net="a", loss="dice"),
        job("0", cases({"p": 0.9}), net="b", loss="bce"),
        job("1", cases({"p": 0.9}), net="b", loss="dice"),
        job("0", None, net="b", loss="dice"),
    ]
    assert effects(jobs, {"net": ("a", "b")}, "iou") == []
    found = effects([*jobs, job("0", cases({"p": 0.2, "q": 0.9}), net="b", loss="dice")], {"net": ("a", "b", "c")}, "iou")
    assert [(effect.one, effect.other, effect.gain.patients) for effect in found] == [("a", "b", 1)]
    assert found[0].gain.difference == pytest.approx(-0.1)  # q is on one side only
    assert "too few for an interval, so that the data cannot tell" in sentence(found[0])


@pytest.mark.parametrize("figure", ["nsd", "hd95_mm"])
def test_less_may_be_better(figure: str) -> None:
    """Of a distance the smaller wins, of a share the larger."""
    jobs = [
        job(seed, Cases(tuple(PATIENTS), tuple(PATIENTS), ("",) * 8, {figure: np.full(8, value)}), net=net)
        for seed, (net, value) in product("01", (("small", 0.25), ("large", 0.75)))
    ]
    (effect,) = effects(jobs, {"net": ("small", "large")}, figure)
    assert effect.gain.difference == (0.5 if figure == "hd95_mm" else -0.5)
    assert (effect.gain.better, effect.gain.worse) == ((8, 0) if figure == "hd95_mm" else (0, 8))


def test_a_test_that_does_not_agree_is_said() -> None:
    gain = Paired(0.02, Interval(0.01, 0.03), 0.2, 5, 3, 0, 8)
    assert sentence(Effect("net", "a", "b", "iou", gain, 1, 1, False)) == (
        "net: the data cannot tell a from b: the difference in IoU lies within +0.0100 to +0.0300, "
        "but Wilcoxon's test does not agree (8 patients, 1 pair of jobs)."
    )


def test_a_single_seed_is_said_to_be_one() -> None:
    paired = Paired(-0.02, Interval(-0.03, -0.01), 0.01, 1, 7, 0, 8)
    assert sentence(Effect("net", "a", "b", "iou", paired, 1, 1, False)) == (
        "net: b beats a by 0.0200 IoU (95 % interval 0.0100 to 0.0300; 8 patients, 1 pair of jobs). "
        "One run each, however: another seed may say otherwise."
    )


@given(values=st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=5), min_size=1, max_size=6))
def test_a_patient_counts_once_however_many_cases_it_has(values: Sequence[Sequence[float]]) -> None:
    names = [f"{patient}-{number}" for patient, one in enumerate(values) for number in range(len(one))]
    patients = tuple(name.partition("-")[0] for name in names)
    table = Cases(tuple(names), patients, ("",) * len(names), {"iou": np.array([iou for one in values for iou in one])})
    found = score([table, table], "iou")
    assert found is not None
    assert found.mean == pytest.approx(np.mean([np.mean(one) for one in values]))
    assert found.patients == len(values)
    assert (found.interval is None) == (len(values) < 5)


def test_a_source_is_scored_alone_and_a_missing_figure_not_at_all() -> None:
    tables = [cases({"p": 0.5, "q": math.nan}, "x"), cases({"p": 0.9}, "y"), None]
    of_x, of_z = ([only(table, [source]) for table in tables if table is not None] for source in "xz")
    one, both = score(of_x, "iou"), score(tables, "iou")
    assert one is not None
    assert (one.mean, one.patients) == (0.5, 1)
    assert both is not None
    assert (both.mean, both.patients) == (pytest.approx(0.7), 1)  # a patient is known by name, as in a split
    assert score(of_z, "iou") is None
    assert score(tables, "nsd") is None


def test_false_lung_is_a_share_of_what_has_no_lung() -> None:
    def with_pixels(*pixels: float) -> Cases:
        names = tuple(map(str, range(len(pixels))))
        return Cases(names, names, ("",) * len(names), {"false_lung_pixels": np.array(pixels)})

    assert false_lung([with_pixels(0, 3, math.nan), with_pixels(0, 0, 0, 1), None]) == pytest.approx((1 / 2 + 1 / 4) / 2)
    assert math.isnan(false_lung([with_pixels(math.nan), cases({"p": 0.5})]))
