"""What every kind of image file must do: give exactly its values, or one sentence that names the file."""

import copy
import gzip
import logging
import struct
import tracemalloc
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataelem import RawDataElement
from pydicom.encaps import encapsulate, generate_frames
from pydicom.tag import Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless

from kinds import DISC, EXACT, GREY8, GREY16, HU, SMOOTH, STACK, Write, dicom, nifti, opencv, palette, pillow, tiff
from lungseg.errors import UserError
from lungseg.imaging.quiet import quiet
from lungseg.imaging.readers import file_doubts
from lungseg.imaging.slices import SUFFIXES, is_image, read_labels, read_stack

RNG = np.random.default_rng(8)


@pytest.fixture(params=EXACT)
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, NDArray[np.float32]]:
    name, write, values = EXACT[request.param]
    if "uint32" in request.param and int(cv2.__version__.split(".")[0]) < 5:
        pytest.skip("OpenCV reads uint32 from version 5 on, earlier ones refuse it")
    write(tmp_path / name)
    return tmp_path / name, np.array(values, dtype=np.float32, ndmin=3)


def test_every_suffix_is_tried() -> None:
    tried = {name.lower() for name, _, _ in EXACT.values()}
    same_reader = {".jpg", ".jpeg", ".dicom", ".ima"}  # JPEG is not exact and has its own test
    assert {suffix for suffix in SUFFIXES if f"a{suffix}" not in tried} == same_reader


def test_values_are_exact(sample: tuple[Path, NDArray[np.float32]]) -> None:
    path, values = sample
    assert is_image(path)
    stack = read_stack(path)
    assert stack.dtype == np.float32
    np.testing.assert_array_equal(stack, values)


def test_names_are_taken_literally(sample: tuple[Path, NDArray[np.float32]]) -> None:
    path, values = sample
    suffix = ".nii.gz" if path.name.endswith(".nii.gz") else path.suffix
    odd = path.with_name(f"ä ß[1]{{2}} (3),x=4 100%~#'{suffix}")
    path.rename(odd)
    np.testing.assert_array_equal(read_stack(odd), values)


def test_cut_off_files_are_refused_in_one_sentence_and_silence(
    sample: tuple[Path, NDArray[np.float32]], capfd: pytest.CaptureFixture[str]
) -> None:
    path, values = sample
    whole = path.read_bytes()
    for share in (0.02, 0.3, 0.6, 0.9, 0.99):
        path.write_bytes(whole[: int(share * len(whole))])
        with suppress(UserError):  # the last cuts of some kinds fall behind the last pixel
            np.testing.assert_array_equal(read_stack(path), values)
            assert share >= 0.9
            continue
        with pytest.raises(UserError) as caught:
            read_stack(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("content", [b"", b"\0", b"no image at all" * 99, b"\x93NUMPY\1", b"II*\0\xff\xff\xff\x7f"])
def test_nonsense_is_refused(suffix: str, content: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"bad\..*: .* again"):
        read_stack(path)
    assert capfd.readouterr() == ("", "")


def test_jpeg_is_near(tmp_path: Path) -> None:
    smooth = np.linspace(0, 255, 64 * 64).reshape(64, 64).astype(np.uint8)
    for mode in ("L", "RGB"):
        Image.fromarray(smooth).convert(mode).save(tmp_path / "a.jpg", quality=95)
        assert np.abs(read_stack(tmp_path / "a.jpg")[0] - smooth).max() <= 4


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "LAS", "RPI", "SLP", "PIR", "ASL"])
def test_volumes_are_turned_to_axial_slices(orientation: str, tmp_path: Path) -> None:
    nifti(tmp_path / "scan.nii.gz", STACK, orientation)
    np.testing.assert_array_equal(read_stack(tmp_path / "scan.nii.gz"), STACK)


