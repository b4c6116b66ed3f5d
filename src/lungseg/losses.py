"""Losses of two-class segmentation: float32 from logits, each image scored by itself, then the mean over the batch.

All take the same three tensors, (B, 1, H, W): ``logits``; ``target`` from 0 (background) to 1 (lung); ``valid``, bool,
False where the truth says nothing. Such a pixel takes no part: it neither changes the loss nor gets a gradient, and an
image without any valid pixel costs 0.

The rule for an image whose truth has no lung
---------------------------------------------
Dice has nothing to overlap with there. Smoothed with the usual single pixel it jumps to 1 at the first few false pixels
and stays there: its gradient dies with the square of the false area. So such an image is scored as if a typical lung, a
tenth of its valid pixels, had been found without fault beside the false lung: ``EMPTY_SMOOTH``, 2 x 0.1 of the valid
pixels, takes the place of ``smooth``. Nothing found costs 0; every false pixel costs more, by about as much as it would
beside a real lung, up to 0.83 for an image that is all lung. The same holds for the Tversky index.
"""

import math
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lungseg.errors import UserError

EMPTY_SMOOTH = 0.2  # of the valid pixels


class ImageLoss(nn.Module, ABC):
    """What all losses share: the three tensors made float32 rows, and the mean of the images' costs."""

    def forward(self, logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """The loss, a float32 scalar."""
        with torch.autocast(logits.device.type, enabled=False):
            valid = valid.flatten(1)
            # Zeros in place of what is ignored, not a product with zero, so that not even a nan there gets through.
            logits = torch.where(valid, logits.flatten(1).float(), 0.0)
            target = torch.where(valid, target.flatten(1).float(), 0.0)
            return self.per_image(logits, target, valid.float()).mean()

    @abstractmethod
    def per_image(self, logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """The cost of each image, (B,), from rows of float32 pixels, (B, P); ``valid`` is 0 or 1."""


class Tversky(ImageLoss):
    """1 - Tversky index (Salehi 2017): Dice with a price of its own for false lung and for missed lung.

    Args:
        alpha: price of false lung; 0.5 is Dice's.
        beta: price of missed lung; 0.5 is Dice's.
        smooth: pixels added to numerator and denominator, which keep the loss of tiny lungs smooth.

    Raises:
        UserError: a price is negative, both are zero, or ``smooth`` is not above zero.
    """

    def __init__(self, alpha: float = 0.3, beta: float = 0.7, smooth: float = 1.0) -> None:
        super().__init__()
        check_weights(alpha=alpha, beta=beta)
        if not 0 < smooth < math.inf:
            raise UserError(f"loss.smooth={smooth} must be above 0 and finite: it is a number of pixels, usually 1.")
        self.alpha, self.beta, self.smooth = alpha, beta, smooth

    def per_image(self, logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        found = torch.sigmoid(logits) * valid
        missed = torch.sigmoid(-logits) * valid  # not 1 - found, which rounds to 0 long before this does
        # The lesser of both, which is their product for a target of 0 or 1 and, unlike it, is best met by the target itself
        # where a pixel is lung in part (Wang 2023).
        hit = torch.minimum(found, target).sum(1)
        false = F.relu(found - target).sum(1)
        # For a whole pixel `missed` itself, because 1 - found rounds to 0 long before it does.
        miss = torch.where(target == 1, missed, F.relu(target - found)).sum(1)
        # The rule for an image without lung; at least 1, so that one without valid pixels divides 0 by no 0.
        smooth = torch.where(target.sum(1) > 0, self.smooth, (EMPTY_SMOOTH * valid.sum(1)).clamp(min=1))
        wrong = 2 * (self.alpha * false + self.beta * miss)
        return wrong / (2 * hit + wrong + smooth)


class Dice(Tversky):
    """1 - soft Dice (Milletari 2016): 1 - (2 hit + smooth) / (2 hit + false + missed + smooth).

    Raises:
        UserError: ``smooth`` is not above zero.
    """

    def __init__(self, smooth: float = 1.0) -> None:
        super().__init__(alpha=0.5, beta=0.5, smooth=smooth)


class Focal(ImageLoss):
    """Cross entropy that sure pixels hardly enter (Lin 2017): each pixel's, times its error to the power ``gamma``.

    Raises:
        UserError: ``gamma`` is negative.
    """

    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__()
        if not 0 <= gamma < math.inf:
            raise UserError(f"loss.gamma={gamma} must be 0 or more and finite; 0 is plain cross entropy, 2 is usual.")
        self.gamma = gamma

    def per_image(self, logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        log_lung, log_background = F.logsigmoid(logits), F.logsigmoid(-logits)
        # exp(gamma log p), because the gradient of p ** gamma is not finite at p = 0 for gamma below 1.
        lung = target * torch.exp(self.gamma * log_background) * log_lung
        background = (valid - target) * torch.exp(self.gamma * log_lung) * log_background
        return mean_of_valid(-(lung + background), valid)


class BCE(ImageLoss):
    """Binary cross entropy, the mean over the valid pixels of each image."""

    def per_image(self, logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        pixels = F.binary_cross_entropy_with_logits(logits, target, weight=valid, reduction="none")
        return mean_of_valid(pixels, valid)


class DiceBCE(ImageLoss):
    """The weighted sum of Dice and binary cross entropy (Isensee 2021).

    Raises:
        UserError: a weight is negative, both are zero, or ``smooth`` is not above zero.
    """

    def __init__(self, dice_weight: float = 1.0, bce_weight: float = 1.0, smooth: float = 1.0) -> None:
        super().__init__()
        check_weights(dice_weight=dice_weight, bce_weight=bce_weight)
        self.dice_weight, self.bce_weight = dice_weight, bce_weight
        self.dice, self.bce = Dice(smooth), BCE()

    def per_image(self, logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        dice = self.dice.per_image(logits, target, valid)
        return self.dice_weight * dice + self.bce_weight * self.bce.per_image(logits, target, valid)


class FocalDice(ImageLoss):
    """The weighted sum of Dice and the focal loss (Zhu 2019).

    Raises:
        UserError: a weight is negative, both are zero, ``gamma`` is negative, or ``smooth`` is not above zero.
    """

    def __init__(self, gamma: float = 2.0, focal_weight: float = 1.0, dice_weight: float = 1.0, smooth: float = 1.0) -> None:
        super().__init__()
        check_weights(focal_weight=focal_weight, dice_weight=dice_weight)
        self.focal_weight, self.dice_weight = focal_weight, dice_weight
        self.focal, self.dice = Focal(gamma), Dice(smooth)

    def per_image(self, logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        focal = self.focal.per_image(logits, target, valid)
        return self.focal_weight * focal + self.dice_weight * self.dice.per_image(logits, target, valid)


def mean_of_valid(pixels: Tensor, valid: Tensor) -> Tensor:
    """The mean of each row over its valid pixels, (B, P) -> (B,); 0 where there is none."""
    return pixels.sum(1) / valid.sum(1).clamp(min=1)


def check_weights(**weights: float) -> None:
    """Raise a UserError unless all weights are 0 or more, and one is above."""
    for name, value in weights.items():
        if not 0 <= value < math.inf:
            raise UserError(f"loss.{name}={value} must be 0 or more and finite.")
    if not any(weights.values()):
        given = " and ".join(f"loss.{name}={value}" for name, value in weights.items())
        raise UserError(f"{given} leave nothing to learn from: give at least one of them more than 0.")
