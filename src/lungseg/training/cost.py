"""What a training will cost of time and memory, said before it starts."""

import copy
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from lungseg.data.datamodule import LungDataModule
from lungseg.data.dataset import Batch
from lungseg.errors import count_of
from lungseg.log import log
from lungseg.training.module import SegmentationModule
from lungseg.training.pace import VALIDATION, clock_left, spoken

# What a process grows by, over what the forward pass keeps: the way back needs room of its own, and the heap of the C library has
# holes where blocks below 32 MiB come and go. Measured on Linux: 1.4 (large blocks) to 2.25 (small ones). A GPU says it itself.
HEAP = 1.75


def precision_for(trainer: Mapping[str, Any]) -> Any:
    """``auto`` becomes bfloat16 where the hardware multiplies it fast, else float32; everything else stays as it is."""
    wanted = trainer.get("precision")
    if wanted != "auto":
        return wanted
    on_gpu = torch.cuda.is_available() and trainer.get("accelerator") in (None, "auto", "gpu", "cuda")
    if on_gpu:
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    known = _processor()
    return "bf16-mixed" if known.get("avx512_bf16") or known.get("amx_bf16") else "32-true"


def _processor() -> Mapping[str, bool]:
    """What it can, by torch's names; nothing is known below torch 2.9."""
    known: Mapping[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return known


def _emulates_bfloat16() -> bool:
    """Whether it is known to have no arithmetic for it, where that is up to fifty times slower than float32."""
    known = _processor()
    return bool(known) and not any(known.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))  # the last one is ARM's


@dataclass(frozen=True)
class Cost:
    """What a training takes, by a trial of a few slices.

    Attributes:
        step_seconds: of a step, with its augmentation where no other process does that.
        memory: bytes that each rank needs where it trains: weights, gradients, both moments of Adam and the average of the weights
            if there is one; what a step keeps on its way back; on a CPU the decoded slices.
        slices: bytes of decoded slices in each rank's memory.
        to_come: bytes that are not yet taken, of all ranks that share a memory.
        device: cpu, cuda, ...
    """

    step_seconds: float
    memory: int
    slices: int
    to_come: int
    device: str


def say_cost(module: SegmentationModule, data: LungDataModule, trainer: pl.Trainer) -> None:
    """Says what a training will take of time and memory, and warns if the memory or the arithmetic is not there."""
    cost = measure_cost(module, data, trainer)
    log.info(describe_cost(cost, module, data, trainer))
    shortage = describe_shortage(cost, free_memory(trainer.strategy.root_device))
    if shortage:
        log.warning(shortage)
    if cost.device == "cpu" and str(trainer.precision) == "bf16-mixed" and _emulates_bfloat16():
        log.warning(
            "trainer.precision=bf16-mixed may be many times slower than float32 here, as this processor has no arithmetic for it: "
            "leave it out, or take trainer.precision=32-true."
        )


def measure_cost(module: SegmentationModule, data: LungDataModule, trainer: pl.Trainer) -> Cost:
    """Times and weighs two steps of a copy of the network, which leave module, data and random draws as they were."""
    device, batch, weights = trainer.strategy.root_device, _batch_size(data), 4 * parameter_count(module.net)
    seconds, activations = _trial(module, min(2, batch), str(trainer.precision), device)
    if data.loader.workers(data.ranks) == 0:
        seconds += _seconds_per_sample(data)
    averages = int(module.ema is not None)
    copies = 4 + averages + (data.ranks > 1)  # ranks exchange gradients through buckets of the same size
    memory = copies * weights + round(batch * activations)
    slices = sum(cache.nbytes for cache in (data.train, data.val, data.test) if cache is not None)
    if device.type == "cuda":  # one for each rank, and empty yet
        return Cost(batch * seconds, memory, slices, memory, device.type)
    to_come = (memory - (1 + averages) * weights) * (data.ranks // trainer.num_nodes)
    return Cost(batch * seconds, memory + slices, slices, to_come, device.type)


def describe_cost(cost: Cost, module: SegmentationModule, data: LungDataModule, trainer: pl.Trainer) -> str:
    """Network and images, steps and time, memory: three lines."""
    ranks = data.ranks
    images = {"training": data.train, "validation": data.val, "test": data.test}
    counts = [(part, len(cache)) for part, cache in images.items() if cache is not None]
    listed = ", ".join(f"{count} {part}" for part, count in counts)
    steps = trainer_steps(len(data.train_dataloader()), trainer.limit_train_batches)
    checks = trainer_steps(len(data.val_dataloader()), trainer.limit_val_batches) / (trainer.check_val_every_n_epoch or 1)
    seconds = (steps + VALIDATION * checks) * cost.step_seconds
    name, parameters = module.net_config["class"], f"{parameter_count(module.net) / 1e6:.2f} M parameters"
    return (
        f"{name} with {parameters} on {count_of(ranks, f'{cost.device.upper()} rank')} ({trainer.precision}); "
        f"{listed} slice{'' if counts[-1][1] == 1 else 's'}.\n"
        f"An epoch is {count_of(steps, 'step')} of {count_of(_batch_size(data) * ranks, 'slice')} "
        f"and takes about {spoken(seconds)}; {_whole_run(trainer, steps, seconds)}.\n"
        f"{'Training' if ranks == 1 else 'Each rank'} needs about {_memory(cost)}."
    )


def describe_shortage(cost: Cost, free: int | None) -> str | None:
    """What does not fit into the free bytes and what would help; None if all fits or nobody knows."""
    if free is None or cost.to_come <= free:
        return None
    remedies = ["a smaller loader.batch_size", "a smaller preprocess.size"]
    if cost.slices and cost.device != "cuda":
        remedies.append("loader.cache=disk")
    return (
        f"The training may run out of memory: it will take about {_sized(cost.to_come)} more, and {_sized(free)} is free. "
        f"Choose {', '.join(remedies[:-1])} or {remedies[-1]}."
    )


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be taken where the training runs, files that the system keeps in memory not counted; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    known = Path("/proc/meminfo")
    lines = known.read_text(encoding="ascii").splitlines() if known.is_file() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def trainer_steps(batches: int, limit: int | float | None) -> int:
    """Batches that ``limit_*_batches`` leaves: a number of them, or a share."""
    if limit is None:
        return batches
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)


