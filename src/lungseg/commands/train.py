"""``lungseg train``: a config composed by Hydra becomes a training run."""

import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lungseg.commands.exits import exit_code
from lungseg.commands.folders import RESUMED_SECTIONS, as_typed, check_same, from_here, newest_folder, predict_command, remove_empty
from lungseg.commands.rank import FULL, RANK, UNTESTED, run_here
from lungseg.config import groups, job
from lungseg.errors import UserError
from lungseg.files import from_home, write_text
from lungseg.origins import located

HELP = """\
{program}: trains a lung segmentation network and keeps the best.

  {program}                                              generated chests, a few minutes, no download
  {program} data=folder data.root=DIR                    your slices: DIR/Train/Images DIR/Train/Masks DIR/Test/...
  {program} data=manifest data.manifest=FILE.csv         several sources in one table
  {program} model=resunet trainer.devices=2              the large network on two GPUs, or two CPU processes
  {program} --multirun loss=dice_bce,dice seed=0,1,2     a sweep: six jobs, ranked; the Test set is opened for the best
  {program} --multirun ... sweep.resume=true             goes on with the newest sweep; what is finished stays
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
    from lungseg.commands.compose import SHOW_FLAGS, SWEEP_FLAGS

    command = f"{_program()} {shlex.join(argv)}"
    if any(word in argv for word in SWEEP_FLAGS) and not any(word.partition("=")[0] in SHOW_FLAGS for word in argv):
        from lungseg.commands.sweep import Sweep

        asked: Sweep | _Single = Sweep(argv, command)
    else:
        asked = _Single(argv, command)

    def work() -> int:
        if "RANK" in os.environ:
            raise UserError("RANK is set, as torchrun does: start lungseg by itself, trainer.devices=N starts the ranks.")
        return asked.run()

    return exit_code(work, asked.kept)


class _Single:
    """One run, in as many processes as it asks for."""

    def __init__(self, argv: Sequence[str], command: str) -> None:
        self.argv, self.command = argv, command
        self.folder: Path | None = None  # once something is written into it

    def run(self) -> int:
        from omegaconf import DictConfig

        from lungseg.commands.compose import plain, through_hydra

        raised: list[Exception] = []

        def task(config: DictConfig) -> None:
            from hydra.core.hydra_config import HydraConfig

            hydra = HydraConfig.get()
            folder = Path(hydra.runtime.output_dir)
            try:
                self._run(plain(config), folder, list(hydra.overrides.task))
            except Exception as error:  # raised again below, where Hydra does not stand in between
                raised.append(error)
            finally:
                if self.folder is None:  # refused: then the folder that Hydra has made is not to stay
                    remove_empty(folder)

        code = through_hydra(_resumed(self.argv), task)
        if raised:
            raise raised[0]
        return code

    def kept(self) -> str:
        """What an interruption leaves, and how to go on."""
        if self.folder is None:
            return "Nothing had been started."
        return f"{_kept(self.folder)}; repeat the command with ckpt_path=last to go on."

    def _run(self, config: dict[str, Any], folder: Path, overrides: Sequence[str]) -> None:
        from omegaconf import OmegaConf

        from lungseg.training.launch import launch, rank_count

        # Before anything is written: a refused run must not touch the records of the one that it would have gone on with.
        try:
            job(config, self.command)
        except UserError as error:
            raise located(error, overrides) from error
        ranks = rank_count(config["trainer"])
        if config["ckpt_path"] is not None:
            check_same(config, from_home(config["ckpt_path"]).parents[1] / "config.yaml", RESUMED_SECTIONS)
        elif any((folder / name).exists() for name in ("metrics.json", "checkpoints/last.ckpt")):
            raise UserError(f"{folder} holds a run already: go on with it by ckpt_path=last, or choose another hydra.run.dir.")
        write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(config)))
        self.folder = folder
        tested = config["test"] != "never"
        try:
            if ranks == 1:
                run_here(config, folder, self.command, tested)
            else:
                launch(RANK, folder, [self.command, FULL if tested else UNTESTED, ""], ranks)
        except UserError as error:
            raise UserError(f"{error} {_kept(folder)}; ckpt_path=last goes on from there.") from error
        print(_last_screen(folder, json.loads((folder / "metrics.json").read_text(encoding="utf-8")), self.command))


def _kept(folder: Path) -> str:
    """What a run that did not end as it should has left."""
    from lungseg.training.state import finished_epochs

    epochs = finished_epochs(folder / "checkpoints" / "last.ckpt")
    if epochs == 0:
        return f"No epoch was finished in {from_here(folder)}"
    return f"{'1 epoch is' if epochs == 1 else f'{epochs} epochs are'} kept in {from_here(folder / 'checkpoints')}"


def _last_screen(folder: Path, metrics: Mapping[str, Any], command: str) -> str:
    scores = "  ".join(f"{key} {metrics[key]:.4f}" for key in ("val/iou", "test/iou", "test/dice") if metrics.get(key) is not None)
    return (
        f"\nDone in {metrics['seconds'] / 60:.1f} min.  {scores}\n"
        f"  best checkpoint  {from_here(folder / 'checkpoints' / 'best.ckpt')}  (epoch {metrics['epoch']:.0f})\n"
        f"  overlays         {from_here(folder / 'overlays')}\n"
        f"  curves           tensorboard --logdir {as_typed(folder)}, or {from_here(folder / 'history.csv')}\n"
        f"  predict with     {predict_command(folder, command)}"
    )


def _help() -> str:
    from lungseg.metrics.definitions import DEFINITIONS

    listed = "\n".join(f"  {name:<13} {' | '.join(options)}" for name, options in groups().items())
    return HELP.format(program=_program(), groups=listed, definitions=DEFINITIONS)


def _program() -> str:
    return "python train.py" if Path(sys.argv[0]).name == "train.py" else "lungseg train"


def _resumed(argv: Sequence[str]) -> list[str]:
    """``ckpt_path=last`` as the training state of the newest run, going on in its own folder."""
    if "ckpt_path=last" not in argv:
        return list(argv)
    others = [override for override in argv if override != "ckpt_path=last"]
    folder = newest_folder(others, "hydra.run.dir", "outputs", "config.yaml")
    if folder is None:
        raise UserError("ckpt_path=last finds no run, here or where hydra.run.dir says: nothing to go on from.")
    words = [*others, f"hydra.run.dir={folder}"]
    state = folder / "checkpoints" / "last.ckpt"
    if state.is_file():
        return [*words, f"ckpt_path={state}"]
    print(f"{folder} was stopped before its training began; it begins now.")
    return words
