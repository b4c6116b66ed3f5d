"""What a training will cost, said before it starts."""

import copy
import time
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch

from lungseg.data.datamodule import LungDataModule
from lungseg.data.dataset import Batch
from lungseg.training.module import SegmentationModule


def precision_for(trainer: Mapping[str, Any]) -> Any:
    """``auto`` becomes bfloat16 where the hardware multiplies it fast, else float32; everything else stays as it is."""
    wanted = trainer.get("precision")
    if wanted != "auto":
        return wanted
    on_gpu = torch.cuda.is_available() and trainer.get("accelerator") in (None, "auto", "gpu", "cuda")
    if on_gpu:
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    known: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # torch below 2.9 has none
    return "bf16-mixed" if known.get("avx512_bf16") or known.get("amx_bf16") else "32-true"


def describe_cost(module: SegmentationModule, data: LungDataModule, trainer: pl.Trainer) -> str:
    """Parameters, images and steps, and what an epoch will take, from two timed steps on a copy of the network."""
    ranks, batch_size = data.ranks, data.loader.batch_size
    images = {"training": data.train, "validation": data.val, "test": data.test}
    steps = trainer_steps(len(data.train_dataloader()), trainer.limit_train_batches)
    checks = trainer_steps(len(data.val_dataloader()), trainer.limit_val_batches)
    name, parameters = module.net_config["class"], sum(parameter.numel() for parameter in module.net.parameters())
    device = trainer.strategy.root_device
    step = _seconds_per_step(module, batch_size, str(trainer.precision), device)
    if data.loader.workers(ranks) == 0:
        step += batch_size * _seconds_per_sample(data)
    seconds = steps * step + checks * step / 3  # a step goes forward once and back for twice the price
    where = f"{ranks} {device.type.upper()} rank{'s' if ranks > 1 else ''}"
    epochs = trainer.max_epochs or 0
    counted = ", ".join(f"{len(cache)} {name}" for name, cache in images.items() if cache is not None)
    return (
        f"{name} with {parameters / 1e6:.2f} M parameters on {where} ({trainer.precision}); {counted} slices.\n"
        f"An epoch is {steps} steps of {batch_size * ranks} slices and takes about {_spoken(seconds)}; "
        f"{epochs} epochs about {_spoken(seconds * epochs)}."
    )


def trainer_steps(batches: int, limit: int | float | None) -> int:
    """Batches that ``limit_*_batches`` leaves: a number of them, or a share."""
    if limit is None:
        return batches
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)


def _seconds_per_sample(data: LungDataModule) -> float:
    """Augmentation of one slice, the mean of a few."""
    samples = data.train_dataloader().dataset
    samples[0]  # imports, the first time
    began = time.perf_counter()
    for _ in range(4):
        samples[0]
    return (time.perf_counter() - began) / 4


def _seconds_per_step(module: SegmentationModule, batch_size: int, precision: str, device: torch.device) -> float:
    """Forward and backward of a small batch, scaled up: a guess within tens of per cent, which is what a plan needs."""
    trial = copy.deepcopy(module).to(device).train()
    few = min(2, batch_size)
    side = module.preprocess.size
    batch = Batch(
        torch.zeros(few, 1, side, side, device=device),
        torch.zeros(few, 2, side, side, dtype=torch.uint8, device=device),
        torch.arange(few, device=device),
    )
    reduced = {"bf16": torch.bfloat16, "16-m": torch.float16}.get(precision[:4])
    best = float("inf")
    for _ in range(2):  # the first run also chooses kernels
        began = time.perf_counter()
        with torch.autocast(device.type, dtype=reduced, enabled=reduced is not None):
            loss = trial.training_step(batch, 0)
        loss.backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - began)
    return best * batch_size / few


def _spoken(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
