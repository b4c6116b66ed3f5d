"""What goes wrong with the mask of two lungs, done on purpose: holes, islands, a bridge, sides exchanged."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]  # (Z, H, W)
Spacing = tuple[float, float, float]

ISLAND_GAP_MM = 14.0  # from the lungs; what lies nearer may be lung


def dice(a: Mask, b: Mask) -> float:
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def with_ball(mask: Mask, centre: NDArray[np.float64], radius_mm: float, spacing_mm: Spacing, value: bool) -> None:
    """Set a ball, in place; the part that lies in the volume."""
    reach = radius_mm / np.asarray(spacing_mm)
    box = tuple(slice(max(0, int(c - r)), int(c + r) + 2) for c, r in zip(centre, reach, strict=True))
    away = [(np.arange(s.start, min(s.stop, n)) - c) * mm for s, n, c, mm in zip(box, mask.shape, centre, spacing_mm, strict=True)]
    z, y, x = np.ix_(*away)
    mask[box][z * z + y * y + x * x <= radius_mm**2] = value


def with_holes(mask: Mask, spacing_mm: Spacing, rng: np.random.Generator, count: int = 12) -> Mask:
    """Balls of 2 to 12 mm taken out of the lungs, all of them enclosed by lung."""
    out = mask.copy()
    step = (1, max(1, round(2 / spacing_mm[1])), max(1, round(2 / spacing_mm[2])))
    depth = ndimage.distance_transform_edt(mask[:, :: step[1], :: step[2]], sampling=np.multiply(spacing_mm, step))
    for radius in rng.uniform(2, 12, count):
        spots = np.argwhere(depth > radius + max(spacing_mm))
        if len(spots):
            with_ball(out, spots[rng.integers(len(spots))] * step, radius, spacing_mm, False)
    return out


def with_islands(mask: Mask, spacing_mm: Spacing, rng: np.random.Generator, count: int = 12) -> Mask:
    """Balls of 3 to 15 mm away from the lungs: in the body, outside it, and one of them below the diaphragm."""
    out = mask.copy()
    step = (1, 4, 4)
    away = ndimage.distance_transform_edt(~mask[:, ::4, ::4], sampling=np.multiply(spacing_mm, step))
    lowest = np.flatnonzero(mask.any(axis=(1, 2)))[0]
    for number, radius in enumerate(rng.uniform(3, 15, count)):
        spots = np.argwhere(away > radius + ISLAND_GAP_MM)
        if number == 0:
            spots = spots[(spots[:, 0] <= lowest + 20 / spacing_mm[0])]
        if len(spots):
            with_ball(out, spots[rng.integers(len(spots))] * step, radius, spacing_mm, True)
    return out


def with_bridge(
    mask: Mask,
    right: Mask,
    spacing_mm: Spacing,
    rng: np.random.Generator,
    back: bool = False,
    highest_mm: float = 50,
    starts: tuple[float, float] = (0.5, 0.5),
) -> Mask:
    """A bridge 3 to 10 mm thick and 20 mm high or more from lung to lung, in each slice at the narrowest row of a third.

    Args:
        back: in the back third, else in the front third.
        highest_mm: 20 at least.
        starts: shares of the slices with both lungs below it, from and to.
    """
    out = mask.copy()
    left = mask & ~right
    planes = np.flatnonzero(right.any(axis=(1, 2)) & left.any(axis=(1, 2)))
    start = int(np.quantile(planes, rng.uniform(*starts) if starts[0] < starts[1] else starts[0]))
    thick = max(1, round(rng.uniform(3, 10) / spacing_mm[1]))
    for z in range(start, start + max(1, round(rng.uniform(20, highest_mm) / spacing_mm[0]))):
        if z >= len(mask) or not (right[z].any() and left[z].any()):
            break
        rows = np.flatnonzero(mask[z].any(axis=1))
        third = len(rows) // 3 + 1
        best: tuple[int, int, int, int] | None = None
        for row in rows[-third:] if back else rows[:third]:
            a, b = np.flatnonzero(right[z, row]), np.flatnonzero(left[z, row])
            if len(a) and len(b) and (best is None or b[0] - a[-1] < best[0]):
                best = int(b[0] - a[-1]), int(row), int(a[-1]), int(b[0])
        if best is not None:
            _, row, first, last = best
            out[z, max(0, row - thick // 2) : max(0, row - thick // 2) + thick, first : last + 1] = True
    return out
