"""Whether a slice looks like an axial chest CT, and whether a mask of it looks like lungs.

These are doubts, for a person to look at: nothing is refused and nothing mended by them. A sound mask may raise one: of the
true masks of 184 slices and 4 whole scans none does as a whole, but single slices of those scans do (domes of the diaphragm,
thin lung at the bases), and so do tumours and consolidation.
"""
# mypy: allow-untyped-calls

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungseg.imaging.body import Parts, divide, shrunk
from lungseg.labels import LUNG

LEAST_SEPARATION = 0.76  # of the grey variance must lie between air and tissue
LEAST_BODY = 0.02  # of the picture
LEAST_LUNG = 0.005  # of the body
MOST_LUNG = 0.6  # of the picture
MOST_TISSUE_PIECES = 12
LEAST_LARGEST = 0.25  # of the tissue must be in one piece; with both arms beside the trunk a third is
MOST_CUT, LEAST_CONVEX = 0.4, 0.93  # an axial body that fills so much of the upper or lower edge is convex all the same
MOST_OUTSIDE = 0.05  # of the mask lies outside the body
MOST_SOLID = 0.03  # of the mask is compact tissue; a tumour, consolidation, or an organ taken for lung
MOST_SOLID_FOUND = 0.25  # of a mask that a network made, which finds tumours and consolidation as it should
LUNG_LIKE = 0.05  # of the body is air where there are lungs; bowels hold less
MOST_MISSED, LEAST_MISSED = 0.15, 0.02  # of all air in the body is not in the mask, if it is so much of the body
MOST_RIM = 0.03  # of the mask is air in a thin rim just beside it
MOST_GAP = 0.08  # of the mask is the largest gap in it
MOST_PIXELS = 2048  # along a side that are looked at; of a larger picture every second, third, ... one
MOST_SLICES = 48  # of a volume that are looked at to judge a network's mask
MOST_PIECES = 6  # of the mask
LEAST_SIDE = 0.02  # of the mask lies on the other side of the body


@dataclass(frozen=True)
class Look:
    """What was counted in a slice, or in all slices of a volume: pixels of the coarse grid, unless it says otherwise."""

    slices: int = 0
    constant: int = 0  # slices that hold one value only
    unlike_ct: int = 0  # slices that do not look like an axial CT
    pixels: int = 0  # of the slice itself
    body: int = 0
    lung: int = 0  # of the mask
    full_lung: int = 0  # of the mask, in the image's own pixels
    outside: int = 0  # of the mask that lies outside the body
    solid: int = 0  # of the mask that is compact tissue
    missed: int = 0  # air inside the body that is not in the mask, thin rims left out
    rim: int = 0  # such air just beside the mask
    gap: int = 0  # the largest piece that the mask encloses without holding it
    sides: tuple[int, int] = (0, 0)  # of the mask in the left and in the right half of the body's box, as displayed
    pieces: int = 0  # of the mask; of a volume, in the slice with some lung that has most of them

    @staticmethod
    def total(looks: Iterable["Look"]) -> "Look":
        """One look at all slices of a volume."""
        every = list(looks)
        summed = {f.name: sum(getattr(one, f.name) for one in every) for f in fields(Look) if f.name not in ("sides", "pieces")}
        left, right = (sum(one.sides[side] for one in every) for side in (0, 1))
        # At the ends of the lungs a few specks are all there is.
        pieces = max((one.pieces for one in every if one.lung >= LEAST_LUNG * one.body or len(every) == 1), default=0)
        return Look(**summed, sides=(left, right), pieces=pieces)


@dataclass(frozen=True)
class Doubt:
    """A reason to look again.

    Attributes:
        kind: one word for tables, such as ``empty``.
        sentence: what is odd, for a person, to be read after the file's name.
        degree: how far beyond its limit; 1 is right at it.
    """

    kind: str
    sentence: str
    degree: float


