"""Configs: where they lie, what the command line may say, and how plain values become the objects of a run."""

import difflib
import importlib
import inspect
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from lungseg.errors import UserError
from lungseg.files import from_home

if TYPE_CHECKING:
    from lungseg.training.job import Job

# Values of these keys are taken as they are typed: paths and patterns hold spaces, commas, brackets and equals signs, all of which
# mean something to Hydra.
LITERAL_KEYS = (
    "data.root",
    "data.manifest",
    "data.patient_regex",
    "init_ckpt",
    "ckpt_path",
    "hydra.run.dir",
    "hydra.sweep.dir",
)

PRECISIONS = ("auto", "32", "32-true", "bf16-mixed", "16-mixed")

SECTIONS = (
    "data",
    "model",
    "loss",
    "augmentation",
    "preprocess",
    "loader",
    "optimization",
    "trainer",
    "logger",
    "seed",
    "early_stopping",
    "init_ckpt",
    "ckpt_path",
    "test",
    "sweep",
)


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
    """``factory(**arguments)``, with a sentence for a key or a value that its signature does not allow."""
    check(factory, arguments, where)
    return factory(**arguments)


def check(factory: Any, arguments: Mapping[str, Any], where: str) -> None:
    """Refuses keys that are not in a signature, values that are not of its types, and values still to be given."""
    known = list(inspect.signature(factory).parameters)
    kinds = get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)
    for key, value in arguments.items():
        name = f"{where}.{key}" if where else key
        if key not in known:
            raise UserError(f"{name} is unknown: {nearest(key, known, where)}")
        if value == "???":
            raise UserError(f"{name} is needed: add {name}=... to the command.")
        if not _fits(value, kinds[key]):
            raise UserError(f"{name}={'null' if value is None else value} must be {_spoken(kinds[key])}.")


def nearest(key: str, known: Sequence[str], where: str) -> str:
    """What somebody who typed a wrong key may have meant."""
    known = [name for name in known if not name.startswith("_")]
    near = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {f'{where}.' if where else ''}{near[0]}?" if near else f"known are {', '.join(known)}."


def _fits(value: Any, kind: Any) -> bool:
    """Whether a plain value from YAML may be handed to a parameter annotated so; a list may be a tuple."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return True
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is Literal:
        return value in inner
    if origin is tuple and Ellipsis not in inner:
        return isinstance(value, list) and len(value) == len(inner) and all(map(_fits, value, inner))
    if origin in (tuple, list, Sequence):
        return isinstance(value, list) and all(_fits(one, inner[0]) for one in value)
    if isinstance(value, bool):  # which Python takes for a number
        return kind is bool
    return isinstance(value, (int, float) if kind is float else origin or kind)


def _spoken(kind: Any) -> str:
    """An annotation in words."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        words = list(dict.fromkeys(_spoken(one) for one in inner))
        return f"{', '.join(words[:-1])} or {words[-1]}"
    if origin is Literal:
        return ", ".join(str(one) for one in inner)
    if origin is tuple and Ellipsis not in inner:
        return f"a list of {len(inner)}, each {_spoken(inner[0])}"
    if origin in (tuple, list, Sequence):
        return f"a list, each {_spoken(inner[0])}"
    words_of = {int: "a whole number", float: "a number", str: "text", bool: "true or false", NoneType: "null"}
    return words_of.get(kind, getattr(kind, "__name__", str(kind)))


def job(config: Mapping[str, Any], command: str) -> "Job":
    """The run that a resolved config describes.

    Raises:
        UserError: something in the config is unknown or out of range.
    """
    import pytorch_lightning as pl

    from lungseg.checkpoint import NETS, build_net
    from lungseg.data.datamodule import Loader
    from lungseg.preprocess import Preprocess
    from lungseg.training.job import Job
    from lungseg.training.module import Optimization

    for where, keys, known in (
        ("", config, SECTIONS),
        ("logger", config["logger"], ("names",)),
        ("sweep", config["sweep"], ("resume",)),
    ):
        for key in keys:
            if key not in known:
                raise UserError(f"{where}.{key} is unknown: {nearest(key, known, where)}".removeprefix("."))
    name = str(config["model"].get("_target_", "")).rpartition(".")[2]
    if name not in NETS:
        raise UserError(f"model._target_ must name one of {', '.join(NETS)}.")
    net = {key: value for key, value in config["model"].items() if key != "_target_"}
    check(NETS[name], net, "model")
    if (net.get("in_channels", 1), net.get("out_channels", 1)) != (1, 1):
        raise UserError("model.in_channels and model.out_channels must be 1: slices are grey, and lung is the one class.")
    build_net({"class": name, **net})  # says now what is wrong with it
    trainer = config["trainer"]
    _check_trainer(config)
    check(pl.Trainer, {key: value for key, value in trainer.items() if (key, value) != ("precision", "auto")}, "trainer")
    check(Job, {"logger": config["logger"]["names"], **{key: config[key] for key in ("seed", "early_stopping", "test")}}, "")
    return Job(
        source=build(config["data"], "data"),
        net={"class": name, **net},
        loss=build(config["loss"], "loss"),
        augmentation=build(config["augmentation"], "augmentation"),
        preprocess=call(Preprocess, config["preprocess"], "preprocess"),
        loader=call(Loader, config["loader"], "loader"),
        optimization=call(Optimization, config["optimization"], "optimization"),
        trainer=trainer,
        logger=tuple(config["logger"]["names"]),
        seed=config["seed"],
        early_stopping=config["early_stopping"],
        init_ckpt=_path(config["init_ckpt"]),
        ckpt_path=_path(config["ckpt_path"]),
        test=config["test"],
        config=config,
        command=command,
    )


def _check_trainer(config: Mapping[str, Any]) -> None:
    """Refuses what ``pl.Trainer`` would take and this package cannot do."""
    trainer = config["trainer"]
    epochs, precision = trainer.get("max_epochs"), str(trainer.get("precision"))
    if not isinstance(epochs, int) or epochs < 0:
        raise UserError(f"trainer.max_epochs={epochs} must be 0 or more; to stop by the clock, add trainer.max_time.")
    if precision not in PRECISIONS:
        raise UserError(f"trainer.precision={precision} is not supported: use one of {', '.join(PRECISIONS)}.")
    if trainer.get("num_nodes") not in (None, 1):
        raise UserError(f"trainer.num_nodes={trainer['num_nodes']} is not supported: one machine, with trainer.devices=N.")
    if config["early_stopping"] is not None and trainer.get("limit_val_batches") == 0:
        raise UserError("early_stopping needs validation, which trainer.limit_val_batches=0 turns off.")


def _path(text: str | None) -> Path | None:
    return None if text is None else from_home(text)
