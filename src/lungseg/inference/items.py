"""What is to be segmented, where its results go, and what came of it."""

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path

from lungseg.files import DICOM_SEG, HIDDEN, OVERLAYS, PROBABILITIES
from lungseg.imaging.dicom_seg import Maker
from lungseg.imaging.pairs import common_stem
from lungseg.imaging.series import Series
from lungseg.imaging.slices import VOLUME_SUFFIXES, suffix_of
from lungseg.imaging.writers import mask_ending
from lungseg.metrics.lungs import Lung
from lungseg.metrics.overlap import Overlap


@dataclass(frozen=True)
class Source:
    """What is to be segmented: an image file, or a DICOM series.

    Attributes:
        name: of the file below the input folder, or of the folder of the series, as the summary shows it.
        path: of the file, or of the folder.
        remarks: what was said when the series was chosen.
        doubts: what may be wrong with it, such as damaged files beside it.
        refusal: why it cannot be read; empty where it can.
    """

    name: str
    path: Path
    series: Series | None = None
    remarks: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    refusal: str = ""


@dataclass(frozen=True)
class Item:
    """A source to segment.

    Attributes:
        mask, overlay, probability, segmentation: where its results go, those that are wanted.
        record: where is kept what was found, for a run that goes on.
        truth: the file with its true mask, if any.
    """

    source: Source
    mask: Path
    overlay: Path
    probability: Path
    segmentation: Path
    record: Path
    truth: Path | None = None

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def image(self) -> Path:
        return self.source.path

    @property
    def is_volume(self) -> bool:
        """Whether its mask is a volume, and not a picture or an array."""
        return suffix_of(self.mask) in VOLUME_SUFFIXES

    @property
    def targets(self) -> tuple[Path, ...]:
        """All files that may be written for it."""
        return self.mask, self.overlay, self.probability, self.segmentation, self.record


@dataclass(frozen=True)
class Result:
    """What came of one scan or picture.

    Attributes:
        scores, figures: against the truth, where there is one: of each slice, and those of ``metrics.cases``.
        error: a sentence, or None where there is a mask; ``cause`` is its traceback.
        is_mask: it was left out, for it is itself a mask.
        kept: it was done by an earlier run.
    """

    item: Item
    lung_fraction: float = float("nan")
    seconds: dict[str, float] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    scores: tuple[Overlap, ...] = ()
    figures: dict[str, float] = field(default_factory=dict)
    lungs: tuple[Lung, ...] = ()
    shape: tuple[int, ...] = ()
    spacing_mm: tuple[float, ...] = ()
    error: str | None = None
    cause: str = ""
    is_mask: bool = False
    kept: bool = False

    @property
    def status(self) -> str:
        """``done``, ``failed`` or ``left out``."""
        return "done" if self.error is None else "left out" if self.is_mask else "failed"


@dataclass(frozen=True)
class Extras:
    """What is written beside the masks, and how files are read.

    Attributes:
        overlays: pictures of all, of none, or (None) of volumes only.
        sides: masks of volumes tell the right lung (1) from the left (2).
        allow_gaps: missing slices are interpolated.
        dicom_seg: by what the DICOM-SEG of a series is made; None where none is wanted.
    """

    overlays: bool | None = None
    probabilities: bool = False
    sides: bool = True
    allow_gaps: bool = False
    mask_values: tuple[float, ...] | None = None
    ignore_values: tuple[float, ...] = ()
    dicom_seg: Maker | None = None


def items(sources: Sequence[Source], output: Path, ending: str | None = None) -> list[Item]:
    """Sources and where their results go: sub-folders and stems stay, and no two share a file, whatever the case of its letters.

    Where several masks would have one name, each takes the image's whole name: 'a.png' and 'a.tif' give 'a.png.png' and
    'a.tif.png'. The other results are named after the mask.

    Args:
        ending: of the masks of volumes, such as ``.nrrd``; by default that of the volume, and ``.nii.gz`` for DICOM.
    """
    ways = [_ways(source, output, ending) for source in sources]
    shortest = [next(way) for way in ways]
    wanted = Counter(_key(item.mask) for item in shortest)
    taken = {mask for mask, times in wanted.items() if times > 1}
    taken |= {_key(output / folder) for source in sources for folder in Path(source.name).parents}  # 'a.png' may be a folder
    made = []
    for first, way in zip(shortest, ways, strict=True):
        item = next(item for item in chain([first], way) if taken.isdisjoint(map(_key, item.targets)))
        taken.update(map(_key, item.targets))
        made.append(item)
    return made


def _ways(source: Source, output: Path, wanted: str | None) -> Iterator[Item]:
    """A source with every name that its mask may have, the shortest first."""
    ending = ".nii.gz" if source.series is not None else mask_ending(source.path)
    if wanted is not None and ending in VOLUME_SUFFIXES:
        ending = wanted
    folder, whole = Path(source.name).parent, Path(source.name).name
    for stem in chain([common_stem(Path(source.name)), whole], (f"{whole}.{number}" for number in count(2))):
        mask = f"{stem}{ending}"
        yield Item(
            source,
            mask=output / folder / mask,
            overlay=output / OVERLAYS / folder / f"{mask}.overlay.png",
            probability=output / PROBABILITIES / folder / f"{mask}.probability{ending}",
            segmentation=output / DICOM_SEG / folder / f"{stem}.dcm",
            record=output / HIDDEN / folder / f"{mask}.json",
        )


def _key(path: Path) -> str:
    """The same for all spellings that are one file on a Mac or on Windows."""
    return unicodedata.normalize("NFC", str(path)).casefold()
