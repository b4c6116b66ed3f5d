"""What unit the grey values of a slice are in, as far as air and tissue tell."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungseg.imaging.body import PADDING_HU, divide

HU, SCALED, OFFSET, EIGHT_BIT, OTHER = "HU", "HU at another scale", "HU with an offset", "8-bit grey", "an unknown unit"
AIR_HU, TISSUE_HU = (-1100.0, -900.0), (-150.0, 150.0)
FEWEST = 0.02  # of the pixels must be air around the body, or a lung that the field of view cuts would pass for it


@dataclass(frozen=True)
class Greys:
    """Grey values of a slice.

    Attributes:
        low, high: the least and the greatest of all values.
        air: the middle grey of the air around the body; None where hardly any is seen, or it was cut to one value.
        tissue: the middle grey of tissue.
        padding: share of pixels below ``PADDING_HU``.
        kind: ``HU``, ``SCALED``, ``OFFSET``, ``EIGHT_BIT`` or ``OTHER``.
        flat: share of the air inside the body that has the lowest value of all: high where a window cut the lungs to black.
    """

    low: float
    high: float
    air: float | None
    tissue: float
    padding: float
    kind: str
    flat: float


def describe(image: NDArray[Any]) -> Greys:
    """The grey values of a slice (H, W)."""
    low, high = float(image.min()), float(image.max())
    if low == high:
        return Greys(low, high, None, low, 0.0, OTHER, 0.0)
    parts = divide(image)
    around = ~parts.body & ~parts.padding
    air = float(np.median(parts.values[around])) if around.mean() >= FEWEST else None
    tissue = float(np.median(parts.values[parts.tissue])) if parts.tissue.any() else high
    padding = float(np.mean(image < PADDING_HU)) if high > PADDING_HU else 0.0
    kind = _kind(low, high, air if air is not None else max(low, AIR_HU[0]), tissue)
    lungs = parts.body & ~parts.tissue
    flat = float(np.mean(parts.values[lungs] <= low)) if lungs.any() else 0.0
    return Greys(low, high, air, tissue, padding, kind, flat)


def _kind(low: float, high: float, air: float, tissue: float) -> str:
    if low >= 0 and 2 < high <= 255:  # no matter whether it was interpolated since
        return EIGHT_BIT
    if AIR_HU[0] <= air <= AIR_HU[1] and TISSUE_HU[0] <= tissue <= TISSUE_HU[1]:
        return HU
    if abs(tissue - air - 1000) < 150 and air > -500:
        return OFFSET
    return SCALED if air < -500 and abs(tissue) < 300 else OTHER
