"""Trainings in processes of their own: one, or several ranks that train one model.

Ranks are started by torchrun and read one resolved config; Lightning's own launcher would compose it again in every rank and let it
differ (pytorch-lightning #11300, hydra #2070).
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from lungseg.errors import UserError

RANK_VARIABLES = (
    "RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
    "TORCHELASTIC_RUN_ID",
)  # fmt: skip
FAILURE = "LUNGSEG_FAILURE"  # names the file in which the first process that fails leaves what it has to say
PATIENCE_S = 5.0  # how long the others may take to end after one has failed
TIDY_S = 2.0  # how long a process may take to end once the one that launched it is gone


class RunFailed(UserError):
    """A training process that ended badly; ``code`` is its exit code, below 0 for a signal."""

    def __init__(self, said: str, code: int) -> None:
        super().__init__(said)
        self.code = code
        self.exit_code = code if code == UserError.exit_code else 1


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


def launch(module: str, folder: Path, arguments: Sequence[str], ranks: int) -> None:
    """Runs ``python -m MODULE FOLDER ARGUMENTS`` in so many processes and waits; they end when this process does, however it ends.

    Raises:
        RunFailed: one of them failed; the others were ended, and the sentence is what the first to fail has left.
    """
    environment = {key: value for key, value in os.environ.items() if key not in RANK_VARIABLES}
    threads = max(1, torch.get_num_threads() // ranks)  # the cores that this process may use, unlike os.cpu_count
    environment.setdefault("OMP_NUM_THREADS", str(threads))
    started = [module, str(folder), *arguments]
    if ranks > 1:
        started = ["lungseg.training.launch", str(ranks), *started]
    with tempfile.TemporaryDirectory() as scratch:  # not in the run's folder, which may be what cannot be written
        failure = Path(scratch) / "failure.json"
        environment[FAILURE] = str(failure)
        # Their standard input is a pipe that nobody writes to: see end_with_parent.
        with subprocess.Popen([sys.executable, "-m", *started], env=environment, stdin=subprocess.PIPE) as process:
            try:
                code = _wait(process, failure)
            finally:
                _end(process)
        left = json.loads(failure.read_text(encoding="utf-8")) if failure.is_file() else None
    if code is None:
        code = 1 if left is None else left["code"]
    if left is not None:
        print(left["traceback"], file=sys.stderr, end="")
        raise RunFailed(left["said"], code)
    if code:
        raise RunFailed(f"the training process {_ended(code)}.", code)


def end_with_parent(ask: bool = True) -> None:
    """Lets this process end as soon as the one that launched it has ended or let go of it, even if that was killed.

    A training that outlived its command would go on writing into a folder that its user may take up again at any moment.

    Args:
        ask: whether to send SIGTERM to this process first; one that ends by itself then needs no more than a time limit.
    """

    def watch() -> None:
        with suppress(OSError):  # no standard input at all
            while os.read(0, 1):
                pass
        with suppress(OSError):  # whoever let go has its own sentence; gloo may now complain that the other ranks are gone
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        if ask:
            os.kill(os.getpid(), signal.SIGTERM)  # lets the main thread tidy up, if it listens at all
        time.sleep(TIDY_S)
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def end_with(parent: int) -> None:
    """Lets this process, which a pool has started, end soon after its parent, even if that was killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def leave_failure(said: str, code: int, traceback: str = "") -> None:
    """Leaves what went wrong for the process that launched this one, unless another rank has failed before.

    Args:
        code: with which this process is about to end.
    """
    with suppress(FileExistsError), Path(os.environ[FAILURE]).open("x", encoding="utf-8") as file:
        json.dump({"said": said, "code": code, "traceback": traceback}, file)


def _wait(process: "subprocess.Popen[bytes]", failure: Path) -> int | None:
    """The exit code; once a rank has failed the others, which may wait for it for ever, get little time: None if they took more."""
    failed_at: float | None = None
    while True:
        try:
            return process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            if failed_at is None and failure.is_file():
                failed_at = time.monotonic()
            if failed_at is not None and time.monotonic() - failed_at > PATIENCE_S:
                return None


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ends the process and all ranks below it by closing the pipe that they watch."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _agent(ranks: str, module: str, folder: str, *arguments: str) -> int:
    """The process between: torchrun's agent, without its report of what the ranks have said themselves."""
    import logging

    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args
    from torch.distributed.run import run as torchrun

    # The ranks watch the same pipe and end by themselves. SIGTERM here might come when torchrun has ended, as a traceback.
    end_with_parent(ask=False)
    logging.disable()
    try:
        torchrun(parse_args(["--standalone", f"--nproc-per-node={ranks}", "-m", module, folder, *arguments]))
    except ChildFailedError as error:
        codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
        killed = {rank: code for rank, code in codes.items() if code < 0 and code != -signal.SIGTERM}  # which torchrun sends itself
        for rank, code in killed.items():
            Path(os.environ[FAILURE]).unlink(missing_ok=True)  # of a rank that only missed this one
            leave_failure(f"rank {rank} {_ended(code)}, and the other ranks with it.", 1)
        return 1
    except SignalException as error:  # whoever sent it says so
        return 128 + int(error.sigval)
    return 0


def _ended(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}, perhaps for lack of memory" if code < 0 else f"ended with exit code {code}"


if __name__ == "__main__":
    sys.exit(_agent(*sys.argv[1:]))
