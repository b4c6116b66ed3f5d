"""Whole scans judged in 3-D at the end of a training, as prediction judges them."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray

from lungseg.data.cache import Scan, SliceCache
from lungseg.data.datamodule import LungDataModule
from lungseg.data.split import Case
from lungseg.errors import UserError
from lungseg.files import write_text
from lungseg.log import log
from lungseg.metrics.overlap import Overlap, overlap, summarise, volume_scores
from lungseg.postprocess.steps import separate
from lungseg.training.module import SegmentationModule

SHOWN = 20  # scans on the screen, those with the lowest Dice
MEANS = ("dice_3d", "iou_3d", "dice_3d_network", "iou_3d_network")  # over scans, in metrics.json


@dataclass(frozen=True)
class ScanScore:
    """The figures of a scan, of all its voxels together; nan where there are none.

    Attributes:
        dice_3d, iou_3d, false_lung_pixels_max: after the post-processing, which needs to know the spacing; the last is the most
            pixels of lung found in a slice without any.
        dice_3d_network, iou_3d_network: of the network's own mask.
    """

    scan: str
    slices: int
    slices_with_lung: int
    dice_3d: float
    iou_3d: float
    false_lung_pixels_max: float
    dice_3d_network: float
    iou_3d_network: float


def judge_scans(trainer: pl.Trainer, module: SegmentationModule, data: LungDataModule, part: str, folder: Path) -> dict[str, float]:
    """Means over the scans of a part, under their names in ``metrics.json``; a row for each scan goes to ``PART_volumes.csv``.

    Each rank judges scans of its own, whole, for to post-process one takes all of its slices; every rank gets the means. Of a scan
    that cannot be read again a warning says so, and it has the network's figures alone. Nothing is judged where there are no scans,
    or where the trainer was told to leave some slices out.
    """
    cache, cases = (data.test, data.split.test) if part == "test" else (data.val, data.split.val)
    limit = getattr(trainer, f"limit_{part}_batches")
    if cache is None or not cache.scans or isinstance(limit, int) or limit != 1:
        return {}
    if trainer.is_global_zero:
        log.info(f"Judging {len(cache.scans)} {part} scan{'' if len(cache.scans) == 1 else 's'} in 3-D.")
    device, own = trainer.strategy.root_device, cache.scans[data.rank :: data.ranks]
    judged = _from_all([_judged(module, cache, scan, cases[scan.case], device) for scan in own], data.ranks)
    scores = [score for score, _ in judged]
    if trainer.is_global_zero:
        for score, fault in judged:
            if fault:
                log.warning(f"{score.scan} has the figures of the network's own mask alone, as it cannot be read again: {fault}")
        write_text(folder / f"{part}_volumes.csv", _as_csv(scores))
        log.info(as_screen(scores, part))
    found = {key: [value for score in scores if not math.isnan(value := getattr(score, key))] for key in MEANS}
    return {f"{part}/{key}": math.fsum(values) / len(values) for key, values in found.items() if values}


def as_screen(scores: Sequence[ScanScore], part: str) -> str:
    """A table of those with the lowest Dice; those without any, as there is lung in neither mask, come last."""
    ranked = sorted(scores, key=_rank)[:SHOWN]
    head = ("scan", "slices", "with lung", "Dice", "IoU", "network's Dice", "IoU")
    keys = ("scan", "slices", "slices_with_lung", *MEANS)
    rows = [head, *(tuple(_cell(getattr(score, key), ".4f") for key in keys) for score in ranked)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.rjust(width) if i else cell.ljust(width) for i, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
    more = [f"... and {len(scores) - SHOWN} scans more in {part}_volumes.csv"] if len(scores) > SHOWN else []
    return "\n".join([*(line.rstrip() for line in lines), *more])


def _rank(score: ScanScore) -> tuple[float, str]:
    dice = score.dice_3d_network
    return math.inf if math.isnan(dice) else dice, score.scan  # nan in a key would leave the others in any order


def _judged(module: SegmentationModule, cache: SliceCache, scan: Scan, case: Case, device: torch.device) -> tuple[ScanScore, str]:
    """The figures of a scan, and why it could not be read again; empty where it could."""
    shape = cache.infos[scan.slices[0]].shape
    labels = np.empty((len(scan.slices), *shape), np.uint8)
    net = module.deployed.to(device).eval()
    for z, index in enumerate(scan.slices):
        image = torch.from_numpy(module.preprocess.normalise(cache.image(index)))[None, None].to(device)
        with torch.inference_mode(), torch.autocast(device.type, enabled=False):
            logits = net(image)[0, 0].cpu().numpy()
        labels[z] = module.preprocess.from_grid(logits, shape) > 0
    network = _overlaps(labels, cache, scan)
    lungs: tuple[Overlap, ...] = ()
    fault = ""
    if scan.spacing_mm is not None:
        try:
            hu = _greys(case, labels.shape)
        except UserError as error:  # gone or damaged since it was learnt from, hours ago; what was scored stands
            fault = str(error)
        else:
            separate(labels, scan.spacing_mm, hu, in_place=True)
            lungs = _overlaps(labels, cache, scan)
    (iou, dice), (network_iou, network_dice) = volume_scores(lungs), volume_scores(network)
    false_lung = summarise(lungs)["false_lung_pixels_max"] if lungs else math.nan
    with_lung = sum(slice_.has_lung for slice_ in network)
    return ScanScore(scan.name, len(network), with_lung, dice, iou, false_lung, network_dice, network_iou), fault


def _greys(case: Case, shape: tuple[int, ...]) -> Any:
    """HU in full, (Z, H, W), which no cache keeps; None where the grey values are no HU.

    Raises:
        UserError: the scan cannot be read, or is another one by now.
    """
    stack = case.read()
    if stack.image.shape != shape:
        raise UserError(f"it has the shape {stack.image.shape} now, and had {shape}.")
    return stack.image if stack.is_hu else None


def _overlaps(labels: NDArray[np.uint8], cache: SliceCache, scan: Scan) -> tuple[Overlap, ...]:
    return tuple(overlap(own > 0, cache.truth(index)) for own, index in zip(labels, scan.slices, strict=True))


def _from_all(own: list[tuple[ScanScore, str]], ranks: int) -> list[tuple[ScanScore, str]]:
    if ranks == 1:
        return own
    gathered: list[list[tuple[ScanScore, str]]] = [[] for _ in range(ranks)]
    torch.distributed.all_gather_object(gathered, own)
    return [one for judged in gathered for one in judged]


def _as_csv(scores: Sequence[ScanScore]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(ScanScore)], lineterminator="\n")
    writer.writeheader()
    for score in sorted(scores, key=lambda score: score.scan):
        writer.writerow({key: _cell(value, ".6g") for key, value in asdict(score).items()})
    return text.getvalue()


def _cell(value: str | float, digits: str) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else format(value, digits)
    return str(value)
