"""What a person sees while many files are worked through."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


@contextmanager
def progress(console: "Console", doing: str, total: int, quiet: bool) -> Iterator[Callable[..., None]]:
    """What to call after each file: it moves a bar on a terminal, and elsewhere says a line after each tenth of the files.

    Called with a number, it says which share of the present file is done.
    """
    from rich.progress import Progress

    from lungseg.log import log

    if console.is_terminal and not quiet:
        with Progress(console=console, transient=True) as bar:
            task = bar.add_task(doing, total=total)
            files = 0

            def move(share: float | None = None) -> None:
                nonlocal files
                files += share is None
                bar.update(task, completed=files + (share or 0.0))

            yield move
        return
    began, numbers = time.monotonic(), count(1)

    def advance(share: float | None = None) -> None:
        if share is not None:
            return
        number = next(numbers)
        if number % math.ceil(total / 10) == 0 and number < total:
            left = timedelta(seconds=round((time.monotonic() - began) / number * (total - number)))
            log.info(f"{number} of {count_of(total)}, about {left} left")

    yield advance


def count_of(number: int, thing: str = "file") -> str:
    """Files, or other things, with their number."""
    return f"{number} {thing}{'' if number == 1 else 's'}"
