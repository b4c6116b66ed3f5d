"""What every DICOM-SEG does, whatever its series: it lies on the pictures as they were taken, and others read it so."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from dicoms import AXIAL, PLACES, SYNTAXES, Place, Slice, copied, decimals, enhanced, plain_hu, series, uid, write
from lungseg.errors import UserError
from lungseg.imaging.dicom import frames
from lungseg.imaging.dicom_seg import Maker, NoSegmentation, write_dicom_seg
from lungseg.imaging.dicom_seg_labels import read_seg
from lungseg.imaging.quiet import quiet
from lungseg.imaging.readers import read, read_series
from lungseg.imaging.series import Series, sort_into_series
from lungseg.imaging.volume import Grid
from lungseg.labels import LEFT, RIGHT
from segs import by_dcmqi, headers, pictures_of, said_by_dciodvfy, viewer_faults

pytest.importorskip("highdicom", reason="needs highdicom: pip install -e '.[dicom]'")

HU = plain_hu((9, 9, 12))  # nowhere square: neither pictures nor pixels
MAKER = Maker("1.2.3", "c0ffee" * 10)
CODES = {"3341006": RIGHT, "44029006": LEFT, "39607008": 1}
UNEVEN = [0, 2.5, 5, 7.5, 8.6, 10, 12.5, 16.5, 20]


@dataclass(frozen=True)
class Case:
    """A series, and how far a picture's labels may be from the voxel next to each pixel."""

    slices: list[Slice]
    names: str = "plain"
    stacks: Callable[[list[Slice]], list[list[Slice]]] | None = None  # of a multi-frame file
    is_regular: bool = True
    is_exact: bool = True

    def write(self, folder: Path) -> list[Path]:
        if self.stacks is None:
            return write(folder, self.slices, names=self.names)
        folder.mkdir()
        enhanced(folder / "a.dcm", *self.stacks(self.slices))
        return [folder / "a.dcm"]


def rounded(slices: list[Slice]) -> list[Slice]:
    """Each with an orientation that was rounded in its own way."""
    exact = slices[0].place.orientation
    return [piece.having(ImageOrientationPatient=decimals(exact + 2e-5 * (n % 3))) for n, piece in enumerate(slices)]


CASES = {
    **{name: Case(series(HU, place)) for name, place in PLACES.items()},
    "names in no order": Case(series(HU), "shuffled"),
    "a copy of a slice": Case([*series(HU), copied(series(HU)[3])]),
    "orientation rounded in each file": Case(rounded(series(HU, PLACES["oblique"]))),
    "positions that jitter": Case(series(HU, jitter=0.01)),
    "one slice": Case(series(HU[:1])),
    "two slices": Case(series(HU[:2])),
    "a tilted gantry": Case(series(HU, Place(tilt_deg=18.5)), is_regular=False),
    "tilted the other way": Case(series(HU, Place(tilt_deg=-12.0)), is_regular=False),
    "tilted, from the head down": Case(series(HU, Place(tilt_deg=18.5, step_mm=-2.5)), is_regular=False),
    "tilted, prone": Case(
        series(HU, Place(tilt_deg=18.5, row=(-1.0, 0.0, 0.0), column=(0.0, -1.0, 0.0))), is_regular=False
    ),
    "a slice is missing": Case(series(HU[:8], offsets_mm=[0, 2.5, 5, 10, 12.5, 15, 17.5, 20])),
    "uneven steps": Case(series(HU, offsets_mm=UNEVEN), is_regular=False),
    "tilted in uneven steps": Case(series(HU, Place(tilt_deg=18.5), offsets_mm=UNEVEN), is_regular=False, is_exact=False),
    "multi-frame": Case(series(HU), stacks=lambda slices: [slices[::-1]]),
    "multi-frame, in no order": Case(series(HU), stacks=lambda slices: [[slices[n] for n in (4, 0, 8, 2, 6, 1, 7, 3, 5)]]),
    "multi-frame, oblique": Case(series(HU, PLACES["oblique"]), stacks=lambda slices: [slices]),
    "multi-frame, tilted": Case(series(HU, Place(tilt_deg=18.5)), stacks=lambda slices: [slices], is_regular=False),
    "multi-frame of one": Case(series(HU[:1]), stacks=lambda slices: [slices]),
    "two stacks in one file": Case(
        series(HU), stacks=lambda slices: [series(HU[:2], PLACES["coronal"]), slices]
    ),
}  # fmt: skip


