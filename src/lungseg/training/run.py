"""One training run, from a split to a tested checkpoint, in one process (which may be one rank of several)."""

import json
import math
import pickle
import signal
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger
from rich.console import Console
from rich.progress import Progress
from torch import nn

from lungseg import checkpoint
from lungseg.data.augment import Augmentation
from lungseg.data.datamodule import Loader, LungDataModule
from lungseg.data.sources import Source
from lungseg.errors import UserError
from lungseg.files import write_text
from lungseg.log import log
from lungseg.preprocess import Preprocess
from lungseg.training.callbacks import Bar, Best, History, Pictures, WholeFileCheckpointIO
from lungseg.training.cost import describe_cost, precision_for
from lungseg.training.module import Optimization, SegmentationModule
from lungseg.training.records import keep_pictures, keep_record

LOGGERS = ("tensorboard", "csv")


@dataclass(frozen=True)
class Job:
    """Everything a run is made of.

    Attributes:
        trainer: arguments of ``pl.Trainer``; ``precision`` may be ``auto``.
        logger: which of LOGGERS write curves.
        early_stopping: epochs without a better ``val/iou`` after which training ends; None trains to the end.
        init_ckpt: weights to start from; ckpt_path: a training state to go on from.
        config: the resolved config as plain values, kept with the run.
    """

    source: Source
    net: Mapping[str, Any]
    loss: nn.Module
    augmentation: Augmentation
    preprocess: Preprocess
    loader: Loader
    optimization: Optimization
    trainer: Mapping[str, Any]
    logger: tuple[str, ...]
    seed: int
    early_stopping: int | None
    init_ckpt: Path | None
    ckpt_path: Path | None
    config: Mapping[str, Any]
    command: str

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed={self.seed} must be at least 0 and below 2**32.")
        if self.early_stopping is not None and self.early_stopping < 1:
            raise UserError(f"early_stopping={self.early_stopping} must be at least 1 epoch, or null.")


def run(job: Job, folder: Path, console: Console, rank: int = 0, ranks: int = 1) -> dict[str, float]:
    """Trains, keeps the best, tests it, and writes all results into the folder; the same metrics come back on every rank.

    Raises:
        UserError: anything the user can mend: data, settings, a folder that cannot be written.
    """
    began = time.perf_counter()
    split = job.source.split()
    pl.seed_everything(job.seed, workers=False, verbose=False)
    first = rank == 0
    module = SegmentationModule(job.net, job.loss, job.preprocess, job.optimization)
    if job.init_ckpt is not None:
        _start_from(module, job.init_ckpt)
    if job.ckpt_path is not None:
        _check_state(module, job.ckpt_path)
    if first:
        write_text(folder / "split.json", json.dumps(split.as_table(), indent=1))

    data = LungDataModule(split, job.preprocess, job.augmentation, job.loader, folder, job.seed, rank, ranks)
    try:
        with _reading(console if first else None, len(split.train) + len(split.val) + len(split.test)) as data.done:
            data.setup("fit")
            data.setup("test")  # now, because a fault found after the training would come too late
        return _fitted_and_tested(job, data, module, folder, console, began)
    finally:
        data.forget()


def _fitted_and_tested(
    job: Job, data: LungDataModule, module: SegmentationModule, folder: Path, console: Console, began: float
) -> dict[str, float]:
    first = data.rank == 0
    best, history = Best(folder / "checkpoints" / "best.ckpt"), History(folder / "history.csv")
    with _quiet_libraries(), _interruptible():
        trainer = _trainer(job, folder, [best, history], console if first else None, data.ranks, tested=bool(data.split.test))
        if first:
            log.info(describe_cost(module, data, trainer))
            keep_record(job.command, data, trainer, folder, seconds=None)
        trainer.fit(module, datamodule=data, ckpt_path=str(job.ckpt_path) if job.ckpt_path else None)
        if best.epoch < 1:  # nothing was validated, so that there is nothing better than the end
            best.epoch = trainer.current_epoch
            if first:
                checkpoint.save(best.path, module.checkpoint({"epoch": float(best.epoch)}))
        trainer.strategy.barrier()  # rank 0 has written what the others are about to read
        metrics = {
            "epoch": float(best.epoch),
            "epochs": float(trainer.current_epoch),
            "parameters": float(_count(module.net)),
        }
        metrics |= _best_scores(module, best.path)
        assert data.test is not None
        tested = len(data.test) > 0
        # The network now holds its best weights, so without a test set the validation pictures come from these.
        scored = (trainer.test if tested else trainer.validate)(module, datamodule=data, verbose=False)
        metrics |= {key: float(value) for key, value in scored[0].items()} if scored else {}
        if first:
            keep_pictures(module, data, "test" if tested else "val", folder)
            metrics["seconds"] = history.earlier_seconds + time.perf_counter() - began
            keep_record(job.command, data, trainer, folder, metrics["seconds"])
            # JSON knows no nan.
            finite = {key: None if math.isnan(value) else value for key, value in sorted(metrics.items())}
            write_text(folder / "metrics.json", json.dumps(finite, indent=1))
            for logger in trainer.loggers:
                logger.log_metrics({f"hp/{key}": value for key, value in metrics.items() if key.endswith("/iou")})
                logger.finalize("success")
    return metrics


