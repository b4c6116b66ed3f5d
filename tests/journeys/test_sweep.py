"""Journeys of sweeps: all checked first, each job on its own, none stops the others, ranked at the end."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import PHANTOMS, assert_refused, lungseg, metrics_of, table, train
from processes import finished, none_left, processes_of, running, wait_for

from lungseg.evaluation.outcomes import Outcome, as_csv, as_table, chosen, ranked

QUICK = (*PHANTOMS, "trainer.max_epochs=1", "logger=csv")


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["optimization.lr=1e-3,-1"], ["job 1 (optimization.lr=-1)", "must be above 0", "No job was started"]),
        (["optimization.lrr=1e-3,1"], ["optimization.lrr is unknown", "did you mean optimization.lr?"]),
        (["loss=dice,nonsense"], ["job 1 (loss=nonsense)", "loss=nonsense is unknown"]),
        (["seed=0,1", "trainer.devices=1,none"], ["trainer.devices=none"]),
        (["seed=0,1", "hydra.sweep.subdir=same"], ["two jobs the same folder"]),
        (["seed=0,1", "ckpt_path=last"], ["sweep.resume=true"]),
        (["seed=0,1", "ckpt_path=some.ckpt"], ["sweep.resume=true"]),
        (["seed=0,1", "hydra.job.chdir=true"], ["hydra.job.chdir=true must be false"]),
        (["seed=0,1", "sweep.resume=true"], ["finds no sweep"]),
        (["seed=0,1", "++sweep.resume=true", "hydra.sweep.dir=nowhere"], ["finds no sweep"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_a_sweep_with_one_bad_job_starts_none(words: list[str], parts: list[str], tmp_path: Path) -> None:
    assert_refused(lungseg("train", "--multirun", *QUICK, *words), *parts)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["data.root=dataset,nowhere"], ["job 1 (data.root='nowhere')", "nowhere is not a folder", "No job was started"]),
        (["data.root=dataset", "experiment=crossval"], ["data.folds=5 must be at most 3", "No job was started"]),
    ],
    ids=["no such folder", "too few patients"],
)
def test_a_sweep_looks_for_its_data_first(words: list[str], parts: list[str], dataset: Path, tmp_path: Path) -> None:
    there = sorted(tmp_path.iterdir())
    settings = ("data=folder", "data.patient_regex=(p\\d+)", "trainer=debug", "logger=csv")
    assert_refused(lungseg("train", "--multirun", *settings, *words), *parts)
    assert sorted(tmp_path.iterdir()) == there


@pytest.mark.slow
def test_a_failed_job_does_not_stop_the_others_and_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "weights.ckpt").write_bytes(b"nothing that can be read")
    words = ["train", *QUICK, "init_ckpt=weights.ckpt,null", "seed=0,1", "--multirun", "hydra.sweep.dir=all"]
    done = finished(tmp_path, *words)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    rows = table(tmp_path / "all" / "sweep.csv")
    assert [row["status"] for row in rows] == ["finished", "finished", "failed", "failed"]
    assert [row["exit_code"] for row in rows] == ["0", "0", "2", "2"]
    assert float(rows[0]["val/iou"]) >= float(rows[1]["val/iou"])
    assert "Error: job 1 (init_ckpt='weights.ckpt' seed=1) failed: weights.ckpt is refused" in done.stderr
    assert "2 of 4 did not finish" in done.stderr
    # The Test set was opened for the best alone.
    folders = {row["job"]: tmp_path / "all" / row["job"] for row in rows}
    best, other = folders[rows[0]["job"]], folders[rows[1]["job"]]
    assert "test/iou" in metrics_of(best)
    assert (best / "overlays" / "test_worst.png").is_file()
    assert read(best / "run.json")["images"] == {"train": 8, "val": 4, "test": 4}
    assert "test/iou" not in metrics_of(other)
    assert not (other / "test_images.csv").exists()
    assert "test" not in read(other / "run.json")["data_hash"]

    before = (other / "history.csv").stat().st_mtime_ns
    (tmp_path / "weights.ckpt").write_bytes((best / "checkpoints" / "best.ckpt").read_bytes())
    again = finished(tmp_path, *words, "sweep.resume=true", "test=always")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("is finished already") == 2
    assert (other / "history.csv").stat().st_mtime_ns == before
    rows = table(tmp_path / "all" / "sweep.csv")
    assert {row["status"] for row in rows} == {"finished"}
    assert all(row["test/iou"] for row in rows)

    fewer = finished(tmp_path, *(word.removesuffix(",null") for word in words), "sweep.resume=true", "test=never")
    assert "are no part of the sweep any more, and stay in their folders: 2, 3" in fewer.stdout, fewer.stderr

    assert_refused(lungseg(*words), "holds a sweep already", "sweep.resume=true")
    assert_refused(lungseg(*words, "sweep.resume=true", "loss=bce"), "loss was another")
    turned = [word.replace("weights.ckpt,null", "null,weights.ckpt") for word in words]  # other jobs under the same numbers
    assert_refused(lungseg(*turned, "sweep.resume=true"), "init_ckpt was another")


@pytest.mark.slow
def test_shuffled_choices_are_the_same_on_all_ranks(tmp_path: Path) -> None:
    words = ("optimization.lr=shuffle(0.001,0.002,0.004)", "trainer.devices=2", "test=never")
    done = finished(tmp_path, "train", "--multirun", *QUICK, *words, "hydra.sweep.dir=all")
    assert done.returncode == 0, done.stderr
    rows = table(tmp_path / "all" / "sweep.csv")
    assert {row["optimization.lr"] for row in rows} == {"0.001", "0.002", "0.004"}
    assert [row["test/iou"] for row in rows] == [""] * 3
    for row in rows:
        first, second = read(tmp_path / "all" / row["job"] / "ranks.json")
        assert first == second
        assert first["lr"] == float(row["optimization.lr"])
        assert first["ranks"] == 2


@pytest.mark.slow
def test_a_launcher_that_fails_leaves_a_table(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="hydra-joblib-launcher is not installed")
    words = [*PHANTOMS, "logger=csv", "seed=0,1", "trainer.max_epochs=10000", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    with running(tmp_path, "train", "--multirun", *words, "hydra.sweep.dir=all") as process:
        wait_for(process, "job 1: epoch", times=2)
        workers = [pid for pid in processes_of(tmp_path) if b"loky" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.kill(max(workers), signal.SIGKILL)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 2, err
        assert "Error: the launcher failed" in err
        assert "2 of 2 did not finish; sweep.resume=true" in err
        assert "Traceback" not in err
        assert "not finished" in out
        assert none_left(tmp_path)
    with running(tmp_path, "train", "--multirun", *words, "hydra.sweep.dir=killed") as process:
        wait_for(process, "job 0: epoch", times=2)
        process.send_signal(signal.SIGKILL)
        assert none_left(tmp_path)


def test_a_sweep_is_asked_for_by_its_flag(tmp_path: Path) -> None:
    assert_refused(lungseg("train", *QUICK, "hydra.mode=MULTIRUN", "seed=0,1", "hydra.sweep.dir=all"), "--multirun, written out")
    assert_refused(lungseg("train", *QUICK, "sweep.resume=true"), "goes with --multirun")


@pytest.mark.slow
def test_jobs_side_by_side_are_the_same_as_one_after_the_other(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="hydra-joblib-launcher is not installed")
    words = ("train", "--multirun", *QUICK, "trainer.devices=1,2", "test=always")
    assert finished(tmp_path, *words, "hydra.sweep.dir=serial").returncode == 0
    done = finished(tmp_path, *words, "hydra.sweep.dir=parallel", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert done.returncode == 0, done.stderr
    for job in "01":
        assert metrics_of(tmp_path / "parallel" / job) == metrics_of(tmp_path / "serial" / job)
        assert "test/iou" in metrics_of(tmp_path / "parallel" / job)
        assert read(tmp_path / "parallel" / job / "run.json")["ranks"] == int(job) + 1


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_sweep_that_is_stopped_goes_on_where_it_was(launcher: str, tmp_path: Path) -> None:
    if launcher == "joblib":
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="hydra-joblib-launcher is not installed")
    words = ["train", "--multirun", *PHANTOMS, "logger=csv", "seed=0,1", "trainer.max_epochs=20", f"hydra/launcher={launcher}"]
    words += ["hydra.launcher.n_jobs=2"] if launcher == "joblib" else []
    with running(tmp_path, *words) as process:
        if launcher == "basic":
            wait_for(process, "epoch", times=25)
        else:  # whichever process is up first may be far ahead of the other
            wait_for(process, ("job 0: epoch", "job 1: epoch"))
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 143, err
        assert f"{1 if launcher == 'basic' else 0} of 2 jobs are finished" in err
        assert "sweep.resume=true" in err
        assert "Traceback" not in err
        assert none_left(tmp_path)
    done = finished(tmp_path, *words, "sweep.resume=true")
    assert done.returncode == 0, done.stderr
    (stopped,) = (tmp_path / "multirun").glob("*/*")
    for job in "01":
        alone = [word for word in words[2:] if not word.startswith(("seed", "hydra"))]
        train(tmp_path / f"alone {job}", *alone, f"seed={job}")
        one, other = metrics_of(tmp_path / f"alone {job}"), metrics_of(stopped / job)
        assert {"val/iou", "val/loss", "epoch"} <= one.keys() & other.keys()
        assert {key: one[key] for key in one.keys() & other.keys()} == {key: other[key] for key in one.keys() & other.keys()}


def outcome(job: int, val_iou: float | None, words: tuple[str, ...] = ("loss=bce",)) -> Outcome:
    status = "failed" if val_iou is None else "finished"
    return Outcome(job, Path(str(job)), words, status, 0 if val_iou else -9, "" if val_iou else "it failed", val_iou, None, 1.5)


def test_the_best_job_comes_first_and_one_without_a_score_is_not_ranked() -> None:
    outcomes = [outcome(job, score, (f"lr={job}",)) for job, score in enumerate((None, 0.5, 0.9, 0.5))]
    assert [one.job for (one,) in ranked(outcomes, [])] == [2, 1, 3]


def test_choices_are_ranked_by_the_mean_of_their_folds_and_an_easy_fold_wins_nothing() -> None:
    scores = {"a": (0.7, 0.99, 0.7), "b": (0.8, 0.97, 0.8), "c": (0.99, 0.99, None)}
    jobs = [
        outcome(10 * fold + place, score, (f"model={name}", f"++data.fold={fold}"))
        for place, (name, folds) in enumerate(scores.items())
        for fold, score in enumerate(folds)
    ]
    by_choice = ranked(jobs, ["data.fold"])
    assert [chosen(one[0], ["data.fold"]) for one in by_choice] == [("model=b",), ("model=a",), ("model=c",)]
    assert [one.job for one in by_choice[0]] == [1, 11, 21]
    unscored = [replace(one, val_iou=None) if one.job == 0 else one for one in jobs]
    assert [one.job for one in ranked(unscored, ["data.fold"])[-1]] == [0, 10, 20]


def test_the_table_has_a_row_for_every_job() -> None:
    text = as_table([outcome(2, 0.91234, ("loss=bce", "seed=1")), outcome(10, None)])
    assert text.splitlines() == [
        "job  val/iou  seconds  overrides",
        "  2   0.9123      1.5  loss=bce seed=1",
        " 10   failed      1.5  loss=bce",
    ]


def test_the_csv_has_a_column_for_every_setting_that_varies() -> None:
    lines = as_csv([outcome(2, 0.91234, ("loss=bce", "a.b=[1,2]")), outcome(10, None, ("loss=dice", "a.b=x=y"))]).splitlines()
    assert lines[0] == "job,status,exit_code,val/iou,test/iou,seconds,loss,a.b,error"
    assert lines[1:] == ['2,finished,0,0.912340,,1.5,bce,"[1,2]",', "10,failed,-9,,,1.5,dice,x=y,it failed"]
