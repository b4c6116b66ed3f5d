"""What every option of every config group must do: compose, and become the objects of a run."""

import inspect
import shutil
import signal
import threading
from copy import deepcopy
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from lungseg import config
from lungseg.cli import main
from lungseg.errors import UserError
from lungseg.files import from_home
from lungseg.training.arguments import OWN

FOLDER = Path(__file__).parents[2] / "configs"
OPTIONS = [(group, option) for group, options in config.groups().items() for option in options]
DATA = {
    "folder": ["data.root=somewhere"],
    "manifest": ["data.manifest=somewhere.csv"],
    "volumes": ["data.root=somewhere"],
    "phantom": [],
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
    if (group, option) == ("trainer", "gpu") and not torch.cuda.is_available():
        with pytest.raises(UserError, match=r"^trainer\.accelerator=gpu must be cpu or auto here: there is no GPU"):
            config.job(plain, "")
        return
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
    assert set(fields) == set(inspect.signature(pl.Trainer).parameters) - {*OWN, "max_epochs"}  # which comes with the data


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
        (
            "optimization",
            "learning_rate",
            r"did you mean optimization\.lr\? Known are lr, weight_decay, schedule, warmup, ema_decay\.$",
        ),
        ("optimization", "wd", r"did you mean optimization\.weight_decay"),
        ("trainer", "max_epoch", r"trainer\.max_epochs\? Nearest are max_epochs, \w+, \w+\.$"),
        ("logger", "name", r"logger\.names"),
        ("sweep", "resumed", r"sweep\.resume"),
    ],
)
def test_an_unknown_key_in_a_file_is_named_with_the_nearest(section: str, key: str, meant: str, plain: dict[str, Any]) -> None:
    """Hydra checks the command line only; a file may bring any key."""
    plain[section][key] = 1
    with pytest.raises(UserError, match=rf"{section}\.{key} is unknown: .*{meant}"):
        config.job(plain, "")


def test_a_section_that_is_unknown_or_holds_no_settings_is_named(plain: dict[str, Any]) -> None:
    for changed, said in (
        (
            {**plain, "optimisation": {"lr": 1}},
            r"^optimisation is unknown: did you mean optimization\? Known are data, model, loss, ",
        ),
        ({**plain, "loader": None}, r"^loader=null must hold settings"),
        ({**plain, "loss": 5}, r"^loss=5 must hold settings"),
        ({key: value for key, value in plain.items() if key != "seed"}, r"^seed is missing"),
        ({**plain, "logger": {}}, r"^logger\.names is needed"),
        ({**plain, "loss": {"_target_": "lungseg.losses.BCE", "smooth": 1}}, r"^loss\.smooth is unknown: loss has no settings"),
    ):
        with pytest.raises(UserError, match=said):
            config.job(changed, "")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("seed=abc", "seed=abc must be a whole number"),
        ("seed=-1", "seed=-1"),
        ("early_stopping=soon", "early_stopping=soon must be a whole number or null"),
        ("init_ckpt=5", "init_ckpt=5 must be a path or null"),
        ("test=sometimes", "test=sometimes must be one of best, always, never"),
        ("sweep.resume=5", r"sweep\.resume=5 must be true or false"),
        ("trainer.devices=null", r"trainer\.devices=null must be a list \(a whole number each\), text or a whole number"),
        ("trainer.max_time={hours: soon}", r"trainer\.max_time=.* must be text, a table \(a whole number each\) or null"),
        ("preprocess.size=128.5", r"preprocess\.size=128\.5 must be a whole number"),
        ("preprocess.percentiles=[a,b]", r"preprocess\.percentiles="),
        ("loader.batch_size=many", r"loader\.batch_size=many must be a whole number"),
        ("optimization.lr=fast", r"optimization\.lr=fast must be a number"),
        ("trainer.max_epochs=ten", r"trainer\.max_epochs=ten must be"),
        ("trainer.precision=half", r"trainer\.precision=half must be one of auto"),
        ("model.widths=64", r"model\.widths=64 must be a list"),
        ("loss.smooth=null", r"loss\.smooth=null must be a number"),
        ("data.train=true", r"data\.train=true must be a whole number"),
        ("augmentation.scale=[1]", r"augmentation\.scale=\[1\] must be a list of 2"),
        ("logger.names=csv", r"logger\.names=csv must be a list"),
        (
            "model._target_=os.system",
            r"model\._target_=os\.system is unknown: did you mean lungseg\.nets\.\w+\.\w+\? Known are .*ResUNet, .*UNet",
        ),
        ("loss._target_=os.system", r"loss\._target_=os\.system is unknown: .*lungseg\.losses\.DiceBCE"),
        ("loss._target_=lungseg.losses.Dise", r"loss\._target_=.* is unknown: did you mean lungseg\.losses\.Dice\?"),
        ("loss._target_=lungseg.losses.ImageLoss", r"loss\._target_=.* is unknown"),
        ("loss._target_=lungseg.data.augment.Augmentation", r"loss\._target_=.* is unknown"),
        (
            "data._target_=lungseg.data.sources.Source",
            r"data\._target_=.* is unknown: .*Known are \S+PhantomSource, \S+FolderSource",
        ),
    ],
)
def test_a_value_of_the_wrong_type_is_named(setting: str, said: str, plain: dict[str, Any]) -> None:
    name, _, value = setting.partition("=")
    *sections, key = name.split(".")
    reduce(getitem, sections, plain)[key] = yaml.safe_load(value)
    with pytest.raises(UserError, match=said):
        config.job(plain, "")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("limit_train_batches=1.5", r"limit_train_batches=1\.5 is refused by Lightning: .* in \[0\.0, 1\.0\] or an int"),
        ("strategy=nonsense", r"strategy=nonsense must be one of auto, ddp, ddp_find_unused_parameters_false"),
        ("accelerator=abacus", r"accelerator=abacus is refused by Lightning: .*auto, .*cpu"),
        ("max_time={hour: 1}", r"max_time=\{'hour': 1\} is refused by Lightning: 'hour'"),
        ("check_val_every_n_epoch=null", r"check_val_every_n_epoch=null is refused by Lightning: .*val_check_interval"),
        ("devices=0", "devices=0 must be at least 1"),
        ("min_epochs=9", r"min_epochs=9 must be at most trainer\.max_epochs=3"),
        ("barebones=true", "barebones=true must be false"),
    ],
)
def test_what_lightning_refuses_is_one_sentence_that_names_the_argument(setting: str, said: str, plain: dict[str, Any]) -> None:
    key, _, value = setting.partition("=")
    plain["trainer"] |= {"accelerator": "cpu", "val_check_interval": 0.5, key: yaml.safe_load(value)}
    with pytest.raises(UserError, match=rf"^trainer\.{said}") as refused:
        config.job(plain, "")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("key", OWN)