COLOUR = np.dstack([GREY8, GREY8, 255 - GREY8])
REFUSED: dict[str, tuple[str, Write, str]] = {
    "missing": ("a.png", str, "No such file"),
    "folder": ("a.png", lambda p: p.mkdir(), "directory"),
    "other kind": ("a.txt", lambda p: p.write_text("x"), "no image"),
    "directory file": ("DICOMDIR", dicom, "no image"),
    "not utf-8": (
        "\udcff.nii.gz",
        lambda p: nifti(p.with_name("b.nii.gz"), STACK) or p.with_name("b.nii.gz").rename(p),
        "rename",
    ),
    "png in colour": ("a.png", pillow(COLOUR), "colour"),
    "jpeg in colour": ("a.jpg", pillow(COLOUR), "colour"),
    "jpeg cmyk": ("a.jpg", pillow(COLOUR, "CMYK"), "colour"),
    "bmp in colour": ("a.bmp", pillow(COLOUR), "colour"),
    "tif in colour": ("a.tif", pillow(COLOUR), "colour"),
    "png colour palette": ("a.png", lambda p: palette(GREY8 % 2, (0, 0, 0), (255, 0, 0)).save(p), "colour"),
    "dicom in colour": ("a.dcm", lambda p: dicom(p, PhotometricInterpretation="RGB", SamplesPerPixel=3), "colour"),
    "png see-through": ("a.png", lambda p: Image.fromarray(np.dstack([GREY8, GREY8]), "LA").save(p), "transparent"),
    "tif pages": ("a.tif", pillow(GREY8, save_all=True, append_images=[Image.fromarray(GREY8)]), "more than one"),
    "dicom frames": ("a.dcm", lambda p: dicom(p, STACK, NumberOfFrames=5), "more than one"),
    "dicom without pixels": ("a.dcm", lambda p: dicom(p, np.empty(0)), "without a picture"),
    "nii of two volumes": (
        "a.nii",
        lambda p: sitk.WriteImage(sitk.JoinSeries([sitk.GetImageFromArray(STACK)] * 2), str(p)),
        "single volume",
    ),
    "nii vectors": ("a.nii", lambda p: sitk.WriteImage(sitk.GetImageFromArray(STACK, isVector=True), str(p)), "single"),
    "tif white is zero": ("a.tif", lambda p: tiff(p, GREY16, photometric=0), "white"),
    "npy channels last": ("a.npy", lambda p: np.save(p, COLOUR), "channels last"),
    "npy one number": ("a.npy", lambda p: np.save(p, np.float32(1)), "one array"),
    "npy text": ("a.npy", lambda p: np.save(p, np.array([["a", "b"]])), "grey values"),
    "npy objects": ("a.npy", lambda p: np.save(p, np.array([[{}]])), "damaged"),
    "npy nothing": ("a.npy", lambda p: np.save(p, np.empty((0, 5))), "no grey values"),
    "npy not finite": ("a.npy", lambda p: np.save(p, np.where(HU < 0, np.nan, HU)), "not finite"),
    "npy beyond float32": ("a.npy", lambda p: np.save(p, np.full((3, 3), 1e300)), "9 values that are not finite"),
    "tif not finite": ("a.tif", lambda p: tiff(p, np.full((3, 3), np.inf, np.float32)), "9 values that are not finite"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_grey_slice_is_refused(case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    name, write, says = REFUSED[case]
    write(tmp_path / name)
    with pytest.raises(UserError, match=says) as caught:
        read_stack(tmp_path / name)
    assert name in str(caught.value)
    assert capfd.readouterr() == ("", "")


def _png_of(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_sizes_are_checked_before_anything_is_decoded(tmp_path: Path) -> None:
    for side in (10_000, 12_000, 60_000):  # Pillow is silent, warns, raises; the first is small enough, but cut off
        (tmp_path / f"{side}.png").write_bytes(_png_of(side, side))
    tiff(tmp_path / "a.tif", GREY8)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    for tag in (256, 257):
        at = data.index(struct.pack("<HH", tag, 4), 8 + GREY8.size)
        struct.pack_into("<I", data, at + 8, 60_000)
    (tmp_path / "a.tif").write_bytes(data)
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\1\0v\0{'descr':'|u1','fortran_order':False,'shape':(60000,60000)}".ljust(128))
    nifti(tmp_path / "a.nii", STACK)
    data = bytearray((tmp_path / "a.nii").read_bytes())
    struct.pack_into("<3h", data, 42, 30_000, 30_000, 30_000)
    (tmp_path / "a.nii").write_bytes(data)
    dicom(tmp_path / "a.dcm", Rows=60_000, Columns=60_000)
    for path in tmp_path.iterdir():
        with pytest.raises(UserError):
            read_stack(path)


def test_a_picture_that_is_too_large_says_so(tmp_path: Path) -> None:
    for side in (8_200, 14_000, 60_000):
        (tmp_path / "a.png").write_bytes(_png_of(side, side))
        with pytest.raises(UserError, match=r"a\.png has .* pixels, more than the 67108864 that are read: crop it"):
            read_stack(tmp_path / "a.png")


def test_a_deflated_dicom_file_is_not_inflated_beyond_a_slice(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    dicom(path, syntax=DeflatedExplicitVRLittleEndian)
    whole = path.read_bytes()
    start = 144 + int(struct.unpack_from("<I", whole, 140)[0])
    inner = zlib.decompress(whole[start:], -zlib.MAX_WBITS)
    pixels = inner.rindex(b"\xe0\x7f\x10\x00")
    deflater = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    bomb = [inner[:pixels], b"\xdf\x7f\x10\x00OB\0\0" + struct.pack("<I", 2**28), *[bytes(2**24)] * 16, inner[pixels:]]
    path.write_bytes(whole[:start] + b"".join(map(deflater.compress, bomb)) + deflater.flush())
    with pytest.raises(UserError, match=r"a\.dcm has too many pixels"):
        read_stack(path)


def test_a_nifti_header_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    nifti(path, STACK)
    whole = path.read_bytes()
    for place, kind, value in ((40, "h", 0), (40, "h", 9), (42, "h", -31), (70, "h", 999), (70, "h", 64), (72, "h", 1)):
        data = bytearray(whole)
        struct.pack_into(f"<{kind}", data, place, value)
        path.write_bytes(data)
        with suppress(UserError):
            np.testing.assert_array_equal(read_stack(path), STACK)  # the bits of a voxel follow from its type
            assert place == 72
            continue
        assert place != 72
    with gzip.open(tmp_path / "b.nii.gz", "wb") as file:  # a bomb behind the volume
        file.write(whole + bytes(2**21))
    with pytest.raises(UserError, match="goes on behind its last voxel"):
        read_stack(tmp_path / "b.nii.gz")


def test_a_volume_placed_nowhere_is_refused_in_silence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    nifti(tmp_path / "a.nii", STACK)
    whole = (tmp_path / "a.nii").read_bytes()
    assert min(struct.unpack_from("<2h", whole, 252)) > 0  # both forms count
    for place in (80, 88, 256, 280, 324):
        data = bytearray(whole)
        struct.pack_into("<f", data, place, np.nan)
        (tmp_path / "a.nii").write_bytes(data)
        with pytest.raises(UserError, match="places the volume nowhere"):
            read_stack(tmp_path / "a.nii")
    assert capfd.readouterr() == ("", "")


def test_a_length_in_a_dicom_file_takes_no_memory(tmp_path: Path) -> None:
    dicom(tmp_path / "a.dcm")
    with (tmp_path / "a.dcm").open("ab") as file:
        file.write(b"\xfd\x7f\x10\x00OB\0\0" + struct.pack("<I", 2**31) + bytes(10))
    tracemalloc.start()
    with suppress(UserError):
        read_stack(tmp_path / "a.dcm")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**24


def test_a_dicom_picture_is_as_large_as_its_header_says(tmp_path: Path) -> None:
    dicom(tmp_path / "a.dcm", np.dstack([HU] * 3), Rows=23, Columns=31, SamplesPerPixel=3, PlanarConfiguration=0)
    with pytest.raises(UserError, match="its header says 23 x 31 pixels"):
        read_stack(tmp_path / "a.dcm")


@pytest.mark.parametrize("kind", ["dicom jpeg lossless", "dicom jpeg-ls"])
def test_a_stream_that_contradicts_its_dicom_header_is_refused(kind: str, tmp_path: Path) -> None:
    """Inside GDCM each of these would write beyond its memory, or end the process by an exception that Python cannot catch."""
    EXACT[kind][1](tmp_path / "a.dcm")
    whole = pydicom.dcmread(tmp_path / "a.dcm")
    stream = next(generate_frames(whole.PixelData, number_of_frames=1))
    frame = next(place for place in range(2, 60) if stream[place : place + 2] in (b"\xff\xc3", b"\xff\xf7")) + 4
    lies: list[tuple[dict[str, int], bytes]] = [
        ({"Rows": 24}, stream),
        ({"Columns": 512}, stream),
        ({"BitsAllocated": 8, "BitsStored": 8}, stream),
        ({"BitsAllocated": 64}, stream),
        ({"BitsStored": 17}, stream),
        ({}, stream[:frame] + b"\x12" + stream[frame + 1 :]),  # 18 bits
        ({}, stream[: frame + 1] + b"\xff\xff" + stream[frame + 3 :]),  # 65535 rows
        ({}, stream[: frame + 5] + b"\x03" + stream[frame + 6 :]),  # three channels
        ({}, stream[: frame + 6]),
        ({}, stream[frame:]),
        ({}, bytes(len(stream))),
    ]
    for tags, other in lies:
        dataset = copy.deepcopy(whole)
        for name, value in tags.items():
            setattr(dataset, name, value)
        dataset.PixelData = encapsulate([other])
        dataset["PixelData"].is_undefined_length = True
        dataset.save_as(tmp_path / "a.dcm")
        with pytest.raises(UserError, match=r"a\.dcm cannot be read"):
            read_stack(tmp_path / "a.dcm")


def test_a_damaged_jpeg_2000_stream_is_refused(tmp_path: Path) -> None:
    dicom(tmp_path / "a.dcm", SMOOTH, syntax=JPEG2000Lossless)
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    stream = next(generate_frames(dataset.PixelData, number_of_frames=1))
    for cut in range(0, 130, 8):  # through all of its headers; GDCM would end the process at some
        dataset.PixelData = encapsulate([stream[:cut] + bytes(20)])
        dataset["PixelData"].is_undefined_length = True
        dataset.save_as(tmp_path / "a.dcm")
        with pytest.raises(UserError, match=r"a\.dcm cannot be read"):
            read_stack(tmp_path / "a.dcm")


def test_what_surrounds_a_picture_is_not_spoken_of(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.png"
    opencv(path, np.dstack([GREY16] * 3))
    whole = path.read_bytes()
    strange = b"gAMA" + bytes(4)
    path.write_bytes(whole[:33] + struct.pack(">I", 4) + strange + struct.pack(">I", zlib.crc32(strange)) + whole[33:])
    np.testing.assert_array_equal(read_stack(path)[0], GREY16)
    assert capfd.readouterr() == ("", "")


def test_silence_ends_with_the_last_that_asked_for_it() -> None:
    level = logging.getLogger("pydicom").level
    with quiet():
        with quiet():
            assert logging.getLogger("pydicom").level == logging.CRITICAL
        assert logging.getLogger("pydicom").level == logging.CRITICAL
    assert logging.getLogger("pydicom").level == level


def test_a_channel_of_nan_is_a_colour(tmp_path: Path) -> None:
    values = np.dstack([GREY8, GREY8, np.full_like(GREY8, 0)]).astype(np.float32)
    values[..., 1] = np.nan
    opencv(tmp_path / "a.tif", values)
    extremes = np.dstack([np.full((9, 9), value, np.int16) for value in (32767, 32767, -32768)])
    opencv(tmp_path / "b.tif", extremes)
    for name in ("a.tif", "b.tif"):
        with pytest.raises(UserError, match="colour"):
            read_stack(tmp_path / name)


def test_a_library_that_rambles_is_cut_short(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    tiff(tmp_path / "a.tif", GREY8)
    (tmp_path / "a.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:200])
    for name, says in (("a.png", r"\(cannot identify image file\)"), ("a.tif", "names no size")):
        with pytest.raises(UserError, match=says):
            read_stack(tmp_path / name)


def test_a_file_without_suffix_is_dicom_only_with_dicoms_mark(tmp_path: Path) -> None:
    dicom(tmp_path / "IM1")
    (tmp_path / "README").write_text("no image " * 99)
    (tmp_path / "short").write_bytes(b"x")
    assert [is_image(tmp_path / name) for name in ("IM1", "README", "short", "missing")] == [True, False, False, False]
    with pytest.raises(UserError, match="no image"):
        read_stack(tmp_path / "README")


def test_library_warnings_stay_inside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dicom(tmp_path / "a.dcm")
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    dataset.PixelData += b"trailing bytes that pydicom warns of "
    dataset.save_as(tmp_path / "a.dcm")
    np.testing.assert_array_equal(read_stack(tmp_path / "a.dcm")[0], HU)
    assert caplog.records == []


# Masks


def labels_of(path: Path, pixels: NDArray[Any], **options: Any) -> NDArray[np.uint8]:
    np.save(path / "mask.npy", pixels)
    labels = read_labels(path / "mask.npy", **options)
    assert labels.dtype == np.uint8
    assert labels.ndim == 3
    return labels[0]


@pytest.mark.parametrize("low_high", [(0, 1), (0, 255), (0, 65535), (-1, 0), (1, 2), (0.0, 0.5)])
def test_the_higher_of_two_values_is_lung(low_high: tuple[float, float], tmp_path: Path) -> None:
    np.testing.assert_array_equal(labels_of(tmp_path, np.where(DISC, low_high[1], low_high[0])), DISC)


@pytest.mark.parametrize(("value", "lung"), [(0, 0), (1, 1), (255, 1)])
def test_a_mask_of_one_value_is_empty_or_full(value: int, lung: int, tmp_path: Path) -> None:
    assert (labels_of(tmp_path, np.full((8, 8), value)) == lung).all()


@pytest.mark.parametrize(
    "write",
    [
        pillow(DISC * np.uint8(255)),
        pillow(DISC.astype(bool)),
        pillow(DISC * np.uint8(255), "RGB"),
        lambda path: palette(DISC, (0, 0, 0), (255, 0, 0)).save(path),
        lambda path: palette(1 - DISC, (200, 200, 200), (10, 10, 10)).save(path),
    ],
    ids=["grey", "1 bit", "equal channels", "palette of colours: indices", "palette of greys: greys"],
)
def test_every_kind_of_picture_can_be_a_mask(write: Write, tmp_path: Path) -> None:
    write(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "mask.png")[0], DISC)


def test_named_values_are_lung_and_ignored_ones_are_left_out(tmp_path: Path) -> None:
    classes = RNG.integers(0, 5, (16, 16))
    labels = labels_of(tmp_path, classes, lung_values=[1, 2], ignore_values=[4])
    np.testing.assert_array_equal(labels == 1, (classes == 1) | (classes == 2))
    np.testing.assert_array_equal(labels == 255, classes == 4)
    # Without names the rule of two values sees only what is not ignored.
    np.testing.assert_array_equal(labels_of(tmp_path, np.minimum(classes, 2), ignore_values=[2]) == 1, classes == 1)
    assert (labels_of(tmp_path, np.full((4, 4), 9), ignore_values=[9]) == 255).all()


@pytest.mark.parametrize("name", ["mask.jpg", "mask.png"])
def test_grey_edges_are_cut_at_half_range_with_a_warning(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fine = cv2.circle(np.zeros((2048, 2048), np.uint8), (1000, 1050), 700, 255, -1)
    soft = cv2.resize(fine, (256, 256), interpolation=cv2.INTER_AREA)
    Image.fromarray(soft).save(tmp_path / name)
    with caplog.at_level(logging.WARNING, logger="lungseg"):
        labels = read_labels(tmp_path / name)[0]
    assert (labels != (soft >= 127.5)).mean() < 0.002
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(tmp_path / name) in caplog.text


@pytest.mark.parametrize(
    "pixels",
    [
        np.where(DISC, 1, 0) + np.eye(64, dtype=int) * (DISC == 1),  # 0, 1 and a little 2: classes, not edges
        np.where(np.eye(64), 255, DISC),  # 1 is near 0 here, but is it background?
        np.where(DISC, 0.5, np.eye(64)),
    ],
    ids=["few pixels of a third class", "0, 1, 255", "fractions"],
)
def test_more_values_are_refused_with_the_remedy(pixels: NDArray[Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"mask\.npy .*values \(0, .*data\.mask_values=\[\.\.\.\]"):
        labels_of(tmp_path, pixels)


@pytest.mark.parametrize("pixels", [RNG.integers(-900, 300, (64, 64)), RNG.random((64, 64))], ids=["a slice", "probabilities"])
def test_many_values_are_no_mask_and_may_be_an_image_or_probabilities(pixels: NDArray[Any], tmp_path: Path) -> None:
    said = r"mask\.npy looks like an image and not a mask, it holds \d+ values \(\S+ to \S+\): .*cut a map of probabilities"
    with pytest.raises(UserError, match=said + r".*data\.mask_values=\[\.\.\.\]"):
        labels_of(tmp_path, pixels)


def test_a_volume_knows_no_jpeg_noise(tmp_path: Path) -> None:
    organs = np.zeros((4, 32, 32), dtype=np.uint8)
    organs[:, 4:20, 4:20], organs[:, 20, 20], organs[:, 21, 21], organs[:, 22, 22] = 10, 90, 100, 117
    nifti(tmp_path / "organs.nii.gz", organs)
    with pytest.raises(UserError, match="holds 5 values"):
        read_labels(tmp_path / "organs.nii.gz")
    np.testing.assert_array_equal(read_labels(tmp_path / "organs.nii.gz", lung_values=[10]), organs == 10)


@pytest.mark.parametrize(
    ("tags", "says"),
    [
        ({}, ()),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0.95, -0.31]}, ()),  # a tilted gantry
        ({"Modality": "MR"}, ("its header says MR, not CT",)),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, ("it is a localizer, no axial slice",)),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, ("its header says that it is no axial slice",)),
        ({"BodyPartExamined": "HEAD"}, ("its header says HEAD, not chest",)),
    ],
)
def test_a_dicom_header_says_what_is_no_axial_chest_ct(tags: dict[str, Any], says: tuple[str, ...], tmp_path: Path) -> None:
    for name in ("a.dcm", "1.2.840"):
        dicom(tmp_path / name, **tags)
        assert file_doubts(tmp_path / name) == says
    assert file_doubts(tmp_path / "nowhere.png") == ()


@pytest.mark.parametrize("name", ["ImageOrientationPatient", "ImageType", "BodyPartExamined", "Modality"])
def test_a_damaged_element_of_a_dicom_header_raises_nothing(name: str, tmp_path: Path) -> None:
    dicom(tmp_path / "a.dcm")
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    tag = pydicom.datadict.tag_for_keyword(name)
    assert tag is not None
    dataset[tag] = RawDataElement(Tag(tag), "FD", 5, b"12345", 0, False, True)
    dataset.save_as(tmp_path / "a.dcm")
    assert read_stack(tmp_path / "a.dcm").size
    assert len(file_doubts(tmp_path / "a.dcm")) == (name == "Modality")
