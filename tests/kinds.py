"""A valid file of every kind that is read, with its exact values: what the contract of readers and the fuzzing begin with."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import gdcm
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    generate_uid,
)

RNG = np.random.default_rng(8)
GREY8 = RNG.integers(0, 256, (23, 31)).astype(np.uint8)
GREY16 = RNG.integers(0, 65536, (23, 31)).astype(np.uint16)
HU = RNG.integers(-2048, 3000, (23, 31)).astype(np.int16)
SMOOTH = np.add.outer(np.arange(64) * 20, np.arange(64) * 7).astype(np.int16) - 1024  # openjpeg wants 64 x 64 or more
STACK = RNG.integers(-2048, 3000, (5, 23, 31)).astype(np.int16)
DISC = (np.hypot(*np.mgrid[-32:32, -32:32]) < 20).astype(np.uint8)  # (64, 64), a mask

Write = Callable[[Path], Any]


def tiff(path: Path, pixels: NDArray[Any], deflate: bool = False, order: str = "<", photometric: int = 1) -> None:
    """A one-strip TIFF by the book (TIFF 6.0, section 8), written without any of the libraries that read it."""
    kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    data = zlib.compress(data) if deflate else data
    height, width = pixels.shape
    tags = {256: width, 257: height, 258: 8 * pixels.itemsize, 259: 8 if deflate else 1, 262: photometric, 273: 8}
    tags |= {277: 1, 278: height, 279: len(data), 339: kind}
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8 + len(data))
    path.write_bytes(head + data + struct.pack(f"{order}H", len(tags)) + entries + bytes(4))


def tiled_tiff(path: Path, pixels: NDArray[Any], side: int = 16) -> None:
    """The same in deflated tiles of side x side (section 15)."""
    height, width = pixels.shape
    down, across = -(-height // side), -(-width // side)
    padded = np.pad(pixels, ((0, down * side - height), (0, across * side - width)))
    tiles = [
        zlib.compress(padded[y : y + side, x : x + side].tobytes())
        for y in range(0, down * side, side)
        for x in range(0, across * side, side)
    ]
    starts = np.cumsum([8, *map(len, tiles)])
    lists = struct.pack(f"<{2 * len(tiles)}I", *starts[:-1], *map(len, tiles))
    end = int(starts[-1])
    tags = {256: width, 257: height, 258: 8 * pixels.itemsize, 259: 8, 262: 1, 277: 1, 322: side, 323: side, 339: 1}
    entries = {tag: struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items()}
    entries |= {tag: struct.pack("<HHII", tag, 4, len(tiles), end + at) for tag, at in ((324, 0), (325, 4 * len(tiles)))}
    directory = b"".join(entries[tag] for tag in sorted(entries))
    head = b"II" + struct.pack("<HI", 42, end + len(lists))
    path.write_bytes(head + b"".join(tiles) + lists + struct.pack("<H", len(entries)) + directory + bytes(4))


def opencv(path: Path, pixels: NDArray[Any], *options: int) -> None:
    path.write_bytes(cv2.imencode(path.suffix, pixels, options)[1].tobytes())


def pillow(pixels: NDArray[Any], mode: str = "", **options: Any) -> Write:
    image = Image.fromarray(pixels)
    return lambda path: (image.convert(mode) if mode else image).save(path, **options)


def palette(indices: NDArray[np.uint8], *colours: tuple[int, int, int]) -> Image.Image:
    image = Image.fromarray(indices).copy()
    image.putpalette([value for colour in colours for value in colour])
    return image


def dicom(path: Path, pixels: NDArray[Any] = HU, syntax: str = ExplicitVRLittleEndian, **tags: Any) -> None:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax in (RLELossless, JPEG2000Lossless) else syntax
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, generate_uid(entropy_srcs=["a slice"])
    dataset.Modality = "CT"
    if pixels.size:
        dataset.Rows, dataset.Columns = pixels.shape[-2:]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
        dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
        dataset.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(dataset, name, value)
    if syntax in (RLELossless, JPEG2000Lossless):
        dataset.compress(syntax, generate_instance_uid=False)
    dataset.save_as(path, enforce_file_format=True)


def gdcm_dicom(path: Path, pixels: NDArray[Any], syntax: int, **tags: Any) -> None:
    """A DICOM file in a transfer syntax that only GDCM writes."""
    dicom(path, pixels, **tags)
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(path))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(path))
    assert writer.Write()


def nifti(path: Path, stack: NDArray[Any], orientation: str = "LPS", compress: bool = False) -> None:
    """A volume whose axial slices are ``stack`` (Z, H, W), stored in another orientation."""
    image = sitk.GetImageFromArray(stack)
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((-10.0, 20.0, 30.0))
    sitk.WriteImage(sitk.DICOMOrient(image, orientation), str(path), useCompression=compress)


EXACT: dict[str, tuple[str, Write, NDArray[Any]]] = {
    "png 8 bit": ("a.png", pillow(GREY8), GREY8),
    "png 16 bit": ("a.png", pillow(GREY16), GREY16),
    "png 1 bit": ("a.png", pillow(GREY8 > 99), (GREY8 > 99) * 255),
    "png grey palette": ("a.png", lambda p: palette(GREY8 % 2, (9, 9, 9), (70, 70, 70)).save(p), GREY8 % 2 * 61 + 9),
    "png grey and alpha": ("a.png", pillow(GREY8, "LA"), GREY8),
    "png rgb": ("a.png", pillow(GREY8, "RGB"), GREY8),
    "png rgba": ("a.png", pillow(GREY8, "RGBA"), GREY8),
    "png rgb 16 bit": ("a.png", lambda p: opencv(p, np.dstack([GREY16] * 3)), GREY16),
    "png capital suffix": ("a.PNG", pillow(GREY8), GREY8),
    "bmp": ("a.bmp", pillow(GREY8), GREY8),
    "bmp 1 bit": ("a.bmp", pillow(GREY8 > 99), (GREY8 > 99) * 255),
    "bmp rgb": ("a.bmp", pillow(GREY8, "RGB"), GREY8),
    "tif lzw uint8": ("a.tif", lambda p: opencv(p, GREY8, cv2.IMWRITE_TIFF_COMPRESSION, 5), GREY8),
    "tif lzw uint16": ("a.tif", lambda p: opencv(p, GREY16, cv2.IMWRITE_TIFF_COMPRESSION, 5), GREY16),
    "tif lzw int16": ("a.tif", lambda p: opencv(p, HU, cv2.IMWRITE_TIFF_COMPRESSION, 5), HU),
    "tif lzw float": ("a.tif", lambda p: opencv(p, HU.astype(np.float32) / 3, cv2.IMWRITE_TIFF_COMPRESSION, 5), HU / 3),
    "tif big-endian": ("a.tif", lambda p: tiff(p, HU, deflate=True, order=">"), HU),
    "tif 1 bit": ("a.tiff", pillow(GREY8 > 99, compression="group4"), (GREY8 > 99) * 255),
    "tif white is zero": ("a.tif", lambda p: tiff(p, GREY8, photometric=0), 255 - GREY8.astype(int)),
    "tif grey palette": ("a.tif", lambda p: palette(GREY8 % 2, (9, 9, 9), (70, 70, 70)).save(p), GREY8 % 2 * 61 + 9),
    "tif tiled": ("a.tif", lambda p: tiled_tiff(p, GREY16), GREY16),
    "tif of 64-bit offsets": ("a.tif", pillow(GREY8, big_tiff=True), GREY8),
    "tif rgb": ("a.tif", pillow(GREY8, "RGB"), GREY8),
    "npy slice": ("a.npy", lambda p: np.save(p, HU / 3), HU / 3),
    "npy stack": ("a.npy", lambda p: np.save(p, STACK), STACK),
    "npy bool": ("a.npy", lambda p: np.save(p, HU > 0), HU > 0),
    "dicom": ("a.dcm", lambda p: dicom(p, RescaleSlope=2, RescaleIntercept=-1024), 2.0 * HU - 1024),
    "dicom without rescale": ("a.dcm", dicom, HU),
    "dicom without suffix": ("IM00001", dicom, HU),
    "dicom named by uid": ("1.2.840.113619.2", dicom, HU),
    "dicom deflated": ("a.dcm", lambda p: dicom(p, syntax=DeflatedExplicitVRLittleEndian), HU),
    "dicom rle": ("a.dcm", lambda p: dicom(p, syntax=RLELossless), HU),
    "dicom jpeg 2000": ("a.dcm", lambda p: dicom(p, SMOOTH, syntax=JPEG2000Lossless), SMOOTH),
    "dicom jpeg lossless": ("a.dcm", lambda p: gdcm_dicom(p, HU, gdcm.TransferSyntax.JPEGLosslessProcess14_1), HU),
    "dicom jpeg-ls": ("a.dcm", lambda p: gdcm_dicom(p, HU, gdcm.TransferSyntax.JPEGLSLossless), HU),
    "dicom white is low": (
        "a.dcm",
        lambda p: dicom(p, GREY16 // 16, PhotometricInterpretation="MONOCHROME1", BitsStored=12, HighBit=11, Modality="CR"),
        4095 - (GREY16 // 16).astype(int),
    ),
    "dicom white is low, hu": ("a.dcm", lambda p: dicom(p, PhotometricInterpretation="MONOCHROME1"), HU),
    "nii": ("a.nii", lambda p: nifti(p, STACK), STACK),
    "nii.gz": ("a.nii.gz", lambda p: nifti(p, STACK), STACK),
    "nrrd": ("a.nrrd", lambda p: nifti(p, STACK, "RAS"), STACK),
    "mha": ("a.mha", lambda p: nifti(p, STACK, "PIR"), STACK),
    "mha compressed": ("a.mha", lambda p: nifti(p, STACK, compress=True), STACK),
    "mhd with its raw file": ("a.mhd", lambda p: nifti(p, STACK, "LPI"), STACK),
    "nii of one slice": ("a.nii.gz", lambda p: sitk.WriteImage(sitk.GetImageFromArray(HU), str(p)), HU),
}
for dtype in (np.uint8, np.uint16, np.int16, np.int32, np.uint32, np.float32, np.float64):
    values = (HU.astype(np.float64) * 7 / 3).astype(dtype) if np.dtype(dtype).kind != "u" else GREY16.astype(dtype)
    for deflate in (False, True):
        EXACT[f"tif {np.dtype(dtype)}{' deflate' if deflate else ''}"] = (
            "a.tif",
            lambda p, values=values, deflate=deflate: tiff(p, values, deflate),  # type: ignore[misc]
            values,
        )
