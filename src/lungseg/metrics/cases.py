"""The figures of a case: what a predicted mask is worth beside the true one, for an image or for a volume.

``metrics.definitions`` says what each of them means.
"""

import math

import numpy as np
from numpy.typing import NDArray

from lungseg.labels import IGNORE, LUNG
from lungseg.metrics.overlap import Overlap, overlap
from lungseg.metrics.surface import surface_scores

TOLERANCE = 2.0  # mm, or pixels where no spacing is known: what two hands differ by along the pleura

# The figures by which cases are compared. Signed ones are compared by their size: which of two is better, 0 being the best.
HIGHER_IS_BETTER = {
    "iou": True,
    "dice": True,
    "hd95_mm": False,
    "hd95_px": False,
    "assd_mm": False,
    "assd_px": False,
    "nsd": True,
    "area_error": False,
    "iou_3d": True,
    "dice_3d": True,
    "hd95_3d_mm": False,
    "assd_3d_mm": False,
    "nsd_3d": True,
    "volume_error": False,
    "volume_error_ml": False,
    "false_lung_pixels": False,
}
SIGNED = frozenset({"area_error", "volume_error", "volume_error_ml"})

TITLES = {
    "iou": "IoU",
    "dice": "Dice",
    "hd95_mm": "HD95 (mm)",
    "hd95_px": "HD95 (px)",
    "assd_mm": "ASSD (mm)",
    "assd_px": "ASSD (px)",
    "nsd": "surface Dice",
    "area_error": "area error (share of the truth)",
    "false_lung_pixels": "false lung (px)",
    "iou_3d": "IoU 3-D",
    "dice_3d": "Dice 3-D",
    "hd95_3d_mm": "HD95 3-D (mm)",
    "assd_3d_mm": "ASSD 3-D (mm)",
    "nsd_3d": "surface Dice 3-D",
    "volume_error": "volume error (share of the truth)",
    "volume_error_ml": "volume error (ml)",
    "slices": "slices",
    "slices_with_lung": "slices with lung",
    "false_lung_slices": "slices with false lung",
    "false_lung_pixels_max": "most false lung in a slice (px)",
}


def range_of(figure: str) -> tuple[float, float]:
    """What a figure lies between: overlaps 0 and 1, distances and sizes of errors from 0 on."""
    if figure in SIGNED:
        return -math.inf, math.inf
    return 0.0, 1.0 if HIGHER_IS_BETTER[figure] else math.inf


def largest_difference(figure: str) -> float:
    """What two values of a figure differ by at most."""
    low, high = range_of(figure)
    return high - low


def case_figures(
    prediction: NDArray[np.bool_],
    truth: NDArray[np.uint8],
    spacing_mm: tuple[float, float, float] | None,
    tolerance: float = TOLERANCE,
) -> dict[str, float]:
    """``image_figures`` of a single slice (1, H, W) without a spacing, else ``volume_figures`` of all slices (Z, H, W)."""
    if spacing_mm is None and len(truth) == 1 == len(prediction):
        return image_figures(prediction[0], truth[0], None, tolerance)
    return volume_figures(prediction, truth, spacing_mm, tolerance)


def image_figures(
    prediction: NDArray[np.bool_],
    truth: NDArray[np.uint8],
    spacing: tuple[float, float] | None,
    tolerance: float = TOLERANCE,
) -> dict[str, float]:
    """Figures of one image: iou, dice, hd95, assd, nsd, area_error, false_lung_pixels; nan where there is none.

    Names of distances end in ``_mm``, or in ``_px`` where no spacing is known.

    Args:
        prediction: (H, W).
        truth: (H, W): 0 background, 1 lung, 255 ignored.
        spacing: y, x in mm.
        tolerance: of nsd, in mm or pixels.

    Raises:
        UserError: the shapes differ.
    """
    counts = overlap(prediction, truth)
    unit = "px" if spacing is None else "mm"
    return {
        "iou": counts.iou,
        "dice": counts.dice,
        **_surface(counts, prediction, truth, spacing or (1.0, 1.0), tolerance, (f"hd95_{unit}", f"assd_{unit}", "nsd")),
        "area_error": _relative_error(counts),
        "false_lung_pixels": math.nan if counts.has_lung else float(counts.false_positive),
    }


def volume_figures(
    prediction: NDArray[np.bool_],
    truth: NDArray[np.uint8],
    spacing_mm: tuple[float, float, float] | None,
    tolerance: float = TOLERANCE,
) -> dict[str, float]:
    """Figures of one volume, or of a stack: those of its images as means over slices with lung in their truth, and its own.

    Its own are iou_3d, dice_3d and volume_error, with a spacing hd95_3d_mm, assd_3d_mm, nsd_3d and volume_error_ml, all of them
    nan where no slice has lung in its truth; and counts of slices.

    Args:
        prediction: (Z, H, W).
        truth: (Z, H, W): 0 background, 1 lung, 255 ignored.
        spacing_mm: z, y, x.
        tolerance: of nsd and nsd_3d, in mm or pixels.

    Raises:
        UserError: the shapes differ.
    """
    counts = overlap(prediction, truth)
    in_plane = None if spacing_mm is None else spacing_mm[1:]
    slices = [image_figures(*pair, in_plane, tolerance) for pair in zip(prediction, truth, strict=True)]
    with_lung = [figures for figures in slices if not math.isnan(figures["iou"])]
    false_lungs = [figures["false_lung_pixels"] for figures in slices if figures["false_lung_pixels"] > 0]
    own = {"iou_3d": counts.iou, "dice_3d": counts.dice}
    if spacing_mm is not None:
        own |= _surface(counts, prediction, truth, spacing_mm, tolerance, ("hd95_3d_mm", "assd_3d_mm", "nsd_3d"))
    own["volume_error"] = _relative_error(counts)
    if spacing_mm is not None:
        excess = counts.false_positive - counts.false_negative if counts.has_lung else math.nan
        own["volume_error_ml"] = excess * math.prod(spacing_mm) / 1000
    return {
        **{name: _mean([figures[name] for figures in with_lung]) for name in slices[0] if name != "false_lung_pixels"},
        **own,
        "slices": float(len(slices)),
        "slices_with_lung": float(len(with_lung)),
        "false_lung_slices": float(len(false_lungs)),
        "false_lung_pixels_max": max(false_lungs, default=0.0),
    }


def _surface(
    counts: Overlap,
    prediction: NDArray[np.bool_],
    truth: NDArray[np.uint8],
    spacing: tuple[float, ...],
    tolerance: float,
    names: tuple[str, str, str],
) -> dict[str, float]:
    """HD95, ASSD and NSD by these names; nan where the truth has no lung. What is ignored is background in both masks."""
    if not counts.has_lung:
        return dict.fromkeys(names, math.nan)
    scores = surface_scores(prediction & (truth != IGNORE), truth == LUNG, spacing, tolerance)
    return dict(zip(names, (scores.hd95, scores.assd, scores.nsd), strict=True))


def _relative_error(counts: Overlap) -> float:
    """(prediction - truth) / truth of the areas, or the volumes."""
    true = counts.true_positive + counts.false_negative
    return (counts.false_positive - counts.false_negative) / true if true else math.nan


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
