"""Configs: where they lie, what the command line may say, and how plain values become the objects of a run."""

import difflib
import importlib
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lungseg.errors import UserError

if TYPE_CHECKING:
    from lungseg.training.run import Job

# Values of these keys are taken as they are typed: paths and patterns hold spaces, commas, brackets and equals signs, all of which
# mean something to Hydra.
LITERAL_KEYS = ("data.root", "data.manifest", "data.patient_regex", "init_ckpt", "ckpt_path", "hydra.run.dir", "hydra.sweep.dir")


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
    if not equals or key not in LITERAL_KEYS or value[:1] in ("'", '"') or value in ("", "null"):
        return override
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)  # a quote, and the backslashes before it
    escaped = re.sub(r"(\\+)$", r"\1\1", escaped)
    return f"{key}='{escaped}'"


def build(section: Mapping[str, Any], where: str) -> Any:
    """The object that ``_target_`` names, made from the other keys.

    Raises:
        UserError: the target is not part of this package, or a key is unknown to its signature or missing.
    """
    target = str(section.get("_target_", ""))
    if not target.startswith("lungseg."):
        raise UserError(f"{where}._target_={target!r} is no class of lungseg.")
    module, _, name = target.rpartition(".")
    try:
        factory = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{where}._target_={target!r} does not exist ({error}).") from error
    return call(factory, {key: value for key, value in section.items() if key != "_target_"}, where)


def call(factory: Any, arguments: Mapping[str, Any], where: str) -> Any:
    """``factory(**arguments)``, with a sentence for a key that its signature does not know."""
    check_keys(factory, arguments, where)
    try:
        return factory(**arguments)
    except TypeError as error:
        raise UserError(f"{where} has a value of the wrong type: {error}.") from error


def check_keys(factory: Any, arguments: Mapping[str, Any], where: str) -> None:
    """Refuses keys that are not in a signature, and values still to be given."""
    known = list(inspect.signature(factory).parameters)
    for key, value in arguments.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {where}.{near[0]}?" if near else f"known are {', '.join(known)}."
            raise UserError(f"{where}.{key} is unknown: {hint}")
        if value == "???":
            raise UserError(f"{where}.{key} is needed: add {where}.{key}=... to the command.")


def job(config: Mapping[str, Any], command: str) -> "Job":
    """The run that a resolved config describes.

    Raises:
        UserError: something in the config is unknown or out of range.
    """
    import pytorch_lightning as pl

    from lungseg.checkpoint import NETS, build_net
    from lungseg.data.datamodule import Loader
    from lungseg.preprocess import Preprocess
    from lungseg.training.module import Optimization
    from lungseg.training.run import Job

    name = str(config["model"].get("_target_", "")).rpartition(".")[2]
    if name not in NETS:
        raise UserError(f"model._target_ must name one of {', '.join(NETS)}.")
    net = {key: value for key, value in config["model"].items() if key != "_target_"}
    check_keys(NETS[name], net, "model")
    build_net({"class": name, **net})  # says now what is wrong with it
    check_keys(pl.Trainer, config["trainer"], "trainer")
    return Job(
        source=build(config["data"], "data"),
        net={"class": name, **net},
        loss=build(config["loss"], "loss"),
        augmentation=build(config["augmentation"], "augmentation"),
        preprocess=call(Preprocess, config["preprocess"], "preprocess"),
        loader=call(Loader, config["loader"], "loader"),
        optimization=call(Optimization, config["optimization"], "optimization"),
        trainer=config["trainer"],
        logger=tuple(config["logger"]["names"]),
        seed=int(config["seed"]),
        early_stopping=config["early_stopping"],
        init_ckpt=_path(config["init_ckpt"]),
        ckpt_path=_path(config["ckpt_path"]),
        config=config,
        command=command,
    )


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text).expanduser()