def series_in(paths: list[Path]) -> Series:
    """The longest of the series in some files."""
    return max(sort_into_series([frame for path in paths for frame in frames(path)]), key=lambda one: one.slices)


def some_labels(grid: Grid, taken: Series | None = None) -> NDArray[np.uint8]:
    """Noise of both lungs in canonical order; the outer slices are empty where there are enough, and so are those never taken."""
    stored = np.random.default_rng(0).integers(0, 3, grid.shape).astype(np.uint8)
    if len(stored) > 4:
        stored[[0, -1]] = 0
    if taken is not None:
        heights = taken.heights_mm - taken.heights_mm[0]
        stored[[z for z in range(len(stored)) if np.abs(heights - z * grid.spacing_mm[0]).min() > 0.1]] = 0
    return grid.turn.there(stored)


def index_of(grid: Grid, points: NDArray[np.float64]) -> NDArray[np.float64]:
    return (points - grid.origin_mm) @ grid.axes.T / grid.spacing_mm


def pixels_of(place: Place, position: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float64]:
    """The points of the pixels of a picture, (H, W, 3)."""
    y, x = (index[..., None] for index in np.indices(shape))
    row, column = place.orientation.reshape(2, 3)
    return position + y * place.pixel_mm[0] * column + x * place.pixel_mm[1] * row


@dataclass(frozen=True)
class Made:
    case: Case
    paths: list[Path]
    series: Series
    grid: Grid
    labels: NDArray[np.uint8]
    path: Path
    dataset: pydicom.Dataset


