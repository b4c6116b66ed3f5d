"""The Lightning Trainer as this package uses it."""

import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger
from rich.console import Console

from lungseg.errors import UserError
from lungseg.training.bar import Bar
from lungseg.training.callbacks import Pictures
from lungseg.training.cost import precision_for
from lungseg.training.job import Job
from lungseg.training.pace import TimeLeft
from lungseg.training.ranks import Agreement
from lungseg.training.resume import EpochDraws, Last, Patience, WholeFileCheckpointIO

LOGGERS = ("tensorboard", "csv")


def make_trainer(job: Job, folder: Path, kept: list[Callback], console: Console | None, ranks: int, tested: bool) -> pl.Trainer:
    """The Trainer of a run, with all that is kept and shown; ``kept`` are the callbacks whose values the caller needs."""
    arguments = dict(job.trainer)
    show_bar = arguments.pop("enable_progress_bar", True)
    arguments["precision"] = precision_for(arguments)
    if ranks > 1 and arguments.get("strategy") in (None, "auto"):
        arguments["strategy"] = "ddp"
    callbacks = [
        *kept,
        Last(folder / "checkpoints" / "last.ckpt", folder / "metrics.json"),
        Pictures(),
        EpochDraws(job.seed),
        TimeLeft(),
    ]
    if job.early_stopping is not None:
        callbacks.append(Patience(job.early_stopping))
    if ranks > 1:
        callbacks.append(Agreement(job.config, folder))
    if show_bar and console is not None and console.is_terminal:
        callbacks.append(Bar(console))
    loggers = _loggers(job, folder, tested)
    try:
        return pl.Trainer(
            **arguments,
            callbacks=callbacks,
            logger=loggers or False,
            plugins=[WholeFileCheckpointIO()],
            default_root_dir=folder,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,  # our samplers share out slices, so that each counts once
        )
    except (TypeError, ValueError, RuntimeError, ImportError, MisconfigurationException) as error:
        raise UserError(f"trainer does not accept these settings: {' '.join(str(error).split())}") from error


def _loggers(job: Job, folder: Path, tested: bool) -> list[Logger]:
    made: list[Logger] = []
    for name in job.logger:
        if name == "tensorboard":
            board = TensorBoardLogger(folder, name="tensorboard", version="", default_hp_metric=False)
            board.log_hyperparams(dict(job.config), metrics={"hp/val/iou": 0.0, **({"hp/test/iou": 0.0} if tested else {})})
            made.append(board)
        else:
            made.append(CSVLogger(folder, name="csv"))
    return made


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C as the KeyboardInterrupt it is: Lightning turns it into an exit with code 1 and leaves the signal ignored."""
    try:
        yield
    except SystemExit as stop:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise KeyboardInterrupt from stop


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keeps advice that does not concern this program off the screen; everything else still warns."""
    chatty = [
        logging.getLogger(name) for name in ("pytorch_lightning", "pytorch_lightning.utilities.rank_zero", "lightning_fabric")
    ]
    levels = [logger.level for logger in chatty]
    for logger in chatty:
        logger.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for pattern in (
            r".*isinstance\(treespec, LeafSpec\).*",  # pytorch-lightning #21326
            r".*does not have many workers.*",  # the loader chose
            r"It is recommended to use `self.log\(.*sync_dist=True.*",  # the metrics have gathered themselves over all ranks
            r"The number of training batches.*",  # log_every_n_steps on small data
            r"This DataLoader will create \d+ worker processes.*",
        ):
            warnings.filterwarnings("ignore", message=pattern)
        try:
            yield
        finally:
            for logger, level in zip(chatty, levels, strict=True):
                logger.setLevel(level)
