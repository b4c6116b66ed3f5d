"""Laws of what a step sees: orders are functions of seed and epoch, slices are decoded once, workers change nothing."""

import math
import pickle
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader

from builders import ChestCase
from lungseg.data.augment import Augmentation
from lungseg.data.cache import SliceCache, in_memory
from lungseg.data.cases import Stack
from lungseg.data.datamodule import Loader, LungDataModule
from lungseg.data.dataset import Batch, EpochSampler, EvaluationSlices, ShardSampler, collate
from lungseg.data.disk import DiskCache
from lungseg.data.split import Case, Split
from lungseg.errors import UserError
from lungseg.preprocess import Preprocess

COUNTS, RANKS, SEEDS, EPOCHS = st.integers(1, 60), st.integers(1, 5), st.integers(0, 2**31), st.integers(0, 10_000)
PREPROCESS = Preprocess(size=32)
CASES = [
    ChestCase("a", "P", shape=(40, 48)),
    ChestCase("b", "P", shape=(48, 33), seed=1),
    ChestCase("c", "Q", shape=(17, 17), seed=2),
]


def number(value: int = 0) -> Tensor:
    return torch.tensor(value, dtype=torch.int64).share_memory_()


def orders(count: int, seed: int, epoch: int, ranks: int, sources: list[str] | None = None) -> list[list[int]]:
    """What each rank draws."""
    samplers = [EpochSampler(count, seed, number(epoch), rank, ranks, sources) for rank in range(ranks)]
    drawn = [list(sampler) for sampler in samplers]
    assert [len(sampler) for sampler in samplers] == [len(order) for order in drawn]
    return drawn


@given(count=COUNTS, ranks=RANKS, seed=SEEDS, epoch=EPOCHS)
def test_ranks_share_out_an_epoch(count: int, ranks: int, seed: int, epoch: int) -> None:
    drawn = orders(count, seed, epoch, ranks)
    together = Counter(index for order in drawn for index in order)
    assert len({len(order) for order in drawn}) == 1
    assert set(together) == set(range(count))
    # Equal lengths need some slices twice, where ranks do not divide the count, but no more than that.
    assert sum(together.values()) - count < ranks
    # One rank or many, the epoch is the same.
    (alone,) = orders(count, seed, epoch, 1)
    assert [order[i] for i in range(len(drawn[0])) for order in drawn][:count] == alone


@given(count=COUNTS, seed=SEEDS, epoch=EPOCHS)
def test_an_order_is_a_function_of_seed_and_epoch(count: int, seed: int, epoch: int) -> None:
    sampler = EpochSampler(count, seed, number())
    sampler.set_epoch(epoch)
    once = list(sampler)
    sampler.set_epoch(epoch + 1)
    list(sampler)
    sampler.set_epoch(epoch)
    assert list(sampler) == once == orders(count, seed, epoch, 1)[0]


def test_epochs_and_seeds_differ() -> None:
    drawn = [tuple(orders(50, seed, epoch, 1)[0]) for seed in range(5) for epoch in range(5)]
    assert len(set(drawn)) == 25


@given(sizes=st.lists(st.integers(1, 40), min_size=2, max_size=4), seed=SEEDS, epoch=EPOCHS, data=st.data())
def test_balanced_sources_are_drawn_evenly(sizes: list[int], seed: int, epoch: int, data: st.DataObject) -> None:
    sources = data.draw(st.permutations([f"source {i}" for i, size in enumerate(sizes) for _ in range(size)]))
    (order,) = orders(len(sources), seed, epoch, 1, sources)
    assert len(order) == len(sources)
    drawn = Counter(sources[index] for index in order)
    share = len(sources) / len(sizes)
    # The last, incomplete round of sources is drawn from all of them.
    assert all(abs(drawn[name] - share) < len(sizes) for name in set(sources))
    for index, times in Counter(order).items():  # in rounds: none comes again before all of its source have come
        assert times <= math.ceil(math.ceil(share) / sources.count(sources[index]))


@given(count=COUNTS, ranks=st.integers(1, 8))
def test_shards_cover_every_slice_once(count: int, ranks: int) -> None:
    shards = [list(ShardSampler(count, rank, ranks)) for rank in range(ranks)]
    assert [len(ShardSampler(count, rank, ranks)) for rank in range(ranks)] == [len(shard) for shard in shards]
    used = shards[:count]  # a rank that is left without any takes slice 0, which the metric counts once
    assert sorted(index for shard in used for index in shard) == list(range(count))
    assert shards[count:] == [[0]] * max(0, ranks - count)


