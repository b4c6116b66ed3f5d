"""A journey where processes start by spawning, as on macOS and Windows: loaders are handed their data, and inherit nothing."""

import subprocess
import sys
from pathlib import Path

import pytest
from helpers import PHANTOMS, metrics_of, train

# A main file that can be imported again, as a spawned process does.
PROGRAM = """
import multiprocessing
import sys

from lungseg.cli import main

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("method", "cache"), [("spawn", "memory"), ("spawn", "disk"), ("forkserver", "memory")])
def test_loaders_that_spawn_give_the_same_training(method: str, cache: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    words = (*PHANTOMS, "data.train=14", "augmentation=robust", "trainer.max_epochs=2", "logger=csv")
    spawned = (f"loader.cache={cache}", f"loader.cache_folder={tmp_path / 'cache'}", f"hydra.run.dir={tmp_path / method}")
    command = [sys.executable, tmp_path / "program.py", method, "train", *words, "loader.num_workers=2", *spawned]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    train(tmp_path / "alone", *words, "loader.num_workers=0")
    assert metrics_of(tmp_path / method) == metrics_of(tmp_path / "alone")
