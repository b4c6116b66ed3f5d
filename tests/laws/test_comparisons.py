"""Laws of comparisons: what is said of A and B is said the other way round of B and A, and by nothing but the cases they share."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lungseg.evaluation.compare import Comparison, compare
from lungseg.evaluation.tables import Cases
from lungseg.evaluation.verdicts import left_out, sentences

QUICK = settings(deadline=None, max_examples=20)
SEEDS = st.integers(0, 2**20)


def cases(seed: int, patients: int = 8, of_each: int = 2) -> Cases:
    """Scores drawn at random, some of them missing."""
    rng = np.random.default_rng(seed)
    names = tuple(f"p{i}_{j}" for i in range(patients) for j in range(of_each))
    columns = {figure: rng.normal(0.5, 0.1, len(names)) for figure in ("iou", "hd95_mm", "area_error")}
    columns["iou"][rng.random(len(names)) < 0.1] = np.nan
    return Cases(names, tuple(name.split("_")[0] for name in names), ("",) * len(names), columns)


def shuffled(table: Cases, seed: int) -> Cases:
    order = np.random.default_rng(seed).permutation(len(table.names))
    texts = [tuple(column[i] for i in order) for column in (table.names, table.patients, table.sources)]
    return Cases(texts[0], texts[1], texts[2], {figure: values[order] for figure, values in table.columns.items()})


def facts(found: Comparison) -> dict[str, tuple[float, ...]]:
    return {one.figure: (one.a, one.b, one.gain.difference, one.gain.better, one.gain.worse) for one in found.outcomes}


@QUICK
@given(a=SEEDS, b=SEEDS)
def test_a_against_b_is_b_against_a_turned(a: int, b: int) -> None:
    there, back = compare([cases(a)], [cases(b)]), compare([cases(b)], [cases(a)])
    for one, other in zip(there.outcomes, back.outcomes, strict=True):
        assert np.isclose(one.gain.difference, -other.gain.difference)
        assert (one.gain.better, one.gain.worse) == (other.gain.worse, other.gain.better)
        assert {"A": "B", "B": "A", "": ""}[one.winner] == other.winner


@QUICK
@given(a=SEEDS, b=SEEDS, order=SEEDS)
def test_the_order_of_the_rows_does_not_count(a: int, b: int, order: int) -> None:
    plain, mixed = facts(compare([cases(a)], [cases(b)])), facts(compare([cases(a)], [shuffled(cases(b), order)]))
    for figure, values in plain.items():
        np.testing.assert_allclose(values, mixed[figure])


@QUICK
@given(a=SEEDS)
def test_nothing_beats_itself(a: int) -> None:
    found = compare([cases(a)], [cases(a)])
    assert not any(one.winner for one in found.outcomes)
    assert found.only_a == found.only_b == ()


@QUICK
@given(a=SEEDS, shift=st.sampled_from([0.0, 0.01]), runs=st.integers(1, 2), patients=st.sampled_from([3, 8]))
def test_equals_are_told_from_what_differs_anywhere(a: int, shift: float, runs: int, patients: int) -> None:
    own = replace(cases(a, patients), columns={"iou": np.full(2 * patients, 0.5), "dice": np.full(2 * patients, 0.6)})
    other = replace(own, columns={**own.columns, "dice": own.columns["dice"] + shift * (np.arange(2 * patients) == a % 6)})
    first, second, *rest = sentences(compare([own] * runs, [other] * runs))
    assert first == f"{2 * patients * runs} cases of {patients} patients{' in 2 runs' if runs > 1 else ''} are paired."
    assert (second == "A and B are equal in every figure.") == (shift == 0)
    assert bool(rest) == (shift > 0 and patients > 3)


def test_figures_have_their_unit_and_those_of_too_few_patients_are_no_tests() -> None:
    own = replace(cases(1, of_each=1), columns={"iou": np.linspace(0.5, 0.9, 8), "false_lung_pixels": np.arange(8.0)})
    worse = replace(own, columns={**own.columns, "false_lung_pixels": np.arange(8.0) + 1454.5})
    said = list(sentences(compare([worse], [own])))
    assert said[1].startswith("B beats A in false lung by 1454.5 px (")
    assert "2 figures were tested" in said[3]
    said = list(sentences(compare([worse, worse], [own, own])))
    assert "p = " not in "".join(said)
    assert "p < " not in "".join(said)
    assert "2 figures were tested by intervals over runs and patients" in said[3]
    few = replace(worse, columns={**own.columns, "false_lung_pixels": np.where(np.arange(8) < 2, 3.0, np.nan)})
    said = list(sentences(compare([few], [own])))
    assert said[1].endswith("and false lung (only 2 patients have it).")
    assert "1 figure was tested" in said[2]


def test_seeds_that_disagree_leave_no_impossible_interval() -> None:
    low, high = (replace(cases(1), columns={"iou": np.full(len(cases(1).names), iou)}) for iou in (0.05, 0.95))
    [outcome] = compare([low, high], [high, low]).outcomes
    assert outcome.gain.interval is not None
    assert (outcome.gain.interval.low, outcome.gain.interval.high) == (-1, 1)


@QUICK
@given(a=SEEDS, gain=st.floats(0.01, 1))
def test_who_is_always_better_wins_whichever_way_is_better(a: int, gain: float) -> None:
    own = cases(a)
    better = replace(own, columns={"iou": own.columns["iou"] + gain, "hd95_mm": own.columns["hd95_mm"] - gain})
    assert [one.winner for one in compare([better], [own]).outcomes] == ["A", "A"]
    assert [one.winner for one in compare([own, own], [better, better]).outcomes] == ["B", "B"]


@QUICK
@given(a=SEEDS)
def test_signed_figures_count_by_their_size(a: int) -> None:
    own = cases(a)
    turned = replace(own, columns={"area_error": -own.columns["area_error"]})
    [outcome] = compare([own], [turned]).outcomes
    assert (outcome.gain.difference, outcome.winner) == (0, "")


@QUICK
@given(a=SEEDS, b=SEEDS)
def test_cases_of_one_side_change_nothing(a: int, b: int) -> None:
    whole, part = cases(a, patients=9), cases(b)
    kept = len(part.names)
    cut = Cases(
        whole.names[:kept], whole.patients[:kept], whole.sources[:kept], {key: v[:kept] for key, v in whole.columns.items()}
    )
    found = compare([whole], [part])
    assert found.only_a == whole.names[kept:]
    assert facts(found) == facts(compare([cut], [part]))


def test_a_figure_that_one_side_lacks_is_not_lost_without_a_word() -> None:
    own = replace(cases(1), columns={"iou": np.full(16, 0.5), "dice": np.full(16, 0.6)})
    other = replace(own, columns={**own.columns, "iou": np.where(np.arange(16) < 2, np.nan, 0.5)})
    assert list(left_out(compare([own], [own]))) == []
    for a, b in ((own, other), (other, own)):
        assert list(left_out(compare([a], [b]))) == ["2 cases without IoU on one side, left out of it: p0_0, p0_1"]
    assert list(left_out(compare([other], [other]))) == []


def test_names_are_matched_without_their_suffixes_if_need_be() -> None:
    own = cases(1)
    other = replace(own, names=tuple(f"{name}.nii.gz" for name in own.names))
    assert len(compare([own], [other]).cases) == len(own.names)


def test_cases_of_nobody_known_are_said_to_be_so_whatever_their_names_end_in() -> None:
    own = cases(1, of_each=1)
    names = tuple(f"{name}.nii.gz" for name in own.names)
    other = replace(cases(2, of_each=1), names=names, patients=names)
    own = replace(own, patients=own.names)
    known = replace(own, patients=tuple(name[:2] for name in own.names))
    for a, b in ((own, other), (other, own)):
        assert list(sentences(compare([a], [b])))[-1].startswith("No table says whose a case is")
        assert "No table" not in " ".join(sentences(compare([known], [b])))
        assert "No table" not in " ".join(sentences(compare([a], [known])))


def test_names_that_differ_in_their_suffix_alone_are_no_pair_of_others() -> None:
    names = ("scan.nii", "scan.nrrd", "other.nii")
    a, b = (
        Cases(own, own, ("",) * len(own), {"iou": np.array(values)})
        for own, values in ((names, [0.1, 0.2, 0.3]), (("scan.png", "other.png"), [0.4, 0.5]))
    )
    found = compare([a], [b])
    assert [(case.name, case.figures["iou"]) for case in found.cases] == [("other.nii", (0.3, 0.5))]
    assert (found.only_a, found.only_b) == (names[:2], ("scan.png",))


def test_runs_are_folds_also_where_one_patient_is_in_two() -> None:
    patients = tuple("abcdefghij")
    folds = [Cases(own, own, ("",) * len(own), {"iou": np.linspace(0.5, 0.9, len(own))}) for own in (patients[:6], patients[5:])]
    assert not compare(folds, folds).is_repeated
    assert compare([folds[0], folds[0]], [folds[0], folds[0]]).is_repeated