def test_what_a_run_sets_itself_is_nobodys_to_set(key: str, plain: dict[str, Any]) -> None:
    plain["trainer"][key] = None
    with pytest.raises(UserError, match=rf"^trainer\.{key} is set by the run itself: leave it out"):
        config.job(plain, "")


def test_a_check_leaves_nothing_behind(
    plain: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not a byte, a line, a thread, a signal handler or a switch of torch's, and no network as wide as it is asked for."""
    monkeypatch.chdir(tmp_path)
    plain["model"]["widths"] = [4096, 8192, 16384, 16384, 16384]  # 60 GB of weights
    plain["trainer"] |= {"accelerator": "cpu", "devices": 2, "strategy": "ddp", "deterministic": True, "profiler": "simple"}

    def state() -> tuple[Any, ...]:
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        return handlers, threading.active_count(), torch.are_deterministic_algorithms_enabled(), torch.get_rng_state().tolist()

    before = state()
    job = config.job(plain, "")
    assert job.net["widths"] == plain["model"]["widths"]
    assert state() == before
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("option", ["folder", "manifest", "volumes"])
def test_data_are_not_opened(option: str, tmp_path: Path) -> None:
    words = [f"data={option}", f"{DATA[option][0].partition('=')[0]}={tmp_path / 'nowhere'}"]
    assert config.job(composed(*words), "").source


def test_a_folder_of_the_users_own_configs_works_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``--config-dir``: its experiment wins over the defaults and over data=..., and the command line over both."""
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "my" / "experiment" / "mine.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text("# @package _global_\nseed: 5\ntrainer: {max_epochs: 7}\n", encoding="utf-8")
    words = ["train", "--config-dir", "my", "--cfg", "job", "experiment=mine", "data=folder", "data.root=somewhere"]
    assert main(words) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert (shown["seed"], shown["trainer"]["max_epochs"], shown["loader"]["batch_size"]) == (5, 7, 6)
    assert main([*words, "seed=6"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["seed"] == 6
    assert main(["train", "--config-dir", "yours", "--cfg", "job"]) == 2


@pytest.mark.parametrize("option", ["folder", "manifest", "volumes"])
def test_what_is_needed_is_asked_for(option: str) -> None:
    name = DATA[option][0].partition("=")[0]
    with pytest.raises(UserError, match=rf"{name} is needed: add {name}=\.\.\. to the command"):
        config.job(composed(f"data={option}"), "")


PARSER = OverridesParser.create()
# A text within quotes is taken as quoted by the user, and ~ is the home folder.
TEXTS = st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), min_size=1)


def _is_unquoted(text: str) -> bool:
    # `???` is Hydra's for a value that is still to be given.
    return text not in ("null", "???") and text[0] != "~" and not (len(text) > 1 and text[0] == text[-1] and text[0] in "'\"")


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
