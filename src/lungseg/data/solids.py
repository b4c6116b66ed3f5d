"""Shapes in three dimensions, and the plane that cuts through them: what the generated patient is made of.

Coordinates are a patient's own, in mm: x to the patient's left, y to the back, z to the head. A positive signed
distance is inside.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Point = tuple[float, float, float]  # x, y, z in mm
Hit = tuple[tuple[slice, slice], Floats]  # a box of pixels, and the signed distance in it


@dataclass(frozen=True)
class Waves:
    """A smooth random field in three dimensions of mean 0 and variance 1: a few plane waves of random direction."""

    vectors: NDArray[np.float64]  # (n, 3) radians per mm
    phases: NDArray[np.float64]  # (n,)

    @classmethod
    def draw(cls, rng: np.random.Generator, wavelength_mm: float, count: int = 6) -> "Waves":
        direction = rng.normal(size=(count, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        length = wavelength_mm * rng.uniform(0.7, 1.6, (count, 1))
        return cls(direction * 2 * np.pi / length, rng.uniform(0, 2 * np.pi, count))


@dataclass(frozen=True)
class Solid:
    """A capsule from start to end with three radii, in mm: a tube, a ball or an ellipsoid."""

    start: Point
    end: Point
    radii: Point
    hu: float

    def grown(self, mm: float) -> "Solid":
        return Solid(self.start, self.end, (self.radii[0] + mm, self.radii[1] + mm, self.radii[2] + mm), self.hu)


class Plane:
    """One transverse plane through a patient: the patient's coordinates of each pixel of an (H, W) picture.

    Args:
        shape: (H, W).
        z: height of the plane in mm.
        pixel_mm: side of a pixel.
        centre_px: (column, row) of the patient's axis.
        angle: turn of the patient in radians; half a turn is a prone patient.
        warp: two fields that bend the anatomy in x and y, and by how many mm.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        z: float,
        pixel_mm: float,
        centre_px: tuple[float, float],
        angle: float,
        warp: tuple[Waves, Waves, float],
    ) -> None:
        self.shape, self.z, self.pixel_mm, self.centre_px = shape, z, pixel_mm, centre_px
        self.turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        rows, columns = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij", sparse=True)
        straight_x, straight_y = self._patient_xy(rows, columns)
        self.x: Floats = (straight_x + warp[2] * self.field(warp[0])).astype(np.float32)
        self.y: Floats = (straight_y + warp[2] * self.field(warp[1])).astype(np.float32)

    def pixels(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """(column, row) of points (n, 2) in the patient's x and y."""
        return np.asarray(points_mm @ self.turn.T / self.pixel_mm + np.array(self.centre_px))

    def field(self, waves: Waves) -> Floats:
        """The smooth field on this plane, (H, W); computed on every fourth pixel, which its wavelengths allow."""
        rows, columns = max(self.shape[0] // 4, 2), max(self.shape[1] // 4, 2)
        coarse_y = ((np.arange(rows) + 0.5) * self.shape[0] / rows - 0.5)[:, None]
        coarse_x = ((np.arange(columns) + 0.5) * self.shape[1] / columns - 0.5)[None, :]
        x, y = (axis.astype(np.float32)[None] for axis in self._patient_xy(coarse_y, coarse_x))
        k = waves.vectors.astype(np.float32)[:, :, None, None]
        phase = (waves.phases + waves.vectors[:, 2] * self.z).astype(np.float32)[:, None, None]
        coarse = np.cos(k[:, 0] * x + k[:, 1] * y + phase).sum(axis=0) * np.float32(np.sqrt(2 / len(phase)))
        return np.asarray(cv2.resize(coarse, self.shape[::-1], interpolation=cv2.INTER_LINEAR), dtype=np.float32)

    def inside(self, solid: Solid) -> Hit | None:
        """The signed distance to a solid in the box of pixels around it; None where the plane misses it."""
        z_ends = solid.start[2], solid.end[2]
        if not min(z_ends) - solid.radii[2] < self.z < max(z_ends) + solid.radii[2]:
            return None
        a, b, radii = (np.array(value) for value in (solid.start, solid.end, solid.radii))
        low, high = np.minimum(a, b) - radii, np.maximum(a, b) + radii
        margin = 14.0  # the warp, and the soft edge
        xs, ys = (low[0] - margin, high[0] + margin), (low[1] - margin, high[1] + margin)
        corners = self.pixels(np.array([(x, y) for x in xs for y in ys]))
        left, top = np.maximum(np.floor(corners.min(axis=0)), 0).astype(int)
        right, bottom = np.minimum(np.ceil(corners.max(axis=0)) + 1, self.shape[::-1]).astype(int)
        if left >= right or top >= bottom:
            return None
        box = (slice(top, bottom), slice(left, right))
        # In units of the radii the capsule is a round one.
        px = (self.x[box] - np.float32(a[0])) * np.float32(1 / radii[0])
        py = (self.y[box] - np.float32(a[1])) * np.float32(1 / radii[1])
        pz = float((self.z - a[2]) / radii[2])
        along = (b - a) / radii
        length = float(along @ along)
        if length > 0:
            ax, ay, az = (along / length).astype(np.float32)
            t = np.clip(px * ax + py * ay + np.float32(pz) * az, 0, 1)
            px -= t * np.float32(along[0])
            py -= t * np.float32(along[1])
            rest = pz - t * np.float32(along[2])
        else:
            rest = np.float32(pz)
        return box, (1 - np.sqrt(px * px + py * py + rest * rest)) * np.float32(min(radii[0], radii[1]))

    def _patient_xy(self, rows: NDArray[Any], columns: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        right = (columns - self.centre_px[0]) * self.pixel_mm
        down = (rows - self.centre_px[1]) * self.pixel_mm
        (c, s), (ms, mc) = self.turn.T
        return c * right + s * down, ms * right + mc * down


def paint(image: Floats, inside_mm: Floats, hu: float | Floats, edge_mm: float) -> None:
    """Lay a grey value over the picture where the signed distance is positive, with an edge as soft as the given mm."""
    cover = np.clip(inside_mm * np.float32(1 / edge_mm) + np.float32(0.5), 0, 1)
    image += cover * (hu - image)


def gaussian(image: Floats, sigma_px: float) -> Floats:
    """The picture blurred."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma_px), dtype=np.float32)


def grainy(rng: np.random.Generator, shape: tuple[int, int], sigma_px: float) -> Floats:
    """Noise (H, W) of mean 0 and standard deviation 1 with grains of the given size; of single pixels below 0.4."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    if sigma_px < 0.4:
        return noise
    return gaussian(noise, sigma_px) * np.float32(2 * np.sqrt(np.pi) * sigma_px)
