"""What exports, uploads and preprocessing do to the grey values of a CT, by name; each takes HU (Z, H, W) and a seed."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Voxels = NDArray[Any]


def window(hu: Voxels, level: float, width: float, top: float = 255.0) -> Voxels:
    """HU through a window, in whole numbers from 0 to ``top``."""
    return np.clip((hu - (level - width / 2)) * (top / width), 0, top).round().astype(np.uint8 if top < 256 else np.uint16)


def min_max(hu: Voxels, top: float = 255.0) -> Voxels:
    low, high = float(hu.min()), float(hu.max())
    return ((hu - low) * (top / (high - low))).round().astype(np.uint8 if top < 256 else np.uint16)


def clahe(hu: Voxels) -> Voxels:
    """Contrast stretched within tiles of each slice (Zuiderveld 1994), after min-max of the scan."""
    tiles = cv2.createCLAHE(clipLimit=4.0, tileGridSize=(8, 8))
    return np.stack([tiles.apply(slice_) for slice_ in min_max(hu.clip(-1024, 1000))])


def like_mr(hu: Voxels, seed: int = 0) -> Voxels:
    """Fat bright, muscle grey, bone and air dark, a coil's falling-off, Rician noise; unsigned 12 bits."""
    rng = np.random.default_rng(seed)
    signal = np.interp(hu, [-2000, -950, -700, -200, -100, -20, 60, 200, 600, 3000], [20, 20, 60, 500, 900, 450, 350, 300, 60, 20])
    y, x = np.mgrid[-1 : 1 : hu.shape[1] * 1j, -1 : 1 : hu.shape[2] * 1j]
    coil = 1.5 * np.exp(-1.2 * ((y - rng.uniform(-0.8, 0.8)) ** 2 + x**2))
    noise = rng.normal(0, 25, (2, *hu.shape))
    return np.hypot(signal * coil + noise[0], noise[1]).round().clip(0, 4095).astype(np.uint16)


def turned(voxels: Voxels) -> Voxels:
    """The negative, from the greatest value a file of this type has."""
    top = np.iinfo(voxels.dtype).max if voxels.dtype.kind == "u" else 0
    return (top - voxels.astype(np.float64)).astype(voxels.dtype)


def whole(values: Voxels) -> Voxels:
    return np.rint(values).clip(-32768, 32767).astype(np.int16)


DEGRADED: dict[str, Callable[[Voxels], Voxels]] = {
    "offset 1000": lambda hu: whole(hu + 1000),
    "offset 1024": lambda hu: whole(hu + 1024),
    "offset 8192": lambda hu: whole(hu + 8192),
    "unsigned 32768": lambda hu: np.rint(hu + 32768).clip(0, 65535).astype(np.uint16),
    "slope 0.5": lambda hu: whole(hu * 0.5),
    "slope 2, offset 1024": lambda hu: whole(hu * 2 + 1024),
    "slope 2 of offset 1024": lambda hu: whole((hu + 1024) * 2),
    "slope 0.8165": lambda hu: whole(hu * 0.8165),
    "slope 0.1": lambda hu: whole(hu * 0.1),
    "lung window, 8 bit": lambda hu: window(hu, -600, 1500),
    "soft window, 8 bit": lambda hu: window(hu, 40, 400),
    "min-max, 8 bit": min_max,
    "min-max, 16 bit": lambda hu: min_max(hu, 65535),
    "lung window, 12 bit": lambda hu: window(hu, -600, 1500, 4095),
    "CLAHE, 8 bit": clahe,
    "0..1": lambda hu: (min_max(hu.clip(-1024, 1500), 65535) / np.float32(65535)).astype(np.float32),
    "lung window, 0..1": lambda hu: (window(hu, -600, 1500, 4095) / np.float32(4095)).astype(np.float32),
    "z-score": lambda hu: ((hu - hu.mean()) / hu.std()).astype(np.float32),
    "HU, inverted": lambda hu: whole(-hu),
    "lung window, 8 bit, inverted": lambda hu: turned(window(hu, -600, 1500)),
    "soft window, 8 bit, inverted": lambda hu: turned(window(hu, 40, 400)),
    "offset 1024, 16 bit, inverted": lambda hu: turned(np.rint(hu + 1024).clip(0, 65535).astype(np.uint16)),
    "0..1, inverted": lambda hu: 1 - (min_max(hu.clip(-1024, 1500), 65535) / np.float32(65535)).astype(np.float32),
    "like MR": like_mr,
}

# What each may be called.
_PLAIN = {
    "slope": {"HU at another scale"},
    "offset": {"HU with an offset"},
    "unsigned": {"HU with an offset"},
    "8 bit": {"8-bit grey"},
    "12 bit": {"windowed grey"},
    "16 bit": {"windowed grey", "HU at another scale"},  # where nothing was cut both are true
    "0..1": {"normalised grey"},
    "z-score": {"normalised grey"},
    "HU": {"HU"},
    "like MR": {"not a CT", "an unknown unit"},
}


def _kinds(name: str) -> set[str]:
    found = next(kinds for part, kinds in _PLAIN.items() if part in name)
    return {f"{kind}, inverted" for kind in found} if "inverted" in name else found


KINDS = {name: _kinds(name) for name in DEGRADED}
# What is repaired to HU unasked.
REPAIRED = {name for name in DEGRADED if name.startswith(("offset", "unsigned", "slope", "HU"))} - {"slope 0.8165"}


def narrowed(voxels: Voxels) -> Voxels:
    """The middle third of each slice's rows and the middle half of its columns: no air around the body."""
    height, width = voxels.shape[-2:]
    return voxels[..., height // 3 : 2 * height // 3, width // 4 : 3 * width // 4]
