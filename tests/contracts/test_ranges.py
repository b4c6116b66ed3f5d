"""What every setting must do: refuse what makes no sense, in one sentence that begins with its name.

The settings are found by listing the files, so that a new one without a law here fails.
"""

import math
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from builders import ChestCase
from lungseg import config
from lungseg.data.augment import Augmentation
from lungseg.data.datamodule import Loader, LungDataModule
from lungseg.data.split import Split
from lungseg.errors import UserError
from lungseg.preprocess import Preprocess
from lungseg.training.arguments import STRATEGIES, check_batches
from lungseg.training.trainer import quiet_libraries

FOLDER = config.config_folder()
PROBABILITIES = ("half_turn", "flip_horizontal", "flip_vertical", "elastic", "window", "gamma", "clahe", "noise", "blur")
WEIGHTS = ("dice_weight", "bce_weight", "focal_weight", "alpha", "beta", "gamma")
BATCHES = ("limit_train_batches", "limit_val_batches", "limit_test_batches", "limit_predict_batches")

# Values of the right type, or nearly, that each setting refuses. A value of another kind altogether, and for a yes or no anything
# but these two, are refused everywhere and stand in no table.
REFUSED: dict[str, tuple[Any, ...]] = {
    "seed": (-1, 2**32),
    "early_stopping": (0, -1, 1.5),
    "test": ("sometimes", True),
    "data._target_": ("os.system", "lungseg.data.split.Split", "lungseg.data.sources.Source"),
    "data.train": (0, -1, 3_000_001),
    "data.val": (0, -1),
    "data.test": (-1,),
    "data.size": (31, -128, 5000),
    "data.seed": (-1,),
    "data.root": ("",),
    "data.manifest": ("",),
    "data.balance": ("patient", ""),
    "data.patient_regex": ("(", "", "a{99999999999}"),
    "data.mask_values": ([], [math.nan], ["lung"], 1),
    "data.ignore_values": ([math.inf], ["none"], None),
    "data.val_fraction": (0, 1, -0.1, math.nan),
    "data.val_patients": ([], "p01"),
    "data.split_seed": (-1,),
    "data.folds": (0, 1, -5, 2.5),
    "data.fold": (-1, 5, 0.5),
    "model._target_": ("os.system", "lungseg.nets.blocks.EncoderDecoder", "ResUNet"),
    "model.in_channels": (0, 3),
    "model.out_channels": (0, 2),
    "model.widths": ([], [16], [16, 0], [16, -8], [16, 1.5], [8] * 11, [16, 2**20]),
    "model.norm": ("layer", ""),
    "model.down": ("max", ""),
    "model.dropout": (1, -0.1, math.nan),
    "loss._target_": ("os.system", "lungseg.losses.ImageLoss", "lungseg.losses.check_weights"),
    "loss.smooth": (0, -1, math.inf, math.nan),
    **{f"loss.{key}": (-1, math.inf, math.nan) for key in WEIGHTS},
    "augmentation._target_": ("os.system", "lungseg.preprocess.Preprocess"),
    **{f"augmentation.{key}": (-0.1, 1.1, math.nan) for key in PROBABILITIES},
    "augmentation.rotation_deg": (-5, 181, math.nan),
    "augmentation.scale": ([1.35, 0.65], [0, 1], [-1, 1], [1, 11], [math.nan, 1], [1], [1, 1, 1]),
    "augmentation.aspect": (0, 0.9, 4.1, math.nan),
    "augmentation.shift": (-0.1, 1.1, math.nan),
    "augmentation.window_width_hu": ([3000, 400], [0, 400], [400, math.inf]),
    "augmentation.window_level_hu": ([50, -700], [-math.inf, 0], [math.nan, 0]),
    "augmentation.hu_scale": ([1.2, 0.8], [0, 1], [1, math.inf]),
    "augmentation.hu_offset": (-50, math.inf, math.nan),
    "preprocess.size": (15, -192, 4097, 100_000_000),
    "preprocess.normalisation": ("zscore", ""),
    "preprocess.percentiles": ([99.5, 0.5], [1, 1], [-1, 99], [1, 101], [math.nan, 99], [1]),
    "preprocess.window_hu": ([400, -1000], [0, 0], [-math.inf, 400], [-1000]),
    "loader.batch_size": (0, -6, 1.5),
    "loader.num_workers": (-1, 257),
    "loader.cache": ("ram", ""),
    "loader.cache_folder": ("",),
    "optimization.lr": (0, -1, 1.1, math.nan, math.inf),
    "optimization.weight_decay": (-1, math.nan, math.inf),
    "optimization.schedule": ("step", ""),
    "optimization.warmup": (-0.1, 1, math.nan),
    "optimization.ema_decay": (0, 1, -0.5, math.nan),
    "logger.names": (["paper"], "csv"),
    "trainer.accelerator": ("abacus", ""),
    "trainer.strategy": ("nonsense", "", "ddp_spawn", "ddp_fork", "ddp_notebook", "fsdp", "deepspeed", "single_device"),
    "trainer.devices": (0, -2, [], "two"),
    "trainer.num_nodes": (0, 2),
    "trainer.precision": ("half", "64-true", "16-mixed", None),
    "trainer.fast_dev_run": (-1, 0.5),
    "trainer.max_epochs": (-1, 1.5, None, True),
    "trainer.min_epochs": (-1, 4),
    "trainer.max_steps": (-2, 1.5, None),
    "trainer.min_steps": (-1, 1.5),
    "trainer.max_time": ("soon", "00:00:00:00", {"hours": 0}, {"hours": -1}, {"hour": 1}),
    **{f"trainer.{key}": (-1, 1.5, math.nan) for key in BATCHES},
    "trainer.val_check_interval": (0, -1, 1.5, "1:2", {"hours": 0}),
    "trainer.check_val_every_n_epoch": (0, -1, 1.5),
    "trainer.num_sanity_val_steps": (-2, 1.5),
    "trainer.log_every_n_steps": (-1, 1.5),
    "trainer.accumulate_grad_batches": (0, -1, None),
    "trainer.gradient_clip_val": (-1, math.inf, math.nan),
    "trainer.gradient_clip_algorithm": ("shears", ""),
    "trainer.deterministic": ("sometimes", 2),
    "trainer.benchmark": ("yes", 2),
    "trainer.profiler": ("stopwatch",),
    "trainer.reload_dataloaders_every_n_epochs": (-1, 1.5, 1),
    "trainer.overfit_batches": (-1, 1.5, math.nan, 1, 0.5),
    "trainer.sync_batchnorm": (True, "yes", 2),
}

