"""Small disks of their own, which can be filled and made read-only."""

import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

DISK = 6 * 2**20  # bytes: room for a run of a few steps, taken up a second time


def mount(*words: str | Path) -> None:
    try:
        done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"no mount here: {error}")
    if done.returncode:
        pytest.skip(f"no disk may be mounted here: {done.stderr.strip()}")


def fill(disk: Path) -> None:
    """To the last byte, by one file."""
    with suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(2**20))
    with suppress(OSError), (disk / "filler").open("ab", buffering=0) as file:
        while True:
            file.write(bytes(512))
