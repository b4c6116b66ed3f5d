"""Pictures that come twice, in whatever file: the same pixels, or the same picture flipped, shifted a little or saved again."""
# mypy: allow-untyped-calls

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 128  # pixels of the square that a picture is compared on
WAVES = 24  # of each direction that are compared, the slowest first
# From this likeness on two pictures are taken for one. Strangers reach 0.3 (slices of 237 patients, and 400 generated ones); a copy
# that was shifted by 4 % or windowed keeps 0.6; neighbouring slices of one scan lie on both sides.
ALIKE = 0.45
_BLOCK = 2048  # fingerprints compared at a time

Print = NDArray[np.bool_]  # (WAVES * WAVES,)


def digest(image: NDArray[Any]) -> bytes:
    """The same for two slices (H, W) of the same pixels, whatever their files are."""
    return hashlib.blake2b(repr(image.shape).encode() + np.ascontiguousarray(image, np.float32).tobytes(), digest_size=16).digest()


def fingerprint(image: NDArray[Any]) -> Print | None:
    """A perceptual hash of a slice (H, W), nearly the same after flips and small shifts; None for one without structure.

    Which waves a picture holds more of than of their neighbours does not depend on where it lies (a shift moves phases only), nor,
    with the waves of both diagonals added, on flips. A window takes the picture's edges out of it.
    """
    low, high = np.percentile(np.asarray(image, np.float64), (0.5, 99.5))
    if low == high:
        return None
    grey = np.clip((image - low) / (high - low), 0, 1).astype(np.float32)
    scale = SIDE / max(grey.shape)
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    square = np.zeros((SIDE, SIDE), np.float32)
    top, left = (SIDE - small.shape[0]) // 2, (SIDE - small.shape[1]) // 2
    square[top : top + small.shape[0], left : left + small.shape[1]] = small
    window = np.hanning(SIDE + 2)[1:-1].astype(np.float32)
    details = (square - cv2.GaussianBlur(square, (0, 0), 4)) * np.outer(window, window)
    waves = np.abs(np.fft.fft2(details))
    folded = waves[1 : WAVES + 1, 1 : WAVES + 1] + waves[-1 : -WAVES - 1 : -1, 1 : WAVES + 1]
    loudness = np.log(folded + 1e-3).astype(np.float32)
    return np.asarray(loudness > cv2.GaussianBlur(loudness, (0, 0), 2)).ravel()


def alike(prints: Sequence[Print], groups: Sequence[int]) -> Iterator[tuple[int, int, float]]:
    """Pairs of indices with their likeness (1 for the same print, about 0 for two strangers), if it is at least ``ALIKE``.

    Args:
        groups: of each print; those of one group, such as the slices of a volume, are not compared with each other.
    """
    if not prints:
        return
    signs = np.stack(prints).astype(np.float32) * 2 - 1
    belongs = np.asarray(groups)
    for start in range(0, len(signs), _BLOCK):
        for other in range(start, len(signs), _BLOCK):
            left, right = slice(start, start + _BLOCK), slice(other, other + _BLOCK)
            if len(np.unique(np.concatenate([belongs[left], belongs[right]]))) == 1:
                continue
            likeness = signs[left] @ signs[right].T / signs.shape[1]
            found = (likeness >= ALIKE) & (belongs[left, None] != belongs[None, right])
            for i, j in np.argwhere(found):
                if start + i < other + j:
                    yield int(start + i), int(other + j), float(likeness[i, j])
