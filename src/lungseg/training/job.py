"""What a training run is made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from lungseg.data.augment import Augmentation
from lungseg.data.datamodule import Loader
from lungseg.data.sources import Source
from lungseg.errors import UserError
from lungseg.preprocess import Preprocess
from lungseg.training.module import Optimization


@dataclass(frozen=True)
class Job:
    """Everything a run is made of.

    Attributes:
        trainer: arguments of ``pl.Trainer``; ``precision`` may be ``auto``.
        logger: which of LOGGERS write curves.
        early_stopping: validations, one an epoch, without a better ``val/iou`` after which training ends; None trains to the end.
        init_ckpt: weights to start from; ckpt_path: a training state to go on from.
        test: when the Test set is opened; ``best`` is a sweep's best job, and a single run.
        config: the resolved config as plain values, kept with the run.
    """

    source: Source
    net: Mapping[str, Any]
    loss: nn.Module
    augmentation: Augmentation
    preprocess: Preprocess
    loader: Loader
    optimization: Optimization
    trainer: Mapping[str, Any]
    logger: tuple[str, ...]
    seed: int
    early_stopping: int | None
    init_ckpt: Path | None
    ckpt_path: Path | None
    test: Literal["best", "always", "never"]
    config: Mapping[str, Any]
    command: str

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed={self.seed} must be at least 0 and below 2**32.")
        if self.early_stopping is not None and self.early_stopping < 1:
            raise UserError(f"early_stopping={self.early_stopping} must be at least 1 epoch, or null.")
