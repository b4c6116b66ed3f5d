"""Files that are either whole or not there."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lungseg.errors import UserError

PARTIAL = ".partial-"
ROOM = "choose another folder or make room"
HIDDEN = ".lungseg"  # what a folder of results holds for the program alone
BESIDE = OVERLAYS, PROBABILITIES, DICOM_SEG = "overlays", "probabilities", "dicom_seg"  # folders of a prediction beside its masks


class CannotWrite(UserError):
    """A file cannot be written, and neither will others be in its folder."""


@contextmanager
def written_whole(path: Path, remedy: str = ROOM) -> Iterator[Path]:
    """A path beside the target to write to; it takes the target's name only once it is complete and on the disk.

    A crash at any moment leaves the old file or the new one, never a half. Missing folders are made.

    Raises:
        CannotWrite: the folder cannot be written to, or the disk is full.
    """
    beside: Path | None = None
    try:
        with writing(path, remedy):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=PARTIAL, dir=path.parent)
            os.close(handle)
            beside = Path(name)
            beside.chmod(0o666 & ~_umask())  # mkstemp's 0600 would hide results from colleagues
            yield beside
            with beside.open("r+b") as written:  # Windows flushes no file that is open for reading only
                os.fsync(written.fileno())
            beside.replace(path)
    finally:
        if beside is not None:
            with suppress(OSError):  # a disk that has become read-only; the error above says so
                beside.unlink(missing_ok=True)


@contextmanager
def writing(path: Path, remedy: str = ROOM) -> Iterator[None]:
    """Says in one sentence that a file cannot be written, and what to do about it.

    Raises:
        CannotWrite: the folder cannot be written to, or the disk is full.
    """
    try:
        yield
    except OSError as error:
        raise CannotWrite(f"{path} cannot be written ({error.strerror or error}); {remedy}.") from error


def from_home(text: str | Path) -> Path:
    """A path as typed, with ``~`` as the home folder; a name that only begins so, such as ``~x`` with no user x, is a name."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def remove_partials(folder: Path) -> None:
    """Removes what a killed process left half written in a folder that no other process writes to."""
    for partial in folder.glob(f"{PARTIAL}*"):
        with suppress(OSError):  # it will do no harm
            shutil.rmtree(partial) if partial.is_dir() else partial.unlink()


def write_text(path: Path, text: str) -> None:
    """UTF-8 text, whole or not at all; bytes of a file's name that are no letter are written as ``\\udcff``."""
    with written_whole(path) as beside:
        beside.write_text(text, encoding="utf-8", errors="backslashreplace")


def sha256_of(path: Path) -> str:
    """Of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
