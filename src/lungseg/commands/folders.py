"""Folders of runs and sweeps: which is meant, whether it may be gone on with, and how to speak of it."""

import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from lungseg.errors import UserError
from lungseg.files import from_home

# Sections that must be the same when a run is gone on with; the others, the Trainer's length among them, may change.
RESUMED_SECTIONS = ("data", "model", "loss", "augmentation", "preprocess", "optimization", "seed")


def newest_folder(words: Sequence[str], key: str, below: str, sign: str) -> Path | None:
    """The folder that ``key=`` names if it holds the file ``sign``, else the one below ``below`` with the newest such file."""
    chosen = [word.partition("=")[2].strip("'\"") for word in words if word.startswith(f"{key}=")]
    signs = [from_home(chosen[-1]) / sign] if chosen else sorted(Path(below).glob(f"**/{sign}"), key=_age)
    found = [path for path in signs if path.is_file()]
    return found[-1].parent if found else None


def _age(path: Path) -> float:
    return path.stat().st_mtime


def check_same(config: Mapping[str, Any], earlier: Path, sections: Sequence[str]) -> None:
    """Refuses to go on with a run under other settings, which would be neither the one run nor the other."""
    from omegaconf import OmegaConf

    if not earlier.is_file():
        return
    was = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(earlier)))
    for section in sections:
        if config[section] != was.get(section):
            changed = (
                [key for key in config[section] if config[section][key] != was[section].get(key)]
                if isinstance(config[section], dict) and isinstance(was.get(section), dict)
                else []
            )
            name = f"{section}.{changed[0]}" if changed and changed[0] != "_target_" else section
            raise UserError(f"{earlier.parent} holds a run whose {name} was another; repeat its settings, which {earlier} holds.")


def predict_command(folder: Path, command: str) -> str:
    """How to use the best checkpoint of a run, by the door through which the user came."""
    predict = "python predict.py" if command.startswith("python train.py") else "lungseg predict"
    return f"{predict} ckpt={as_typed(folder / 'checkpoints' / 'best.ckpt')} input=FILE_OR_FOLDER output=masks"


def from_here(path: Path) -> Path:
    """A path as a person would type it from the working folder."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def as_typed(path: Path) -> str:
    """The same for a command line, quoted where it must be."""
    return shlex.quote(str(from_here(path)))


def remove_empty(folder: Path) -> None:
    """Removes a folder and those above it, up to the working folder, as far as they are empty."""
    with suppress(OSError):  # one that is not
        folder.rmdir()
        for above in folder.parents:
            if above == Path.cwd() or not above.is_relative_to(Path.cwd()):
                return
            above.rmdir()
