"""How long a training still takes, by the steps that this process has made."""

import math
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, Timer

from lungseg.log import log

VALIDATION = 1 / 3  # of a training step: forward once, where training also goes back for twice the price


def spoken(seconds: float) -> str:
    """A time in the unit that a person plans in: ``45 s``, ``17 min``, ``2.3 h``, ``3.5 days``."""
    if seconds < 90:
        return f"{round(seconds) or math.ceil(seconds)} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def seconds_left(trainer: pl.Trainer, pace: float) -> float:
    """Seconds until the training ends by itself, at ``pace`` seconds a step of the optimiser."""
    steps = 0 if trainer.should_stop else max(0, trainer.estimated_stepping_batches - trainer.global_step)
    return min(steps * pace, clock_left(trainer))


def clock_left(trainer: pl.Trainer) -> float:
    """Seconds that ``trainer.max_time`` leaves; infinite without one."""
    timers = [callback for callback in trainer.callbacks if isinstance(callback, Timer)]  # type: ignore[attr-defined]
    return min((timer.time_remaining() or 0.0 for timer in timers), default=math.inf)


class TimeLeft(Callback):
    """One line in the first epoch of a process, as soon as the pace is known: after 10 seconds and 20 steps.

    A short epoch is over before that, and its own line says what is left.
    """

    SECONDS, STEPS = 10.0, 20

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._began, self._first_step = math.nan, 0  # from the end of the first step, which also warms up
        self._said = not trainer.is_global_zero

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if self._said:
            return
        if math.isnan(self._began):
            self._began, self._first_step = time.perf_counter(), trainer.global_step
        seconds, steps = time.perf_counter() - self._began, trainer.global_step - self._first_step
        if seconds < self.SECONDS or steps < self.STEPS:
            return
        self._said = True
        checks = sum(trainer.num_val_batches) / (trainer.check_val_every_n_epoch or 1)
        left = seconds_left(trainer, seconds / steps * (1 + VALIDATION * checks / trainer.num_training_batches))
        if left > 0:
            log.info(f"At the pace of the first {steps} steps, the training ends in about {spoken(left)}.")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._said = True
