"""What a person sees while many files are worked through."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING

from lungseg.errors import count_of

if TYPE_CHECKING:
    from rich.console import Console


LINE_S = 600  # or after as many seconds, where a tenth takes hours


@contextmanager
def progress(console: "Console", doing: str, total: int, quiet: bool) -> Iterator[Callable[..., None]]:
    """What to call after each file: it moves a bar on a terminal, and elsewhere says a line now and then.

    Called with a number, so many files are through, whole ones and parts.
    """
    from rich.progress import Progress

    from lungseg.log import log

    through, said, then = 0.0, 0.0, time.monotonic()
    with Progress(console=console, transient=True) if console.is_terminal and not quiet else nullcontext() as bar:
        task = None if bar is None else bar.add_task(doing, total=total)

        def advance(files: float | None = None) -> None:
            nonlocal through, said, then
            through = through + 1 if files is None else files
            if bar is not None and task is not None:
                bar.update(task, completed=through)
                return
            now = time.monotonic()
            is_next = int(10 * through / total) > int(10 * said / total) or now - then > LINE_S
            if is_next and int(through) > said and through < total:
                # By the pace since the last line: what an earlier run has done goes by in no time.
                left = timedelta(seconds=round((now - then) / (through - said) * (total - through)))
                log.info(f"{int(through)} of {count_of(total)}, about {left} left")
                said, then = through, now

        yield advance
