"""One training run, in as many processes as it asks for."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from lungseg.commands.compose import plain, through_hydra
from lungseg.commands.folders import (
    CONFIG,
    LOCK,
    as_typed,
    claimed,
    difference,
    from_here,
    newest,
    other_settings,
    predict_command,
    remove_empty,
    write_config,
)
from lungseg.commands.rank import FULL, RANK, UNTESTED, run_here
from lungseg.config import job
from lungseg.errors import UserError
from lungseg.files import from_home
from lungseg.origins import located
from lungseg.training.launch import RunFailed, launch, rank_count
from lungseg.training.state import STATE, finished_epochs

# What must be the same when a run is gone on with: all that decides what is learnt, but not for how long.
LEARNT = (
    "data", "model", "loss", "augmentation", "preprocess", "optimization", "seed", "init_ckpt", "loader.batch_size",
    "trainer.devices", "trainer.precision", "trainer.accumulate_grad_batches", "trainer.gradient_clip_val",
    "trainer.gradient_clip_algorithm", "trainer.limit_train_batches", "trainer.sync_batchnorm",
)  # fmt: skip


LAST = ("val/iou", "test/iou", "test/dice", "test/dice_3d")  # of a run's metrics, on its last screen


class Single:
    """What a command without ``--multirun`` asks for."""

    def __init__(self, argv: Sequence[str], command: str) -> None:
        self.argv, self.command = argv, command
        self.folder: Path | None = None  # once something is written into it

    def run(self) -> int:
        raised: list[Exception] = []

        def task(config: DictConfig) -> None:
            made = Path(HydraConfig.get().runtime.output_dir)
            try:
                self._run(plain(config), made)
            except Exception as error:  # raised again below, where Hydra does not stand in between
                raised.append(error)
            finally:
                remove_empty(made)  # if the run was refused, or goes on in another folder

        code = through_hydra(self.argv, task)
        if raised:
            raise raised[0]
        return code

    def kept(self) -> str:
        """What an interruption leaves, and how to go on."""
        if self.folder is None:
            return "Nothing had been started."
        return f"{_kept(self.folder)}; repeat the command with ckpt_path=last to go on."

    def _run(self, config: dict[str, Any], made: Path) -> None:
        # Before anything is written: a refused run must not touch the records of the one that it would have gone on with.
        self._check(config)
        folder = made
        if config["ckpt_path"] == "last":
            folder = _folder_to_go_on_with(config, made)
            config["ckpt_path"] = str(folder / STATE) if (folder / STATE).is_file() else None
        with claimed(folder):
            if config["ckpt_path"] is not None:
                _check_state(config, from_home(config["ckpt_path"]).resolve(), folder)
            elif (folder / STATE).exists() or (folder / "metrics.json").exists():
                raise UserError(
                    f"{from_here(folder)} holds a run already: go on by ckpt_path=last, or choose another hydra.run.dir."
                )
            write_config(folder, config)
            self.folder = folder
            self._train(config, folder)

    def _check(self, config: Mapping[str, Any]) -> None:
        hydra = HydraConfig.get()
        if hydra.mode == RunMode.MULTIRUN:
            raise UserError("a sweep is asked for by --multirun, written out.")
        if hydra.job.chdir:
            raise UserError("hydra.job.chdir=true must be false: paths are read from the folder in which you stand.")
        try:
            job(config, self.command)
        except UserError as error:
            raise located(error, list(hydra.overrides.task), hydra.job.config_name or "config") from error
        if config["sweep"]["resume"]:
            raise UserError("sweep.resume=true goes with --multirun; a single run is gone on with by ckpt_path=last.")

    def _train(self, config: dict[str, Any], folder: Path) -> None:
        tested = config["test"] != "never"
        ranks = rank_count(config["trainer"])
        try:
            if ranks == 1:
                run_here(config, folder, self.command, tested)
            else:
                launch(RANK, folder, [self.command, FULL if tested else UNTESTED, "", ""], ranks)
        except UserError as error:
            if not (folder / STATE).is_file():  # it had not begun, so that there is nothing to go on from
                _forget(folder)
                raise
            said = f"{error} {_kept(folder)}; ckpt_path=last goes on from there."
            raise (RunFailed(said, error.code) if isinstance(error, RunFailed) else UserError(said)) from error
        print(_last_screen(folder, json.loads((folder / "metrics.json").read_text(encoding="utf-8")), self.command))


def _folder_to_go_on_with(config: Mapping[str, Any], made: Path) -> Path:
    """The newest run with these settings, below ``outputs`` or just where ``hydra.run.dir`` says."""
    chosen = any(word.startswith("hydra.run.dir=") for word in HydraConfig.get().overrides.hydra)
    runs = [made] if chosen or (made / CONFIG).is_file() else newest("outputs", CONFIG)
    others = [(folder, difference(config, folder, LEARNT)) for folder in runs if (folder / CONFIG).is_file()]
    if not others:
        where = f"in {from_here(made)}" if chosen else "below outputs; add its hydra.run.dir=... if it lies elsewhere"
        raise UserError(f"ckpt_path=last has nothing to go on from: there is no run {where}.")
    same = [folder for folder, name in others if name is None]
    if not same:
        raise other_settings(others[0][0], str(others[0][1]))
    if not (same[0] / STATE).is_file():
        print(f"{from_here(same[0])} was stopped before its training began; it begins now.")
    return same[0].resolve()


def _check_state(config: Mapping[str, Any], state: Path, folder: Path) -> None:
    """Refuses a training state that is not there, of a run with other settings, or longer than this one is to be."""
    if not state.is_file():
        raise UserError(f"ckpt_path={state} is no file: give the last.ckpt of a run, or `last` for the newest.")
    name = difference(config, state.parents[1], LEARNT)
    if name is not None:
        raise other_settings(state.parents[1], name)
    if state.parents[1] != folder and (folder / STATE).exists():
        raise UserError(f"{from_here(folder)} holds another run already: choose another hydra.run.dir.")
    if difference(config, state.parents[1], ["trainer.max_epochs"]) and config["optimization"]["schedule"] != "constant":
        print("Warning: trainer.max_epochs was another, and so the learning rate goes on from another place of its schedule.")
    epochs, wanted = finished_epochs(state), config["trainer"]["max_epochs"]
    if epochs > wanted:
        raise UserError(f"trainer.max_epochs={wanted} must be at least {epochs}, the epochs that {from_here(state)} has behind it.")


def _forget(folder: Path) -> None:
    """Removes what a run has written before its training began, if there is nothing else."""
    written = {CONFIG, LOCK, "log.txt", "split.json", "run.json"}
    if {path.name for path in folder.iterdir()} <= written:
        for name in written - {LOCK}:
            (folder / name).unlink(missing_ok=True)


def _kept(folder: Path) -> str:
    """What a run that did not end as it should has left."""
    epochs = finished_epochs(folder / STATE)
    if epochs == 0:
        return f"No epoch was finished in {from_here(folder)}"
    return f"{'1 epoch is' if epochs == 1 else f'{epochs} epochs are'} kept in {from_here(folder / 'checkpoints')}"


def _last_screen(folder: Path, metrics: Mapping[str, Any], command: str) -> str:
    scores = "  ".join(f"{key} {metrics[key]:.4f}" for key in LAST if metrics.get(key) is not None)
    seconds = metrics["seconds"]
    took = f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"
    return (
        f"\nDone in {took}.  {scores}\n"
        f"  best checkpoint  {from_here(folder / 'checkpoints' / 'best.ckpt')}  (epoch {metrics['epoch']:.0f})\n"
        f"  overlays         {from_here(folder / 'overlays')}\n"
        f"{_tables(folder)}"
        f"  curves           tensorboard --logdir {as_typed(folder)}, or {from_here(folder / 'history.csv')}\n"
        f"  predict with     {predict_command(folder, command)}"
    )


def _tables(folder: Path) -> str:
    """Where the scores of whole scans are, if there are some."""
    found = [from_here(path) for part in ("val", "test") if (path := folder / f"{part}_volumes.csv").is_file()]
    return f"  scans in 3-D     {', '.join(map(str, found))}\n" if found else ""
