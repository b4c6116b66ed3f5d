"""Which arguments of ``pl.Trainer`` a run can have."""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException

from lungseg.errors import UserError
from lungseg.signatures import check, shown
from lungseg.training.launch import rank_count
from lungseg.training.trainer import quiet_libraries

PRECISIONS = ("auto", "32", "32-true", "bf16-mixed", "16-mixed")

# What a run gives the Trainer itself.
OWN = (
    "logger",
    "callbacks",
    "plugins",
    "enable_checkpointing",
    "enable_model_summary",
    "use_distributed_sampler",
    "default_root_dir",
)
# What Lightning takes below these, to do something else or to fail in the middle of a run.
LOWEST = {
    "min_epochs": 0,
    "min_steps": 0,
    "accumulate_grad_batches": 1,
    "check_val_every_n_epoch": 1,
    "gradient_clip_val": 0,
    "log_every_n_steps": 0,
    "num_sanity_val_steps": -1,
}


def check_arguments(trainer: Mapping[str, Any]) -> None:
    """Refuses what ``pl.Trainer`` refuses, and what it would take and this package cannot do.

    Args:
        trainer: arguments of ``pl.Trainer``; ``precision`` may be ``auto``.

    Raises:
        UserError: an argument is unknown or out of range; the sentence begins with ``trainer.`` and its name.
    """
    for key in OWN:
        if key in trainer:
            raise UserError(f"trainer.{key} is set by the run itself: leave it out.")
    epochs, precision = trainer.get("max_epochs"), trainer.get("precision", "auto")
    if str(precision) not in PRECISIONS:
        raise UserError(f"trainer.precision={shown(precision)} must be one of {', '.join(PRECISIONS)}.")
    check(pl.Trainer, {key: value for key, value in trainer.items() if key not in ("max_epochs", "precision")}, "trainer", OWN)
    if not isinstance(epochs, int) or isinstance(epochs, bool) or epochs < 0:
        raise UserError(
            f"trainer.max_epochs={shown(epochs)} must be a whole number, 0 or more; to stop by the clock, add trainer.max_time."
        )
    for key, lowest in LOWEST.items():
        value = trainer.get(key)
        if value is not None and not lowest <= value < math.inf:
            raise UserError(f"trainer.{key}={value} must be {lowest} or more{'' if value < lowest else ' and finite'}.")
    for least, most in (("min_epochs", "max_epochs"), ("min_steps", "max_steps")):
        if -1 < trainer.get(most, -1) < (trainer.get(least) or 0):
            raise UserError(f"trainer.{least}={trainer[least]} must be at most trainer.{most}={trainer[most]}.")
    for key in ("max_time", "val_check_interval"):
        if trainer.get(key) is not None and not _lasts(trainer[key]):
            raise UserError(f"trainer.{key}={trainer[key]} must be above 0.")
    if trainer.get("num_nodes", 1) != 1:
        raise UserError(f"trainer.num_nodes={trainer['num_nodes']} must be 1: one machine, with trainer.devices=N.")
    if trainer.get("barebones"):
        raise UserError("trainer.barebones=true must be false: it leaves out the checkpoints that a run is made for.")
    if trainer.get("accelerator") in ("gpu", "cuda") and torch.cuda.device_count() == 0:
        raise UserError(f"trainer.accelerator={trainer['accelerator']} must be cpu or auto here: there is no GPU.")
    rank_count(trainer)
    _check_with_lightning(trainer)


def _check_with_lightning(trainer: Mapping[str, Any]) -> None:
    if not _refusal(trainer):
        return
    given: dict[str, Any] = {}
    for key, value in trainer.items():  # one after the other, so that the sentence can name the first that is too much
        given[key] = value
        said = _refusal(given)
        if said:
            raise UserError(f"trainer.{key}={shown(value)} is refused by Lightning: {said}")


def _refusal(trainer: Mapping[str, Any]) -> str:
    """What Lightning has against these arguments, as one line; nothing if it takes them."""
    # Left out: torch's own switches, which would stay as they are set here, and `auto`, whose choice is never refused.
    left_out = ["deterministic", "benchmark", "enable_progress_bar", *(["precision"] if trainer.get("precision") == "auto" else [])]
    try:
        with quiet_libraries(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pl.Trainer(
                **{key: value for key, value in trainer.items() if key not in left_out},
                plugins=[_StartedElsewhere()],
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
    except (TypeError, ValueError, RuntimeError, ImportError, MisconfigurationException) as error:
        return " ".join(str(error).split())
    return ""


class _StartedElsewhere(LightningEnvironment):
    """Ranks will be processes of their own, so that this one, be it in a notebook or a queue, need not be able to start them."""

    creates_processes_externally = True


def _lasts(value: Any) -> bool:
    """Whether a number, a table such as hours: 2, or DD:HH:MM:SS is above zero."""
    if isinstance(value, dict):
        return min(value.values(), default=0) >= 0 and any(value.values())
    return value.strip("0:") != "" if isinstance(value, str) else value > 0
