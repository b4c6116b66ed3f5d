"""What the reader must do with every kind of scan: give its values and places exactly, or one sentence, and invent nothing."""

import gzip
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from dicoms import (
    HIDDEN,
    NAMES,
    PLACES,
    PLANTED,
    STORED,
    SYNTAXES,
    Place,
    Slice,
    Stored,
    copied,
    cut,
    decimals,
    duplicate,
    enhanced,
    litter,
    others,
    plain_hu,
    series,
    uid,
    write,
    write_slice,
)
from kinds import EXACT, STACK
from lungseg.errors import UserError
from lungseg.imaging.readers import Scan, find, read

HU = plain_hu()
REAL = Path(os.environ.get("LUNGSEG_DATA", Path(__file__).parents[3] / "shared" / "data"))
CORNERS = ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0))
NOT_AXIAL = ("coronal", "sagittal", "steep")
VOLUMES = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd")
ALLOW = r"input\.allow_gaps=true"


def headers(folder: Path) -> dict[str, pydicom.Dataset]:
    """What the files say, by SOPInstanceUID."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.read_bytes()[128:132] == b"DICM")
    said = [pydicom.dcmread(path, stop_before_pixels=True) for path in files]
    return {header.SOPInstanceUID: header for header in said if "ImagePositionPatient" in header}


def corners(header: pydicom.Dataset) -> NDArray[np.float64]:
    """The centres of the four corner pixels by PS3.3 C.7.6.2.1.1, (4, 3)."""
    along_row, along_column = np.array(header.ImageOrientationPatient, dtype=float).reshape(2, 3)
    between_rows, between_columns = map(float, header.PixelSpacing)
    first = np.array(header.ImagePositionPatient, dtype=float)
    down, across = (header.Rows - 1) * between_rows * along_column, (header.Columns - 1) * between_columns * along_row
    return np.array([first + y * down + x * across for y, x in CORNERS])


def check_exact(scan: Scan, folder: Path, slices: Sequence[Slice], within_mm: float = 1e-3) -> None:
    """The scan is these slices of the folder, in the order of their positions on the normal, every corner where its file says."""
    said = headers(folder)
    normal = np.cross(*np.array(said[slices[0].uid].ImageOrientationPatient, dtype=float).reshape(2, 3))
    rising = sorted(slices, key=lambda piece: float(np.dot(normal, np.array(said[piece.uid].ImagePositionPatient, dtype=float))))
    voxels, grid = scan.volume.voxels, scan.volume.grid
    hu = np.stack([piece.hu for piece in rising])
    np.testing.assert_array_equal(voxels, hu)
    assert voxels.dtype == np.int16 or not np.array_equal(hu, hu.astype(np.int16))
    assert grid is not None
    assert tuple(grid.shape) == voxels.shape
    _, height, width = voxels.shape
    for z, piece in enumerate(rising):
        found = [grid.point((z, y * (height - 1), x * (width - 1))) for y, x in CORNERS]
        away = np.linalg.norm(np.array(found) - corners(said[piece.uid]), axis=1)
        assert away.max() <= within_mm, (z, away)


def refusal(path: Path, **options: Any) -> str:
    """The sentence in which a path is refused."""
    with pytest.raises(UserError) as caught:
        read(path, **options)
    sentence = str(caught.value)
    assert sentence.strip()
    assert "\n" not in sentence
    return sentence


def said(scan: Scan) -> str:
    return " ".join([*scan.remarks, *scan.doubts])


def interleaved(*all_slices: Sequence[Slice]) -> list[Slice]:
    return [piece for pieces in zip(*all_slices, strict=True) for piece in pieces]


# Exactly read


@pytest.mark.parametrize("place", PLACES)
def test_a_series_is_read_exactly_however_it_lies(place: str, tmp_path: Path) -> None:
    slices = series(HU, PLACES[place])
    write(tmp_path, slices)
    scan = read(tmp_path)
    check_exact(scan, tmp_path, slices)
    assert scan.volume.grid.spacing_mm == pytest.approx((abs(PLACES[place].step_mm), 0.8, 0.65))


@pytest.mark.parametrize("place", PLACES)
def test_doubts_say_which_series_are_not_axial(place: str, tmp_path: Path) -> None:
    write(tmp_path, series(HU, PLACES[place]))
    assert ("axial" in " ".join(read(tmp_path).doubts)) == (place in NOT_AXIAL)


@pytest.mark.parametrize("names", NAMES)
def test_names_and_folders_are_no_order(names: str, tmp_path: Path) -> None:
    slices = series(HU)
    write(tmp_path, slices[::2] + slices[1::2], names=names)
    check_exact(read(tmp_path), tmp_path, slices)


@pytest.mark.parametrize("stored", STORED)
def test_every_way_to_store_hu_is_undone(stored: str, tmp_path: Path) -> None:
    slices = series(HU, PLACES["oblique"], stored=STORED[stored])
    write(tmp_path, slices)
    check_exact(read(tmp_path), tmp_path, slices)


def test_each_slice_has_its_own_rescale(tmp_path: Path) -> None:
    ways = [Stored(), Stored(intercept=-1024), Stored(slope=0.25), Stored(slope=-1), Stored(0.5, 3), Stored(1, -1024, 12, False)]
    slices = [replace(piece, stored=ways[index % len(ways)]) for index, piece in enumerate(series(HU))]
    write(tmp_path, slices)
    check_exact(read(tmp_path), tmp_path, slices)


def test_halves_of_hu_are_kept(tmp_path: Path) -> None:
    slices = series(HU / 2, stored=Stored(slope=0.5))
    write(tmp_path, slices)
    check_exact(read(tmp_path), tmp_path, slices)


def test_values_beyond_int16_are_kept(tmp_path: Path) -> None:
    hu = HU.astype(np.int32)
    hu[3, 4, 5] = 40_000
    slices = series(hu, stored=Stored(intercept=-1024, signed=False))
    write(tmp_path, slices)
    check_exact(read(tmp_path), tmp_path, slices)


def test_padding_is_no_tissue(tmp_path: Path) -> None:
    hu = HU.copy()
    hu[:, :2] = hu[:, :, -3:] = -2000
    slices = series(hu, stored=Stored(padding=-2000))
    write(tmp_path, slices)
    voxels = read(tmp_path).volume.voxels
    np.testing.assert_array_equal(np.where(hu == -2000, 0, voxels), np.where(hu == -2000, 0, hu))
    assert voxels[hu == -2000].max() <= -1000


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_transfer_syntax_is_read(syntax: str, tmp_path: Path) -> None:
    slices = series(plain_hu((3, 64, 70)), PLACES["oblique"], stored=STORED["unsigned 12 bit"])
    write(tmp_path, slices, SYNTAXES[syntax])
    check_exact(read(tmp_path), tmp_path, slices)


def test_transfer_syntaxes_may_be_mixed(tmp_path: Path) -> None:
    slices = series(plain_hu((len(SYNTAXES), 64, 70)))
    for index, (piece, syntax) in enumerate(zip(slices, SYNTAXES.values(), strict=True)):
        write_slice(tmp_path / f"{index}.dcm", piece, syntax)
    check_exact(read(tmp_path), tmp_path, slices)


def test_positions_that_were_rounded_are_no_gaps(tmp_path: Path) -> None:
    slices = series(HU, PLACES["oblique"], jitter=0.01)
    write(tmp_path, slices)
    check_exact(read(tmp_path), tmp_path, slices, within_mm=2 * 0.01 * 2.5)  # the ends of the grid may be off as far as a slice


@pytest.mark.parametrize(("step_mm", "decimals_kept"), [(0.625, 2), (1.25, 1), (3.33, 1)])
def test_positions_of_few_decimals_are_no_uneven_steps(step_mm: float, decimals_kept: int, tmp_path: Path) -> None:
    slices = series(plain_hu((11, 8, 6)), Place(step_mm=step_mm))
    slices = [replace(piece, position=piece.position.round(decimals_kept)) for piece in slices]
    write(tmp_path, slices)
    check_exact(read(tmp_path), tmp_path, slices, within_mm=2 * 0.5 * 10**-decimals_kept)


def test_cosines_that_differ_in_their_last_digits_are_one_orientation(tmp_path: Path) -> None:
    slices = []
    for index, piece in enumerate(series(HU)):
        sine = 0.0005 + (-1) ** index * 1e-7  # on the edge between two values of three decimals
        place = Place(row=(float(np.sqrt(1 - sine**2)), sine, 0.0), column=(-sine, float(np.sqrt(1 - sine**2)), 0.0))
        slices.append(replace(piece, place=place))
    write(tmp_path, slices)
    check_exact(read(tmp_path), tmp_path, slices)


def test_a_header_that_lies_about_steps_is_not_believed(tmp_path: Path) -> None:
    slices = [piece.having(SpacingBetweenSlices="9", SliceThickness="0") for piece in series(HU)]
    write(tmp_path, slices)
    check_exact(read(tmp_path), tmp_path, slices)


@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_any_series_is_read_exactly(data: st.DataObject) -> None:
    numbers = st.integers(0, 2**32 - 1)
    rng = np.random.default_rng(data.draw(numbers, label="seed"))
    row, column, _ = Rotation.from_quat(rng.normal(size=4)).as_matrix()
    count = data.draw(st.integers(2, 6), label="slices")
    height, width = data.draw(st.lists(st.integers(2, 9), min_size=2, max_size=2, unique=True), label="height, width")
    spacing = st.floats(0.3, 3).map(lambda number: round(number, 4))
    place = Place(
        row=tuple(row),
        column=tuple(column),
        origin_mm=tuple(rng.uniform(-400, 400, 3).round(4)),
        pixel_mm=tuple(data.draw(st.lists(spacing, min_size=2, max_size=2, unique=True), label="pixel_mm")),
        step_mm=data.draw(spacing) * data.draw(st.sampled_from([-1, 1])),
    )
    hu = plain_hu((count, height, width), seed=data.draw(numbers))
    slices = series(hu, place, stored=STORED[data.draw(st.sampled_from(sorted(STORED)))])
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), data.draw(st.permutations(slices)), names=data.draw(st.sampled_from(sorted(NAMES))))
        check_exact(read(Path(folder)), Path(folder), slices)


def test_one_file_is_one_slice_where_it_lies(tmp_path: Path) -> None:
    piece = series(HU, PLACES["oblique"])[4]
    write_slice(tmp_path / "a.dcm", piece)
    volume = read(tmp_path / "a.dcm").volume
    np.testing.assert_array_equal(volume.voxels, piece.hu[None])
    found = [volume.grid.point((0, y * 8, x * 11)) for y, x in CORNERS]
    np.testing.assert_allclose(found, corners(headers(tmp_path)[piece.uid]), atol=1e-3)


def test_a_folder_with_one_slice_is_that_slice(tmp_path: Path) -> None:
    piece = series(HU)[4]
    write_slice(tmp_path / "a.dcm", piece)
    np.testing.assert_array_equal(read(tmp_path).volume.voxels, piece.hu[None])


# Frames


@pytest.mark.parametrize("place", ["axial", "feet first in the file", "oblique"])
@pytest.mark.parametrize("order", [range(7), range(6, -1, -1), (3, 0, 6, 1, 5, 2, 4)])
def test_frames_are_slices(place: str, order: Sequence[int], tmp_path: Path) -> None:
    slices = series(HU, PLACES[place])
    write(tmp_path / "single", slices)  # what the same slices say as files of their own
    (tmp_path / "frames").mkdir()
    enhanced(tmp_path / "frames/a.dcm", [slices[index] for index in order])
    for path in (tmp_path / "frames", tmp_path / "frames/a.dcm"):
        check_exact(read(path), tmp_path / "single", slices)


def test_each_frame_has_its_own_rescale(tmp_path: Path) -> None:
    ways = [Stored(), Stored(intercept=-1024), Stored(slope=0.25), Stored(slope=0.5, intercept=3)]
    slices = [replace(piece, stored=ways[index % len(ways)]) for index, piece in enumerate(series(HU))]
    enhanced(tmp_path / "a.dcm", slices[::-1])
    np.testing.assert_array_equal(read(tmp_path / "a.dcm").volume.voxels, HU)


def test_frames_may_lie_in_several_files(tmp_path: Path) -> None:
    slices = series(HU)
    for number, part in enumerate((slices[4:], slices[2:4], slices[:1], slices[1:2])):
        enhanced(tmp_path / f"{number}.dcm", part, seed=number)
    np.testing.assert_array_equal(read(tmp_path).volume.voxels, HU)


def test_a_missing_frame_is_a_gap(tmp_path: Path) -> None:
    slices = series(HU)
    enhanced(tmp_path / "a.dcm", [*slices[:3], *slices[4:]])
    assert re.search(ALLOW, refusal(tmp_path / "a.dcm"))


# Copies


def test_copies_are_dropped_and_spoken_of(tmp_path: Path) -> None:
    slices = series(HU)
    same_object = write(tmp_path / "a", slices)[2]
    duplicate(same_object)
    assert said(read(tmp_path / "a"))
    check_exact(read(tmp_path / "a"), tmp_path / "a", slices)
    write(tmp_path / "b", [*slices, copied(slices[5]), copied(slices[0])])
    assert said(read(tmp_path / "b"))
    check_exact(read(tmp_path / "b"), tmp_path / "b", slices)
    write(tmp_path / "c/first", slices)
    write(tmp_path / "c/again", slices, names="shuffled")
    assert re.search(r"\b7\b", said(read(tmp_path / "c")))
    check_exact(read(tmp_path / "c"), tmp_path / "c", slices)


def test_one_uid_for_all_slices_makes_them_no_copies(tmp_path: Path) -> None:
    """What a bad anonymiser leaves: different pictures at different places, all called the same."""
    write(tmp_path, [piece.having(SOPInstanceUID=uid("always the same")) for piece in series(HU)])
    try:
        scan = read(tmp_path)
    except UserError:
        assert refusal(tmp_path)
        return
    np.testing.assert_array_equal(scan.volume.voxels, HU)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.2, 0.4])
@pytest.mark.parametrize("at", [0, 6])
def test_a_broken_file_at_an_end_is_spoken_of(at: int, share: float, tmp_path: Path) -> None:
    """No gap shows that the scan is not whole: without a word the lung would end one slice earlier."""
    cut(write(tmp_path, series(HU))[at], share)
    try:
        scan = read(tmp_path)
    except UserError:
        assert refusal(tmp_path)
        return
    assert said(scan)


def test_a_broken_copy_does_not_spoil_a_whole_slice(tmp_path: Path) -> None:
    slices = series(HU)
    write(tmp_path / "first", slices)
    for path in write(tmp_path / "second", slices):
        cut(path, 0.9)
    check_exact(read(tmp_path), tmp_path, slices)


def test_a_sound_series_is_nothing_to_speak_of(tmp_path: Path) -> None:
    write(tmp_path, series(HU))
    assert read(tmp_path).remarks == ()


# Several series


def two_kernels(folder: Path) -> dict[str, list[Slice]]:
    kernels = {
        "B31f": series(HU, PLACES["axial"], "soft", ConvolutionKernel="B31f", SeriesNumber=7),
        "L": series(plain_hu((5, 8, 10), seed=1), PLACES["oblique"], "sharp", ConvolutionKernel="L", SeriesNumber=4),
    }
    write(folder, interleaved(kernels["B31f"][:5], kernels["L"]) + kernels["B31f"][5:])
    return kernels


def test_two_series_are_told_apart_and_the_choice_is_said(tmp_path: Path) -> None:
    kernels = two_kernels(tmp_path)
    found = find(tmp_path).series
    assert sorted((one.kernel, one.slices, one.modality) for one in found) == [("B31f", 7, "CT"), ("L", 5, "CT")]
    assert all(one.spacing_mm == pytest.approx((2.5, 0.8, 0.65), abs=1e-4) for one in found)
    scan = read(tmp_path)
    chosen = "B31f" if scan.volume.voxels.shape == HU.shape else "L"
    check_exact(scan, tmp_path, kernels[chosen])
    assert "series" in said(scan)
    assert chosen in said(scan)


def test_series_are_chosen_by_number_or_kernel(tmp_path: Path) -> None:
    kernels = two_kernels(tmp_path)
    for number, one in enumerate(find(tmp_path).series, 1):
        check_exact(read(tmp_path, series=str(number)), tmp_path, kernels[one.kernel])
        check_exact(read(tmp_path, series=one.kernel), tmp_path, kernels[one.kernel])


@pytest.mark.parametrize("unknown", ["3", "0", "-1", "B60", "", "L*"])
def test_a_series_that_is_not_there_is_refused(unknown: str, tmp_path: Path) -> None:
    two_kernels(tmp_path)
    sentence = refusal(tmp_path, series=unknown)
    assert "B31f" in sentence
    assert "L" in sentence


def test_a_series_that_is_not_there_is_refused_of_one_too(tmp_path: Path) -> None:
    write(tmp_path / "slices", series(HU))
    (tmp_path / "frames").mkdir()
    enhanced(tmp_path / "frames/a.dcm", series(HU))
    for path in (tmp_path / "slices", tmp_path / "frames", tmp_path / "frames/a.dcm"):
        assert read(path, series="1").volume.voxels.shape == HU.shape
        assert "series=5" in refusal(path, series="5")


def test_two_acquisitions_of_one_series_are_not_mixed(tmp_path: Path) -> None:
    first = series(HU, AcquisitionNumber=1, AcquisitionTime="101500")
    second = [
        piece.having(SOPInstanceUID=uid("second", index), AcquisitionNumber=2, AcquisitionTime="102000")
        for index, piece in enumerate(series(plain_hu(seed=1)))
    ]
    write(tmp_path, interleaved(first, second))
    assert [one.slices for one in find(tmp_path).series] == [7, 7]
    scan = read(tmp_path)
    check_exact(scan, tmp_path, first if np.array_equal(scan.volume.voxels[0], first[0].hu) else second)
    assert said(scan)


def test_a_scan_step_by_step_is_one_series(tmp_path: Path) -> None:
    """Each step of the table is an acquisition of its own, in a series all the same."""
    slices = [piece.having(AcquisitionNumber=1 + index // 2) for index, piece in enumerate(series(HU))]
    write(tmp_path, slices)
    assert [one.slices for one in find(tmp_path).series] == [7]
    check_exact(read(tmp_path), tmp_path, slices)


def test_two_pictures_of_one_place_are_not_chosen_from(tmp_path: Path) -> None:
    slices = series(HU)
    write(tmp_path, [*slices, replace(copied(slices[3]), hu=plain_hu(seed=2)[0])])
    refusal(tmp_path)


MIXED: dict[str, Callable[[list[Slice]], tuple[list[Slice], list[Slice]]]] = {
    "sizes": lambda slices: (slices[:4], [replace(piece, hu=piece.hu[:-1]) for piece in slices[4:]]),
    "orientations": lambda slices: (slices[:4], series(HU[4:], PLACES["coronal"], "b")),
    "pixel spacings": lambda slices: (slices[:4], [replace(piece, place=Place(pixel_mm=(0.9, 0.65))) for piece in slices[4:]]),
}


@pytest.mark.parametrize("what", MIXED)
def test_what_does_not_fit_together_is_not_mixed(what: str, tmp_path: Path) -> None:
    """Either refused, or the larger part alone and the other one spoken of."""
    large, small = MIXED[what](series(HU))
    small = [piece.having(SeriesInstanceUID=uid("series", "a")) for piece in small]
    write(tmp_path, interleaved(large[:3], small) + large[3:])
    try:
        scan = read(tmp_path)
    except UserError:
        assert refusal(tmp_path)
        return
    check_exact(scan, tmp_path, large)
    assert said(scan)


def test_two_stacks_of_frames_are_not_mixed(tmp_path: Path) -> None:
    first, second = series(HU), series(plain_hu((4, 9, 12), seed=3), PLACES["oblique"], "b")
    enhanced(tmp_path / "a.dcm", first, second)
    try:
        scan = read(tmp_path / "a.dcm")
    except UserError:
        assert refusal(tmp_path / "a.dcm")
        return
    np.testing.assert_array_equal(scan.volume.voxels, HU)
    assert said(scan)


# Tilt

TILTS: dict[str, tuple[Place, list[float]]] = {
    "as a scanner does it": (Place(tilt_deg=18.5), [2.5 * z for z in range(9)]),
    "the other way": (Place(tilt_deg=-12.0), [2.5 * z for z in range(9)]),
    "from the head down": (Place(tilt_deg=18.5, step_mm=-2.5), [-2.5 * z for z in range(9)]),
    "prone": (Place(tilt_deg=18.5, row=(-1.0, 0.0, 0.0), column=(0.0, -1.0, 0.0)), [2.5 * z for z in range(9)]),
    "in uneven steps": (Place(tilt_deg=18.5), [0, 2.5, 5, 7.5, 8.6, 10, 12.5, 16.5, 20]),
}
TILTED_SHAPE = (9, 30, 26)


def tilted_points(place: Place, offsets_mm: Sequence[float]) -> NDArray[np.float64]:
    """The centre of every voxel of slices that lean, (Z, H, W, 3)."""
    row, column = place.orientation.reshape(2, 3)
    _, height, width = TILTED_SHAPE
    in_slice = (
        np.arange(height)[:, None, None] * place.pixel_mm[0] * column + np.arange(width)[None, :, None] * place.pixel_mm[1] * row
    )
    return place.positions(offsets_mm)[:, None, None] + in_slice


def centre_of_light(scan: Scan, near: NDArray[np.float64], radius_mm: float) -> NDArray[np.float64]:
    """The centre of what is bright within a radius of a point, (3,)."""
    voxels, grid = scan.volume.voxels.astype(float), scan.volume.grid
    first = grid.point((0, 0, 0))
    z, y, x = (grid.point(step) - first for step in np.eye(3))
    index = np.indices(voxels.shape)
    points = first + sum(number[..., None] * step for number, step in zip(index, (z, y, x), strict=True))
    light = np.where(np.linalg.norm(points - near, axis=-1) < radius_mm, np.clip(voxels + 1000, 0, None), 0.0)
    assert light.sum() > 500, "there is no light at all"
    return np.asarray((light[..., None] * points).sum((0, 1, 2)) / light.sum())


@pytest.mark.parametrize("tilt", TILTS)
def test_a_tilted_scan_shows_each_thing_where_it_is(tilt: str, tmp_path: Path) -> None:
    place, offsets_mm = TILTS[tilt]
    points = tilted_points(place, offsets_mm)
    for number, (z, y, x) in enumerate(((3, 14, 11), (5, 12, 14), (4, 17, 12))):
        centre = points[z, y, x] + 0.2
        glow = 2500 * np.exp(-(np.linalg.norm(points - centre, axis=-1) ** 2) / (2 * 2.0**2)) - 1000
        folder = tmp_path / str(number)
        write(folder, series(glow.round().astype(np.int16), place, offsets_mm=offsets_mm), names="shuffled")
        if "uneven" in tilt:
            assert re.search(ALLOW, refusal(folder))
        scan = read(folder, allow_gaps="uneven" in tilt)
        assert re.search("tilt|lean|shear", said(scan))
        assert np.linalg.norm(centre_of_light(scan, centre, 7.0) - centre) < 0.5


@pytest.mark.parametrize("tilt", [name for name in TILTS if "uneven" not in name])
def test_a_tilted_scan_keeps_the_corners_of_every_slice(tilt: str, tmp_path: Path) -> None:
    place, offsets_mm = TILTS[tilt]
    points = tilted_points(place, offsets_mm)
    for y, x in ((0, 0), (0, -1), (-1, 0), (-1, -1), (11, 9)):
        hu = np.full(TILTED_SHAPE, -1000, np.int16)
        hu[:, y, x] = 2000
        folder = tmp_path / f"{y} {x}"
        write(folder, series(hu, place, offsets_mm=offsets_mm))
        scan = read(folder)
        for corner in points[:, y, x]:
            assert np.linalg.norm(centre_of_light(scan, corner, 1.2) - corner) < 0.5


@pytest.mark.skipif(not (REAL / "gantry_tilt/GE").is_dir(), reason="needs ../shared/data or LUNGSEG_DATA")
def test_a_real_tilted_scan_in_uneven_steps_lies_where_its_files_say() -> None:
    folder = REAL / "gantry_tilt/GE"
    assert re.search(ALLOW, refusal(folder))
    scan = read(folder, allow_gaps=True)
    assert re.search("tilt|lean|shear", said(scan))
    grid = scan.volume.grid
    axes = np.array(grid.direction).reshape(3, 3) * np.array(grid.spacing_mm)[::-1]
    for header in headers(folder).values():
        inside = np.linalg.solve(axes, (corners(header) - np.array(grid.origin_mm)).T)[::-1]  # (3, 4): z, y, x
        assert (inside > -1).all()
        assert (inside < np.array(grid.shape)[:, None]).all()


# Gaps

GAPS: dict[str, tuple[str, list[float]]] = {
    "one slice is missing": ("axial", [0, 2.5, 5, 10, 12.5, 15, 17.5]),
    "two in a row are missing": ("oblique", [0, 2.5, 5, 7.5, 10, 17.5, 20]),
    "one is missing near the end": ("coronal", [0, 2.5, 5, 7.5, 10, 12.5, 17.5]),
    "steps are uneven": ("axial", [0, 2.5, 5, 8, 10.5, 12, 14.5]),
    "the step changes": ("oblique", [0, 1, 2, 3, 4, 9, 14]),
    "from the head down": ("prone", [0, -2.5, -5, -10, -12.5, -15, -17.5]),
}


@pytest.mark.parametrize("gap", GAPS)
def test_gaps_are_refused_and_closed_where_they_are_allowed(gap: str, tmp_path: Path) -> None:
    place, offsets_mm = PLACES[GAPS[gap][0]], GAPS[gap][1]
    ramp = np.broadcast_to(np.multiply(10, offsets_mm)[:, None, None], HU.shape).astype(np.int16)
    write(tmp_path, series(ramp, place, offsets_mm=offsets_mm), names="shuffled")
    assert re.search(ALLOW, refusal(tmp_path))
    scan = read(tmp_path, allow_gaps=True)
    assert said(scan)
    voxels, grid = scan.volume.voxels, scan.volume.grid
    reached = [float(np.dot(grid.point((z, 4, 5)) - np.array(place.origin_mm), place.travel)) for z in range(len(voxels))]
    low, high = min(offsets_mm), max(offsets_mm)
    assert min(reached) == pytest.approx(low, abs=grid.spacing_mm[0])
    assert max(reached) == pytest.approx(high, abs=grid.spacing_mm[0])
    for z, travelled in enumerate(reached):
        assert np.abs(voxels[z] - 10 * np.clip(travelled, low, high)).max() <= 1
        expected = (
            np.array(place.origin_mm)
            + travelled * place.travel
            + 8 * 0.8 * np.array(place.column)
            + 11 * 0.65 * np.array(place.row)
        )
        np.testing.assert_allclose(grid.point((z, 8, 11)), expected, atol=1e-3)


def test_slices_that_are_there_stay_as_they_are(tmp_path: Path) -> None:
    slices = series(HU)
    write(tmp_path, [*slices[:3], *slices[4:]])
    voxels = read(tmp_path, allow_gaps=True).volume.voxels
    assert voxels.shape == HU.shape
    np.testing.assert_array_equal(np.delete(voxels, 3, axis=0), np.delete(HU, 3, axis=0))
    np.testing.assert_allclose(voxels[3], (HU[2].astype(float) + HU[4]) / 2, atol=1)


def test_an_even_series_is_the_same_where_gaps_are_allowed(tmp_path: Path) -> None:
    slices = series(HU, PLACES["oblique"])
    write(tmp_path, slices)
    check_exact(read(tmp_path, allow_gaps=True), tmp_path, slices)


# Refused


def _without(*names: str) -> Callable[[Path], Any]:
    return lambda folder: write(folder, [piece.without(*names) for piece in series(HU)])


def _having(**tags: Any) -> Callable[[Path], Any]:
    return lambda folder: write(folder, [piece.having(**tags) for piece in series(HU)])


def _one_cut(folder: Path, at: int, share: float) -> None:
    cut(write(folder, series(HU))[at], share)


def _one_aside(folder: Path) -> None:
    slices = series(HU)
    slices[3] = replace(slices[3], position=np.add(slices[3].position, (3.0, 0.0, 0.0)))
    write(folder, slices)


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "nothing": (lambda folder: None, "no |empty|nothing"),
    "empty folders": (lambda folder: (folder / "a/b").mkdir(parents=True), "no |empty|nothing"),
    "hidden files": (litter, "no |empty|nothing"),
    "a slice cut off in its pixels": (lambda folder: _one_cut(folder, 3, 0.95), r"IM0003\.dcm"),
    "the last slice cut off in its pixels": (lambda folder: _one_cut(folder, 6, 0.95), r"IM0006\.dcm"),
    "a slice cut off in its header": (lambda folder: _one_cut(folder, 3, 0.2), rf"IM0003\.dcm|{ALLOW}"),
    "no positions": (_without("ImagePositionPatient"), "ImagePositionPatient|position|where"),
    "no orientation": (_without("ImageOrientationPatient"), "ImageOrientationPatient|orientation|where|geometry"),
    "no pixel spacing": (_without("PixelSpacing"), "PixelSpacing|spacing|size|geometry"),
    "a spacing of zero": (_having(PixelSpacing=["0", "0.65"]), "spacing|PixelSpacing|geometry"),
    "a spacing below zero": (_having(PixelSpacing=["0.8", "-0.65"]), "spacing|PixelSpacing|geometry"),
    "no direction": (_having(ImageOrientationPatient=["0"] * 6), "orientation|ImageOrientationPatient|geometry"),
    "rows along columns": (_having(ImageOrientationPatient=decimals([1, 0, 0, 1, 0, 0])), "orientation|Orientation|geometry"),
    "skewed pixels": (_having(ImageOrientationPatient=decimals([1, 0, 0, 0.6, 0.8, 0])), "orientation|Orientation|geometry"),
    "a slope of zero": (_having(RescaleSlope="0"), "slope|rescale|RescaleSlope|values"),
    "one slice far aside": (_one_aside, "aside|position|place|line|moved|shift"),
    "values beyond all numbers": (_having(RescaleSlope="1e300"), "finite|values|slope|RescaleSlope"),
    "all in one place": (_having(ImagePositionPatient=["0", "0", "0"]), "position|place|step"),
    "colour": (
        _having(SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0, Rows=3, Columns=12),
        "colou?r",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused_in_one_sentence(case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make, says = REFUSED[case]
    folder = tmp_path / "scan"
    folder.mkdir()
    make(folder)
    sentence = refusal(folder)
    assert re.search(says, sentence, re.IGNORECASE), sentence
    assert str(folder) in sentence
    assert capfd.readouterr() == ("", "")


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "nowhere" in refusal(tmp_path / "nowhere")


# What lies around


@pytest.mark.parametrize("other", others())
def test_what_is_no_slice_is_skipped_with_its_reason(other: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    slices = series(HU)
    write(tmp_path, slices)
    before = set(tmp_path.iterdir())
    others()[other](tmp_path)
    (path,) = set(tmp_path.iterdir()) - before
    found = find(tmp_path)
    assert [one.slices for one in found.series] == [7]
    assert path not in found.files
    reasons = [reason for skipped, reason in found.skipped if skipped == path]
    assert len(reasons) == 1
    assert reasons[0].strip()
    assert "\n" not in reasons[0]
    check_exact(read(tmp_path), tmp_path, slices)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("other", others())
def test_what_is_no_slice_is_no_scan(other: str, tmp_path: Path) -> None:
    others()[other](tmp_path)
    assert find(tmp_path).series == ()
    refusal(tmp_path)


def test_all_of_it_at_once_and_deep(tmp_path: Path) -> None:
    slices = series(HU, PLACES["oblique"])
    write(tmp_path / "Örtliche Akten (2)/[a], b=c", slices, names="nested")
    (tmp_path / "more").mkdir()
    for write_other in others().values():
        write_other(tmp_path)
        write_other(tmp_path / "more")
    litter(tmp_path / "more")
    (tmp_path / "more/loop").symlink_to(tmp_path)
    found = find(tmp_path)
    assert [one.slices for one in found.series] == [7]
    assert not any(path.name in HIDDEN for path in found.files)
    check_exact(read(tmp_path), tmp_path, slices)


def test_other_image_files_are_found_and_not_mixed_in(tmp_path: Path) -> None:
    slices = series(HU)
    write(tmp_path / "dicom", slices)
    for kind in ("png 8 bit", "nii.gz", "tif lzw int16"):
        name, save, _ = EXACT[kind]
        save(tmp_path / name)
    found = find(tmp_path)
    assert {path.name for path in found.files} == {"a.png", "a.nii.gz", "a.tif"}
    assert [one.slices for one in found.series] == [7]
    check_exact(read(tmp_path), tmp_path, slices)


def test_who_was_scanned_is_not_said(tmp_path: Path) -> None:
    slices = series(HU)
    folders = {
        "copies": [*slices, copied(slices[0])],
        "gap": slices[:3] + slices[4:],
        "tilted": series(HU, Place(tilt_deg=18.5)),
        "two": interleaved(slices, series(HU, seed="b")),
        "nowhere": [piece.without("ImagePositionPatient") for piece in slices],
        "mixed": MIXED["sizes"](slices)[0] + MIXED["sizes"](slices)[1],
    }
    words = []
    for name, pieces in folders.items():
        write(tmp_path / name, pieces)
        for write_other in others().values():
            write_other(tmp_path / name)
        words += [reason for _, reason in find(tmp_path / name).skipped]
        for options in ({}, {"allow_gaps": True}, {"series": "unknown"}):
            try:
                words += read(tmp_path / name, **options).remarks
            except UserError as error:
                words.append(str(error))
    assert [value for value in PLANTED if value.lower() in " ".join(words).lower()] == []


# Other kinds of files

TURNS = [
    np.stack([sign * np.eye(3)[axis] for axis, sign in zip(axes, signs, strict=True)], axis=1)
    for axes in permutations(range(3))
    for signs in product((1, -1), repeat=3)
]
OBLIQUE = Rotation.from_euler("zyx", [20, -10, 30], degrees=True).as_matrix()


@pytest.mark.parametrize("suffix", VOLUMES)
def test_volumes_stay_where_they_are_in_every_orientation(suffix: str, tmp_path: Path) -> None:
    stack = plain_hu((4, 5, 7))
    path = tmp_path / f"scan{suffix}"
    for turn in [*TURNS, OBLIQUE, *(OBLIQUE @ turn for turn in TURNS[5:8])]:
        image = sitk.GetImageFromArray(stack)
        image.SetSpacing((0.7, 0.8, 2.5))
        image.SetOrigin((-10.5, 20.25, 30.0))
        image.SetDirection(turn.ravel())
        sitk.WriteImage(image, str(path))
        volume = read(path).volume
        np.testing.assert_array_equal(volume.voxels, stack)
        assert volume.voxels.dtype == np.int16
        turned = volume.canonical()
        for part in product((0, 1), repeat=3):
            z, y, x = (share * (size - 1) for share, size in zip(part, stack.shape, strict=True))
            point = image.TransformIndexToPhysicalPoint((x, y, z))
            np.testing.assert_allclose(volume.grid.point((z, y, x)), point, atol=1e-3)
            index = tuple(share * (size - 1) for share, size in zip(part, turned.voxels.shape, strict=True))
            back = np.array(image.TransformPhysicalPointToContinuousIndex(turned.grid.point(index)))
            np.testing.assert_allclose(back, back.round(), atol=2e-3)
            x, y, z = back.round().astype(int)
            assert turned.voxels[index] == stack[z, y, x]


BY_GDCM = ("dicom jpeg lossless", "dicom jpeg-ls")  # it gives every file that it writes a place


@pytest.mark.parametrize("kind", [kind for kind in EXACT if not EXACT[kind][0].endswith(VOLUMES) and kind not in BY_GDCM])
def test_a_picture_lies_nowhere(kind: str, tmp_path: Path) -> None:
    name, save, values = EXACT[kind]
    save(tmp_path / name)
    volume = read(tmp_path / name).volume
    np.testing.assert_array_equal(volume.voxels, np.array(values, dtype=np.float32, ndmin=3))
    assert volume.grid is None
    assert volume.canonical().grid is None


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_a_volume_that_is_cut_off_is_refused(suffix: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"scan{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(plain_hu((5, 20, 30))), str(path))
    whole = path.read_bytes()
    for share in (0.0, 0.1, 0.5, 0.97):
        path.write_bytes(whole[: int(share * len(whole))])
        assert str(path) in refusal(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd"])
def test_a_volume_that_does_not_say_how_the_patient_lies_is_doubted(name: str, tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(STACK)
    sitk.WriteImage(image, str(tmp_path / name))
    assert read(tmp_path / name).doubts == ()
    data = gzip.decompress((tmp_path / name).read_bytes()) if name.endswith(".gz") else (tmp_path / name).read_bytes()
    if name.endswith(".gz"):  # neither form is said to hold
        (tmp_path / name).write_bytes(gzip.compress(data[:252] + bytes(4) + data[256:]))
    else:
        head = b"space: left-posterior-superior\n"
        bare = data.replace(head, b"").replace(b"space origin: (0,0,0)\n", b"")
        bare = bare.replace(b"space directions: (1,0,0) (0,1,0) (0,0,1)\n", b"spacings: 1 1 1\n")
        (tmp_path / name).write_bytes(bare)
    assert any("how the patient lies" in doubt for doubt in read(tmp_path / name).doubts)


def test_a_spacing_that_no_scanner_has_is_doubted(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(STACK)
    image.SetSpacing((70.0, 70.0, 250.0))  # a header in another unit
    sitk.WriteImage(image, str(tmp_path / "a.nii.gz"))
    assert any("70 x 70 x 250 mm" in doubt for doubt in read(tmp_path / "a.nii.gz").doubts)


def test_one_slice_of_unknown_thickness_says_so(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(STACK[0]), str(tmp_path / "a.nii.gz"))
    assert any("unknown thickness" in doubt for doubt in read(tmp_path / "a.nii.gz").doubts)


def test_series_chooses_among_dicom_series_only(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(STACK), str(tmp_path / "a.nii.gz"))
    with pytest.raises(UserError, match="no DICOM series"):
        read(tmp_path / "a.nii.gz", series="2")
