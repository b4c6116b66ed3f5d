"""The one place where a ``UserError`` becomes an exit code."""

import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from lungseg.errors import UserError

DEBUG = "debug"
PARTLY, REFUSED, INTERRUPTED, STOPPED = 1, UserError.exit_code, 128 + signal.SIGINT, 128 + signal.SIGTERM


class Stopped(BaseException):
    """SIGTERM, as a scheduler or a shutdown sends it; like KeyboardInterrupt no error, so that nothing on the way takes it."""


def without_debug(argv: Sequence[str]) -> tuple[list[str], bool]:
    """A command line without ``debug=...``, and whether it was ``debug=true``."""
    asked = [word for word in argv if word.lower() in (f"{DEBUG}=true", f"{DEBUG}=false")]
    return [word for word in argv if word not in asked], any(word.lower().endswith("true") for word in asked)


def exit_code(work: Callable[[], int], interrupted: Callable[[], str], debug: bool = False) -> int:
    """What ``work`` returns; a ``UserError`` is printed as its one sentence, Ctrl-C and SIGTERM as what ``interrupted`` says.

    Args:
        debug: prints the traceback of a ``UserError`` before its sentence, with the error that it came from.
    """
    with stoppable():
        try:
            return work()
        except UserError as error:
            if debug:
                traceback.print_exc()
            print(f"Error: {error}", file=sys.stderr)
            return error.exit_code
        except KeyboardInterrupt:
            print(f"Interrupted. {interrupted()}", file=sys.stderr)
            return INTERRUPTED
        except Stopped:
            print(f"Stopped. {interrupted()}", file=sys.stderr)
            return STOPPED


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM as an exception, so that what a command has started and opened is closed on the way out."""

    def stop(*_: object) -> None:
        raise Stopped

    if threading.current_thread() is not threading.main_thread():  # the only one that may ask for signals
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
