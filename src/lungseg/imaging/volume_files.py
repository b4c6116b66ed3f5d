"""Volumes in one file: NIfTI, NRRD and MetaImage, read whole or refused."""
# mypy: allow-untyped-calls

import math
from pathlib import Path

import SimpleITK as sitk

from lungseg.errors import UserError
from lungseg.imaging.limits import MAX_VOXELS, check_size
from lungseg.imaging.nifti import nifti_voxels
from lungseg.imaging.quiet import quiet
from lungseg.imaging.volume import Grid, Volume
from lungseg.imaging.whole import check_whole

FORMATS = {
    ".nii.gz": "NiftiImageIO",
    ".nii": "NiftiImageIO",
    ".nrrd": "NrrdImageIO",
    ".mha": "MetaImageIO",
    ".mhd": "MetaImageIO",
}


def read_volume(path: Path, suffix: str) -> Volume:
    """A volume as it is stored, in the type it is stored in; rescaled if the file says so. One slice is a volume of one.

    Args:
        suffix: one of ``FORMATS``.

    Raises:
        UserError: too many voxels, several volumes in one file, or a name that is no UTF-8.
        ValueError, OSError, EOFError, RuntimeError: it is no such file or not a whole one.
    """
    if FORMATS[suffix] == "NiftiImageIO":
        voxels = nifti_voxels(path)
        grid = read_grid(path, suffix)
        if voxels is not None and voxels.size == math.prod(grid.shape):
            return Volume(voxels.reshape(grid.shape), grid)
        del voxels
    else:
        check_whole(path)
        _header(path, suffix)
    image = sitk.ReadImage(str(path), imageIO=FORMATS[suffix])
    return Volume.of(sitk.JoinSeries([image]) if image.GetDimension() == 2 else image)


def read_grid(path: Path, suffix: str) -> Grid:
    """Where the voxels of a file lie; none of them is read.

    Raises:
        UserError, RuntimeError: as ``read_volume``, as far as the header shows it.
    """
    reader = _header(path, suffix)
    if reader.GetDimension() == 3:
        return Grid.of(reader)
    x, y = reader.GetSize()
    flat = sitk.Image([x, y], sitk.sitkUInt8)
    flat.SetSpacing(reader.GetSpacing())
    flat.SetOrigin(reader.GetOrigin())
    flat.SetDirection(reader.GetDirection())
    return Grid.of(sitk.JoinSeries([flat]))


def header_doubts(path: Path, suffix: str) -> tuple[str, ...]:
    """Why the place of a volume in the patient is not certain, as far as its header shows it."""
    reader = _header(path, suffix)
    found = []
    lies = {
        "NiftiImageIO": lambda: any(_metadata(reader, key) not in ("", "0") for key in ("qform_code", "sform_code")),
        "NrrdImageIO": lambda: _metadata(reader, "NRRD_space") != "",
        "MetaImageIO": lambda: True,
    }
    if not lies[FORMATS[suffix]]():
        found.append("its header does not say how the patient lies: right and left, or head and feet, may be exchanged")
    if len(reader.GetSize()) == 2:
        found.append("it is one slice of unknown thickness: volumes are of 1 mm")
    return tuple(found)


def _metadata(reader: sitk.ImageFileReader, key: str) -> str:
    return str(reader.GetMetaData(key)).strip() if reader.HasMetaDataKey(key) else ""


def is_flat(path: Path, suffix: str) -> bool:
    """Whether a file holds one slice and says so: it has two axes only."""
    return len(_header(path, suffix).GetSize()) == 2


def _header(path: Path, suffix: str) -> sitk.ImageFileReader:
    try:
        str(path).encode()
    except UnicodeEncodeError as error:  # inside SimpleITK such a name would end the whole process
        raise UserError(f"{path} has a name that is no UTF-8, which volumes must have: rename it.") from error
    reader = sitk.ImageFileReader()
    reader.SetImageIO(FORMATS[suffix])
    reader.SetFileName(str(path))
    try:
        with quiet():
            reader.ReadImageInformation()
    except RuntimeError as error:
        if "orthonormal" in str(error):
            raise UserError(
                f"{path} has axes that are not at right angles, as of a tilted gantry: give its DICOM files, or resample it."
            ) from error
        raise
    size = reader.GetSize()
    check_size(path, math.prod(size), MAX_VOXELS)
    if reader.GetNumberOfComponents() != 1 or len(size) not in (2, 3):
        raise UserError(f"{path} is no single volume (size {size}): give one file for each time point or channel.")
    if not all(map(math.isfinite, (*reader.GetSpacing(), *reader.GetOrigin(), *reader.GetDirection()))):
        raise ValueError("its header places the volume nowhere: spacing or axes are not finite")
    return reader
