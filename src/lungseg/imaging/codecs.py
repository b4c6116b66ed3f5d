"""The pixels in a DICOM dataset, by decoders that survive what is wrong with them."""
# mypy: allow-untyped-calls

import struct
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    CTImageStorage,
    JPEG2000TransferSyntaxes,
    JPEGBaseline8Bit,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    generate_uid,
)

from lungseg.errors import UserError

# python-gdcm, which pydicom would ask first, ends the whole process where a damaged stream makes it throw an exception.
PLUGINS = {JPEGBaseline8Bit: "pillow", **dict.fromkeys(JPEG2000TransferSyntaxes, "pylibjpeg")}
FRAME_HEADERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # of JPEG, and of JPEG-LS
PICTURE = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "PixelRepresentation")


def stored_values(dataset: Dataset, index: int = 0) -> NDArray[Any]:
    """One picture of a dataset, (Rows, Columns), before any rescaling.

    Raises:
        UserError: there is no room for a file between two libraries.
        Exception: of any kind, where the picture is damaged.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax in (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes) and syntax not in PLUGINS:
        return _by_itk(dataset, index)
    return np.asarray(pixel_array(dataset, index=index, decoding_plugin=PLUGINS.get(syntax, "")))


def _by_itk(dataset: Dataset, index: int) -> NDArray[Any]:
    """Through the GDCM inside SimpleITK, whose exceptions arrive as such; given the picture alone, it rescales nothing."""
    frame = get_frame(dataset.PixelData, index, number_of_frames=int(dataset.get("NumberOfFrames") or 1))
    _check_frame(frame, dataset)
    alone = Dataset()
    alone.file_meta = FileMetaDataset()
    alone.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    alone.SOPClassUID, alone.SOPInstanceUID = CTImageStorage, generate_uid()
    alone.PhotometricInterpretation = "MONOCHROME2"
    for name in PICTURE:
        setattr(alone, name, dataset[name].value)
    alone.HighBit = alone.BitsStored - 1
    alone.PixelData = encapsulate([frame])
    alone["PixelData"].is_undefined_length = True
    with ExitStack() as stack:
        try:
            path = Path(stack.enter_context(TemporaryDirectory()), "picture.dcm")
            alone.save_as(path, enforce_file_format=True)
        except OSError as error:
            raise UserError(
                f"no file can be written into the folder for temporary files ({error.strerror}): free some room, or set TMPDIR."
            ) from error
        return np.asarray(sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO="GDCMImageIO"))[0])


def _check_frame(frame: bytes, dataset: Dataset) -> None:
    """Refuses a stream whose own header (ISO 10918-1, B.2.2) contradicts the dataset's: GDCM would write beyond its memory.

    Raises:
        ValueError, IndexError, struct.error: it does, or has none.
    """
    place = 2
    while frame[place] == 0xFF and frame[place + 1] not in FRAME_HEADERS:
        if frame[place + 1] in (0xD9, 0xDA):
            raise ValueError("its stream has no header")
        place += 2 + int.from_bytes(frame[place + 2 : place + 4], "big")
    precision, *size = struct.unpack_from(">BHHB", frame, place + 4)
    if frame[place] != 0xFF or size != [dataset.Rows, dataset.Columns, 1]:
        raise ValueError("its stream has another size than its header")
    bits = 8 if precision <= 8 else 16
    if not 2 <= precision <= 16 or not 1 <= dataset.BitsStored <= dataset.BitsAllocated == bits:
        raise ValueError("its stream has other values than its header")
