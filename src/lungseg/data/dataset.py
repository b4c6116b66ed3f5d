"""Samples for the network, and the order in which they come: each a function of (seed, epoch) and nothing else."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from lungseg.data.augment import Augmentation
from lungseg.data.cache import SliceCache
from lungseg.preprocess import Preprocess


class Batch(NamedTuple):
    """What a step sees.

    Attributes:
        image: (B, 1, N, N) float32, normalised.
        target: (B, 2, N, N) uint8, the shares of each pixel that are lung and that are to be ignored, 0 to 255 for none to all.
        ids: (B,) int64, which slice of the data set.
        truths: labels (H, W) on each slice's own grid; none in training.
        spacings: beside the truths, (y, x) in mm, None where nobody knows it.
    """

    image: Tensor
    target: Tensor
    ids: Tensor
    truths: tuple[Tensor, ...] = ()
    spacings: tuple[tuple[float, float] | None, ...] = ()


class TrainingSlices(Dataset[Batch]):
    """Slices as training sees them: augmented anew in every epoch.

    Args:
        epoch: a tensor in shared memory, so that persistent workers see it change.
    """

    def __init__(self, cache: SliceCache, preprocess: Preprocess, augmentation: Augmentation, seed: int, epoch: Tensor) -> None:
        self.cache, self.preprocess, self.augmentation, self.seed, self.epoch = (
            cache,
            preprocess,
            augmentation,
            seed,
            epoch,
        )

    def __len__(self) -> int:
        return len(self.cache)

    def __getitem__(self, index: int) -> Batch:
        seed = (self.seed, int(self.epoch), index)
        image, target = self.augmentation(self.cache.image(index), self.cache.target(index), self.preprocess, seed)
        return Batch(torch.from_numpy(image)[None], _channels_first(target), torch.tensor(index))


class EvaluationSlices(Dataset[Batch]):
    """Slices as prediction sees them, with the truth on their own grid."""

    def __init__(self, cache: SliceCache, preprocess: Preprocess) -> None:
        self.cache, self.preprocess = cache, preprocess

    def __len__(self) -> int:
        return len(self.cache)

    def __getitem__(self, index: int) -> Batch:
        image = self.preprocess.normalise(self.cache.image(index))
        truth = torch.from_numpy(self.cache.truth(index).copy())
        target, spacing = _channels_first(self.cache.target(index)), self.cache.infos[index].spacing_mm
        return Batch(torch.from_numpy(image)[None], target, torch.tensor(index), (truth,), (spacing,))


def collate(samples: Sequence[Batch]) -> Batch:
    """Samples to a batch; the truths stay a tuple, as their sizes may differ."""
    images, labels, indices, truths, spacings = zip(*samples, strict=True)
    joined = tuple(chain.from_iterable(truths)), tuple(chain.from_iterable(spacings))
    return Batch(torch.stack(images), torch.stack(labels), torch.stack(indices), *joined)


def _channels_first(target: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(target.transpose(2, 0, 1)))


class EpochSampler(Sampler[int]):
    """The order of training slices in an epoch, shared out among ranks.

    Every slice comes once; with ``sources``, each source is drawn equally often instead, through shuffled rounds of its slices.
    Lightning calls ``set_epoch``; the number is passed on to the data set's workers through ``epoch``.
    """

    def __init__(
        self, count: int, seed: int, epoch: Tensor, rank: int = 0, ranks: int = 1, sources: Sequence[str] | None = None
    ) -> None:
        self.count, self.seed, self.epoch, self.rank, self.ranks, self.sources = (
            count,
            seed,
            epoch,
            rank,
            ranks,
            sources,
        )
        self.length = -(-count // ranks)  # every rank makes the same number of steps, or the others would wait for ever

    def set_epoch(self, epoch: int) -> None:
        self.epoch.fill_(epoch)

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        order = self._order(np.random.default_rng((self.seed, int(self.epoch))))
        padded = np.resize(order, self.length * self.ranks)  # the first few once more, where ranks do not divide the count
        return iter(int(i) for i in padded[self.rank :: self.ranks])

    def _order(self, draw: np.random.Generator) -> NDArray[np.int64]:
        if self.sources is None:
            return draw.permutation(self.count)
        names = np.asarray(self.sources)
        unique = np.unique(names)
        share = -(-self.count // len(unique))
        rounds = []
        for name in unique:
            members = np.flatnonzero(names == name)
            repeated = [draw.permutation(members) for _ in range(-(-share // len(members)))]
            rounds.append(np.concatenate(repeated)[:share])
        return draw.permutation(np.concatenate(rounds))[: self.count]


class ShardSampler(Sampler[int]):
    """Every slice on exactly one rank, in order. A rank left without any scores slice 0 again, which the metric counts once."""

    def __init__(self, count: int, rank: int = 0, ranks: int = 1) -> None:
        self.indices = list(range(rank, count, ranks)) or [0]

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)
