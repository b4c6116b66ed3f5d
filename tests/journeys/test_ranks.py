"""Journeys of several processes that train one model: one run, one truth, one message, and no process left."""

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import PHANTOMS, metrics_of, train
from processes import CHECKOUT, none_left, processes_of, running, wait_for

from lungseg.training.launch import RunFailed, launch

LONG = (*PHANTOMS, "trainer.max_epochs=10000", "trainer.devices=2", "logger=csv", "hydra.run.dir=run")


@pytest.mark.slow
def test_two_processes_train_one_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # Five slices cannot be shared out evenly, and each must count once.
    words = [*PHANTOMS, "data.val=5", "data.test=5", "trainer.max_epochs=2", "trainer.devices=2", "trainer.strategy=ddp"]
    command = [sys.executable, str(CHECKOUT / "train.py"), *words, "hydra.run.dir=both"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "2 CPU ranks" in done.stdout
    assert done.stdout.count("epoch   1/2") == done.stdout.count("Done in") == 1
    assert "predict with     python predict.py ckpt=both/checkpoints/best.ckpt" in done.stdout
    record = json.loads((tmp_path / "both" / "run.json").read_text())
    assert record["ranks"] == 2
    assert shlex.split(record["command"])[2:] == command[2:]

    first, second = json.loads((tmp_path / "both" / "ranks.json").read_text())
    assert first == second
    assert first["lr"] == first["hyperparameters"]["optimization"]["lr"] == 2e-3
    assert first["ranks"] == 2

    # One process finds the same scores for the same weights.
    start = f"init_ckpt={tmp_path / 'both' / 'checkpoints' / 'best.ckpt'}"
    alone = [word for word in words if not word.startswith(("trainer.devices", "trainer.strategy", "trainer.max_epochs"))]
    train(tmp_path / "alone", *alone, "trainer.max_epochs=0", start)
    both, one = metrics_of(tmp_path / "both"), metrics_of(tmp_path / "alone")
    assert {key: both[key] for key in both if key.startswith("test/") and key != "test/loss"} == {
        key: one[key] for key in one if key.startswith("test/") and key != "test/loss"
    }
    assert both["test/loss"] == pytest.approx(one["test/loss"], abs=1e-6)  # a mean of means is rounded


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda how: how.name)
def test_no_rank_outlives_its_command(how: signal.Signals, tmp_path: Path) -> None:
    with running(tmp_path, "train", *LONG) as process:
        wait_for(process, "epoch", times=2)
        process.send_signal(how)
        _, err = process.communicate(timeout=60)
        assert process.returncode == (-how if how == signal.SIGKILL else 128 + how), err
        assert none_left(tmp_path)
    if how != signal.SIGKILL:
        assert len(err.splitlines()) == 1, err
        assert "kept in run/checkpoints; repeat the command with ckpt_path=last" in err


@pytest.mark.slow
def test_a_rank_that_is_killed_ends_all_with_one_sentence(tmp_path: Path) -> None:
    with running(tmp_path, "train", *LONG) as process:
        wait_for(process, "epoch", times=2)
        ranks = [
            pid for pid in processes_of(tmp_path) if b"lungseg.commands.rank\0" in _command(pid) and b"launch" not in _command(pid)
        ]
        assert len(ranks) == 2
        os.kill(max(ranks), signal.SIGKILL)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 1
        assert len(err.splitlines()) == 1, err
        assert "was ended by SIGKILL" in err
        assert "kept in run/checkpoints" in err
        assert none_left(tmp_path)


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


CRASHING = """
import os, sys, time, traceback
from lungseg.training.launch import end_with_parent, leave_failure

end_with_parent()
if os.environ["RANK"] == sys.argv[2]:
    leave_failure("the rank failed", 2, "Traceback: here\\n")
    sys.exit(1)
time.sleep(600)  # as in a collective operation that the other never joins
"""


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_rank_that_fails_takes_the_others_along(
    rank: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "crashing.py").write_text(CRASHING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(RunFailed, match="the rank failed"):
        launch("crashing", tmp_path, [rank], ranks=2)
    assert capsys.readouterr().err == "Traceback: here\n"
    assert none_left(tmp_path)


LINGERING = """
import time
from lungseg.training.launch import leave_failure

leave_failure("it is refused", 2)
time.sleep(600)  # as an interpreter that takes long to end where others are at work
"""


def test_a_process_that_takes_long_to_end_keeps_its_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lingering.py").write_text(LINGERING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("lungseg.training.launch.PATIENCE_S", 0.1)
    with pytest.raises(RunFailed, match="it is refused") as failed:
        launch("lingering", tmp_path, [], ranks=1)
    assert failed.value.code == 2
    assert none_left(tmp_path)
