"""Commands as processes of their own, where the process is the subject: signals, ranks, kills, other interpreters' defaults."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
# A shell gives background jobs, and whatever they start, an ignored SIGINT.
ENTRY = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from lungseg.cli import main; sys.exit(main(sys.argv[1:]))"
)


def finished(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """``lungseg WORDS``, started in a folder and waited for."""
    command = [sys.executable, "-c", ENTRY, *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=400, check=False)


@contextmanager
def running(folder: Path, *words: str) -> "Iterator[subprocess.Popen[str]]":
    """The same, going on while the context lasts; nothing of it is left afterwards."""
    with subprocess.Popen(
        [sys.executable, "-c", ENTRY, *words], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()
            for left in processes_of(folder):
                os.kill(left, signal.SIGKILL)


def wait_for(process: "subprocess.Popen[str]", start: str | tuple[str, ...], times: int = 1) -> None:
    """Reads its output until so many lines have begun like this, or like one of these."""
    assert process.stdout is not None
    for line in process.stdout:
        times -= line.startswith(start)
        if times == 0:
            return
    raise AssertionError(f"it ended without another line that begins with {start!r}: {process.communicate()[1]}")


def processes_of(folder: Path) -> list[int]:
    """Living processes other than this one that name a folder on their command line or work in it."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().decode(errors="replace")
            at = (place / "cwd").readlink()
            state = (place / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:  # it has just ended
            continue
        if int(place.name) != os.getpid() and state != "Z" and (str(folder) in words or at.is_relative_to(folder)):
            found.append(int(place.name))
    return found


def none_left(folder: Path, seconds: float = 10.0) -> bool:
    """Whether all processes of a folder end within this time."""
    until = time.monotonic() + seconds
    while processes_of(folder):
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return True
