"""A trained network as a function: grey values in, lung masks out."""
# mypy: allow-untyped-calls

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from torch import nn

from lungseg import checkpoint
from lungseg.errors import UserError
from lungseg.files import from_home
from lungseg.imaging.readers import Scan, read
from lungseg.imaging.volume import Grid, Volume
from lungseg.inference.volumes import Segmentation, Settings, segment_volume
from lungseg.log import log
from lungseg.preprocess import Preprocess

MOST_SLICES = 8  # at a time on a CPU: each takes the memory of a slice's features
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
        batch_size: slices at a time on a GPU, halved when its memory runs out. On a CPU each slice goes alone, on its own core:
            that is faster, and a slice's mask does not depend on its company.
        threshold: a pixel is lung where its probability is above this.
        flips: test-time augmentation: the mean over the slice and its three mirror images, at four times the cost.
        settings: how a volume is segmented.

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
        flips: bool = False,
        settings: Settings | None = None,
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
        self.flips, self.settings = flips, settings or Settings()
        self._threads = torch.get_num_threads()  # now, for while slices go side by side each thread is told another number

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: str = "auto",
        batch_size: int = 16,
        threshold: float = 0.5,
        flips: bool = False,
        settings: Settings | None = None,
    ) -> "Segmenter":
        """A segmenter from ``best.ckpt``; the other arguments are those of the class.

        Args:
            device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

        Raises:
            UserError: the file is no checkpoint, or the device is not there.
        """
        stored = checkpoint.load(path)
        return cls(stored.build(), stored.preprocess, choose_device(device), batch_size, threshold, flips, settings)

    def __call__(
        self,
        image: str | Path | NDArray[Any] | sitk.Image,
        spacing_mm: tuple[float, float, float] | None = None,
        series: str | int | None = None,
        allow_gaps: bool = False,
    ) -> NDArray[Any] | sitk.Image:
        """The lungs in a slice or in a volume, on the very grid of the image.

        A slice (H, W), or a stack of slices (Z, H, W) whose spacing nobody knows, gives a mask of its shape, True where there is
        lung. A volume gives labels of its shape, 1 for the patient's right lung and 2 for the left: of a file in the file's own
        order, as SimpleITK's ``GetArrayFromImage`` has it; of a SimpleITK image a SimpleITK image.

        Args:
            image: the path of a picture, of a volume (NIfTI, NRRD, MetaImage), of a DICOM file or of a folder with a DICOM series;
                a SimpleITK image; or an array of grey values, HU best, whose slices run from the feet to the head, rows from
                front to back and columns from the patient's right to the left.
            spacing_mm: of an array, z, y, x: it makes a stack a volume.
            series: of several in a DICOM folder: its number or the name of its kernel.
            allow_gaps: missing slices of a DICOM series are interpolated.

        An empty mask, or one that does not look like lungs, and grey values that are no HU are logged as warnings (logger
        ``lungseg``).

        Raises:
            UserError: the file cannot be read, array or image have another number of axes or values that are no finite real
                numbers, or the checkpoint needs HU and these are none.
            DeviceFull: not even one slice at a time fits into the device's memory.
        """
        name = str(image) if isinstance(image, (str, Path)) else "the image"
        scan = _scan(image, spacing_mm, series, allow_gaps)
        found = self.segment(scan.volume)
        for remark in (*scan.remarks, *found.remarks):
            log.info("%s: %s", name, remark)
        for sentence in (*scan.doubts, *found.warnings):
            log.warning("%s: %s", name, sentence)
        labels = np.ascontiguousarray(scan.volume.stored(found.labels))
        if isinstance(image, sitk.Image):
            assert scan.volume.grid is not None
            made: sitk.Image = sitk.GetImageFromArray(labels)
            return scan.volume.grid.place(made) if image.GetDimension() == 3 else _flat(made, image)
        if scan.volume.grid is None:
            labels = labels.astype(bool)
        is_slice = len(labels) == 1 and not (isinstance(image, np.ndarray) and image.ndim == 3)
        return labels[0] if is_slice else labels

    def segment(
        self,
        image: str | Path | NDArray[Any] | sitk.Image | Volume,
        spacing_mm: tuple[float, float, float] | None = None,
        probabilities: bool = False,
        advance: Callable[[], None] = lambda: None,
    ) -> Segmentation:
        """All that is found in a volume: labels in canonical order, lungs with their measurements, remarks and warnings, seconds.

        Args:
            image, spacing_mm: as for a call; or a volume as ``lungseg.imaging.readers.read`` gives it. What lies nowhere is a stack
                of axial slices, which gets one label and no measurements.
            probabilities: keeps the probability of lung as well.
            advance: called after each slice.

        Raises:
            UserError, DeviceFull: as for a call.
        """
        if isinstance(image, Volume):
            return segment_volume(image, self.stream, self.limit, self.settings, probabilities, advance)
        scan = _scan(image, spacing_mm, None, False)
        found = segment_volume(scan.volume, self.stream, self.limit, self.settings, probabilities, advance)
        return replace(found, remarks=(*scan.remarks, *found.remarks), warnings=(*scan.doubts, *found.warnings))

    @property
    def limit(self) -> float:
        """A pixel is lung where its logit is above this."""
        return math.log(self.threshold / (1 - self.threshold))

    def logits(self, images: Slices) -> list[NDArray[np.float32]]:
        """``stream`` as a list."""
        return list(self.stream(images))

    def stream(self, images: Iterable[NDArray[Any]]) -> Iterator[NDArray[np.float32]]:
        """The network's logits for each slice (H, W), on its own grid, one after the other; their logistic function is the
        probability of lung.

        Raises:
            UserError: the checkpoint needs HU and these are none.
            DeviceFull: not even one slice at a time fits into the device's memory.
        """
        if self.device.type == "cpu":
            yield from self._side_by_side(images)
            return
        waiting: list[tuple[NDArray[np.float32], tuple[int, ...]]] = []
        for image in images:
            waiting.append((self._prepared(image), image.shape))
            if len(waiting) >= self._step:
                yield from self._batch(waiting)
                waiting.clear()
        yield from self._batch(waiting)

    def _side_by_side(self, images: Iterable[NDArray[Any]]) -> Iterator[NDArray[np.float32]]:
        """Each slice alone on one core, as many at a time as there are threads: faster than one slice on all cores."""
        rest = iter(images)
        begin = list(islice(rest, 2))
        workers = min(self._threads, MOST_SLICES) if len(begin) > 1 else 1
        if workers == 1:
            yield from map(self._alone, chain(begin, rest))
            return
        each, waiting = self._threads // workers, deque[Future[NDArray[np.float32]]]()
        try:
            with ThreadPoolExecutor(workers, "network", initializer=lambda: torch.set_num_threads(each)) as pool:
                for image in chain(begin, rest):
                    waiting.append(pool.submit(self._alone, image))
                    if len(waiting) > workers:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
        finally:
            torch.set_num_threads(self._threads)  # what a thread sets holds for those that start later too

    def _alone(self, image: NDArray[Any]) -> NDArray[np.float32]:
        return next(self._batch([(self._prepared(image), image.shape)]))

    @property
    def _step(self) -> int:
        return 1 if self.device.type == "cpu" else self.batch_size

    def _batch(self, prepared: Sequence[tuple[NDArray[np.float32], tuple[int, ...]]]) -> Iterator[NDArray[np.float32]]:
        """The logits of some prepared slices, each with the shape that it had."""
        done = 0
        while done < len(prepared):
            part = prepared[done : done + self._step]
            try:
                on_grid = self._network(np.stack([image for image, _ in part]))
            except RuntimeError as error:
                if not _is_full(error):
                    raise
                if self._step == 1:
                    raise self._full("one slice") from error
                self.batch_size = self._step // 2
                continue
            for own, (_, shape) in zip(on_grid, part, strict=True):
                yield self.preprocess.from_grid(own, (shape[0], shape[1]))
            done += len(part)

    def _prepared(self, image: NDArray[Any]) -> NDArray[np.float32]:
        try:
            return self.preprocess.normalise(self.preprocess.to_grid(image))
        except UserError as error:
            raise UserError(
                f"the grey values ({np.min(image):.0f} to {np.max(image):.0f}) are not HU, which this checkpoint was trained on: "
                "give files in HU, say what they are by input.window= or input.slope= and input.intercept=, or train with "
                "preprocess.normalisation=percentile."
            ) from error

    def _full(self, what: str) -> DeviceFull:
        remedy = "" if self.device.type == "cpu" else ", or use device=cpu"
        return DeviceFull(f"the memory of {self.device} does not hold {what}: end other programs that fill it{remedy}.")

    @torch.inference_mode()
    def _network(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        image = torch.from_numpy(batch)[:, None].to(self.device).contiguous(memory_format=torch.channels_last)
        logits: torch.Tensor = self.net(image)[:, 0]
        if self.flips:
            for axes in ((2,), (3,), (2, 3)):  # of the mean of four views no one's chance errors remain
                logits = logits + self.net(image.flip(axes)).flip(axes)[:, 0]
            logits = logits / 4
        return logits.float().cpu().numpy()


def _scan(
    image: str | Path | NDArray[Any] | sitk.Image,
    spacing_mm: tuple[float, float, float] | None,
    series: str | int | None,
    allow_gaps: bool,
) -> Scan:
    """What there is to segment, whatever it was given as."""
    if isinstance(image, (str, Path, sitk.Image)) and spacing_mm is not None:
        raise UserError("spacing_mm is for arrays; files and images say their own.")
    if isinstance(image, (str, Path)):
        return read(from_home(image), None if series is None else str(series), allow_gaps)
    if isinstance(image, sitk.Image):
        if image.GetDimension() not in (2, 3) or image.GetNumberOfComponentsPerPixel() != 1:
            raise UserError(f"an image of size {image.GetSize()} is no single volume: give one time point and one channel.")
        volume = Volume.of(image if image.GetDimension() == 3 else sitk.JoinSeries([image]))
        _check_numbers(volume.voxels, "image")
        return Scan(volume)
    array = np.asarray(image)
    if array.ndim not in (2, 3) or array.size == 0:
        raise UserError(f"an array of shape {array.shape} is no slice (H, W) and no stack (Z, H, W).")
    if array.ndim == 3 and array.shape[-1] <= 4 < array.shape[0]:
        raise UserError(f"an array of shape {array.shape} has its channels last: give one of them, (H, W), or a stack (Z, H, W).")
    _check_numbers(array, "array")
    stack = array.reshape((1,) * (3 - array.ndim) + array.shape)
    if spacing_mm is None:
        return Scan(Volume(stack))
    if len(spacing_mm) != 3 or not all(math.isfinite(mm) and mm > 0 for mm in spacing_mm):
        raise UserError(f"spacing_mm={spacing_mm} must be three lengths in mm above 0: z, y, x.")
    depth, height, width = stack.shape
    return Scan(Volume(stack, Grid((depth, height, width), (float(spacing_mm[0]), float(spacing_mm[1]), float(spacing_mm[2])))))


def _check_numbers(values: NDArray[Any], what: str) -> None:
    if values.dtype.kind not in "buif":
        raise UserError(f"the {what} holds no grey values (type {values.dtype}): give real numbers.")
    if not np.isfinite(values).all():
        raise UserError(f"the {what} holds nan or infinite values: replace them by air (-1000 HU).")


def _flat(labels: sitk.Image, like: sitk.Image) -> sitk.Image:
    """Labels of one slice as an image of two axes."""
    made: sitk.Image = labels[:, :, 0]
    made.CopyInformation(like)
    return made


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