@pytest.fixture(scope="module", params=CASES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder, case = tmp_path_factory.mktemp("seg"), CASES[request.param]
    paths = case.write(folder / "ct")
    found = series_in(paths)
    grid = read_series(found, allow_gaps=True).volume.grid
    assert grid is not None
    labels = some_labels(grid, found if case.is_regular else None)
    write_dicom_seg(folder / "a.dcm", labels, grid, found, MAKER)
    return Made(case, paths, found, grid, labels, folder / "a.dcm", pydicom.dcmread(folder / "a.dcm"))


def test_each_frame_has_the_labels_at_the_points_of_its_pixels(made: Made) -> None:
    pictures, canonical = pictures_of(made.dataset), made.grid.canonical()
    by_position = {tuple(piece.position.round(3)): piece for piece in made.case.slices}
    assert len(pictures) >= len(by_position)
    away = []
    for piece in by_position.values():
        own = [picture for picture in pictures if np.allclose(picture.position, piece.position, atol=1e-3)]
        found = np.zeros(piece.hu.shape, dtype=np.uint8)
        for picture in own:
            found[picture.mask] = CODES[picture.code]
        nearest = np.rint(index_of(canonical, pixels_of(piece.place, piece.position, piece.hu.shape))).astype(int)
        assert (nearest >= 0).all()
        assert (nearest < canonical.shape).all()
        expected = made.labels[tuple(np.moveaxis(nearest, -1, 0))]
        if made.case.is_exact:
            np.testing.assert_array_equal(found, expected)
        # Interpolation in steps that are uneven takes place before the gantry is set upright: a plane may be moved further or less.
        away.append((found != expected).mean())
    assert np.median(away) < 0.1


def test_each_frame_refers_to_the_picture_that_it_lies_on(made: Made) -> None:
    slices = made.case.stacks(made.case.slices) if made.case.stacks else None
    order = {uid: number for number, uid in enumerate((p.uid for stack in slices for p in stack), 1)} if slices else {}
    pieces = {piece.uid: piece for piece in made.case.slices}
    for picture in pictures_of(made.dataset):
        if slices:
            assert picture.uid == uid("multi-frame", "a")
            source = next(piece for piece in pieces.values() if order[piece.uid] == picture.frame)
        else:
            assert picture.frame is None
            source = pieces[uid_of(picture.uid, pieces)]
        np.testing.assert_allclose(picture.position, source.position, atol=1e-3)


def uid_of(told: str, pieces: dict[pydicom.uid.UID, Slice]) -> pydicom.uid.UID:
    return next(own for own in pieces if own == told)


def test_no_rule_of_the_viewers_is_broken(made: Made) -> None:
    used = {frame.path for frame in made.series.frames}
    assert viewer_faults(made.dataset, headers([path for path in made.paths if path in used])) == []


def test_a_validator_finds_no_error(made: Made) -> None:
    assert said_by_dciodvfy(made.path) == []


def test_the_code_of_slicer_reads_the_same_labels_at_the_same_points(made: Made, tmp_path: Path) -> None:
    if not made.case.is_regular:
        pytest.skip("dcmqi knows upright volumes of even steps only")
    image = by_dcmqi(made.path, tmp_path / "read")
    voxels, own = sitk.GetArrayFromImage(image), Grid.of(image)
    points = own.point(np.moveaxis(np.indices(own.shape), 0, -1))
    nearest = np.rint(index_of(made.grid.canonical(), points)).astype(int)
    np.testing.assert_allclose(index_of(made.grid.canonical(), points), nearest, atol=0.05)
    np.testing.assert_array_equal(voxels, made.labels[tuple(np.moveaxis(nearest, -1, 0))])
    assert np.bincount(voxels.ravel())[1:].tolist() == np.bincount(made.labels.ravel())[1:].tolist()


def test_read_gives_the_labels_back(made: Made) -> None:
    if not made.case.is_regular:
        with pytest.raises(UserError, match="no regular volume"):
            read(made.path)
        return
    volume = read(made.path).volume
    assert volume.grid is not None
    assert volume.holds_labels
    back = volume.on(replace(made.grid), labels=True).canonical().voxels
    np.testing.assert_array_equal(back, made.labels)


def test_the_same_labels_give_the_same_bytes_and_others_another_object(made: Made, tmp_path: Path) -> None:
    write_dicom_seg(tmp_path / "again.dcm", made.labels, made.grid, made.series, MAKER)
    assert (tmp_path / "again.dcm").read_bytes() == made.path.read_bytes()
    write_dicom_seg(tmp_path / "other.dcm", made.labels, made.grid, made.series, replace(MAKER, checkpoint_sha256="0" * 64))
    other = pydicom.dcmread(tmp_path / "other.dcm")
    assert other.SOPInstanceUID != made.dataset.SOPInstanceUID
    assert other.SeriesInstanceUID != made.dataset.SeriesInstanceUID


def on_axial(folder: Path, slices: list[Slice] | None = None) -> tuple[Series, Grid]:
    found = series_in(write(folder, slices or series(HU, AXIAL)))
    grid = read_series(found).volume.grid
    assert grid is not None
    return found, grid


@pytest.mark.parametrize(
    ("kind", "codes", "labels"),
    [
        ("both", {1: "3341006", 2: "44029006"}, [0, 1, 2]),
        ("right alone", {1: "3341006"}, [0, 1]),
        ("left alone", {1: "44029006"}, [0, 2]),
        ("no sides", {1: "39607008"}, [0, 1]),
    ],
)
def test_segments_are_what_was_found(kind: str, codes: dict[int, str], labels: list[int], tmp_path: Path) -> None:
    found, grid = on_axial(tmp_path / "ct")
    given = np.random.default_rng(1).choice(labels, grid.shape).astype(np.uint8)
    write_dicom_seg(tmp_path / "a.dcm", given > 0 if kind == "no sides" else given, grid, found, MAKER)
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    assert {picture.segment: picture.code for picture in pictures_of(dataset)} == codes
    assert viewer_faults(dataset, headers(sorted((tmp_path / "ct").iterdir()))) == []
    np.testing.assert_array_equal(read_seg(tmp_path / "a.dcm").canonical().voxels, given)


def test_it_says_by_what_it_was_made(tmp_path: Path) -> None:
    found, grid = on_axial(tmp_path / "ct")
    write_dicom_seg(tmp_path / "a.dcm", some_labels(grid), grid, found, MAKER)
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    algorithm = dataset.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("lungseg", "1.2.3")
    assert algorithm.AlgorithmParameters == "checkpoint_sha256=c0ffeec0ffeec0ff"
    assert algorithm.AlgorithmFamilyCodeSequence[0].CodeMeaning == "Artificial Intelligence"
    assert (dataset.SeriesDescription, dataset.SeriesNumber) == ("lungseg lung segmentation", 1003)
    category = dataset.SegmentSequence[1].SegmentedPropertyCategoryCodeSequence[0]
    assert (category.CodeValue, category.CodingSchemeDesignator) == ("123037004", "SCT")


@pytest.mark.parametrize("name", ["PatientID", "PatientName", "StudyID", "AccessionNumber", "StudyDate", "ReferringPhysicianName"])
def test_what_a_header_may_lack_is_empty(name: str, tmp_path: Path) -> None:
    found, grid = on_axial(tmp_path / "ct", [piece.without(name) for piece in series(HU)])
    write_dicom_seg(tmp_path / "a.dcm", some_labels(grid), grid, found, MAKER)
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    assert not dataset[name].value
    assert viewer_faults(dataset, headers(sorted((tmp_path / "ct").iterdir()))) == []
    assert said_by_dciodvfy(tmp_path / "a.dcm") == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda piece, n: piece.without("FrameOfReferenceUID"), "FrameOfReferenceUID"),
        (lambda piece, n: piece.having(FrameOfReferenceUID=uid("frame", n // 4)), "differ in FrameOfReferenceUID"),
        (lambda piece, n: piece.without("StudyInstanceUID"), "StudyInstanceUID"),
    ],
)
def test_what_a_header_must_not_lack_is_said_in_one_clause(
    change: Callable[[Slice, int], Slice], said: str, tmp_path: Path
) -> None:
    found, grid = on_axial(tmp_path / "ct", [change(piece, n) for n, piece in enumerate(series(HU))])
    with pytest.raises(NoSegmentation, match=said) as refusal:
        write_dicom_seg(tmp_path / "a.dcm", some_labels(grid), grid, found, MAKER)
    assert str(uid("study"))[:20] not in str(refusal.value)
    assert not list(tmp_path.glob("*.dcm"))


def test_strange_values_are_copied_as_they_are(tmp_path: Path) -> None:
    """As archives hold them: a birthday with points, a name in Japanese, a number of a series that is none."""
    strange = {
        "PatientBirthDate": "1933.02.17", "SpecificCharacterSet": ["", "ISO 2022 IR 87"], "PatientName": "Yamada^Tarou=山田^太郎",
        "PatientSex": "X", "StudyTime": "7:31", "SeriesNumber": -4,
        "LossyImageCompression": "01", "LossyImageCompressionRatio": "8",
    }  # fmt: skip
    with quiet():
        found, grid = on_axial(tmp_path / "ct", [piece.having(**strange) for piece in series(HU)])
    write_dicom_seg(tmp_path / "a.dcm", some_labels(grid), grid, found, MAKER)
    with quiet():
        dataset = pydicom.dcmread(tmp_path / "a.dcm")
        told = {name: dataset[name].value for name in strange}
    assert told == strange | {"SeriesNumber": 1000}
    assert dataset.ContentTime == "000000"


@pytest.mark.parametrize("syntax", ["implicit", "big-endian", "deflated", "rle"])
def test_scans_of_any_transfer_syntax(syntax: str, tmp_path: Path) -> None:
    paths = write(tmp_path / "ct", series(HU), SYNTAXES[syntax])
    found = series_in(paths)
    grid = read_series(found).volume.grid
    assert grid is not None
    write_dicom_seg(tmp_path / "a.dcm", some_labels(grid), grid, found, MAKER)
    assert viewer_faults(pydicom.dcmread(tmp_path / "a.dcm"), headers(paths)) == []
    assert said_by_dciodvfy(tmp_path / "a.dcm") == []


def test_no_lung_is_no_file(tmp_path: Path) -> None:
    found, grid = on_axial(tmp_path / "ct")
    with pytest.raises(NoSegmentation, match="no lung"):
        write_dicom_seg(tmp_path / "a.dcm", np.zeros(grid.shape, np.uint8), grid, found, MAKER)
    assert not list(tmp_path.glob("*.dcm"))


def recoded(path: Path, *codes: tuple[str, str, str | None]) -> Path:
    """The SEG with other codes of its segments: type, scheme, and modifier."""
    dataset = pydicom.dcmread(path)
    for segment, (number, scheme, modifier) in zip(dataset.SegmentSequence, codes, strict=True):
        kind = segment.SegmentedPropertyTypeCodeSequence[0]
        kind.CodeValue, kind.CodingSchemeDesignator = number, scheme
        if modifier:
            side = pydicom.Dataset()
            side.CodeValue, side.CodingSchemeDesignator, side.CodeMeaning = modifier, scheme, "a side"
            segment.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [side]
    dataset.save_as(path)
    return path


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([("39607008", "SCT", "7771000"), ("39607008", "SCT", "24028007")], [0, LEFT, RIGHT]),  # as 3D Slicer has them
        ([("T-28000", "SRT", "G-A101"), ("T-28000", "SRT", "G-A100")], [0, LEFT, RIGHT]),  # as old files have them
        ([("80891009", "SCT", None), ("44029006", "SCT", None)], [0, 0, LEFT]),  # a heart beside a lung
        ([("39607008", "SCT", None), ("80891009", "SCT", None)], [0, 1, 0]),
        ([("80891009", "SCT", None), ("44567001", "SCT", None)], [0, 1, 2]),  # nothing of the lungs: by their numbers
    ],
)
def test_lungs_are_known_by_their_codes(codes: list[tuple[str, str, str | None]], expected: list[int], tmp_path: Path) -> None:
    found, grid = on_axial(tmp_path / "ct")
    labels = some_labels(grid)
    write_dicom_seg(tmp_path / "a.dcm", labels, grid, found, MAKER)
    read_back = read(recoded(tmp_path / "a.dcm", *codes)).volume
    assert read_back.grid is not None
    here = read_back.on(replace(grid), labels=True).canonical().voxels
    np.testing.assert_array_equal(here, np.array(expected)[labels])


def test_a_damaged_segmentation_is_refused(tmp_path: Path) -> None:
    found, grid = on_axial(tmp_path / "ct")
    write_dicom_seg(tmp_path / "a.dcm", some_labels(grid), grid, found, MAKER)
    whole = (tmp_path / "a.dcm").read_bytes()
    for share in (0.2, 0.6, 0.97):
        (tmp_path / "a.dcm").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(UserError, match=r"a\.dcm"):
            read(tmp_path / "a.dcm")


def test_planes_without_end_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    found, grid = on_axial(tmp_path / "ct")
    write_dicom_seg(tmp_path / "a.dcm", some_labels(grid), grid, found, MAKER)
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    for group in dataset.PerFrameFunctionalGroupsSequence:
        place = group.PlanePositionSequence[0]
        place.ImagePositionPatient = decimals([*place.ImagePositionPatient[:2], place.ImagePositionPatient[2] * 2.5e8])
    dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = 2.5
    dataset.save_as(tmp_path / "a.dcm")
    with pytest.raises(UserError, match=r"a\.dcm"):
        read(tmp_path / "a.dcm")
