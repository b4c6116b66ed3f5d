"""Valid bytes, damaged: anywhere, and where the kind of file has something to be lied to about. All by a generator of draws."""

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from itertools import pairwise

import pydicom
from numpy.random import Generator
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import UID, AllTransferSyntaxes

from headers import DICOM_VALUES, EXTREMES, META_VALUES, NIFTI_FIELDS, NIFTI_TYPES, NRRD_VALUES, NUMBERS, SLICE_TEXTS

Damage = Callable[[bytes, Generator], bytes]


def pick(rng: Generator, options: Sequence[object]) -> object:
    return options[int(rng.integers(len(options)))]


def anywhere(data: bytes, rng: Generator) -> bytes:
    """One to three bytes or pieces changed, cut, added, doubled or exchanged, more often near the beginning."""
    for _ in range(int(rng.integers(1, 4))):
        data = pick(rng, WAYS)(data, rng)
    return data


def _place(data: bytes, rng: Generator) -> int:
    reach = int(pick(rng, (16, 64, 400, len(data), len(data))))
    return int(rng.integers(0, max(1, min(reach, len(data)))))


def _piece(data: bytes, rng: Generator) -> tuple[int, int]:
    start = _place(data, rng)
    return start, min(len(data), start + int(rng.integers(1, int(pick(rng, (3, 30, 300, 10**6))))))


def _flip(data: bytes, rng: Generator) -> bytes:
    changed = bytearray(data)
    for _ in range(int(pick(rng, (1, 1, 3, 20)))) if data else ():
        changed[_place(data, rng)] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _noise(data: bytes, rng: Generator) -> bytes:
    start, end = _piece(data, rng)
    return data[:start] + rng.bytes(end - start) + data[end:]


def _extreme(data: bytes, rng: Generator) -> bytes:
    kind = str(pick(rng, list(EXTREMES)))
    value = struct.pack(f"{pick(rng, '<>')}{kind}", pick(rng, EXTREMES[kind]))
    start = _place(data, rng)
    return (data[:start] + value + data[start + len(value) :])[: max(len(data), 1)]


def _cut(data: bytes, rng: Generator) -> bytes:
    return data[: int(rng.integers(0, len(data) + 1))]


def _extend(data: bytes, rng: Generator) -> bytes:
    size = int(pick(rng, (1, 100, 5000)))
    return data + bytes(pick(rng, (bytes(size), rng.bytes(size), data)))


def _double(data: bytes, rng: Generator) -> bytes:
    start, end = _piece(data, rng)
    return data[:end] + data[start:end] * int(pick(rng, (1, 1, 7))) + data[end:]


def _remove(data: bytes, rng: Generator) -> bytes:
    start, end = _piece(data, rng)
    return data[:start] + data[end:]


def _exchange(data: bytes, rng: Generator) -> bytes:
    cuts = [0, *sorted(int(cut) for cut in rng.integers(0, len(data) + 1, 4)), len(data)]
    a, b, c, d, e = (data[start:end] for start, end in pairwise(cuts))
    return a + d + c + b + e


WAYS = (_flip, _flip, _noise, _extreme, _extreme, _extreme, _cut, _extend, _double, _remove, _exchange)


def of_kind(name: str) -> Damage:
    """The damage that knows the kind of file, where there is one, half of the time."""
    suffix = next((suffix for suffix in KNOWING if name.lower().endswith(suffix)), None)

    def damage(data: bytes, rng: Generator) -> bytes:
        return (KNOWING[suffix] if suffix and rng.random() < 0.6 else anywhere)(data, rng)

    return damage


def _png(data: bytes, rng: Generator) -> bytes:
    """Chunks changed under checksums that are right again."""
    chunks, at = [], 8
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    index = int(rng.integers(len(chunks)))
    name, body = chunks[index]
    if name == b"IDAT" and rng.random() < 0.5:
        chunks[index] = name, zlib.compress(anywhere(zlib.decompress(body), rng))
    elif rng.random() < 0.8:
        chunks[index] = name, anywhere(body, rng)
    else:
        chunks.insert(int(rng.integers(len(chunks))), chunks[index])
    made = [struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks]
    return data[:8] + b"".join(made)


