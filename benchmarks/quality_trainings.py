"""One training of one network for one budget: what is the same for all of them, and what is kept of it."""

import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback

from lungseg.data.datamodule import LungDataModule
from lungseg.data.dataset import Batch
from lungseg.errors import UserError
from lungseg.files import write_text
from lungseg.log import log
from lungseg.metrics.cases import TOLERANCE
from lungseg.metrics.statistics import by_patient
from lungseg.nets.blocks import EncoderDecoder
from lungseg.training.cost import precision_for
from lungseg.training.job import Job
from lungseg.training.machine import cpu_model
from lungseg.training.module import SegmentationModule
from lungseg.training.pace import spoken
from lungseg.training.resume import EpochDraws

SAID_EVERY_S = 60.0
PACKAGES = ("lungseg", "torch", "pytorch-lightning", "albumentations", "numpy")
NAMING = {"data": ("root", "manifest", "val_patients"), "loader": ("cache_folder",)}  # settings that may name a person or a place


@dataclass(frozen=True)
class Bench:
    """What all trainings share.

    Attributes:
        data: its training and validation slices are read.
        folder: where results are kept.
    """

    job: Job
    data: LungDataModule
    folder: Path

    def kept(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What was made under this name before, else what is made now."""
        path = self.folder / "results" / f"{name}.json"
        if not path.is_file():
            write_text(path, json.dumps(make(), indent=1))
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def steps(self, images: int) -> int:
        """The fewest steps that see so many images."""
        assert self.data.train is not None
        return -(-images // min(self.job.loader.batch_size, len(self.data.train)))

    def seeded(self, seed: int) -> LungDataModule:
        """The slices in the order and augmentation of a seed."""
        own = LungDataModule(self.data.split, self.job.preprocess, self.job.augmentation, self.job.loader, seed)
        own.train, own.val = self.data.train, self.data.val
        return own


class Clock(Callback):
    """Times every step with the fetching of its slices, and says how far the training is.

    Args:
        said: the training's name on the screen; nothing is said of one without.
    """

    def __init__(self, said: str, steps: int) -> None:
        self.said, self.steps = said, steps
        self.images, self.last_lr = 0, math.nan
        self._seconds: list[float] = []

    @property
    def seconds(self) -> float:
        """Of all steps; nothing between epochs and no validation."""
        return math.fsum(self._seconds)

    @property
    def step_seconds(self) -> float:
        """The median; the first step warms up."""
        return median(self._seconds[1:] or self._seconds)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._said_at = time.monotonic()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)  # or only the asking would be timed
        self._seconds.append(time.perf_counter() - self._began)
        self.images += len(batch.ids)
        self.last_lr = trainer.optimizers[0].param_groups[0]["lr"]
        done = len(self._seconds)
        if self.said and done < self.steps and time.monotonic() - self._said_at > SAID_EVERY_S:
            self._said_at = time.monotonic()
            left = spoken((self.steps - done) * self.step_seconds)
            log.info(f"{self.said}: {done} of {self.steps} steps, about {left} left")
        self._began = time.perf_counter()


def trained(
    bench: Bench, build: Callable[[], EncoderDecoder], steps: int, seed: int, said: str
) -> tuple[SegmentationModule, Clock]:
    """A network trained from first weights with a schedule that ends after ``steps``.

    Raises:
        UserError: the trainer refuses its settings, or the training comes apart.
    """
    job, clock = bench.job, Clock(said, steps)
    pl.seed_everything(seed, workers=False, verbose=False)
    module = SegmentationModule({}, job.loss, job.preprocess, job.optimization, build())
    trainer = _trainer(job, [EpochDraws(seed), clock], max_epochs=-1, max_steps=steps, limit_val_batches=0)
    trainer.fit(module, datamodule=bench.seeded(seed))
    return module, clock


def judged(bench: Bench, module: SegmentationModule) -> dict[str, list[float | None]]:
    """The figures of ``lungseg.metrics.cases.image_figures`` for each validation patient, means over its slices; None where there
    is none. Patients come in the order of their slices; their names are not among them."""
    module.figures.clear()
    _trainer(bench.job, [], limit_val_batches=None).validate(module, datamodule=bench.data, verbose=False)
    patients = _patients(bench)
    rows = [module.figures[index] for index in range(len(patients))]
    figures = {}
    for key in dict.fromkeys(key for row in rows for key in row):
        means = by_patient(np.array([row.get(key, math.nan) for row in rows]), patients)
        figures[key] = [None if math.isnan(value) else round(value, 6) for value in means.values()]
    return figures


def _trainer(job: Job, callbacks: list[Callback], **own: Any) -> pl.Trainer:
    silent = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    alone = {"devices": 1, "strategy": "auto", "precision": precision_for(job.trainer), "use_distributed_sampler": False}
    try:
        return pl.Trainer(**{**job.trainer, **silent, **alone, **own}, callbacks=callbacks)
    except (TypeError, ValueError, RuntimeError, MisconfigurationException) as error:
        raise UserError(f"trainer does not accept these settings: {' '.join(str(error).split())}") from error


def load_average() -> float | None:
    """Threads that wanted a processor during the last minute, our own among them; None where the system does not say."""
    return None if sys.platform == "win32" else os.getloadavg()[0]


def settings(bench: Bench) -> dict[str, Any]:
    """What decides results and times, as JSON can hold it; nothing in it names a person or a place."""
    job, config = bench.job, bench.job.config
    sections = {key: config[key] for key in ("data", "loss", "augmentation", "preprocess", "loader", "optimization", "trainer")}
    gpu = torch.cuda.is_available() and config["trainer"]["accelerator"] != "cpu"
    return {
        "machine": {
            "cpu": cpu_model(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if gpu else None,
            "python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
        },
        "settings": {
            section: {key: value for key, value in values.items() if key not in NAMING.get(section, ())}
            for section, values in sections.items()
        },
        "precision": str(precision_for(job.trainer)),
        "data_hash": {part: cache.digest for part, cache in bench.data.caches.items()},
        "slices": {part: len(cache) for part, cache in bench.data.caches.items()},
        "validation_patients": len(set(_patients(bench))),
        "tolerance": TOLERANCE,
    }


def keep_settings(bench: Bench) -> None:
    """Keeps the settings beside the results, all of which must have the same.

    Raises:
        UserError: the folder holds results of other settings.
    """
    own = json.loads(json.dumps(settings(bench)))
    kept = bench.kept("settings", lambda: own)
    other = next((key for key in own if kept.get(key) != own[key]), None)
    if other is not None:
        inner = own[other] if isinstance(own[other], dict) else {}
        wrong = next((key for key in inner if kept.get(other, {}).get(key) != inner[key]), other)
        raise UserError(f"{bench.folder} holds results with another {wrong}: choose another output=..., or repeat their command.")


def _patients(bench: Bench) -> list[str]:
    """Of each validation slice; a case of nobody known is a patient of its own."""
    assert bench.data.val is not None
    known = {case.name: case.patient or case.name for case in bench.data.split.val}
    # A slice of several is named by its case and its number.
    return [known.get(info.name) or known[info.name.rpartition("#")[0]] for info in bench.data.val.infos]
