"""The body in a slice of any grey values: what is air, what is tissue, and what tissue encloses.

All of it on a coarse grid and without HU, for a slice is divided at a threshold of its own (Otsu 1979).
"""
# mypy: allow-untyped-calls

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungseg.labels import PADDING_HU

GRID = 128  # pixels along the longer side of the coarse grid
BEYOND = 1e9  # no grey value lies there, and differences of larger ones may overflow
SPECK = 20  # a piece of tissue below so many coarse pixels is noise
WALL_GAP = 3  # coarse pixels of a chest wall that may be missing


@dataclass(frozen=True)
class Parts:
    """A slice, divided; all arrays (h, w) on the coarse grid.

    Attributes:
        values: grey values as they are, padding raised to ``PADDING_HU``.
        padding: one value from a corner on: outside the field of view, or air that was cut to one grey.
        body: tissue with all that it encloses, the lungs among it.
        separation: how much of the grey variance lies between air and tissue, 0 to 1 (Otsu's criterion).
        convexity: of the largest piece of tissue with what it encloses; 1 is convex.
        pieces: of tissue, specks left out.
        largest: share of the tissue that is in its largest piece.
    """

    values: NDArray[np.float32]
    padding: NDArray[np.bool_]
    tissue: NDArray[np.bool_]
    body: NDArray[np.bool_]
    separation: float
    convexity: float
    pieces: int
    largest: float


def divide(image: NDArray[Any]) -> Parts:
    """The parts of a slice (H, W) that does not hold one value only."""
    values, padding = _coarse(image)
    low, high = np.percentile(values[~padding], (0.5, 99.5))
    grey = np.clip((values - low) / max(high - low, np.finfo(np.float32).tiny), 0, 1)
    threshold, separation = _air_and_tissue(grey[~padding])
    tissue = (grey > threshold) & ~padding
    body, convexity, pieces, largest = _body(tissue)
    return Parts(values, padding, tissue, body, separation, convexity, pieces, largest)


def shrunk(where: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """A mask (H, W) on a grid of this shape: where most of it is set."""
    return cv2.resize(where.astype(np.float32), shape[::-1], interpolation=cv2.INTER_AREA) > 0.5


def _coarse(image: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    pixels = np.clip(image, -BEYOND, BEYOND).astype(np.float32, copy=False)
    if pixels.max() > PADDING_HU:
        pixels = np.maximum(pixels, np.float32(PADDING_HU))
    scale = GRID / max(pixels.shape)
    shape = (max(1, round(pixels.shape[0] * scale)), max(1, round(pixels.shape[1] * scale)))
    values = cv2.resize(pixels, shape[::-1], interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    padding = np.zeros(shape, dtype=bool)
    for corner in {float(pixels[row, column]) for row in (0, -1) for column in (0, -1)}:
        labels, _ = ndimage.label(shrunk(pixels == corner, shape))
        padding |= np.isin(labels, [label for label in labels[[0, 0, -1, -1], [0, -1, 0, -1]] if label])
    if padding.all():
        padding[:] = False
    return values.astype(np.float32, copy=False), padding


def _air_and_tissue(grey: NDArray[np.float32]) -> tuple[float, float]:
    """The grey between air and tissue, and how much of the variance lies between the two: Otsu's threshold and its criterion."""
    counts, edges = np.histogram(grey, 256, (0, 1))
    shares, centres = counts / counts.sum(), (edges[1:] + edges[:-1]) / 2
    below, moment = np.cumsum(shares), np.cumsum(shares * centres)
    spread = below * (1 - below)
    between = np.divide((moment[-1] * below - moment) ** 2, spread, out=np.zeros_like(spread), where=spread > 0)
    best = int(between.argmax())
    return float(edges[best + 1]), float(between[best] / max(float(grey.var()), np.finfo(np.float32).tiny))


def _body(tissue: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], float, int, float]:
    """Body, convexity, pieces and the share of the largest, as ``Parts`` has them."""
    labels, _ = ndimage.label(ndimage.binary_opening(tissue))
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    if not sizes.any():
        return np.zeros_like(tissue), 1.0, 0, 0.0
    kept = np.flatnonzero(sizes >= 0.05 * sizes.max())
    padded = np.pad(np.isin(labels, kept), WALL_GAP)
    body = ndimage.binary_fill_holes(ndimage.binary_closing(padded, iterations=WALL_GAP))[WALL_GAP:-WALL_GAP, WALL_GAP:-WALL_GAP]
    largest = ndimage.binary_fill_holes(labels == sizes.argmax())
    hull = np.zeros(tissue.shape, np.uint8)
    outline = np.argwhere(largest)[:, ::-1].astype(np.int32)
    cv2.fillConvexPoly(hull, cv2.convexHull(outline).reshape(-1, 2), 1)
    convexity = float(largest.sum() / hull.sum())
    return body, convexity, int(np.count_nonzero(sizes > SPECK)), float(sizes.max() / sizes.sum())
