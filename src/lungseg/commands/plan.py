"""What the jobs of a sweep will be: Hydra is asked, and stopped before it makes any of them."""

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, cast

from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from lungseg.commands.compose import plain, sentence, through_hydra
from lungseg.config import job
from lungseg.errors import UserError
from lungseg.origins import located

# Of Hydra's shuffled choices, so that a sweep that is gone on with has the same jobs under the same numbers.
SHUFFLE_SEED = 0


@dataclass(frozen=True)
class Planned:
    """A job of a sweep before it has run.

    Attributes:
        place: its folder, seen from the sweep's.
        words: its values of what the sweep varies.
        config: resolved and checked.
    """

    number: int
    place: str
    words: tuple[str, ...]
    config: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """A sweep before it has run; ``chosen`` if its folder was named, and not made up of the time."""

    folder: Path
    chosen: bool
    jobs: tuple[Planned, ...]

    @property
    def resumes(self) -> bool:
        return any(one.config["sweep"]["resume"] for one in self.jobs)


def planned(words: Sequence[str]) -> Plan:
    """Asks Hydra what a sweep will be.

    Raises:
        UserError: one of the jobs cannot be composed, or not run.
    """
    random.seed(SHUFFLE_SEED)
    try:
        code = through_hydra([*words, f"+hydra.callbacks.lungseg_plan._target_={__name__}.Stop"], _never_called)
    except _Answer as answer:
        if isinstance(answer.value, Plan):
            return answer.value
        raise answer.value from None
    raise UserError(f"the sweep could not be planned: Hydra ended with {code}.")


def _never_called(_config: DictConfig) -> NoReturn:
    raise AssertionError("Hydra did not ask its callbacks")


class _Answer(BaseException):
    """Carries a plan, or what stood against it, past Hydra, which would turn an Exception of a callback into a warning."""

    def __init__(self, value: Plan | Exception) -> None:
        super().__init__()
        self.value = value


class Stop(Callback):
    """Called by Hydra between composing a sweep and running it, and goes no further."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> NoReturn:
        try:
            value: Plan | Exception = _plan(config)
        except Exception as error:
            value = error
        raise _Answer(value)


def _plan(config: DictConfig) -> Plan:
    """The folder of a sweep and its jobs, as Hydra's basic sweeper and launchers will make them, each checked."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser

    if not str(config.hydra.sweeper._target_).endswith(".BasicSweeper"):
        raise UserError("only Hydra's basic sweeper is supported: grids, choices and ranges, which can be checked beforehand.")
    if config.hydra.job.chdir:
        raise UserError("hydra.job.chdir=true must be false: paths are read from the folder in which you stand.")
    loader = GlobalHydra.instance().config_loader()
    typed = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)  # ``${seed}`` in a word is that of each job
    texts = [*(f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()), *cast(list[str], typed)]
    overrides = OverridesParser.create(config_loader=loader).parse_overrides(texts)
    last = {override.get_key_element(): override for override in overrides}  # which wins: a word over what an experiment sweeps
    swept = {key for key, override in last.items() if override.is_sweep_override()}
    folder = Path(str(config.hydra.sweep.dir)).resolve()
    (jobs,) = BasicSweeper.split_arguments(overrides, None)
    planned = []
    for number, words in enumerate(jobs):
        varied = tuple(word for word in words if word.partition("=")[0] in swept)
        try:
            composed = loader.load_sweep_config(config, words)
            place = os.path.relpath(_folder(composed, number), folder)
            settings = plain(OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"]))
            job(settings, "")
        except (UserError, HydraException) as error:
            why = located(error, words, config.hydra.job.config_name) if isinstance(error, UserError) else sentence(error, words)
            raise UserError(f"job {number} ({' '.join(varied)}) cannot run: {why} No job was started.") from error
        planned.append(Planned(number, place, varied, settings))
    if any(one.config["ckpt_path"] is not None for one in planned):
        raise UserError("ckpt_path goes on with a single run; the jobs of a sweep start anew, or go on by sweep.resume=true.")
    if len({one.place for one in planned}) < len(planned):
        raise UserError("hydra.sweep.subdir gives two jobs the same folder; leave it, or use ${hydra.job.num} in it.")
    chosen = any(word.startswith("hydra.sweep.dir=") for word in config.hydra.overrides.hydra)
    return Plan(folder, chosen, tuple(planned))


def _folder(composed: DictConfig, number: int) -> Path:
    """The folder that Hydra will give a job; from here on ``${hydra:...}`` speaks of this job."""
    from hydra.core.hydra_config import HydraConfig

    with open_dict(composed):
        composed.hydra.job.id = composed.hydra.job.num = number
    HydraConfig.instance().set_config(composed)
    folder = (Path(str(composed.hydra.sweep.dir)) / str(composed.hydra.sweep.subdir)).resolve()
    with read_write(composed.hydra.runtime), open_dict(composed.hydra.runtime):
        composed.hydra.runtime.output_dir = str(folder)
    return folder
