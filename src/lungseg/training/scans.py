"""Whole scans judged in 3-D at the end of a training, as prediction judges them."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from lungseg.data.cache import Scan, SliceCache
from lungseg.data.datamodule import LungDataModule
from lungseg.data.split import Case
from lungseg.errors import UserError
from lungseg.files import write_text
from lungseg.log import aligned, cell, log
from lungseg.metrics.cases import volume_figures
from lungseg.metrics.overlap import overlap, volume_scores
from lungseg.postprocess.steps import separate
from lungseg.training.module import SegmentationModule
from lungseg.training.ranks import from_all

SHOWN = 20  # scans on the screen, those with the lowest Dice
MEANS = ("dice_3d", "iou_3d", "dice_3d_network", "iou_3d_network")  # over scans, in metrics.json
# Of all voxels of a scan together, as metrics.cases.volume_figures has them: after the post-processing, which needs to know the
# spacing, and of the network's own mask.
BOUNDARY = ("hd95_3d_mm", "assd_3d_mm", "nsd_3d", "volume_error", "volume_error_ml")
FIGURES = ("dice_3d", "iou_3d", "false_lung_pixels_max", "dice_3d_network", "iou_3d_network", *BOUNDARY)


@dataclass(frozen=True)
class ScanScore:
    """What a scan was judged by.

    Attributes:
        figures: some of ``FIGURES``; nan where there is nothing to judge.
    """

    scan: str
    patient: str
    source: str
    slices: int
    slices_with_lung: int
    figures: Mapping[str, float]

    def __getitem__(self, name: str) -> float:
        return self.figures.get(name, math.nan)


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
    judged = from_all([_judged(module, cache, scan, cases[scan.case], device) for scan in own], data.ranks)
    scores = [score for score, _ in judged]
    if trainer.is_global_zero:
        for score, fault in judged:
            if fault:
                log.warning(f"{score.scan} has the figures of the network's own mask alone, as it cannot be read again: {fault}")
        write_text(folder / f"{part}_volumes.csv", _as_csv(scores))
        log.info(as_screen(scores, part))
    found = {key: [value for score in scores if not math.isnan(value := score[key])] for key in MEANS}
    return {f"{part}/{key}": math.fsum(values) / len(values) for key, values in found.items() if values}


def as_screen(scores: Sequence[ScanScore], part: str) -> str:
    """A table of those with the lowest Dice; those without any, as there is lung in neither mask, come last."""
    ranked = sorted(scores, key=_rank)[:SHOWN]
    head = ("scan", "slices", "with lung", "Dice", "IoU", "network's Dice", "IoU")
    rows = [
        head,
        *((one.scan, str(one.slices), str(one.slices_with_lung), *(cell(one[key], ".4f") for key in MEANS)) for one in ranked),
    ]
    more = [f"... and {len(scores) - SHOWN} scans more in {part}_volumes.csv"] if len(scores) > SHOWN else []
    return "\n".join([*aligned(rows, right=range(1, len(head))), *more])


def _rank(score: ScanScore) -> tuple[float, str]:
    dice = score["dice_3d_network"]
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
    truth = np.stack([cache.truth(index) for index in scan.slices])
    network = [overlap(own > 0, true) for own, true in zip(labels, truth, strict=True)]
    figures: dict[str, float] = {}
    fault = ""
    if scan.spacing_mm is not None:
        try:
            hu = _greys(case, labels.shape)
        except UserError as error:  # gone or damaged since it was learnt from, hours ago; what was scored stands
            fault = str(error)
        else:
            separate(labels, scan.spacing_mm, hu, in_place=True)
            figures = volume_figures(labels > 0, truth, scan.spacing_mm)
    iou, dice = volume_scores(network)
    figures |= {"iou_3d_network": iou, "dice_3d_network": dice}
    with_lung = sum(slice_.has_lung for slice_ in network)
    return ScanScore(scan.name, case.patient or "", case.source, len(network), with_lung, figures), fault


def _greys(case: Case, shape: tuple[int, ...]) -> Any:
    """HU in full, (Z, H, W), which no cache keeps; None where the grey values are no HU.

    Raises:
        UserError: the scan cannot be read, or is another one by now.
    """
    stack = case.read()
    if stack.image.shape != shape:
        raise UserError(f"it has the shape {stack.image.shape} now, and had {shape}.")
    return stack.image if stack.is_hu else None


def _as_csv(scores: Sequence[ScanScore]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("scan", "patient", "source", "slices", "slices_with_lung", *FIGURES))
    for one in sorted(scores, key=lambda score: score.scan):
        figures = (cell(one[name]) for name in FIGURES)
        table.writerow((one.scan, one.patient, one.source, one.slices, one.slices_with_lung, *figures))
    return text.getvalue()
