"""A volume of voxels and where it lies in the patient: turned to one canonical orientation, and exactly back.

Points are (x, y, z) in mm in DICOM's patient frame LPS: x to the patient's left, y to the back, z to the head (PS3.3, C.7.6.2.1.1).
Indices and array axes are always z, y, x.
"""
# mypy: allow-untyped-calls

from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

Array = NDArray[Any]

CANONICAL = np.eye(3)[::-1]  # array axes of the canonical orientation: to the head, to the back, to the patient's left
MOST_LABELS = 16
LEAST_COSINE = 1e-15
SAME_MM, SAME_COSINE = 1e-3, 1e-4  # below these two grids are one: what files round away


@dataclass(frozen=True)
class Turn:
    """An exact reorientation of arrays: axes permuted, then some of them reversed; both give views.

    Attributes:
        order: the stored axis that becomes each canonical axis.
        reverse: whether it is then reversed.
    """

    order: tuple[int, int, int]
    reverse: tuple[bool, bool, bool]

    def there(self, stored: Array) -> Array:
        """A canonical view of a stored array (Z, Y, X)."""
        return stored.transpose(self.order)[self._steps]

    def back(self, canonical: Array) -> Array:
        """A stored view of a canonical array."""
        return canonical[self._steps].transpose(np.argsort(self.order))

    @property
    def _steps(self) -> tuple[slice, slice, slice]:
        first, second, third = (slice(None, None, -1 if reverse else 1) for reverse in self.reverse)
        return first, second, third


@dataclass(frozen=True)
class Grid:
    """Where the voxels of an array (Z, Y, X) lie.

    Attributes:
        shape: Z, Y, X.
        spacing_mm: along z, y, x.
        origin_mm: the point of voxel [0, 0, 0], x, y, z.
        direction: nine cosines in SimpleITK's order: a 3 x 3 matrix row by row, whose columns are the directions in which the
            indices x, y and z run.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

    @staticmethod
    def of(image: sitk.Image | sitk.ImageFileReader) -> "Grid":
        """The grid of a three-dimensional SimpleITK image, or of a file whose header was read."""
        x, y, z = image.GetSize()
        spacing, origin = image.GetSpacing(), image.GetOrigin()
        return Grid((z, y, x), (spacing[2], spacing[1], spacing[0]), tuple(origin), tuple(image.GetDirection()))

    def place(self, image: sitk.Image) -> sitk.Image:
        """Writes this grid into the header of a SimpleITK image of the same size, which is returned."""
        image.SetSpacing(self.spacing_mm[::-1])
        image.SetOrigin(self.origin_mm)
        image.SetDirection(self._cosines)
        return image

    @property
    def _cosines(self) -> tuple[float, ...]:
        """The direction for SimpleITK, whose inversion of matrices fails at the least numbers that there are."""
        return tuple(cosine if abs(cosine) > LEAST_COSINE else 0.0 for cosine in self.direction)

    @cached_property
    def axes(self) -> NDArray[np.float64]:
        """(3, 3): unit vectors x, y, z in which the array axes z, y, x run, one a row."""
        return np.array(self.direction).reshape(3, 3).T[::-1]

    def point(self, index: Any) -> NDArray[np.float64]:
        """Points (..., 3) as x, y, z of indices (..., 3) as z, y, x, which need not be whole."""
        return np.asarray(self.origin_mm) + (np.asarray(index, dtype=np.float64) * self.spacing_mm) @ self.axes

    @cached_property
    def turn(self) -> Turn:
        """To the canonical orientation, whose axes are the nearest to head, back and left."""
        cosines = CANONICAL @ self.axes.T  # canonical axis, stored axis
        order = max(permutations(range(3)), key=lambda axes: sum(abs(cosines[row, axis]) for row, axis in enumerate(axes)))
        first, second, third = (bool(cosines[row, axis] < 0) for row, axis in enumerate(order))
        return Turn((order[0], order[1], order[2]), (first, second, third))

    def canonical(self) -> "Grid":
        """The same points in canonical order: z to the head, y to the back, x to the patient's left."""
        turn = self.turn
        corner = [0, 0, 0]
        for axis, reverse in zip(turn.order, turn.reverse, strict=True):
            corner[axis] = self.shape[axis] - 1 if reverse else 0
        signs = np.where(turn.reverse, -1.0, 1.0)
        axes = self.axes[list(turn.order)] * signs[:, None]
        shape, spacing = ([values[axis] for axis in turn.order] for values in (self.shape, self.spacing_mm))
        return Grid(
            (int(shape[0]), int(shape[1]), int(shape[2])),
            (spacing[0], spacing[1], spacing[2]),
            tuple(self.point(corner).tolist()),
            tuple(axes[::-1].T.ravel().tolist()),
        )

    def is_same(self, other: "Grid") -> bool:
        """Whether both place their voxels at the same points, but for what files round away."""
        if self.shape != other.shape:
            return False
        corners = np.array(np.meshgrid(*((0, side - 1) for side in self.shape))).reshape(3, -1).T
        far = np.abs(self.point(corners) - other.point(corners)).max()
        return bool(far < SAME_MM + SAME_COSINE * max(np.multiply(self.shape, self.spacing_mm)))


