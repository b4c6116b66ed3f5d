"""Where images and masks come from: generated, a folder, or a manifest. Each source gives one ``Split``."""

import csv
import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from lungseg.data.cases import FileCase, PhantomCase
from lungseg.data.owners import compiled, owner
from lungseg.data.split import Case, Holdout, Split, split_validation
from lungseg.errors import UserError, printable
from lungseg.files import from_home
from lungseg.imaging.layouts import split_folders
from lungseg.imaging.pairs import Pair, pair_files
from lungseg.log import log

PART_SEEDS = 3_000_000  # of patients that a part of the phantoms may have, so that no two parts share one


@runtime_checkable
class Source(Protocol):
    """Anything that gives a split."""

    @abstractmethod
    def split(self) -> Split: ...


class PhantomSource:
    """Generated chests: no download, no files.

    Args:
        train, val, test: slices in each part.
        size: side of a slice in pixels.
        seed: of the patients; the three parts never share one.
        folds, fold: or the patients of train and val in so many parts, of which this one is kept: cross-validation.
    """

    def __init__(
        self,
        train: int = 800,
        val: int = 60,
        test: int = 120,
        size: int = 128,
        seed: int = 0,
        folds: int | None = None,
        fold: int = 0,
    ) -> None:
        for key, count, fewest in (("train", train, 1), ("val", val, 1), ("test", test, 0)):
            if not fewest <= count <= PART_SEEDS:
                raise UserError(f"data.{key}={count} must be {fewest} to {PART_SEEDS} slices.")
        if seed < 0:
            raise UserError(f"data.seed={seed} must be 0 or more.")
        if not 32 <= size <= 4096:
            raise UserError(f"data.size={size} must be 32 to 4096 pixels: a chest must fit in.")
        self.counts, self.size, self.seed = (train, val, test), size, seed
        self.holdout = Holdout(folds=folds, fold=fold)

    def split(self) -> Split:
        # Parts get seed ranges of their own, so that a larger training part leaves validation and test as they were.
        train, val, test = (
            tuple(PhantomCase(seed=10_000_000 * self.seed + PART_SEEDS * part + i, size=self.size) for i in range(count))
            for part, count in enumerate(self.counts)
        )
        if self.holdout.folds is not None:
            return Split(*split_validation((*train, *val), self.holdout), test)
        return Split(train, val, test)


class FolderSource:
    """``Train/Images Train/Masks Test/Images Test/Masks``; Test may be missing, and other layouts are known (``split_folders``).

    Args:
        root: the folder that holds them, names in any case.
        patient_regex: its first group (or whole match), searched in an image's stem, is the patient.
        mask_values: grey values of a mask that are lung, where the rule of two values does not do.
        ignore_values: grey values of a mask where nobody knows; neither loss nor metric looks there.
        val_fraction: share of the training patients kept for validation.
        val_patients: or those patients by name.
        split_seed: of that draw; not the seed of training, so that repeated trainings share one split.
        folds, fold: or the patients in so many parts, of which this one is kept: cross-validation.
    """

    def __init__(
        self,
        root: str,
        patient_regex: str | None = None,
        mask_values: Sequence[float] | None = None,
        ignore_values: Sequence[float] = (),
        val_fraction: float = 0.1,
        val_patients: Sequence[str | int] | None = None,
        split_seed: int = 0,
        folds: int | None = None,
        fold: int = 0,
    ) -> None:
        if not str(root):
            raise UserError("data.root= must name a folder.")
        self.holdout = _holdout(mask_values, ignore_values, val_fraction, val_patients, split_seed, folds, fold)
        self.root = from_home(root)
        self.patient_regex = compiled(patient_regex)
        self.mask_values = None if mask_values is None else tuple(float(v) for v in mask_values)
        self.ignore_values = tuple(float(v) for v in ignore_values)

    def split(self) -> Split:
        parts = self.parts()
        return _divided(parts["train"], None, parts["test"], self.holdout)

    def parts(self, unpaired: list[str] | None = None) -> dict[str, list[FileCase]]:
        """The cases of ``train`` and ``test`` as they lie there, before validation is taken from training.

        Args:
            unpaired: where given, a missing Train is none, and files without a partner are left out and told in this list.
        """
        parts: dict[str, list[FileCase]] = {"train": [], "test": []}
        for part, (images, masks) in split_folders(self.root, train_needed=unpaired is None).items():
            parts[part] = [self._case(part, images, pair.image, pair.mask) for pair in self._pairs(images, masks, unpaired)]
        return parts

    def _pairs(self, images: Path, masks: Path, unpaired: list[str] | None) -> list[Pair]:
        return pair_files(images, masks, unpaired=unpaired)

    def _case(self, part: str, images: Path, image: Path, mask: Path) -> FileCase:
        name = f"{part}/{image.relative_to(images).as_posix()}"
        patient = owner(self.patient_regex, image)
        return FileCase(name, image, mask, patient, lung_values=self.mask_values, ignore_values=self.ignore_values)


