"""Laws of the cache on a disk: built once by whoever comes first, whole or not there, and never older than its files."""

import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from builders import ChestCase
from dicoms import series, write
from lungseg.data.cache import SliceCache, in_memory
from lungseg.data.cases import FileCase, Stack
from lungseg.data.disk import KEPT_DAYS, SLICES, DiskCache
from lungseg.data.split import Case
from lungseg.errors import UserError
from lungseg.preprocess import Preprocess
from patients import HU, PLACE, SIDES, save

PREPROCESS = Preprocess(size=32)
PATIENCE_S = 60.0  # with a busy machine


@dataclass(frozen=True)
class SlowCase(ChestCase):
    """A case that takes its time to read, and leaves a file for each time that it is.

    Attributes:
        readers: processes that must have begun to read a case before the reading of any ends.
    """

    folder: Path = Path()
    seconds: float = 0.0
    readers: int = 1

    def identity(self) -> tuple[object, ...]:
        return (self.name,)

    def read(self) -> Stack:
        (self.folder / f"{self.name}-{os.getpid()}-{time.monotonic_ns()}").touch()
        time.sleep(self.seconds)
        until = time.monotonic() + PATIENCE_S
        while len(who_read(self.folder)) < self.readers:
            assert time.monotonic() < until, "the others wait for this one"
            time.sleep(0.01)
        return replace(super().read(), spacing_mm=(5.0, 0.7, 0.7), doubts=("odd",))

    def reads(self) -> int:
        return len(list(self.folder.glob(f"{self.name}-*")))


def who_read(folder: Path) -> set[str]:
    """The processes that have begun to read a case."""
    return {path.name.split("-")[1] for path in folder.iterdir()}


@pytest.fixture
def cases(tmp_path: Path) -> list[SlowCase]:
    (tmp_path / "reads").mkdir()
    return [SlowCase(name, folder=tmp_path / "reads", seed=seed) for seed, name in enumerate("abcd")]


def assert_same(left: SliceCache, right: SliceCache) -> None:
    assert (left.infos, left.scans, left.digest) == (right.infos, right.scans, right.digest)
    for i in range(len(left)):
        for name in ("image", "target", "truth"):
            one, other = getattr(left, name)(i), getattr(right, name)(i)
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


def test_the_next_run_reads_nothing(cases: list[SlowCase], tmp_path: Path) -> None:
    first, second = DiskCache(tmp_path / "cache"), DiskCache(tmp_path / "cache")
    made = first.hold(cases, PREPROCESS)
    assert_same(second.hold(cases[::-1], PREPROCESS), in_memory(cases[::-1], PREPROCESS, True))
    assert [case.reads() for case in cases] == [2, 2, 2, 2]  # one of them for the comparison
    assert (first.built, first.reused, second.built, second.reused) == (4, 0, 0, 4)
    assert "4 built" in first.said()
    assert "built" not in second.said()
    assert made.nbytes == 0
    assert made.scans[0].doubts == ("odd",)


def test_another_preprocessing_has_entries_of_its_own(cases: list[SlowCase], tmp_path: Path) -> None:
    for preprocess in (PREPROCESS, Preprocess(size=48), Preprocess(size=32, percentiles=(1, 99))):
        assert_same(DiskCache(tmp_path / "cache").hold(cases, preprocess), in_memory(cases, preprocess, True))
    assert len(list((tmp_path / "cache").glob(f"*/{SLICES}"))) == 12


def test_what_a_case_depends_on_is_in_its_identity(tmp_path: Path) -> None:
    case = FileCase("a", save(tmp_path / "a.mhd"), save(tmp_path / "m.nrrd", SIDES))
    first = case.identity()
    assert case.identity() == replace(case, name="b", patient="p", source="s").identity() == first
    others = [replace(case, slope=2.0), replace(case, lung_values=(1.0,)), replace(case, ignore_values=(2.0,))]
    seen = {first, *(other.identity() for other in others)}
    for file in (tmp_path / "a.mhd", tmp_path / "a.raw", tmp_path / "m.nrrd"):
        os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
        seen.add(case.identity())
    assert len(seen) == 7
    file.unlink()
    with pytest.raises(UserError, match=r"m\.nrrd cannot be opened"):
        case.identity()


def detached_nrrd(folder: Path) -> tuple[Path, Path]:
    whole = save(folder / "whole.nrrd")
    header, _, voxels = whole.read_bytes().partition(b"\n\n")
    (folder / "voxels.bin").write_bytes(voxels)
    (folder / "a.nrrd").write_bytes(header + b"\ndata file: voxels.bin\n\n")
    return folder / "a.nrrd", folder / "voxels.bin"


def mhd_of_another_stem(folder: Path) -> tuple[Path, Path]:
    header = save(folder / "a.mhd")
    (folder / "a.raw").rename(folder / "voxels.bin")
    header.write_text(header.read_text().replace("a.raw", "voxels.bin"))
    return header, folder / "voxels.bin"


def header_alone_in_a_folder(folder: Path) -> tuple[Path, Path]:
    header, voxels = detached_nrrd(folder)
    header.write_bytes(header.read_bytes().replace(b"voxels.bin", b"../voxels.bin"))
    (folder / "a").mkdir()
    header.rename(folder / "a" / "a.nrrd")
    return folder / "a", voxels


def linked_series(folder: Path) -> tuple[Path, Path]:
    write(folder / "far", series(HU, PLACE))
    (folder / "a").mkdir()
    for name, target in (("ct", "far"), ("self", "a")):
        (folder / "a" / name).symlink_to(folder / target)
    return folder / "a", min((folder / "far").iterdir())


