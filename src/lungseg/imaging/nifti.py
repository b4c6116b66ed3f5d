"""NIfTI volumes, read whole or refused."""
# mypy: allow-untyped-calls

import gzip
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from lungseg.errors import UserError
from lungseg.imaging.limits import MAX_VOXELS, check_size

# Bits of a voxel by the code of its type; the header says them twice, and ITK believes the code.
BITS = {
    2: 8, 4: 16, 8: 32, 16: 32, 32: 64, 64: 64, 128: 24, 256: 8, 512: 16, 768: 32, 1024: 64, 1280: 64, 1536: 128, 1792: 128,
    2304: 32,
}  # fmt: skip
PADDING = 2**20  # bytes that may follow the last voxel


def read_nifti(path: Path) -> NDArray[Any]:
    """A volume (Z, H, W) in LPS order, in the type it is stored in.

    Raises:
        UserError: too many voxels, several volumes in one file, or a name that is no UTF-8.
        ValueError, OSError, EOFError, RuntimeError: it is no NIfTI-1 file or not a whole one.
    """
    size = check_whole_nifti(path)
    try:
        str(path).encode()
    except UnicodeEncodeError as error:  # inside SimpleITK such a name would end the whole process
        raise UserError(f"{path} has a name that is no UTF-8, which volumes must have: rename it.") from error
    image = sitk.ReadImage(str(path), imageIO="NiftiImageIO")
    if image.GetNumberOfComponentsPerPixel() != 1 or image.GetDimension() > 3:
        raise UserError(f"{path} is no single volume (size {size}): give one file for each time point or channel.")
    if image.GetDimension() == 2:
        image = sitk.JoinSeries([image])
    return np.asarray(sitk.GetArrayFromImage(sitk.DICOMOrient(image, "LPS")))


def check_whole_nifti(path: Path) -> tuple[int, ...]:
    """The size (x, y, z, ...) in a NIfTI-1 header, after counting the bytes: ITK silently makes zeros of missing ones.

    Raises:
        UserError: more voxels than ``MAX_VOXELS``.
        ValueError, OSError, EOFError: it is no NIfTI-1 file or not a whole one.
    """
    with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
        header = file.read(348)
        order = "<" if header[:4] == struct.pack("<i", 348) else ">"
        if len(header) < 348 or struct.unpack_from(f"{order}i", header) != (348,):
            raise ValueError("it has no NIfTI-1 header")
        dims = struct.unpack_from(f"{order}8h", header, 40)
        (kind,) = struct.unpack_from(f"{order}h", header, 70)
        (offset,) = struct.unpack_from(f"{order}f", header, 108)
        size = dims[1 : dims[0] + 1]
        if not 1 <= dims[0] <= 7 or min(size) < 1 or kind not in BITS:
            raise ValueError(f"its header makes no sense: size {size}, type {kind}")
        if not all(map(math.isfinite, _geometry(header, order, len(size)))):
            raise ValueError("its header places the volume nowhere: spacing or axes are not finite")
        check_size(path, math.prod(size), MAX_VOXELS)
        expected = max(int(offset), 352) + math.prod(size) * BITS[kind] // 8
        found = len(header)
        for part in iter(lambda: file.read(2**20), b""):  # to the end: gzip's checksum is there
            found += len(part)
            if found > expected + PADDING:
                raise ValueError(f"it goes on behind its last voxel, after {expected} bytes")
    if found < expected:
        raise ValueError(f"it is cut off: {found} of {expected} bytes")
    return size


def _geometry(header: bytes, order: str, axes: int) -> tuple[float, ...]:
    """The numbers that place a volume in space, of those in its header that count."""
    qform, sform = struct.unpack_from(f"{order}2h", header, 252)
    numbers: tuple[float, ...] = struct.unpack_from(f"{order}{min(axes, 3)}f", header, 80)
    numbers += struct.unpack_from(f"{order}6f", header, 256) if qform > 0 else ()
    return numbers + (struct.unpack_from(f"{order}12f", header, 280) if sform > 0 else ())
