"""``lungseg train``: a config composed by Hydra becomes a training run."""

import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from lungseg.commands.exits import REFUSED, exit_code
from lungseg.config import config_folder, groups, job, nearest, quoted
from lungseg.errors import UserError
from lungseg.files import from_home, write_text

HELP = """\
{program}: trains a lung segmentation network and keeps the best.

  {program}                                              generated chests, a few minutes, no download
  {program} data=folder data.root=DIR                    your slices: DIR/Train/Images DIR/Train/Masks DIR/Test/...
  {program} data=manifest data.manifest=FILE.csv         several sources in one table
  {program} model=resunet trainer.devices=2              the large network on two GPUs, or two CPU processes
  {program} --multirun loss=dice_bce,dice seed=0,1,2     a sweep
  {program} ckpt_path=last                               goes on where the newest run stopped (repeat its other settings)
  {program} init_ckpt=best.ckpt ...                      starts from the weights of another run
  {program} --cfg job                                    shows every setting with its value

Groups (GROUP=OPTION):
{groups}

Every other setting by its name: trainer.max_epochs=50 trainer.precision=bf16-mixed preprocess.size=256 loader.batch_size=8
optimization.lr=1e-3 seed=1 ... A path or a patient_regex is taken as it is typed.

{definitions}
Logged each epoch: train/loss train/iou (augmented slices, on the network's grid) val/loss val/iou val/dice; at the end test/*.
The best checkpoint is the one with the highest val/iou."""


def main(argv: Sequence[str]) -> int:
    """Trains, or sweeps with ``--multirun``; Hydra's own flags work as in any Hydra program."""
    if any(flag in argv for flag in ("-h", "--help")):
        print(_help())
        return 0
    return exit_code(lambda: _through_hydra(argv), "What was done is kept; repeat the command with ckpt_path=last to go on.")


def run_rank(folder: Path, command: str) -> int:
    """One of several processes started by ``training.launch``: trains by the config that lies in the folder."""

    def work() -> int:
        from omegaconf import OmegaConf

        config = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(folder / "config.yaml")))
        rank = int(os.environ["RANK"])
        try:
            _train(config, folder, command, rank, int(os.environ["WORLD_SIZE"]))
        except UserError as error:
            # Left for the process that started the ranks, which says it once; they would say it once each.
            (folder / "failure.txt").write_text(str(error), encoding="utf-8")
            return REFUSED
        return 0

    return exit_code(work, "")


def _through_hydra(argv: Sequence[str]) -> int:
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException
    from omegaconf import DictConfig, OmegaConf

    failures: list[UserError] = []
    folders: list[Path] = []
    command = f"{_program()} {shlex.join(argv)}"

    def task(config: DictConfig) -> float | None:
        folders.append(Path(HydraConfig.get().runtime.output_dir))
        # An exception here would reach the user as Hydra's own, and an exit would end a whole sweep: kept until Hydra is done.
        try:
            plain = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
            return _run(plain, folders[-1], command)
        except UserError as error:
            failures.append(error)
            return None

    task.__module__ = "lungseg.train"  # names the job "train"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # it raises, for us to say in a sentence, instead of printing and ending the process
    typed, sys.argv = sys.argv, [sys.argv[0], *_in_hydras_order([quoted(override) for override in _resumed(argv)])]
    try:
        hydra.main(version_base="1.3", config_path=str(config_folder()), config_name="config")(task)()
    except HydraException as error:
        raise UserError(_sentence(error)) from error
    except ValueError as error:
        if folders:
            raise
        raise UserError(f"the settings cannot be composed: {' '.join(str(error).split())}") from error
    except OSError as error:
        if folders:
            raise
        raise UserError(f"{error.filename} cannot be written ({error.strerror}); choose a folder with hydra.run.dir=...") from error
    except SystemExit as stop:  # of its argument parser, which has said what was wrong
        return REFUSED if stop.code else 0
    finally:
        sys.argv = typed
    for failure in failures:
        print(f"Error: {failure}", file=sys.stderr)
    return REFUSED if failures else 0


def _sentence(error: Exception) -> str:
    """What Hydra could not compose: the wrong word and those that would do."""
    from hydra.errors import MissingConfigException
    from omegaconf.errors import ConfigAttributeError, ConfigKeyError

    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        return f"{group}={option} is unknown: {nearest(option, error.options, '')}"
    cause = error.__cause__
    if isinstance(cause, (ConfigAttributeError, ConfigKeyError)) and cause.full_key:
        where, _, key = cause.full_key.rpartition(".")
        return f"{cause.full_key} is unknown: {nearest(key, [str(known) for known in cause.parent_node or ()], where)}"
    return " ".join(line for line in str(error).splitlines() if line and not line.startswith("See http"))


