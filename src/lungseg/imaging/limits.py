"""How large an image may be, told from its header before anything is decoded."""

from pathlib import Path

from lungseg.errors import UserError

MAX_PIXELS = 2**27  # of one slice (11,585 x 11,585), told from the header; Pillow's own limit lies just above
MAX_VOXELS = 2**29  # of one volume: 2,048 slices of 512 x 512


def check_size(path: Path, pixels: int, limit: int = MAX_PIXELS) -> None:
    if pixels > limit:
        raise UserError(f"{path} has {pixels} pixels, more than the {limit} that are read: crop it or make it smaller.")