@dataclass(frozen=True)
class CountedCase(ChestCase):
    """A volume of three slices that writes down how often it was read."""

    reads: list[str] = field(default_factory=list)

    def read(self) -> Stack:
        self.reads.append(self.name)
        stack = super().read()
        image = np.concatenate([stack.image, stack.image - 1, stack.image + 1])
        return Stack(image, np.concatenate([stack.labels] * 3))


def held(cases: Sequence[Case], folder: Path | None, done: Callable[[], None] = lambda: None) -> SliceCache:
    """In memory, or on a disk."""
    return in_memory(cases, PREPROCESS, True, done) if folder is None else DiskCache(folder).hold(cases, PREPROCESS, done)


def contents(cache: SliceCache) -> list[tuple[bytes, bytes, bytes]]:
    arrays = [(cache.image(i), cache.target(i), cache.truth(i)) for i in range(len(cache))]
    assert all(image.shape == (32, 32) and target.shape == (32, 32, 2) for image, target, _ in arrays)
    assert [truth.shape for *_, truth in arrays] == [info.shape for info in cache.infos]
    return [tuple(array.tobytes() for array in three) for three in arrays]


def test_a_cache_holds_what_preprocessing_makes(tmp_path: Path) -> None:
    for folder in (None, tmp_path / "cache"):
        cache = held(CASES, folder)
        assert [info.name for info in cache.infos] == ["a", "b", "c"]
        for i, case in enumerate(CASES):
            (image,), (labels,) = case.read().image, case.read().labels
            np.testing.assert_array_equal(cache.image(i), PREPROCESS.to_grid(image))
            np.testing.assert_array_equal(cache.target(i), PREPROCESS.target_to_grid(labels))
            np.testing.assert_array_equal(cache.truth(i), labels)


def test_memory_and_disk_are_the_same(tmp_path: Path) -> None:
    memory, disk = (held(CASES, folder) for folder in (None, tmp_path / "cache"))
    assert contents(memory) == contents(disk)
    assert memory.digest == disk.digest
    assert memory.infos == disk.infos


def test_every_case_is_read_once_and_never_again(tmp_path: Path) -> None:
    for folder in (None, tmp_path / "cache"):
        cases = [CountedCase(name) for name in "xyz"]
        done: list[int] = []
        cache = held(cases, folder, lambda: done.append(1))  # noqa: B023
        assert contents(cache) == contents(cache)
        assert [case.reads for case in cases] == [["x"], ["y"], ["z"]]
        assert len(done) == 3
        assert [info.name for info in cache.infos][:4] == ["x#0", "x#1", "x#2", "y#0"]


def test_the_digest_tells_data_apart() -> None:
    other = [CASES[0], replace(CASES[1], seed=9), CASES[2]]
    digests = {in_memory(cases, PREPROCESS, False).digest for cases in (CASES, other, CASES[:2], CASES[::-1])}
    assert len(digests) == 4
    assert in_memory(CASES, PREPROCESS, True).digest in digests  # whether the truth is kept does not matter


def test_a_cache_of_nothing_is_empty(tmp_path: Path) -> None:
    for folder in (None, tmp_path / "cache"):
        assert contents(held([], folder)) == []


def test_a_cache_on_disk_is_pickled_as_its_place(tmp_path: Path) -> None:
    cache = held(CASES, tmp_path)
    before = contents(cache)
    pickled = pickle.dumps(cache)
    assert len(pickled) < 4000
    assert contents(pickle.loads(pickled)) == before


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(UserError, match=r"cannot be written.*loader\.cache=memory"):
        held(CASES, tmp_path / "cache" / "slices")


def test_a_spawned_worker_reads_the_same_memory() -> None:
    slices = EvaluationSlices(held(CASES, None), PREPROCESS)
    here = DataLoader(slices, batch_size=3, collate_fn=collate)
    there = DataLoader(slices, batch_size=3, collate_fn=collate, num_workers=1, multiprocessing_context="spawn")
    assert plain(here) == plain(there)


def plain(batches: DataLoader[Batch]) -> list[list[bytes]]:
    return [[tensor.numpy().tobytes() for tensor in (*batch[:3], *batch.truths)] for batch in batches]


