"""``lungseg train``: one training run, or a sweep of them."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lungseg.commands.exits import exit_code, without_debug
from lungseg.config import groups
from lungseg.errors import UserError

if TYPE_CHECKING:
    from lungseg.commands.single import Single
    from lungseg.commands.sweep import Sweep

HELP = """\
{program}: trains a lung segmentation network and keeps the best.

  {program}                                              generated chests, a few minutes, no download
  {program} data=folder data.root=DIR                    your slices: DIR/Train/Images DIR/Train/Masks DIR/Test/...
  {program} data=manifest data.manifest=FILE.csv         several sources in one table
  {program} model=resunet trainer.devices=2              the large network on two GPUs, or two CPU processes
  {program} --multirun loss=dice_bce,dice seed=0,1,2     a sweep: six jobs, ranked; the Test set is opened for the best
  {program} --multirun ... sweep.resume=true             goes on with the newest sweep; what is finished stays
  {program} experiment=ablation data=...                 a sweep of its own, as crossval and convergence; lungseg report shows it
  {program} ckpt_path=last                               goes on where the newest run stopped (repeat its other settings)
  {program} init_ckpt=best.ckpt ...                      starts from the weights of another run
  {program} --cfg job                                    shows every setting with its value
  {program} debug=true ...                               what lies behind an error too, as a traceback

Groups (GROUP=OPTION):
{groups}

data.folds=5 data.fold=0 validates on a fifth of the patients; data.val_fraction=0.1 on a tenth.
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
    words, debug = without_debug(argv)
    asked = _asked(words)

    def work() -> int:
        if "RANK" in os.environ:
            raise UserError("RANK is set, as torchrun does: start lungseg by itself, trainer.devices=N starts the ranks.")
        return asked.run()

    return exit_code(work, asked.kept, debug)


def _asked(argv: Sequence[str]) -> "Single | Sweep":
    from lungseg.commands.compose import SHOW_FLAGS, SWEEP_FLAGS, asks_for_a_sweep
    from lungseg.commands.single import Single

    command = f"{_program()} {shlex.join(argv)}"
    if asks_for_a_sweep(argv) and not any(word.partition("=")[0] in SHOW_FLAGS for word in argv):
        from lungseg.commands.sweep import Sweep

        return Sweep(argv if any(word in SWEEP_FLAGS for word in argv) else [*argv, "--multirun"], command)
    return Single(argv, command)


def _help() -> str:
    from lungseg.metrics.definitions import DEFINITIONS

    listed = "\n".join(f"  {name:<13} {' | '.join(options)}" for name, options in groups().items())
    return HELP.format(program=_program(), groups=listed, definitions=DEFINITIONS)


def _program() -> str:
    return "python train.py" if Path(sys.argv[0]).name == "train.py" else "lungseg train"
