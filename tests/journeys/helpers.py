"""How a journey is made: the real command in this process, what it said, and the small settings that make it quick."""

import csv
import io
import json
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lungseg.cli import main
from lungseg.files import HIDDEN

SMALL = ("preprocess.size=64", "model.widths=[4,8]", "trainer.accelerator=cpu")
PHANTOMS = (*SMALL, "data.train=8", "data.val=4", "data.test=4", "data.size=64")


@dataclass(frozen=True)
class Done:
    """What a command gave back and said."""

    code: int
    out: str
    err: str


def lungseg(*words: str) -> Done:
    """``lungseg WORDS``."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(words)
    return Done(code, out.getvalue(), err.getvalue())


def predict(checkpoint_file: Path, source: Path, output: Path, *words: str) -> Done:
    """``lungseg predict`` of a file or a folder."""
    return lungseg("predict", f"ckpt={checkpoint_file}", f"input={source}", f"output={output}", *words)


def files(folder: Path) -> set[str]:
    """The files below a folder, but for those that the program keeps for itself."""
    below = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    return {path.as_posix() for path in below if HIDDEN not in path.parts}


def train(folder: Path, *words: str) -> Done:
    """A training into this folder that must succeed."""
    done = lungseg("train", *words, f"hydra.run.dir={folder}")
    assert done.code == 0, done.out + done.err
    return done


def assert_refused(done: Done, *parts: str) -> None:
    """One sentence for the user, exit code 2, nothing else."""
    assert done.code == 2, done
    assert done.err.startswith("Error: ")
    assert len(done.err.splitlines()) == 1, done.err
    assert "Traceback" not in done.err + done.out
    for part in parts:
        assert part in done.err


def metrics_of(folder: Path) -> dict[str, Any]:
    """``metrics.json`` without the time that it took."""
    return {key: value for key, value in json.loads((folder / "metrics.json").read_text()).items() if key != "seconds"}


def table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_png(path: Path) -> NDArray[Any]:
    """A picture as it is stored, in its own type."""
    return np.asarray(cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED))


def write_png(path: Path, pixels: NDArray[Any]) -> Path:
    """A picture under any name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())
    return path
