"""The LightningModule: network, loss, schedule and scores."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torchmetrics import MeanMetric

from lungseg.checkpoint import CLASSES, Checkpoint, build_net
from lungseg.data.dataset import Batch
from lungseg.errors import UserError
from lungseg.metrics.cases import image_figures
from lungseg.metrics.overlap import Overlap, overlap
from lungseg.metrics.per_image import OverlapPerImage
from lungseg.nets.blocks import EncoderDecoder
from lungseg.preprocess import Preprocess

PARTS = ("train", "val", "test")
SCHEDULES = ("cosine", "constant")


@dataclass(frozen=True)
class Optimization:
    """How the weights are found: AdamW (Loshchilov 2019) with a warm-up and a cosine.

    Args:
        lr: highest learning rate.
        weight_decay: of AdamW, on weights of two or more dimensions only.
        schedule: ``cosine`` falls to a hundredth at the end, ``constant`` stays.
        warmup: share of the steps in which the learning rate rises to ``lr``.
        ema_decay: of the moving average of the weights that is validated and saved; null for none. Early in training the
            average is shorter, so that it does not drag the first weights along.
    """

    lr: float = 2e-3
    weight_decay: float = 1e-2
    schedule: str = "cosine"
    warmup: float = 0.03
    ema_decay: float | None = 0.998

    def __post_init__(self) -> None:
        if not 0 < self.lr <= 1:
            raise UserError(f"optimization.lr={self.lr} must be above 0 and at most 1.")
        if not 0 <= self.weight_decay < math.inf:
            raise UserError(f"optimization.weight_decay={self.weight_decay} must be 0 or more and finite.")
        if self.schedule not in SCHEDULES:
            raise UserError(f"optimization.schedule={self.schedule} must be one of {', '.join(SCHEDULES)}.")
        if not 0 <= self.warmup < 1:
            raise UserError(f"optimization.warmup={self.warmup} must be at least 0 and below 1.")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise UserError(f"optimization.ema_decay={self.ema_decay} must lie between 0 and 1, or be null.")

    def factor(self, step: int, steps: int) -> float:
        """Learning rate over ``lr`` at a step of ``steps``."""
        warm = self.warmup * steps
        if step < warm:
            return (step + 1) / (warm + 1)
        if self.schedule == "constant":
            return 1.0
        progress = min(1.0, (step - warm) / max(1.0, steps - warm))
        return 0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * progress))


class SegmentationModule(pl.LightningModule):
    """Trains one network on (image, labels) batches and scores it on each mask's own grid.

    Args:
        net_config: ``{"class": ..., **arguments}`` as in a checkpoint.
        loss: (logits, target, valid), each (B, 1, N, N), to a scalar.
        net: a network that is built already, in place of the one that ``net_config`` describes.
    """

    def __init__(
        self,
        net_config: Mapping[str, Any],
        loss: nn.Module,
        preprocess: Preprocess,
        optimization: Optimization,
        net: EncoderDecoder | None = None,
    ) -> None:
        super().__init__()
        self.net_config, self.loss, self.preprocess, self.optimization = (
            dict(net_config),
            loss,
            preprocess,
            optimization,
        )
        self.net = build_net(net_config) if net is None else net
        self.ema: AveragedModel | None = None
        if optimization.ema_decay is not None:
            # Buffers too: batch statistics belong to the averaged weights.
            self.ema = AveragedModel(self.net, multi_avg_fn=_moving_average(optimization.ema_decay), use_buffers=True)
            self.ema.requires_grad_(False)
        self._averaged_step = 0
        self.figures: dict[int, dict[str, float]] = {}  # of each image that this rank has judged since they were last cleared
        # Modules, so that they follow the device; the stroke, because a module cannot be called train.
        self.scores = nn.ModuleDict({f"{part}/": OverlapPerImage() for part in PARTS})
        # In half precision a step without a finite loss is skipped, and does not count.
        self.losses = nn.ModuleDict({f"{part}/": MeanMetric(nan_strategy="ignore") for part in PARTS})

    @property
    def deployed(self) -> nn.Module:
        """The network that is validated, saved and used: the average if there is one."""
        return self.net if self.ema is None else self.ema.module

    def checkpoint(self, metrics: Mapping[str, float]) -> Checkpoint:
        return Checkpoint(self.net_config, self.deployed.state_dict(), self.preprocess, CLASSES, metrics)

    def setup(self, stage: str) -> None:
        # In half precision every width trains faster so (a CPU 1.2 to 1.4 times); in float32 wide nets take twice as long.
        if "16" in str(self.trainer.precision):
            self.to(memory_format=torch.channels_last)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        scales = self.net.forward_scales(batch.image)  # finest first
        target, valid = _learnt(batch.target)
        weights = [0.5**i for i in range(len(scales))]
        terms = [weight * self.loss(logits, target, valid) for weight, logits in zip(weights, scales, strict=True)]
        loss = torch.stack(terms).sum() / sum(weights)
        self._losses("train").update(loss.detach(), len(batch.ids))
        with torch.no_grad():
            found = scales[0].detach() > 0
            lung = target >= 0.5
            counts = [found & lung & valid, found & ~lung & valid, ~found & lung & valid]
            self._scores("train").update(batch.ids, torch.stack([c.flatten(1).sum(1) for c in counts], dim=1))
        return loss

    def on_train_start(self) -> None:
        self._averaged_step = self.trainer.global_step

    def on_train_batch_end(self, *_: Any) -> None:
        # Only after a step of the optimiser, which with accumulate_grad_batches comes every few batches.
        if self.ema is not None and self.trainer.global_step > self._averaged_step:
            self._averaged_step = self.trainer.global_step
            self.ema.update_parameters(self.net)

    def on_validation_epoch_start(self) -> None:
        if self.trainer.state.fn == TrainerFn.FITTING:
            self._check_finite()  # before these weights can become the best
        if self.trainer.world_size > 1:
            for tensor in self.deployed.state_dict().values():  # batch statistics differ by rank; the saved ones are rank 0's
                torch.distributed.broadcast(tensor, src=0)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate(batch, "test")

    def on_train_epoch_end(self) -> None:
        self._check_finite()  # before anything of this epoch is kept
        self._log("train")
        self.log("lr", self.trainer.optimizers[0].param_groups[0]["lr"])

    def on_validation_epoch_end(self) -> None:
        self._log("val")

    def on_test_epoch_end(self) -> None:
        self._log("test")

    def configure_optimizers(self) -> Any:
        decayed = [p for p in self.net.parameters() if p.ndim > 1]
        others = [p for p in self.net.parameters() if p.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": self.optimization.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.optimization.lr)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.optimization.factor(step, steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _evaluate(self, batch: Batch, part: str) -> None:
        # In float32 whatever the precision of training, so that the score is the one that prediction will reach.
        with torch.autocast(batch.image.device.type, enabled=False):
            logits = self.deployed(batch.image.float())
        target, valid = _learnt(batch.target)
        self._losses(part).update(self.loss(logits, target, valid), len(batch.ids))
        counts = []
        judged = zip(batch.ids.tolist(), logits[:, 0].cpu().numpy(), batch.truths, batch.spacings, strict=True)
        for image, own, truth, spacing_mm in judged:
            labels = truth.numpy()
            found = self.preprocess.from_grid(np.asarray(own, np.float32), labels.shape) > 0
            counts.append(_counts(overlap(found, labels)))
            if self.trainer.state.fn != TrainerFn.FITTING:  # boundaries take longer, and do not choose the epoch
                self.figures[image] = image_figures(found, labels, spacing_mm)
        self._scores(part).update(batch.ids, torch.tensor(counts, device=batch.ids.device))

    def _check_finite(self) -> None:
        """No later step can mend a weight that is not a number, and every epoch until somebody looks would be lost.

        Raises:
            UserError: the training has come apart.
        """
        if not all(bool(torch.isfinite(values).all()) for values in self.net.state_dict().values()):
            raise UserError(
                f"the loss became infinite in epoch {self.trainer.current_epoch + 1}, and the weights with it; "
                f"train anew with a lower optimization.lr than {self.optimization.lr:g}, or with trainer.precision=32-true."
            )

    def _scores(self, part: str) -> OverlapPerImage:
        return cast(OverlapPerImage, self.scores[f"{part}/"])

    def _losses(self, part: str) -> MeanMetric:
        return cast(MeanMetric, self.losses[f"{part}/"])

    def _log(self, part: str) -> None:
        values = self._scores(part).compute()
        metrics = {f"{part}/loss": self._losses(part).compute(), f"{part}/iou": values["iou"]}
        if part != "train":
            kept = ("dice", "iou_pooled", "iou_worst", "false_lung_images", "false_lung_pixels_max")
            metrics |= {f"{part}/{key}": values[key] for key in kept}
        # A curve ends with the last epoch; what the best one scores is said elsewhere.
        on_curve = bool(self.trainer.loggers) and (part != "val" or self.trainer.state.fn == TrainerFn.FITTING)
        # Already the value over all ranks: the metrics have gathered their states.
        self.log_dict(
            {key: value.float() for key, value in metrics.items()}, logger=on_curve, rank_zero_only=False, sync_dist=False
        )
        self._scores(part).reset()
        self._losses(part).reset()


def _moving_average(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    def update(averages: Sequence[Tensor], values: Sequence[Tensor], averaged: Tensor | int) -> None:
        count = int(averaged)
        keep = min(decay, (1 + count) / (10 + count))
        for average, value in zip(averages, values, strict=True):
            if average.is_floating_point():
                average.lerp_(value, 1 - keep)
            else:  # the number of batches seen
                average.copy_(value)

    return update


def _learnt(target: Tensor) -> tuple[Tensor, Tensor]:
    """Shares of lung (B, 1, N, N) float32 in 0..1, and which pixels count: those without any part to be ignored."""
    return target[:, :1].float() / 255, target[:, 1:] == 0


def _counts(score: Overlap) -> tuple[int, int, int]:
    return score.true_positive, score.false_positive, score.false_negative
