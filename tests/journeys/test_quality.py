"""Journeys of benchmarks/quality.py: one command, one table, one JSON."""

import io
import json
import shutil
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from helpers import Done, assert_refused

from quality import main
from quality_networks import recipes

SIZE = 64
PHANTOMS = ("data.train=12", "data.val=6", f"data.size={SIZE}", f"preprocess.size={SIZE}", "trainer.accelerator=cpu")
ONE = ("networks=resunet_small", "trainer.accelerator=cpu")
COMMAND = (*PHANTOMS, "images=12", "networks=unet_small", "seeds=0,1")


def quality(*words: str) -> Done:
    """``python benchmarks/quality.py WORDS``."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(words)
    return Done(code, out.getvalue(), err.getvalue())


def record(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "quality.json").read_text())
    return content


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    folder = tmp_path_factory.mktemp("quality") / "out"
    done = quality(f"output={folder}", *COMMAND)
    assert done.code == 0, done.out + done.err
    return folder, done


def test_both_networks_are_judged_by_both_budgets(finished: tuple[Path, Done]) -> None:
    folder, done = finished
    said, rows = record(folder), record(folder)["summary"]
    assert [(row["budget"], row["network"], row["seeds"]) for row in rows] == [
        (budget, network, 2) for budget in ("equal images", "equal seconds") for network in ("resunet_small", "unet_small")
    ]
    assert all(0 <= row["iou_worst"] <= row["iou"] <= 1 for row in rows)
    assert [row["images"] for row in rows[:3]] == [12, 12, 12]  # the reference's own seconds are those of its images
    assert "difference" in rows[1]
    assert "difference" not in rows[0]
    assert said["seeds"] == [0, 1]
    assert all(said["machine"][key] for key in ("cpu", "threads", "torch"))
    assert said["settings"]["loss"] == {"_target_": "lungseg.losses.DiceBCE", "dice_weight": 1.0, "bce_weight": 1.0, "smooth": 1.0}
    table = (folder / "quality.md").read_text()
    assert table.count("\n| equal ") == done.out.count("\nequal ") == 4
    assert said["limits"].startswith("No claim beyond this budget: 2 steps")
    assert said["limits"] in table
    assert said["limits"] in done.out


def test_every_schedule_ends_with_its_budget(finished: tuple[Path, Done]) -> None:
    for result in record(finished[0])["results"]:
        assert result["last_lr"] <= 0.0125 * 2e-3  # a hundredth, and a little more after a single step
        assert result["images"] == 6 * result["steps"]


def test_patients_are_numbers_not_names(finished: tuple[Path, Done]) -> None:
    for file in finished[0].rglob("*.*"):
        assert "phantom-" not in file.read_text(), file


def test_what_is_finished_is_not_done_again(finished: tuple[Path, Done], tmp_path: Path) -> None:
    folder = shutil.copytree(finished[0], tmp_path / "again")
    before = {path: path.stat().st_mtime_ns for path in (folder / "results").iterdir()}
    done = quality(f"output={folder}", *COMMAND)
    assert done.code == 0
    assert (folder / "quality.md").read_text() == (finished[0] / "quality.md").read_text()
    assert {path: path.stat().st_mtime_ns for path in (folder / "results").iterdir()} == before
    assert_refused(quality(f"output={folder}", *COMMAND, "loss=bce"), "another loss", "choose another output=")


def test_a_network_that_takes_too_long_is_left_out_and_said(finished: tuple[Path, Done], tmp_path: Path) -> None:
    folder = shutil.copytree(finished[0], tmp_path / "slow")
    trial = folder / "results" / "unet_small.json"
    trial.write_text(json.dumps({**json.loads(trial.read_text()), "trial_step_seconds": 7200}))
    done = quality(f"output={folder}", *COMMAND)
    assert done.code == 0
    assert "unet_small is left out of equal images: it would take about 4.0 h, and max_minutes is 60." in done.out
    assert list(record(folder)["left_out"]) == ["unet_small, equal images"]
    budgets = [row["budget"] for row in record(folder)["summary"] if row["network"] == "unet_small"]
    assert budgets == ["equal seconds"]


def test_a_network_whose_package_is_missing_is_left_out_and_said(tmp_path: Path) -> None:
    missing = [(name, recipe.package) for name, recipe in recipes(SIZE).items() if recipe.installed() is None]
    if not missing:
        pytest.skip("all packages are installed")
    (name, package), *_ = missing
    done = quality(f"output={tmp_path / 'out'}", *PHANTOMS, "images=6", f"networks={name}")
    assert done.code == 0
    said = f'{name} is left out: {package} is not installed; pip install -e ".[benchmark]"'
    assert said in done.out.replace("\n", " ")


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("networks=monai_nuet", ("networks=monai_nuet is unknown", "monai_unet")),
        ("image=24", ("image is no option of quality.py: did you mean images?",)),
        ("model=unet", ("model=unet is chosen by networks=...",)),
        ("trainer.max_epochs=3", ("trainer.max_epochs=3 says nothing here", "images=...")),
        ("seed=3", ("seed=3 is chosen by", "seeds=...")),
        ("seeds=-1", ("seeds=[-1] must be at least 0",)),
        ("seeds=1,1", ("seeds=[1, 1]", "each once")),
        ("images=0", ("images=0 must be 1 or more",)),
        ("images=many", ("images=many must be a number",)),
        ("loss=cross_entropy", ("loss=cross_entropy is unknown",)),
        ("data=folder", ("data.root",)),
    ],
)
def test_what_cannot_be_run_is_refused_in_a_sentence(word: str, parts: tuple[str, ...], tmp_path: Path) -> None:
    others = [] if word.startswith("data=") else PHANTOMS
    assert_refused(quality(f"output={tmp_path / 'out'}", *others, word), *parts)


def test_patients_of_a_folder_are_validated_by_the_first_of_five_folds(dataset: Path, tmp_path: Path) -> None:
    words = ("data=folder", f"data.root={dataset}", r"data.patient_regex=(p\d+)", "data.folds=2", f"preprocess.size={SIZE}")
    done = quality(f"output={tmp_path / 'out'}", *words, "images=6", *ONE)
    assert done.code == 0, done.err
    said = record(tmp_path / "out")
    assert said["settings"]["data"]["folds"] == 2
    assert said["validation_patients"] == len(said["results"][0]["figures"]["iou"])
    assert str(dataset) not in json.dumps(said)
    unknown = quality(f"output={tmp_path / 'unknown'}", *(word for word in words if "regex" not in word), "images=6", *ONE)
    assert unknown.code == 0, unknown.err
    assert [
        "Where no patient is known an image counts as one" in (tmp_path / folder / "quality.md").read_text()
        for folder in ("out", "unknown")
    ] == [False, True]
    assert_refused(quality(f"output={tmp_path / 'five'}", *(word for word in words if "folds" not in word)), "data.folds=5")


@pytest.mark.slow
def test_every_network_that_is_installed_is_trained(tmp_path: Path) -> None:
    there = [name for name, recipe in recipes(SIZE).items() if recipe.installed() is not None]
    if not there:
        pytest.skip('none of the other networks is installed: pip install -e ".[benchmark]"')
    done = quality(f"output={tmp_path / 'out'}", *PHANTOMS, "images=6")
    assert done.code == 0, done.out + done.err
    said = record(tmp_path / "out")
    assert list(said["networks"]) == ["resunet_small", "unet_small", *there]
    assert {row["network"] for row in said["summary"]} == set(said["networks"])
    assert len(said["left_out"]) == len(recipes(SIZE)) - len(there)
