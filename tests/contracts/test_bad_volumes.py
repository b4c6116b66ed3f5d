"""The contract of volumes that are not what they say: one sentence and silence, before memory is taken."""

import gzip
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from dicoms import Place, decimals, enhanced, plain_hu, series, write
from kinds import STACK, nifti
from lungseg.errors import UserError
from lungseg.imaging import limits
from lungseg.imaging.readers import read
from lungseg.postprocess.steps import separate

LARGE = "2049 512 512"  # one slice more than is read


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        read(path, **options)
    said = str(caught.value)
    assert said.isprintable()
    return said


def with_line(path: Path, key: str, line: str) -> None:
    """Another line in the header of an NRRD or a MetaImage in place of the one that begins with a key."""
    lines = path.read_bytes().split(b"\n")
    at = next(number for number, own in enumerate(lines) if own.startswith(key.encode()))
    lines[at] = line.encode("latin-1")
    path.write_bytes(b"\n".join(lines))


METAIO_TALKS = {
    "DimSize": ["", "DimSize = 5 23", "DimSize = x", "DimSize = 5 23 31\nDimSize = 5 23 31"],
    "NDims": ["", "NDims = 0", "NDims = 99", "NDims = -3"],
    "TransformMatrix": ["TransformMatrix = 1 0 0", "TransformMatrix = nan 0 0 0 1 0 0 0 1"],
    "ElementSpacing": ["ElementSpacing = 1 1", "ElementSpacing = inf 1 1", "ElementSpacing = 1 1 1\nHeaderSize = x"],
    "ObjectType": ["Offset = 0 0 0", f"Name = {'x' * 5000}", "no line at all"],
    "CompressedData =": ["CompressedData = False\nCompressedDataSize = x"],
    "BinaryData =": ["BinaryData = False"],
    "ElementType": ["", "ElementType = MET_OTHER", "ElementType = MET_DOUBLE"],
    "ElementDataFile": [
        "",
        "ElementDataFile = LIST",
        "ElementDataFile = ../scan.raw",
        "ElementDataFile = LOCAl",
        "ElementDataFile = missing%d.raw 1 5 1",
    ],
}


@pytest.mark.parametrize(("key", "line"), [(key, line) for key, lines in METAIO_TALKS.items() for line in lines])
def test_a_metaimage_header_that_makes_no_sense_is_refused_in_silence(
    key: str, line: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "scan.mha"
    nifti(path, STACK)
    with_line(path, key, line)
    assert str(path) in refusal(path)
    assert capfd.readouterr() == ("", "")


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "twice as much": lambda packed: zlib.compress(2 * zlib.decompress(packed)),
    "less": lambda packed: zlib.compress(zlib.decompress(packed)[:-2]),
    "cut": lambda packed: packed[:-9],
    "another checksum": lambda packed: packed[:-1] + bytes([packed[-1] ^ 1]),
}


