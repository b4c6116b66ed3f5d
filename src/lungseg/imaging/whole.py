"""Whether a file holds all voxels that its header promises: ITK makes zeros or noise of missing ones without a word."""

import gzip
import math
import struct
import zlib
from pathlib import Path

from lungseg.errors import UserError, printable
from lungseg.imaging.limits import MAX_VOXELS, check_size

# Bits of a NIfTI voxel by the code of its type; the header says them twice, and ITK believes the code.
BITS = {
    2: 8, 4: 16, 8: 32, 16: 32, 32: 64, 64: 64, 128: 24, 256: 8, 512: 16, 768: 32, 1024: 64, 1280: 64, 1536: 128, 1792: 128,
    2304: 32,
}  # fmt: skip
PADDING = 2**20  # bytes that may follow the last voxel
META_BYTES = {"CHAR": 1, "UCHAR": 1, "SHORT": 2, "USHORT": 2, "INT": 4, "UINT": 4, "LONG": 8, "ULONG": 8, "LONG_LONG": 8,
              "ULONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}  # fmt: skip
META_HEADER = 2**14  # bytes in which a MetaImage header must end


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


def check_whole_nifti(path: Path) -> tuple[int, ...]:
    """The size (x, y, z, ...) in a NIfTI-1 header, after counting the bytes.

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


def check_whole_meta(path: Path) -> None:
    """Counts the bytes behind the header of a MetaImage (.mha, .mhd), and compares the checksum of compressed ones.

    Raises:
        UserError: more voxels than ``MAX_VOXELS``, or voxels in several files or in another folder.
        ValueError, KeyError, OSError, zlib.error: it is no MetaImage or not a whole one.
    """
    with path.open("rb") as file:
        head, mark, _ = file.read(META_HEADER).partition(b"ElementDataFile")
        fields = dict(line.split("=", 1) for line in head.decode("latin-1").splitlines() if "=" in line)
        header = {key.strip().lower(): value.strip() for key, value in fields.items()}
        if not mark:
            raise ValueError("it has no MetaImage header")
        file.seek(len(head))
        name = file.readline(META_HEADER).split(b"=", 1)[1].decode().strip()
        start = file.tell()
    size = [int(side) for side in header["dimsize"].split()]
    kind = META_BYTES.get(header["elementtype"].upper().removeprefix("MET_").removesuffix("_ARRAY"))
    if min(size) < 1 or kind is None:
        raise ValueError(f"its header makes no sense: size {header['dimsize']}, type {header['elementtype']}")
    check_size(path, math.prod(size), MAX_VOXELS)
    expected = math.prod(size) * kind * int(header.get("elementnumberofchannels", 1))
    if name.upper() != "LOCAL" and (Path(name).name != name or not (path.parent / name).is_file()):
        raise UserError(f"{path} keeps its voxels in {printable(name)}, which is no file beside it: put both into one folder.")
    data, start = (path, start) if name.upper() == "LOCAL" else (path.parent / name, max(0, int(header.get("headersize", 0))))
    if header.get("compresseddata", "").lower() != "true":
        found = data.stat().st_size - start
    else:
        inflater, found = zlib.decompressobj(zlib.MAX_WBITS | 32), 0
        with data.open("rb") as file:
            file.seek(start)
            for part in iter(lambda: inflater.unconsumed_tail or file.read(2**16), b""):
                found += len(inflater.decompress(part, 2**20))
                if found > expected + PADDING:
                    raise ValueError(f"it goes on behind its last voxel, after {expected} bytes")
        if not inflater.eof:
            raise ValueError("its compressed data are cut off")
    if found < expected:
        raise ValueError(f"it is cut off: {found} of {expected} bytes")


def _geometry(header: bytes, order: str, axes: int) -> tuple[float, ...]:
    """The numbers that place a volume in space, of those in its header that count."""
    qform, sform = struct.unpack_from(f"{order}2h", header, 252)
    numbers: tuple[float, ...] = struct.unpack_from(f"{order}{min(axes, 3)}f", header, 80)
    numbers += struct.unpack_from(f"{order}6f", header, 256) if qform > 0 else ()
    return numbers + (struct.unpack_from(f"{order}12f", header, 280) if sform > 0 else ())
