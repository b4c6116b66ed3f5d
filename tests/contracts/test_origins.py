"""What a refused setting must be told with: the command line, or the file that set it last."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from lungseg import config
from lungseg.errors import UserError
from lungseg.origins import located


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An experiment file of the user's own, beside the working folder of the run: ``my/experiment/mine.yaml``."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "my" / "experiment" / "mine.yaml"
    path.parent.mkdir(parents=True)
    return path


def refused(*overrides: str) -> str:
    """What the check says of a command, with where it came from."""
    words = [config.quoted(override) for override in overrides]
    with initialize_config_dir(version_base="1.3", config_dir=str(config.config_folder())):
        plain = OmegaConf.to_container(compose("config", overrides=words), resolve=True)
        assert isinstance(plain, dict)
        with pytest.raises(UserError) as error:
            config.job(plain, "")
        said = str(located(error.value, words))
    assert "\n" not in said
    return said


IN_A_FILE = [
    (
        "optimization: {learning_rate: 1e-3}",
        "optimization.learning_rate is unknown: did you mean optimization.lr? "
        "Known are lr, weight_decay, schedule, warmup, ema_decay.",
    ),
    ("optimisation: {lr: 1e-3}", "optimisation is unknown: did you mean optimization? Known are data, model, "),
    ("loader: {cache: ram}", "loader.cache=ram must be one of memory, disk."),
    ("loader: null", "loader=null must hold settings"),
    ("optimization: {lr: fast}", "optimization.lr=fast must be a number."),
    ("trainer: {limit_val_batches: 1.5}", "trainer.limit_val_batches=1.5 is refused by Lightning: "),
    ("trainer: {acelerator: cpu}", "trainer.acelerator is unknown: did you mean trainer.accelerator? Nearest are accelerator, "),
]


@pytest.mark.parametrize(("content", "said"), IN_A_FILE, ids=[content for content, _ in IN_A_FILE])
def test_what_a_file_gets_wrong_is_said_with_its_name(content: str, said: str, mine: Path) -> None:
    mine.write_text(f"# @package _global_\n{content}\n", encoding="utf-8")
    assert refused(f"hydra.searchpath=[file://{mine.parents[1]}]", "experiment=mine").startswith(f"my/experiment/mine.yaml: {said}")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["loss=focal_dice", "loss.gamma=-1"], "the command line: loss.gamma=-1 must be 0 or more"),
        (["+loss.smoth=1"], "the command line: loss.smoth is unknown: did you mean loss.smooth?"),
        (["optimization={lr: -1}"], "the command line: optimization.lr=-1 must be above 0"),
        (["experiment=mine", "seed=-2"], "the command line: seed=-2 must"),
        (["experiment=mine", "loss=dice"], "my/experiment/mine.yaml: seed=-1 must"),
        (["data=folder"], "data.root is needed: add data.root=... to the command."),
        (["~loader"], "the command line: loader is missing"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_last_word_is_named(words: list[str], said: str, mine: Path) -> None:
    mine.write_text("# @package _global_\nseed: -1\n", encoding="utf-8")
    assert refused(f"hydra.searchpath=[file://{mine.parents[1]}]", *words).startswith(said)


def test_a_group_of_the_users_own_is_named_by_its_last_file(mine: Path) -> None:
    """A file that builds on another is read after it; one in no package of its own sets keys of its group."""
    group = mine.parents[1] / "optimization"
    group.mkdir()
    (group / "base.yaml").write_text("lr: -1\nwarmup: 7\n", encoding="utf-8")
    (group / "slow.yaml").write_text("defaults: [base]\nlr: -2\n", encoding="utf-8")
    words = f"hydra.searchpath=[file://{mine.parents[1]}]", "+optimization=slow"
    assert refused(*words).startswith("my/optimization/slow.yaml: optimization.lr=-2 must")
    assert refused(*words, "optimization.lr=1e-3").startswith("my/optimization/base.yaml: optimization.warmup=7 must")


def test_an_experiment_that_forgets_its_first_line_is_told_so(mine: Path) -> None:
    mine.write_text("seed: 5\n", encoding="utf-8")
    said = refused(f"hydra.searchpath=[file://{mine.parents[1]}]", "experiment=mine")
    assert said.startswith("my/experiment/mine.yaml: experiment holds settings where none is looked for")
    assert "`# @package _global_`" in said


def test_a_sentence_about_no_setting_stays_as_it_is() -> None:
    with initialize_config_dir(version_base="1.3", config_dir=str(config.config_folder())):
        for said in ("there is only one patient", "", "= is odd"):
            assert str(located(UserError(said), ["seed=1"])) == said


def test_a_file_elsewhere_is_named_with_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with initialize_config_dir(version_base="1.3", config_dir=str(config.config_folder())):
        said = str(located(UserError("trainer.accelerator=gpu is not here"), ["trainer=gpu"]))
    assert said == f"{config.config_folder() / 'trainer' / 'gpu.yaml'}: trainer.accelerator=gpu is not here"
