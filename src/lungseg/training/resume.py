"""What makes a training that was killed go on as if it had not been: its state, its draws, its patience."""

from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import Callback, Checkpoint, EarlyStopping

from lungseg.checkpoint import save_whole


class WholeFileCheckpointIO(TorchCheckpointIO):
    """Lightning's training state written beside and then renamed, so that a kill at any moment leaves the last one whole."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        if storage_options is not None:
            raise TypeError("storage_options are not supported")
        save_whole(Path(path), checkpoint)


class Last(Checkpoint):
    """Writes ``last.ckpt`` before the first step and after every epoch, after the callbacks whose state it holds.

    Args:
        finished: a file that says that a run is finished; one that goes on is no longer.
    """

    def __init__(self, path: Path, finished: Path) -> None:
        self.path, self.finished = path, finished

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        # Saved as the last thing of an epoch, which Lightning counts as complete only after that.
        for counted in checkpoint["loops"]["fit_loop"]["epoch_progress"].values():
            counted["completed"] = counted["processed"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # With trainer.max_steps Lightning always takes the state for that of an unfinished epoch, and makes one without steps.
        trainer.fit_loop.epoch_loop.restarting = False
        if trainer.is_global_zero:
            self.finished.unlink(missing_ok=True)
        if trainer.ckpt_path is None or Path(trainer.ckpt_path).resolve() != self.path.resolve():
            self._save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]  # a trial, which nobody goes on with
            trainer.save_checkpoint(self.path)


class EpochDraws(Callback):
    """Makes what the training process itself draws, such as dropout, a function of (seed, epoch, rank)."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0:  # not before: loaders draw too when they start, once more in the first epoch of a process
            source = np.random.SeedSequence((self.seed, trainer.current_epoch, trainer.global_rank))
            torch.manual_seed(int(source.generate_state(1)[0]))


class Patience(EarlyStopping):
    """Ends a training after so many epochs without a better ``val/iou``, also one that was killed when it had just ended."""

    def __init__(self, epochs: int) -> None:
        super().__init__("val/iou", mode="max", patience=epochs, check_finite=False)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({**state_dict, "patience": self.patience})  # who goes on may have more of it

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.should_stop = self.wait_count >= self.patience