def look(image: NDArray[Any], mask: NDArray[Any]) -> Look:
    """Counts of a slice (H, W) of any grey values and its mask (H, W), where 1 or True is lung."""
    full_lung = _count(mask == LUNG)
    if image.min() == image.max():
        return Look(slices=1, constant=1, full_lung=full_lung)
    step = -(-max(image.shape) // MOST_PIXELS)
    lung = mask[::step, ::step] == LUNG
    parts = divide(image[::step, ::step])
    body, tissue, coarse_lung = parts.body, parts.tissue, shrunk(lung, parts.body.shape)
    left_out = body & ~tissue & ~coarse_lung
    columns = np.flatnonzero(body.any(axis=0))
    middle = int(columns[[0, -1]].mean()) if len(columns) else body.shape[1] // 2
    return Look(
        slices=1,
        unlike_ct=int(is_unlike_ct(parts)),
        pixels=body.size,
        body=_count(body),
        lung=_count(coarse_lung),
        full_lung=full_lung,
        outside=_count(coarse_lung & ~body & ~_cut_lung(coarse_lung, parts)),
        solid=_count(ndimage.binary_opening(coarse_lung & tissue, iterations=3)),
        missed=_count(ndimage.binary_opening(left_out, iterations=2)),
        rim=_count(left_out & ndimage.binary_dilation(coarse_lung, iterations=2)),
        gap=max(_sizes(ndimage.binary_fill_holes(coarse_lung) & ~coarse_lung), default=0),
        sides=(_count(coarse_lung[:, : middle + 1]), _count(coarse_lung[:, middle + 1 :])),
        pieces=_pieces(lung),
    )


def doubts(seen: Look, in_volume: bool = False) -> list[Doubt]:
    """What is odd about an image and its mask, the gravest first.

    Args:
        seen: of a picture, or ``Look.total`` of a volume.
        in_volume: it is one slice of a volume, so that little lung or none is nothing odd.
    """
    return [one for one in _measured(seen, in_volume) if one.degree > 1]


def suspicion(seen: Look, in_volume: bool = False) -> float:
    """The highest degree of all doubts, below 1 where there is none: what to look at first."""
    return max(one.degree for one in _measured(seen, in_volume))


def warnings(stack: NDArray[Any], mask: NDArray[Any]) -> tuple[str, ...]:
    """What somebody should read who gets a mask (Z, H, W) of a stack (Z, H, W) from a network, the gravest first.

    Of many slices some are looked at, evenly spread. Dense tissue counts where it is a good part of the mask.
    """
    chosen = np.unique(np.linspace(0, len(stack) - 1, MOST_SLICES).round().astype(int))
    seen = Look.total(look(stack[z], mask[z]) for z in chosen)
    return tuple(one.sentence for one in grave(doubts(replace(seen, full_lung=_count(mask == LUNG)))))


def grave(found: Iterable[Doubt]) -> list[Doubt]:
    """Those that are no tumour or consolidation: dense tissue counts where it is a good part of the mask."""
    return [one for one in found if one.kind != "solid" or one.degree > MOST_SOLID_FOUND / MOST_SOLID]


def _measured(seen: Look, in_volume: bool) -> list[Doubt]:
    """Every doubt with its degree, the highest first; those up to 1 are none."""
    if seen.constant == seen.slices:
        return [Doubt("constant", "the picture has no structure, all its pixels have one value", 10.0)]
    unlike = Doubt("not_ct", "the picture does not look like an axial chest CT", 10.0 * seen.unlike_ct / seen.slices / 2)
    lung, share = max(seen.lung, 1), seen.lung / max(seen.body, 1)
    if in_volume and share < LEAST_LUNG:
        return [unlike]
    if seen.full_lung == 0:
        seems_lung = seen.missed > LUNG_LIKE * seen.body
        return sorted([unlike, Doubt("empty", "no lung found", 4.0 if seems_lung else 1.1)], key=lambda one: -one.degree)
    outside, solid, missed = seen.outside / lung, seen.solid / lung, seen.missed / (seen.missed + lung)
    is_much = seen.missed > LEAST_MISSED * seen.body
    where = " in one slice" if seen.slices > 1 else ""
    one_sided = not in_volume and min(seen.sides) < LEAST_SIDE * seen.lung
    found = [
        unlike,
        Doubt("tiny", f"hardly any lung, {share:.2%} of the body", min(3.0, LEAST_LUNG / max(share, LEAST_LUNG / 3))),
        Doubt(
            "full",
            f"the mask covers {seen.lung / max(seen.pixels, 1):.0%} of the picture",
            seen.lung / max(seen.pixels, 1) / MOST_LUNG,
        ),
        Doubt("outside", f"{outside:.0%} of the mask lies outside the body", outside / MOST_OUTSIDE),
        Doubt("solid", f"{solid:.0%} of the mask is dense tissue (tumour, consolidation or another organ)", solid / MOST_SOLID),
        Doubt(
            "missed", f"{missed:.0%} of the air in the body is not in the mask", min(missed / MOST_MISSED, 9.0 if is_much else 1.0)
        ),
        Doubt("rim", f"a thin rim of lung is left out, {seen.rim / lung:.0%} of the mask's area", seen.rim / lung / MOST_RIM),
        Doubt(
            "gap",
            f"a gap inside the mask (dome of the diaphragm, tumour or hole), {seen.gap / lung:.0%} of its area",
            seen.gap / lung / MOST_GAP,
        ),
        Doubt("pieces", f"the mask lies in {seen.pieces} pieces{where}", max(0, seen.pieces - 2) / (MOST_PIECES - 2)),
        Doubt("one_lung", "lung on one side of the body only", 1.5 if one_sided else 0.0),
    ]
    return sorted(found, key=lambda one: -one.degree)


def is_unlike_ct(parts: Parts) -> bool:
    """Whether a slice that was divided does not look like an axial chest CT."""
    cut = max(parts.body[0].mean(), parts.body[-1].mean())
    return bool(
        parts.separation < LEAST_SEPARATION
        or parts.pieces > MOST_TISSUE_PIECES
        or parts.body.mean() < LEAST_BODY
        or parts.largest < LEAST_LARGEST
        or (cut > MOST_CUT and parts.convexity < LEAST_CONVEX)
    )


def _cut_lung(lung: NDArray[np.bool_], parts: Parts) -> NDArray[np.bool_]:
    """Air that no tissue closes in and that is mostly lung: a field of view that ends inside the lung shows no chest wall there."""
    field = ~parts.padding
    edge = field & ~ndimage.binary_erosion(field, iterations=2)
    labels, count = ndimage.label(field & ~parts.body)
    if count == 0 or not (edge & parts.body).any():  # a field that ends in the lung ends in the wall beside it too
        return np.zeros_like(lung)
    filled = ndimage.mean(lung, labels, np.arange(count + 1)) > 0.8
    filled[0] = False
    return np.asarray(filled[labels], dtype=bool)


def _pieces(lung: NDArray[np.bool_]) -> int:
    """Connected pieces that each hold at least a hundredth of the mask."""
    sizes = _sizes(lung)
    return sum(size >= 0.01 * sum(sizes) for size in sizes)


def _sizes(where: NDArray[np.bool_]) -> list[int]:
    """Of each connected piece."""
    labels, _ = ndimage.label(where)
    return [int(size) for size in np.bincount(labels.ravel())[1:]]


def _count(where: NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(where))
