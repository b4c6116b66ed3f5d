"""Journeys of a training that is killed: what it leaves loads, and goes on to exactly the end that it would have had."""

import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import PHANTOMS, metrics_of, table, train
from moments import before_each_file
from processes import running, wait_for

from lungseg import checkpoint
from lungseg.training.state import finished_epochs

# Dropout draws in the process itself, robust augmentation in the loader; 14 slices leave a rest in every epoch.
DRAWS = ("data.train=14", "model.dropout=0.2", "augmentation=robust", "logger=csv")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def state_of(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Every value in a nested state by its path, tensors as their bytes, without the seconds that things took."""
    if isinstance(value, dict):
        inner = [(str(key), inner) for key, inner in value.items() if key != "seconds"]
    elif isinstance(value, (list, tuple)):
        inner = [(str(number), inner) for number, inner in enumerate(value)]
    else:
        return {path: value.numpy().tobytes() if isinstance(value, torch.Tensor) else repr(value)}
    return {key: leaf for name, below in inner for key, leaf in leaves(below, f"{path}/{name}").items()}


def outcome(folder: Path) -> dict[str, Any]:
    """All that a finished run has learnt and kept: both checkpoints whole, the history and the metrics."""
    return {
        **leaves(state_of(folder), "last"),
        **leaves(torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True), "best"),
        **leaves(table(folder / "history.csv"), "history"),
        **leaves(metrics_of(folder), "metrics"),
    }


def assert_same_outcome(folder: Path, whole: dict[str, Any]) -> None:
    found = outcome(folder)
    assert found.keys() == whole.keys()
    assert not [path for path in whole if found[path] != whole[path]]
    assert not [*folder.rglob(".partial-*")]


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("trainer.max_epochs=3", "early_stopping=3"),
        # Without a learning rate nothing gets better, and the second epoch is the last.
        ("trainer.max_epochs=5", "early_stopping=1", "optimization.lr=1e-12", "optimization.ema_decay=null", "model.norm=instance"),
        ("trainer.max_steps=5", "trainer.check_val_every_n_epoch=2"),
        ("trainer.max_epochs=2", "loader.num_workers=1", "loader.cache=disk", "trainer.accumulate_grad_batches=2"),
    ],
    ids=" ".join,
)
def test_a_kill_between_any_two_files_changes_nothing(words: Sequence[str], tmp_path: Path) -> None:
    left: list[Path] = []

    def keep(path: Path) -> None:
        if path.is_relative_to(tmp_path / "whole"):
            left.append(tmp_path / f"{len(left)} before {path.name}")
            shutil.copytree(tmp_path / "whole", left[-1])

    with before_each_file(keep):
        train(tmp_path / "whole", *PHANTOMS, *DRAWS, *words)
    whole = outcome(tmp_path / "whole")
    started = [folder for folder in left if (folder / "config.yaml").is_file()]
    assert {"split.json", "run.json", "best.ckpt", "history.csv", "last.ckpt", "test_images.csv", "metrics.json"} <= {
        folder.name.rpartition(" ")[2] for folder in started
    }
    for folder in started:
        train(folder, *PHANTOMS, *DRAWS, *words, "ckpt_path=last")
        assert_same_outcome(folder, whole)
        shutil.rmtree(folder)


# Images so small and a network so wide that writing its state takes a fair share of the time.
WIDE = (
    "preprocess.size=32", "model.widths=[16,32,256]", "model.dropout=0.1", "trainer.accelerator=cpu", "data.train=24",
    "data.val=4", "data.test=4", "data.size=32", "loader.batch_size=8", "augmentation=robust", "early_stopping=5",
    "trainer.max_epochs=8", "logger=csv",
)  # fmt: skip
MOMENTS = 10


def when_it_says(process: "subprocess.Popen[str]", start: str) -> float:
    """The time at which a line begins like this; what comes before the first is imports and the reading of images."""
    wait_for(process, start)
    return time.monotonic()


def doing(folder: Path) -> str:
    """What a killed training was at, by what it left."""
    partial = [path.parent.relative_to(folder.parent) for path in folder.rglob(".partial-*")]
    if partial:
        return f"writing a file in {partial[0]}"
    if not (folder / "checkpoints" / "last.ckpt").is_file():
        return "starting"
    kept = finished_epochs(folder / "checkpoints" / "last.ckpt")
    if (folder / "metrics.json").is_file():
        return "done"
    rows = len(table(folder / "history.csv")) if (folder / "history.csv").is_file() else 0
    best = folder / "checkpoints" / "best.ckpt"
    metrics = checkpoint.load(best).metrics if best.is_file() else None
    if rows > kept:
        return "between history.csv and last.ckpt"
    if metrics and metrics["epoch"] > kept:
        return "between best.ckpt and history.csv"
    return "scoring the test set" if kept == 8 else f"in epoch {kept + 1}"


@pytest.mark.slow
def test_a_training_killed_at_any_moment_goes_on_to_the_same_end(tmp_path: Path) -> None:
    with running(tmp_path, "train", *WIDE, "hydra.run.dir=whole") as process:
        began = when_it_says(process, "")
        took = when_it_says(process, "Done") - began
        process.communicate()
    whole = outcome(tmp_path / "whole")
    lines = [f"{'second':>6}  {'of':>4}  {'epochs kept':>11}  {'final loss':>10}  {'difference':>10}  was"]
    for number, share in enumerate(sorted(np.random.default_rng(0).uniform(0, 1, MOMENTS))):
        folder = tmp_path / str(number)
        with running(tmp_path, "train", *WIDE, f"hydra.run.dir={folder}") as process:
            began = when_it_says(process, "")
            time.sleep(max(0, began + share * took - time.monotonic()))
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert process.returncode in (-signal.SIGKILL, 0)
        was, kept = doing(folder), finished_epochs(folder / "checkpoints" / "last.ckpt")
        train(folder, *WIDE, "ckpt_path=last")
        assert_same_outcome(folder, whole)
        loss, true_loss = (float(table(run / "history.csv")[-1]["train/loss"]) for run in (folder, tmp_path / "whole"))
        lines.append(f"{share * took:6.2f}  {took:4.1f}  {kept:11}  {loss:10.6f}  {loss - true_loss:10.1g}  {was}")
    print("\n" + "\n".join(lines))
