"""What a time was measured on."""

import platform
from pathlib import Path


def cpu_model() -> str:
    """The processor's name as it gives it itself; its kind where the system does not say more."""
    known = Path("/proc/cpuinfo")
    lines = known.read_text(encoding="utf-8", errors="replace").splitlines() if known.is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()
