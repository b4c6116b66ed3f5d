"""Many scans in, a mask for each and tables of all out."""

import csv
import io
import json
import math
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungseg.errors import UserError
from lungseg.files import write_text
from lungseg.imaging.greys import are_labels
from lungseg.imaging.overlay import overlay
from lungseg.imaging.pairs import common_stem
from lungseg.imaging.planes import LUNG_WINDOW_HU, planes
from lungseg.imaging.readers import Scan, read, read_series
from lungseg.imaging.series import Series
from lungseg.imaging.slices import VOLUME_SUFFIXES, read_mask, suffix_of, to_labels
from lungseg.imaging.volume import Volume
from lungseg.imaging.writers import mask_ending, write_mask, write_picture, write_probability
from lungseg.inference.segmenter import DeviceFull, Segmenter
from lungseg.inference.volumes import Segmentation
from lungseg.metrics.lungs import Lung, rows
from lungseg.metrics.overlap import Overlap, overlap, summarise

Reading = Future[tuple[Scan, float]]  # and the seconds it took


@dataclass(frozen=True)
class Source:
    """What is to be segmented: an image file, or a DICOM series.

    Attributes:
        name: of the file below the input folder, or of the folder of the series, as the summary shows it.
        path: of the file, or of the folder.
        remarks: what was said when the series was chosen.
        refusal: why it cannot be read; empty where it can.
    """

    name: str
    path: Path
    series: Series | None = None
    remarks: tuple[str, ...] = ()
    refusal: str = ""


@dataclass(frozen=True)
class Item:
    """A source to segment.

    Attributes:
        mask, overlay, probability: where its results go, those that are wanted.
        truth: the file with its true mask, if any.
    """

    source: Source
    mask: Path
    overlay: Path
    probability: Path
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
    def targets(self) -> tuple[Path, Path, Path]:
        """All files that may be written for it."""
        return self.mask, self.overlay, self.probability


@dataclass(frozen=True)
class Result:
    """What came of one file; ``error`` is a sentence, or None where there is a mask, and ``cause`` what lies behind it."""

    item: Item
    lung_fraction: float = float("nan")
    seconds: dict[str, float] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    scores: tuple[Overlap, ...] = ()
    lungs: tuple[Lung, ...] = ()
    shape: tuple[int, ...] = ()
    spacing_mm: tuple[float, ...] = ()
    error: str | None = None
    cause: BaseException | None = None


@dataclass(frozen=True)
class Extras:
    """What is written beside the masks, and how files are read.

    Attributes:
        overlays: pictures of all, of none, or (None) of volumes only.
        sides: masks of volumes tell the right lung (1) from the left (2).
        allow_gaps: missing slices are interpolated.
    """

    overlays: bool | None = None
    probabilities: bool = False
    sides: bool = True
    allow_gaps: bool = False
    mask_values: tuple[float, ...] | None = None
    ignore_values: tuple[float, ...] = ()


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


def segment(
    segmenter: Segmenter,
    work: Sequence[Item],
    output: Path,
    extras: Extras,
    done: Callable[[Result], None],
    advance: Callable[[float], None] = lambda share: None,
) -> list[Result]:
    """Segments every source; one that fails is reported and the others go on.

    However it ends, ``summary.csv`` has a row for each source done, and ``measurements.csv`` and ``measurements.json`` one for
    each lung of a volume.

    Args:
        done: called with each result.
        advance: called within a volume with the share of its slices that are done.

    Raises:
        UserError: the output cannot be written.
        DeviceFull: the device's memory is too small.
    """
    results: list[Result] = []
    try:
        for item, reading in _read_ahead(work, extras.allow_gaps):
            results.append(_one(segmenter, item, reading, extras, advance))
            done(results[-1])
    finally:
        if results:
            write_text(output / "summary.csv", _summary(results))
            _write_measurements(results, output)
    return results


def scores(results: Sequence[Result]) -> dict[str, float]:
    """Means over all slices that had a truth, as ``lungseg.metrics.definitions`` says."""
    return summarise(score for result in results for score in result.scores)


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
            overlay=output / "overlays" / folder / f"{mask}.overlay.png",
            probability=output / "probabilities" / folder / f"{mask}.probability{ending}",
        )


