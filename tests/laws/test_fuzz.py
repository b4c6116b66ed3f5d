"""The law of bad input: whatever is in a file, a mask of the very size of its image or one sentence, in time and in 2 GB.

``LUNGSEG_FUZZ=20000 pytest -n 0 -s -m slow tests/laws/test_fuzz.py`` tries as many cases and counts them by kind.
"""

import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import fuzzing
from lungseg.imaging.slices import read_labels, read_stack
from watched import CASE, Finding, tried

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")

SEED = 0
CASES = int(os.environ.get("LUNGSEG_FUZZ", "2000"))


def told(findings: Sequence[Finding]) -> str:
    """Each with what repeats it."""
    repeat = f"python tests/fuzzing.py {SEED} FOLDER"
    return "\n\n".join(f"case {one.number} ({repeat} {one.number}; its files: {one.files}): {one.what}" for one in findings)


def keep_the_law(folder: Path, count: int) -> None:
    folder.mkdir()
    command = [sys.executable, fuzzing.__file__, str(SEED), str(folder)]
    outcomes = list(tried(command, folder, count))
    findings = [one for one in outcomes if isinstance(one, Finding)]
    counts = Counter(one for one in outcomes if isinstance(one, str))
    print("\n".join(f"{number:6} {name}" for name, number in sorted(counts.items())))
    assert not findings, told(findings)
    assert len(outcomes) == count
    if count < 2000:
        return
    # What is always refused, or never, has tried nothing.
    ends = {(name.partition(":")[0].partition(",")[0], name.rpartition(": ")[2]) for name in counts}
    assert {kind for kind, end in ends if end == "refused"} == {kind for kind, end in ends if end != "refused"}


def test_no_damaged_file_breaks_the_law(tmp_path: Path) -> None:
    keep_the_law(tmp_path / "fuzz", 200)


@pytest.mark.slow
def test_not_one_of_many_damaged_files_breaks_the_law(tmp_path: Path) -> None:
    keep_the_law(tmp_path / "fuzz", CASES)


def test_what_is_damaged_was_whole(tmp_path: Path) -> None:
    seeds = fuzzing.Seeds(tmp_path)
    for kind, (name, _) in fuzzing.IMAGES.items():
        assert read_stack(seeds.path("images", kind, name)).size
    for kind, (name, _) in fuzzing.MASKS.items():
        assert np.unique(read_labels(seeds.path("masks", kind, name))).tolist() == [0, 1]


HANGS = """
import os, sys, time
from pathlib import Path
from watched import CASE, Wrong, serve

def attempt(number):
    (folder / CASE).mkdir(exist_ok=True)
    (folder / CASE / "file").write_text(str(number))
    if number == 1:
        raise Wrong("what it was")
    if number == 2:
        os.abort()
    if number == 3:
        print("chatter", flush=True)
    if number == 4:
        bytes(3 * 2**30)
    if number == 5:
        kept.append(bytearray(os.urandom(2**20)) * 2040)
    if number == 6:
        while True:
            pass
    return "well"

kept = []
folder = Path(sys.argv[1])
serve(folder, int(sys.argv[2]), int(sys.argv[3]), attempt)
"""


@pytest.mark.slow
def test_a_case_that_ends_its_process_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    outcomes = list(tried([sys.executable, "-c", HANGS, str(tmp_path)], tmp_path, 8))
    assert [one for one in outcomes if isinstance(one, str)] == ["well"] * 2
    found = {one.number: one for one in outcomes if isinstance(one, Finding)}
    for number, said in {1: "what it was", 2: "ended with -6", 3: "chatter", 4: "MemoryError", 5: "GiB", 6: "hung"}.items():
        assert said in found[number].what
        assert (found[number].files / "file").read_text() == str(number)
    assert not (tmp_path / CASE / "what.txt").exists()