class ManifestSource:
    """A CSV file with the columns image, mask, patient, split (train, val or test) and, if wanted, slope, intercept, source.

    An image may be a folder with a DICOM series.

    Args:
        manifest: the CSV file; paths in it are relative to its own folder.
        balance: ``source`` draws from the sources evenly in every epoch; nothing takes every image once.
        mask_values, ignore_values, val_fraction, val_patients, split_seed, folds, fold: as for a folder; where the manifest names
            validation rows, these are the validation set.
        patient_regex: where the patient column is missing or empty, as for a folder.
    """

    COLUMNS = ("image", "mask", "patient", "split", "slope", "intercept", "source")

    def __init__(
        self,
        manifest: str,
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
        if balance not in (None, "source"):
            raise UserError(f"data.balance={balance} is unknown: use source or null.")
        if not str(manifest):
            raise UserError("data.manifest= must name a CSV file.")
        self.holdout = _holdout(mask_values, ignore_values, val_fraction, val_patients, split_seed, folds, fold)
        self.manifest, self.balance = from_home(manifest), balance
        self.patient_regex = compiled(patient_regex)
        self.mask_values = None if mask_values is None else tuple(float(v) for v in mask_values)
        self.ignore_values = tuple(float(v) for v in ignore_values)

    def split(self) -> Split:
        parts = self.parts()
        if not parts["train"]:
            raise UserError(f"{self.manifest} has no row with split train: nothing to learn from.")
        if parts["val"] and self.holdout.folds is not None:
            raise UserError(
                f"{self.manifest} names {len(parts['val'])} rows of split val: data.folds must be null, or these be train."
            )
        divided = _divided(parts["train"], parts["val"] or None, parts["test"], self.holdout)
        return replace(divided, balanced=self.balance == "source")

    def parts(self) -> dict[str, list[FileCase]]:
        """The cases of ``train``, ``val`` and ``test`` as the manifest names them."""
        parts: dict[str, list[FileCase]] = {"train": [], "val": [], "test": []}
        placed: dict[Path, str] = {}
        for line, row in self._rows():
            part = (row.get("split") or "train").strip().lower()
            if part not in parts:
                raise UserError(f"{self.manifest} line {line}: split {printable(repr(part))} is unknown: use train, val or test.")
            case = self._case(line, part, row)
            other = placed.setdefault(case.image.resolve(), part)
            if other != part:
                raise UserError(
                    f"{self.manifest} line {line}: {case.image} is in {other} already: results would be too good; keep one row."
                )
            parts[part].append(case)
        return parts

    def _rows(self) -> list[tuple[int, dict[str, str]]]:
        """The rows, each with its line in the file."""
        try:
            with self.manifest.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file)
                columns = tuple(name.strip().lower() for name in reader.fieldnames or ())
                reader.fieldnames = columns
                rows = [(reader.line_num, row) for row in reader]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            reason = printable(getattr(error, "strerror", None) or error)
            raise UserError(f"{self.manifest} cannot be read as a CSV file in UTF-8 ({reason}): check data.manifest.") from error
        missing = [name for name in ("image", "mask") if name not in columns]
        unknown = [name for name in columns if name not in self.COLUMNS]
        if missing and len(columns) == 1 and any(mark in columns[0] for mark in ";\t"):
            raise UserError(f"{self.manifest} has no commas: its columns must be separated by commas.")
        if missing or unknown:
            wrong = f"lacks {', '.join(missing)}" if missing else f"has the unknown column {printable(', '.join(unknown))}"
            raise UserError(f"{self.manifest} {wrong}: its first line names some of {', '.join(self.COLUMNS)}.")
        return rows

    def _case(self, line: int, part: str, row: dict[str, str]) -> FileCase:
        paths = {}
        for column in ("image", "mask"):
            text = (row.get(column) or "").strip()
            paths[column] = self.manifest.parent / from_home(text)
            if not text or not _is_there(paths[column], or_folder=column == "image"):
                shown = printable(repr(text))
                raise UserError(
                    f"{self.manifest} line {line}: the {column} {shown} is no file (paths are relative to the manifest)."
                )
        try:
            slope, intercept = float(row.get("slope") or 1.0), float(row.get("intercept") or 0.0)
        except ValueError as error:
            raise UserError(f"{self.manifest} line {line}: slope and intercept must be numbers ({printable(error)}).") from error
        if not (math.isfinite(slope) and math.isfinite(intercept)) or slope == 0:
            raise UserError(f"{self.manifest} line {line}: slope {slope:g} and intercept {intercept:g} leave no grey values.")
        return FileCase(
            name=f"{part}/{(row.get('image') or '').strip()}",
            image=paths["image"],
            mask=paths["mask"],
            patient=(row.get("patient") or "").strip() or owner(self.patient_regex, paths["image"]),
            source=(row.get("source") or "").strip() or "manifest",
            slope=slope,
            intercept=intercept,
            lung_values=self.mask_values,
            ignore_values=self.ignore_values,
        )


