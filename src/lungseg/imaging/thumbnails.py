"""Pictures made small enough to lie in a page by the hundred."""

import math
from pathlib import Path

import cv2
import numpy as np

from lungseg.errors import UserError

QUALITY = (cv2.IMWRITE_JPEG_QUALITY, 80, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
BYTES_A_PIXEL = 0.11  # of a large picture of a scan; small ones need more
LEAST = 48  # pixels of the shorter side, below which nobody sees anything


def jpeg_of(path: Path, most_bytes: int) -> tuple[bytes, tuple[int, int]] | None:
    """A picture file as the bytes of a JPEG file, so small that it fits, and its (height, width); None where none would fit.

    Colours keep all their pixels, so that thin outlines stay as they are.

    Raises:
        UserError: the file is no picture.
    """
    stored = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_COLOR) if path.stat().st_size else None
    if stored is None:
        raise UserError(f"{path} is no picture: write it again.")
    share = min(1.0, math.sqrt(most_bytes / (BYTES_A_PIXEL * stored[..., 0].size)))
    while True:
        height, width = (round(side * share) for side in stored.shape[:2])
        if min(height, width) < min(LEAST, *stored.shape[:2]):
            return None
        picture = cv2.resize(stored, (width, height), interpolation=cv2.INTER_AREA)
        done, data = cv2.imencode(".jpg", picture, QUALITY)
        assert done, f"no JPEG can be made of {path}"
        if len(data) <= most_bytes:
            return data.tobytes(), (height, width)
        share *= 0.9 * math.sqrt(most_bytes / len(data))
