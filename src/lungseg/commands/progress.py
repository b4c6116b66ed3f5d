"""What a person sees while many files are worked through."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


@contextmanager
def progress(console: "Console", doing: str, total: int, quiet: bool) -> Iterator[Callable[..., None]]:
    """What to call after each file: it moves a bar on a terminal, and elsewhere says a line after each tenth of the files.

    Called with a number, so many files are through, whole ones and parts.
    """
    from rich.progress import Progress

    from lungseg.log import log

    through, began, tenths = 0.0, time.monotonic(), 0
    with Progress(console=console, transient=True) if console.is_terminal and not quiet else nullcontext() as bar:
        task = None if bar is None else bar.add_task(doing, total=total)

        def advance(files: float | None = None) -> None:
            nonlocal through, tenths
            through = through + 1 if files is None else files
            if bar is not None and task is not None:
                bar.update(task, completed=through)
            elif int(10 * through / total) > tenths and through >= 1 and through < total:
                tenths = int(10 * through / total)
                left = timedelta(seconds=round((time.monotonic() - began) / through * (total - through)))
                log.info(f"{int(through)} of {count_of(total)}, about {left} left")

        yield advance


def count_of(number: int, thing: str = "file") -> str:
    """Files, or other things, with their number."""
    return f"{number} {thing}{'' if number == 1 else 's'}"
