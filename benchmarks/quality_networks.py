"""The networks that are compared: ours by their configs, the others as their makers use them for slices.

Where a maker leaves a choice open, the arguments are those of its own 2-D example or planner, and the comment names it.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lungseg.nets.blocks import EncoderDecoder, pad_to_stride


@dataclass(frozen=True)
class Recipe:
    """How a network of another maker is built.

    Attributes:
        package: on PyPI.
        target: module and class.
        stride: what the sides of its input must be multiples of.
    """

    package: str
    target: str
    arguments: Mapping[str, Any]
    stride: int

    def installed(self) -> str | None:
        """The version of its package; None where there is none."""
        try:
            return version(self.package)
        except PackageNotFoundError:
            return None

    def build(self) -> EncoderDecoder:
        """The network with first weights, as its maker draws them."""
        module, _, name = self.target.rpartition(".")
        net: nn.Module = getattr(importlib.import_module(module), name)(**self.arguments)
        initialize = getattr(net, "initialize", None)
        if callable(initialize):  # nnU-Net calls it, its constructor does not
            net.apply(initialize)
        return cast(EncoderDecoder, OneLogit(net, self.stride))  # it has what training calls: forward and forward_scales

    def plain_arguments(self) -> dict[str, Any]:
        """The arguments as JSON can hold them."""
        return {key: value.__name__ if isinstance(value, type) else value for key, value in self.arguments.items()}


class OneLogit(nn.Module):
    """A network as training calls one.

    Shapes:
        image (B, 1, H, W), any H and W -> logits (B, 1, H, W).
    """

    def __init__(self, net: nn.Module, stride: int) -> None:
        super().__init__()
        self.net, self.stride = net, stride

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        out: Tensor = self.net(pad_to_stride(image, self.stride))[..., :height, :width]
        return out if out.shape[1] == 1 else out[:, 1:] - out[:, :1]  # of background and lung: what their softmax goes by

    def forward_scales(self, image: Tensor) -> list[Tensor]:
        return [self(image)]


def recipes(size: int) -> dict[str, Recipe]:
    """The networks of other makers for slices of ``size`` pixels a side, by the names they have here."""
    monai = {"spatial_dims": 2, "in_channels": 1, "out_channels": 1}
    dynamic = "dynamic_network_architectures.architectures.unet"
    nnunet = _nnunet_plan(size)
    blocks = (1, 3, 4, 6, *(6,) * nnunet["n_stages"])[: nnunet["n_stages"]]  # nnUNetPlannerResEncM
    stride = 2 ** (nnunet["n_stages"] - 1)
    return {
        # lungmask.mask.get_model; it ends in a log softmax, so that it needs two classes.
        "lungmask_unet": Recipe(
            "lungmask",
            "lungmask.resunet.UNet",
            {"n_classes": 2, "padding": True, "depth": 5, "up_mode": "upsample", "batch_norm": True, "residual": False},
            16,
        ),
        # MONAI's tutorial 2d_segmentation/torch/unet_training_array.py.
        "monai_unet": Recipe(
            "monai",
            "monai.networks.nets.UNet",
            {**monai, "channels": (16, 32, 64, 128, 256), "strides": (2, 2, 2, 2), "num_res_units": 2},
            16,
        ),
        "monai_basic_unet": Recipe("monai", "monai.networks.nets.BasicUNet", monai, 16),
        # ExperimentPlanner of nnU-Net 2, with two convolutions a stage on both sides.
        "nnunet_plain": Recipe(
            "dynamic-network-architectures",
            f"{dynamic}.PlainConvUNet",
            {**nnunet, "n_conv_per_stage": 2, "n_conv_per_stage_decoder": 2},
            stride,
        ),
        "nnunet_resenc": Recipe(
            "dynamic-network-architectures",
            f"{dynamic}.ResidualEncoderUNet",
            {**nnunet, "n_blocks_per_stage": blocks, "n_conv_per_stage_decoder": 1},
            stride,
        ),
    }


def _nnunet_plan(size: int) -> dict[str, Any]:
    """What nnU-Net plans for square slices that are one patch: halved while 8 pixels are left, 32 channels, doubled up to 512."""
    sides = [size]
    while sides[-1] >= 8:
        sides.append(-(-sides[-1] // 2))
    return {
        "input_channels": 1,
        "num_classes": 1,
        "n_stages": len(sides),
        "features_per_stage": tuple(min(512, 32 * 2**stage) for stage in range(len(sides))),
        "kernel_sizes": 3,
        "strides": (1, *(2,) * (len(sides) - 1)),
        "conv_op": nn.Conv2d,
        "conv_bias": True,
        "norm_op": nn.InstanceNorm2d,
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": {"inplace": True},
    }


def multiply_adds(net: nn.Module, size: int) -> int:
    """Multiplications, each with its addition, of the convolutions and transposed convolutions for a slice of ``size`` pixels a
    side."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.eval()(torch.zeros(1, 1, size, size))
    return int(counter.get_total_flops()) // 2  # it counts both


def unused_parameters(net: nn.Module, size: int) -> int:
    """Parameters that no slice passes, such as those of shortcuts that are built and not switched on."""
    net.eval()(torch.zeros(1, 1, size, size)).sum().backward()
    unused = sum(weight.numel() for weight in net.parameters() if weight.grad is None)
    net.zero_grad()
    return unused
