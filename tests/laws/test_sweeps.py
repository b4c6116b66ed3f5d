"""Laws of reading sweeps: every finished job belongs to one choice, and what is not finished is told."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lungseg.errors import UserError
from lungseg.evaluation.plots import label
from lungseg.evaluation.sweeps import choices, read_sweeps
from sweeps import CHOICES, FAILED, NOT_FINISHED, Made, write_sweep

LOSSES, RATES, SEEDS, FOLDS = ("dice", "bce"), ("0.1", "0.01"), ("0", "1"), ("0", "1")
STATUSES = st.sampled_from(["finished", "finished", FAILED, NOT_FINISHED])


def grid(statuses: list[str]) -> list[Made]:
    """Two losses and two rates, each with two seeds and two folds."""
    every = product(SEEDS, FOLDS, RATES, LOSSES)
    return [
        Made(
            [f"seed={seed}", f"data.fold={fold}", f"optimization.lr={rate}", f"loss={loss}"],
            {"seed": int(seed), "data.fold": int(fold), "optimization.lr": float(rate)},
            status=status,
            error="no room" if status == FAILED else "",
        )
        for (seed, fold, rate, loss), status in zip(every, statuses, strict=False)
    ]


@settings(max_examples=30, deadline=None)
@given(statuses=st.lists(STATUSES, min_size=1, max_size=16))
def test_every_job_is_in_one_choice_or_missing(statuses: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    made = grid(statuses)
    sweeps = read_sweeps([write_sweep(tmp_path_factory.mktemp("sweep") / "s", made)])
    grouped = choices(sweeps.jobs, list(sweeps.varied))
    finished = [number for number, status in enumerate(statuses) if status == "finished"]
    assert [job.name for job in sweeps.jobs] == [f"job {number}" for number in finished]
    assert sorted(job.name for jobs in grouped.values() for job in jobs) == sorted(job.name for job in sweeps.jobs)
    assert len(sweeps.missing) == len(made) - len(finished)
    failed = statuses.count(FAILED)
    assert [FAILED in said for said in sweeps.missing] == [True] * failed + [False] * (len(sweeps.missing) - failed)
    assert all("job.json in its folder says why" in said for said in sweeps.missing[:failed])
    for values, jobs in grouped.items():
        assert len({job.repeat for job in jobs}) == len(jobs)
        assert {tuple(job.settings.values()) for job in jobs} == {values}
    assert set(sweeps.varied) <= {"optimization.lr", "loss"}
    assert set(sweeps.repeats) <= {"seed", "data.fold"}
    assert not set(sweeps.fixed) & {*sweeps.varied, *sweeps.repeats}


@settings(max_examples=20, deadline=None)
@given(parts=st.integers(1, 4), data=st.data())
def test_a_sweep_in_several_folders_is_the_sweep(parts: int, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    made = grid(["finished"] * 16)
    place = data.draw(st.lists(st.integers(0, parts - 1), min_size=16, max_size=16))
    folder = tmp_path_factory.mktemp("sweeps")
    shares = [[job for job, where in zip(made, place, strict=True) if where == part] for part in range(parts)]
    folders = [write_sweep(folder / str(number), share) for number, share in enumerate(shares) if share]
    whole, parted = read_sweeps([write_sweep(folder / "whole", made)]), read_sweeps(folders)
    assert {(job.repeat, *sorted(job.settings.items())) for job in whole.jobs} == {
        (job.repeat, *sorted(job.settings.items())) for job in parted.jobs
    }
    assert {name: set(values) for name, values in whole.varied.items()} == {name: set(v) for name, v in parted.varied.items()}


def test_what_differs_between_folders_is_varied_too(tmp_path: Path) -> None:
    one = write_sweep(tmp_path / "one", [Made(["seed=0"]), Made(["seed=1"], {"seed": 1})])
    config = {"model._target_": "lungseg.nets.resunet.ResUNet", "preprocess.size": 128, "trainer.max_epochs": 3}
    jobs = [Made(["seed=0"], config), Made(["seed=1"], {"seed": 1, **config})]
    other = write_sweep(tmp_path / "other", jobs, {**CHOICES, "model": "resunet_small"})
    found = read_sweeps([one, other])
    assert found.varied == {"model": ("unet_small", "resunet_small"), "preprocess.size": ("64", "128")}
    assert found.repeats == {"seed": ("0", "1")}
    assert found.fixed["trainer.max_epochs"] == "3"
    assert [job.name for job in found.jobs] == ["job 0 of one", "job 1 of one", "job 0 of other", "job 1 of other"]
    again = read_sweeps([one, one])
    assert again.missing == (
        "job 0 of one repeats job 0 of one and is left out",
        "job 1 of one repeats job 1 of one and is left out",
    )


def test_a_value_that_one_folder_varies_is_known_of_the_other(tmp_path: Path) -> None:
    one = write_sweep(tmp_path / "one", [Made(["loss=dice"]), Made(["loss=bce"])])
    other = write_sweep(tmp_path / "other", [Made(["seed=1", "optimization.lr=0.1"], {"seed": 1, "optimization.lr": 0.1})])
    found = read_sweeps([one, other])
    assert [job.settings for job in found.jobs] == [
        {"loss": "dice", "optimization.lr": "0.001"},
        {"loss": "bce", "optimization.lr": "0.001"},
        {"loss": "dice", "optimization.lr": "0.1"},
    ]


def test_a_fold_that_follows_the_seed_is_a_repeat_too(tmp_path: Path) -> None:
    jobs = [Made([f"seed={seed}"], {"seed": seed, "data.fold": seed, "data.folds": 3}) for seed in range(3)]
    found = read_sweeps([write_sweep(tmp_path / "sweep", [*jobs[:2], replace(jobs[2], status=NOT_FINISHED)])])
    assert found.repeats == {"seed": ("0", "1", "2"), "data.fold": ("0", "1", "2")}
    assert (found.varied, found.fixed["data.folds"]) == ({}, "3")
    assert found.missing == ("job 2 (seed=2) has begun and is not finished",)


@pytest.mark.parametrize("bare", ["null", "true", "5", "-1", ".5", "1e-3", "[64,128]", ""])
def test_a_value_that_says_nothing_alone_has_its_name_in_a_plot(bare: str) -> None:
    assert (label("data.folds", bare), label("loss", "dice_bce")) == (f"folds={bare}", "dice_bce")


def test_patients_by_name_are_shown_nowhere(tmp_path: Path) -> None:
    jobs = [Made([f"data.val_patients=[{name}]"], {"data.val_patients": [name]}) for name in ("Doe", "Roe", "Poe")]
    jobs[0] = replace(jobs[0], status=NOT_FINISHED)
    jobs[2] = replace(jobs[2], status=FAILED, error="data.val_patients: no Poe among the 6 patients (Doe, Roe, ...).")
    found = read_sweeps([write_sweep(tmp_path / "sweep", jobs)])
    assert found.missing == ("job 2 failed; job.json in its folder says why", "job 0 has begun and is not finished")
    assert len(found.jobs) == 1
    assert list(found.repeats) == ["data.val_patients"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("sweep.json", None, "holds no sweep.json"),
        ("sweep.json", "{", "sweep.json cannot be read"),
        ("sweep.json", "{}", "names no job"),
        ("sweep.json", "[1]", "is no file of a sweep"),
        ("0/config.yaml", "a: [", "config.yaml cannot be read"),
        ("0/config.yaml", None, "config.yaml cannot be read"),
        ("0/metrics.json", '{"val/iou": 0.', "metrics.json cannot be read"),
        ("0/job.json", "[]", "job.json is no file of a sweep"),
        ("0/history.csv", "epoch,val/iou\n1,many\n", "history.csv cannot be read as the curves"),
        ("0/history.csv", "epoch,val/iou\n1\n", "history.csv cannot be read as the curves"),
    ],
)
def test_a_damaged_file_is_named(name: str, content: str | None, said: str, tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "sweep", [Made()])
    (sweep / name).unlink()
    if content is not None:
        (sweep / name).write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=said):
        read_sweeps([sweep])


@pytest.mark.parametrize("name", ["config.yaml", "job.json", "metrics.json", "history.csv", "val_images.csv"])
def test_a_job_that_cannot_be_read_is_left_out_of_many(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sweep = write_sweep(tmp_path / "sweep", [Made([f"seed={seed}"], {"seed": seed}) for seed in range(3)])
    (sweep / "1" / name).write_bytes(b"\xff")
    found = read_sweeps([sweep])
    assert [job.name for job in found.jobs] == ["job 0", "job 2"]
    assert (found.planned, found.missing) == (3, ("job 1 cannot be read and is left out",))
    assert caplog.messages[0].startswith(f"job 1 is left out: {sweep / '1' / name}")


def test_a_job_whose_folder_is_gone_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sweep = write_sweep(tmp_path / "sweep", [Made([f"seed={seed}"], {"seed": seed}) for seed in range(3)])
    (sweep / "0").rename(sweep / "0 my favourite")
    found = read_sweeps([sweep])
    assert [job.name for job in found.jobs] == ["job 1", "job 2"]
    assert (found.planned, found.missing) == (3, ("job 0 cannot be read and is left out",))
    said = f"job 0 is left out: the folder {sweep / '0'} is missing; if it was renamed, give it this name again."
    assert caplog.messages == [said]
