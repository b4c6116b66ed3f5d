"""Small things that several tests are made of: an ellipse chest, and a folder of slices as a user would have one."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from lungseg.data.cases import Stack
from lungseg.labels import IGNORE, LUNG


def chest(side: int = 64, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """A body with two lungs in HU (side, side), and its labels; the seed moves the body and sizes the lungs."""
    rng = np.random.default_rng(seed)
    right, down, swell = *rng.uniform(-0.06, 0.06, 2), rng.uniform(0.9, 1.1)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j] - np.reshape([down, right], (2, 1, 1))
    body = (x / 0.88) ** 2 + (y / 0.7) ** 2 < 1
    lung = ((np.abs(x) - 0.42) / (0.27 * swell)) ** 2 + (y / (0.45 * swell)) ** 2 < 1
    image = np.where(body, np.where(lung, -850.0, 40.0), -1000.0) + rng.normal(0, 15, (side, side))
    return image.astype(np.float32), lung.astype(np.uint8) * np.uint8(LUNG)


def write_slice(images: Path, masks: Path, name: str, seed: int, side: int = 64) -> None:
    """One chest and its mask as files: a .tif holds HU, any other picture 8 bits; the mask is a PNG of 0 and 255."""
    image, labels = chest(side, seed)
    pixels = image.round().astype(np.int16)
    if not name.endswith(".tif"):
        pixels = np.clip((image + 1000) * 255 / 1400, 0, 255).round().astype(np.uint8)
    for path, values in ((images / name, pixels), (masks / f"{Path(name).stem}.png", labels * np.uint8(255))):
        path.parent.mkdir(parents=True, exist_ok=True)
        done, data = cv2.imencode(path.suffix, values)  # not imwrite, which knows no umlauts on some systems
        assert done
        path.write_bytes(data.tobytes())


def write_dataset(root: Path) -> Path:
    """A folder for ``data.root``: 8 training slices of 3 patients, 2 test slices of a fourth, 64 x 64, PNG and TIFF."""
    train = ["p01_a.png", "p01_b.png", "p01_c.tif", "p02_a.png", "p02_b.tif", "p03_a.png", "p03_b.tif", "p03_c.png"]
    for part, names in (("Train", train), ("Test", ["p04_a.png", "p04_b.tif"])):
        for name in names:
            seed = 10 * int(name[1:3]) + ord(name[4])
            write_slice(root / part / "Images", root / part / "Masks", name, seed)
    return root


@dataclass(frozen=True)
class ChestCase:
    """A case of one chest, (1, height, width), with a strip to ignore at its top."""

    name: str
    patient: str | None = None
    source: str = "chests"
    shape: tuple[int, int] = (40, 48)
    seed: int = 0

    def identity(self) -> tuple[object, ...]:
        return self.name, self.shape, self.seed

    def read(self) -> Stack:
        image, labels = chest(max(self.shape), self.seed)
        labels[:4] = IGNORE
        height, width = self.shape
        return Stack(image[None, :height, :width], labels[None, :height, :width])
