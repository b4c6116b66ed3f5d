"""Many scans in, a mask for each and tables of all out: one is read and one is written while another is with the network."""

import math
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import TypeVar

import numpy as np

from lungseg.errors import UserError
from lungseg.files import CannotWrite, writing
from lungseg.imaging.readers import Scan, read, read_series
from lungseg.imaging.slices import read_mask, to_labels
from lungseg.imaging.truths import Truth, check_alike, read_truth
from lungseg.imaging.volume import Volume
from lungseg.inference.items import Extras, Item, Result
from lungseg.inference.outputs import as_slices, write
from lungseg.inference.resume import Records
from lungseg.inference.segmenter import DeviceFull, Segmenter
from lungseg.inference.tables import write_measurements, write_summary
from lungseg.inference.volumes import Prepared, Raw, Settings, finish, pass_through, prepare
from lungseg.metrics.cases import case_figures
from lungseg.metrics.overlap import Overlap, overlap, summarise

T = TypeVar("T")

NAME_VALUES = "mask_values=1,2 say"  # what says which values of a true mask are lung
MOST_DEATHS = 3  # the first of them in company, the others alone
DEADLY = (
    "ended the program three times, most likely for want of memory: segment it alone on a larger machine, or cut it into smaller "
    "parts; to try it again here, remove"
)


@dataclass(frozen=True)
class _Plan:
    """What is the same for all scans."""

    settings: Settings
    extras: Extras
    records: Records | None


@dataclass(frozen=True)
class _Ready:
    """A scan on its way to the network; ``key`` is of its record, and empty where none is kept."""

    scan: Scan
    prepared: Prepared
    key: str
    seconds: float


def segment(
    segmenter: Segmenter,
    work: Sequence[Item],
    output: Path,
    extras: Extras,
    done: Callable[[Result], None],
    advance: Callable[[float], None] = lambda through: None,
    records: Records | None = None,
) -> list[Result]:
    """Segments every source; one that fails is reported and the others go on.

    However it ends, ``summary.csv`` has a row for each source done, and ``measurements.csv`` and ``measurements.json`` one for
    each lung of a volume. At most three scans are in memory: one is read, one is with the network, one is finished.

    Args:
        done: called with each result.
        advance: called after each slice with how many sources went through the network so far, whole ones and parts.
        records: what each scan gave is kept there, and taken from there where an earlier run did it.

    Raises:
        CannotWrite: the output cannot be written.
        DeviceFull: the device's memory is too small.
    """
    plan = _Plan(segmenter.settings, extras, records)
    last, number = _Last(done), count()
    deaths = {item.mask: 0 if records is None else records.deaths(item) for item in work}
    try:
        with last:
            for group in _groups(work, records):
                for item, ready in _read_ahead(group, plan):
                    through = next(number)
                    raw = _through(segmenter, item, ready, plan, partial(_step, advance, through))
                    last.hand_over(partial(_finished, item, ready, raw, plan))
                    advance(through + 1)
                last.wait()
    finally:
        if records is not None:
            ended = {result.item.mask for result in last.results}
            for item in work:
                if deaths[item.mask] < MOST_DEATHS:
                    records.end(item, 0 if item.mask in ended else deaths[item.mask])
        place = {item.mask: number for number, item in enumerate(work)}
        results = sorted(last.results, key=lambda result: place[result.item.mask])
        if results:
            write_summary(results, output)
            write_measurements(results, output)
    return results


def scores(results: Sequence[Result]) -> dict[str, float]:
    """Means over all slices that had a truth, as ``lungseg.metrics.definitions`` says, and over volumes in 3-D."""
    of_volumes = {key: [result.figures.get(key, math.nan) for result in results] for key in ("iou_3d", "dice_3d")}
    known = {key: [value for value in values if not math.isnan(value)] for key, values in of_volumes.items()}
    means = {key: math.fsum(values) / len(values) for key, values in known.items() if values}
    return {**means, **summarise(score for result in results for score in result.scores)}


class _Last:
    """The scan behind the network: finished and written in a thread of its own, one at a time."""

    def __init__(self, done: Callable[[Result], None]) -> None:
        self.results: list[Result] = []
        self._done, self._pool = done, ThreadPoolExecutor(1, "finishing")
        self._future: Future[Result] | None = None

    def __enter__(self) -> "_Last":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()
        self.collect()

    def hand_over(self, work: Callable[[], Result]) -> None:
        """Begins with the next scan once the one before is finished."""
        self.wait()
        self._future = self._pool.submit(work)

    def wait(self) -> None:
        """Until the scan is finished."""
        if self._future is not None:
            wait([self._future])
        self.collect()

    def collect(self) -> None:
        """Tells of the scan if it is finished."""
        if self._future is not None and self._future.done():
            future, self._future = self._future, None
            self.results.append(future.result())
            self._done(self.results[-1])


def _groups(work: Sequence[Item], records: Records | None) -> list[list[Item]]:
    """All scans, but each that an earlier run died of alone, after them: who dies of one must know of which, and have the rest."""
    died = [] if records is None else [item for item in work if records.deaths(item)]
    return [[item for item in work if item not in died], *([item] for item in died)]


def _read_ahead(work: Sequence[Item], plan: _Plan) -> Iterator[tuple[Item, _Ready | Result]]:
    """Sources in order with what was read of them, the next one being read while one is with the network."""
    with ThreadPoolExecutor(1, "reading") as pool:
        reading = [pool.submit(_read, item, plan) for item in work[:1]]
        for index, item in enumerate(work):
            ready = reading.pop().result()  # done before the next begins, or one more would lie in memory
            reading += [pool.submit(_read, following, plan) for following in work[index + 1 : index + 2]]
            yield item, ready
            del ready


