"""What is known of each scan that is done or begun, a small file each: by these a run that was stopped goes on.

A scan may end the process, most likely for want of memory, and would do so in every run that goes on. So what was begun and
not ended comes last and alone in the next run, and is left out of the one after.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lungseg.files import CannotWrite, write_text
from lungseg.imaging.refusals import reading
from lungseg.imaging.whole import files_of
from lungseg.inference.items import Item, Result
from lungseg.metrics.lungs import Lung
from lungseg.metrics.overlap import Overlap


@dataclass(frozen=True)
class Records:
    """The records of a run.

    Args:
        settings: plain values on which a result depends, the checkpoint's among them.
        output: the folder of the results.
        resume: whether what an earlier run has done is taken over.
    """

    settings: Mapping[str, Any]
    output: Path
    resume: bool = False

    def key(self, item: Item) -> str:
        """Hash of all that a scan's results depend on: its bytes, those of its truth, the settings and the version.

        Raises:
            UserError: a file cannot be read.
        """
        source = item.source
        frames = () if source.series is None else source.series.frames
        told = [version("lungseg"), self.settings, item.name, source.remarks, source.doubts, [frame.index for frame in frames]]
        key = hashlib.blake2b(json.dumps(told, sort_keys=True, default=str).encode(), digest_size=16)
        images = [frame.path for frame in frames] or [source.path]
        for path in dict.fromkeys([*images, *([] if item.truth is None else [item.truth])]):
            with reading(path):
                for part in files_of(path):
                    with part.open("rb") as file:
                        key.update(hashlib.file_digest(file, "blake2b").digest())
        return key.hexdigest()

    def begin(self, item: Item) -> None:
        """Writes down that a scan is worked on; an end of the process leaves that standing.

        Raises:
            CannotWrite: the output cannot be written.
        """
        write_text(item.record, json.dumps({"begun": self.deaths(item) + 1}))

    def deaths(self, item: Item) -> int:
        """How many runs in a row, this one going on with the last, ended while they worked on a scan."""
        begun = self._record(item).get("begun", 0)
        return begun if self.resume and isinstance(begun, int) else 0

    def end(self, item: Item, deaths: int = 0) -> None:
        """The scan is no longer worked on, and so many runs died of it."""
        if "begun" in self._record(item):
            with suppress(OSError, CannotWrite):  # a disk that has become read-only
                item.record.unlink()
                if deaths:
                    write_text(item.record, json.dumps({"begun": deaths}))

    def keep(self, item: Item, key: str, result: Result) -> None:
        """Writes down what came of a scan, once all its files are there.

        Raises:
            UserError: the output cannot be written.
        """
        record = {
            "key": key,
            "files": [path.relative_to(self.output).as_posix() for path in item.targets if path != item.record and path.exists()],
            "lung_fraction": result.lung_fraction,
            "seconds": result.seconds,
            "remarks": result.remarks,
            "warnings": result.warnings,
            "scores": [asdict(score) for score in result.scores],
            "figures": result.figures,
            "lungs": [asdict(lung) for lung in result.lungs],
            "shape": result.shape,
            "spacing_mm": result.spacing_mm,
        }
        write_text(item.record, json.dumps(record))

    def kept(self, item: Item, key: str) -> Result | None:
        """What an earlier run found in the same scan by the same settings, if all its files are still there."""
        if not self.resume:
            return None
        record = self._record(item)
        try:
            if record["key"] != key or not all(_is_there(self.output / name) for name in record["files"]):
                return None
            return Result(
                item,
                record["lung_fraction"],
                record["seconds"],
                tuple(record["remarks"]),
                tuple(record["warnings"]),
                tuple(Overlap(**score) for score in record["scores"]),
                dict(record["figures"]),
                tuple(Lung(**{**lung, "borders": tuple(lung["borders"])}) for lung in record["lungs"]),
                tuple(record["shape"]),
                tuple(record["spacing_mm"]),
                kept=True,
            )
        except (KeyError, TypeError):  # of another version, or damaged: the scan is done anew
            return None

    def _record(self, item: Item) -> dict[str, Any]:
        """What is written down of a scan; nothing if it cannot be read."""
        try:
            record = json.loads(item.record.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}


def _is_there(path: Path) -> bool:
    """A file with something in it: one that a person has changed stays."""
    try:
        return path.stat().st_size > 0
    except OSError:
        return False
