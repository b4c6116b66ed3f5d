"""One CT volume to lungs: grey values checked, slices through the network, both lungs told apart, measured and doubted."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from lungseg.errors import UserError
from lungseg.imaging.greys import HU, NOT_CT, Judgement
from lungseg.imaging.plausibility import warnings
from lungseg.imaging.units import Rescaled, Units, as_seen
from lungseg.imaging.volume import Volume
from lungseg.metrics.lungs import Lung, measure
from lungseg.postprocess.steps import Postprocess, separate

LEAST_ML, MOST_ML = 300.0, 12_000.0  # of both lungs of anybody but a small child
HARDLY_ML = 10.0  # of lungs that the field of view cuts, too
MOST_CUT = 0.25  # of the lungs has one grey, the lowest: a window cut them
CUT = "the window cut the lungs to one grey: no densities are measured"
ALREADY_HU = "grey values look like HU, and input.slope= and input.intercept= were applied all the same"
Network = Callable[[Iterable[NDArray[Any]]], Iterator[NDArray[np.float32]]]  # slices (H, W) to logits (H, W), one by one


@dataclass(frozen=True)
class Settings:
    """How a volume is segmented.

    Args:
        units: what its grey values mean, where the user says so.
        postprocess: the steps from the network's mask to two lungs; None keeps that mask, as one label.
    """

    units: Units = field(default_factory=Units)
    postprocess: Postprocess | None = field(default_factory=Postprocess)


@dataclass(frozen=True)
class Segmentation:
    """What was found in a volume.

    Attributes:
        volume: the volume in canonical order.
        labels: (Z, H, W) in canonical order: 1 right lung, 2 left lung; or 1 where the sides were not told apart.
        probability: (Z, H, W) of lung by the network alone, where it was asked for.
        has_sides: whether the labels tell the sides apart.
        hu: the volume's values as the network saw them: HU where ``is_hu``.
        remarks: what was done on the way.
        warnings: what somebody should look at.
        seconds: by stage.
    """

    volume: Volume
    labels: NDArray[np.uint8]
    has_sides: bool
    probability: NDArray[np.float32] | None
    hu: Rescaled
    is_hu: bool
    lungs: tuple[Lung, ...]
    remarks: tuple[str, ...]
    warnings: tuple[str, ...]
    seconds: dict[str, float]


@dataclass(frozen=True)
class Prepared:
    """A volume on its way to the network.

    Attributes:
        volume: in canonical order.
        hu: its values as the network shall see them: HU where ``is_hu``.
        warnings: what is to be said of its grey values.
        seconds: by stage, so far.
    """

    volume: Volume
    hu: Rescaled
    is_hu: bool
    warnings: tuple[str, ...]
    seconds: dict[str, float]


@dataclass(frozen=True)
class Raw:
    """The network's own word on a volume, in canonical order.

    Attributes:
        mask: (Z, H, W), 1 where there is lung.
        probability: (Z, H, W) float32, where it was asked for.
    """

    mask: NDArray[np.uint8]
    probability: NDArray[np.float32] | None
    seconds: float


def segment_volume(
    volume: Volume,
    network: Network,
    limit: float,
    settings: Settings,
    probabilities: bool = False,
    advance: Callable[[], None] = lambda: None,
) -> Segmentation:
    """The lungs in a volume of any orientation: what the three functions below do, one after the other.

    Memory stays flat: beside the volume only its labels, a byte a voxel, are as large as the volume, unless probabilities are
    asked for.

    Raises:
        UserError: the network needs HU and these are none, or the volume is a mask.
    """
    prepared = prepare(volume, settings)
    return finish(prepared, pass_through(prepared, network, limit, probabilities, advance), settings)


def prepare(volume: Volume, settings: Settings) -> Prepared:
    """A volume whose grey values were judged and are HU, if they can be made so.

    Raises:
        UserError: the volume is a mask.
    """
    if volume.holds_labels:
        raise UserError("the volume holds labels, no grey values: give the scan that they were made for.")
    seconds: dict[str, float] = {}
    canonical = volume.canonical()
    with _timed(seconds, "grey_values"):
        seen = as_seen(canonical.voxels, settings.units)
        cut = settings.units.window is not None and seen.judgement.levels.flat > MOST_CUT
    said = (*_said(seen.judgement, settings.units, is_volume=canonical.grid is not None), *([CUT] if cut else []))
    return Prepared(canonical, seen.hu, seen.is_hu and not cut, said, seconds)


def pass_through(
    prepared: Prepared,
    network: Network,
    limit: float,
    probabilities: bool = False,
    advance: Callable[[], None] = lambda: None,
) -> Raw:
    """The network's mask of a volume.

    Args:
        network: slices to logits.
        limit: a voxel is lung where its logit is above this.
        advance: called after each slice.

    Raises:
        UserError: the network needs HU and these are none.
    """
    began, hu = time.perf_counter(), prepared.hu
    mask = np.empty(hu.shape, dtype=np.uint8)
    probability = np.empty(hu.shape, dtype=np.float32) if probabilities else None
    for z, logits in enumerate(network(hu[z] for z in range(len(hu)))):
        mask[z] = logits > limit
        if probability is not None:
            probability[z] = special.expit(logits)
        advance()
    return Raw(mask, probability, time.perf_counter() - began)


def finish(prepared: Prepared, raw: Raw, settings: Settings) -> Segmentation:
    """Both lungs told apart, measured and doubted; they are painted into the mask of ``raw`` itself."""
    seconds = {**prepared.seconds, "network": raw.seconds}
    canonical, is_hu, labels = prepared.volume, prepared.is_hu, raw.mask
    hu: Any = prepared.hu  # to other rooms an array
    has_sides = canonical.grid is not None and settings.postprocess is not None
    remarks: tuple[str, ...] = ()
    measured: tuple[Lung, ...] = ()
    if canonical.grid is not None:
        spacing_mm = canonical.grid.spacing_mm
        if settings.postprocess is not None:
            with _timed(seconds, "postprocessing"):
                lungs = separate(labels, spacing_mm, hu if is_hu else None, settings.postprocess, in_place=True)
            remarks = lungs.remarks
            if settings.postprocess.airways and not is_hu:
                remarks += ("trachea and main bronchi may be in, for to take them out needs HU",)
        with _timed(seconds, "measurements"):
            stored = canonical.voxels if is_hu else None
            measured = measure(labels, spacing_mm, stored, hu.slope, hu.intercept, sided=has_sides)
    with _timed(seconds, "doubts"):
        odd = warnings(hu, labels)
    said = (*prepared.warnings, *_volume_doubts(measured, has_sides), *odd)
    return Segmentation(canonical, labels, has_sides, raw.probability, hu, is_hu, measured, remarks, said, seconds)


def _said(greys: Judgement, units: Units, is_volume: bool) -> tuple[str, ...]:
    """What is to be said of grey values; of what is no CT the doubts speak, and a picture is 8-bit grey by its nature."""
    if units.are_given:
        is_changed = greys.kind == HU and not greys.inverted and units.window is None and (units.slope, units.intercept) != (1, 0)
        return (ALREADY_HU,) if is_changed else ()
    is_news = greys.is_repaired or (is_volume and greys.kind not in (HU, NOT_CT))
    return (f"grey values are {greys.sentence}",) if is_news else ()


def _volume_doubts(lungs: Sequence[Lung], has_sides: bool) -> tuple[str, ...]:
    """Whether the lungs are as large as lungs are; of what the field of view cuts nobody knows, and no lung is said elsewhere."""
    if not lungs or not lungs[-1].found:
        return ()
    missing = [lung.side for lung in lungs if not lung.found]
    said = [f"no {missing[0]} lung was found"] if has_sides and missing else []
    both = lungs[-1]
    if both.volume_ml > MOST_ML or both.volume_ml < (HARDLY_ML if both.touches_border else LEAST_ML):
        said.append(f"{both.volume_ml:,.0f} mL are not the volume of lungs")
    return tuple(said)


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - began
