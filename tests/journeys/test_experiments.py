"""Journeys of experiments that are sweeps: no flag is needed, the command line wins, one job can be shown or run alone."""

from pathlib import Path

import pytest
import yaml
from helpers import PHANTOMS, assert_refused, lungseg, train

from lungseg.commands.compose import asks_for_a_sweep
from lungseg.commands.plan import planned
from lungseg.config import config_folder

FOLDER = config_folder() / "experiment"
SWEEPS = {path.stem for path in FOLDER.glob("*.yaml") if "hydra" in yaml.safe_load(path.read_text(encoding="utf-8"))}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("experiment", sorted(path.stem for path in FOLDER.glob("*.yaml")))
def test_an_experiment_says_itself_that_it_is_a_sweep(experiment: str) -> None:
    assert {"ablation", "crossval", "convergence"} <= SWEEPS
    assert asks_for_a_sweep([f"experiment={experiment}"]) == (experiment in SWEEPS)
    assert asks_for_a_sweep([f"experiment={experiment}", "-m"])
    assert not asks_for_a_sweep([f"experiment={experiment}", "experiment=quick"])
    assert not asks_for_a_sweep([f"experiment={experiment}", "hydra.mode=RUN"])


@pytest.mark.parametrize("flags", [("--config-dir", "my"), ("-cd", "my"), ("--config-dir=my",)], ids=" ".join)
def test_the_users_own_experiment_may_be_one_too(flags: tuple[str, ...]) -> None:
    words = [*flags, "experiment=mine"]
    assert not asks_for_a_sweep(words)  # there is none
    mine = Path("my", "experiment", "mine.yaml")
    mine.parent.mkdir(parents=True)
    for content, is_one in (("hydra: {mode: MULTIRUN}", True), ("hydra: {mode: RUN}", False), ("a: [", False), ("- a", False)):
        mine.write_text(content, encoding="utf-8")
        assert asks_for_a_sweep(words) == is_one


def varied(*words: str) -> list[dict[str, str]]:
    """What each job of a sweep has of what it varies."""
    jobs = planned(["--multirun", *PHANTOMS, *words]).jobs
    return [dict(word.split("=", 1) for word in job.words) for job in jobs]


def test_a_word_wins_over_what_an_experiment_varies() -> None:
    jobs = varied("experiment=ablation", "seed=3,4", "loss=dice", "augmentation=none")
    assert jobs == [{"seed": seed, "model": model} for seed in "34" for model in ("resunet_small", "unet_small")]


def test_each_fold_of_a_cross_validation_is_kept_once() -> None:
    plan = planned(["--multirun", *PHANTOMS, "experiment=crossval"])
    assert [job.config["data"]["fold"] for job in plan.jobs] == [0, 1, 2, 3, 4]
    assert {(job.config["seed"], job.config["test"]) for job in plan.jobs} == {(0, "never")}


def test_each_seed_of_the_ablation_has_patients_of_its_own() -> None:
    plan = planned(["--multirun", *PHANTOMS, "experiment=ablation", "model=unet_small", "loss=dice", "augmentation=none"])
    assert [(job.config["seed"], job.config["data"]["fold"], job.config["data"]["folds"]) for job in plan.jobs] == [
        (0, 0, 5),
        (1, 1, 5),
        (2, 2, 5),
    ]


def test_convergence_compares_four_networks() -> None:
    plan = planned(["--multirun", *PHANTOMS[1:], "experiment=convergence", "seed=0"])
    assert [job.words[0].partition("=")[2] for job in plan.jobs] == [
        "resunet_small",
        "unet_small",
        "unet_matched",
        "resunet_strided",
    ]
    assert {job.config["preprocess"]["size"] for job in plan.jobs} == {256}


def test_no_flag_is_needed_to_plan_one() -> None:
    words = ("experiment=crossval", "hydra.sweep.subdir=same")
    for flag in ([], ["--multirun"]):
        assert_refused(lungseg("train", *PHANTOMS, *words, *flag), "two jobs the same folder")
    assert_refused(
        lungseg("train", *PHANTOMS, "experiment=crossval", "data.folds=3"), "job 3 (data.fold=3)", "data.fold=0,1,2 in a sweep"
    )
    assert not list(Path().iterdir())


def test_one_job_can_be_shown_and_run_alone(tmp_path: Path) -> None:
    shown = lungseg("train", *PHANTOMS, "experiment=ablation", "seed=1", "--cfg", "job", "--resolve")
    assert (shown.code, yaml.safe_load(shown.out)["data"]["fold"]) == (0, 1)
    assert_refused(lungseg("train", *PHANTOMS, "experiment=ablation", "seed=0,1", "--cfg", "job"), "--cfg shows one job: give one")
    train(tmp_path / "alone", *PHANTOMS, "experiment=ablation", "hydra.mode=RUN", "trainer.max_epochs=0", "logger=csv")
    assert not (tmp_path / "multirun").exists()


def test_a_value_that_follows_another_follows_it_in_every_job() -> None:
    words = [
        "--multirun",
        *PHANTOMS,
        "data.folds=3",
        "data.fold=${seed}",
        "seed=0,1,2",
        "preprocess.size=32",
        "data.seed=${data.fold}",
    ]
    configs = [job.config for job in planned(words).jobs]
    assert [(one["seed"], one["data"]["fold"], one["data"]["seed"]) for one in configs] == [(seed, seed, seed) for seed in range(3)]
