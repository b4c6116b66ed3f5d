"""Many files in, a mask for each and one summary out."""

import csv
import io
import math
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import special

from lungseg.errors import UserError
from lungseg.files import write_text
from lungseg.imaging.overlay import overlay
from lungseg.imaging.pairs import common_stem
from lungseg.imaging.plausibility import warnings
from lungseg.imaging.readers import file_doubts
from lungseg.imaging.slices import read_labels, read_stack
from lungseg.imaging.writers import mask_ending, write_mask, write_picture, write_probability
from lungseg.inference.segmenter import DeviceFull, Segmenter
from lungseg.metrics.overlap import Overlap, overlap, summarise

Reading = Future[tuple[NDArray[np.float32], float]]  # grey values (Z, H, W), seconds


@dataclass(frozen=True)
class Item:
    """A file to segment.

    Attributes:
        name: of the file below the input folder, as the summary shows it.
        mask, overlay, probability: where its results go, those that are wanted.
        truth: the file with its true mask, if any.
    """

    name: str
    image: Path
    mask: Path
    overlay: Path
    probability: Path
    truth: Path | None = None

    @property
    def targets(self) -> tuple[Path, Path, Path]:
        """All files that may be written for it."""
        return self.mask, self.overlay, self.probability


@dataclass(frozen=True)
class Result:
    """What came of one file; ``error`` is a sentence, or None where there is a mask, and ``cause`` what lies behind it."""

    item: Item
    lung_fraction: float = float("nan")
    seconds: float = float("nan")
    warnings: tuple[str, ...] = ()
    scores: tuple[Overlap, ...] = ()
    error: str | None = None
    cause: BaseException | None = None


@dataclass(frozen=True)
class Extras:
    """What is written beside the masks."""

    overlays: bool = False
    probabilities: bool = False
    mask_values: tuple[float, ...] | None = None
    ignore_values: tuple[float, ...] = ()


def items(images: Sequence[tuple[str, Path]], output: Path) -> list[Item]:
    """Files and where their results go: sub-folders and stems stay, and no two share a file, whatever the case of its letters.

    Where several masks would have one name, each takes the image's whole name: 'a.png' and 'a.tif' give 'a.png.png' and
    'a.tif.png'. The other results are named after the mask.
    """
    ways = [_ways(name, path, output) for name, path in images]
    shortest = [next(way) for way in ways]
    wanted = Counter(_key(item.mask) for item in shortest)
    taken = {mask for mask, times in wanted.items() if times > 1}
    taken |= {_key(output / folder) for name, _ in images for folder in Path(name).parents}  # 'a.png' may be a folder
    made = []
    for first, way in zip(shortest, ways, strict=True):
        item = next(item for item in chain([first], way) if taken.isdisjoint(map(_key, item.targets)))
        taken.update(map(_key, item.targets))
        made.append(item)
    return made


def segment(
    segmenter: Segmenter, work: Sequence[Item], output: Path, extras: Extras, done: Callable[[Result], None]
) -> list[Result]:
    """Segments every file; one that fails is reported and the others go on.

    However it ends, ``summary.csv`` has a row for each file done.

    Raises:
        UserError: the output cannot be written.
        DeviceFull: the device's memory is too small.
    """
    results: list[Result] = []
    try:
        for item, reading in _read_ahead(work):
            results.append(_one(segmenter, item, reading, extras))
            done(results[-1])
    finally:
        if results:
            write_text(output / "summary.csv", _summary(results))
    return results


def scores(results: Sequence[Result]) -> dict[str, float]:
    """Means over all slices that had a truth, as ``lungseg.metrics.definitions`` says."""
    return summarise(score for result in results for score in result.scores)


def _ways(name: str, path: Path, output: Path) -> Iterator[Item]:
    """A file with every name that its mask may have, the shortest first."""
    ending, folder, whole = mask_ending(path), Path(name).parent, Path(name).name
    for stem in chain([common_stem(Path(name)), whole], (f"{whole}.{number}" for number in count(2))):
        mask = f"{stem}{ending}"
        yield Item(
            name,
            path,
            mask=output / folder / mask,
            overlay=output / "overlays" / folder / f"{mask}.overlay.png",
            probability=output / "probabilities" / folder / f"{mask}.probability{ending}",
        )


def _key(path: Path) -> str:
    """The same for all spellings that are one file on a Mac or on Windows."""
    return unicodedata.normalize("NFC", str(path)).casefold()


def _one(segmenter: Segmenter, item: Item, reading: Reading, extras: Extras) -> Result:
    try:
        stack, seconds = reading.result()
        truth = _truth(item, stack, extras)
        began = time.perf_counter()
        logits = np.stack(segmenter.logits(stack))
    except DeviceFull:
        raise
    except UserError as error:
        return Result(item, error=str(error), cause=error)
    except MemoryError:
        return Result(item, error=f"{item.image} does not fit into the memory of this machine: cut it into smaller parts.")
    mask = segmenter.mask(logits)
    seconds += time.perf_counter() - began
    write_mask(item.mask, mask, like=item.image)
    if extras.probabilities:
        write_probability(item.probability, special.expit(logits), like=item.image)
    if extras.overlays:
        middle = int(np.argmax(mask.sum(axis=(1, 2))))
        true = None if truth is None else truth[middle]
        write_picture(item.overlay, overlay(stack[middle], mask[middle], true))
    return Result(
        item,
        lung_fraction=float(mask.mean()),
        seconds=seconds,
        warnings=(*file_doubts(item.image), *warnings(stack, mask)),
        scores=() if truth is None else tuple(overlap(found, true) for found, true in zip(mask, truth, strict=True)),
    )


def _truth(item: Item, stack: NDArray[np.float32], extras: Extras) -> NDArray[np.uint8] | None:
    if item.truth is None:
        return None
    labels = read_labels(item.truth, extras.mask_values, extras.ignore_values)
    if labels.shape != stack.shape:
        raise UserError(
            f"{item.truth} has the shape {labels.shape} but {item.image} has {stack.shape}: give the mask of this image."
        )
    return labels


def _read_ahead(work: Sequence[Item]) -> Iterator[tuple[Item, Reading]]:
    """Files in order with their grey values and the seconds of reading them, the next ones being read while one is segmented;
    never more than a few in memory."""

    def read(item: Item) -> tuple[NDArray[np.float32], float]:
        began = time.perf_counter()
        return read_stack(item.image), time.perf_counter() - began

    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting = [pool.submit(read, item) for item in work[:2]]
        for index, item in enumerate(work):
            reading = waiting.pop(0)
            if index + 2 < len(work):
                waiting.append(pool.submit(read, work[index + 2]))
            yield item, reading


def _summary(results: Sequence[Result]) -> str:
    text = io.StringIO()
    with_truth = any(result.item.truth is not None for result in results)
    columns = ["file", "lung_fraction", "seconds", "warnings", *(["iou", "dice"] if with_truth else [])]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for result in results:
        own = summarise(result.scores)
        row = [
            result.item.name,
            _cell(result.lung_fraction, 5),
            _cell(result.seconds, 3),
            result.error or "; ".join(result.warnings),
        ]
        writer.writerow(row + ([_cell(own["iou"], 5), _cell(own["dice"], 5)] if with_truth else []))
    return text.getvalue()


def _cell(value: float, digits: int) -> str:
    return "" if math.isnan(value) else f"{value:.{digits}f}"
