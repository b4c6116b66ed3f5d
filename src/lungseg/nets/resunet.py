"""Residual U-Net: a U-Net whose every stage is a residual block (He 2016; Ronneberger 2015; Zhang 2018)."""

from collections.abc import Sequence
from functools import partial

from lungseg.errors import UserError
from lungseg.nets.blocks import DoubleConv, EncoderDecoder, ResidualBlock, pooled

DOWNS = ("pool", "stride")


class ResUNet(EncoderDecoder):
    """Encoder, bottleneck and decoder of residual blocks, joined by concatenated skips.

    Max pooling, or a stride, halves the size, a transposed convolution doubles it. With pooling and without shortcuts this is
    UNet, weight for weight.

    Args:
        widths: channels of each encoder stage, then of the bottleneck; one more entry than there are down-samplings.
        norm: ``batch``, ``instance`` or ``group``.
        down: what halves the size: ``pool``, or ``stride`` in the first convolution and the shortcut of a block (He 2016).
        shortcut: False leaves out the shortcut of every block and nothing else: the test of the residual claim.
        dropout: share of the channels dropped in training before the second convolution of every block.
        deep_supervision: a head on every scale of the decoder, which ``forward_scales`` gives.

    Shapes:
        image (B, in_channels, H, W), any H and W -> logits (B, out_channels, H, W).

    Raises:
        UserError: an argument is out of range.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        norm: str = "batch",
        down: str = "pool",
        shortcut: bool = True,
        dropout: float = 0.0,
        deep_supervision: bool = False,
    ) -> None:
        if down not in DOWNS:
            raise UserError(f"model.down={down} must be one of {', '.join(DOWNS)}.")
        block = partial(ResidualBlock if shortcut else DoubleConv, norm=norm, dropout=dropout)
        stage = pooled(block) if down == "pool" else partial(block, stride=2)
        super().__init__(block, stage, in_channels, out_channels, widths, deep_supervision)