def _trainer(job: Job, folder: Path, kept: list[Callback], console: Console | None, ranks: int, tested: bool) -> pl.Trainer:
    arguments = dict(job.trainer)
    show_bar = arguments.pop("enable_progress_bar", True)
    arguments["precision"] = precision_for(arguments)
    if ranks > 1 and arguments.get("strategy") in (None, "auto"):
        arguments["strategy"] = "ddp"
    last = ModelCheckpoint(folder / "checkpoints", filename="last", save_on_train_epoch_end=True, enable_version_counter=False)
    callbacks = [*kept, last, Pictures()]
    if job.early_stopping is not None:
        callbacks.append(EarlyStopping("val/iou", mode="max", patience=job.early_stopping, check_finite=False))
    if show_bar and console is not None and console.is_terminal:
        callbacks.append(Bar(console))
    try:
        return pl.Trainer(
            **arguments,
            callbacks=callbacks,
            logger=_loggers(job, folder, tested) or False,
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
        elif name == "csv":
            made.append(CSVLogger(folder, name="csv"))
        else:
            raise UserError(f"logger={name} is unknown: use {', '.join(LOGGERS)}.")
    return made


def _start_from(module: SegmentationModule, path: Path) -> None:
    """Weights of another run into this network and its average."""
    weights = checkpoint.load(path).weights
    for net in {module.net, module.deployed}:
        try:
            net.load_state_dict(weights)
        except RuntimeError as error:
            raise UserError(f"init_ckpt={path} does not fit this model; choose the model it was trained with.") from error


def _check_state(module: SegmentationModule, path: Path) -> None:
    """Says what is wrong with a training state before Lightning stumbles over it."""
    if not path.is_file():
        raise UserError(f"ckpt_path={path} is no file: give the last.ckpt of a run, or `last` for the newest.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        weights = state["state_dict"]
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"ckpt_path={path} is no training state: give a last.ckpt; a best.ckpt goes into init_ckpt.") from error
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(
            f"ckpt_path={path} does not fit this model: repeat the settings of the run that it goes on with."
        ) from error


def _best_scores(module: SegmentationModule, path: Path) -> dict[str, float]:
    """Puts the best weights into the network that is tested, and gives the scores they were chosen by."""
    best = checkpoint.load(path)
    module.deployed.load_state_dict(best.weights)
    return {key: value for key, value in (best.metrics or {}).items() if key.startswith("val/")}


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C as the KeyboardInterrupt it is: Lightning turns it into an exit with code 1 and leaves the signal ignored."""
    try:
        yield
    except SystemExit as stop:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise KeyboardInterrupt from stop


@contextmanager
def _reading(console: Console | None, total: int) -> Iterator[Any]:
    """A bar while the data are read, on a terminal."""
    if console is None or not console.is_terminal:
        yield lambda: None
        return
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("reading images", total=total)
        yield lambda: progress.advance(task)


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Keeps advice that does not concern this program off the screen; everything else still warns."""
    import logging

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
            r"Checkpoint directory .* exists and is not empty.*",  # resuming
            r"This DataLoader will create \d+ worker processes.*",
            r"The dirpath has changed from .*",  # going on in another folder; the best is kept by Best
            r"You're resuming from a checkpoint that ended before the epoch ended.*",
        ):
            warnings.filterwarnings("ignore", message=pattern)
        try:
            yield
        finally:
            for logger, level in zip(chatty, levels, strict=True):
                logger.setLevel(level)


def _count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())
