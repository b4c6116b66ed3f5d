"""``best.ckpt``: the one contract between training and prediction.

A checkpoint is a dict of plain values and tensors, ``{format, weights, net, preprocess, classes, metrics}``: no path, no optimiser
and no code. It is read with ``weights_only=True``, and the network is built from an allowlist of classes, never by importing a name
that stands in the file.
"""

import io
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lungseg.errors import UserError
from lungseg.files import from_home, written_whole
from lungseg.nets.blocks import EncoderDecoder
from lungseg.nets.resunet import ResUNet
from lungseg.nets.unet import UNet
from lungseg.preprocess import Preprocess

FORMAT = "lungseg-1"
NETS: dict[str, Callable[..., EncoderDecoder]] = {"ResUNet": ResUNet, "UNet": UNet}
CLASSES = ("lung",)


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Attributes:
        net: ``{"class": one of NETS, **its arguments}``.
        weights: the network's ``state_dict``.
        metrics: the scores it was chosen by, such as ``val/iou``.
    """

    net: dict[str, Any]
    weights: dict[str, Tensor]
    preprocess: Preprocess
    classes: tuple[str, ...] = CLASSES
    metrics: Mapping[str, float] | None = None

    def build(self) -> EncoderDecoder:
        """The network with its weights, in evaluation mode.

        Raises:
            UserError: the class is not ours, its arguments are wrong, or the weights do not fit it.
        """
        net = build_net(self.net)
        try:
            net.load_state_dict(self.weights)
        except (RuntimeError, TypeError, AttributeError) as error:
            raise UserError(f"the weights do not fit the network {self.net}: {_first_line(error)}") from error
        return net.eval()


def build_net(config: Mapping[str, Any]) -> EncoderDecoder:
    """A network from ``{"class": name, **arguments}``; only the classes in ``NETS`` are ever built."""
    name = config.get("class")
    if not isinstance(name, str) or name not in NETS:
        raise UserError(f"the network class {name!r} is unknown; known are {', '.join(NETS)}.")
    try:
        return NETS[name](**{key: value for key, value in config.items() if key != "class"})
    except (TypeError, ValueError, RuntimeError) as error:  # the last where they ask for too much memory
        raise UserError(f"the arguments of the network {name} are wrong: {_first_line(error)}.") from error


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint, whole or not at all."""
    content = {
        "format": FORMAT,
        "weights": {key: value.detach().cpu() for key, value in checkpoint.weights.items()},
        "net": dict(checkpoint.net),
        "preprocess": checkpoint.preprocess.state(),
        "classes": list(checkpoint.classes),
        "metrics": {key: float(value) for key, value in (checkpoint.metrics or {}).items()},
    }
    save_whole(path, content)


def save_whole(path: Path, content: dict[str, Any]) -> None:
    """``torch.save``, whole or not at all; through memory, because on a full disk torch raises errors of its own."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with written_whole(path) as beside:
        beside.write_bytes(buffer.getbuffer())


def load(path: str | Path) -> Checkpoint:
    """Reads a checkpoint.

    Raises:
        UserError: the file is missing, damaged, of another kind, or holds anything but plain values.
    """
    path = from_home(path)
    if not path.is_file():
        raise UserError(f"{path} is no file: give the checkpoint of a run, such as outputs/.../checkpoints/best.ckpt.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is refused: it is no lungseg checkpoint, or holds objects that could run code; train one with lungseg train."
        ) from error
    except Exception as error:  # damaged bytes can raise anything
        raise UserError(f"{path} cannot be read as a checkpoint ({_first_line(error)}); the file may be damaged.") from error
    if isinstance(content, dict) and "pytorch-lightning_version" in content:
        raise UserError(f"{path} is a training state for ckpt_path=...; to predict, take best.ckpt from the same folder.")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path} is not a lungseg checkpoint ({FORMAT}); give the best.ckpt of a training run.")
    try:
        return Checkpoint(
            net=dict(content["net"]),
            weights=dict(content["weights"]),
            preprocess=Preprocess(**content["preprocess"]),
            classes=tuple(content["classes"]),
            metrics=dict(content["metrics"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is a damaged checkpoint: {type(error).__name__} in {error}; train it again.") from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2]) if lines else type(error).__name__
