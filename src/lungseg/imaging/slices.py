"""One file of any kind to grey values or to labels: the one place where pictures and slice stacks are decoded.

Which library reads what was chosen by reading all kinds with all of them: Pillow is strict about cut-off PNG, JPEG and
BMP files; OpenCV is the only one that gives every TIFF exactly (Pillow wraps uint32 and swaps compressed big-endian
values, SimpleITK falls back to 8-bit colour on tiles); SimpleITK and pydicom are the references for NIfTI and DICOM.
"""
# mypy: allow-untyped-calls

import math
import zlib
from collections.abc import Collection
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from lungseg.errors import UserError
from lungseg.imaging.dicom import has_dicom_mark, pictures
from lungseg.imaging.limits import MAX_VOXELS, check_size, too_large
from lungseg.imaging.refusals import reading
from lungseg.imaging.volume_files import FORMATS, read_volume
from lungseg.labels import BACKGROUND, IGNORE, LUNG
from lungseg.log import log

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
TIFF_SUFFIXES = (".tif", ".tiff")
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
VOLUME_SUFFIXES = tuple(FORMATS)
PLACED_SUFFIXES = (*VOLUME_SUFFIXES, *DICOM_SUFFIXES)  # of files that may say where they lie, as a DICOM-SEG does
SUFFIXES = (*PICTURE_SUFFIXES, *TIFF_SUFFIXES, ".npy", *DICOM_SUFFIXES, *VOLUME_SUFFIXES)

END_SHARE = 0.125  # JPEG noise: values this near to either end of a mask's range belong to that end
BETWEEN_SHARE = 0.02  # of a mask's pixels may lie between its two ends: the edges of JPEG and anti-aliased masks
SMALL_LABELS = 16  # whole numbers within such a range are the classes of a label map, never grey edges


def suffix_of(path: Path) -> str:
    """The known suffix of a file name in lower case ('.nii.gz' is one), or '' if it has none."""
    name = path.name.lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")


def is_image(path: Path) -> bool:
    """Whether a file is of a kind that can be read: by its suffix, and without one by DICOM's magic bytes."""
    if suffix_of(path):
        return True
    # Archives name DICOM files as they like, by their UID too: the last number of '1.2.840.113.7' is no suffix.
    if path.name == "DICOMDIR" or not path.is_file():
        return False
    try:
        return has_dicom_mark(path)
    except OSError:
        return False


def read_stack(path: Path) -> NDArray[np.float32]:
    """The grey values in a file as a stack (Z, H, W): a picture is a stack of one, values as stored.

    A volume (NIfTI, NRRD, MetaImage) is turned to LPS first, so that every slice is axial: slices run from the feet to
    the head, rows from front to back, columns from the patient's right to left. A DICOM slice gives its rescaled values
    (HU for CT).
    One-bit pictures give 0 and 255, palettes of greys their greys, colour pictures with equal channels one of them.

    Raises:
        UserError: the file is missing, empty, damaged, too large, in colour, or holds no picture or values that are not
            finite.
    """
    return _read(path, labels=False)


def read_labels(
    path: Path, lung_values: Collection[float] | None = None, ignore_values: Collection[float] = ()
) -> NDArray[np.uint8]:
    """The labels in a mask file as a stack (Z, H, W), turned like ``read_stack``: 0 background, 1 lung, 255 ignore.

    Args:
        lung_values: the values that are lung, all others being background. None: the higher of two values is lung;
            where there is one value only, 0 is background and any other is lung. A palette of colours counts by its
            indices.
        ignore_values: the values that become 255; the rule above does not see them.

    A JPEG or anti-aliased mask has grey edges: with at most 2 % of its pixels between its two ends it is cut at half
    range, which is logged as a warning.

    Raises:
        UserError: the file cannot be read, or it holds more than two values and none was named.
    """
    return to_labels(read_mask(path), path, lung_values, ignore_values)


def read_mask(path: Path) -> NDArray[np.float32]:
    """The values in a mask file as they are stored, (Z, H, W), turned like ``read_stack``.

    Raises:
        UserError: the file cannot be read.
    """
    return _read(path, labels=True)


