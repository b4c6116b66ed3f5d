"""Lung CT segmentation with a residual U-Net."""

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["Segmenter", "__version__"]

if TYPE_CHECKING:
    from lungseg.inference.segmenter import Segmenter


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> object:
    """``from lungseg import Segmenter`` loads torch only when it is asked for."""
    if name == "Segmenter":
        from lungseg.inference.segmenter import Segmenter

        return Segmenter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
