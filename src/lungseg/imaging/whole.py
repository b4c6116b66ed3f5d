"""Whether a file holds all voxels that its header promises: ITK makes zeros or noise of missing ones without a word."""

import math
import os
import re
import zlib
from collections.abc import Mapping
from pathlib import Path

from lungseg.errors import UserError, printable
from lungseg.imaging.limits import MAX_VOXELS, check_size
from lungseg.imaging.nifti import check_whole_nifti

META_BYTES = {"CHAR": 1, "UCHAR": 1, "SHORT": 2, "USHORT": 2, "INT": 4, "UINT": 4, "LONG": 8, "ULONG": 8, "LONG_LONG": 8,
              "ULONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}  # fmt: skip
META_HEADER = 2**14  # bytes in which a MetaImage header must end
META_AXES = 9
META_VECTORS = ("DimSize", "Offset", "Position", "Origin", "CenterOfRotation", "ElementSpacing", "ElementSize")
META_NUMBERS = ("HeaderSize", "CompressedDataSize", "ElementNumberOfChannels", "CompressionLevel", "ElementNBits", "ElementMin",
                "ElementMax", "ElementToIntensityFunctionSlope", "ElementToIntensityFunctionOffset", "ID", "ParentID")  # fmt: skip
META_LINE = 1000  # bytes of a line of a header at most
META_MATRICES = ("TransformMatrix", "Rotation", "Orientation")


def check_whole(path: Path) -> None:
    """Counts the bytes of a NIfTI or MetaImage file; NRRD is left to its own reader, which does so.

    Raises:
        UserError: too many voxels, or voxels in another folder.
        ValueError, KeyError, OSError, EOFError, zlib.error: it is no such file or not a whole one.
    """
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        check_whole_nifti(path)
    elif name.endswith((".mha", ".mhd")):
        check_whole_meta(path)


def files_of(path: Path) -> tuple[Path, ...]:
    """An image file, and those beside it that hold its voxels if its header names them (MetaImage, NRRD).

    Raises:
        ValueError, OSError: its header cannot be read.
    """
    suffix = path.suffix.lower()
    named: list[str] = []
    if suffix in (".mha", ".mhd"):
        named = [os.fsdecode(_meta_header(path)[0]["ElementDataFile"].encode("latin-1"))]
    elif suffix == ".nrrd":
        with path.open("rb") as file:
            named = _named_by_nrrd(os.fsdecode(file.read(META_HEADER).partition(b"\n\n")[0]))
    beside = [path.parent / name for name in named if name.upper() != "LOCAL"]
    return (path, *(file for file in beside if file.is_file()))


def _named_by_nrrd(header: str) -> list[str]:
    """The files in which a NRRD header says that its voxels are: one, a numbered row, or a list (teem.sourceforge.net/nrrd)."""
    found = re.search(r"(?mi)^data ?file: *(.+?) *\r?$", header)
    if found is None:
        return []
    words = found[1].split()
    if words[0].upper() == "LIST":
        return header[found.end() :].split("\n")[1:]
    if "%" in found[1] and len(words) >= 4 and all(re.fullmatch(r"-?\d+", word) for word in words[1:4]):
        first, last, step = map(int, words[1:4])
        return [words[0] % number for number in range(first, last + 1, step or 1)]
    return [found[1]]


def check_whole_meta(path: Path) -> None:
    """Counts the bytes behind the header of a MetaImage (.mha, .mhd), and compares the checksum of compressed ones.

    Raises:
        UserError: more voxels than ``MAX_VOXELS``, or voxels in several files or in another folder.
        ValueError, KeyError, OSError, zlib.error: it is no MetaImage or not a whole one.
    """
    header, start = _meta_header(path)
    size = _meta_size(header)
    kind = META_BYTES.get(header["ElementType"].upper().removeprefix("MET_").removesuffix("_ARRAY"))
    if min(size) < 1 or kind is None:
        raise ValueError(f"its header makes no sense: size {header['DimSize']}, type {header['ElementType']}")
    if header.get("BinaryData", "True").lower() != "true":
        raise ValueError("its voxels are written as text")
    check_size(path, math.prod(size), MAX_VOXELS)
    expected = math.prod(size) * kind * int(header.get("ElementNumberOfChannels", 1))
    name, skipped = header["ElementDataFile"].encode("latin-1").decode(), int(header.get("HeaderSize", 0))
    if name in ("LOCAL", "Local", "local"):
        data = path
    elif Path(name).name == name and (path.parent / name).is_file():
        data, start = path.parent / name, 0
    else:
        raise UserError(f"{path} keeps its voxels in {printable(name)}, which is no file beside it: put both into one folder.")
    start = skipped if skipped > 0 else start
    if header.get("CompressedData", "").lower() == "true":
        packed = int(header.get("CompressedDataSize", 0))
        if packed < 1 and start == 0:
            packed = data.stat().st_size
        if not 0 < packed <= data.stat().st_size - start:  # MetaIO would look at the wrong place, and give noise
            raise ValueError("its header does not say how long its compressed data are")
        found = _inflated(data, start, packed, expected)
    else:
        found = data.stat().st_size - start
    if found < expected:
        raise ValueError(f"it is cut off: {found} of {expected} bytes")


def _meta_header(path: Path) -> tuple[dict[str, str], int]:
    """The lines of a MetaImage header, each once, and where it ends. MetaIO takes others too, and talks on the error stream."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        while file.tell() < META_HEADER and (line := file.readline(META_HEADER)):
            key, mark, value = (part.strip() for part in line.decode("latin-1").partition("="))
            if not (key or mark):
                continue
            if not mark or key in fields or b"\0" in line or len(line) > META_LINE:
                raise ValueError(f"its header has a line that makes no sense: {printable(key, most=40)}")
            fields[key] = value
            if key == "ElementDataFile":
                return fields, file.tell()
    raise ValueError("it has no MetaImage header")


def _meta_size(header: Mapping[str, str]) -> list[int]:
    """The size (x, y, z) in a MetaImage header whose lists of numbers are as long as they must be."""
    axes = int(header["NDims"])
    if not 1 <= axes <= META_AXES:
        raise ValueError(f"its header says that it has {axes} axes")
    before = list(header)[: list(header).index("NDims")]
    lengths = {
        name: length for names, length in ((META_NUMBERS, 1), (META_VECTORS, axes), (META_MATRICES, axes * axes)) for name in names
    }
    for name in lengths.keys() & header.keys():
        numbers, count = [float(number) for number in header[name].split()], lengths[name]
        if (name in before and count > 1) or len(numbers) != count or not all(map(math.isfinite, numbers)):
            raise ValueError(f"its header makes no sense: {name} = {printable(header[name], most=60)}")
    return [int(side) for side in header["DimSize"].split()]


def _inflated(data: Path, start: int, packed: int, expected: int) -> int:
    """How many bytes are packed in ``packed`` bytes of a file."""
    inflater, found, left = zlib.decompressobj(zlib.MAX_WBITS | 32), 0, packed
    with data.open("rb") as file:
        file.seek(start)
        while not inflater.eof:
            kept = inflater.unconsumed_tail
            part = kept or file.read(min(2**16, left))
            left -= 0 if kept else len(part)
            made = inflater.decompress(part, 2**20)
            if not (part or made):
                raise ValueError("its compressed data are cut off")
            found += len(made)
            if found > expected:
                raise ValueError(f"it goes on behind its last voxel, after {expected} bytes")
    return found
