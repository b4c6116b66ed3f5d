"""A command line of ``key=value`` words, each taken literally, as the fields of a dataclass."""

import difflib
from collections.abc import Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_type_hints

from lungseg.commands.exits import DEBUG
from lungseg.errors import UserError
from lungseg.files import from_home

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Options = TypeVar("Options", bound="DataclassInstance")
GROUPS = ("data", "input", "postprocess")
FLAGS = {"-q": "quiet", "--quiet": "quiet"}


def parse(argv: Sequence[str], options: type[Options], command: str, usage: str) -> Options:
    """Options from words, each split at its first equals sign.

    Args:
        options: a dataclass; a field ``data_root`` is typed as ``data.root``, and so with the other ``GROUPS``; every other as
            its name.
        command: for the sentence about an unknown word.
        usage: what must be given, for the sentence about a missing word.

    Raises:
        UserError: a word is no option, is given twice, or its value has the wrong type.
    """
    kinds = get_type_hints(options)
    known: dict[str, Field[Any]] = {typed(one.name): one for one in fields(options)}
    values: dict[str, Any] = {}
    for word in argv:
        key, equals, text = (FLAGS[word], "=", "true") if word in FLAGS else word.partition("=")
        if key == DEBUG:
            raise UserError(f"{word} must be {DEBUG}=true or {DEBUG}=false.")
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            remedy = f"did you mean {near[0]}?" if near else "see --help." if equals else f"{usage}."
            raise UserError(f"{key} is no option of {command}: {remedy}")
        if not equals or not text:
            raise UserError(f"{key} needs a value: {key}=...")
        name = known[key].name
        if name in values:
            raise UserError(f"{key} is given twice.")
        values[name] = _value(key, text, kinds[name])
    missing = [key for key, one in known.items() if one.default is MISSING and one.name not in values]
    if missing:
        raise UserError(f"{missing[0]}=... is needed: {usage}.")
    return options(**values)


def unquoted(pattern: str | None) -> str | None:
    """A regular expression without the quotes that Hydra wants round it in a training's command."""
    if pattern and len(pattern) > 1 and pattern[0] == pattern[-1] and pattern[0] in "'\"":
        return pattern[1:-1]
    return pattern


def typed(name: str) -> str:
    """A field of options as it stands on a command line."""
    group, _, rest = name.partition("_")
    return f"{group}.{rest}" if group in GROUPS and rest else name


def _value(key: str, text: str, kind: Any) -> Any:
    kinds = [one for one in (get_args(kind) if type(None) in get_args(kind) else (kind,)) if one is not type(None)]
    wanted = kinds[0]
    try:
        if wanted is Path:
            return from_home(text)
        if wanted is bool:
            return {"true": True, "false": False}[text.lower()]
        if get_args(wanted):  # a tuple of one kind
            return tuple(get_args(wanted)[0](part.strip()) for part in text.strip("[]").split(","))
        return wanted(text)
    except (ValueError, KeyError):
        said = "true or false" if wanted is bool else "numbers" if get_args(wanted) else "a number"
        raise UserError(f"{key}={text} must be {said}.") from None