def _divided(train: Sequence[Case], val: Sequence[Case] | None, test: Sequence[Case], holdout: Holdout) -> Split:
    if val is None:
        if any(case.patient is None for case in train):
            log.warning(
                "No patient is known for every image, so validation is split by image; if a patient has several, name them: "
                "data.patient_regex='...' or a manifest."
            )
        train, val = split_validation(train, holdout)
    return Split(tuple(train), tuple(val), tuple(test))


def _holdout(
    mask_values: Sequence[float] | None,
    ignore_values: Sequence[float],
    val_fraction: float,
    val_patients: Sequence[str | int] | None,
    split_seed: int,
    folds: int | None,
    fold: int,
) -> Holdout:
    """What a folder and a manifest keep for validation, and are refused for alike, before anything is read."""
    for key, values in (("mask_values", mask_values or ()), ("ignore_values", ignore_values)):
        if not all(map(math.isfinite, values)):
            raise UserError(f"data.{key}={list(values)} must be finite grey values.")
    for key, named in (("mask_values", mask_values), ("val_patients", val_patients)):
        if named is not None and not named:
            raise UserError(f"data.{key}=[] must name at least one, or be null.")
    both = sorted(set(mask_values or ()) & set(ignore_values))
    if both:
        raise UserError(f"data.ignore_values={list(ignore_values)} must hold none of data.mask_values, but has {both}.")
    patients = None if val_patients is None else tuple(str(patient) for patient in val_patients)
    return Holdout(val_fraction, patients, split_seed, folds, fold)


def _is_there(path: Path, or_folder: bool) -> bool:
    try:
        return path.is_file() or (or_folder and path.is_dir())
    except OSError:  # a name longer than any file's
        return False
