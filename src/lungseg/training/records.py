"""What a run leaves behind for a person: pictures, a score for every image, and how it came about."""

import csv
import io
import json
import math
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch

from lungseg.data.cache import SliceCache
from lungseg.data.datamodule import LungDataModule
from lungseg.files import write_text
from lungseg.imaging.writers import write_picture
from lungseg.log import cell
from lungseg.training.callbacks import overlays
from lungseg.training.machine import cpu_model
from lungseg.training.module import SegmentationModule

Figures = Mapping[int, Mapping[str, float]]  # those of each image of a part, by its number


def keep_images(figures: Figures, cache: SliceCache, path: Path) -> None:
    """``PART_images.csv``: a row for every slice of a part."""
    text = io.StringIO()
    names = list(dict.fromkeys(name for own in figures.values() for name in own))
    table = csv.DictWriter(text, ["image", "patient", "source", *names], lineterminator="\n")
    table.writeheader()
    for index, own in sorted(figures.items()):
        info = cache.infos[index]
        figures_said = {name: cell(value) for name, value in own.items()}
        table.writerow({"image": info.name, "patient": info.patient or "", "source": info.source, **figures_said})
    write_text(path, text.getvalue())


def keep_pictures(module: SegmentationModule, figures: Figures, cache: SliceCache, part: str, folder: Path) -> None:
    """Pictures of the worst slices of a part, and of some typical ones."""
    with_lung = ((index, own["iou"]) for index, own in figures.items() if not math.isnan(own["iou"]))
    ranked = sorted(with_lung, key=lambda pair: (pair[1], pair[0]))
    middle = [ranked[i] for i in sorted(set(np.linspace(len(ranked) // 4, len(ranked) - 1, 8, dtype=int)))] if ranked else []
    for name, chosen in (("worst", ranked[:8]), ("typical", middle)):
        if chosen:
            captions = [f"{Path(cache.infos[i].name).name}  IoU {iou:.3f}" for i, iou in chosen]
            write_picture(folder / "overlays" / f"{part}_{name}.png", overlays(module, cache, [i for i, _ in chosen], captions))


def keep_record(command: str, data: LungDataModule, trainer: pl.Trainer, folder: Path, seconds: float | None) -> None:
    """``run.json``, written at the start, so that a run that was killed has one too, and completed at the end."""
    packages = ("lungseg", "torch", "pytorch-lightning", "torchmetrics", "albumentations", "hydra-core", "numpy")
    caches = {"train": data.train, "val": data.val, "test": data.test}
    record = {
        "command": command,
        "seed": data.seed,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "data_hash": {part: cache.digest for part, cache in caches.items() if cache is not None},
        "images": {part: len(cache) for part, cache in caches.items() if cache is not None},
        "device": str(trainer.strategy.root_device),
        "precision": str(trainer.precision),
        "ranks": trainer.world_size,
        "cpu": cpu_model(),
        "threads": torch.get_num_threads(),
        "seconds": seconds,
    }
    write_text(folder / "run.json", json.dumps(record, indent=1))


def add_test_to_record(data: LungDataModule, folder: Path) -> None:
    """Says in ``run.json`` which Test set was opened after the run."""
    assert data.test is not None
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    record["data_hash"]["test"], record["images"]["test"] = data.test.digest, len(data.test)
    write_text(folder / "run.json", json.dumps(record, indent=1))
