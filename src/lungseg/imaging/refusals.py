"""What goes wrong while a file is read, as one sentence that names the file and the remedy."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lungseg.errors import UserError, printable
from lungseg.imaging.quiet import quiet


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns whatever is raised inside into a ``UserError`` about this file, and keeps the libraries silent.

    Raises:
        UserError: the file is missing, empty, damaged, or whatever was raised.
    """
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise UserError(f"{path} is empty (0 bytes): copy or export it again.")
    except OSError as error:
        raise UserError(f"{path} cannot be opened ({error.strerror}): check the path and its permissions.") from error
    try:
        with quiet():
            yield
    except (UserError, MemoryError):
        raise
    except Exception as error:  # every library raises its own, and damaged bytes can raise anything
        raise UserError(
            f"{path} cannot be read, it is damaged or not what its name says ({reason(error)}): copy or export it again."
        ) from error


def reason(error: Exception) -> str:
    """What a library says about a file, as one short line without addresses in memory or bytes that a terminal obeys."""
    text = re.sub(r"\s*<[^<>]* at 0x[0-9a-f]+>", "", str(error)).strip() or type(error).__name__
    return printable(text.splitlines()[-1]).rstrip(".")