@pytest.mark.parametrize("kind", [detached_nrrd, mhd_of_another_stem, header_alone_in_a_folder, linked_series])
def test_a_scan_depends_on_every_file_that_holds_its_voxels(kind: Callable[[Path], tuple[Path, Path]], tmp_path: Path) -> None:
    image, voxels = kind(tmp_path)
    case = FileCase("a", image, save(tmp_path / "m.nrrd", SIDES))
    np.testing.assert_array_equal(case.read().image[:], HU)
    before = case.identity()
    assert case.identity() == before
    os.utime(voxels, ns=(0, voxels.stat().st_mtime_ns + 1))
    assert case.identity() != before


@pytest.mark.parametrize("name", ["a.mhd", "a.mha", "a.nrrd"])
@pytest.mark.parametrize("header", [b"no header", b"NRRD0004\ndata file: \xff\n\n", b"ElementDataFile = \xff\n"])
def test_a_damaged_header_is_refused_in_one_sentence(name: str, header: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(header)
    case = FileCase("a", tmp_path / name, save(tmp_path / "m.nrrd", SIDES))
    with pytest.raises(UserError, match=rf"^\S+{name} [^\n]+$"):
        DiskCache(tmp_path / "cache").hold([case], PREPROCESS)


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    cases = [FileCase(name, save(tmp_path / f"{name}.nrrd"), save(tmp_path / f"{name}_m.nrrd", SIDES)) for name in "ab"]
    DiskCache(tmp_path / "cache").hold(cases, PREPROCESS)
    save(tmp_path / "a_m.nrrd", np.flip(SIDES, 0))
    cache = DiskCache(tmp_path / "cache")
    assert_same(cache.hold(cases, PREPROCESS), in_memory(cases, PREPROCESS, True))
    assert (cache.built, cache.reused) == (1, 1)


@pytest.mark.parametrize("damage", ["cut", "emptied", "overwritten"])
def test_an_entry_that_is_not_whole_is_built_anew(damage: str, cases: list[SlowCase], tmp_path: Path) -> None:
    DiskCache(tmp_path / "cache").hold(cases, PREPROCESS)
    for file in (tmp_path / "cache").glob(f"*/{SLICES}"):
        content = file.read_bytes()
        file.write_bytes({"cut": content[: len(content) // 2], "emptied": b"", "overwritten": bytes(len(content))}[damage])
    cache = DiskCache(tmp_path / "cache")
    assert_same(cache.hold(cases, PREPROCESS), in_memory(cases, PREPROCESS, True))
    assert cache.built == 4


def hold(folder: Path, cases: list[Case]) -> None:
    DiskCache(folder).hold(cases, PREPROCESS)


def processes(count: int, folder: Path, cases: list[SlowCase]) -> list[multiprocessing.process.BaseProcess]:
    spawned = [multiprocessing.get_context("spawn").Process(target=hold, args=(folder, cases)) for _ in range(count)]
    for process in spawned:
        process.start()
    return spawned


def test_processes_that_come_together_read_each_case_once(cases: list[SlowCase], tmp_path: Path) -> None:
    slow = [replace(case, readers=3) for case in cases]
    for process in processes(3, tmp_path / "cache", slow):
        process.join(2 * PATIENCE_S)
        assert process.exitcode == 0
    assert [case.reads() for case in slow] == [1, 1, 1, 1]
    assert len(who_read(tmp_path / "reads")) == 3  # they shared the work
    assert_same(DiskCache(tmp_path / "cache").hold(slow, PREPROCESS), in_memory(cases, PREPROCESS, True))


def test_a_build_that_is_killed_leaves_nothing_that_is_taken_for_whole(cases: list[SlowCase], tmp_path: Path) -> None:
    slow = [cases[0], replace(cases[1], seconds=60.0), *cases[2:]]
    (process,) = processes(1, tmp_path / "cache", slow)
    while not cases[1].reads():
        assert process.is_alive()
        time.sleep(0.02)
    process.kill()
    process.join()
    entry = max((path for path in (tmp_path / "cache").iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    (entry / ".partial-x").write_bytes(b"half")  # as a kill in the middle of the file would leave it
    cache = DiskCache(tmp_path / "cache")
    assert_same(cache.hold(cases, PREPROCESS), in_memory(cases, PREPROCESS, True))
    assert (cache.built, cache.reused) == (3, 1)
    assert not list((tmp_path / "cache").rglob(".partial-*"))


def test_entries_that_nobody_has_used_for_long_are_removed_when_others_are_built(cases: list[SlowCase], tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    DiskCache(folder).hold(cases[:2], PREPROCESS)
    (folder / "notes").mkdir()
    (folder / "notes" / SLICES).touch()
    for file in folder.glob(f"*/{SLICES}"):
        os.utime(file, (0, time.time() - (KEPT_DAYS + 1) * 86400))
    DiskCache(folder).hold(cases[:1], PREPROCESS)  # is used, and nothing is built
    assert len(list(folder.glob(f"*/{SLICES}"))) == 3
    DiskCache(folder).hold(cases[2:], PREPROCESS)
    assert len(list(folder.glob(f"*/{SLICES}"))) == 4
    cache = DiskCache(folder)
    cache.hold(cases, PREPROCESS)
    assert (cache.built, cache.reused) == (1, 3)
    assert (folder / "notes" / SLICES).exists()
    assert (folder / "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d172789f06886806bc55")
    assert (folder / ".gitignore").read_text() == "*\n"
