"""What a person reads while a command runs, and what stays in a file."""

import logging
import math
import sys
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console

from lungseg.files import writing

log = logging.getLogger("lungseg")
SAID = 10  # sentences of a kind on the screen


def say(level: Callable[[str], None], sentences: Sequence[str], rest: str) -> None:
    """The first sentences of a kind; of more of them their number, and what ``rest`` says: what they are and where all stand."""
    for sentence in sentences[:SAID]:
        level(sentence)
    if len(sentences) > SAID:
        level(f"... and {len(sentences) - SAID} more {rest}")


def aligned(rows: Sequence[Sequence[str]], right: Container[int]) -> list[str]:
    """Rows of cells as lines of columns, each as wide as its widest cell; the columns ``right`` are flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = [
        [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in rows
    ]
    return ["  ".join(row).rstrip() for row in padded]


def cell(value: float, digits: str = ".6g") -> str:
    """A figure in a table; what is no number is an empty cell."""
    return "" if math.isnan(value) else format(value, digits)


class _Screen(logging.Handler):
    """Messages as plain lines; warnings marked. Goes through rich, so that a progress bar stays below them."""

    def __init__(self, console: Console, level: int, prefix: str) -> None:
        super().__init__(level)
        self.console, self.prefix = console, prefix

    def emit(self, record: logging.LogRecord) -> None:
        mark, style = {logging.WARNING: ("Warning: ", "yellow"), logging.ERROR: ("Error: ", "red")}.get(record.levelno, ("", None))
        message = record.getMessage().encode("utf-8", "backslashreplace").decode()  # names of files may be no valid text
        said = "\n".join(self.prefix + line for line in (mark + message).splitlines())
        self.console.print(said, style=style, markup=False, highlight=False, soft_wrap=True)


class _File(logging.FileHandler):
    """Messages with their time. A full disk is an error, where Python would print a traceback for every message."""

    def __init__(self, file: Path) -> None:
        with writing(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            super().__init__(file, encoding="utf-8")
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self._failed = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self._failed:  # once is enough, and what ends the program may want to say something too
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        self._failed = True
        error = sys.exc_info()[1]
        assert error is not None
        with writing(Path(self.baseFilename)):
            raise error

    def close(self) -> None:
        with suppress(OSError):  # what is still to be written has failed, and been said, before
            super().close()


@contextmanager
def messages(console: Console | None, file: Path | None = None, level: int = logging.INFO, prefix: str = "") -> Iterator[None]:
    """Sends the messages of this package to the screen and to a file while the context lasts.

    Args:
        console: None on ranks that stay silent.
        level: the lowest level that reaches the screen; the file gets all from INFO.
        prefix: before each line on the screen.

    Raises:
        UserError: the file cannot be written to, now or at a later message.
    """
    # Without any handler Python would print warnings by itself.
    handlers: list[logging.Handler] = [logging.NullHandler() if console is None else _Screen(console, level, prefix)]
    if file is not None:
        handlers.append(_File(file))
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
