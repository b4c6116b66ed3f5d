"""NIfTI-1 voxels in one pass: counted, compared with their checksum, and kept in the one array that there will be.

SimpleITK holds every voxel twice while it reads, after a pass that only counts; its values are what is given here, exactly.
"""

import gzip
import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungseg.imaging.limits import MAX_VOXELS, check_size

HEADER = 348  # bytes
# Bits of a voxel by the code of its type; the header says them twice, and ITK believes the code.
BITS = {
    2: 8, 4: 16, 8: 32, 16: 32, 32: 64, 64: 64, 128: 24, 256: 8, 512: 16, 768: 32, 1024: 64, 1280: 64, 1536: 128, 1792: 128,
    2304: 32,
}  # fmt: skip
PLAIN = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4"}
PADDING = 2**20  # bytes that may follow the last voxel
MOST_PACKED = 1100  # times as many bytes come out of gzip at most


@dataclass(frozen=True)
class Header:
    """What the header says of the voxels.

    Attributes:
        order: of bytes, ``<`` or ``>``.
        size: x, y, z, ...
        kind: the code of their type.
        start: of the first voxel, in bytes.
        slope, intercept: what they are rescaled by; 1 and 0 where they are not.
        is_plain: there is nothing about them that is left to a library.
    """

    order: str
    size: tuple[int, ...]
    kind: int
    start: int
    slope: float
    intercept: float
    is_plain: bool

    @property
    def end(self) -> int:
        """Of the last voxel, in bytes."""
        return self.start + math.prod(self.size) * BITS[self.kind] // 8


def check_whole_nifti(path: Path) -> tuple[int, ...]:
    """The size (x, y, z, ...) in a NIfTI-1 header, after counting the bytes.

    Raises:
        UserError: more voxels than ``MAX_VOXELS``.
        ValueError, OSError, EOFError: it is no NIfTI-1 file or not a whole one.
    """
    with _opened(path) as file:
        header = _header(path, file)
        _check_rest(file, header, HEADER)
    return header.size


def nifti_voxels(path: Path) -> NDArray[Any] | None:
    """All voxels of a whole NIfTI-1 file in its order, x fastest, (N,); rescaled if the file says so. None where they are of a
    rare kind, which was counted all the same.

    Raises:
        As ``check_whole_nifti``.
    """
    with _opened(path) as file:
        header = _header(path, file)
        if not header.is_plain:
            _check_rest(file, header, HEADER)
            return None
        if path.stat().st_size * (MOST_PACKED if path.name.lower().endswith(".gz") else 1) < header.end:
            raise ValueError(f"it is cut off: {header.end} bytes are not in it")
        file.read(header.start - HEADER)
        stored = np.dtype(f"{header.order}{PLAIN[header.kind]}")
        is_rescaled = (header.slope, header.intercept) != (1.0, 0.0)
        voxels = np.empty(math.prod(header.size), np.float32 if is_rescaled and stored.itemsize < 8 else stored.newbyteorder("="))
        found, step = header.start, 2**20 // stored.itemsize
        for first in range(0, len(voxels), step):
            here = voxels[first : first + step]
            part = file.read(here.size * stored.itemsize)
            found += len(part)
            if len(part) < here.size * stored.itemsize:
                raise ValueError(f"it is cut off: {found} of {header.end} bytes")
            values = np.frombuffer(part, stored)
            here[:] = values.astype(np.float64) * header.slope + header.intercept if is_rescaled else values
        _check_rest(file, header, found)
    return voxels


@contextmanager
def _opened(path: Path) -> Iterator[BufferedIOBase]:
    with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
        yield file


def _header(path: Path, file: BufferedIOBase) -> Header:
    header = file.read(HEADER)
    order = "<" if header[:4] == struct.pack("<i", HEADER) else ">"
    # Without the mark ITK takes it for Analyze 7.5, where the axes mean something else.
    if len(header) < HEADER or struct.unpack_from(f"{order}i", header) != (HEADER,) or header[344:] != b"n+1\0":
        raise ValueError("it has no NIfTI-1 header")
    dims = struct.unpack_from(f"{order}8h", header, 40)
    (kind,) = struct.unpack_from(f"{order}h", header, 70)
    offset, slope, intercept = struct.unpack_from(f"{order}3f", header, 108)
    size = dims[1 : dims[0] + 1]
    if not 1 <= dims[0] <= 7 or min(size) < 1 or kind not in BITS:
        raise ValueError(f"its header makes no sense: size {size}, type {kind}")
    if not all(map(math.isfinite, _geometry(header, order, len(size)))):
        raise ValueError("its header places the volume nowhere: spacing or axes are not finite")
    check_size(path, math.prod(size), MAX_VOXELS)
    start = max(int(offset), 352)
    is_plain = kind in PLAIN and offset == start and math.isfinite(slope) and math.isfinite(intercept)
    return Header(order, size, kind, start, slope or 1.0, intercept, is_plain)


def _check_rest(file: BufferedIOBase, header: Header, found: int) -> None:
    """Reads to the end, for gzip's checksum is there; ``found`` bytes were read."""
    for part in iter(lambda: file.read(2**20), b""):
        found += len(part)
        if found > header.end + PADDING:
            raise ValueError(f"it goes on behind its last voxel, after {header.end} bytes")
    if found < header.end:
        raise ValueError(f"it is cut off: {found} of {header.end} bytes")


def _geometry(header: bytes, order: str, axes: int) -> tuple[float, ...]:
    """The numbers that place a volume in space, of those in its header that count."""
    qform, sform = struct.unpack_from(f"{order}2h", header, 252)
    numbers: tuple[float, ...] = struct.unpack_from(f"{order}{min(axes, 3)}f", header, 80)
    numbers += struct.unpack_from(f"{order}6f", header, 256) if qform > 0 else ()
    return numbers + (struct.unpack_from(f"{order}12f", header, 280) if sform > 0 else ())
