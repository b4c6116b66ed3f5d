"""What is known of each scan that is done, a small file each: by these a run that was stopped goes on."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lungseg.files import write_text
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
        told = [version("lungseg"), self.settings, item.name, source.remarks, source.doubts]
        key = hashlib.blake2b(json.dumps(told, sort_keys=True, default=str).encode(), digest_size=16)
        images = [source.path] if source.series is None else [frame.path for frame in source.series.frames]
        for path in dict.fromkeys([*images, *([] if item.truth is None else [item.truth])]):
            with reading(path):
                for part in files_of(path):
                    with part.open("rb") as file:
                        key.update(hashlib.file_digest(file, "blake2b").digest())
        return key.hexdigest()

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
            "lungs": [asdict(lung) for lung in result.lungs],
            "shape": result.shape,
            "spacing_mm": result.spacing_mm,
        }
        write_text(item.record, json.dumps(record))

    def kept(self, item: Item, key: str) -> Result | None:
        """What an earlier run found in the same scan by the same settings, if all its files are still there."""
        if not self.resume:
            return None
        try:
            record = json.loads(item.record.read_text(encoding="utf-8"))
            if record["key"] != key or not all((self.output / name).is_file() for name in record["files"]):
                return None
            return Result(
                item,
                record["lung_fraction"],
                record["seconds"],
                tuple(record["remarks"]),
                tuple(record["warnings"]),
                tuple(Overlap(**score) for score in record["scores"]),
                tuple(Lung(**{**lung, "borders": tuple(lung["borders"])}) for lung in record["lungs"]),
                tuple(record["shape"]),
                tuple(record["spacing_mm"]),
                kept=True,
            )
        except (OSError, ValueError, KeyError, TypeError):  # none, or damaged: the scan is done anew
            return None
