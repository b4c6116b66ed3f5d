"""Journeys on a machine that fails: full disks, lost files, exhausted memory, killed processes. Each ends in one sentence."""

import errno
import multiprocessing
import resource
import shutil
from pathlib import Path

import pytest
import torch
from disks import DISK, fill, mount
from helpers import PHANTOMS, SMALL, Done, assert_refused, lungseg, metrics_of, train
from moments import before_file
from torch.utils.data import DataLoader, Dataset

from lungseg import checkpoint
from lungseg.errors import UserError
from lungseg.log import log, messages
from lungseg.training.faults import faults_said

SHORT = (*PHANTOMS, "trainer.max_epochs=2")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run_into(folder: Path, *words: str) -> Done:
    return lungseg("train", *SHORT, *words, f"hydra.run.dir={folder}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "time"),
    [
        ("config.yaml", 1),
        ("split.json", 1),
        ("run.json", 1),
        ("last.ckpt", 1),
        ("best.ckpt", 1),
        ("history.csv", 1),
        ("last.ckpt", 2),
        ("last.ckpt", 3),
        ("test_images.csv", 1),
        ("test_typical.png", 1),
    ],
)
@pytest.mark.parametrize("logger", ["tensorboard", "csv"])
def test_a_disk_that_runs_full_is_said_and_nothing_is_lost(name: str, time: int, logger: str, disk: Path) -> None:
    with before_file(name, lambda: fill(disk), time):  # what comes after it finds no room
        done = run_into(disk / "run", f"logger={logger}")
    assert_refused(done, str(disk / "run"), "No space left on device")
    assert not list(disk.rglob(".partial-*"))
    (disk / "filler").unlink()
    # What had not yet made anything of its own leaves nothing, and is simply begun again.
    resume = ["ckpt_path=last"] if (disk / "run" / "config.yaml").is_file() else []
    train(disk / "run", *SHORT, f"logger={logger}", *resume)
    train(disk.parent / "whole", *SHORT, f"logger={logger}")
    assert metrics_of(disk / "run") == metrics_of(disk.parent / "whole")


def test_a_disk_without_room_for_the_cache_is_said(disk: Path) -> None:
    (disk / "filler").write_bytes(bytes(DISK - 2**17))
    words = ("loader.cache=disk", f"loader.cache_folder={disk / 'cache'}", "logger=csv")
    done = run_into(disk.parent / "run", *words)
    assert_refused(done, "cache/", "No space left on device", "loader.cache_folder=DIR", "loader.cache=memory")
    assert not list(disk.rglob(".partial-*"))
    (disk / "filler").unlink()
    train(disk.parent / "run", *SHORT, *words)  # what was whole before is used


def test_a_cache_that_is_read_only_is_used(disk: Path) -> None:
    words = ("loader.cache=disk", f"loader.cache_folder={disk / 'cache'}", "logger=csv")
    train(disk.parent / "first", *SHORT, *words)
    mount("-o", "remount,ro", disk)
    train(disk.parent / "second", *SHORT, *words)
    assert metrics_of(disk.parent / "first") == metrics_of(disk.parent / "second")


def test_a_log_that_cannot_be_written_is_said_once(capfd: pytest.CaptureFixture[str]) -> None:
    with messages(None, Path("/dev/full")):
        with pytest.raises(UserError, match="/dev/full cannot be written"):
            log.info("what cannot be kept")
        log.info("what follows is not tried again")
    assert capfd.readouterr() == ("", "")


def test_a_folder_that_is_read_only_is_said(disk: Path) -> None:
    mount("-o", "remount,ro", disk)
    assert_refused(run_into(disk / "run"), str(disk / "run"), "Read-only file system")


@pytest.mark.parametrize("name", ["checkpoints", "overlays"])
def test_a_folder_that_becomes_read_only_is_said(name: str, disk: Path) -> None:
    folder = disk / "run" / name
    folder.mkdir(parents=True)
    mount("--bind", folder, folder)
    with before_file("history.csv", lambda: mount("-o", "remount,ro,bind", folder)):
        done = run_into(disk / "run", "logger=csv")
    assert_refused(done, str(folder), "Read-only file system")
    assert checkpoint.load(disk / "run" / "checkpoints" / "best.ckpt").build()


