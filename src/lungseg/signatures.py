"""What a signature allows: keys and types of plain YAML values, a sentence for what it does not; and a value by its dotted name."""

import difflib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from lungseg.errors import UserError, printable

KNOWN_SHOWN = 25  # a longer list is nothing to read


def call(factory: Any, arguments: Mapping[str, Any], where: str) -> Any:
    """``factory(**arguments)``, with a sentence for a key or a value that its signature does not allow, or that it lacks."""
    check(factory, arguments, where)
    for key, parameter in _parameters(factory).items():
        if parameter.default is parameter.empty and key not in arguments:
            raise UserError(_needed(f"{where}.{key}"))
    return factory(**arguments)


def check(factory: Any, arguments: Mapping[str, Any], where: str, own: Sequence[str] = ()) -> None:
    """Refuses keys that are not in a signature, values that are not of its types, and values still to be given.

    Args:
        own: parameters that are not the user's to set.
    """
    known = [key for key in _parameters(factory) if key not in own]
    kinds = get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)
    for key, value in arguments.items():
        name = f"{where}.{key}" if where else key
        if key not in known:
            raise UserError(f"{name} is unknown: {nearest(str(key), known, where)}")
        if value == "???":
            raise UserError(_needed(name))
        if not _fits(value, kinds[key]):
            raise UserError(f"{name}={shown(value)} must be {_spoken(kinds[key])}.")


def nearest(key: str, known: Iterable[str], where: str) -> str:
    """What somebody who typed a wrong key may have meant, and what there is to choose from."""
    names = [name for name in known if not name.startswith("_")]
    if not names:
        return f"{where} has no settings."

    def likeness(name: str) -> float:
        if name == _initials(key) or _initials(name) == key:  # learning_rate and lr have few letters in common
            return 1.0
        return difflib.SequenceMatcher(None, key.lower(), name.lower()).ratio()

    ranked = sorted(names, key=likeness, reverse=True)
    listed = f"Known are {', '.join(names)}." if len(names) <= KNOWN_SHOWN else f"Nearest are {', '.join(ranked[:3])}."
    return f"did you mean {f'{where}.' if where else ''}{ranked[0]}? {listed}"


def shown(value: Any) -> str:
    """A value as it is typed, cut short."""
    return {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else printable(value)


def _parameters(factory: Any) -> dict[str, inspect.Parameter]:
    """Parameters that can be given by name; one without a signature of its own inherits ``*args, **kwargs``."""
    parameters = inspect.signature(factory).parameters
    return {key: one for key, one in parameters.items() if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)}


def _initials(name: str) -> str:
    return "".join(word[:1] for word in name.split("_"))


def _needed(name: str) -> str:
    return f"{name} is needed: add {name}=... to the command."


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
    if origin is dict:
        return isinstance(value, dict) and all(_fits(one, inner[1]) for one in value.values())
    if kind is Path:
        return isinstance(value, str)
    if isinstance(value, bool):  # which Python takes for a number
        return kind is bool
    return isinstance(value, (int, float) if kind is float else origin or kind)


def _spoken(kind: Any) -> str:
    """An annotation in words, without what no YAML file can say."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        words = [word for word in dict.fromkeys(map(_spoken, inner)) if word]
        return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]
    if origin is Literal:
        return f"one of {', '.join(map(shown, inner))}" if len(inner) > 1 else shown(inner[0])
    if origin is tuple and Ellipsis not in inner:
        return f"a list of {len(inner)} ({_spoken(inner[0])} each)"
    if origin in (tuple, list, Sequence):
        return f"a list ({_spoken(inner[0])} each)"
    if origin is dict:
        return f"a table ({_spoken(inner[1])} each)"
    words_of = {int: "a whole number", float: "a number", str: "text", bool: "true or false", Path: "a path", NoneType: "null"}
    return words_of.get(kind, "")


def setting(config: Mapping[str, Any], name: str) -> Any:
    """The value of a dotted name such as ``trainer.max_epochs``; None where there is none."""
    value: Any = config
    for key in name.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