def parameter_count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def _seconds_per_sample(data: LungDataModule) -> float:
    """Augmentation of one slice, the mean of a few."""
    samples = data.train_dataloader().dataset
    samples[0]  # imports, the first time
    began = time.perf_counter()
    for _ in range(4):
        samples[0]
    return (time.perf_counter() - began) / 4


def _trial(module: SegmentationModule, few: int, precision: str, device: torch.device) -> tuple[float, float]:
    """Seconds and bytes a slice of going forward and back: within tens of per cent, which is what a plan needs."""
    trial = copy.deepcopy(module).to(device).train()
    side = module.preprocess.size
    batch = Batch(
        torch.zeros(few, 1, side, side, device=device),
        torch.zeros(few, 2, side, side, dtype=torch.uint8, device=device),
        torch.arange(few, device=device),
    )
    reduced = {"bf16": torch.bfloat16, "16-m": torch.float16}.get(precision[:4])
    on_gpu = device.type == "cuda"
    kept: dict[int, int] = {}  # storage -> bytes

    def weigh(tensor: Tensor) -> Tensor:
        if tensor.ndim > 1 and len(tensor) == few:  # the rest, weights above all, does not grow with the batch
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # kept as it is, it and what made it would hold each other

    best = float("inf")
    with torch.random.fork_rng(devices=[device] if on_gpu else []):  # dropout draws
        for _ in range(2):  # the first time also chooses kernels and makes gradients
            kept.clear()
            if on_gpu:
                torch.cuda.reset_peak_memory_stats(device)
                before = torch.cuda.memory_allocated(device)
            began = time.perf_counter()
            with torch.autograd.graph.saved_tensors_hooks(weigh, lambda tensor: tensor):
                with torch.autocast(device.type, dtype=reduced, enabled=reduced is not None):
                    loss = trial.training_step(batch, 0)
                loss.backward()
            if on_gpu:
                torch.cuda.synchronize(device)
            best = min(best, time.perf_counter() - began)
    taken = HEAP * sum(kept.values())
    if on_gpu:
        taken = torch.cuda.max_memory_allocated(device) - before
        del trial, batch, loss
        torch.cuda.empty_cache()  # or what the trial has given back would not count as free
    return best / few, taken / few


def _whole_run(trainer: pl.Trainer, steps: int, epoch_seconds: float) -> str:
    """How many epochs there will be, and their time: of max_epochs, max_steps and max_time, what comes first."""
    limits = [trainer.max_epochs or 0, clock_left(trainer) / max(epoch_seconds, 1e-9)]
    if trainer.max_steps > -1:
        limits.append(trainer.max_steps * trainer.accumulate_grad_batches / max(steps, 1))
    return f"{count_of(math.ceil(min(limits)), 'epoch')} about {spoken(min(limits) * epoch_seconds)}"


def _batch_size(data: LungDataModule) -> int:
    """Slices a step on each rank; fewer than were asked for where there are no more."""
    assert data.train is not None
    return min(data.loader.batch_size, -(-len(data.train) // data.ranks))


def _memory(cost: Cost) -> str:
    if cost.device == "cuda":
        return f"{_sized(cost.memory)} of GPU memory" + (f", and {_sized(cost.slices)} of RAM for slices" if cost.slices else "")
    return f"{_sized(cost.memory)} of memory" + (f", {_sized(cost.slices)} of it slices" if cost.slices else "")


def _sized(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{max(size / 1e6, 1):.0f} MB"
