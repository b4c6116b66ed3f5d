"""What the program leaves behind: masks, probabilities and pictures, each file whole or not there at all."""
# mypy: allow-untyped-calls

import gzip
import shutil
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from lungseg.files import PARTIAL, CannotWrite, writing, written_whole
from lungseg.imaging.slices import VOLUME_SUFFIXES, suffix_of
from lungseg.imaging.volume import Grid
from lungseg.imaging.volume_files import is_flat, read_grid
from lungseg.imaging.whole import check_whole

# What the labels mean, for programs that look: in every format, and as 3D Slicer reads segments from NRRD.
NAMES = {
    "ITK_FileNotes": "1 right lung, 2 left lung",
    **{f"Segment{n}_{key}": text for n, side in enumerate(("right", "left")) for key, text in (
        ("ID", f"{side}_lung"), ("Name", f"{side} lung"), ("LabelValue", str(n + 1)), ("Layer", "0"))},
}  # fmt: skip
NIFTI_HEADER = 348
NIFTI_GEOMETRY = ((80, 92), (76, 80), (123, 124), (252, 328))  # spacing, handedness, units, qform and sform


def mask_ending(source: Path) -> str:
    """How the file name of an image's mask ends: as the volume's own, .npy for an array of several slices, else .png."""
    suffix = suffix_of(source)
    if suffix in VOLUME_SUFFIXES:
        return {".nii": ".nii.gz", ".mhd": ".mha"}.get(suffix, suffix)
    return ".npy" if suffix == ".npy" and _has_slices(source) else ".png"


def write_mask(path: Path, mask: NDArray[Any], like: Path | None = None, grid: Grid | None = None) -> None:
    """A mask in canonical order, (H, W) or (Z, H, W), bool or labels: a volume with its labels, .png and .npy with 0 and 255.

    Args:
        like: the volume file that the mask was made from; the mask is turned back to its grid, and a NIfTI file's geometry is
            copied bit by bit.
        grid: of the volume where it is no file's.

    Raises:
        UserError: the file cannot be written.
    """
    if suffix_of(path) in VOLUME_SUFFIXES:
        _write_volume(path, mask.astype(np.uint8, copy=False), like, grid, NAMES if mask.dtype != bool else {})
    else:
        _write_slices(path, (mask > 0) * np.uint8(255))


def write_probability(
    path: Path, probability: NDArray[np.floating[Any]], like: Path | None = None, grid: Grid | None = None
) -> None:
    """Probabilities (H, W) or (Z, H, W), as ``write_mask``: .png and .npy hold 0 to 65535 for 0 to 1, volumes hold float32.

    Raises:
        UserError: the file cannot be written.
    """
    if suffix_of(path) in VOLUME_SUFFIXES:
        _write_volume(path, probability.astype(np.float32, copy=False), like, grid, {})
    else:
        _write_slices(path, np.rint(probability * 65535).astype(np.uint16))


def write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    """A picture (H, W, 3) of red, green and blue, or a grey one (H, W), as PNG.

    Raises:
        UserError: the file cannot be written.
    """
    _write(path, png(picture))


def _has_slices(source: Path) -> bool:
    """Whether an NPY file holds several slices; one that cannot be read holds none."""
    try:
        shape = np.load(source, mmap_mode="r", allow_pickle=False).shape  # mapped: only the header is read
    except Exception:  # damaged bytes can raise anything, and whoever reads the pixels says what is wrong
        return False
    return len(shape) == 3 and shape[0] > 1


def _write(path: Path, data: bytes) -> None:
    with written_whole(path) as beside:
        beside.write_bytes(data)


def _write_slices(path: Path, pixels: NDArray[Any]) -> None:
    if suffix_of(path) == ".npy":
        buffer = BytesIO()
        np.save(buffer, pixels)
        _write(path, buffer.getvalue())
    elif pixels.ndim == 2 or len(pixels) == 1:
        _write(path, png(pixels.reshape(pixels.shape[-2:])))
    else:
        raise ValueError(f"{path} cannot hold {len(pixels)} slices: a stack goes into .npy or .nii.gz")


def png(pixels: NDArray[Any]) -> bytes:
    """A picture (H, W) or (H, W, 3) of red, green and blue as the bytes of a PNG file."""
    done, data = cv2.imencode(".png", pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    assert done, f"no PNG can be made of {pixels.dtype} {pixels.shape}"
    return bytes(data.tobytes())


def _write_volume(path: Path, stack: NDArray[Any], like: Path | None, grid: Grid | None, notes: Mapping[str, str]) -> None:
    """A stack in canonical order (Z, H, W) as a compressed volume on a grid, which may lie in another order.

    Args:
        notes: entries for the file's header.
    """
    suffix = suffix_of(path)
    if grid is None:
        if like is None:
            raise ValueError("a volume needs `like`, the file whose geometry it has, or a grid")
        grid = read_grid(like, suffix_of(like))
    image = grid.place(sitk.GetImageFromArray(grid.turn.back(stack.reshape((1,) * (3 - stack.ndim) + stack.shape))))
    if like is not None and is_flat(like, suffix_of(like)):
        image = image[:, :, 0]
    for key, text in notes.items():
        image.SetMetaData(key, text)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = TemporaryDirectory(prefix=PARTIAL, dir=path.parent)
    with temporary as folder:
        # Not straight to the target: on a full disk ITK leaves half a file and reports success.
        written = Path(folder, "volume.nii" if suffix == ".nii.gz" else f"volume{suffix}")
        try:
            sitk.WriteImage(image, str(written), useCompression=True)
            del image
            if suffix == ".nii.gz" and like is not None and suffix_of(like) in (".nii", ".nii.gz"):
                _copy_geometry(like, written)
            check_whole(written)
            if suffix == ".nrrd":  # counted by its reader alone
                sitk.ReadImage(str(written))
        except (RuntimeError, ValueError, OSError) as error:
            raise CannotWrite(f"{path} cannot be written, there is no room for it; choose another folder or make room.") from error
        with written_whole(path) as beside, written.open("rb") as source, beside.open("wb") as target:
            if suffix != ".nii.gz":
                shutil.copyfileobj(source, target)
                return
            # The same mask gives the same bytes: neither name nor time is in the file.
            with gzip.GzipFile(filename="", fileobj=target, mode="wb", compresslevel=3, mtime=0) as packed:
                shutil.copyfileobj(source, packed, 2**20)


def _copy_geometry(source: Path, target: Path) -> None:
    """Copies what places a NIfTI-1 volume in space bit by bit: ITK computes it anew, with other roundings."""
    with gzip.open(source) if source.name.lower().endswith(".gz") else source.open("rb") as file:
        given = file.read(NIFTI_HEADER)
    with target.open("r+b") as file:
        own = bytearray(file.read(NIFTI_HEADER))
        if given[:4] != own[:4] or given[40:42] != own[40:42]:  # of the other byte order, or flat
            return
        for first, end in NIFTI_GEOMETRY:
            own[first:end] = given[first:end]
        file.seek(0)
        file.write(own)
