"""Journeys of a cohort: many scans in one run that is stopped, killed, out of room, and goes on to the end it would have had."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from disks import fill
from helpers import assert_refused, files, predict, table
from moments import before_each_file, before_file

from dicoms import enhanced, series, write
from lungseg import Segmenter
from lungseg.cli import main
from lungseg.commands.folders import claimed
from lungseg.files import HIDDEN
from lungseg.inference.cohort import segment
from lungseg.inference.items import Extras, Item, Result, Source, items
from patients import HU, PLACE, SIDES, save

TABLES = {"summary.csv", "measurements.csv", "measurements.json", "run.json", "report.html"}
# Dies of the signal that nothing can catch, at the so-manieth time that something below the output is touched.
KILLED = """
import os, signal, sys
from lungseg.cli import main
output, left = sys.argv[1], int(sys.argv[2])
def heard(event, arguments):
    global left
    if event.startswith(("open", "os.", "shutil.", "tempfile.")) and any(str(a).startswith(output) for a in arguments):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(heard)
sys.exit(main(sys.argv[3:]))
"""


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Five scans of one patient, as different hospitals have them, and a file that is none."""
    folder = tmp_path / "scans"
    for number, name in enumerate(("a.nii.gz", "sub/b.nrrd", "sub/c.mha", "d.nii")):
        save(folder / name, HU + np.int16(number))
    write(folder / "study", series(HU, PLACE))
    (folder / "broken.nii.gz").write_bytes((folder / "a.nii.gz").read_bytes()[:2000])
    return folder


def contents(output: Path) -> dict[str, Any]:
    """All results by their names; tables without what time took."""
    found: dict[str, Any] = {name: (output / name).read_bytes() for name in files(output) - TABLES}
    for row in (summary := table(output / "summary.csv")):
        row.pop("seconds")
    found |= {"summary.csv": summary}
    return found | {name: (output / name).read_bytes() for name in ("measurements.csv", "measurements.json")}


def assert_same(output: Path, whole: Path) -> None:
    found, expected = contents(output), contents(whole)
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
    assert not list(output.rglob(".partial-*"))


def kept(output: Path) -> list[str]:
    return [scan["file"] for scan in json.loads((output / "run.json").read_text())["scans"] if scan["kept"]]


