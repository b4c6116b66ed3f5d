"""What the program leaves behind: masks, probabilities and pictures, each file whole or not there at all."""
# mypy: allow-untyped-calls

import gzip
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from lungseg.errors import UserError
from lungseg.files import written_whole
from lungseg.imaging.quiet import quiet
from lungseg.imaging.slices import VOLUME_SUFFIXES, suffix_of
from lungseg.imaging.whole import check_whole_nifti


def mask_ending(source: Path) -> str:
    """How the file name of an image's mask ends: .nii.gz for a volume, .npy for an array of several slices, else .png."""
    if suffix_of(source) in VOLUME_SUFFIXES:
        return ".nii.gz"
    return ".npy" if suffix_of(source) == ".npy" and _has_slices(source) else ".png"


def write_mask(path: Path, mask: NDArray[np.bool_], like: Path | None = None) -> None:
    """A mask (H, W) or (Z, H, W): .png, for one slice, and .npy hold 0 and 255, .nii.gz holds 0 and 1.

    Args:
        like: the NIfTI file that the mask was made from; the mask is turned back from ``read_stack``'s LPS to its grid.

    Raises:
        UserError: the file cannot be written.
    """
    if suffix_of(path) in VOLUME_SUFFIXES:
        _write(path, _nifti(mask.astype(np.uint8), like))
    else:
        _write_slices(path, mask.astype(np.uint8) * np.uint8(255))


def write_probability(path: Path, probability: NDArray[np.floating[Any]], like: Path | None = None) -> None:
    """Probabilities (H, W) or (Z, H, W), as ``write_mask``: .png and .npy hold 0 to 65535 for 0 to 1, .nii.gz holds float32.

    Raises:
        UserError: the file cannot be written.
    """
    if suffix_of(path) in VOLUME_SUFFIXES:
        _write(path, _nifti(probability.astype(np.float32), like))
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


def _nifti(stack: NDArray[Any], like: Path | None) -> bytes:
    """A stack in LPS order (Z, H, W) as a compressed NIfTI file on exactly the grid of ``like``."""
    if like is None:
        raise ValueError("a volume needs `like`, the file whose geometry it has")
    grid = _grid(like)
    is_flat = grid.GetDimension() == 2
    if is_flat:
        grid = sitk.JoinSeries([grid])
    image = sitk.GetImageFromArray(stack.reshape((1,) * (3 - stack.ndim) + stack.shape))
    image.CopyInformation(sitk.DICOMOrient(grid, "LPS"))
    orientation = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(grid.GetDirection())
    image = sitk.DICOMOrient(image, orientation)
    image.CopyInformation(grid)  # no rounding from turning there and back
    with TemporaryDirectory() as folder:
        # Not straight to the target: on a full disk ITK leaves half a file and reports success.
        written = Path(folder, "volume.nii")
        try:
            sitk.WriteImage(image[:, :, 0] if is_flat else image, str(written))
            check_whole_nifti(written)
        except (RuntimeError, ValueError, OSError) as error:
            raise UserError(f"{folder} has no room for a volume: free some, or set TMPDIR to another folder.") from error
        return gzip.compress(written.read_bytes(), compresslevel=6, mtime=0)  # the same mask gives the same bytes


def _grid(like: Path) -> sitk.Image:
    """An empty image with a NIfTI file's size, spacing, origin and direction; no voxel of the file is read."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NiftiImageIO")
    reader.SetFileName(str(like))
    with quiet():
        reader.ReadImageInformation()
    grid = sitk.Image(reader.GetSize(), sitk.sitkUInt8)
    grid.SetSpacing(reader.GetSpacing())
    grid.SetOrigin(reader.GetOrigin())
    grid.SetDirection(reader.GetDirection())
    return grid