def _read(item: Item, plan: _Plan) -> _Ready | Result:
    def ready() -> _Ready | Result:
        if item.source.refusal:
            raise UserError(item.source.refusal)
        began = time.perf_counter()
        key = "" if plan.records is None else plan.records.key(item)
        if plan.records is not None and (kept := plan.records.kept(item, key)) is not None:
            return kept
        if plan.records is not None:
            if plan.records.deaths(item) >= MOST_DEATHS:
                raise UserError(f"{item.image} {DEADLY} {item.record}.")
            plan.records.begin(item)
        series, allow_gaps = item.source.series, plan.extras.allow_gaps
        scan = read(item.image, allow_gaps=allow_gaps) if series is None else read_series(series, allow_gaps)
        if scan.volume.holds_labels:
            refusal = f"{item.image} holds labels, no grey values: give the scan that they were made for."
            return Result(item, error=refusal, is_mask=True)
        for target in item.targets:  # of other settings or of other bytes; a scan that cannot be read keeps what it had
            if target != item.record:
                with writing(target):
                    target.unlink(missing_ok=True)
        seconds = time.perf_counter() - began
        return _Ready(scan, prepare(scan.volume if item.is_volume else as_slices(scan.volume), plan.settings), key, seconds)

    return _tried(item, ready)


def _step(advance: Callable[[float], None], number: int, share: float) -> None:
    advance(number + share)


def _through(segmenter: Segmenter, item: Item, ready: _Ready | Result, plan: _Plan, step: Callable[[float], None]) -> Raw | Result:
    if isinstance(ready, Result):
        return ready
    slices, total = count(1), len(ready.prepared.hu)

    def raw() -> Raw:
        probabilities = plan.extras.probabilities
        return pass_through(ready.prepared, segmenter.stream, segmenter.limit, probabilities, lambda: step(next(slices) / total))

    return _tried(item, raw)


def _finished(item: Item, ready: _Ready | Result, raw: Raw | Result, plan: _Plan) -> Result:
    if isinstance(ready, Result):
        return ready
    if isinstance(raw, Result):
        return raw
    return _tried(item, lambda: _written(item, ready, raw, plan))


def _written(item: Item, ready: _Ready, raw: Raw, plan: _Plan) -> Result:
    """The result of a scan, whose files are written, its record last."""
    volume = ready.scan.volume
    given = _truth(item, volume, plan.extras)
    truth, doubts = (None, ()) if given is None else (given.labels, given.doubts)
    found = finish(ready.prepared, raw, plan.settings)
    said = (*item.source.doubts, *ready.scan.doubts, *doubts, *found.warnings)
    began, lung = time.perf_counter(), found.labels
    said += write(item, volume, found, truth, plan.extras, said)
    seconds = {"reading": ready.seconds, **found.seconds, "writing": time.perf_counter() - began}
    figures: dict[str, float] = {}
    scores: tuple[Overlap, ...] = ()
    if truth is not None:
        began = time.perf_counter()
        figures = case_figures(lung > 0, truth, None if found.volume.grid is None else found.volume.grid.spacing_mm)
        scores = tuple(overlap(own > 0, true) for own, true in zip(lung, truth, strict=True))
        seconds["scores"] = time.perf_counter() - began
    result = Result(
        item,
        lung_fraction=np.count_nonzero(lung) / lung.size,
        seconds=seconds,
        remarks=(*item.source.remarks, *ready.scan.remarks, *found.remarks),
        warnings=said,
        scores=scores,
        figures=figures,
        lungs=found.lungs,
        shape=volume.voxels.shape,
        spacing_mm=() if volume.grid is None else volume.grid.spacing_mm,
    )
    if plan.records is not None:
        plan.records.keep(item, ready.key, result)
    return result


def _tried(item: Item, action: Callable[[], T]) -> T | Result:
    """What an action on a scan gives, or what it failed of: the other scans go on.

    Raises:
        DeviceFull, CannotWrite: the other scans would fail of the same.
    """
    try:
        return action()
    except (DeviceFull, CannotWrite):
        raise
    except Exception as error:  # whatever it is: it must not cost a night's work on other scans
        return Result(item, error=_said(item, error), cause=traceback.format_exc())


def _said(item: Item, error: Exception) -> str:
    """Why a scan failed, in one sentence; without the words of a library, which may hold what a header says."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MemoryError):
        return f"{item.image} does not fit into the memory of this machine: cut it into smaller parts."
    at = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{type(error).__name__} in {Path(at.filename).name}, line {at.lineno}"
    return f"{item.image} meets a fault of the program ({where}): please report it, debug=true shows all of it."


def _truth(item: Item, volume: Volume, extras: Extras) -> Truth | None:
    """The true labels in the order of the found ones: of a volume at the same points, of slices pixel by pixel."""
    if item.truth is None:
        return None
    if item.is_volume:
        return read_truth(item.truth, volume, item.image, extras.mask_values, extras.ignore_values, NAME_VALUES)
    stack = read_mask(item.truth)
    check_alike(item.truth, stack, item.image, volume.voxels)
    stack = as_slices(replace(volume, voxels=stack)).voxels
    return Truth(to_labels(stack, item.truth, extras.mask_values, extras.ignore_values, NAME_VALUES), stack)
