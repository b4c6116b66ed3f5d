"""What every option of every config group must do: compose, and become the objects of a run."""

import inspect
import shutil
from copy import deepcopy
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from lungseg import config
from lungseg.errors import UserError
from lungseg.files import from_home

FOLDER = Path(__file__).parents[2] / "configs"
OPTIONS = [(group, option) for group, options in config.groups().items() for option in options]
DATA = {"folder": ["data.root=somewhere"], "manifest": ["data.manifest=somewhere.csv"], "phantom": []}
# What a run decides by itself, and max_epochs, which comes with the data.
OURS = {
    "logger",
    "callbacks",
    "enable_checkpointing",
    "enable_model_summary",
    "use_distributed_sampler",
    "plugins",
    "default_root_dir",
    "max_epochs",
}


def composed(*overrides: str) -> dict[str, Any]:
    """The resolved config, as plain values, of a command."""
    with initialize_config_dir(version_base="1.3", config_dir=str(config.config_folder())):
        content = compose("config", overrides=[config.quoted(text) for text in overrides])
    plain = OmegaConf.to_container(content, resolve=True)
    assert isinstance(plain, dict)
    return plain


@pytest.fixture(scope="module")
def default() -> dict[str, Any]:
    return composed()


@pytest.fixture
def plain(default: dict[str, Any]) -> dict[str, Any]:
    """The default config, to be changed as a file of the user's might change it."""
    return deepcopy(default)


def test_the_folder_of_a_checkout_is_found() -> None:
    assert config.config_folder() == FOLDER


def test_groups_are_the_folders_with_their_files() -> None:
    assert {"model", "data", "loss", "augmentation", "trainer", "logger", "experiment"} == set(config.groups())
    for group, options in config.groups().items():
        assert options == sorted(path.stem for path in (FOLDER / group).iterdir())


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_becomes_a_run(group: str, option: str) -> None:
    plain = composed(f"{group}={option}", *(DATA[option] if group == "data" else []))
    job = config.job(plain, command="as typed")
    assert job.config is plain
    assert (job.seed, job.command) == (0, "as typed")
    chosen = yaml.safe_load((FOLDER / group / f"{option}.yaml").read_text(encoding="utf-8"))
    wanted = chosen.get("data", chosen).get("_target_", "")
    part = {"data": job.source, "loss": job.loss, "augmentation": job.augmentation}.get(group)
    assert part is None or f"{type(part).__module__}.{type(part).__qualname__}" == wanted


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.yaml")), ids=lambda path: path.relative_to(FOLDER).as_posix())
def test_every_file_says_in_its_first_line_what_it_is_for(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    said = lines[1] if lines[0].startswith("# @package") else lines[0]
    assert said.startswith("# ")
    assert len(said) > 20


def test_every_field_of_the_trainer_can_be_set_by_name() -> None:
    fields = yaml.safe_load((FOLDER / "trainer" / "auto.yaml").read_text(encoding="utf-8"))
    assert set(fields) == set(inspect.signature(pl.Trainer).parameters) - OURS


def test_an_experiment_wins_over_everything() -> None:
    plain = composed("experiment=quick", "data=folder", "data.root=somewhere")
    assert plain["trainer"]["max_epochs"] == 10
    assert plain["preprocess"]["size"] == 128
    assert composed("experiment=quick", "trainer.max_epochs=3")["trainer"]["max_epochs"] == 3


@pytest.mark.parametrize(
    ("section", "key", "meant"),
    [
        ("data", "sise", r"data\.size"),
        ("model", "width", r"model\.widths"),
        ("loss", "dice_wieght", r"loss\.dice_weight"),
        ("augmentation", "flip_horizonal", r"augmentation\.flip_horizontal"),
        ("preprocess", "normalization", r"preprocess\.normalisation"),
        ("loader", "batchsize", r"loader\.batch_size"),
        ("optimization", "learning_rate", r"known are lr, weight_decay"),
        ("trainer", "max_epoch", r"trainer\.max_epochs"),
    ],
)
def test_an_unknown_key_in_a_file_is_named_with_the_nearest(section: str, key: str, meant: str, plain: dict[str, Any]) -> None:
    """Hydra checks the command line only; a file may bring any key."""
    plain[section][key] = 1
    with pytest.raises(UserError, match=rf"{section}\.{key} is unknown: .*{meant}"):
        config.job(plain, "")


def test_an_unknown_section_in_a_file_is_named_with_the_nearest(plain: dict[str, Any]) -> None:
    for added, said in (
        ({"optimisation": {"lr": 1}}, r"^optimisation is unknown: did you mean optimization\?"),
        ({"logger": {"name": ["csv"]}}, r"^logger\.name is unknown: did you mean logger\.names\?"),
    ):
        with pytest.raises(UserError, match=said):
            config.job({**plain, **added}, "")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("seed=abc", "seed=abc must be a whole number"),
        ("seed=-1", "seed=-1"),
        ("early_stopping=soon", "early_stopping=soon must be"),
        ("preprocess.size=128.5", r"preprocess\.size=128\.5 must be a whole number"),
        ("preprocess.percentiles=[a,b]", r"preprocess\.percentiles="),
        ("loader.batch_size=many", r"loader\.batch_size=many must be a whole number"),
        ("optimization.lr=fast", r"optimization\.lr=fast must be a number"),
        ("trainer.max_epochs=ten", r"trainer\.max_epochs=ten must be"),
        ("trainer.precision=half", r"trainer\.precision=half is not supported: use one of auto"),
        ("model.widths=64", r"model\.widths=64 must be a list"),
        ("loss.smooth=null", r"loss\.smooth=null must be a number"),
        ("data.train=true", r"data\.train=True must be a whole number"),
        ("augmentation.scale=[1]", r"augmentation\.scale=\[1\] must be a list of 2"),
        ("logger.names=csv", "logger=csv must be a list"),
        ("model._target_=os.system", r"model\._target_ must name one of ResUNet, UNet"),
        ("loss._target_=os.system", r"loss\._target_='os\.system' is no class of lungseg"),
        ("loss._target_=lungseg.losses.Nothing", r"loss\._target_=.*does not exist"),
        ("loss._target_=lungseg.nothing.Dice", r"loss\._target_=.*does not exist"),
    ],
)
def test_a_value_of_the_wrong_type_is_named(setting: str, said: str, plain: dict[str, Any]) -> None:
    name, _, value = setting.partition("=")
    *sections, key = name.split(".")
    reduce(getitem, sections, plain)[key] = yaml.safe_load(value)
    with pytest.raises(UserError, match=said):
        config.job(plain, "")


