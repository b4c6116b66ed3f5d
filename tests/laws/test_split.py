"""Laws of the split: parts are disjoint, patients stay whole, the draw depends on the cases and its seed alone."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import ChestCase
from lungseg.data.split import Holdout, Split, split_validation
from lungseg.errors import UserError

# Slices of up to twelve patients, some with many and some with one; None is a slice whose patient nobody knows.
PATIENTS = st.lists(st.sampled_from([None, *"ABCDEFGHIJKL"]), min_size=2, max_size=30)
CASES = PATIENTS.map(lambda patients: [ChestCase(f"slice {i}", patient) for i, patient in enumerate(patients)])
SEVERAL = CASES.filter(lambda cases: len({group(case) for case in cases}) > 1)
FRACTIONS = st.floats(0.001, 0.999)
SEEDS = st.integers(0, 2**32 - 1)


def group(case: ChestCase) -> str:
    return case.patient or case.name


@given(cases=SEVERAL, fraction=FRACTIONS, seed=SEEDS)
def test_every_case_is_on_one_side_and_every_patient_too(cases: list[ChestCase], fraction: float, seed: int) -> None:
    train, val = split_validation(cases, Holdout(fraction, None, seed))
    assert train
    assert val
    assert sorted([*train, *val], key=cases.index) == cases
    assert not {group(case) for case in train} & {group(case) for case in val}
    Split(train, val, ())


@given(cases=SEVERAL, fraction=FRACTIONS, seed=SEEDS)
def test_the_fraction_counts_patients(cases: list[ChestCase], fraction: float, seed: int) -> None:
    patients = {group(case) for case in cases}
    _, val = split_validation(cases, Holdout(fraction, None, seed))
    drawn = len({group(case) for case in val})
    assert abs(drawn - fraction * len(patients)) <= 0.5 or drawn in (1, len(patients) - 1)


@given(cases=SEVERAL, fraction=FRACTIONS, seed=SEEDS, data=st.data())
def test_the_order_of_the_files_does_not_matter(cases: list[ChestCase], fraction: float, seed: int, data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(cases))
    once, again = split_validation(cases, Holdout(fraction, None, seed)), split_validation(shuffled, Holdout(fraction, None, seed))
    assert [set(part) for part in once] == [set(part) for part in again]
    assert [list(part) for part in again] == [[case for case in shuffled if case in part] for part in once]


def test_the_seed_draws() -> None:
    cases = [ChestCase(f"{patient}-{i}", patient) for patient in "ABCDEFGH" for i in range(2)]
    drawn = [frozenset(case.patient for case in split_validation(cases, Holdout(0.25, None, seed))[1]) for seed in range(60)]
    assert {len(patients) for patients in drawn} == {2}
    assert len(set(drawn)) > 10
    assert frozenset.union(*drawn) == set("ABCDEFGH")


@given(cases=SEVERAL, fraction=FRACTIONS, seed=SEEDS, data=st.data())
def test_named_patients_are_the_validation_set(cases: list[ChestCase], fraction: float, seed: int, data: st.DataObject) -> None:
    patients = sorted({group(case) for case in cases})
    named = data.draw(st.sets(st.sampled_from(patients), min_size=1, max_size=len(patients) - 1))
    train, val = split_validation(cases, Holdout(fraction, tuple(sorted(named)), seed))
    assert {group(case) for case in val} == named
    assert {group(case) for case in train} == set(patients) - named


@pytest.mark.parametrize(
    ("fraction", "named", "said"),
    [
        (0.1, ["B", "X", "Y"], r"data\.val_patients.* X, Y.* 3 patients \(A, B, C"),
        (0.1, ["A", "B", "C"], "leaves 0 cases for training and 3 for validation"),
        (0.1, [], "leaves 3 cases for training and 0 for validation"),
        (0.0, None, r"val_fraction=0\.0"),
        (1.0, None, r"val_fraction=1\.0"),
        (float("nan"), None, "val_fraction=nan"),
    ],
)
def test_what_cannot_be_divided_is_refused(fraction: float, named: list[str] | None, said: str) -> None:
    with pytest.raises(UserError, match=said):
        split_validation([ChestCase(name, name) for name in "ABC"], Holdout(fraction, None if named is None else tuple(named), 0))


def test_one_patient_is_not_enough() -> None:
    with pytest.raises(UserError, match=r"only one patient or case \(A\)"):
        split_validation([ChestCase("1", "A"), ChestCase("2", "A")], Holdout(0.1, None, 0))


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.split_seed=-1"):
        split_validation([ChestCase("1"), ChestCase("2")], Holdout(0.1, None, -1))


@given(cases=SEVERAL, seed=SEEDS, data=st.data())
def test_folds_keep_every_patient_once_and_deal_each_source_out_evenly(
    cases: list[ChestCase], seed: int, data: st.DataObject
) -> None:
    sources = {patient: data.draw(st.sampled_from("XYZ")) for patient in sorted({group(case) for case in cases})}
    cases = [replace(case, source=sources[group(case)]) for case in cases]
    folds = data.draw(st.integers(2, min(6, len(sources))))
    kept = [
        {group(case) for case in split_validation(cases, Holdout(seed=seed, folds=folds, fold=fold))[1]} for fold in range(folds)
    ]
    assert sorted(patient for fold in kept for patient in fold) == sorted(sources)
    for names in (sources, *({one for one in sources if sources[one] == source} for source in "XYZ")):
        counts = [len(fold & set(names)) for fold in kept]
        assert max(counts) - min(counts) <= 1
    shuffled = data.draw(st.permutations(cases))
    assert {group(case) for case in split_validation(shuffled, Holdout(seed=seed, folds=folds))[1]} == kept[0]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"folds": 1}, r"data\.folds=1 must be 2 or more"),
        ({"folds": 5, "fold": 5}, r"data\.fold=5 must be 0 to 4"),
        ({"folds": 5, "fold": -1}, r"data\.fold=-1 must be 0 to 4"),
        ({"fold": 2}, r"data\.fold=2 must be 0 without data\.folds"),
        ({"folds": 5, "patients": ("A",)}, r"data\.folds must be null beside data\.val_patients"),
        ({"folds": 4}, r"data\.folds=4 must be at most 3"),
    ],
)
def test_folds_that_cannot_be_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        split_validation([ChestCase(name, name) for name in "ABC"], Holdout(**given))


@pytest.mark.parametrize("parts", [("train", "val"), ("train", "test"), ("val", "test")])
def test_a_patient_in_two_parts_stops_the_run(parts: tuple[str, str]) -> None:
    cases = {part: (ChestCase(f"{part}/1", part), ChestCase(f"{part}/2")) for part in ("train", "val", "test")}
    Split(**cases)  # slices without a patient belong to nobody in common
    for part in parts:
        cases[part] += (ChestCase(f"{part}/3", "the same"),)
    with pytest.raises(UserError, match=f"1 patient is both in {parts[0]} and in {parts[1]} .the same"):
        Split(**cases)


def test_the_table_names_every_case() -> None:
    split = Split((ChestCase("a", "P"),), (ChestCase("b", source="other"),), ())
    assert split.as_table() == {
        "train": [{"name": "a", "patient": "P", "source": "chests"}],
        "val": [{"name": "b", "patient": None, "source": "other"}],
        "test": [],
    }
