"""A trained network as a function: grey values in, lung masks out."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lungseg import checkpoint
from lungseg.errors import UserError
from lungseg.files import from_home
from lungseg.imaging.plausibility import warnings
from lungseg.imaging.readers import file_doubts
from lungseg.imaging.slices import read_stack
from lungseg.log import log
from lungseg.preprocess import Preprocess

Slices = Sequence[NDArray[Any]] | NDArray[Any]  # each (H, W)


class DeviceFull(UserError):
    """The device has no room for the network or for one slice: no fault of the image."""


class Segmenter:
    """Lung masks of slices, by a trained checkpoint.

    Example:
        >>> mask = Segmenter.load("best.ckpt")("slice.png")  # (H, W) bool

    Args:
        net: image (B, 1, N, N) float32, normalised, to logits (B, 1, N, N).
        device: where the network works.
        batch_size: slices at a time on a GPU, halved when its memory runs out. On a CPU each slice goes alone: that is no slower,
            and a slice's mask does not depend on its company.
        threshold: a pixel is lung where its probability is above this.

    Raises:
        DeviceFull: the network does not fit into the device's memory.
    """

    def __init__(
        self,
        net: nn.Module,
        preprocess: Preprocess,
        device: torch.device | str = "cpu",
        batch_size: int = 16,
        threshold: float = 0.5,
    ) -> None:
        if batch_size < 1:
            raise UserError(f"batch_size={batch_size} must be at least 1.")
        if not 0 < threshold < 1:
            raise UserError(f"threshold={threshold} must lie between 0 and 1.")
        self.device = torch.device(device)
        try:
            self.net = net.eval().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        except RuntimeError as error:
            if _is_full(error):
                raise self._full("the network") from error
            raise
        self.preprocess, self.batch_size, self.threshold = preprocess, batch_size, threshold

    @classmethod
    def load(cls, path: str | Path, device: str = "auto", batch_size: int = 16, threshold: float = 0.5) -> "Segmenter":
        """A segmenter from ``best.ckpt``.

        Args:
            device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

        Raises:
            UserError: the file is no checkpoint, or the device is not there.
        """
        stored = checkpoint.load(path)
        return cls(stored.build(), stored.preprocess, choose_device(device), batch_size, threshold)

    def __call__(self, image: str | Path | NDArray[Any]) -> NDArray[np.bool_]:
        """The lung mask of a slice (H, W), or of a stack (Z, H, W) of axial slices, in the shape of the image.

        The mask of a NIfTI file lies in the order of ``read_stack``, LPS, whatever the file's own axes are: slices run from the
        feet to the head, rows from front to back, columns from the patient's right to left. On the file's own grid
        ``lungseg predict`` writes it.

        Args:
            image: grey values in any unit, HU best, rows from front to back; or the path of a picture, DICOM slice or NIfTI volume.

        An empty mask, or one that does not look like lungs, is logged as a warning (logger ``lungseg``).

        Raises:
            UserError: the file cannot be read, the array has another number of axes or values that are not finite, or the
                checkpoint needs HU and these are none.
            DeviceFull: not even one slice at a time fits into the device's memory.
        """
        if isinstance(image, (str, Path)):
            path = from_home(image)
            stack = read_stack(path)
            found = self._judged(stack, str(path), file_doubts(path))
            return found[0] if len(found) == 1 else found
        array = np.asarray(image)
        if array.ndim not in (2, 3) or array.size == 0:
            raise UserError(f"an array of shape {array.shape} is no slice (H, W) and no stack (Z, H, W).")
        if array.ndim == 3 and array.shape[-1] <= 4 < array.shape[0]:
            raise UserError(
                f"an array of shape {array.shape} has its channels last: give one of them, (H, W), or a stack (Z, H, W)."
            )
        if not np.isfinite(array).all():
            raise UserError("the array holds nan or infinite values: replace them by air (-1000 HU).")
        found = self._judged(array[None] if array.ndim == 2 else array, "the array")
        return found[0] if array.ndim == 2 else found

    def mask(self, logits: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Where logits of any shape mean lung: their probability is above the threshold."""
        return logits > math.log(self.threshold / (1 - self.threshold))

    def logits(self, images: Slices) -> list[NDArray[np.float32]]:
        """The network's logits for each slice (H, W), on its own grid; their logistic function is the probability of lung.

        Raises:
            UserError: the checkpoint needs HU and these are none.
            DeviceFull: not even one slice at a time fits into the device's memory.
        """
        prepared = [self._prepared(image) for image in images]
        step = 1 if self.device.type == "cpu" else self.batch_size
        found: list[NDArray[np.float32]] = []
        while len(found) < len(prepared):
            batch = np.stack(prepared[len(found) : len(found) + step])
            try:
                on_grid = self._network(batch)
            except RuntimeError as error:
                if not _is_full(error):
                    raise
                if step == 1:
                    raise self._full("one slice") from error
                step = self.batch_size = step // 2
                continue
            shapes = [images[len(found) + i].shape for i in range(len(batch))]
            found += [self.preprocess.from_grid(own, (shape[0], shape[1])) for own, shape in zip(on_grid, shapes, strict=True)]
        return found

    def _judged(self, stack: NDArray[Any], name: str, known: tuple[str, ...] = ()) -> NDArray[np.bool_]:
        """The mask of a stack (Z, H, W); what is odd about it, and what is ``known`` to be odd, is logged."""
        found = self.mask(np.stack(self.logits(stack)))
        for sentence in (*known, *warnings(stack, found)):
            log.warning("%s: %s", name, sentence)
        return found

    def _prepared(self, image: NDArray[Any]) -> NDArray[np.float32]:
        try:
            return self.preprocess.normalise(self.preprocess.to_grid(image))
        except UserError as error:
            raise UserError(
                f"the grey values ({np.min(image):.0f} to {np.max(image):.0f}) are not HU, which this checkpoint was trained on: "
                "give files in HU, such as DICOM or NIfTI, or train with preprocess.normalisation=percentile."
            ) from error

    def _full(self, what: str) -> DeviceFull:
        remedy = "" if self.device.type == "cpu" else ", or use device=cpu"
        return DeviceFull(f"the memory of {self.device} does not hold {what}: end other programs that fill it{remedy}.")

    @torch.inference_mode()
    def _network(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        image = torch.from_numpy(batch)[:, None].to(self.device).contiguous(memory_format=torch.channels_last)
        logits: torch.Tensor = self.net(image)[:, 0]
        return logits.float().cpu().numpy()


def _is_full(error: RuntimeError) -> bool:
    # Only CUDA has a type for it, and not while it starts; Apple's GPUs and the CPU say it in words.
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in ("out of memory", "allocate memory"))


def choose_device(name: str) -> torch.device:
    """``auto`` is the best there is; a device that is not there is a ``UserError``."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    kind, _, number = name.partition(":")
    there = {"cpu": True, "cuda": cuda, "mps": mps}.get(kind)
    if there is None or (number and not (kind == "cuda" and number.isdigit())):
        raise UserError(f"device={name} is unknown: use auto, cpu, cuda, cuda:N or mps.")
    if not there or (number and int(number) >= torch.cuda.device_count()):
        raise UserError(f"device={name} is not on this machine; use device=auto.")
    return torch.device(name)
