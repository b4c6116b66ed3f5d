"""Many scans in, a mask for each and tables of all out."""

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np

from lungseg.errors import UserError
from lungseg.imaging.readers import Scan, read, read_series
from lungseg.imaging.slices import read_mask, to_labels
from lungseg.imaging.truths import Truth, read_truth
from lungseg.imaging.volume import Volume
from lungseg.inference.items import Extras, Item, Result
from lungseg.inference.outputs import as_slices, write
from lungseg.inference.segmenter import DeviceFull, Segmenter
from lungseg.inference.tables import write_measurements, write_summary
from lungseg.metrics.overlap import overlap, summarise

NAME_VALUES = "mask_values=1,2 say"  # what says which values of a true mask are lung
Reading = Future[tuple[Scan, float]]  # and the seconds it took


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
            write_summary(results, output)
            write_measurements(results, output)
    return results


def scores(results: Sequence[Result]) -> dict[str, float]:
    """Means over all slices that had a truth, as ``lungseg.metrics.definitions`` says."""
    return summarise(score for result in results for score in result.scores)


def _one(segmenter: Segmenter, item: Item, reading: Reading, extras: Extras, advance: Callable[[float], None]) -> Result:
    try:
        scan, seconds = reading.result()
        if item.is_volume and scan.volume.holds_labels:
            refusal = f"{item.image} holds labels, no grey values: give the scan that they were made for."
            return Result(item, error=refusal, is_mask=True)
        volume = scan.volume if item.is_volume else as_slices(scan.volume)
        given = _truth(item, scan.volume, extras)
        truth, doubts = (None, ()) if given is None else (given.labels, given.doubts)
        number, total = count(1), len(volume.canonical().voxels)
        found = segmenter.segment(volume, None, extras.probabilities, lambda: advance(next(number) / total))
    except DeviceFull:
        raise
    except UserError as error:
        return Result(item, error=str(error), cause=traceback.format_exc())
    except MemoryError:
        return Result(item, error=f"{item.image} does not fit into the memory of this machine: cut it into smaller parts.")
    spent = {"reading": seconds, **found.seconds}
    began = time.perf_counter()
    said = (*item.source.doubts, *scan.doubts, *doubts, *found.warnings)
    write(item, scan.volume, found, truth, extras, said)
    spent["writing"] = time.perf_counter() - began
    lung = found.labels
    return Result(
        item,
        lung_fraction=np.count_nonzero(lung) / lung.size,
        seconds=spent,
        remarks=(*item.source.remarks, *scan.remarks, *found.remarks),
        warnings=said,
        scores=() if truth is None else tuple(overlap(own > 0, true) for own, true in zip(lung, truth, strict=True)),
        lungs=found.lungs,
        shape=scan.volume.voxels.shape,
        spacing_mm=() if scan.volume.grid is None else scan.volume.grid.spacing_mm,
    )


def _truth(item: Item, volume: Volume, extras: Extras) -> Truth | None:
    """The true labels in the order of the found ones: of a volume at the same points, of slices pixel by pixel."""
    if item.truth is None:
        return None
    if item.is_volume:
        return read_truth(item.truth, volume, item.image, extras.mask_values, extras.ignore_values, NAME_VALUES)
    stack = read_mask(item.truth)
    if stack.shape != volume.voxels.shape:
        raise UserError(
            f"{item.truth} has the shape {stack.shape} but {item.image} has {volume.voxels.shape}: give the mask of this image."
        )
    stack = as_slices(replace(volume, voxels=stack)).voxels
    return Truth(to_labels(stack, item.truth, extras.mask_values, extras.ignore_values, NAME_VALUES), stack)


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
