"""Several ranks, one model: that they all train the same thing is looked at, not assumed."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from lungseg.files import write_text
from lungseg.training.module import SegmentationModule

T = TypeVar("T")


def from_all(own: Sequence[T], ranks: int) -> list[T]:
    """What each rank has, one after the other; all ranks must call it, and all get it."""
    if ranks == 1:
        return list(own)
    gathered: list[Sequence[T]] = [()] * ranks
    torch.distributed.all_gather_object(gathered, own)
    return [one for each in gathered for one in each]


class Agreement(Callback):
    """Keeps in ``ranks.json`` what each rank is about to train, and stops where two of them differ.

    Args:
        config: the resolved config as this rank has read it.
    """

    def __init__(self, config: Mapping[str, Any], folder: Path) -> None:
        self.config, self.folder = config, folder

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SegmentationModule)
        seen = {
            "hyperparameters": {key: self.config[key] for key in ("model", "loss", "augmentation", "optimization", "seed")},
            "lr": trainer.optimizers[0].defaults["lr"],
            "loss": repr(pl_module.loss),
            "ranks": trainer.world_size,
            "steps_an_epoch": int(trainer.num_training_batches),
            "config_sha256": _hash(json.dumps(self.config, sort_keys=True).encode()),
            "weights_sha256": _hash(b"".join(p.detach().cpu().numpy().tobytes() for p in pl_module.net.parameters())),
        }
        all_seen: list[Any] = [None] * trainer.world_size
        torch.distributed.all_gather_object(all_seen, seen)
        if trainer.is_global_zero:
            write_text(self.folder / "ranks.json", json.dumps(all_seen, indent=1))
        different = [rank for rank, other in enumerate(all_seen) if other != all_seen[0]]
        if different:
            raise RuntimeError(f"ranks {different} are about to train something else than rank 0, see ranks.json")


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