def _run(config: dict[str, Any], folder: Path, command: str) -> float | None:
    """One run in as many processes as it asks for; gives ``val/iou``, which a sweeper maximises."""
    from omegaconf import OmegaConf

    from lungseg.training.launch import launch, rank_count

    # Before anything is written: a refused run must not touch the records of the one that it would have gone on with.
    job(config, command)
    ranks = rank_count(config["trainer"])
    if config["ckpt_path"] is not None:
        _check_same(config, from_home(config["ckpt_path"]).parents[1] / "config.yaml")
    write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(config)))
    if ranks == 1:
        metrics = _train(config, folder, command, rank=0, ranks=1)
    else:
        launch("lungseg.commands.train", folder, command, ranks)
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return metrics.get("val/iou")


def _check_same(config: Mapping[str, Any], earlier: Path) -> None:
    """Refuses to go on with a run under other settings, which would be neither the one run nor the other."""
    from omegaconf import OmegaConf

    if not earlier.is_file():
        return
    was = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(earlier)))
    for section in ("data", "model", "loss", "augmentation", "preprocess", "optimization", "seed"):
        if config[section] != was.get(section):
            changed = (
                [key for key in config[section] if config[section][key] != was[section].get(key)]
                if isinstance(config[section], dict) and isinstance(was.get(section), dict)
                else []
            )
            name = f"{section}.{changed[0]}" if changed and changed[0] != "_target_" else section
            raise UserError(f"ckpt_path goes on with a run whose {name} was another; repeat its settings, which {earlier} holds.")


def _train(config: Mapping[str, Any], folder: Path, command: str, rank: int, ranks: int) -> dict[str, float]:
    from rich.console import Console

    from lungseg.log import messages
    from lungseg.training.run import run

    console = Console(soft_wrap=True)
    first = rank == 0
    with messages(console if first else None, folder / "log.txt" if first else None):
        metrics = run(job(config, command), folder, console, rank, ranks)
        if first:
            console.print(_last_screen(folder, metrics, command), markup=False, highlight=False, soft_wrap=True)
    return metrics


def _last_screen(folder: Path, metrics: Mapping[str, float], command: str) -> str:
    shown = _from_here(folder)
    predict = "python predict.py" if command.startswith("python train.py") else "lungseg predict"
    scores = "  ".join(f"{key} {metrics[key]:.4f}" for key in ("val/iou", "test/iou", "test/dice") if key in metrics)
    return (
        f"\nDone in {metrics['seconds'] / 60:.1f} min.  {scores}\n"
        f"  best checkpoint  {shown / 'checkpoints' / 'best.ckpt'}  (epoch {metrics['epoch']:.0f})\n"
        f"  overlays         {shown / 'overlays'}\n"
        f"  curves           tensorboard --logdir {_shell(shown)}, or {shown / 'history.csv'}\n"
        f"  predict with     {predict} ckpt={_shell(shown / 'checkpoints' / 'best.ckpt')} input=FILE_OR_FOLDER output=masks"
    )


def _help() -> str:
    from lungseg.metrics.definitions import DEFINITIONS

    listed = "\n".join(f"  {name:<13} {' | '.join(options)}" for name, options in groups().items())
    return HELP.format(program=_program(), groups=listed, definitions=DEFINITIONS)


def _program() -> str:
    return "python train.py" if Path(sys.argv[0]).name == "train.py" else "lungseg train"


def _resumed(argv: Sequence[str]) -> list[str]:
    """``ckpt_path=last`` as the newest training state, going on in its own folder."""
    if "ckpt_path=last" not in argv:
        return list(argv)
    others = [override for override in argv if override != "ckpt_path=last"]
    chosen = [override.partition("=")[2].strip("'\"") for override in others if override.startswith("hydra.run.dir=")]
    if chosen:
        state = from_home(chosen[-1]) / "checkpoints" / "last.ckpt"
        if not state.is_file():
            raise UserError(f"{state} is not there: nothing to go on from.")
        return [*others, f"ckpt_path={state}"]
    states = sorted(Path("outputs").glob("**/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime)
    if not states:
        raise UserError("ckpt_path=last finds no checkpoints/last.ckpt below outputs/: nothing to go on from.")
    return [*others, f"ckpt_path={states[-1]}", f"hydra.run.dir={states[-1].parents[1]}"]


def _in_hydras_order(argv: list[str]) -> list[str]:
    """``--multirun`` first: Hydra's parser does not take it between overrides."""
    sweep = [word for word in argv if word in ("-m", "--multirun")]
    return [*sweep, *(word for word in argv if word not in sweep)]


def _from_here(path: Path) -> Path:
    """A path as a person would type it from the working folder."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _shell(path: Path) -> str:
    return shlex.quote(str(path))


if __name__ == "__main__":
    sys.exit(run_rank(Path(sys.argv[1]), sys.argv[2]))