def test_what_is_done_stays_and_what_is_not_or_has_changed_is_done(scans: Path, seeing_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert predict(seeing_file, scans, out).code == 1
    shutil.copytree(out, tmp_path / "whole")
    before = {name: (out / name).stat().st_mtime_ns for name in files(out)}
    (out / "a.nii.gz").unlink()
    (out / "overlays" / "d.nii.gz.overlay.png").unlink()
    again = predict(seeing_file, scans, out, "resume=true")
    assert again.code == 1  # the broken one is tried again, and is as broken
    assert "5 masks and summary.csv" in again.out
    assert "(3 of them from the earlier run)" in again.out
    assert kept(out) == ["study", "sub/b.nrrd", "sub/c.mha"]
    assert_same(out, tmp_path / "whole")
    for name in ("sub/b.nrrd", "overlays/sub/c.mha.overlay.png", "study.nii.gz"):
        assert (out / name).stat().st_mtime_ns == before[name]

    save(scans / "sub/b.nrrd", HU + np.int16(40))
    slice_ = sorted((scans / "study").iterdir())[3]
    slice_.write_bytes(slice_.read_bytes().replace(b"CHEST ", b"THORAX"))
    save(scans / "broken.nii.gz", HU)
    done = predict(seeing_file, scans, out, "resume=true", "threads=1")  # threads change nothing
    assert done.code == 0
    assert kept(out) == ["a.nii.gz", "d.nii", "sub/c.mha"]
    assert predict(seeing_file, scans, tmp_path / "fresh").code == 0
    assert_same(out, tmp_path / "fresh")


@pytest.mark.parametrize("word", ["threshold=0.6", "labels=binary", "postprocess.holes=false", "overlays=false"])
def test_other_settings_are_another_result(word: str, seeing_file: Path, tmp_path: Path) -> None:
    save(tmp_path / "scans" / "a.nii.gz")
    assert predict(seeing_file, tmp_path / "scans", tmp_path / "out").code == 0
    before = contents(tmp_path / "out")
    assert_refused(
        predict(seeing_file, tmp_path / "scans", tmp_path / "out", "resume=true", word), f"made with another {word.split('=')[0]}="
    )
    assert contents(tmp_path / "out") == before
    assert predict(seeing_file, tmp_path / "scans", tmp_path / "out", "resume=true", "overwrite=true", word).code == 0
    assert kept(tmp_path / "out") == []
    assert predict(seeing_file, tmp_path / "scans", tmp_path / "out", "resume=true", word).code == 0
    assert kept(tmp_path / "out") == ["a.nii.gz"]


def test_scores_are_kept_unless_the_truth_has_changed(seeing_file: Path, tmp_path: Path) -> None:
    save(tmp_path / "scans" / "a.nii.gz")
    truth = save(tmp_path / "truth" / "a.nii.gz", SIDES)
    words = (seeing_file, tmp_path / "scans", tmp_path / "out", f"truth={truth.parent}")
    assert predict(*words).code == 0
    first, scores = table(tmp_path / "out" / "summary.csv"), (tmp_path / "out" / "metrics.json").read_text()
    assert predict(*words, "resume=true").code == 0
    assert kept(tmp_path / "out") == ["a.nii.gz"]
    assert table(tmp_path / "out" / "summary.csv") == first
    assert (tmp_path / "out" / "metrics.json").read_text() == scores
    save(truth, SIDES * (np.arange(64) < 32).astype(np.uint8))
    assert predict(*words, "resume=true").code == 0
    assert kept(tmp_path / "out") == []


def test_what_was_not_made_here_is_not_gone_on_with(seeing_file: Path, tmp_path: Path) -> None:
    save(tmp_path / "scans" / "a.nii.gz")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.nii.gz").write_bytes(b"a mask by hand")
    refused = predict(seeing_file, tmp_path / "scans", tmp_path / "mine", "resume=true")
    assert_refused(refused, "is not empty: give another folder, or overwrite=true.")
    assert files(tmp_path / "mine") == {"a.nii.gz"}
    assert predict(seeing_file, tmp_path / "scans", tmp_path / "new", "resume=true").code == 0  # nothing there yet
    assert_refused(predict(seeing_file, tmp_path / "scans", tmp_path / "new"), "resume=true to go on")


def test_the_folder_of_a_training_is_nobodys_output(seeing_file: Path, tmp_path: Path) -> None:
    save(tmp_path / "scans" / "a.nii.gz")
    run = tmp_path / "run"
    run.mkdir()
    for name in ("run.json", "metrics.json"):
        (run / name).write_text("{}")
    for word in ("resume=true", "overwrite=true"):
        assert predict(seeing_file, tmp_path / "scans", run, word).code == 2
    assert files(run) == {"run.json", "metrics.json"}


def test_another_series_in_the_same_file_is_another_scan(seeing_file: Path, tmp_path: Path) -> None:
    higher = replace(PLACE, step_mm=PLACE.step_mm / 2)
    (tmp_path / "scans").mkdir()
    enhanced(tmp_path / "scans" / "many.dcm", series(HU, PLACE), series(HU[::-1], higher))
    words = (seeing_file, tmp_path / "scans", tmp_path / "out")
    assert predict(*words, "series=1").code == 0
    assert predict(*words, "series=2", "resume=true").code == 0
    assert kept(tmp_path / "out") == []
    assert predict(seeing_file, tmp_path / "scans", tmp_path / "fresh", "series=2").code == 0
    assert_same(tmp_path / "out", tmp_path / "fresh")


@pytest.mark.parametrize("way", ["one.raw", "own.bytes", "LIST", "part%d.raw 0 1 1 3", "o\udcff.raw"])
def test_voxels_beside_a_header_count_too(way: str, seeing_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    whole = save(folder / "a.nrrd")
    header = whole.read_bytes().partition(b"\n\n")[0].replace(b"encoding: gzip", b"encoding: raw") + b"\n"
    names = ["part0.raw", "part1.raw"] if way == "LIST" or "%" in way else [way]
    listed = b"LIST 3\n" + b"\n".join(map(os.fsencode, names)) if way == "LIST" else os.fsencode(way)
    whole.write_bytes(header + b"data file: " + listed + b"\n")
    halves = [HU] if len(names) == 1 else [HU[:12], HU[12:]]
    for name, voxels in zip(names, halves, strict=True):
        (folder / name).write_bytes(voxels.astype("<i2").tobytes())
    scan = tmp_path / "list.txt"
    scan.write_text(str(whole))
    assert predict(seeing_file, scan, tmp_path / "out").code == 0
    assert predict(seeing_file, scan, tmp_path / "out", "resume=true").code == 0
    assert kept(tmp_path / "out") == ["a.nrrd"]
    (folder / names[-1]).write_bytes((halves[-1] + np.int16(20)).astype("<i2").tobytes())
    assert predict(seeing_file, scan, tmp_path / "out", "resume=true").code == 0
    assert kept(tmp_path / "out") == []


def test_nothing_of_other_settings_stays_beside_a_new_mask(seeing_file: Path, tmp_path: Path) -> None:
    write(tmp_path / "scans" / "ct", series(HU, PLACE))
    words = (seeing_file, tmp_path / "scans", tmp_path / "out")
    assert predict(*words, "probabilities=true", "overlays=true").code == 0
    assert {"overlays/ct.nii.gz.overlay.png", "probabilities/ct.nii.gz.probability.nii.gz"} <= files(tmp_path / "out")
    assert predict(*words, "overwrite=true", "overlays=false", "threshold=0.6").code == 0
    assert {name for name in files(tmp_path / "out") if "/" in name} == set()
    for slice_ in (tmp_path / "scans" / "ct").iterdir():
        slice_.write_bytes(slice_.read_bytes()[:900])  # a scan that can no longer be read keeps what it had
    assert predict(*words, "overwrite=true").code in (1, 2)
    assert "ct.nii.gz" in files(tmp_path / "out")


def test_a_mask_that_was_emptied_is_made_again_and_one_that_was_corrected_stays(seeing_file: Path, tmp_path: Path) -> None:
    for name in "ab":
        save(tmp_path / "scans" / f"{name}.nii.gz")
    out = tmp_path / "out"
    assert predict(seeing_file, tmp_path / "scans", out).code == 0
    before = (out / "a.nii.gz").read_bytes()
    (out / "a.nii.gz").write_bytes(b"")
    save(out / "b.nii.gz", SIDES)
    corrected = (out / "b.nii.gz").read_bytes()
    assert predict(seeing_file, tmp_path / "scans", out, "resume=true").code == 0
    assert kept(out) == ["b.nii.gz"]
    assert ((out / "a.nii.gz").read_bytes(), (out / "b.nii.gz").read_bytes()) == (before, corrected)


def test_damaged_records_are_no_records(scans: Path, seeing_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(seeing_file, scans, out)
    shutil.copytree(out, tmp_path / "whole")
    for record, text in zip(sorted((out / HIDDEN).rglob("*.json")), ("", "{}", "[1]", '{"key": 1}', "\0"), strict=True):
        record.write_text(text)
    assert predict(seeing_file, scans, out, "resume=true").code == 1
    assert kept(out) == []
    assert_same(out, tmp_path / "whole")


def test_two_runs_do_not_share_a_folder(seeing_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lungseg.commands.folders.LOCK_WAIT_S", 0.1)
    save(tmp_path / "scans" / "a.nii.gz")
    with claimed(tmp_path / "out" / HIDDEN):
        assert_refused(predict(seeing_file, tmp_path / "scans", tmp_path / "out"), "in use by another process")
    assert predict(seeing_file, tmp_path / "scans", tmp_path / "out").code == 0


def test_results_of_scans_that_are_gone_are_told_of(scans: Path, seeing_file: Path, tmp_path: Path) -> None:
    predict(seeing_file, scans, tmp_path / "out")
    (scans / "d.nii").unlink()
    done = predict(seeing_file, scans, tmp_path / "out", "resume=true")
    assert "1 result of scans that are not in this input stay" in done.out
    assert "d.nii.gz" in files(tmp_path / "out")


def test_a_folder_that_is_closed_has_its_row(seeing_file: Path, tmp_path: Path) -> None:
    save(tmp_path / "scans" / "open" / "a.nii.gz")
    save(tmp_path / "scans" / "closed" / "b.nii.gz")
    (tmp_path / "scans" / "closed").chmod(0)
    try:
        if os.access(tmp_path / "scans" / "closed", os.R_OK):
            pytest.skip("root may read everything")
        done = predict(seeing_file, tmp_path / "scans", tmp_path / "out")
    finally:
        (tmp_path / "scans" / "closed").chmod(0o755)
    assert done.code == 1
    assert "closed: cannot be opened (Permission denied)" in done.out
    assert [row["status"] for row in table(tmp_path / "out" / "summary.csv")] == ["failed", "done"]


def test_what_is_left_out_is_written_down(scans: Path, seeing_file: Path, tmp_path: Path) -> None:
    (scans / "readme").write_text("no scan")
    predict(seeing_file, scans, tmp_path / "out")
    left_out = json.loads((tmp_path / "out" / "run.json").read_text())["left_out"]
    assert left_out == [{"file": str(scans / "readme"), "reason": "is no image"}]


# Stopped


@pytest.mark.parametrize(
    "name", ["c.mha.json", *(pytest.param(name, marks=pytest.mark.slow) for name in ("b.nrrd", "d.nii.gz", "summary.csv"))]
)
def test_an_interrupted_run_goes_on(name: str, scans: Path, seeing_file: Path, tmp_path: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with before_file(name, interrupt):
        stopped = predict(seeing_file, scans, tmp_path / "out")
    assert stopped.code == 130
    assert "resume=true goes on from there" in stopped.err
    assert not list((tmp_path / "out").rglob(".partial-*"))
    assert predict(seeing_file, scans, tmp_path / "out", "resume=true").code == 1
    assert predict(seeing_file, scans, tmp_path / "whole").code == 1
    assert_same(tmp_path / "out", tmp_path / "whole")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, seeing_file: Path) -> Path:
    """A folder with scans, and the output of one uninterrupted run beside."""
    folder = tmp_path_factory.mktemp("cohort")
    for number, name in enumerate(("a.nii.gz", "sub/b.nrrd", "sub/c.mha", "d.nii.gz")):
        save(folder / "scans" / name, HU + np.int16(number))
    write(folder / "scans" / "study", series(HU, PLACE))
    assert predict(seeing_file, folder / "scans", folder / "out").code == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("moment", np.random.default_rng(12).integers(1, 150, 10).tolist())
def test_a_killed_run_leaves_nothing_half_written_and_goes_on(moment: int, whole: Path, seeing_file: Path, tmp_path: Path) -> None:
    out, words = tmp_path / "out", (f"ckpt={seeing_file}", f"input={whole / 'scans'}", f"output={tmp_path / 'out'}")
    command = [sys.executable, "-c", KILLED, str(out), str(moment), "predict", *words]
    died = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert died.returncode == -signal.SIGKILL, died.stderr
    for name in files(out) - TABLES:
        if ".partial-" not in name:
            assert (out / name).read_bytes() == (whole / "out" / name).read_bytes(), name
    there = [path for path in (out / HIDDEN).rglob("*.json") if "key" in json.loads(path.read_text())]
    assert predict(seeing_file, whole / "scans", out, "resume=true").code == 0
    assert len(kept(out)) == len(there)
    assert_same(out, whole / "out")


@pytest.mark.slow
def test_a_scan_that_ends_the_process_costs_one_scan(seeing_file: Path, tmp_path: Path) -> None:
    for name in "abcd":
        save(tmp_path / "scans" / f"{name}.nii.gz", HU[8:16])
    deadly, out = tmp_path / "scans" / "b.nii.gz", tmp_path / "out"
    words = (f"ckpt={seeing_file}", f"input={tmp_path / 'scans'}", f"output={out}", "resume=true")
    # As the system does it that runs out of memory: at the third look into the file, when it is no longer hashed but read.
    command = [sys.executable, "-c", KILLED, str(deadly), "3", "predict", *words]
    codes = [subprocess.run(command, capture_output=True, text=True, check=False, timeout=120).returncode for _ in range(4)]
    assert codes == [-signal.SIGKILL] * 3 + [1]  # killed beside others, twice alone after all the others, left out
    assert [(row["file"][0], row["status"]) for row in table(out / "summary.csv")] == [
        ("a", "done"),
        ("b", "failed"),
        ("c", "done"),
        ("d", "done"),
    ]
    assert kept(out) == ["a.nii.gz", "c.nii.gz", "d.nii.gz"]
    assert "ended the program three times" in table(out / "summary.csv")[1]["error"]
    assert predict(seeing_file, tmp_path / "scans", out, "resume=true").code == 1  # and stays so
    assert predict(seeing_file, tmp_path / "scans", out, "overwrite=true").code == 0


def test_a_full_disk_ends_in_one_sentence_and_the_run_goes_on_once_there_is_room(
    disk: Path, scans: Path, seeing_file: Path, tmp_path: Path
) -> None:
    with before_file("b.nrrd", lambda: fill(disk)):
        full = predict(seeing_file, scans, disk / "out", "overlays=false")
    assert_refused(full, str(disk / "out"), "room")
    assert not list(disk.rglob(".partial-*"))
    (disk / "filler").unlink()
    assert predict(seeing_file, scans, disk / "out", "overlays=false", "resume=true").code == 1
    assert kept(disk / "out")
    assert predict(seeing_file, scans, tmp_path / "whole", "overlays=false").code == 1
    assert_same(disk / "out", tmp_path / "whole")


def test_an_interruption_is_no_death_and_forgets_none(seeing_file: Path, tmp_path: Path) -> None:
    for name in "ab":
        save(tmp_path / "scans" / f"{name}.nii.gz", HU[8:16])
    out = tmp_path / "out"
    for name in "ab":
        (out / HIDDEN).mkdir(parents=True, exist_ok=True)
        (out / HIDDEN / f"{name}.nii.gz.json").write_text('{"begun": 2}')

    def interrupt() -> None:
        raise KeyboardInterrupt

    with before_file("a.nii.gz", interrupt):  # while it is worked on, and before b is
        assert predict(seeing_file, tmp_path / "scans", out, "resume=true").code == 130
    for name in "ab":
        assert json.loads((out / HIDDEN / f"{name}.nii.gz.json").read_text()) == {"begun": 2}
    assert predict(seeing_file, tmp_path / "scans", out, "resume=true").code == 0


# What fails


class Faulty(torch.nn.Module):
    """A network with a fault that shows in every second slice it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.seen += 1
        if self.seen % 2 == 0:
            raise ZeroDivisionError("words of a library, with PATIENT^NAME in them")
        return image


def test_a_fault_of_the_program_costs_one_scan(seeing_file: Path, tmp_path: Path) -> None:
    sources = [Source(name, save(tmp_path / name, HU[12:13])) for name in ("a.nii.gz", "b.nii.gz", "c.nii.gz")]
    segmenter = Segmenter(Faulty(), Segmenter.load(seeing_file).preprocess)
    results = segment(segmenter, items(sources, tmp_path / "out"), tmp_path / "out", Extras(), lambda result: None)
    assert [result.status for result in results] == ["done", "failed", "done"]
    assert results[1].error is not None
    assert "meets a fault of the program (ZeroDivisionError in test_cohort.py, line" in results[1].error
    assert "PATIENT" not in results[1].error
    assert "PATIENT" in results[1].cause  # which debug=true shows
    assert files(tmp_path / "out") == {f"{d}{n}.nii.gz{e}" for n in "ac" for d, e in (("", ""), ("overlays/", ".overlay.png"))} | {
        "summary.csv",
        "measurements.csv",
        "measurements.json",
    }


def test_a_name_that_is_no_text_costs_nobody_anything(seeing_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        save(tmp_path / "scans" / f"{name}.nii.gz", HU[8:16])
    (tmp_path / "scans" / os.fsdecode(b"aa\xff.nii.gz")).write_bytes(b"damaged")
    screen = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
    monkeypatch.setattr(sys, "stdout", screen)
    words = (f"ckpt={seeing_file}", f"input={tmp_path / 'scans'}", f"output={tmp_path / 'out'}")
    assert main(["predict", *words]) == 1
    rows = {row["file"]: row["status"] for row in table(tmp_path / "out" / "summary.csv")}
    assert list(rows.values()) == ["done", "failed", "done", "done"]


def test_at_most_three_scans_are_at_hand(seeing_file: Path, tmp_path: Path) -> None:
    work = items([Source(f"{n}.nii.gz", save(tmp_path / f"{n}.nii.gz", HU[8:16])) for n in range(6)], tmp_path / "out")
    given: list[Result] = []
    moved: list[float] = []
    opened: list[Path] = []

    def advance(through: float) -> None:
        moved.append(through)
        opened[:] = [item.image for item in work if was_read(item)]
        assert len(opened) - len(given) <= 3

    reads = Reads()
    was_read = reads.has
    with reads:
        segment(Segmenter.load(seeing_file), work, tmp_path / "out", Extras(), given.append, advance)
    assert [result.item for result in given] == work  # in order
    assert moved == sorted(moved)
    assert moved[-1] == 6
    assert len(opened) == 6


class Reads:
    """Which files are opened while the context lasts."""

    _now: "list[set[str]]" = []  # noqa: RUF012  what the one hook of the process tells

    def __enter__(self) -> "Reads":
        self._now.append(set())
        return self

    def __exit__(self, *_: object) -> None:
        self._now.pop()

    def has(self, item: Item) -> bool:
        return str(item.image) in self._now[-1]


sys.addaudithook(lambda event, words: [seen.add(str(words[0])) for seen in Reads._now] if event == "open" else None)


# Lists


def test_a_list_of_scans_is_a_cohort(scans: Path, seeing_file: Path, tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    wanted = tmp_path / "lists" / "wanted.txt"
    wanted.write_text(f"../scans/sub/c.mha\n\n{scans / 'study'}\n../scans/lost.nii\n../scans/sub\n../scans/study/\n")
    done = predict(seeing_file, wanted, tmp_path / "out")
    assert done.code == 1
    rows = table(tmp_path / "out" / "summary.csv")
    assert [(row["file"], row["status"]) for row in rows] == [
        ("sub/c.mha", "done"),
        ("study", "done"),
        ("lost.nii", "failed"),
        ("sub/b.nrrd", "done"),
    ]
    assert "lost.nii is neither a file nor a folder: correct line 4" in rows[2]["error"]
    assert {"sub/c.mha", "study.nii.gz", "sub/b.nrrd"} <= files(tmp_path / "out")


def test_a_line_that_is_no_path_fails_alone_and_a_list_of_one_has_its_truth(seeing_file: Path, tmp_path: Path) -> None:
    save(tmp_path / "scans" / "a.nii.gz")
    save(tmp_path / "truth" / "a.nii.gz", SIDES)
    path = tmp_path / "list.txt"
    path.write_text(f"scans/a.nii.gz\nscans/{'long' * 100}.nii\nscans/no\0name.nii\n")
    assert predict(seeing_file, path, tmp_path / "out").code == 1
    rows = table(tmp_path / "out" / "summary.csv")
    assert [row["status"] for row in rows] == ["done", "failed", "failed"]
    assert "correct line 2" in rows[1]["error"]
    assert "correct line 3" in rows[2]["error"]
    path.write_text("scans/a.nii.gz")
    assert predict(seeing_file, path, tmp_path / "scored", f"truth={tmp_path / 'truth'}").code == 0
    assert float(table(tmp_path / "scored" / "summary.csv")[0]["dice_3d"]) > 0.9


@pytest.mark.parametrize(("text", "said"), [("\n \n", "names no scan"), (b"\xff\xfe", "cannot be read as a list")])
def test_a_list_of_nothing_is_refused(text: str | bytes, said: str, seeing_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert_refused(predict(seeing_file, path, tmp_path / "out"), said, "list.txt")


def test_seconds_are_told_by_stage(scans: Path, seeing_file: Path, tmp_path: Path) -> None:
    predict(seeing_file, scans, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["finished"]
    stages = {"reading", "grey_values", "network", "postprocessing", "measurements", "doubts", "writing"}
    assert set(record["seconds"]) == stages
    for stage in stages:
        own = sum(scan["seconds"].get(stage, 0) for scan in record["scans"])
        assert record["seconds"][stage] == pytest.approx(own, abs=0.01)
    assert 0 < record["network_share_of_wall"] <= 1
    assert record["network_share_of_wall"] == pytest.approx(record["seconds"]["network"] / record["wall_seconds"], abs=0.01)


def test_the_folder_of_a_run_is_known_while_it_goes_on(seeing_file: Path, tmp_path: Path) -> None:
    save(tmp_path / "scans" / "a.nii.gz")
    seen: list[Any] = []

    def look(path: Path) -> None:
        if path.name == "a.nii.gz":
            seen.append(json.loads((tmp_path / "out" / "run.json").read_text()))

    with before_each_file(look):
        predict(seeing_file, tmp_path / "scans", tmp_path / "out")
    assert [(one["finished"], one["scans"]) for one in seen] == [(False, [])]