def test_a_file_removed_after_it_was_listed_is_said(dataset: Path, tmp_path: Path) -> None:
    lost = dataset / "Train" / "Images" / "p01_a.png"
    words = (*SMALL, "data=folder", f"data.root={dataset}", r"data.patient_regex=^p\d\d", "logger=csv")
    with before_file("split.json", lost.unlink):  # the files have been listed, and none been read
        done = lungseg("train", *words, f"hydra.run.dir={tmp_path / 'run'}")
    assert_refused(done, str(lost))


def test_a_cache_removed_while_training_is_said(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with before_file("best.ckpt", lambda: shutil.rmtree(cache)):
        done = run_into(tmp_path / "run", "loader.cache=disk", f"loader.cache_folder={cache}", "logger=csv")
    assert_refused(done, str(cache), "is gone", "leave the cache alone")
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()


@pytest.mark.slow
def test_a_killed_loader_process_is_said(tmp_path: Path) -> None:
    def kill() -> None:
        (worker,) = multiprocessing.active_children()
        worker.kill()

    with before_file("best.ckpt", kill):
        done = run_into(tmp_path / "run", "loader.num_workers=1", "logger=csv")
    assert_refused(done, "a loader process was ended from outside", "loader.num_workers")
    assert not multiprocessing.active_children()


class Faulty(Dataset[int]):
    """A data set whose reading fails in its own way."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        raise self.error


def test_a_fault_in_a_loader_process_is_one_sentence(tmp_path: Path) -> None:
    sentence = "p01.png cannot be read; look at it."
    with pytest.raises(UserError) as caught, faults_said(tmp_path):
        list(DataLoader(Faulty(UserError(sentence)), num_workers=1))
    assert str(caught.value) == sentence


def test_a_bug_in_a_loader_process_keeps_its_traceback(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError, match="in __getitem__"), faults_said(tmp_path):
        list(DataLoader(Faulty(ZeroDivisionError("a bug")), num_workers=1))


@pytest.mark.slow
def test_exhausted_memory_is_said(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)

    def limit() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**26, before[1]))

    with before_file("last.ckpt", limit):  # all is imported and read; what remains is to train
        try:
            done = run_into(tmp_path / "run", "preprocess.size=512", "model.widths=[16,16]", "logger=csv")
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)
    assert_refused(done, "the memory is full", "loader.batch_size", "preprocess.size")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
            r"memory of the GPU is full.*loader\.batch_size",
        ),
        (MemoryError("Unable to allocate 9.00 GiB for an array"), r"memory is full.*loader\.batch_size"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), r"memory is full.*loader\.batch_size"),
        (
            RuntimeError("unable to allocate shared memory(shm) for file </torch_1_2>: No space left"),
            r"/dev/shm.*loader\.num_workers",
        ),
        (OSError(errno.EIO, "Input/output error", "p01.png"), r"p01\.png.*Input/output error"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_fault_of_the_machine_is_said(error: Exception, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said), faults_said(tmp_path):
        raise error


@pytest.mark.slow
def test_a_finished_run_that_cannot_go_on_stays_finished(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(folder, *SHORT, "logger=csv")
    before = metrics_of(folder)
    done = run_into(folder, "logger=csv", "ckpt_path=last", "trainer.fast_dev_run=true")  # of one epoch, where the state has two
    assert_refused(done, "trainer cannot train with these settings", "current_epoch=2")
    assert metrics_of(folder) == before


def test_a_training_that_comes_apart_stops_and_keeps_the_best(tmp_path: Path) -> None:
    words = ("optimization.lr=1", "optimization.weight_decay=1e20", "optimization.warmup=0", "trainer.max_epochs=5", "logger=csv")
    done = run_into(tmp_path / "run", *words)
    assert_refused(done, "the loss became infinite in epoch", "lower optimization.lr than 1")
    state = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert all(value.isfinite().all() for value in state["state_dict"].values())
