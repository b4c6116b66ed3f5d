"""The data of a run: read once, split by patient, augmented in workers."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from lungseg.data.augment import Augmentation
from lungseg.data.brief import NO_LUNG
from lungseg.data.cache import SliceCache, in_memory
from lungseg.data.dataset import Batch, EpochSampler, EvaluationSlices, ShardSampler, TrainingSlices, collate
from lungseg.data.disk import DiskCache
from lungseg.data.split import Case, Split
from lungseg.errors import UserError
from lungseg.files import from_home
from lungseg.preprocess import Preprocess

WHERES = ("memory", "disk")
CACHE_FOLDER = ".lungseg_cache"  # beside outputs/, where there is room for what a training makes


@dataclass(frozen=True)
class Loader:
    """How samples reach the network.

    Args:
        batch_size: slices a step and rank.
        num_workers: processes that augment; null is none beside a network that keeps the CPU busy itself, and where processes
            start slowly; beside a GPU the cores of each rank, at most 8.
        cache: where decoded slices stay: in ``memory``, or on ``disk``, where other runs find them.
        cache_folder: of the cache on disk; null is ``.lungseg_cache`` in the working folder.
    """

    batch_size: int = 6
    num_workers: int | None = None
    cache: str = "memory"
    cache_folder: str | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"loader.batch_size={self.batch_size} must be at least 1.")
        if self.num_workers is not None and not 0 <= self.num_workers <= 256:
            raise UserError(f"loader.num_workers={self.num_workers} must be 0 to 256, or null.")
        if self.cache not in WHERES:
            raise UserError(f"loader.cache={self.cache} must be one of {', '.join(WHERES)}.")
        if self.cache_folder == "":
            raise UserError("loader.cache_folder= must name a folder, or be null.")

    def workers(self, ranks: int) -> int:
        if self.num_workers is not None:
            return self.num_workers
        if sys.platform in ("win32", "darwin") or not torch.cuda.is_available():
            return 0
        return min(8, max(1, torch.get_num_threads() // ranks))


class LungDataModule(pl.LightningDataModule):
    """Training, validation and test slices of a split.

    Args:
        rank, ranks: this process among those that train together.
    """

    def __init__(
        self,
        split: Split,
        preprocess: Preprocess,
        augmentation: Augmentation,
        loader: Loader,
        seed: int = 0,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        super().__init__()
        self.split, self.preprocess, self.augmentation, self.loader = split, preprocess, augmentation, loader
        self.seed, self.rank, self.ranks = seed, rank, ranks
        self.disk = DiskCache(from_home(loader.cache_folder or CACHE_FOLDER)) if loader.cache == "disk" else None
        self.done: Callable[[], None] = lambda: None  # called after each case read, for a progress bar
        self.epoch: Tensor = torch.zeros((), dtype=torch.int64).share_memory_()
        self.train: SliceCache | None = None
        self.val: SliceCache | None = None
        self.test: SliceCache | None = None

    def setup(self, stage: str) -> None:
        if stage in ("fit", "validate") and self.train is None:
            self.train = self._read("train", self.split.train)
            self.val = self._read("val", self.split.val)
            if not any(info.lung for info in self.train.infos):
                raise UserError(NO_LUNG)
        if stage == "test" and self.test is None:
            self.test = self._read("test", self.split.test)

    @property
    def caches(self) -> dict[str, SliceCache]:
        """The parts that were read."""
        parts = {"train": self.train, "val": self.val, "test": self.test}
        return {part: cache for part, cache in parts.items() if cache is not None}

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        image, target, ids = (tensor.to(device, non_blocking=True) for tensor in (batch.image, batch.target, batch.ids))
        return Batch(image, target, ids, batch.truths, batch.spacings)  # true masks are scored in numpy

    def state_dict(self) -> dict[str, int]:
        """The epoch that comes next, as Lightning keeps it in a training state."""
        assert self.trainer is not None
        return {"epoch": self.trainer.fit_loop.epoch_progress.current.processed}  # type: ignore[attr-defined]

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Goes on with that epoch, as loader processes start to fetch before Lightning tells the sampler which one it is."""
        self.epoch.fill_(state_dict["epoch"])

    def train_dataloader(self) -> DataLoader[Batch]:
        assert self.train is not None
        sources = [info.source for info in self.train.infos] if self.split.balanced else None
        sampler = EpochSampler(len(self.train), self.seed, self.epoch, self.rank, self.ranks, sources)
        dataset = TrainingSlices(self.train, self.preprocess, self.augmentation, self.seed, self.epoch)
        # A last batch of one or two slices would spoil the batch statistics.
        workers = self.loader.workers(self.ranks)
        return self._loader(dataset, sampler, drop_last=len(sampler) >= self.loader.batch_size, workers=workers)

    def val_dataloader(self) -> DataLoader[Batch]:
        assert self.val is not None
        return self._evaluation(self.val)

    def test_dataloader(self) -> DataLoader[Batch]:
        assert self.test is not None
        return self._evaluation(self.test)

    def _read(self, part: str, cases: tuple[Case, ...]) -> SliceCache:
        if self.disk is not None:
            return self.disk.hold(cases, self.preprocess, self.done)
        return in_memory(cases, self.preprocess, part != "train", self.done)

    def _evaluation(self, cache: SliceCache) -> DataLoader[Batch]:
        # Nothing is decoded or augmented here, so that workers would cost more than they save.
        sampler = ShardSampler(len(cache), self.rank, self.ranks)
        return self._loader(EvaluationSlices(cache, self.preprocess), sampler, drop_last=False, workers=0)

    def _loader(self, dataset: Dataset[Batch], sampler: Sampler[int], drop_last: bool, workers: int) -> DataLoader[Batch]:
        return DataLoader(
            dataset,
            batch_size=self.loader.batch_size,
            sampler=sampler,
            num_workers=workers,
            collate_fn=collate,
            drop_last=drop_last,
            persistent_workers=workers > 0,
            worker_init_fn=_one_thread,
            pin_memory=torch.cuda.is_available(),
        )


def _one_thread(_worker: int) -> None:
    """Workers share the cores with the network; OpenCV's own threads would only crowd them."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
