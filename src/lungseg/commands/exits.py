"""The one place where a ``UserError`` becomes an exit code."""

import sys
from collections.abc import Callable

from lungseg.errors import UserError

REFUSED, INTERRUPTED = 2, 130


def exit_code(work: Callable[[], int], interrupted: str) -> int:
    """What ``work`` returns; a ``UserError`` is printed as its one sentence, Ctrl-C as ``interrupted``."""
    try:
        return work()
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print(f"Interrupted. {interrupted}", file=sys.stderr)
        return INTERRUPTED
