"""How well a predicted lung overlaps the true one: IoU and Dice, image by image, and their summary over a set."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungseg.errors import UserError
from lungseg.labels import IGNORE, LUNG


@dataclass(frozen=True)
class Overlap:
    """Pixels of one image, or of one volume, counted by what was predicted and what is true."""

    true_positive: int
    false_positive: int
    false_negative: int

    @property
    def has_lung(self) -> bool:
        """Whether the truth has lung; without it there is no score."""
        return self.true_positive + self.false_negative > 0

    @property
    def iou(self) -> float:
        """Intersection over union, 0..1 (Jaccard 1912); nan where the truth has no lung."""
        return _ratio(self.true_positive, self._union) if self.has_lung else math.nan

    @property
    def dice(self) -> float:
        """Twice the intersection over the sum of both areas, 0..1 (Dice 1945); nan where the truth has no lung."""
        return _ratio(2 * self.true_positive, self._union + self.true_positive) if self.has_lung else math.nan

    @property
    def _union(self) -> int:
        return self.true_positive + self.false_positive + self.false_negative


def overlap(prediction: NDArray[np.bool_], truth: NDArray[np.uint8]) -> Overlap:
    """Counts of a predicted mask against labels of 0 (background), 1 (lung) and 255 (ignored), of one shape, any.

    Raises:
        UserError: the shapes differ.
    """
    if prediction.shape != truth.shape:
        raise UserError(
            f"a prediction of shape {prediction.shape} cannot be scored against a truth of shape {truth.shape}: "
            "give the masks of these very images."
        )
    lung, background = truth == LUNG, (truth != LUNG) & (truth != IGNORE)
    return Overlap(
        true_positive=int(np.count_nonzero(prediction & lung)),
        false_positive=int(np.count_nonzero(prediction & background)),
        false_negative=int(np.count_nonzero(~prediction & lung)),
    )


def summarise(overlaps: Iterable[Overlap]) -> dict[str, float]:
    """The figures of ``lungseg.metrics.definitions`` over images, each given once; a mean over none is nan."""
    every = list(overlaps)
    with_lung = [image for image in every if image.has_lung]
    false_lungs = [image.false_positive for image in every if not image.has_lung and image.false_positive > 0]
    ious = [image.iou for image in with_lung]
    return {
        "iou": _ratio(math.fsum(ious), len(ious)),
        "iou_worst": min(ious, default=math.nan),
        "iou_pooled": _ratio(sum(image.true_positive for image in every), sum(image._union for image in every)),
        "dice": _ratio(math.fsum(image.dice for image in with_lung), len(with_lung)),
        "images": float(len(every)),
        "images_with_lung": float(len(with_lung)),
        "false_lung_images": float(len(false_lungs)),
        "false_lung_pixels_max": float(max(false_lungs, default=0)),
    }


def volume_scores(slices: Iterable[Overlap]) -> tuple[float, float]:
    """IoU and Dice of all voxels of a volume together; nan where its truth has no lung."""
    every = list(slices)
    whole = Overlap(
        true_positive=sum(one.true_positive for one in every),
        false_positive=sum(one.false_positive for one in every),
        false_negative=sum(one.false_negative for one in every),
    )
    return whole.iou, whole.dice


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