def _tiff(data: bytes, rng: Generator) -> bytes:
    """An entry of the directory with another tag, type, count or value."""
    order = "<" if data[:2] == b"II" else ">"
    if struct.unpack_from(f"{order}H", data, 2) == (43,):
        start, step, fields = struct.unpack_from(f"{order}Q", data, 8)[0] + 8, 20, ((0, "H"), (2, "H"), (4, "Q"), (12, "Q"))
    else:
        start, step, fields = struct.unpack_from(f"{order}I", data, 4)[0] + 2, 12, ((0, "H"), (2, "H"), (4, "I"), (8, "I"))
    changed, count = bytearray(data), (len(data) - start - 4) // step
    for _ in range(int(rng.integers(1, 3))):
        place, kind = fields[int(pick(rng, (0, 1, 2, 3, 3, 3, 3)))]
        struct.pack_into(f"{order}{kind}", changed, start + step * int(rng.integers(count)) + place, pick(rng, EXTREMES[kind]))
    return bytes(changed)


def _jpeg(data: bytes, rng: Generator) -> bytes:
    """The frame's height, width or number of components."""
    at = max(data.find(b"\xff\xc0"), 0)
    changed = bytearray(data)
    struct.pack_into(">H", changed, at + int(pick(rng, (2, 4, 5, 7, 9))), pick(rng, EXTREMES["H"]))
    return bytes(changed)


def _nifti(data: bytes, rng: Generator) -> bytes:
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        place, kind = pick(rng, NIFTI_FIELDS)
        values = NIFTI_TYPES if place == 70 else (*EXTREMES[kind], 2, 3)
        struct.pack_into(f"<{kind}", changed, place, pick(rng, values))
    return bytes(changed)


def _gzipped(data: bytes, rng: Generator) -> bytes:
    inner = gzip.decompress(data)
    return gzip.compress((_nifti if rng.random() < 0.7 else anywhere)(inner, rng), 1, mtime=0)


def _npy(data: bytes, rng: Generator) -> bytes:
    """Another header, of the right length."""
    kinds = (
        "<f4",
        ">i2",
        "|u1",
        "<f8",
        "<f2",
        "<c8",
        "|O",
        "|S9",
        "<U5",
        "|V7",
        "<M8[s]",
        "<f16",
        "|b1",
        "<i8",
        "nonsense",
        "|V99999999",
    )
    shapes = (
        "(23, 31)",
        "(31,)",
        "()",
        "(0, 9)",
        "(-1, 31)",
        "(1, 23, 31)",
        "(23, 31, 1)",
        "(2**40, 2)",
        "(99999999, 99999999)",
        "'x'",
        "None",
    )
    header = (
        f"{{'descr': '{pick(rng, kinds)}', 'fortran_order': {pick(rng, ('True', 'False', '3'))}, 'shape': {pick(rng, shapes)}}}"
    )
    return b"\x93NUMPY\1\0" + struct.pack("<H", 118) + header.encode().ljust(118) + data[128:]


def lying_slice(data: bytes, rng: Generator) -> bytes:
    """A slice of a series whose header says another place, size, rescale or origin; of a multi-frame file that of some frames."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    with pydicom.config.disable_value_validation():
        for _ in range(int(rng.integers(1, 4))):
            if rng.random() < 0.25:
                name = str(pick(rng, list(DICOM_VALUES)))
                setattr(dataset, name, pick(rng, DICOM_VALUES[name]))
                continue
            name = str(pick(rng, list(SLICE_TEXTS)))
            tag, text = pydicom.datadict.tag_for_keyword(name), str(pick(rng, SLICE_TEXTS[name]))
            holders = [item for item in _all_items(dataset) if tag in item] or [dataset]
            for holder in holders if rng.random() < 0.5 else [pick(rng, holders)]:
                holder.add(pydicom.DataElement(tag, "LO", text))  # type: ignore[attr-defined]
    return _written(dataset)


def _all_items(dataset: pydicom.Dataset) -> list[pydicom.Dataset]:
    return [dataset, *(inner for element in dataset if element.VR == "SQ" for item in element.value for inner in _all_items(item))]


def _written(dataset: pydicom.Dataset) -> bytes:
    written = io.BytesIO()
    implicit = dataset.file_meta.TransferSyntaxUID.is_implicit_VR
    pydicom.dcmwrite(written, dataset, implicit_vr=implicit, little_endian=True, enforce_file_format=False, force_encoding=True)
    return written.getvalue()


def _dicom(data: bytes, rng: Generator) -> bytes:
    """Elements of the picture, its numbers as text, and codestreams under the name of any transfer syntax."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    pixels, encapsulated = dataset.PixelData, dataset["PixelData"].is_undefined_length
    for _ in range(int(rng.integers(1, 3))):
        name = str(pick(rng, list(DICOM_VALUES)))
        setattr(dataset, name, pick(rng, DICOM_VALUES[name]))
    way = rng.random()
    raw = {}
    if way < 0.3:
        names = ("RescaleSlope", "RescaleIntercept", "NumberOfFrames", "ImageOrientationPatient", "ImageType", "Modality")
        raw = {str(pick(rng, names)): str(pick(rng, NUMBERS))}
    elif way < 0.7:
        frame = next(generate_frames(pixels, number_of_frames=1)) if encapsulated else pixels
        dataset.PixelData = encapsulate([(anywhere(frame, rng) if rng.random() < 0.7 else frame).ljust(2)])
        dataset["PixelData"].is_undefined_length = True
        if not encapsulated or rng.random() < 0.4:
            dataset.file_meta.TransferSyntaxUID = UID(str(pick(rng, [uid for uid in AllTransferSyntaxes if uid.is_encapsulated])))
    for name, value in raw.items():  # as bytes, for pydicom would refuse to write some of them
        with pydicom.config.disable_value_validation():
            dataset.add(pydicom.DataElement(pydicom.datadict.tag_for_keyword(name), "LO", value))
    written = _written(dataset)
    return written if rng.random() < 0.7 else anywhere(written, rng)