@pytest.mark.parametrize("name", ["a.mha", "a.mhd"])
def test_packed_voxels_of_a_metaimage_are_compared_with_its_header(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, data = tmp_path / name, tmp_path / name.replace("mhd", "zraw")
    nifti(path, STACK, compress=True)
    np.testing.assert_array_equal(read(path).volume.voxels, STACK)
    head, _, packed = path.read_bytes().partition(b"LOCAL\n") if data == path else (path.read_bytes(), b"", data.read_bytes())

    def store(packed: bytes, said: str) -> None:
        lines = [line for line in head.split(b"\n") if not line.startswith(b"CompressedDataSize")]
        whole = b"\n".join([lines[0], said.encode(), *lines[1:]]) if said else b"\n".join(lines)
        path.write_bytes(whole if data != path else whole + b"LOCAL\n" + packed)
        if data != path:
            data.write_bytes(packed)

    for change in PACKED.values():
        store(change(packed), f"CompressedDataSize = {len(change(packed))}")
        assert str(path) in refusal(path)
    for said in (7, len(packed) - 1, len(packed) + 1, -1):
        store(packed, f"CompressedDataSize = {said}")
        if name == "a.mha" or said > 0:
            assert str(path) in refusal(path)
    store(packed, "")
    if name == "a.mha":  # MetaIO would begin at the header, and give noise
        assert "how long" in refusal(path)
    else:
        np.testing.assert_array_equal(read(path).volume.voxels, STACK)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("mm", [1e-5, 1e5])
def test_voxels_of_a_size_that_no_scan_has_are_refused(mm: float, suffix: str, tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(STACK)
    image.SetSpacing((1, 1, mm))
    sitk.WriteImage(image, str(tmp_path / f"a{suffix}"))
    assert "as no scan has" in refusal(tmp_path / f"a{suffix}")
    write(tmp_path / "study", series(plain_hu((4, 9, 12)), Place(pixel_mm=(mm, mm))))
    assert "as no scan has" in refusal(tmp_path / "study")


@pytest.mark.parametrize("many", [-1, -(2**31), 2**31 - 1])
def test_a_file_holds_one_picture_at_least_and_no_more_than_bytes(many: int, tmp_path: Path) -> None:
    write(tmp_path / "study", [piece.having(NumberOfFrames=many) for piece in series(plain_hu((3, 9, 12)))])
    assert "holds no image that can be read" in refusal(tmp_path / "study")
    assert str(many) in refusal(next((tmp_path / "study").iterdir()))


def large_nrrd(path: Path) -> None:
    nifti(path, STACK)
    with_line(path, "sizes", f"sizes: {LARGE}")


def large_meta(path: Path) -> None:
    nifti(path, STACK)
    with_line(path, "DimSize", f"DimSize = {LARGE}")


@pytest.mark.parametrize(("name", "make"), [("a.nrrd", large_nrrd), ("a.mha", large_meta)])
def test_a_volume_too_large_is_refused_before_memory_is_taken(name: str, make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / name)
    assert f"{2049 * 2**18} pixels, more than the {limits.MAX_VOXELS}" in refusal(tmp_path / name)


def test_a_series_too_large_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    # Headers alone: no pixel is looked at. What a gap asks for counts too.
    pieces = [piece.having(Rows=8192, Columns=8192) for piece in series(plain_hu((9, 9, 12)))]
    write(tmp_path / "study", pieces)
    gap = series(plain_hu((4, 9, 12)))
    write(tmp_path / "gap", [*gap[:3], gap[3].having(ImagePositionPatient=decimals([0, 0, 1e8]))])
    enhanced(tmp_path / "a.dcm", pieces)
    tracemalloc.start()
    for path in (tmp_path / "study", tmp_path / "gap", tmp_path / "a.dcm"):
        said = refusal(path, allow_gaps=True)
        assert f"more than the {limits.MAX_VOXELS} that are read" in said
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()


def test_a_series_that_drifts_too_far_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    pieces = series(plain_hu((5, 9, 12)))
    away = [piece.position + np.array([3e8 * index, 0, 0]) for index, piece in enumerate(pieces)]
    write(tmp_path, [piece.having(ImagePositionPatient=decimals(at)) for piece, at in zip(pieces, away, strict=True)])
    assert f"more than the {limits.MAX_VOXELS} that are read" in refusal(tmp_path)


@pytest.mark.parametrize("mark", [b"ni1\0", b"\0\0\0\0", b"n+2\0"])
def test_a_nifti_file_without_its_mark_is_none(mark: bytes, tmp_path: Path) -> None:
    nifti(tmp_path / "a.nii", STACK)
    data = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "a.nii").write_bytes(data[:344] + mark + data[348:])
    assert "no NIfTI-1 header" in refusal(tmp_path / "a.nii")


BIG_FIELDS = (("i", 0, 1), ("h", 40, 8), ("h", 70, 2), ("f", 76, 8), ("f", 108, 3), ("h", 252, 2), ("f", 256, 18))  # of NIfTI


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["u1", "i1", "i2", "u2", "i4", "u4", "f4", "f8"])
@pytest.mark.parametrize(("slope", "intercept"), [(0.0, 0.0), (1.0, 0.0), (0.0, 5.0), (1.0, -1024.0), (0.3, 7.1), (-2.0, 1e-20)])
def test_nifti_voxels_are_those_of_simpleitk(slope: float, intercept: float, kind: str, order: str, tmp_path: Path) -> None:
    for name, shape in (("a.nii", (4, 5, 6)), ("a.nii.gz", (4, 5, 6)), ("flat.nii", (5, 6))):
        path = tmp_path / name
        values = np.random.default_rng(0).integers(0, 120, shape).astype(kind)
        sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / "little.nii"))
        data = bytearray((tmp_path / "little.nii").read_bytes())
        struct.pack_into("<2f", data, 112, slope, intercept)
        if order == ">":
            for fmt, place, count in BIG_FIELDS:
                numbers = struct.unpack_from(f"<{count}{fmt}", data, place)
                struct.pack_into(f">{count}{fmt}", data, place, *numbers)
            data[352:] = values.astype(values.dtype.newbyteorder(">")).tobytes()
        path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
        expected, found = sitk.GetArrayFromImage(sitk.ReadImage(str(path))), read(path).volume.voxels
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected.reshape(found.shape))


def test_lungs_are_told_apart_whatever_spacing_an_array_claims() -> None:
    labels = np.zeros((3, 9, 12), np.uint8)
    labels[1, 3:6, 2:5] = 1
    for mm in (1e-320, 1e-9, 1e9, 1e300):
        with np.errstate(all="ignore"):
            assert separate(labels, (mm, mm, mm)).labels.shape == labels.shape
