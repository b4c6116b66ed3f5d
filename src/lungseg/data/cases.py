"""What a source is made of: a generated slice, or an image with its mask in files."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungseg.data.phantom import phantom_slice
from lungseg.errors import UserError
from lungseg.imaging.greys import HU, Judgement
from lungseg.imaging.readers import read
from lungseg.imaging.slices import DICOM_SUFFIXES, VOLUME_SUFFIXES, read_mask, read_stack, suffix_of, to_labels
from lungseg.imaging.truths import check_alike, read_truth
from lungseg.imaging.units import Rescaled, as_seen
from lungseg.imaging.walk import walk
from lungseg.imaging.whole import files_of


@dataclass(frozen=True)
class Stack:
    """The slices of a case.

    Attributes:
        image: (Z, H, W) grey values, float32; those of a volume in canonical order and as prediction sees them, computed slice by
            slice.
        labels: (Z, H, W) of 0, 1 (lung) and 255 (ignore).
        stored: (Z, H, W) the mask as its file has it; None where there is no file.
        spacing_mm: z, y, x; None where nobody knows it, as of pictures.
        is_hu: the grey values are HU, as far as anybody knows; only volumes are asked.
        greys: the unit of a volume's grey values, as stored.
        doubts: sentences about a volume and its mask.
        unit: a sentence about the grey values of a volume that are no HU as they are stored.
    """

    image: NDArray[np.float32] | Rescaled
    labels: NDArray[np.uint8]
    stored: NDArray[Any] | None = None
    spacing_mm: tuple[float, float, float] | None = None
    is_hu: bool = False
    greys: Judgement | None = None
    doubts: tuple[str, ...] = ()
    unit: str = ""


@dataclass(frozen=True)
class PhantomCase:
    """One generated slice; every seed is a patient of its own."""

    seed: int
    size: int
    source: str = "phantom"

    @property
    def name(self) -> str:
        return f"phantom-{self.seed}"

    @property
    def patient(self) -> str:
        """Not the name itself, which in a table says that nobody knows whose an image is."""
        return f"patient-{self.seed}"

    def identity(self) -> tuple[object, ...]:
        return self.name, self.size

    def read(self) -> Stack:
        slice_ = phantom_slice(self.seed, self.size)
        return Stack(slice_.image_hu[None], (slice_.sides > 0).astype(np.uint8)[None])


@dataclass(frozen=True)
class FileCase:
    """An image and the file of its mask.

    Attributes:
        image: a picture, a volume, or a folder with a DICOM series.
        slope, intercept: grey values become ``slope * value + intercept``, so that sources of different scale train together; where
            they are 1 and 0, those of volumes are repaired as prediction repairs them.
    """

    name: str
    image: Path
    mask: Path
    patient: str | None = None
    source: str = "folder"
    slope: float = 1.0
    intercept: float = 0.0
    lung_values: tuple[float, ...] | None = None
    ignore_values: tuple[float, ...] = ()

    @property
    def is_volume(self) -> bool:
        """Whether it lies in the patient; a DICOM file does if its mask is a volume."""
        suffix = suffix_of(self.image)
        if self.image.is_dir() or suffix in VOLUME_SUFFIXES:
            return True
        return suffix in ("", *DICOM_SUFFIXES) and suffix_of(self.mask) in VOLUME_SUFFIXES

    def identity(self) -> tuple[object, ...]:
        """The same as long as the files and what is made of them are: where they lie, how large and how old they are.

        Raises:
            UserError: a file is gone.
        """
        files = [*_files(self.image), *_files(self.mask)]
        settings = (self.slope, self.intercept, self.lung_values, self.ignore_values)
        return str(self.image.resolve()), str(self.mask.resolve()), settings, tuple(map(_fingerprint, files))

    def read(self) -> Stack:
        """Its slices.

        Raises:
            UserError: a file cannot be read, the image is constant, the two do not fit, or nobody knows which values are lung.
        """
        stack = self._volume() if self.is_volume else self._picture()
        low, high = _ends(stack.image)
        if not (np.isfinite(low) and np.isfinite(high)):
            raise UserError(f"{self.image} has no finite values with slope {self.slope:g} and intercept {self.intercept:g}.")
        if low == high:
            raise UserError(
                f"{self.image} is constant (all {low:g}), there is nothing to learn from: replace it, or remove it and its mask."
            )
        return stack

    def _picture(self) -> Stack:
        stored, image = read_mask(self.mask), read_stack(self.image)
        check_alike(self.mask, stored, self.image, image)
        labels = to_labels(stored, self.mask, self.lung_values, self.ignore_values)
        is_given = (self.slope, self.intercept) != (1.0, 0.0)
        return Stack(Rescaled(image, self.slope, self.intercept) if is_given else image, labels, stored)

    def _volume(self) -> Stack:
        scan = read(self.image)
        if scan.volume.holds_labels:
            raise UserError(f"{self.image} holds labels, no grey values: give the scan that they were made for.")
        truth = read_truth(self.mask, scan.volume, self.image, self.lung_values, self.ignore_values)
        canonical = scan.volume.canonical()
        seen = as_seen(canonical.voxels)
        hu, is_hu, unit = seen.hu, seen.is_hu, _unit(seen.judgement)
        if (self.slope, self.intercept) != (1.0, 0.0):  # who gives them knows better
            hu, is_hu, unit = Rescaled(canonical.voxels, self.slope, self.intercept), True, ""
        spacing_mm = None if canonical.grid is None else canonical.grid.spacing_mm
        return Stack(hu, truth.labels, truth.stored, spacing_mm, is_hu, seen.judgement, (*scan.doubts, *truth.doubts), unit)


def _ends(image: NDArray[np.float32] | Rescaled) -> tuple[float, float]:
    """The least and the greatest grey value."""
    if isinstance(image, Rescaled):
        with np.errstate(over="ignore", invalid="ignore"):
            ends = Rescaled(np.array([image.voxels.min(), image.voxels.max()]), image.slope, image.intercept)[:]
        return float(ends.min()), float(ends.max())
    return float(image.min()), float(image.max())


def _unit(greys: Judgement) -> str:
    """What is to be said of the grey values of a volume that nobody has given a slope or an intercept."""
    if greys.kind == HU and not greys.is_repaired:
        return ""
    if greys.is_repaired:
        return f"grey values are {greys.sentence}"
    return f"grey values are {greys.name} and taken as they are; slope and intercept in a manifest make HU of them"


def _files(path: Path) -> Iterator[Path]:
    """A file, or all files of a folder that a reader would look at, each with the one that holds its voxels."""
    for file in (here / name for here, names in walk(path) for name in names) if path.is_dir() else [path]:
        try:
            yield from files_of(file)
        except (ValueError, OSError):  # its reader says what is wrong with it
            yield file


def _fingerprint(file: Path) -> tuple[str, int, int]:
    try:
        found = file.stat()
    except OSError as error:
        raise UserError(f"{file} cannot be opened ({error.strerror}): it was there when the files were listed.") from error
    return file.name, found.st_size, found.st_mtime_ns
