"""A process that tries one numbered case after the other and may hang, swell or crash, and the one that looks after it."""

import json
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

CPU_S, WALL_S = 8, 90  # of one case; the machine may be busy with other things, which the processor's clock does not count
PEAK_BYTES = 2**31
CASE = "case"  # the folder in which a case has its files
TALKERS = ("dicom", "libpng")  # codecs that have no switch for what they say on the error stream


class Wrong(Exception):
    """What a case has shown against the law."""


@dataclass(frozen=True)
class Finding:
    """A case that broke the law, and the folder that keeps its files."""

    number: int
    what: str
    files: Path


def tried(command: Sequence[str], folder: Path, count: int) -> Iterator[str | Finding]:
    """Has a process try the cases 0 to count, and another the rest whenever one ends; gives what came of each.

    Args:
        command: starts a process that calls ``serve``, with the first case and the one after the last as two more words.
    """
    number = 0
    while number < count:
        begun, full = None, False
        with subprocess.Popen([*command, str(number), str(count)], stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            watch = _Watch(child)
            for line in child.stdout:
                watch.seen = time.monotonic()
                report = json.loads(line)
                if "begun" in report:
                    begun = report["begun"]
                    continue
                number, begun, full, what = report["done"] + 1, None, report["full"], report["what"]
                yield Finding(report["done"], what, _kept(folder, report["done"])) if what else report["name"]
            watch.over.set()
        if begun is not None:
            what = "it hung" if watch.bit or child.returncode == -signal.SIGPROF else f"the process ended with {child.returncode}"
            _keep(folder, begun, what)
            yield Finding(begun, what, _kept(folder, begun))
            number = begun + 1
        elif number < count and not full:
            raise RuntimeError(f"the process ended between cases, with {child.returncode}")


def serve(folder: Path, first: int, last: int, attempt: Callable[[int], str]) -> None:
    """Tries cases, and says a line before and after each on the standard output, which is kept from everything else.

    Args:
        attempt: makes and tries one case in ``folder / CASE`` and gives its name and what came of it, or raises.
    """
    with os.fdopen(os.dup(1), "w", buffering=1) as say, tempfile.TemporaryFile() as spoken:
        os.dup2(spoken.fileno(), 1)
        os.dup2(spoken.fileno(), 2)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + PEAK_BYTES, used + PEAK_BYTES))
        for number in range(first, last):
            say.write(json.dumps({"begun": number}) + "\n")
            name, what = _tried(number, attempt)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            full = peak > PEAK_BYTES
            what = what or (f"it took {peak / 2**30:.2f} GiB" if full else _overheard(spoken.fileno(), name))
            os.truncate(spoken.fileno(), 0)
            os.lseek(spoken.fileno(), 0, os.SEEK_SET)
            if what:
                _keep(folder, number, what)
            say.write(json.dumps({"done": number, "name": name, "what": what, "full": full}) + "\n")
            if full:  # the peak stays, and would be laid at the door of all that follow
                return


def _tried(number: int, attempt: Callable[[int], str]) -> tuple[str, str]:
    signal.setitimer(signal.ITIMER_PROF, CPU_S)  # its signal ends the process, even inside a library
    try:
        return attempt(number), ""
    except Wrong as wrong:
        return "", str(wrong)
    except BaseException:  # SystemExit too: nothing but a sentence and an exit code may come of a file
        return "", traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _overheard(spoken: int, name: str) -> str:
    heard = os.pread(spoken, 500, 0).decode(errors="replace")
    return f"a library spoke: {heard}" if heard and not any(talker in name + heard for talker in TALKERS) else ""


def _kept(folder: Path, number: int) -> Path:
    return folder / f"finding-{number}"


def _keep(folder: Path, number: int, what: str) -> None:
    kept = _kept(folder, number)
    shutil.rmtree(kept, ignore_errors=True)
    if (folder / CASE).is_dir():
        shutil.copytree(folder / CASE, kept, symlinks=True)
    kept.mkdir(exist_ok=True)
    (kept / "what.txt").write_text(what, encoding="utf-8")


class _Watch:
    """Kills a process that has said nothing for long."""

    def __init__(self, child: "subprocess.Popen[str]") -> None:
        self.child, self.bit, self.seen, self.over = child, False, time.monotonic(), threading.Event()
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while not self.over.wait(1):
            if time.monotonic() - self.seen > WALL_S:
                self.bit = True
                self.child.kill()
                return