def to_labels(
    stack: NDArray[Any],
    path: Path,
    lung_values: Collection[float] | None,
    ignore_values: Collection[float],
    option: str = "data.mask_values=[...]",
) -> NDArray[np.uint8]:
    """What ``read_labels`` gives, of stored values (Z, H, W) read from ``path``; ``option`` is what says which are lung."""
    ignored = np.isin(stack, np.asarray(list(ignore_values), dtype=np.float32))
    if lung_values is None:
        lung = stack >= _lowest_lung_value(stack[~ignored], path, suffix_of(path) not in VOLUME_SUFFIXES, option)
    else:
        lung = np.isin(stack, np.asarray(list(lung_values), dtype=np.float32))
    labels = np.where(lung, np.uint8(LUNG), np.uint8(BACKGROUND))
    labels[ignored] = IGNORE
    return labels


def _read(path: Path, labels: bool) -> NDArray[np.float32]:
    if not is_image(path) and path.is_file():
        kinds = ", ".join(SUFFIXES)
        raise UserError(f"{path} is no image that can be read: give {kinds} or a DICOM file without suffix.")
    with reading(path):
        return _finite_stack(_decode(path, labels), path)


def _decode(path: Path, labels: bool) -> NDArray[Any]:
    suffix = suffix_of(path)
    if suffix in PICTURE_SUFFIXES:
        return _picture(path, labels, formats=("PNG", "JPEG", "BMP"))
    if suffix in TIFF_SUFFIXES:
        return _tiff(path, labels)
    if suffix in VOLUME_SUFFIXES:
        return read_volume(path, suffix).canonical().voxels
    return _npy(path) if suffix == ".npy" else _dicom(path)


def _picture(path: Path, labels: bool, formats: tuple[str, ...]) -> NDArray[Any]:
    data = path.read_bytes()
    try:
        opened = Image.open(BytesIO(data), formats=formats)
    except Image.DecompressionBombError as error:
        raise too_large(path, "too many") from error
    with opened as image:
        check_size(path, image.width * image.height * len(image.getbands()))
        _check_single(path, getattr(image, "n_frames", 1))
        image.load()
        if image.mode == "P":
            return _palette(image, path, labels)
        if image.mode not in ("1", "L", "LA", "I", "I;16", "RGB", "RGBA"):
            raise _colour(path)
        pixels = np.asarray(image.convert("L") if image.mode == "1" else image)
        if image.format == "PNG" and data[24] == 16 and pixels.ndim == 3:
            # Pillow, which is the stricter one, keeps 8 of the 16 bits of several channels; OpenCV gives all of them.
            pixels = _opencv(_bare_png(data))
        return _grey(pixels, path, tolerance=2 if image.format == "JPEG" else 0)


def _bare_png(data: bytes) -> bytes:
    """A PNG without what is not its picture, over which OpenCV's libpng talks on the error stream."""
    parts, start = [data[:8]], 8
    while start + 8 <= len(data):
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        if data[start + 4 : start + 8] in (b"IHDR", b"IDAT"):
            parts.append(data[start:end])
        start = end
    end_chunk = b"IEND"
    return b"".join(parts) + bytes(4) + end_chunk + zlib.crc32(end_chunk).to_bytes(4, "big")


def _palette(image: Image.Image, path: Path, labels: bool) -> NDArray[Any]:
    indices = np.asarray(image)
    colours = np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    used = colours[np.unique(indices)]
    if (used == used[:, :1]).all():
        return np.asarray(colours[indices, 0])
    if labels:
        return indices
    raise _colour(path)


def _tiff(path: Path, labels: bool) -> NDArray[Any]:
    data = path.read_bytes()
    # Pillow cannot open every kind of TIFF, but it knows the tags of all; 43 marks a BigTIFF.
    tags = ImageFileDirectory_v2(data[: 16 if data[2] == 43 else 8])
    file = BytesIO(data)
    file.seek(tags.next)
    tags.load(file)
    width, height, channels = (tags.get(tag, missing) for tag, missing in ((256, 0), (257, 0), (277, 1)))
    if not all(isinstance(value, int) and value > 0 for value in (width, height, channels)):
        raise ValueError("its header names no size")
    check_size(path, width * height * channels)
    _check_single(path, 2 if tags.next else 1)
    pixels = _opencv(data)
    photometric = tags.get(262)
    if photometric == 3:
        return _picture(path, labels, formats=("TIFF",))
    if photometric == 0 and pixels.dtype != np.uint8:  # OpenCV turns 8 bits and fewer, and only those
        raise UserError(f"{path} stores white as zero, which is ambiguous beyond 8 bits: export it with black as zero.")
    return _grey(pixels, path)


