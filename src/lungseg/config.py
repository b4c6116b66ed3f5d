"""Configs: where they lie, what the command line may say, and how plain values become the objects of a run."""

import inspect
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lungseg.errors import UserError
from lungseg.files import from_home
from lungseg.signatures import call, check, nearest, shown

if TYPE_CHECKING:
    from lungseg.training.job import Job

# Values of these keys are taken as they are typed: paths and patterns hold spaces, commas, brackets and equals signs, all of which
# mean something to Hydra.
LITERAL_KEYS = (
    "data.root",
    "data.manifest",
    "data.patient_regex",
    "loader.cache_folder",
    "init_ckpt",
    "ckpt_path",
    "hydra.run.dir",
    "hydra.sweep.dir",
)

# What a config is made of: sections of settings, and single settings.
GROUPS = ("data", "model", "loss", "augmentation", "preprocess", "loader", "optimization", "trainer", "logger", "sweep")
VALUES = ("seed", "early_stopping", "init_ckpt", "ckpt_path", "test")


@dataclass(frozen=True)
class Curves:
    """The section ``logger``."""

    names: Sequence[str]


@dataclass(frozen=True)
class Sweep:
    """The section ``sweep``."""

    resume: bool = False


def config_folder() -> Path:
    """The folder of configs: in a checkout the one at its top, so that an edit counts at once; else the one in the package."""
    package = Path(__file__).resolve().parent
    checkout = package.parents[1] / "configs"
    if (checkout / "config.yaml").is_file() and (package.parents[1] / "pyproject.toml").is_file():
        return checkout
    return package / "configs"


def groups() -> dict[str, list[str]]:
    """Every config group with its options."""
    return {
        folder.name: sorted(file.stem for file in folder.glob("*.yaml") if not file.stem.startswith("_"))
        for folder in sorted(config_folder().iterdir())
        if folder.is_dir()
    }


def quoted(override: str) -> str:
    """An override whose literal value Hydra will hand through unchanged; quoted ones and other keys stay as they are."""
    key, equals, value = override.partition("=")
    is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    if not equals or key not in LITERAL_KEYS or is_quoted or value in ("", "null"):
        return override
    if key != "data.patient_regex":
        value = str(from_home(value)) if value.startswith("~") else value
    if not key.startswith("hydra."):  # where ${now:...} is meant
        value = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)  # a quote, and the backslashes before it
    escaped = re.sub(r"(\\+)$", r"\1\1", escaped)
    return f"{key}='{escaped}'"


def build(section: Mapping[str, Any], where: str, base: type, also: Sequence[type] = ()) -> Any:
    """The object that ``_target_`` names, made from the other keys.

    Args:
        base: what the object must be; any class beside it, in its own module, may be named.
        also: those of other modules that may.

    Raises:
        UserError: the target is no such class, or a key is unknown to its signature or missing.
    """
    beside = [thing for thing in vars(sys.modules[base.__module__]).values() if inspect.isclass(thing) and issubclass(thing, base)]
    factory = _target(section, where, [*(thing for thing in beside if not inspect.isabstract(thing)), *also])
    return call(factory, _arguments(section), where)


def _target(section: Mapping[str, Any], where: str, factories: Iterable[Any]) -> Any:
    """The factory that ``_target_`` names: one of these, never what else could be imported by a name in a file."""
    known = {f"{factory.__module__}.{factory.__qualname__}": factory for factory in factories}
    target = section.get("_target_")
    if not isinstance(target, str) or target not in known:
        raise UserError(f"{where}._target_={shown(target)} is unknown: {nearest(str(target), known, '')}")
    return known[target]


def _arguments(section: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in section.items() if key != "_target_"}


def job(config: Mapping[str, Any], command: str) -> "Job":
    """The run that a resolved config describes; nothing of it is opened, written or started yet.

    Raises:
        UserError: something in the config is unknown or out of range.
    """
    import torch

    from lungseg.checkpoint import NETS, build_net
    from lungseg.data.augment import Augmentation
    from lungseg.data.datamodule import Loader
    from lungseg.data.sources import Source
    from lungseg.data.volumes import VolumeSource
    from lungseg.losses import ImageLoss
    from lungseg.preprocess import Preprocess
    from lungseg.training.arguments import check_arguments
    from lungseg.training.job import Job
    from lungseg.training.module import Optimization
    from lungseg.training.trainer import LOGGERS

    _check_sections(config)
    check(Job, {key: config[key] for key in VALUES}, "")
    factory = _target(config["model"], "model", NETS.values())
    net = {"class": factory.__name__, **_arguments(config["model"])}
    check(factory, _arguments(config["model"]), "model")
    for key in ("in_channels", "out_channels"):
        if net.get(key, 1) != 1:
            raise UserError(f"model.{key}={net[key]} must be 1: slices are grey, and lung is the one class.")
    curves = call(Curves, config["logger"], "logger")
    for name in curves.names:
        if name not in LOGGERS:
            raise UserError(f"logger.names={shown(list(curves.names))} must be some of {', '.join(LOGGERS)}.")
    call(Sweep, config["sweep"], "sweep")
    start = _path(config["init_ckpt"])
    if start is not None and not start.is_file():
        raise UserError(f"init_ckpt={start} is no file: give the best.ckpt of a run.")
    described = Job(
        source=build(config["data"], "data", Source, also=[VolumeSource]),
        net=net,
        loss=build(config["loss"], "loss", ImageLoss),
        augmentation=build(config["augmentation"], "augmentation", Augmentation),
        preprocess=call(Preprocess, config["preprocess"], "preprocess"),
        loader=call(Loader, config["loader"], "loader"),
        optimization=call(Optimization, config["optimization"], "optimization"),
        trainer=config["trainer"],
        logger=tuple(curves.names),
        seed=config["seed"],
        early_stopping=config["early_stopping"],
        init_ckpt=start,
        ckpt_path=_path(config["ckpt_path"]),
        test=config["test"],
        config=config,
        command=command,
    )
    with torch.device("meta"):  # takes no memory, however wide it is
        build_net(net)
    check_arguments(config["trainer"])
    if config["early_stopping"] is not None and config["trainer"].get("limit_val_batches") == 0:
        raise UserError("early_stopping needs validation, which trainer.limit_val_batches=0 turns off.")
    return described


def _check_sections(config: Mapping[str, Any]) -> None:
    if "experiment" in config:
        raise UserError("experiment holds settings where none is looked for: begin its file with the line `# @package _global_`.")
    for key in config:
        if key not in GROUPS + VALUES:
            raise UserError(f"{key} is unknown: {nearest(str(key), GROUPS + VALUES, '')}")
    for key in GROUPS + VALUES:
        if key not in config:
            raise UserError(f"{key} is missing: `lungseg train --cfg job` without your own settings shows what belongs there.")
        if key in GROUPS and not isinstance(config[key], Mapping):
            raise UserError(f"{key}={shown(config[key])} must hold settings, as `lungseg train --cfg job` shows.")


def _path(text: str | None) -> Path | None:
    return None if text is None else from_home(text)
