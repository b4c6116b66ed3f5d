"""A training in this process: of a command's own, or one that ``training.launch`` has started."""

import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from lungseg.commands.exits import PARTLY, REFUSED, STOPPED, Stopped, stoppable
from lungseg.commands.folders import read_config
from lungseg.config import job
from lungseg.errors import UserError

RANK = "lungseg.commands.rank"
# What a process that training.launch starts has to do.
FULL, UNTESTED, TEST_ONLY = "full", "untested", "test-only"


def run_here(
    config: dict[str, Any], folder: Path, command: str, tested: bool, rank: int = 0, ranks: int = 1, prefix: str = ""
) -> None:
    """The training itself, in this process, which may be one rank of several.

    Args:
        prefix: before each line on the screen, where others train beside it; then a bar would only be in their way.
    """
    from rich.console import Console

    from lungseg.log import messages
    from lungseg.training.run import run

    console = Console(soft_wrap=True, force_terminal=False if prefix else None)
    first = rank == 0
    with messages(console if first else None, folder / "log.txt" if first else None, prefix=prefix):
        run(job(config, command), folder, console, rank, ranks, tested)


def test_here(config: dict[str, Any], folder: Path, command: str) -> None:
    """Opens the Test set for the best checkpoint of a finished run, in this process."""
    from rich.console import Console

    from lungseg.log import messages
    from lungseg.training.run import test

    console = Console(soft_wrap=True)
    with messages(console, folder / "log.txt"):
        test(job(config, command), folder, console)


def run_rank(folder: Path, command: str, part: str, state: str, prefix: str) -> int:
    """A process started by ``training.launch``: does its part by the config that lies in the folder.

    Args:
        part: FULL, UNTESTED or TEST_ONLY.
        state: a last.ckpt to go on from, instead of what the config says; empty for none.
        prefix: as of ``run_here``.
    """
    from lungseg.training.launch import end_with_parent, leave_failure

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the one process that a user started answers it
    end_with_parent()
    rank, ranks = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    try:
        with stoppable():
            config = read_config(folder)
            config["ckpt_path"] = state or config["ckpt_path"]
            if part == TEST_ONLY:
                test_here(config, folder, command)
            else:
                run_here(config, folder, command, part == FULL, rank, ranks, prefix)
                _leave_group()
    except UserError as error:
        leave_failure(str(error), REFUSED)
        return REFUSED
    except Stopped:
        return STOPPED
    except Exception as error:
        who = f"rank {rank}" if ranks > 1 else "the training"
        leave_failure(
            f"{who} failed by a fault of the program ({type(error).__name__}), see above.", PARTLY, traceback.format_exc()
        )
        return PARTLY
    return 0


def _leave_group() -> None:
    """Ends what connects the ranks: left to the end of the process, its threads now and then end that with a signal."""
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    sys.exit(run_rank(Path(sys.argv[1]), *sys.argv[2:]))
