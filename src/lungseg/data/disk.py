"""Decoded slices on a disk, built once and shared by all runs, ranks and jobs that ask for the same."""

import hashlib
import json
import os
import re
import time
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from lungseg.data.cache import Facts, SliceCache, SliceFacts, prepared
from lungseg.data.split import Case
from lungseg.errors import UserError
from lungseg.files import remove_partials, write_text, writing, written_whole
from lungseg.log import log
from lungseg.preprocess import Preprocess

FORMAT = 1  # goes up whenever what is kept, how files are read or what phantoms look like changes
SLICES, LOCK = "slices", ".lock"
KEPT_DAYS = 30  # after its last use
ROOM = "choose loader.cache_folder=DIR with more room, or loader.cache=memory"
WAIT_S = 0.1
TAG = (
    "Signature: 8a477f597d28d172789f06886806bc55\n"  # bford.info/cachedir: backups leave it out
    "# Slices that lungseg has decoded. It may be deleted at any time while no training uses it.\n"
)


class DiskCache:
    """A folder with an entry for each case, named by all that it depends on: the files, their size and age, and how they are read
    and prepared. An entry is whole or not there; whoever comes first builds it, and the others wait or build another.

    Args:
        folder: made when the first entry is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reused = self.built = 0
        self.seconds = 0.0
        self._is_ready = False

    def hold(self, cases: Sequence[Case], preprocess: Preprocess, done: Callable[[], None] = lambda: None) -> SliceCache:
        """The slices of these cases; one case at a time is in memory.

        Args:
            done: called after each case, for a progress bar.

        Raises:
            UserError: a file cannot be read, an image and its mask do not fit, or the disk is full.
        """
        began = time.perf_counter()
        entries = [self.folder / _name(case, preprocess) for case in cases]
        held = {number: found for number, entry in enumerate(entries) if (found := _opened(entry, preprocess.size)) is not None}
        for _ in held:
            done()
        self.reused += len(held)
        missing = deque(number for number in range(len(cases)) if number not in held)
        if missing:
            self._prepare()
        busy = 0  # entries in a row that others build
        while missing:
            number = missing.popleft()
            found = self._built(cases[number], entries[number], preprocess)
            if found is None:
                missing.append(number)
                busy += 1
                if busy >= len(missing):
                    time.sleep(WAIT_S)
                continue
            busy, held[number] = 0, found
            done()
        self.seconds += time.perf_counter() - began
        return SliceCache(cases, [held[number] for number in range(len(cases))], preprocess.size)

    def said(self) -> str:
        """What came from where, as a sentence."""
        built = f", {self.built} built" if self.built else ""
        return f"Slices of {self.reused + self.built} cases are in the cache {self.folder}{built}; {self.seconds:.2f} s."

    def _prepare(self) -> None:
        if self._is_ready:
            return
        self._is_ready = True
        log.info(f"What is not in the cache {self.folder} yet is read, once.")
        with writing(self.folder, ROOM):
            self.folder.mkdir(parents=True, exist_ok=True)
            for name, text in (("CACHEDIR.TAG", TAG), (".gitignore", "*\n")):
                if not (self.folder / name).exists():
                    write_text(self.folder / name, text)
        _remove_old(self.folder)

    def _built(self, case: Case, entry: Path, preprocess: Preprocess) -> "OnDisk | None":
        """The entry of a case, built if it is not there; None while another process builds it."""
        with writing(entry, ROOM):
            entry.mkdir(exist_ok=True)
            lock = FileLock(entry / LOCK)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                return None
        try:
            found = _opened(entry, preprocess.size)
            if found is not None:  # by now
                self.reused += 1
                return found
            remove_partials(entry)  # of a process that was killed
            _write(case, entry, preprocess)
        finally:
            lock.release()
        self.built += 1
        found = _opened(entry, preprocess.size)
        assert found is not None
        return found


@dataclass(frozen=True)
class OnDisk:
    """The slices of a case in one file, which is opened for each slice, so that any number of cases needs no open files.

    Attributes:
        places: of each slice, where it begins, and the bytes of its target and of its truth, which are packed.
    """

    file: Path
    size: int
    facts: Facts
    places: tuple[tuple[int, int, int], ...]
    nbytes: int = 0

    def image(self, z: int) -> NDArray[np.float32]:
        start, _, _ = self.places[z]
        return np.frombuffer(self._read(start, self._image_bytes), np.float32).reshape(self.size, self.size)

    def target(self, z: int) -> NDArray[np.uint8]:
        start, target, _ = self.places[z]
        return self._unpacked(start + self._image_bytes, target).reshape(self.size, self.size, 2)

    def truth(self, z: int) -> NDArray[np.uint8]:
        start, target, truth = self.places[z]
        return self._unpacked(start + self._image_bytes + target, truth).reshape(self.facts.shape[1:])

    @property
    def _image_bytes(self) -> int:
        return 4 * self.size * self.size

    def _unpacked(self, start: int, count: int) -> NDArray[np.uint8]:
        return np.frombuffer(zlib.decompress(self._read(start, count)), np.uint8)

    def _read(self, start: int, count: int) -> bytes:
        try:
            with self.file.open("rb") as stream:
                stream.seek(start)
                return stream.read(count)
        except OSError as error:
            raise UserError(f"{self.file} is gone ({error.strerror}); leave the cache alone while a training uses it.") from error


def _name(case: Case, preprocess: Preprocess) -> str:
    parts = (FORMAT, version("lungseg"), case.identity(), preprocess.state())
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


def _write(case: Case, entry: Path, preprocess: Preprocess) -> None:
    """A slice after the other, then what is known of them, then the length of that."""
    stack = case.read()
    slices, places = [], []
    with written_whole(entry / SLICES, ROOM) as beside, beside.open("wb") as stream:
        for slice_ in prepared(case.name, stack, preprocess):
            target, truth = (zlib.compress(part.tobytes(), 1) for part in (slice_.target, slice_.truth))
            places.append((stream.tell(), len(target), len(truth)))
            for part in (np.ascontiguousarray(slice_.image).data, target, truth):
                stream.write(part)
            slices.append(slice_.facts)
        facts = Facts.of(stack, slices)
        index = {
            "shape": facts.shape,
            "slices": [(None if digest is None else digest.hex(), lung, content.hex()) for digest, lung, content in slices],
            "spacing_mm": facts.spacing_mm,
            "doubts": facts.doubts,
            "places": places,
        }
        last = json.dumps(index).encode()
        stream.write(last + len(last).to_bytes(8, "little"))


def _opened(entry: Path, size: int) -> OnDisk | None:
    """An entry that is whole; None where there is none."""
    file = entry / SLICES
    try:
        with file.open("rb") as stream:
            end = stream.seek(-8, os.SEEK_END)
            stream.seek(end - int.from_bytes(stream.read(8), "little"))
            index = json.loads(stream.read()[:-8])
            spacing_mm = index["spacing_mm"]
            slices = [
                SliceFacts(digest and bytes.fromhex(digest), lung, bytes.fromhex(own)) for digest, lung, own in index["slices"]
            ]
            facts = Facts(tuple(index["shape"]), tuple(slices), spacing_mm and tuple(spacing_mm), tuple(index["doubts"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    with suppress(OSError):  # somebody else's, or on a disk that is read-only
        os.utime(file)  # it was used now
    return OnDisk(file, size, facts, tuple((start, target, truth) for start, target, truth in index["places"]))


def _remove_old(folder: Path) -> None:
    """Removes entries that nobody has used for long, and says so."""
    oldest, removed, freed = time.time() - KEPT_DAYS * 86400, 0, 0
    for entry in folder.iterdir():
        file = entry / SLICES
        if not re.fullmatch("[0-9a-f]{32}", entry.name):
            continue
        with suppress(OSError):  # it is being built, or another process removes it too
            used = (file if file.exists() else entry).stat()
            if used.st_mtime < oldest:
                for part in (file, *entry.glob(".partial-*"), entry / LOCK):
                    part.unlink(missing_ok=True)
                entry.rmdir()
                removed, freed = removed + 1, freed + used.st_size
    if removed:
        log.info(
            f"{removed} entries of the cache {folder} were not used for {KEPT_DAYS} days and were removed ({freed / 1e9:.1f} GB)."
        )
