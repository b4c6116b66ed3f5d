"""One training run, from a split to a tested checkpoint, in one process (which may be one rank of several)."""

import json
import math
import pickle
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from rich.console import Console
from rich.progress import Progress

from lungseg import checkpoint
from lungseg.data.brief import described, doubts, lookalikes, refuse_leaks
from lungseg.data.datamodule import LungDataModule
from lungseg.data.sources import PhantomSource
from lungseg.errors import UserError
from lungseg.files import remove_partials, write_text
from lungseg.log import log
from lungseg.training.arguments import check_batches
from lungseg.training.callbacks import Best, History
from lungseg.training.cost import parameter_count, say_cost
from lungseg.training.faults import faults_said
from lungseg.training.job import Job
from lungseg.training.module import SegmentationModule
from lungseg.training.ranks import from_all
from lungseg.training.records import add_test_to_record, keep_images, keep_pictures, keep_record
from lungseg.training.scans import judge_scans
from lungseg.training.trainer import interruptible, make_trainer, quiet_libraries

SAID_EVERY_S = 60.0  # while cases are read
STATE_PARTS = {"state_dict": dict, "loops": dict, "callbacks": dict, "optimizer_states": list, "lr_schedulers": list}


def run(job: Job, folder: Path, console: Console, rank: int = 0, ranks: int = 1, tested: bool = True) -> dict[str, float]:
    """Trains, keeps the best, scores it, and writes all results into the folder; the same metrics come back on every rank.

    Args:
        tested: opens the Test set at the end.

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
        for part in (folder, folder / "checkpoints", folder / "overlays"):
            remove_partials(part)
        write_text(folder / "split.json", json.dumps(split.as_table(), indent=1))

    tested = tested and len(split.test) > 0
    data = LungDataModule(split, job.preprocess, job.augmentation, job.loader, job.seed, rank, ranks)
    total = len(split.train) + len(split.val) + (len(split.test) if tested else 0)
    with faults_said(folder), _reading(console if first else None, total) as data.done:
        data.setup("fit")
        if tested:
            data.setup("test")  # now, because a fault found after the training would come too late
        refuse_leaks(data.caches)
    with faults_said(folder), quiet_libraries(), interruptible():
        return _fitted_and_scored(job, data, module, folder, console, began)


def test(job: Job, folder: Path, console: Console) -> dict[str, float]:
    """Opens the Test set for the best checkpoint of a finished run and adds the scores to what the run has left.

    Raises:
        UserError: the data cannot be read, a picture of the Test set was learnt, or the folder cannot be written.
    """
    split = job.source.split()
    kept = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    metrics = {key: math.nan if value is None else float(value) for key, value in kept.items()}
    if not split.test:
        return metrics
    module = SegmentationModule(job.net, job.loss, job.preprocess, job.optimization)
    data = LungDataModule(split, job.preprocess, job.augmentation, job.loader, job.seed)
    total = len(split.train) + len(split.val) + len(split.test)
    with faults_said(folder), _reading(console, total) as data.done:
        data.setup("fit")  # what it has learnt, which must not be among what it is tested on
        data.setup("test")
        refuse_leaks(data.caches)
    with faults_said(folder), quiet_libraries(), interruptible():
        alone = replace(job, trainer={**job.trainer, "devices": 1, "strategy": "auto"})
        trainer = make_trainer(alone, folder, [], console, ranks=1, tested=True)
        check_batches(trainer, data)
        _best_scores(module, folder / "checkpoints" / "best.ckpt")
        metrics |= _score(trainer, module, data, ["test"], folder)
        metrics |= judge_scans(trainer, module, data, "test", folder)
        _keep_metrics(metrics, folder)  # not before: a sweep that goes on takes a score here for all that there is to do
        _log_metrics(metrics, trainer)
        add_test_to_record(data, folder)
    return metrics


def _fitted_and_scored(
    job: Job, data: LungDataModule, module: SegmentationModule, folder: Path, console: Console, began: float
) -> dict[str, float]:
    first = data.rank == 0
    best, history = Best(folder / "checkpoints" / "best.ckpt"), History(folder / "history.csv")
    trainer = make_trainer(job, folder, [best, history], console if first else None, data.ranks, tested=data.test is not None)
    check_batches(trainer, data)
    if first:
        if data.disk is not None:
            log.info(data.disk.said())
        for sentence in doubts(data.caches):
            log.warning(sentence)
        log.info(described(data.caches))
        if not isinstance(job.source, PhantomSource):  # generated slices are no copies of each other
            for sentence in lookalikes(data.caches):
                log.warning(sentence)
        say_cost(module, data, trainer)
        keep_record(job.command, data, trainer, folder, seconds=None)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=str(job.ckpt_path) if job.ckpt_path else None)
    except MisconfigurationException as error:
        raise UserError(f"trainer cannot train with these settings: {' '.join(str(error).split())}") from error
    if best.epoch < 1:  # nothing was validated, so that there is nothing better than the end
        best.epoch = trainer.current_epoch
        if first:
            checkpoint.save(best.path, module.checkpoint({"epoch": float(best.epoch)}))
    trainer.strategy.barrier()  # rank 0 has written what the others are about to read
    metrics = {
        "epoch": float(best.epoch),
        "epochs": float(trainer.current_epoch),
        "parameters": float(parameter_count(module.net)),
    }
    metrics |= _best_scores(module, best.path)
    metrics |= _score(trainer, module, data, ["val", "test"] if data.test is not None else ["val"], folder)
    if first:
        metrics["seconds"] = history.earlier_seconds + time.perf_counter() - began
        _keep_metrics(metrics, folder)  # already, for what may befall the scans while they are judged
    for part in ("val", "test"):
        metrics |= judge_scans(trainer, module, data, part, folder)
    if first:
        metrics["seconds"] = history.earlier_seconds + time.perf_counter() - began
        keep_record(job.command, data, trainer, folder, metrics["seconds"])
        _keep_metrics(metrics, folder)
        _log_metrics(metrics, trainer)
    return metrics


def _score(
    trainer: pl.Trainer, module: SegmentationModule, data: LungDataModule, parts: Sequence[str], folder: Path
) -> dict[str, float]:
    """Scores the network, which holds its best weights, on parts of the data: figures of every slice, and pictures."""
    metrics: dict[str, float] = {}
    for part in parts:
        module.figures.clear()
        (trainer.test if part == "test" else trainer.validate)(module, datamodule=data, verbose=False)
        metrics |= {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith(f"{part}/")}
        figures = dict(from_all(list(module.figures.items()), data.ranks))
        if trainer.is_global_zero:
            keep_images(figures, data.caches[part], folder / f"{part}_images.csv")
            keep_pictures(module, figures, data.caches[part], part, folder)
    return metrics


def _keep_metrics(metrics: Mapping[str, float], folder: Path) -> None:
    # JSON knows no nan.
    finite = {key: None if math.isnan(value) else value for key, value in sorted(metrics.items())}
    write_text(folder / "metrics.json", json.dumps(finite, indent=1))


def _log_metrics(metrics: Mapping[str, float], trainer: pl.Trainer) -> None:
    for logger in trainer.loggers:
        logger.log_metrics({f"hp/{key}": value for key, value in metrics.items() if key.endswith("/iou")})
        logger.finalize("success")


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
        if not all(isinstance(state[key], kind) for key, kind in STATE_PARTS.items()):  # a KeyError for weights alone
            raise TypeError("its parts are of another kind")
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"ckpt_path={path} is no training state: give a last.ckpt; a best.ckpt goes into init_ckpt.") from error
    try:
        module.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise UserError(
            f"ckpt_path={path} does not fit this model: repeat the settings of the run that it goes on with."
        ) from error


def _best_scores(module: SegmentationModule, path: Path) -> dict[str, float]:
    """Puts the best weights into the network that is tested, and gives the scores they were chosen by."""
    best = checkpoint.load(path)
    module.deployed.load_state_dict(best.weights)
    return {key: value for key, value in (best.metrics or {}).items() if key.startswith("val/")}


@contextmanager
def _reading(console: Console | None, total: int) -> Iterator[Any]:
    """What to call after each case that was read: it moves a bar on a terminal, and elsewhere says a line now and then."""
    if console is None:
        yield lambda: None
        return
    if console.is_terminal:
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("reading images", total=total)
            yield lambda: progress.advance(task)
        return
    done, said = 0, time.monotonic()

    def advance() -> None:
        nonlocal done, said
        done += 1
        if time.monotonic() - said > SAID_EVERY_S:
            said = time.monotonic()
            log.info(f"{done} of {total} cases are read")

    yield advance