@pytest.mark.parametrize("option", ["folder", "manifest"])
def test_what_is_needed_is_asked_for(option: str) -> None:
    name = DATA[option][0].partition("=")[0]
    with pytest.raises(UserError, match=rf"{name} is needed: add {name}=\.\.\. to the command"):
        config.job(composed(f"data={option}"), "")


PARSER = OverridesParser.create()
# A text within quotes is taken as quoted by the user, and ~ is the home folder.
TEXTS = st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), min_size=1)


def _is_unquoted(text: str) -> bool:
    return text != "null" and text[0] != "~" and not (len(text) > 1 and text[0] == text[-1] and text[0] in "'\"")


PATHS = st.text("ab /\\'\"[](){},=:~#%$ä.*?!@&|<>;+-", min_size=1, max_size=12)


@settings(deadline=None, max_examples=200)
@given(text=(TEXTS | PATHS).filter(_is_unquoted), key=st.sampled_from(config.LITERAL_KEYS))
@example(text=r"C:\data\'", key="data.root")
@example(text=r"ID_(\d+)_[a,b]{1,2}=\\", key="data.patient_regex")
@example(text="1e3", key="data.root")
@example(text="true", key="data.root")
@example(text="[a,b]", key="init_ckpt")
@example(text=" p 1 ", key="data.manifest")
def test_a_path_reaches_the_run_as_it_was_typed(text: str, key: str) -> None:
    override = PARSER.parse_override(config.quoted(f"{key}={text}"))
    assert override.key_or_group == key
    value = override.value()
    # Hydra's own folders keep their ${now:...}; elsewhere OmegaConf reads the value once more.
    assert (value if key.startswith("hydra.") else OmegaConf.create({"value": value})["value"]) == text
    assert not override.is_sweep_override()


@pytest.mark.parametrize(
    "text", ["/a b/c,d=e/[f]/ü'x", "~/x", r"\\server\share" + "\\", "/a${b}c", r"/a\${b}", "'half", "~nobody-here/x"]
)
def test_a_literal_path_survives_composition(text: str) -> None:
    assert composed("data=folder", f"data.root={text}")["data"]["root"] == str(from_home(text))


@pytest.mark.parametrize("override", ["seed=1,2", "data.root='a b'", 'data.root="a b"', "data.root=", "ckpt_path=null", "-m"])
def test_everything_else_is_left_to_hydra(override: str) -> None:
    assert config.quoted(override) == override


def test_an_installed_package_has_its_own_configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "site-packages" / "lungseg"
    shutil.copytree(FOLDER, installed / "configs")
    monkeypatch.setattr(config, "__file__", str(installed / "config.py"))
    assert config.config_folder() == installed / "configs"
    assert [(group, option) for group, options in config.groups().items() for option in options] == OPTIONS
