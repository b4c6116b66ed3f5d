"""Whole scans to learn from: volumes and DICOM folders, each a patient unless it is said otherwise."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lungseg.data.cases import FileCase
from lungseg.data.sources import FolderSource, ManifestSource
from lungseg.data.split import Split
from lungseg.errors import UserError
from lungseg.imaging.layouts import pair_scans
from lungseg.imaging.pairs import CHANNEL, Pair, common_stem


class VolumeSource:
    """The scans of a folder or of a manifest; their slices are what is learnt.

    Args:
        root: a folder as for ``FolderSource``, whose images are volumes or folders with a DICOM series, and whose masks are
            volumes.
        manifest: or a CSV file as for ``ManifestSource``.
        balance: as for a manifest.
        patient_regex: as for a folder; without it, and where the manifest does not say, each scan is a patient of its stem.
        mask_values, ignore_values, val_fraction, val_patients, split_seed, folds, fold: as for a folder.
    """

    def __init__(
        self,
        root: str | None = None,
        manifest: str | None = None,
        balance: str | None = None,
        patient_regex: str | None = None,
        mask_values: Sequence[float] | None = None,
        ignore_values: Sequence[float] = (),
        val_fraction: float = 0.1,
        val_patients: Sequence[str | int] | None = None,
        split_seed: int = 0,
        folds: int | None = None,
        fold: int = 0,
    ) -> None:
        if root is None and manifest is None:
            raise UserError("data.root is needed: add data.root=... to the command, or data.manifest=FILE.csv.")
        if root is not None and manifest is not None:
            raise UserError(f"data.manifest={manifest} must be null beside data.root: give one of them.")
        if root is not None and balance is not None:
            raise UserError(f"data.balance={balance} must be null beside data.root: a manifest has a column source.")
        shared = (patient_regex, mask_values, ignore_values, val_fraction, val_patients, split_seed, folds, fold)
        self.source: _Folder | _Manifest = (
            _Manifest(manifest, balance, *shared) if manifest is not None else _Folder(str(root), *shared)
        )

    def split(self) -> Split:
        return self.source.split()

    def parts(self, unpaired: list[str] | None = None) -> dict[str, list[FileCase]]:
        """As of a folder, or of a manifest, where all is named and nothing unpaired."""
        return self.source.parts() if isinstance(self.source, _Manifest) else self.source.parts(unpaired)


class _Folder(FolderSource):
    def parts(self, unpaired: list[str] | None = None) -> dict[str, list[FileCase]]:
        return _with_patients(super().parts(unpaired))

    def _pairs(self, images: Path, masks: Path, unpaired: list[str] | None) -> list[Pair]:
        return pair_scans(images, masks, unpaired)


class _Manifest(ManifestSource):
    def parts(self) -> dict[str, list[FileCase]]:
        return _with_patients(super().parts())


def _with_patients(parts: dict[str, list[FileCase]]) -> dict[str, list[FileCase]]:
    return {part: [_with_patient(case) for case in cases] for part, cases in parts.items()}


def _with_patient(case: FileCase) -> FileCase:
    if case.patient is not None or not case.is_volume:
        return case
    return replace(case, patient=common_stem(case.image).removesuffix(CHANNEL))
