"""The one error that a user is meant to read."""

from collections.abc import Sequence

NAMED = 10  # names in a sentence, then a count


class UserError(Exception):
    """What is wrong, where, and what to do about it, in one sentence.

    The commands print it without a traceback and exit with its code; every other exception is a bug and keeps its traceback.
    """

    exit_code = 2


def printable(thing: object, most: int = 200) -> str:
    """What stands in a file, or what a library says of it, as part of a sentence: on one line, cut short, and without characters
    that a terminal would obey."""
    text = " ".join(str(thing).split())
    text = "".join(letter if letter.isprintable() else "?" for letter in text[: most + 1])
    return text if len(text) <= most else f"{text[:most]} ..."


def named(names: Sequence[str], most: int = NAMED) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(printable, names[:most])) + more


def count_of(number: int, thing: str = "file") -> str:
    """Files, or other things, with their number."""
    return f"{number} {thing}{'' if number == 1 else 's'}"
