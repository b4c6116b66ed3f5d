"""Laws of writing: a file is whole or not there, whatever happens on the way."""

import os
import stat
from pathlib import Path

import pytest

from lungseg.errors import UserError
from lungseg.files import write_text, written_whole


def left_over(folder: Path, *expected: str) -> bool:
    return sorted(path.name for path in folder.iterdir()) != sorted(expected)


def test_a_file_takes_its_name_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "result.txt"
    with written_whole(path) as beside:
        beside.write_text("half", encoding="utf-8")
        assert not path.exists()
        assert beside.parent == path.parent  # the same disk, or the last step would be a copy
        beside.write_text("whole", encoding="utf-8")
    assert path.read_text(encoding="utf-8") == "whole"
    assert not left_over(path.parent, "result.txt")


def test_a_name_that_is_no_text_does_not_spoil_a_table(tmp_path: Path) -> None:
    write_text(tmp_path / "table.csv", f"{os.fsdecode(b'gr' + bytes([255]) + b'n.png')},0.2")  # as Linux lets files be called
    assert (tmp_path / "table.csv").read_text(encoding="utf-8").endswith("n.png,0.2")


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("before", [None, "old"])
def test_after_a_failure_everything_is_as_before(before: str | None, failure: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "result.txt"
    if before is not None:
        path.write_text(before, encoding="utf-8")

    def fail() -> None:
        with written_whole(path) as beside:
            beside.write_text("half", encoding="utf-8")
            raise failure

    with pytest.raises(failure):
        fail()
    assert not left_over(tmp_path, *(["result.txt"] if before else []))
    assert before is None or path.read_text(encoding="utf-8") == before


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_are_those_of_any_new_file(umask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        write_text(tmp_path / "result.txt", "x")
        assert stat.S_IMODE((tmp_path / "result.txt").stat().st_mode) == mode
        assert os.umask(umask) == umask  # left as it was
    finally:
        os.umask(before)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "result.txt", tmp_path / "file" / "deep" / "result.txt", tmp_path / "folder"):
        with pytest.raises(UserError, match=r"cannot be written \(.+\); choose another folder") as caught:
            write_text(path, "x")
        assert str(path) in str(caught.value)
    assert (tmp_path / "file").read_text(encoding="utf-8") == "in the way"
    assert not left_over(tmp_path, "file", "folder")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_a_full_disk_is_said_to_be_full(tmp_path: Path) -> None:

    def fill() -> None:
        with written_whole(tmp_path / "result.txt"):
            Path("/dev/full").write_bytes(b"x")

    with pytest.raises(UserError, match=r"result\.txt cannot be written \(No space left on device\).*make room"):
        fill()
    assert not left_over(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="there the flush itself would fail")
def test_what_is_flushed_is_open_for_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows flushes nothing else."""
    import fcntl

    flushed = []
    fsync = os.fsync

    def watched(file: int) -> None:
        flushed.append(fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE)
        fsync(file)

    monkeypatch.setattr(os, "fsync", watched)
    write_text(tmp_path / "result.txt", "x")
    assert flushed == [os.O_RDWR]
    assert (tmp_path / "result.txt").read_text(encoding="utf-8") == "x"


def test_text_is_utf_8(tmp_path: Path) -> None:
    write_text(tmp_path / "notes.txt", "Lungenflügel")
    assert (tmp_path / "notes.txt").read_bytes() == "Lungenflügel".encode()