def _opencv(data: bytes) -> NDArray[Any]:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError("its data cannot be decoded")
    return pixels


def _npy(path: Path) -> NDArray[Any]:
    pixels = np.load(path, mmap_mode="r", allow_pickle=False)  # mapped: a wrong shape in the header allocates nothing
    if not isinstance(pixels, np.ndarray) or pixels.ndim not in (2, 3):
        raise UserError(f"{path} is no slice: save one array of the shape (H, W) or (Z, H, W).")
    if pixels.ndim == 3 and pixels.shape[-1] <= 4 < pixels.shape[0]:
        raise UserError(f"{path} has the shape {pixels.shape}, channels last: save (H, W), or (Z, H, W) for a stack.")
    check_size(path, math.prod(pixels.shape[-2:]))
    check_size(path, pixels.size, MAX_VOXELS)
    return pixels


def _dicom(path: Path) -> NDArray[Any]:
    """As stored, whatever its header says of the patient's position: its mask may be a picture that says nothing."""
    found = list(pictures(path))
    _check_single(path, len(found))
    return found[0]


def _grey(pixels: NDArray[Any], path: Path, tolerance: int = 0) -> NDArray[Any]:
    """One channel (H, W) of a decoded picture (H, W) or (H, W, channels); the last of 2 or 4 channels is opacity."""
    if pixels.ndim == 2:
        return pixels
    channels = pixels.shape[-1]
    if channels in (2, 4):
        if np.ptp(pixels[..., -1]) > 0:
            raise UserError(f"{path} is partly transparent: export it without an alpha channel.")
        pixels = pixels[..., :-1]
    with np.errstate(invalid="ignore"):
        spread = pixels.max(axis=-1).astype(np.float64) - pixels.min(axis=-1)
    if not (spread <= tolerance).all():  # so that nan is a difference
        raise _colour(path)
    return pixels[..., 0]


def _finite_stack(pixels: NDArray[Any], path: Path) -> NDArray[np.float32]:
    if pixels.dtype.kind not in "buif" or pixels.size == 0:
        raise UserError(f"{path} holds no grey values (type {pixels.dtype}, shape {pixels.shape}): save real numbers.")
    with np.errstate(over="ignore", invalid="ignore"):
        stack = np.array(pixels, dtype=np.float32, ndmin=3)
    bad = stack.size - np.count_nonzero(np.isfinite(stack))
    if bad:
        values = "1 value that is" if bad == 1 else f"{bad} values that are"
        raise UserError(f"{path} holds {values} not finite (NaN, infinite): replace them, say by air.")
    return stack


def _lowest_lung_value(values: NDArray[Any], path: Path, is_picture: bool, option: str) -> float:
    """From which value on the pixels of a two-valued mask are lung; ``values`` has one entry a pixel."""
    found, counts = np.unique(values, return_counts=True)
    if len(found) == 0:
        return math.inf
    low, high = float(found[0]), float(found[-1])
    if len(found) == 1:
        return high if high != 0 else math.inf
    if len(found) == 2:
        return high
    # Three or four values are classes, not noise around two; and only pictures went through JPEG.
    margin = END_SHARE * (high - low) if is_picture and len(found) > 4 else 0.0
    between = counts[(found > low + margin) & (found < high - margin)].sum() / counts.sum()
    is_label_map = high - low < SMALL_LABELS and bool((found == np.round(found)).all())
    if len(found) > SMALL_LABELS and between > BETWEEN_SHARE:
        raise UserError(
            f"{path} looks like an image and not a mask, it holds {len(found)} values ({low:g} to {high:g}): give the mask, "
            f"cut a map of probabilities at its threshold first, or say which of many labels are lung, {option}."
        )
    if is_label_map or between > BETWEEN_SHARE:
        shown = ", ".join(f"{value:g}" for value in found[:8]) + (", ..." if len(found) > 8 else "")
        raise UserError(
            f"{path} is no two-valued mask, it holds {len(found)} values ({shown}): say which of them are lung, {option}."
        )
    log.warning("%s holds %d values: what is above %g is taken for lung.", path, len(found), (low + high) / 2)
    return (low + high) / 2


def _check_single(path: Path, pictures: int) -> None:
    if pictures > 1:
        raise UserError(f"{path} holds more than one picture: save each slice as its own file, or the scan as NIfTI.")


def _colour(path: Path) -> UserError:
    return UserError(f"{path} is a colour picture, no grey slice: export it with one grey channel, or remove it.")
