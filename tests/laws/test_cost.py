"""Laws of what a training is said to cost: memory and time before it, the time left while it runs."""

import io
import logging
import random
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from builders import ChestCase
from lungseg.data.augment import Augmentation
from lungseg.data.datamodule import Loader, LungDataModule
from lungseg.data.split import Split
from lungseg.log import messages
from lungseg.losses import DiceBCE
from lungseg.preprocess import Preprocess
from lungseg.training.bar import Bar
from lungseg.training.cost import Cost, describe_cost, describe_shortage, free_memory, measure_cost, say_cost
from lungseg.training.module import Optimization, SegmentationModule
from lungseg.training.pace import TimeLeft, spoken
from lungseg.training.trainer import quiet_libraries

PREPROCESS = Preprocess(size=32)
GB = 10**9


def network(ema_decay: float | None = 0.9, dropout: float = 0.0) -> SegmentationModule:
    net = {"class": "ResUNet", "widths": [4, 8], "dropout": dropout}
    return SegmentationModule(net, DiceBCE(), PREPROCESS, Optimization(ema_decay=ema_decay))


def slices(
    batch_size: int, train: int = 12, val: int = 2, test: int | None = None, folder: Path | None = None, ranks: int = 1
) -> LungDataModule:
    parts = [tuple(ChestCase(f"{part}{i}", seed=i) for i in range(count)) for part, count in enumerate((train, val, test or 0))]
    loader = Loader(batch_size, 0, "memory" if folder is None else "disk", None if folder is None else str(folder))
    augmentation = Augmentation(rotation_deg=15, noise=0.3)
    data = LungDataModule(Split(*parts, True), PREPROCESS, augmentation, loader, ranks=ranks)
    data.setup("fit")
    if test is not None:
        data.setup("test")
    return data


def trainer(**arguments: object) -> pl.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    with quiet_libraries():
        return pl.Trainer(accelerator="cpu", **{"max_epochs": 1, **quiet, **arguments})


def test_memory_grows_with_the_batch_and_nothing_else() -> None:
    costs = {batch: measure_cost(network(), slices(batch), trainer()) for batch in (2, 4, 6, 12)}
    assert all(cost.step_seconds > 0 for cost in costs.values())
    a_slice = (costs[4].memory - costs[2].memory) / 2
    # At least one feature map at each of two scales, float32, and no more than a hundred.
    assert 4 * 32 * 32 * 4 < a_slice < 100 * 4 * 32 * 32 * 4
    for batch, cost in costs.items():
        assert cost.memory == pytest.approx(costs[2].memory + (batch - 2) * a_slice, abs=4)
        assert cost.slices == costs[2].slices


def test_weights_count_five_times_with_an_average_and_four_times_without() -> None:
    data = slices(2)
    parameters = sum(parameter.numel() for parameter in network().net.parameters())
    averaged, plain = (measure_cost(network(decay), data, trainer()) for decay in (0.9, None))
    assert averaged.memory - plain.memory == 4 * parameters
    assert averaged.to_come == plain.to_come  # the average lies there already


def test_slices_count_where_they_are_kept(tmp_path: Path) -> None:
    memory, disk = (measure_cost(network(), slices(2, test=1, folder=folder), trainer()) for folder in (None, tmp_path / "cache"))
    assert memory.slices == 15 * 32 * 32 * (4 + 2) + 3 * 40 * 48  # grey values and shares, and the truth where it is scored
    assert disk.slices == 0
    assert memory.memory - disk.memory == memory.slices


def test_ranks_on_one_cpu_share_its_memory() -> None:
    one, two = (measure_cost(network(), slices(2, ranks=ranks), trainer()) for ranks in (1, 2))
    parameters = sum(parameter.numel() for parameter in network().net.parameters())
    assert two.memory == one.memory + 4 * parameters  # the buckets by which gradients are exchanged
    assert two.to_come == 2 * (one.to_come + 4 * parameters)


def test_the_trial_leaves_no_trace() -> None:
    module, data = network(dropout=0.5), slices(4)
    module.eval()

    def held() -> list[object]:
        loader = data.train_dataloader()
        images = [loader.dataset[index].image.tolist() for index in range(2)]
        return [*(tensor.tolist() for tensor in module.state_dict().values()), list(loader.sampler), int(data.epoch), images]

    def draws() -> list[object]:
        return [torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state())]  # noqa: NPY002

    before, undrawn = held(), draws()
    measure_cost(module, data, trainer())
    assert draws() == undrawn
    assert held() == before
    assert not any(part.training for part in module.modules())
    assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.parametrize(
    ("batch_size", "train", "test", "epochs", "parts"),
    [
        (
            1,
            1,
            1,
            1,
            ["1 CPU rank (32-true)", "1 training, 2 validation, 1 test slice.", "is 1 step of 1 slice and", "; 1 epoch about"],
        ),
        (6, 6, None, 2, ["; 6 training, 2 validation slices.", "is 1 step of 6 slices and", "; 2 epochs about"]),
        (2, 5, 3, 1, ["5 training, 2 validation, 3 test slices.", "is 2 steps of 2 slices and"]),
        (8, 3, None, 1, ["is 1 step of 3 slices and"]),  # there are no more
    ],
)
def test_one_is_no_plural(batch_size: int, train: int, test: int | None, epochs: int, parts: list[str]) -> None:
    module, data, its_trainer = network(), slices(batch_size, train, test=test), trainer(max_epochs=epochs)
    said = describe_cost(measure_cost(module, data, its_trainer), module, data, its_trainer)
    for part in parts:
        assert part in said
    assert re.search(r"Training needs about [\d.]+ [MG]B of memory, [\d.]+ [MG]B of it slices\.$", said)


