"""Plain U-Net, the baseline: double convolutions and max pooling (Ronneberger 2015), with normalisation."""

from collections.abc import Sequence
from functools import partial

from lungseg.nets.blocks import DoubleConv, EncoderDecoder, pooled


class UNet(EncoderDecoder):
    """Encoder, bottleneck and decoder of double convolutions, joined by concatenated skips.

    Max pooling halves the size, a transposed convolution doubles it. Unlike the paper's, the convolutions are
    normalised, and padded, so that the logits have the image's size.

    Args:
        widths: channels of each encoder stage, then of the bottleneck; one more entry than there are down-samplings.
        norm: ``batch``, ``instance`` or ``group``.
        dropout: share of the channels dropped in training before the second convolution of every stage.
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
        dropout: float = 0.0,
        deep_supervision: bool = False,
    ) -> None:
        block = partial(DoubleConv, norm=norm, dropout=dropout)
        super().__init__(block, pooled(block), in_channels, out_channels, widths, deep_supervision)
