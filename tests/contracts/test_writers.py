"""What every writer must do: leave what was given, on exactly the input's grid, or leave everything as it was."""

import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from lungseg.errors import UserError
from lungseg.imaging.slices import read_labels, read_stack
from lungseg.imaging.writers import mask_ending, write_mask, write_picture, write_probability

RNG = np.random.default_rng(8)
STACK = RNG.integers(-1000, 1000, (5, 12, 17)).astype(np.int16)
MASK = STACK > 0
PROBABILITY = RNG.random(STACK.shape).astype(np.float32)
ORIENTATIONS = ["LPS", "RAS", "LAS", "RPI", "SLP", "PIR", "ASL"]


def scan(path: Path, orientation: str = "LPS", angle: float = 0.0) -> Path:
    """A volume that holds ``STACK`` in another orientation, its axes oblique by an angle in radians."""
    image = sitk.GetImageFromArray(STACK)
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((-101.25, 20.5, 333.125))
    image.SetDirection((np.cos(angle), -np.sin(angle), 0, np.sin(angle), np.cos(angle), 0, 0, 0, 1))
    sitk.WriteImage(sitk.DICOMOrient(image, orientation), str(path))
    return path


def geometry(path: Path) -> np.ndarray:
    image = sitk.ReadImage(str(path))
    return np.array([*image.GetSize(), *image.GetSpacing(), *image.GetOrigin(), *image.GetDirection()])


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("angle", [0.0, 0.3])
def test_a_volumes_mask_lies_on_the_volumes_grid(orientation: str, angle: float, tmp_path: Path) -> None:
    source = scan(tmp_path / "scan.nii.gz", orientation, angle)
    found = read_stack(source) > 0
    target = tmp_path / "out" / f"scan{mask_ending(source)}"
    write_mask(target, found, like=source)
    np.testing.assert_array_equal(read_labels(target), found)
    np.testing.assert_allclose(geometry(target), geometry(source), atol=1e-6)
    # Voxel by voxel, as any other program sees it that knows nothing of LPS.
    raw, raw_mask = (sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in (source, target))
    np.testing.assert_array_equal(raw_mask == 1, raw > 0)
    assert raw_mask.dtype == np.uint8


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_volumes_probabilities_lie_on_the_volumes_grid(orientation: str, tmp_path: Path) -> None:
    source = scan(tmp_path / "scan.nii", orientation)
    target = tmp_path / "p.nii.gz"
    write_probability(target, PROBABILITY, like=source)
    np.testing.assert_array_equal(read_stack(target), PROBABILITY)
    np.testing.assert_allclose(geometry(target), geometry(source), atol=1e-6)


def test_a_volume_of_one_slice_stays_one(tmp_path: Path) -> None:
    flat = sitk.GetImageFromArray(STACK[0])
    flat.SetSpacing((0.7, 0.8))
    sitk.WriteImage(flat, str(tmp_path / "flat.nii"))
    target = tmp_path / "mask.nii.gz"
    write_mask(target, MASK[:1], like=tmp_path / "flat.nii")
    np.testing.assert_array_equal(read_labels(target), MASK[:1])
    np.testing.assert_allclose(geometry(target), geometry(tmp_path / "flat.nii"), atol=1e-6)


@pytest.mark.parametrize("mask", [MASK[0], MASK[:1]], ids=["slice", "stack of one"])
def test_a_pictures_mask_is_a_png_of_0_and_255(mask: np.ndarray, tmp_path: Path) -> None:
    target = tmp_path / "a ü [1].png"
    write_mask(target, mask)
    with Image.open(target) as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), MASK[0] * np.uint8(255))
    np.testing.assert_array_equal(read_labels(target)[0], MASK[0])


def test_a_pictures_probabilities_keep_16_bits(tmp_path: Path) -> None:
    target = tmp_path / "p.png"
    write_probability(target, PROBABILITY[0])
    assert np.abs(read_stack(target)[0] / 65535 - PROBABILITY[0]).max() <= 0.5 / 65535 + 1e-7
    write_probability(target, np.array([[0.0, 1.0]]))
    assert read_stack(target).tolist() == [[[0, 65535]]]


def test_a_stack_without_geometry_fits_into_npy_only(tmp_path: Path) -> None:
    mask, probability = tmp_path / "m.npy", tmp_path / "p.npy"
    write_mask(mask, MASK)
    write_probability(probability, PROBABILITY)
    assert np.unique(np.load(mask)).tolist() == [0, 255]
    np.testing.assert_array_equal(read_labels(mask), MASK)
    np.testing.assert_allclose(read_stack(probability) / 65535, PROBABILITY, atol=1e-5)
    with pytest.raises(ValueError, match="5 slices"):
        write_mask(tmp_path / "m.png", MASK)
    assert not (tmp_path / "m.png").exists()


@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 3)])
def test_pictures_keep_their_colours(shape: tuple[int, ...], tmp_path: Path) -> None:
    picture = RNG.integers(0, 256, shape).astype(np.uint8)
    write_picture(tmp_path / "a.png", picture)
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(np.asarray(image), picture)


@pytest.mark.parametrize(
    ("source", "ending"),
    [("case.tif", ".png"), ("a.b.PNG", ".png"), ("s.nii.gz", ".nii.gz"), ("s.NII", ".nii.gz"), ("1.2.3", ".png")],
)
def test_a_masks_type_follows_the_images(source: str, ending: str) -> None:
    assert mask_ending(Path("folder") / source) == ending


@pytest.mark.parametrize(("pixels", "ending"), [(STACK, ".npy"), (STACK[:1], ".png"), (STACK[0], ".png")])
def test_an_array_of_several_slices_has_a_mask_of_its_own_type(pixels: np.ndarray, ending: str, tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", pixels)
    assert mask_ending(tmp_path / "s.npy") == ending
    (tmp_path / "s.npy").write_bytes((tmp_path / "s.npy").read_bytes()[:90])
    assert mask_ending(tmp_path / "s.npy") == ".png"  # cut off: its reader says so


WRITERS: dict[str, Callable[[Path, Path], object]] = {
    "mask.png": lambda path, _: write_mask(path, MASK[0]),
    "mask.npy": lambda path, _: write_mask(path, MASK),
    "mask.nii.gz": lambda path, like: write_mask(path, MASK, like),
    "probability.png": lambda path, _: write_probability(path, PROBABILITY[0]),
    "probability.nii.gz": lambda path, like: write_probability(path, PROBABILITY, like),
    "picture.png": lambda path, _: write_picture(path, STACK[0].astype(np.uint8)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_the_same_content_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    like = scan(tmp_path / "like.nii")
    for folder in ("a", "b/c"):  # folders are made
        WRITERS[name](tmp_path / folder / name, like)
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b/c" / name).read_bytes()


@pytest.mark.parametrize("name", WRITERS)
def test_a_failed_write_leaves_everything_as_it_was(name: str, tmp_path: Path) -> None:
    like = scan(tmp_path / "like.nii")
    path = tmp_path / "out" / name
    path.parent.mkdir()
    path.write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40, hard))  # no file may grow further, as on a full disk
    try:
        with pytest.raises(UserError):
            WRITERS[name](path, like)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("name", WRITERS)
def test_an_impossible_folder_is_named(name: str, tmp_path: Path) -> None:
    like = scan(tmp_path / "like.nii")
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match="file"):
        WRITERS[name](tmp_path / "file" / name, like)