def _nrrd(data: bytes, rng: Generator) -> bytes:
    head, gap, body = data.partition(b"\n\n")
    return b"".join(_of_lines(head.decode("latin-1").split("\n"), ": ", NRRD_VALUES, gap, body, rng))


def _meta(data: bytes, rng: Generator) -> bytes:
    first, mark, rest = data.partition(b"ElementDataFile")
    last, gap, body = rest.partition(b"\n")
    return b"".join(_of_lines((first + mark + last).decode("latin-1").split("\n"), " = ", META_VALUES, gap, body, rng))


def _of_lines(
    lines: list[str], between: str, values: dict[str, tuple[str, ...]], gap: bytes, body: bytes, rng: Generator
) -> tuple[bytes, bytes, bytes]:
    """A header of lines with other values, more lines or fewer, before data that are packed, cut, or far larger inside."""
    for _ in range(int(rng.integers(1, 4))):
        key = str(pick(rng, list(values)))
        if rng.random() < 0.15:
            key = str(pick(rng, [line.partition(between)[0] for line in lines]))
        value = str(pick(rng, values.get(key, NUMBERS) if rng.random() < 0.85 else NUMBERS))
        made = f"{key}{between}{value}"
        at = next((number for number, line in enumerate(lines) if line.startswith(key + between.strip(" "))), None)
        at = at if at is not None else next((number for number, line in enumerate(lines) if line.startswith(key + between)), None)
        way = rng.random()
        if at is not None and way < 0.75:
            lines[at] = made
        elif at is not None and way < 0.85 and len(lines) > 1:
            del lines[at]
        else:
            lines.insert(int(rng.integers(1, len(lines))) if len(lines) > 1 else 0, made)
    way = rng.random()
    if way < 0.35:
        whole = _unpacked(body)
        cut = anywhere(whole, rng) if rng.random() < 0.3 else whole
        packed = (gzip.compress, zlib.compress, lambda kept: gzip.compress(kept) * 2)[int(rng.integers(3))](cut)
        body = pick(rng, (packed, packed, _cut(packed, rng), _flip(packed, rng), gzip.compress(bytes(2**26), 9)))  # type: ignore[assignment]
        if rng.random() < 0.7:
            lines = [line if not line.startswith("encoding") else "encoding: gzip" for line in lines]
            lines = [line if not line.startswith("CompressedData ") else "CompressedData = True" for line in lines]
    elif way < 0.5:
        body = anywhere(body, rng)
    head = "\n".join(lines).encode("latin-1", "replace")
    return head, gap, body


def _unpacked(body: bytes) -> bytes:
    try:
        return zlib.decompress(body, zlib.MAX_WBITS | 32)
    except zlib.error:
        return body


def _zip(data: bytes, rng: Generator) -> bytes:
    """A part of the archive changed under a checksum that is right again: of a checkpoint the pickle, mostly."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        parts = {entry.filename: file.read(entry) for entry in file.infolist()}
    names = [name for name in parts if name.endswith("data.pkl")] if rng.random() < 0.8 else list(parts)
    name = str(pick(rng, names))
    parts[name] = anywhere(parts[name], rng)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as file:
        for name, part in parts.items():
            file.writestr(zipfile.ZipInfo(name), part)
    return made.getvalue()


KNOWING: dict[str, Damage] = {
    ".png": _png,
    ".tif": _tiff,
    ".tiff": _tiff,
    ".jpg": _jpeg,
    ".nii": _nifti,
    ".nii.gz": _gzipped,
    ".nrrd": _nrrd,
    ".mha": _meta,
    ".mhd": _meta,
    ".npy": _npy,
    ".dcm": _dicom,
    ".ckpt": _zip,
}
