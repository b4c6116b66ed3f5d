"""What goes wrong outside this program while it trains: full disks, lost files, exhausted memory, killed processes."""

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from lungseg.errors import UserError

SMALLER = "lower loader.batch_size or preprocess.size"
MEMORY = f"the memory is full; {SMALLER}, or set loader.cache=disk."


@contextmanager
def faults_said(folder: Path) -> Iterator[None]:
    """Turns a fault of the machine into one sentence; a fault of this program keeps its traceback.

    Args:
        folder: the run's, named where the fault itself names no file.

    Raises:
        UserError: a file cannot be written or read, memory is full, or a loader process ended.
    """
    try:
        with _writing_threads():
            yield
    except Exception as error:
        # TensorBoardLogger takes every failure to write for a value that it does not support.
        root = error.__cause__ if isinstance(error, ValueError) and isinstance(error.__cause__, OSError) else error
        sentence = _disk(root, folder) if isinstance(root, OSError) else _process(root)
        if sentence is None:
            raise
        raise UserError(sentence) from error


def _disk(error: OSError, folder: Path) -> str | None:
    """What the system refuses; None for an error that is not the system's, and for a reader of our output who has gone."""
    if error.errno is None or isinstance(error, BrokenPipeError):
        return None
    if error.errno == errno.ENOMEM:
        return MEMORY
    return f"{error.filename or f'a file in {folder}'} cannot be used ({error.strerror}); make room or mend the disk."


def _process(error: Exception) -> str | None:
    """What has happened to memory or to a loader process; None for a bug, and for what is a sentence already."""
    text = str(error).strip()
    if isinstance(error, UserError):
        # From a loader process torch brings the whole traceback as the message, the sentence last.
        return text.splitlines()[-1].partition(f"{UserError.__name__}: ")[2] if "\n" in text else None
    if isinstance(error, torch.OutOfMemoryError):
        return f"the memory of the GPU is full; {SMALLER}, or set trainer.precision=16-mixed."
    if isinstance(error, MemoryError) or "DefaultCPUAllocator" in text:
        return MEMORY
    if isinstance(error, RuntimeError) and ("</torch_" in text or "out of shared memory" in text):
        return "the shared memory (/dev/shm) is full; set loader.num_workers=0, or give the machine more of it."
    if isinstance(error, RuntimeError) and text.startswith("DataLoader worker (pid"):
        return "a loader process was ended from outside, as for lack of memory; lower loader.num_workers or loader.batch_size."
    return None


@contextmanager
def _writing_threads() -> Iterator[None]:
    """A full disk that TensorBoard's writing thread met: an error here, in place of a traceback on the screen from there."""
    met: list[OSError] = []
    before = threading.excepthook

    def keep(arguments: threading.ExceptHookArgs) -> None:
        if isinstance(arguments.exc_value, OSError):
            met.append(arguments.exc_value)
        else:
            before(arguments)

    threading.excepthook = keep
    try:
        yield
    finally:
        threading.excepthook = before
    if met:
        raise met[0]
