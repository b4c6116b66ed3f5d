"""What journeys ask for by name."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from disks import DISK, mount


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own, in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", f"size={DISK}", "none", folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--recursive", folder], check=True)
