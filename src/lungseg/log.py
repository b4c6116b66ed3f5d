"""What a person reads while a command runs, and what stays in a file."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

log = logging.getLogger("lungseg")


class _Screen(logging.Handler):
    """Messages as plain lines; warnings marked. Goes through rich, so that a progress bar stays below them."""

    def __init__(self, console: Console, level: int) -> None:
        super().__init__(level)
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        mark, style = {logging.WARNING: ("Warning: ", "yellow"), logging.ERROR: ("Error: ", "red")}.get(record.levelno, ("", None))
        self.console.print(mark + record.getMessage(), style=style, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def messages(console: Console | None, file: Path | None = None, level: int = logging.INFO) -> Iterator[None]:
    """Sends the messages of this package to the screen and to a file while the context lasts.

    Args:
        console: None on ranks that stay silent.
        level: the lowest level that reaches the screen; the file gets all from INFO.
    """
    # Without any handler Python would print warnings by itself.
    handlers: list[logging.Handler] = [logging.NullHandler() if console is None else _Screen(console, level)]
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        to_file = logging.FileHandler(file, encoding="utf-8")
        to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        handlers.append(to_file)
    before = (log.level, log.propagate)
    log.setLevel(logging.INFO)
    log.propagate = False
    for handler in handlers:
        log.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            log.removeHandler(handler)
            handler.close()
        log.setLevel(before[0])
        log.propagate = before[1]
