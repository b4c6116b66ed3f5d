"""What both networks are built from: the U that joins stages by skips, the double convolution, the residual block."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import gcd

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lungseg.errors import UserError

NORMS = ("batch", "instance", "group")


class EncoderDecoder(nn.Module):
    """The U of Ronneberger 2015 round any block: encoder, bottleneck and decoder, joined by concatenated skips.

    Args:
        block: builds a stage that keeps the size, from its channels in and out.
        down: builds a stage that halves the size, likewise.
        widths: channels of each encoder stage, then of the bottleneck; one more entry than there are down-samplings.
        deep_supervision: a head on every scale of the decoder, not only on the finest (Lee 2015).

    Shapes:
        image (B, in_channels, H, W), any H and W -> logits (B, out_channels, H, W).

    Raises:
        UserError: an argument is out of range.
    """

    def __init__(
        self,
        block: Callable[[int, int], nn.Module],
        down: Callable[[int, int], nn.Module],
        in_channels: int,
        out_channels: int,
        widths: Sequence[int],
        deep_supervision: bool,
    ) -> None:
        super().__init__()
        for key, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels < 1:
                raise UserError(f"model.{key}={channels} must be 1 or more.")
        # Each down-sampling halves the grid: after nine, 512 pixels are one.
        if not 2 <= len(widths) <= 10 or not all(1 <= width <= 16384 for width in widths):
            raise UserError(f"model.widths={list(widths)} must be 2 to 10 whole numbers from 1 to 16384, one a stage.")
        self.stem = block(in_channels, widths[0])
        self.down = nn.ModuleList(down(a, b) for a, b in pairwise(widths))
        self.up = nn.ModuleList(Up(b, a, block) for a, b in reversed(list(pairwise(widths))))
        scales = len(self.up) if deep_supervision else 1
        self.heads = nn.ModuleList(head(widths[i], out_channels, scale=2**i) for i in range(scales))
        self.apply(init_for_relu)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of the finest scale, (B, out_channels, H, W)."""
        return self._logits(image, 1)[0]

    def forward_scales(self, image: Tensor) -> list[Tensor]:
        """Logits of every decoder scale that has a head, each (B, out_channels, H, W), the finest first."""
        return self._logits(image, len(self.heads))

    def _logits(self, image: Tensor, scales: int) -> list[Tensor]:
        height, width = image.shape[-2:]
        features = [self.stem(pad_to_stride(image, 2 ** len(self.down)))]
        for down in self.down:
            features.append(down(features[-1]))
        x = features.pop()
        decoded = []
        for up in self.up:
            x = up(x, features.pop())
            decoded.append(x)
        return [self.heads[i](decoded[-1 - i])[..., :height, :width] for i in range(scales)]


class DoubleConv(nn.Module):
    """Two 3 x 3 convolutions, each normalised and rectified: (B, in, H, W) -> (B, out, H / stride, W / stride).

    Dropout of whole channels, where asked for, stands before the second convolution (Zagoruyko 2016, Tompson 2015).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, norm: str = "batch", dropout: float = 0.0) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise UserError(f"model.dropout={dropout} must be 0 or more and below 1.")
        # The normalisation after it takes away any bias, so the convolutions have none.
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False),
            normalisation(norm, out_channels),
            nn.ReLU(inplace=True),
            *([nn.Dropout2d(dropout)] if dropout > 0 else []),
            nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
            normalisation(norm, out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x), inplace=True)


class ResidualBlock(DoubleConv):
    """The double convolution with what came in added before the last ReLU (He 2016, figure 5 left, option B)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, norm: str = "batch", dropout: float = 0.0) -> None:
        super().__init__(in_channels, out_channels, stride, norm, dropout)
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels or stride != 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False),
                normalisation(norm, out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x), inplace=True)


class Up(nn.Module):
    """Twice the size by a transposed convolution, the skip beside it, then a block.

    Shapes:
        x (B, in_channels, H, W), skip (B, out_channels, 2 H, 2 W) -> (B, out_channels, 2 H, 2 W).
    """

    def __init__(self, in_channels: int, out_channels: int, block: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        self.enlarge = nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2)
        self.block = block(2 * out_channels, out_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        joined: Tensor = self.block(torch.cat([self.enlarge(x), skip], dim=1))
        return joined


def pooled(block: Callable[[int, int], nn.Module]) -> Callable[[int, int], nn.Module]:
    """What builds a stage that halves the size: the maximum of every 2 x 2 pixels, then the block (Ronneberger 2015)."""
    return lambda in_channels, out_channels: nn.Sequential(nn.MaxPool2d(2), block(in_channels, out_channels))


def head(in_channels: int, out_channels: int, scale: int) -> nn.Module:
    """Features to logits, enlarged to the size of the finest scale."""
    logits = nn.Conv2d(in_channels, out_channels, kernel_size=1)
    return logits if scale == 1 else nn.Sequential(logits, nn.Upsample(scale_factor=scale, mode="bilinear"))


def normalisation(norm: str, channels: int) -> nn.Module:
    """The layer named: ``batch`` (Ioffe 2015), ``instance`` (Ulyanov 2016) or ``group`` of up to 8 groups (Wu 2018)."""
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    if norm == "instance":
        return nn.InstanceNorm2d(channels, affine=True)
    if norm == "group":
        # Groups must divide the channels: the most of 8, 4, 2 and 1 that do.
        return nn.GroupNorm(gcd(8, channels), channels)
    raise UserError(f"model.norm={norm} must be one of {', '.join(NORMS)}.")


def pad_to_stride(image: Tensor, stride: int) -> Tensor:
    """The image with its last row and column repeated, so that H and W are multiples of the stride, two at the least.

    Two, because one would leave a single pixel in the bottleneck, and a normalisation over one value (batch of one in
    training, instance) is undefined: torch refuses it.
    """
    height, width = image.shape[-2:]
    bottom = max(2 * stride, -(-height // stride) * stride) - height
    right = max(2 * stride, -(-width // stride) * stride) - width
    return F.pad(image, (0, right, 0, bottom), mode="replicate")


def init_for_relu(module: nn.Module) -> None:
    """Weights drawn so that the variance of activations survives the ReLU (He 2015); biases zero."""
    # Nothing is drawn on the meta device, and torch would take a second to load what draws nothing.
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and not module.weight.is_meta:
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
