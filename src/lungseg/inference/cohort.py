"""Many files in, a mask for each and one summary out."""

import csv
import io
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lungseg.errors import UserError
from lungseg.files import write_text
from lungseg.imaging.overlay import overlay
from lungseg.imaging.slices import read_labels, read_stack
from lungseg.imaging.writers import mask_name, write_mask, write_picture, write_probability
from lungseg.inference.segmenter import Segmenter
from lungseg.metrics.overlap import Overlap, overlap, summarise

EMPTY = "no lung found"


@dataclass(frozen=True)
class Item:
    """A file to segment.

    Attributes:
        name: of the file below the input folder, as the summary shows it.
        mask: where its mask goes; truth: the file with its true mask, if any.
    """

    name: str
    image: Path
    mask: Path
    truth: Path | None = None


@dataclass(frozen=True)
class Result:
    """What came of one file; ``error`` is a sentence, or None where there is a mask."""

    item: Item
    lung_fraction: float = float("nan")
    seconds: float = float("nan")
    warnings: tuple[str, ...] = ()
    scores: tuple[Overlap, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class Extras:
    """What is written beside the masks."""

    overlays: bool = False
    probabilities: bool = False
    mask_values: tuple[float, ...] | None = None
    ignore_values: tuple[float, ...] = ()


def items(images: Sequence[tuple[str, Path]], output: Path) -> list[Item]:
    """Files and their masks' names: sub-folders and stems stay; files whose masks would share a name keep their whole name."""

    def of_stem(name: str) -> Path:
        return Path(name).with_name(mask_name(Path(name)))

    taken = Counter(str(of_stem(name)).casefold() for name, _ in images)
    made = []
    for name, path in images:
        mask = of_stem(name)
        if taken[str(mask).casefold()] > 1:
            mask = mask.with_name(f"{Path(name).name}.{mask.name.partition('.')[2] if mask.name.endswith('.nii.gz') else 'png'}")
        made.append(Item(name, path, output / mask))
    return made


def segment(
    segmenter: Segmenter, work: Sequence[Item], output: Path, extras: Extras, done: Callable[[Result], None]
) -> list[Result]:
    """Segments every file; one that fails is reported and the others go on. ``summary.csv`` grows complete at the end.

    Raises:
        UserError: the output cannot be written.
    """
    results = []
    for item, stack, seconds in _read_ahead(work):
        if isinstance(stack, UserError):
            result = Result(item, error=str(stack))
        else:
            try:
                result = _one(segmenter, item, stack, seconds, output, extras)
            except _Unreadable as error:
                result = Result(item, error=str(error))
        results.append(result)
        done(result)
    write_text(output / "summary.csv", _summary(results))
    return results


def scores(results: Sequence[Result]) -> dict[str, float]:
    """Means over all slices that had a truth, as ``lungseg.metrics.definitions`` says."""
    return summarise(score for result in results for score in result.scores)


class _Unreadable(UserError):
    """A truth that cannot be used: a fault of one file, not of the output."""


def _one(segmenter: Segmenter, item: Item, stack: NDArray[np.float32], seconds: float, output: Path, extras: Extras) -> Result:
    truth = _truth(item, stack, extras)
    began = time.perf_counter()
    probability = np.stack(segmenter.probabilities(stack))
    mask = probability > segmenter.threshold
    seconds += time.perf_counter() - began
    write_mask(item.mask, mask, like=item.image)
    stem = item.mask.relative_to(output).as_posix().removesuffix(".nii.gz").removesuffix(".png")
    if extras.probabilities:
        ending = ".nii.gz" if item.mask.name.endswith(".nii.gz") else ".png"
        write_probability(output / "probabilities" / f"{stem}.probability{ending}", probability, like=item.image)
    if extras.overlays:
        middle = int(np.argmax(mask.sum(axis=(1, 2))))
        true = None if truth is None else truth[middle]
        write_picture(output / "overlays" / f"{stem}.overlay.png", overlay(stack[middle], mask[middle], true))
    return Result(
        item,
        lung_fraction=float(mask.mean()),
        seconds=seconds,
        warnings=() if mask.any() else (EMPTY,),
        scores=() if truth is None else tuple(overlap(found, true) for found, true in zip(mask, truth, strict=True)),
    )


def _truth(item: Item, stack: NDArray[np.float32], extras: Extras) -> NDArray[np.uint8] | None:
    if item.truth is None:
        return None
    try:
        labels = read_labels(item.truth, extras.mask_values, extras.ignore_values)
    except UserError as error:
        raise _Unreadable(str(error)) from error
    if labels.shape != stack.shape:
        raise _Unreadable(
            f"{item.truth} has the shape {labels.shape} but {item.image} has {stack.shape}: give the mask of this image."
        )
    return labels


def _read_ahead(work: Sequence[Item]) -> Iterator[tuple[Item, NDArray[np.float32] | UserError, float]]:
    """Files in order, the next ones being read while one is segmented; never more than a few in memory."""

    def read(item: Item) -> tuple[NDArray[np.float32] | UserError, float]:
        began = time.perf_counter()
        try:
            return read_stack(item.image), time.perf_counter() - began
        except UserError as error:
            return error, 0.0

    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting = [pool.submit(read, item) for item in work[:2]]
        for index, item in enumerate(work):
            stack, seconds = waiting.pop(0).result()
            if index + 2 < len(work):
                waiting.append(pool.submit(read, work[index + 2]))
            yield item, stack, seconds


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
            f"{result.lung_fraction:.5f}",
            f"{result.seconds:.3f}",
            result.error or "; ".join(result.warnings),
        ]
        writer.writerow(row + ([f"{own['iou']:.5f}", f"{own['dice']:.5f}"] if with_truth else []))
    return text.getvalue()