# Settings of which every value of their type is allowed, and why.
ANYTHING = {
    "init_ckpt": "a path; what lies there is seen when it is read",
    "ckpt_path": "a path; what lies there is seen when it is read",
    "trainer.model_registry": "a name that only the registry itself knows",
}


def dotted(content: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings with their dotted names."""
    for key, value in content.items():
        if isinstance(value, dict) and value:
            yield from dotted(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def read(path: Path) -> dict[str, Any]:
    """What a file sets, by section."""
    content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    assert isinstance(content, dict)
    content = {key: value for key, value in content.items() if key not in ("defaults", "hydra")}
    is_global = path.parent == FOLDER or path.read_text(encoding="utf-8").startswith("# @package _global_")
    return content if is_global else {path.parent.name: content}


def settings() -> list[tuple[str, Path]]:
    """Every setting with a file that has it: of a class that several files name once, of each class that has such a setting."""
    found: dict[tuple[str, Any], Path] = {}
    for path in sorted(FOLDER.rglob("*.yaml")):
        content = read(path)
        for name, _ in dotted(content):
            section = content[name.partition(".")[0]]
            target = section.get("_target_") if isinstance(section, dict) else None
            found.setdefault((name, target), path)
    return [(name, path) for (name, _), path in found.items()]


SETTINGS = settings()


@pytest.fixture(scope="module")
def default() -> dict[str, Any]:
    with initialize_config_dir(version_base="1.3", config_dir=str(FOLDER)):
        plain = OmegaConf.to_container(compose("config", overrides=["model.widths=[4,8]"]), resolve=True)
    assert isinstance(plain, dict)
    # Enough of a Trainer, so that a fault in one argument is found at once.
    return plain | {"trainer": {"accelerator": "cpu", "max_epochs": 3}}


@pytest.mark.parametrize(("name", "path"), SETTINGS, ids=[f"{name}-{path.stem}" for name, path in SETTINGS])
def test_a_setting_refuses_what_makes_no_sense(name: str, path: Path, default: dict[str, Any]) -> None:
    section, _, key = name.rpartition(".")
    content = read(path)
    plain = deepcopy(default)
    if section and "_target_" in content[section]:
        needed = {"root": "somewhere", "manifest": "somewhere.csv"}
        given = {one: needed[one] if value == "???" else value for one, value in content[section].items()}
        plain[section] = given | ({"root": "somewhere"} if "root" in given else {})  # which may be null, with a manifest
    config.job(plain, "")
    value = dict(dotted(content))[name]
    wrong = REFUSED.get(name, ("yes", 2) if isinstance(value, bool) else ())
    assert wrong or name in ANYTHING, f"{name} has no range: give its constructor one, and this table what it refuses"
    for value in (*wrong, {"what": "ever"}):
        (plain[section] if section else plain)[key] = value
        with pytest.raises(UserError) as refused:
            config.job(plain, "")
        said = str(refused.value)
        assert said.startswith((f"{name}=", f"{name} ")), said
        assert any(word in said for word in (" must ", " is unknown: ", " is refused by Lightning: ", " is no regular ")), said
        assert "\n" not in said


@pytest.fixture(scope="module")
def data() -> LungDataModule:
    """Six batches for training, three for validation, three for test."""
    parts = [tuple(ChestCase(f"{part}{i}") for i in range(count)) for part, count in (("train", 12), ("val", 5), ("test", 6))]
    data = LungDataModule(Split(*parts), Preprocess(size=16), Augmentation(), Loader(batch_size=2))
    data.setup("fit")
    data.setup("test")
    return data


def trainer(**arguments: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    with quiet_libraries():
        return pl.Trainer(accelerator="cpu", max_epochs=1, **quiet, **arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"limit_train_batches": 0.1}, r"limit_train_batches=0\.1 must leave at least one batch out of 6: "),
        ({"limit_val_batches": 0.3}, r"limit_val_batches=0\.3 must leave at least one batch out of 3: "),
        ({"limit_test_batches": 0.01}, r"limit_test_batches=0\.01 must leave at least one batch out of 3: "),
        ({"val_check_interval": 1000}, r"val_check_interval=1000 must be at most 6, the batches of an epoch; "),
        ({"val_check_interval": 3, "limit_train_batches": 2}, r"val_check_interval=3 must be at most 2, "),
    ],
)
def test_settings_that_leave_no_batch_are_refused(arguments: dict[str, Any], said: str, data: LungDataModule) -> None:
    with pytest.raises(UserError, match=rf"^trainer\.{said}"):
        check_batches(trainer(**arguments), data)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"limit_train_batches": 0.2, "limit_val_batches": 0.34, "limit_test_batches": 1},
        {"limit_train_batches": 0, "limit_val_batches": 0.0, "limit_test_batches": 0},
        {"val_check_interval": 6},
        {"val_check_interval": "00:00:01:00"},
        {"val_check_interval": 1000, "check_val_every_n_epoch": None},
        {"val_check_interval": 1000, "limit_val_batches": 0},
        {"val_check_interval": 1000, "limit_val_batches": 0.01, "fast_dev_run": True},
    ],
    ids=str,
)
def test_settings_that_leave_a_batch_are_taken(arguments: dict[str, Any], data: LungDataModule) -> None:
    check_batches(trainer(**arguments), data)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_that_is_named_is_taken(strategy: str, default: dict[str, Any]) -> None:
    config.job({**default, "trainer": {**default["trainer"], "strategy": strategy, "devices": 2}}, "")


def test_the_tables_hold_settings_only() -> None:
    assert {*REFUSED, *ANYTHING} <= {name for name, _ in SETTINGS}
    assert not set(REFUSED) & set(ANYTHING)