@pytest.mark.parametrize(
    ("limits", "end"),
    [
        ({}, "80 epochs about 8 min"),
        ({"max_steps": 90}, "15 epochs about 2 min"),
        ({"max_steps": 90, "accumulate_grad_batches": 2}, "30 epochs about 3 min"),
        ({"max_time": {"seconds": 62}}, "10 epochs about 62 s"),
    ],
)
def test_the_limit_that_comes_first_counts(limits: dict[str, int], end: str) -> None:
    module, data, its_trainer = network(), slices(2), trainer(max_epochs=80, **limits)
    cost = Cost(step_seconds=1.0, memory=1, slices=0, to_come=1, device="cpu")
    said = describe_cost(cost, module, data, its_trainer)
    assert f"An epoch is 6 steps of 2 slices and takes about 6 s; {end}." in said


@given(needed=st.integers(0, 10**13), free=st.integers(0, 10**13), kept=st.integers(0, 10**12))
def test_what_does_not_fit_is_said_with_a_remedy(needed: int, free: int, kept: int) -> None:
    cost = Cost(1.0, needed, kept, needed, "cpu")
    said = describe_shortage(cost, free)
    assert (said is None) == (needed <= free)
    assert describe_shortage(cost, None) is None
    if said is not None:
        assert "loader.batch_size" in said
        assert "preprocess.size" in said
        assert ("loader.cache=disk" in said) == (kept > 0)
        assert "loader.cache" not in str(describe_shortage(replace(cost, device="cuda"), free))  # slices are not there


def test_a_training_that_fits_is_not_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "lungseg"):
        say_cost(network(), slices(2), trainer())
    assert [record.levelname for record in caplog.records] == ["INFO"]


@pytest.mark.parametrize(
    ("known", "warned"),
    [({"avx2": True}, True), ({"avx512_bf16": True}, False), ({"amx_bf16": True}, False), ({"bf16": True}, False), ({}, False)],
)
def test_emulated_arithmetic_is_warned_of(
    known: dict[str, bool], warned: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    for precision in ("bf16-mixed", "32-true"):
        say_cost(network(), slices(2), trainer(precision=precision))
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(said) == int(warned)
    assert all("trainer.precision=32-true" in line for line in said)


@pytest.mark.skipif(not Path("/proc/meminfo").is_file(), reason="the system does not say what is free")
def test_what_is_free_is_less_than_there_is() -> None:
    free = free_memory(torch.device("cpu"))
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    assert free is not None
    assert total / 1000 < free < total


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (0.2, "1 s"), (89, "89 s"), (91, "2 min"), (1020, "17 min"), (8280, "2.3 h"), (302400, "3.5 days")],
)
def test_a_time_is_spoken_in_its_unit(seconds: float, words: str) -> None:
    assert spoken(seconds) == words


class AtOnce(TimeLeft):
    SECONDS, STEPS = 0.0, 2


def watched(epochs: int, console: Console, **arguments: object) -> str:
    """What a training of 4 steps an epoch shows."""
    with quiet_libraries(), messages(console):
        its_trainer = trainer(max_epochs=epochs, callbacks=[AtOnce(), Bar(console)], num_sanity_val_steps=0, **arguments)
        module, data = network(), slices(3, test=2)
        its_trainer.fit(module, datamodule=data)
        its_trainer.test(module, datamodule=data, verbose=False)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_time_left_is_said_once_when_the_pace_is_known() -> None:
    said = watched(3, Console(file=io.StringIO(), force_terminal=False))
    assert len(re.findall(r"^At the pace of the first 2 steps, the training ends in about \d+ s\.$", said, re.MULTILINE)) == 1
    assert said.count("At the pace") == 1


@pytest.mark.parametrize("limits", [{"epochs": 1, "max_steps": 3}, {"epochs": 9, "max_time": {"seconds": 0}}])
def test_a_training_that_is_over_before_has_no_time_left(limits: dict[str, int]) -> None:
    assert "At the pace" not in watched(console=Console(file=io.StringIO(), force_terminal=False), **limits)


def test_a_bar_is_seen_through_validation_and_test_and_keeps_lines_whole() -> None:
    shown = watched(2, Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None))
    plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown)
    assert re.search(r"epoch 1/2 \S* +\d/8 steps", plain)
    assert re.search(r"epoch 2/2, validation 1/1 \S* +8/8 steps", plain)
    assert re.search(r"test \S* +1/1 steps", plain)
    told = r"^At the pace of the first 2 steps, the training ends in about \d+ s\.$"
    assert re.search(told, plain.replace("\r", "\n"), re.MULTILINE)
    assert shown.rstrip().endswith("\x1b[2K")  # the bar leaves nothing behind
