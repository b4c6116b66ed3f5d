"""Overlaps gathered image by image from all processes of a training."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lungseg.metrics.overlap import Overlap, summarise


class OverlapPerImage(Metric):
    """``summarise`` over the images that all processes have seen, each counted once.

    A sampler that deals images out to processes evenly repeats some, and a mean of the processes' means weighs images
    unequally; so what is kept and gathered is each image's id with its counts, and a repeated id drops out at the end.
    """

    full_state_update = False
    ids: list[Tensor]  # each (n,) int64
    counts: list[Tensor]  # each (n, 3) int64: true positive, false positive, false negative

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("ids", default=[], dist_reduce_fx="cat")
        self.add_state("counts", default=[], dist_reduce_fx="cat")
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        super().reset()
        # A process that got no image would gather with the wrong type and shape, and one process hang on another.
        self.update(torch.empty(0, dtype=torch.int64), torch.empty(0, 3, dtype=torch.int64))

    def update(self, ids: Tensor, counts: Tensor) -> None:
        """Add images: their ids (n,), and their true positive, false positive and false negative pixels (n, 3)."""
        self.ids.append(ids.to(self.device, torch.int64))
        self.counts.append(counts.to(self.device, torch.int64))

    def compute(self) -> dict[str, Tensor]:
        """The figures of ``lungseg.metrics.definitions``, each a float32 scalar."""
        summary = summarise(self._once_each())
        return {name: torch.tensor(value, device=self.device) for name, value in summary.items()}

    def _once_each(self) -> list[Overlap]:
        ids, counts = (torch.cat(x) if isinstance(x, list) else x for x in (self.ids, self.counts))
        first = dict(zip(reversed(ids.tolist()), reversed(counts.tolist()), strict=True))
        return [Overlap(*counts) for counts in first.values()]
