"""``best.ckpt``: the one contract between training and prediction.

A checkpoint is a dict of plain values and tensors, ``{format, weights, net, preprocess, classes, metrics}``: no path, no optimiser
and no code. It is read with ``weights_only=True``, and the network is built from an allowlist of classes, never by importing a name
that stands in the file.
"""

import io
import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lungseg.errors import UserError, printable
from lungseg.files import from_home, written_whole
from lungseg.nets.blocks import EncoderDecoder
from lungseg.nets.resunet import ResUNet
from lungseg.nets.unet import UNet
from lungseg.preprocess import Preprocess
from lungseg.signatures import call, check

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
        net = self._outline()
        kinds = {key: value.dtype for key, value in net.state_dict().items()}
        net.load_state_dict({key: value.to(kinds[key], copy=True) for key, value in self.weights.items()}, assign=True)
        return net.eval()

    def _outline(self) -> EncoderDecoder:
        """The network without memory for its weights, after comparing it with those that there are: a few bytes can ask for
        terabytes."""
        for key in ("in_channels", "out_channels"):
            if self.net.get(key, 1) != 1:
                raise UserError(f"the network has {key}={printable(self.net[key])}, and slices are grey and lung is the one class.")
        if self.classes != CLASSES:
            raise UserError(f"the classes are {printable(self.classes)}, and must be {', '.join(CLASSES)}.")
        with torch.device("meta"):
            net = build_net(self.net)
        wanted = net.state_dict()
        for key in {**wanted, **self.weights}:
            if key not in wanted or not _may_become(self.weights.get(key), wanted[key]):
                raise UserError(
                    f"the weights do not fit the network {printable(self.net.get('class'))}: "
                    f"{printable(key)} is missing or of another kind."
                )
        stored = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in self.weights.values()}
        if sum(value.nbytes for value in self.weights.values()) > sum(stored.values()):
            raise UserError("the weights are not stored in full.")
        for key, value in self.weights.items():
            if not torch.isfinite(value).all():
                raise UserError(f"the weights {key} are not finite: its training came apart.")
        return net


def build_net(config: Mapping[str, Any]) -> EncoderDecoder:
    """A network from ``{"class": name, **arguments}``; only the classes in ``NETS`` are ever built."""
    name = config.get("class")
    if not isinstance(name, str) or name not in NETS:
        raise UserError(f"the network class {printable(name)!r} is unknown; known are {', '.join(NETS)}.")
    arguments = {key: list(value) if isinstance(value, tuple) else value for key, value in config.items() if key != "class"}
    check(NETS[name], arguments, "model")
    return NETS[name](**arguments)


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
        UserError: the file is missing, damaged, of another kind, holds anything but plain values, or weights that are not those
            of its network.
    """
    path = from_home(path)
    if not path.is_file():
        raise UserError(f"{path} is no file: give the checkpoint of a run, such as outputs/.../checkpoints/best.ckpt.")
    try:
        _check_container(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles that it refuses in the end
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is refused: it is no lungseg checkpoint, or holds objects that could run code; train one with lungseg train."
        ) from error
    except Exception as error:  # damaged bytes can raise anything
        raise UserError(f"{path} cannot be read as a checkpoint ({_reason(error)}); the file may be damaged.") from error
    if isinstance(content, dict) and "pytorch-lightning_version" in content:
        raise UserError(f"{path} is a training state for ckpt_path=...; to predict, take best.ckpt from the same folder.")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path} is not a lungseg checkpoint ({FORMAT}); give the best.ckpt of a training run.")
    try:
        stored = Checkpoint(
            net=dict(content["net"]),
            weights=dict(content["weights"]),
            preprocess=call(Preprocess, dict(content["preprocess"]), "preprocess"),
            classes=tuple(content["classes"]),
            metrics={str(key): float(value) for key, value in dict(content["metrics"]).items()},
        )
        stored._outline()
    except UserError as error:
        raise UserError(f"{path} cannot be used: {printable(error).rstrip('.')}; give the best.ckpt of a training run.") from error
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise UserError(f"{path} is a damaged checkpoint: {type(error).__name__} in {printable(error)}; train it again.") from error
    return stored


def _check_container(path: Path) -> None:
    """A zip file in which nothing is compressed, as ``torch.save`` writes it: what is read cannot be larger than the file.

    Raises:
        UnpicklingError: it is none.
    """
    with path.open("rb") as file:
        head = file.read(4)
    if head and head != b"PK\x03\x04":
        raise pickle.UnpicklingError("not a zip file")
    with zipfile.ZipFile(path) as file:
        if sum(entry.file_size for entry in file.infolist()) > path.stat().st_size:
            raise ValueError("its parts are larger than the file")
        damaged = file.testzip()  # torch reads past wrong checksums, and other weights give other masks
        if damaged is not None:
            raise ValueError(f"the checksum of its part {printable(damaged)} is wrong")


def _may_become(value: object, wanted: Tensor) -> bool:
    """Whether something that was stored can be copied into a weight of a network."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and value.shape == wanted.shape
        and value.dtype in (wanted.dtype, *((torch.float16, torch.bfloat16, torch.float64) if wanted.is_floating_point() else ()))
    )


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return printable(lines[0].partition(". ")[0] if lines else type(error).__name__)