def _key(path: Path) -> str:
    """The same for all spellings that are one file on a Mac or on Windows."""
    return unicodedata.normalize("NFC", str(path)).casefold()


def _one(segmenter: Segmenter, item: Item, reading: Reading, extras: Extras, advance: Callable[[float], None]) -> Result:
    try:
        scan, seconds = reading.result()
        if item.is_volume and item.source.series is None and are_labels(scan.volume.voxels):
            raise UserError(f"{item.image} holds labels, no grey values: give the scan.")
        volume = scan.volume if item.is_volume else _slices(scan.volume)
        truth = _truth(item, scan.volume, extras)
        number, total = count(1), len(volume.canonical().voxels)
        found = segmenter.segment(volume, extras.probabilities, lambda: advance(next(number) / total))
    except DeviceFull:
        raise
    except UserError as error:
        return Result(item, error=str(error), cause=error)
    except MemoryError:
        return Result(item, error=f"{item.image} does not fit into the memory of this machine: cut it into smaller parts.")
    spent = {"reading": seconds, **found.seconds}
    began = time.perf_counter()
    _write(item, scan.volume, found, truth, extras)
    spent["writing"] = time.perf_counter() - began
    lung = found.labels
    return Result(
        item,
        lung_fraction=np.count_nonzero(lung) / lung.size,
        seconds=spent,
        remarks=(*item.source.remarks, *scan.remarks, *found.remarks),
        warnings=(*scan.doubts, *found.warnings),
        scores=() if truth is None else tuple(overlap(own > 0, true) for own, true in zip(lung, truth, strict=True)),
        lungs=found.lungs,
        shape=scan.volume.voxels.shape,
        spacing_mm=() if scan.volume.grid is None else scan.volume.grid.spacing_mm,
    )


def _slices(volume: Volume) -> Volume:
    """A volume as slices that lie nowhere, seen from the feet, if they are axial; else as they are stored."""
    is_axial = volume.grid is not None and volume.grid.turn.order[0] == 0
    return Volume(volume.canonical().voxels if is_axial else volume.voxels)


def _stored(volume: Volume, canonical: NDArray[Any]) -> NDArray[Any]:
    """What lies as ``_slices`` gives it in the order of the file."""
    return volume.stored(canonical) if volume.grid is not None and volume.grid.turn.order[0] == 0 else canonical


def _truth(item: Item, volume: Volume, extras: Extras) -> NDArray[np.uint8] | None:
    """The true labels in the order of the found ones: of a volume at the same points, of slices pixel by pixel."""
    if item.truth is None:
        return None
    if item.is_volume and suffix_of(item.truth) in VOLUME_SUFFIXES:
        grid = volume.canonical().grid
        assert grid is not None
        stack, shape = read(item.truth).volume.on(grid, labels=True).canonical().voxels, grid.shape
    else:
        stack, shape = read_mask(item.truth), volume.voxels.shape
    if stack.shape != shape:
        raise UserError(f"{item.truth} has the shape {stack.shape} but {item.image} has {shape}: give the mask of this image.")
    if not item.is_volume:
        stack = _slices(replace(volume, voxels=stack)).voxels
    return to_labels(stack.astype(np.float32, copy=False), item.truth, extras.mask_values, extras.ignore_values)


def _write(item: Item, volume: Volume, found: Segmentation, truth: NDArray[np.uint8] | None, extras: Extras) -> None:
    """Mask, probability and picture, those that are wanted."""
    like = item.image if item.is_volume and item.source.series is None and suffix_of(item.image) in VOLUME_SUFFIXES else None
    has_sides = extras.sides and found.has_sides
    if item.is_volume:
        write_mask(item.mask, found.labels if has_sides else found.labels > 0, like, volume.grid)
    else:
        write_mask(item.mask, _stored(volume, found.labels > 0))
    if found.probability is not None:
        probability = found.probability if item.is_volume else _stored(volume, found.probability)
        write_probability(item.probability, probability, like, volume.grid)
    if extras.overlays or (extras.overlays is None and item.is_volume):
        write_picture(item.overlay, _picture(item, volume, found, truth))


