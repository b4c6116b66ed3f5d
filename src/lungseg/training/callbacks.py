"""What is kept and shown of a training as it goes on."""

import csv
import io
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.callbacks import Callback, Checkpoint
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.trainer.states import TrainerFn

from lungseg import checkpoint
from lungseg.data.cache import SliceCache
from lungseg.files import write_text
from lungseg.imaging.overlay import LEGEND, grid, overlay
from lungseg.labels import IGNORE
from lungseg.log import log
from lungseg.training.module import SegmentationModule
from lungseg.training.pace import seconds_left, spoken

SHOWN_PIXELS = 384  # a smaller slice is enlarged to this side, or nobody sees its outline


# Best and History are Checkpoint callbacks because Lightning calls these after the module has logged its epoch.


class Best(Checkpoint):
    """Writes ``best.ckpt`` whenever ``val/iou`` rises.

    Attributes:
        score, epoch: of the best so far, epochs counted from 1; ``score`` is below every IoU before the first validation.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.score, self.epoch = path, -math.inf, 0

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SegmentationModule)
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        # At once, not at the end of the epoch: by then the weights may be others than those that were scored.
        metrics = _plain(trainer.callback_metrics)
        score = metrics.get("val/iou", math.nan)
        score = -1.0 if math.isnan(score) else score  # no lung in any validation mask: then the first epoch stays the best
        if score > self.score:
            self.score, self.epoch = score, trainer.current_epoch + 1
            if trainer.is_global_zero:
                kept = {key: value for key, value in metrics.items() if key.startswith("val/")}
                checkpoint.save(self.path, pl_module.checkpoint({**kept, "epoch": float(self.epoch)}))

    def state_dict(self) -> dict[str, Any]:
        return {"score": self.score, "epoch": self.epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self.path.is_file():  # else this run has no best yet, however good the one before it was
            self.score, self.epoch = state_dict["score"], state_dict["epoch"]


class History(Checkpoint):
    """A row of ``history.csv`` and a line on the screen for every epoch."""

    COLUMNS = ("epoch", "seconds", "images", "lr", "train/loss", "train/iou", "val/loss", "val/iou", "val/dice")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []
        self.earlier_seconds = 0.0  # of the runs that this one goes on with
        self._began = 0.0
        self._images = 0
        self._validated = False
        self._own_seconds, self._first_step = 0.0, 0  # of this process

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._own_seconds, self._first_step = 0.0, trainer.global_step

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._began, self._images, self._validated = time.perf_counter(), 0, False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validated = True

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *_: Any) -> None:
        self._images += len(batch.ids) * trainer.world_size

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        metrics = _plain(trainer.callback_metrics)
        if not self._validated:  # Lightning keeps the values of the last validation
            metrics = {key: value for key, value in metrics.items() if not key.startswith("val/")}
        metrics |= {
            "epoch": trainer.current_epoch + 1,
            "seconds": time.perf_counter() - self._began,
            "images": self._images,
        }
        row = {column: metrics.get(column, math.nan) for column in self.COLUMNS}
        self.rows.append(row)
        write_text(self.path, _csv(self.rows, self.COLUMNS))
        self._own_seconds += row["seconds"]
        left = seconds_left(trainer, self._own_seconds / max(1, trainer.global_step - self._first_step))
        # A progress bar's label for the whole run stays with the bar; the line says what the epoch brought.
        log.info(
            f"epoch {row['epoch']:>3.0f}/{trainer.max_epochs}  train loss {row['train/loss']:.4f} iou {row['train/iou']:.4f}  "
            f"val loss {row['val/loss']:.4f} iou {row['val/iou']:.4f}  {row['seconds']:.1f} s"
            f"{f', {spoken(left)} left' if left > 0 else ''}"
        )

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])
        self.earlier_seconds = sum(row["seconds"] for row in self.rows)


class Pictures(Callback):
    """Shows a few validation slices with prediction and truth in TensorBoard, about ten times in a training."""

    def __init__(self, count: int = 8) -> None:
        self.count = count

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SegmentationModule)
        every = max(1, (trainer.max_epochs or 1) // 10)
        due = (trainer.current_epoch + 1) % every == 0
        boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if not due or not boards or not trainer.is_global_zero:
            return
        cache: SliceCache = trainer.datamodule.val  # type: ignore[attr-defined]
        chosen = np.unique(np.linspace(0, len(cache) - 1, self.count).astype(int))
        picture = overlays(pl_module, cache, [int(i) for i in chosen])
        for board in boards:
            board.experiment.add_image("val/overlays", picture, trainer.global_step, dataformats="HWC")


def overlays(
    module: SegmentationModule, cache: SliceCache, indices: list[int], captions: list[str] | None = None
) -> NDArray[np.uint8]:
    """Slices with the network's outline, the truth's, and where they differ, side by side: (H, W, 3)."""
    pictures = []
    device = next(module.parameters()).device
    side = max(SHOWN_PIXELS, cache.size)
    was_training = module.deployed.training
    module.deployed.eval()
    for index in indices:
        image, target = cache.image(index), cache.target(index).astype(np.float32)
        network_input = torch.from_numpy(module.preprocess.normalise(image))[None, None].to(device)
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            logits = module.deployed(network_input)[0, 0].cpu().numpy()
        shown, found, lung, ignored = (cv2.resize(plane, (side, side)) for plane in (image, logits, *target.transpose(2, 0, 1)))
        truth = np.where(ignored > 0, IGNORE, lung >= 127.5).astype(np.uint8)
        pictures.append(overlay(shown, found > 0, truth))
    module.deployed.train(was_training)
    return grid(pictures, columns=4, captions=captions, legend=LEGEND)


def _plain(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {key: float(value) for key, value in metrics.items()}


def _csv(rows: list[dict[str, float]], columns: tuple[str, ...]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: f"{value:.6g}" for key, value in row.items()} for row in rows)
    return text.getvalue()
