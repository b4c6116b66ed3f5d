"""Several ranks that train one model: started by torchrun, which reads one resolved config; Lightning's own launcher would compose
the config again in every rank and let it differ (pytorch-lightning #11300, hydra #2070)."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lungseg.errors import UserError

RANK_VARIABLES = (
    "RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
    "TORCHELASTIC_RUN_ID",
)  # fmt: skip


def rank_count(trainer: Mapping[str, Any]) -> int:
    """How many processes ``trainer.devices`` on ``trainer.accelerator`` means.

    Raises:
        UserError: more GPUs are asked for than there are.
    """
    devices, accelerator = trainer.get("devices"), trainer.get("accelerator") or "auto"
    gpus = torch.cuda.device_count()
    on_gpu = accelerator in ("gpu", "cuda") or (accelerator == "auto" and gpus > 0)
    if devices in (None, "auto"):
        return max(1, gpus) if on_gpu else 1
    if isinstance(devices, (list, tuple)):
        count = len(devices)
    else:
        try:
            count = int(devices)
        except ValueError:
            count = len(str(devices).split(","))
        if count == -1:
            count = gpus if on_gpu else 1
    if count < 1:
        raise UserError(f"trainer.devices={devices} must be at least 1, or auto.")
    if on_gpu and count > gpus:
        raise UserError(f"trainer.devices={devices} asks for {count} GPUs but there are {gpus}; ask for fewer, or trainer=cpu.")
    return count


def launch(module: str, folder: Path, typed: str, ranks: int) -> None:
    """Runs ``python -m MODULE FOLDER TYPED`` in so many processes and waits; a signal to this process ends them all.

    Raises:
        UserError: a rank failed; what it said is on the screen already, or in the file ``failure.txt`` that it left.
    """
    failure = folder / "failure.txt"
    failure.unlink(missing_ok=True)
    environment = {key: value for key, value in os.environ.items() if key not in RANK_VARIABLES}
    threads = max(1, torch.get_num_threads() // ranks)  # the cores that this process may use, unlike os.cpu_count
    environment.setdefault("OMP_NUM_THREADS", str(threads))
    command = [sys.executable, "-m", "lungseg.training.launch", str(ranks), module, str(folder), typed]
    process = subprocess.Popen(command, env=environment)
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate()) if in_main else None
    try:
        code = process.wait()
    except BaseException:  # Ctrl-C: take the ranks along
        process.terminate()
        process.wait()
        raise
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, before)
    if failure.is_file():
        said = failure.read_text(encoding="utf-8")
        failure.unlink()
        raise UserError(said)
    if code:
        raise UserError(
            f"training ended in one of {ranks} ranks (exit code {code}); its message is above, {folder} keeps what was done."
        )


def _agent(ranks: str, module: str, *arguments: str) -> int:
    """The process between: torchrun's agent, without its report of what the ranks have said themselves."""
    import logging

    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args
    from torch.distributed.run import run as torchrun

    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)
    try:
        torchrun(parse_args(["--standalone", f"--nproc-per-node={ranks}", "-m", module, *arguments]))
    except ChildFailedError:
        return 1
    except SignalException as stop:
        return 128 + int(stop.sigval)
    return 0


if __name__ == "__main__":
    sys.exit(_agent(*sys.argv[1:]))