def _picture(item: Item, volume: Volume, found: Segmentation, truth: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    if not item.is_volume:
        middle = int(np.argmax(np.count_nonzero(found.labels, axis=(1, 2))))
        true = None if truth is None else truth[middle]
        return overlay(found.hu[middle], found.labels[middle] > 0, true)
    assert found.volume.grid is not None
    return planes(
        found.volume.voxels,
        found.labels,
        found.volume.grid.spacing_mm,
        title=item.name,
        captions=[*map(_caption, found.lungs), *(f"! {sentence}" for sentence in found.warnings)],
        slope=float(found.hu.slope),
        intercept=float(found.hu.intercept),
        window_hu=LUNG_WINDOW_HU if found.is_hu else None,
        sided=found.has_sides,
        truth=truth,
    )


def _caption(lung: Lung) -> str:
    said = [f"{lung.side} {'lungs' if lung.side == 'both' else 'lung'}: {lung.volume_ml:,.0f} mL"]
    if lung.mean_hu is not None:
        said.append(f"mean {lung.mean_hu:.0f} HU, {lung.emphysema_fraction_below_950_hu:.1%} below -950 HU")
    if lung.touches_border:
        said.append(f"cut by the field of view ({', '.join(lung.borders)})")
    return ", ".join(said)


def _read_ahead(work: Sequence[Item], allow_gaps: bool) -> Iterator[tuple[Item, Reading]]:
    """Sources in order with what was read of them, the next one being read while one is segmented; never more in memory."""

    def scan(item: Item) -> tuple[Scan, float]:
        if item.source.refusal:
            raise UserError(item.source.refusal)
        began = time.perf_counter()
        series = item.source.series
        found = read(item.image, allow_gaps=allow_gaps) if series is None else read_series(series, allow_gaps)
        return found, time.perf_counter() - began

    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting = [pool.submit(scan, item) for item in work[:1]]
        for index, item in enumerate(work):
            reading = waiting.pop()
            if index + 1 < len(work):
                reading.exception()  # it is done before the next begins, or three would lie in memory
                waiting.append(pool.submit(scan, work[index + 1]))
            yield item, reading


def _write_measurements(results: Sequence[Result], output: Path) -> None:
    """Volumes and densities of each lung of each volume, as a table and as JSON."""
    measured = [result for result in results if result.lungs]
    if not measured:
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, ["file", *rows(measured[0].lungs)[0]], lineterminator="\n")
    writer.writeheader()
    writer.writerows({"file": result.item.name, **row} for result in measured for row in rows(result.lungs))
    write_text(output / "measurements.csv", text.getvalue())
    scans = [
        {
            "file": result.item.name,
            "shape": list(result.shape),
            "spacing_mm": list(result.spacing_mm),
            "lungs": rows(result.lungs),
            "warnings": list(result.warnings),
        }
        for result in measured
    ]
    write_text(output / "measurements.json", json.dumps(scans, indent=1))


def _summary(results: Sequence[Result]) -> str:
    text = io.StringIO()
    columns = ["file", "lung_fraction", "seconds", "warnings"]
    if any(result.item.truth is not None for result in results):
        columns += ["iou", "dice"]
    if any(result.item.truth is not None and result.item.is_volume for result in results):
        columns += ["iou_3d", "dice_3d"]
    writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for result in results:
        own = summarise(result.scores)
        pooled = own["iou_pooled"] if result.item.is_volume else math.nan
        row = {
            "file": result.item.name,
            "lung_fraction": _cell(result.lung_fraction, 5),
            "seconds": _cell(sum(result.seconds.values()) if result.seconds else math.nan, 3),
            "warnings": result.error or "; ".join(result.warnings),
            "iou": _cell(own["iou"], 5),
            "dice": _cell(own["dice"], 5),
            "iou_3d": _cell(pooled, 5),
            "dice_3d": _cell(2 * pooled / (1 + pooled), 5),
        }
        writer.writerow(row)
    return text.getvalue()


def _cell(value: float, digits: int) -> str:
    return "" if math.isnan(value) else f"{value:.{digits}f}"
