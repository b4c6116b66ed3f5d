"""The worst cases of an evaluation as one picture: of each the slice with the most wrong pixels."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungseg.errors import UserError
from lungseg.evaluation.cases import BOTH, Judged, Shown
from lungseg.imaging.overlay import LEGEND, grid, overlay
from lungseg.imaging.readers import read
from lungseg.log import log

MOST = 5


def worst_first(judged: Sequence[Judged]) -> list[Judged]:
    """The ``MOST`` cases with the lowest IoU, of volumes that of all their voxels; cases without one are left out."""
    return sorted((one for one in judged if one.shown and not math.isnan(iou(one))), key=lambda one: (iou(one), one.case.name))[
        :MOST
    ]


def iou(judged: Judged) -> float:
    """The IoU of a case as a whole; nan where it has none."""
    own = judged.figures.get(BOTH, {})
    return own.get("iou_3d", own.get("iou", math.nan))


def picture(worst: Sequence[Judged], images: Mapping[Path, Path]) -> NDArray[np.uint8]:
    """A tile for each case (H, W, 3): both outlines on its image, or on black where there is none.

    Args:
        images: of true masks; one that cannot be read or does not fit is warned of.
    """
    tiles, captions = [], []
    for one in worst:
        assert one.shown is not None
        assert one.case.truth is not None
        image = images.get(one.case.truth)
        tiles.append(overlay(_slice(one.shown, image), one.shown.mask, one.shown.truth))
        at = f", slice {one.shown.z + 1}" if one.shown.grid is not None else ""
        captions.append(f"{one.case.name.rpartition('/')[2]}{at}  IoU {iou(one):.3f}")
    return grid(tiles, len(tiles), captions, LEGEND)


def _slice(shown: Shown, image: Path | None) -> NDArray[Any]:
    """The grey values (H, W) under a slice of a true mask."""
    if image is not None:
        try:
            volume = read(image).volume.canonical()
        except UserError as error:
            log.warning(f"not shown on its image: {error}")
        else:
            if shown.grid is not None and volume.grid is not None:
                volume = volume.on(shown.grid, labels=False)
            if volume.voxels.shape[1:] == shown.mask.shape and shown.z < len(volume.voxels):
                return np.asarray(volume.voxels[shown.z])
            log.warning(f"{image} has another shape than its true mask, which is shown on black.")
    return np.zeros(shown.mask.shape, np.uint8)
