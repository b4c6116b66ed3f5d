"""Silence in the libraries that decode: what they say about a file is our own sentence's cause, or no news to a user."""
# mypy: allow-untyped-calls

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import cv2
import SimpleITK as sitk

_cv2_log = getattr(cv2.utils, "logging", cv2)  # OpenCV 5 moved get/setLogLevel there


class _Switches:
    """The libraries' own switches, which hold for all threads: the first that asks for silence turns them, the last one back."""

    def __init__(self) -> None:
        self.lock, self.inside, self.back = threading.Lock(), 0, ExitStack()

    def enter(self) -> None:
        with self.lock:
            if self.inside == 0:
                self._turn()
            self.inside += 1

    def leave(self) -> None:
        with self.lock:
            self.inside -= 1
            if self.inside == 0:
                self.back.close()

    def _turn(self) -> None:
        self.back.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        self.back.callback(_cv2_log.setLogLevel, _cv2_log.getLogLevel())
        _cv2_log.setLogLevel(0)
        self.back.callback(sitk.ProcessObject.SetGlobalWarningDisplay, sitk.ProcessObject.GetGlobalWarningDisplay())
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        for logger in map(logging.getLogger, ("pydicom", "pylibjpeg", "openjpeg", "highdicom")):
            self.back.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.CRITICAL)


_switches = _Switches()


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing that happens inside is spoken of; may be used by several threads at a time."""
    _switches.enter()
    try:
        yield
    finally:
        _switches.leave()
