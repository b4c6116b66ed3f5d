"""``run.json`` of a prediction: by what and how its masks were made."""

import json
import platform
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from lungseg.files import write_text
from lungseg.inference.items import Result
from lungseg.inference.segmenter import Segmenter

RECORD = "run.json"
PACKAGES = ("lungseg", "torch", "numpy", "scipy", "SimpleITK", "pydicom")


def keep_record(
    output: Path,
    checkpoint: str,
    options: Mapping[str, Any],
    segmenter: Segmenter,
    left_out: Sequence[tuple[Path, str]],
    results: Sequence[Result],
    wall_s: float | None,
) -> None:
    """Versions, checkpoint, options, and of every scan the seconds by stage, what was done to it and what it is warned of.

    Args:
        checkpoint: its checksum.
        left_out: files that are no scans, each with the reason.
        wall_s: seconds that all scans took, most stages side by side; None while they are still going on.

    Raises:
        UserError: the output cannot be written.
    """
    stages = Counter[str]()
    for result in results:
        if not result.kept:
            stages.update(result.seconds)
    record = {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "checkpoint_sha256": checkpoint,
        "options": options,
        "device": str(segmenter.device),
        "threads": torch.get_num_threads(),
        "finished": wall_s is not None,
        "seconds": {stage: round(spent, 3) for stage, spent in stages.items()},
        "wall_seconds": None if wall_s is None else round(wall_s, 3),
        "network_share_of_wall": None if not wall_s else round(stages["network"] / wall_s, 3),
        "peak_memory_mb": _peak_memory_mb(),
        "scans": [
            {
                "file": result.item.name,
                "status": result.status,
                "kept": result.kept,
                "shape": list(result.shape),
                "spacing_mm": list(result.spacing_mm),
                "seconds": {stage: round(spent, 3) for stage, spent in result.seconds.items()},
                "remarks": list(result.remarks),
                "warnings": list(result.warnings),
                "error": result.error,
            }
            for result in results
        ],
        "left_out": [{"file": str(path), "reason": reason} for path, reason in left_out],
    }
    write_text(output / RECORD, json.dumps(record, indent=1, default=str))


def changed(output: Path, checkpoint: str, settings: Mapping[str, Any]) -> str | None:
    """The name of a setting that the run whose record lies in a folder had otherwise, ``ckpt`` for the checkpoint; None if none."""
    try:
        was = json.loads((output / RECORD).read_text(encoding="utf-8"))
        if was["checkpoint_sha256"] != checkpoint:
            return "ckpt"
        now = json.loads(json.dumps(settings, default=str))
        return next((name for name, value in now.items() if was["options"].get(name) != value), None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # no record, or of another version
        return None


def _peak_memory_mb() -> int | None:
    """Of this process so far; Windows does not say."""
    try:
        import resource

        # Linux counts what the program that started this one took; of this process alone it speaks elsewhere.
        own = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text()) if sys.platform == "linux" else None
    except (ImportError, OSError):
        return None
    most = int(own[1]) if own else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(most / (2**20 if sys.platform == "darwin" else 2**10))
