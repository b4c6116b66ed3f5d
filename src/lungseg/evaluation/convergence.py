"""How fast networks learn: validation IoU against epochs, images and seconds, and when it comes near the best."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from lungseg.evaluation.jobs import Floats, Job


@dataclass(frozen=True)
class Run:
    """A training as far as it was validated: (points) of its epochs, images and seconds from the start, and of its IoU then."""

    epochs: Floats
    images: Floats
    seconds: Floats
    iou: Floats


@dataclass(frozen=True)
class Curve:
    """Several runs as one: (points), means over the runs, and the lowest and highest of them."""

    epochs: Floats
    images: Floats
    seconds: Floats
    mean: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Reached:
    """When runs came to an IoU: how many of them did, and the means of those; nan where none did."""

    runs: int
    of: int
    epochs: float
    images: float
    seconds: float


def run_of(job: Job) -> Run | None:
    """What a job has left of its validations; None where there is none with lung."""
    history = job.history
    if "val/iou" not in history:
        return None
    there = np.isfinite(history["val/iou"])
    if not there.any():
        return None
    images, seconds = (np.cumsum(history[name])[there] for name in ("images", "seconds"))
    return Run(history["epoch"][there], images, seconds, history["val/iou"][there])


def curve(repeats: Iterable[Sequence[Run]]) -> Curve | None:
    """Of runs that belong together: those of a repeat (same seed and fold) are averaged, the band is of the repeats.

    Only epochs count in which all runs were validated; None where there is none.
    """
    every = [list(runs) for runs in repeats]
    all_runs = [run for runs in every for run in runs]
    if not all_runs:
        return None
    shared = all_runs[0].epochs
    for run in all_runs:
        shared = np.intersect1d(shared, run.epochs)
    if len(shared) == 0:
        return None

    def means(field: str) -> Floats:  # (repeats, points)
        return np.array([np.mean([getattr(run, field)[np.isin(run.epochs, shared)] for run in runs], axis=0) for runs in every])

    iou = means("iou")
    return Curve(shared, means("images").mean(0), means("seconds").mean(0), iou.mean(0), iou.min(0), iou.max(0))


def reached(runs: Sequence[Run], iou: float) -> Reached:
    """The first validation of each run that is not below an IoU."""
    first = [(run, int(np.argmax(run.iou >= iou))) for run in runs if (run.iou >= iou).any()]
    epochs, images, seconds = (
        float(np.mean([getattr(run, field)[place] for run, place in first])) if first else np.nan
        for field in ("epochs", "images", "seconds")
    )
    return Reached(len(first), len(runs), epochs, images, seconds)
