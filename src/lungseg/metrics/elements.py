"""Where the surface of a mask lies, and how large each piece of it is: surface elements after Nikolov et al. 2018
(arXiv 1809.04430), their areas by marching cubes (Lorensen & Cline 1987).

There is an element on each corner between voxels whose 2 x 2 x 2 neighbours are not all the same; its area is that of the
polygons that part those neighbours. In 2-D it is a piece of outline.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray


def surface_elements(mask: NDArray[np.bool_], spacing: Sequence[float]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """The corners on the surface of a mask, and the area of the element on each of them; beyond the array is background.

    Shapes:
        mask (H, W) -> corners (1, H + 1, W + 1), areas (n,): lengths of outline, in the unit of the spacing.
        mask (Z, H, W) -> corners (Z + 1, H + 1, W + 1), areas (n,) in its square.
    """
    codes = _codes(mask)
    corners = codes + np.uint8(1) > 1  # neither 0 nor 255, which overflows to 0
    return corners, areas_of_codes([1.0, *spacing][-3:])[codes[corners]]


def areas_of_codes(spacing: Sequence[float]) -> NDArray[np.float64]:
    """The area of the surface between the neighbours of a corner, (256,) by their code: bit 4z + 2y + x for the one inside."""
    codes, normals = _triangles()
    stretched = normals * (np.prod(spacing) / np.array(spacing))  # what faces along an axis grows with the other two
    areas = np.zeros(256)
    np.add.at(areas, codes, np.linalg.norm(stretched, axis=1))
    return areas


def _codes(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Of each corner between voxels which of its neighbours are inside, (Z + 1, H + 1, W + 1).

    A plane is taken as a plate of thickness 1: (1, H + 1, W + 1). The area of its rim is the length of its outline.
    """
    codes = np.pad(mask, 1).view(np.uint8)
    if mask.ndim == 2:
        codes = np.stack([codes, codes])
    for axis, bits in ((2, np.uint8(1)), (1, np.uint8(2)), (0, np.uint8(4))):  # the last first: it lies closest in memory
        along = codes.swapaxes(0, axis)
        codes = (along[:-1] | along[1:] << bits).swapaxes(0, axis)
    return codes


@cache
def _triangles() -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The marching cubes' triangles of all codes in a cube of side 1: their codes (n,) and normals as long as their area (n, 3)."""
    codes, normals = [], []
    for code in range(1, 255):
        inside = [corner for corner in range(8) if code >> corner & 1]
        # The fewer corners are those cut off, each piece for itself (Lorensen & Cline 1987): a mask and its complement
        # have one and the same surface.
        fewer = inside if len(inside) <= 4 else sorted(set(range(8)) - set(inside))
        for polygon in _polygons(fewer):
            vectors = _fan(polygon)
            codes += [code] * len(vectors)
            normals.append(vectors)
    return np.array(codes), np.concatenate(normals)


def _polygons(cut_off: list[int]) -> Iterator[NDArray[np.float64]]:
    """A polygon (n, 3) around each piece of the corners that are cut off: middles of edges, in a cube from -1 to 1."""
    places = np.array(list(product((-1.0, 1.0), repeat=3)))  # a corner's bits are z, y, x
    left = set(cut_off)
    while left:
        piece = [left.pop()]
        for corner in piece:  # grows while it is walked
            beside = {corner ^ bit for bit in (1, 2, 4)} & left
            piece += beside
            left -= beside
        middles = [(places[i] + places[i ^ bit]) / 2 for i in piece for bit in (1, 2, 4) if i ^ bit not in piece]
        path = [middles.pop()]
        while middles:  # on to the middle of another edge of the same face, where both have the same -1 or 1
            following = next(i for i, middle in enumerate(middles) if (middle * path[-1] == 1).any())
            path.append(middles.pop(following))
        yield np.array(path)


def _fan(polygon: NDArray[np.float64]) -> NDArray[np.float64]:
    """A polygon's triangles from one of its points: their normals (n - 2, 3), as long as their area in a cube of side 1.

    Those around three corners in an L and four in a chain are not flat. Which point is taken is then a choice; that of the
    largest area in the cube is the same for all mirror images and turns of them.
    """
    fans = []
    for start in range(len(polygon)):
        first, *others = np.roll(polygon, -start, axis=0)
        sides = np.array(others) - first
        fans.append(np.cross(sides[:-1], sides[1:]) / 8)
    return max(fans, key=lambda fan: round(float(np.linalg.norm(fan, axis=1).sum()), 9))