@pytest.fixture
def data(tmp_path: Path) -> LungDataModule:
    train = tuple(ChestCase(f"t{i}", f"T{i}", "AB"[i > 6], seed=i) for i in range(9))
    augmentation = Augmentation(rotation_deg=15, flip_horizontal=0.5, scale=(0.7, 1.3), elastic=0.3, window=0.5, noise=0.3)
    module = LungDataModule(Split(train, tuple(CASES), (), True), PREPROCESS, augmentation, Loader(2), seed=3)
    module.setup("fit")
    return module


def two_epochs(data: LungDataModule, workers: int) -> list[list[bytes]]:
    data.loader = Loader(batch_size=2, num_workers=workers)
    loader = data.train_dataloader()
    assert loader.persistent_workers == (workers > 0)
    epochs = []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)  # as Lightning does
        epochs += plain(loader)
    return epochs


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_workers_do_not_change_a_batch(data: LungDataModule) -> None:
    alone = two_epochs(data, workers=0)
    assert len(alone) == 8  # two epochs of four whole batches; the ninth slice would be alone in its batch
    assert len({image for image, *_ in alone}) == 8
    assert two_epochs(data, workers=1) == alone
    assert two_epochs(data, workers=4) == alone


def test_a_slice_is_augmented_anew_in_every_epoch(data: LungDataModule) -> None:
    loader = data.train_dataloader()
    seen = []
    for epoch in (0, 1, 2, 1):
        loader.sampler.set_epoch(epoch)
        seen.append([loader.dataset[index].image.numpy().tobytes() for index in range(9)])
    assert seen[1] == seen[3]
    assert all(len(set(images)) == 3 for images in zip(*seen, strict=True))


def test_training_batches_are_what_the_network_wants(data: LungDataModule) -> None:
    for batch in data.train_dataloader():
        assert (batch.image.shape, batch.image.dtype) == ((2, 1, 32, 32), torch.float32)
        assert (batch.target.shape, batch.target.dtype) == ((2, 2, 32, 32), torch.uint8)
        assert 0 <= batch.image.min() <= batch.image.max() <= 1
        assert batch.truths == ()


def test_validation_sees_every_slice_in_order_as_prediction_does(data: LungDataModule) -> None:
    batches = list(data.val_dataloader())
    assert torch.cat([batch.ids for batch in batches]).tolist() == [0, 1, 2]
    images = torch.cat([batch.image for batch in batches])[:, 0].numpy()
    for image, truth, case in zip(images, [t for batch in batches for t in batch.truths], CASES, strict=True):
        (raw,), (labels,) = case.read().image, case.read().labels
        np.testing.assert_array_equal(image, PREPROCESS.normalise(PREPROCESS.to_grid(raw)))
        np.testing.assert_array_equal(truth, labels)


def test_a_balanced_epoch_draws_the_small_source_as_often(data: LungDataModule) -> None:
    data.split = replace(data.split, balanced=True)
    drawn = Counter(data.train.infos[index].source for index in data.train_dataloader().sampler)
    assert set(drawn) == {"A", "B"}
    assert abs(drawn["A"] - drawn["B"]) <= 1


def test_masks_without_any_lung_stop_the_run(tmp_path: Path) -> None:
    empty = tuple(ChestCase(name, name, shape=(4, 48)) for name in "xyz")  # the strip to ignore, and nothing else
    data = LungDataModule(Split(empty[:2], empty[2:], (), True), PREPROCESS, Augmentation(), Loader())
    with pytest.raises(UserError, match="no training mask holds any lung"):
        data.setup("fit")


@settings(deadline=None, max_examples=5)
@given(batch_size=st.integers(1, 20))
def test_a_batch_larger_than_the_data_still_comes(batch_size: int) -> None:
    train = tuple(ChestCase(name, name) for name in "xy")
    data = LungDataModule(Split(train, (CASES[0],), (), True), PREPROCESS, Augmentation(), Loader(batch_size, 0))
    data.setup("fit")
    assert sum(len(batch.ids) for batch in data.train_dataloader()) == 2


@pytest.mark.parametrize(("key", "value"), [("batch_size", 0), ("num_workers", -1), ("cache", "tape")])
def test_a_value_out_of_range_is_named(key: str, value: object) -> None:
    with pytest.raises(UserError, match=rf"loader\.{key}={value}"):
        Loader(**{key: value})
