"""Moments of a command that runs in this process: just before a file takes its name, when all others are as they are."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_watching: list[Callable[[Path], None]] = []


def _heard(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "os.rename" and _watching:
        _watching[-1](Path(arguments[1]))


sys.addaudithook(_heard)  # for good: Python cannot take one back


@contextmanager
def before_each_file(do: Callable[[Path], None]) -> Iterator[None]:
    """Calls with the path of every file that is written beside and about to be renamed to it."""
    _watching.append(do)
    try:
        yield
    finally:
        _watching.remove(do)


@contextmanager
def before_file(name: str, do: Callable[[], None], time: int = 1) -> Iterator[None]:
    """Calls once, before a file of this name is renamed for the so-manieth time."""
    seen = 0

    def count(path: Path) -> None:
        nonlocal seen
        if path.name == name:
            seen += 1
            if seen == time:
                do()

    with before_each_file(count):
        yield
    assert seen >= time, f"{name} was renamed {seen} times"
