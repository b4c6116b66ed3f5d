"""How large an image may be, told from its header before anything is decoded."""

from pathlib import Path

from lungseg.errors import UserError

MAX_PIXELS = 2**26  # of one slice (8,192 x 8,192), the channels of colour counted: with it a program stays below 2 GB
MAX_VOXELS = 2**29  # of one volume: 2,048 slices of 512 x 512


def check_size(path: Path, pixels: int, limit: int = MAX_PIXELS) -> None:
    if pixels > limit:
        raise too_large(path, str(pixels), limit)


def too_large(path: Path, pixels: str, limit: int = MAX_PIXELS) -> UserError:
    return UserError(f"{path} has {pixels} pixels, more than the {limit} that are read: crop it or make it smaller.")