@dataclass(frozen=True)
class Volume:
    """Voxels (Z, Y, X) of any type and their grid; None where nobody knows it, as for a picture."""

    voxels: Array
    grid: Grid | None = None

    @staticmethod
    def of(image: sitk.Image) -> "Volume":
        """The volume of a three-dimensional SimpleITK image, whose voxels it shares and which it keeps; they are read only."""
        return Volume(np.asarray(_Shared(image)), Grid.of(image))

    def image(self) -> sitk.Image:
        """A SimpleITK image of it.

        Raises:
            ValueError: the grid is not known.
        """
        if self.grid is None:
            raise ValueError("a volume without a grid is no image")
        return self.grid.place(sitk.GetImageFromArray(self.voxels))

    @property
    def holds_labels(self) -> bool:
        """Whether it is a mask: two values only, or whole numbers up to ``MOST_LABELS``; of a picture nobody knows."""
        if self.grid is None:
            return False
        low, high = self.voxels.min(), self.voxels.max()
        if self.voxels.dtype.kind in "bui" and low >= 0 and high <= MOST_LABELS:
            return True
        return bool(low < high and all(((plane == low) | (plane == high)).all() for plane in self.voxels))

    def canonical(self) -> "Volume":
        """The same voxels at the same points, z to the head, y to the back, x to the patient's left: a view.

        Without a grid it stays as it is: slices in the usual display, the patient's right at the left.
        """
        return self if self.grid is None else Volume(self.grid.turn.there(self.voxels), self.grid.canonical())

    def stored(self, canonical: Array) -> Array:
        """An array in canonical order as one in the order of this volume: a view."""
        return canonical if self.grid is None else self.grid.turn.back(canonical)

    def on(self, grid: Grid, labels: bool, outside: float = 0.0) -> "Volume":
        """The volume on another grid, by linear interpolation, or for labels by the nearest voxel.

        On its own grid it is unchanged.

        Args:
            outside: the value where it has no voxels.

        Raises:
            ValueError: the grid is not known.
        """
        if self.grid is None:
            raise ValueError("a volume without a grid lies nowhere")
        if self.grid.is_same(grid):
            return Volume(self.voxels, grid)
        z, y, x = grid.shape
        kind = sitk.sitkNearestNeighbor if labels else sitk.sitkLinear
        cosines, spacing = grid._cosines, grid.spacing_mm[::-1]
        pixels = sitk.sitkUnknown if labels else sitk.sitkFloat64  # of whole numbers ITK would cut what is behind the point
        image = sitk.Resample(self.image(), (x, y, z), sitk.Transform(), kind, grid.origin_mm, spacing, cosines, outside, pixels)
        found = sitk.GetArrayFromImage(image)
        if not labels:
            found = (np.rint(found) if self.voxels.dtype.kind in "bui" else found).astype(self.voxels.dtype)
        return Volume(found, grid)


class _Shared:
    """The voxels of an image as numpy asks for them: an array made of it keeps the image, which a view by SimpleITK does not."""

    def __init__(self, image: sitk.Image) -> None:
        self.image, self.__array_interface__ = image, sitk.GetArrayViewFromImage(image).__array_interface__
