"""Which arguments of ``pl.Trainer`` a run can have, by themselves and with its data."""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException

from lungseg.data.datamodule import LungDataModule
from lungseg.errors import UserError, printable
from lungseg.signatures import check, shown
from lungseg.training.cost import trainer_steps
from lungseg.training.launch import rank_count
from lungseg.training.trainer import quiet_libraries

PRECISIONS = ("auto", "32", "32-true", "bf16-mixed", "16-mixed")
# Of Lightning's, those that ranks started by torchrun can carry: ddp_spawn, ddp_fork and ddp_notebook start processes themselves,
# fsdp and deepspeed scatter the weights and keep them in a form of their own, single_device is the CPU even beside a GPU, and the
# rest needs a TPU.
STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true")

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
    if precision == "16-mixed" and _on_cpu(trainer):  # which Lightning would make bf16-mixed
        known = ", ".join(name for name in PRECISIONS if name != precision)
        raise UserError(f"trainer.precision={precision} must be one of {known} on the CPU, which has no such arithmetic.")
    check(pl.Trainer, {key: value for key, value in trainer.items() if key not in ("max_epochs", "precision")}, "trainer", OWN)
    if not isinstance(epochs, int) or isinstance(epochs, bool) or epochs < 0:
        raise UserError(
            f"trainer.max_epochs={shown(epochs)} must be a whole number, 0 or more; to stop by the clock, add trainer.max_time."
        )
    if trainer.get("strategy", "auto") not in STRATEGIES:
        raise UserError(f"trainer.strategy={trainer['strategy']} must be one of {', '.join(STRATEGIES)}.")
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
    if trainer.get("overfit_batches"):  # Lightning would take the order of slices, and their shares among ranks, into its own hands
        raise UserError(
            f"trainer.overfit_batches={trainer['overfit_batches']} must be 0; for a few batches, take trainer.limit_train_batches."
        )
    if trainer.get("reload_dataloaders_every_n_epochs"):
        every = trainer["reload_dataloaders_every_n_epochs"]
        raise UserError(f"trainer.reload_dataloaders_every_n_epochs={every} must be 0: all slices are read once, at the start.")
    if trainer.get("sync_batchnorm") and _on_cpu(trainer):
        raise UserError("trainer.sync_batchnorm=true must be false on the CPU: torch has it for GPUs only.")
    if trainer.get("accelerator") in ("gpu", "cuda") and torch.cuda.device_count() == 0:
        raise UserError(f"trainer.accelerator={trainer['accelerator']} must be cpu or auto here: there is no GPU.")
    rank_count(trainer)
    _check_with_lightning(trainer)


def check_batches(trainer: pl.Trainer, data: LungDataModule) -> None:
    """Refuses what Lightning would, but only once it has asked for the loaders; of the Test set after the whole training.

    Args:
        data: as far as its slices have been read.

    Raises:
        UserError: a share is less than one batch, or an epoch ends before its first validation.
    """
    loaders = {
        "train": (data.train, data.train_dataloader),
        "val": (data.val, data.val_dataloader),
        "test": (data.test, data.test_dataloader),
    }
    steps = {}
    for part, (cache, loader) in loaders.items():
        if cache is None:
            continue
        limit, count = getattr(trainer, f"limit_{part}_batches"), len(loader())
        steps[part] = trainer_steps(count, limit)
        if limit and not steps[part]:
            raise UserError(
                f"trainer.limit_{part}_batches={limit} must leave at least one batch out of {count}: "
                "give a larger share, or a number of batches."
            )
    every = getattr(trainer, "val_check_interval", None)  # which a time leaves unset
    checked = steps.get("train") and steps.get("val") and trainer.check_val_every_n_epoch is not None
    if checked and isinstance(every, int) and every > steps["train"]:
        raise UserError(
            f"trainer.val_check_interval={every} must be at most {steps['train']}, the batches of an epoch; "
            "to validate less often than that, set trainer.check_val_every_n_epoch."
        )


def _on_cpu(trainer: Mapping[str, Any]) -> bool:
    gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    return trainer.get("accelerator", "auto") in (("cpu",) if gpu else ("cpu", "auto"))


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
        return printable(error, most=500)
    return ""


class _StartedElsewhere(LightningEnvironment):
    """Ranks will be processes of their own, so that this one, be it in a notebook or a queue, need not be able to start them."""

    creates_processes_externally = True


def _lasts(value: Any) -> bool:
    """Whether a number, a table such as hours: 2, or DD:HH:MM:SS is above zero."""
    if isinstance(value, dict):
        return min(value.values(), default=0) >= 0 and any(value.values())
    return value.strip("0:") != "" if isinstance(value, str) else value > 0
