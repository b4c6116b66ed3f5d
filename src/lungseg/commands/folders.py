"""Folders of runs and sweeps: whose they are, whether they may be gone on with, and how to speak of them."""

import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import yaml
from filelock import FileLock, Timeout

from lungseg.errors import UserError
from lungseg.files import HIDDEN, write_text, writing
from lungseg.signatures import setting

CONFIG, LOCK = "config.yaml", ".lock"
# A process that was killed may leave loader processes behind, which keep its lock until they notice.
LOCK_WAIT_S = 10.0


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """A folder for this process alone: two that write into one would spoil what both have learnt. Ends with the process.

    Raises:
        UserError: another process is at work there, or the folder cannot be written.
    """
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=LOCK_WAIT_S)
    except Timeout as error:
        raise UserError(f"{from_here(folder)} is in use by another process: wait for its end, or choose another folder.") from error
    except OSError as error:
        raise UserError(f"{from_here(folder)} cannot be written ({error.strerror}); choose another folder.") from error
    try:
        yield
    finally:
        with suppress(OSError):  # a disk that has gone away
            if [path.name for path in folder.iterdir()] == [LOCK]:  # what was to be done here was refused
                (folder / LOCK).unlink()
        lock.release()


def make_output(output: Path, among: Iterable[Path]) -> None:
    """Makes a folder for results, before hours of work: one that can be written, and lies in none of the folders named.

    Raises:
        UserError: it lies there, is a file, or cannot be written.
    """
    if output.exists() and not output.is_dir():
        raise UserError(f"output={output} is a file: give a folder.")
    if any(output.resolve().is_relative_to(folder.resolve()) for folder in among):
        raise UserError(f"output={output} lies among the images or masks: give another folder.")
    with writing(output, "choose another output"):
        output.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=output):
            pass


def is_predictions(output: Path) -> bool:
    """Whether a folder is the output of an earlier prediction, finished or not."""
    return (output / HIDDEN).is_dir() or ((output / "summary.csv").is_file() and not (output / "cases.csv").is_file())


def newest(below: str, sign: str) -> list[Path]:
    """Folders that hold a file of this name, the newest first."""
    return [path.parent for path in sorted(Path(below).glob(f"**/{sign}"), key=lambda path: path.stat().st_mtime, reverse=True)]


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Keeps a resolved config; by PyYAML, to which ``${`` in a path is nothing special."""
    write_text(folder / CONFIG, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))


def read_config(folder: Path) -> dict[str, Any]:
    """The resolved config of a run."""
    return cast(dict[str, Any], yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8")))


def difference(config: Mapping[str, Any], folder: Path, settings: Iterable[str]) -> str | None:
    """The first of these settings that a run in a folder has otherwise; None if there is none, or no run.

    Args:
        settings: sections, or single settings by their dotted name.
    """
    if not (folder / CONFIG).is_file():
        return None
    was = read_config(folder)
    for name in settings:
        ours, theirs = setting(config, name), setting(was, name)
        if ours != theirs:
            if isinstance(ours, dict) and isinstance(theirs, dict) and ours.get("_target_") == theirs.get("_target_"):
                name += "." + next(key for key in {**theirs, **ours} if ours.get(key) != theirs.get(key))
            return name
    return None


def other_settings(folder: Path, name: str) -> UserError:
    """Going on with a run under other settings would give neither the one run nor the other."""
    place = from_here(folder)
    return UserError(f"{place} holds a run whose {name} was another; repeat its settings, which {place / CONFIG} holds.")


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
