"""Laws of the folders that people keep scans in: each scan meets its own mask, and nothing else is taken for a scan."""

from pathlib import Path

import pytest

from dicoms import series, write
from lungseg.errors import UserError
from lungseg.imaging.layouts import pair_scans, split_folders
from patients import HU, PLACE


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def paired(root: Path, unpaired: list[str] | None = None) -> dict[str, str]:
    pairs = pair_scans(root / "images", root / "labels", unpaired)
    return {pair.image.relative_to(root / "images").as_posix(): pair.mask.relative_to(root / "labels").as_posix() for pair in pairs}


@pytest.mark.parametrize(
    ("folders", "train", "test"),
    [
        (["images", "labels"], ("images", "labels"), None),
        (["IMAGES", "Masks"], ("IMAGES", "Masks"), None),
        (["Train/images", "Train/labels", "images", "labels"], ("Train/images", "Train/labels"), None),
        (["imagesTr", "labelsTr", "imagesTs"], ("imagesTr", "labelsTr"), None),
        (["imagesTr", "labelsTr", "imagesTs", "labelsTs"], ("imagesTr", "labelsTr"), ("imagesTs", "labelsTs")),
    ],
)
def test_layouts(folders: list[str], train: tuple[str, str], test: tuple[str, str] | None, tmp_path: Path) -> None:
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    found = {part: tuple(path.relative_to(tmp_path).as_posix() for path in pair) for part, pair in split_folders(tmp_path).items()}
    assert found == {"train": train} | ({"test": test} if test else {})


def test_two_folders_of_masks_are_refused(tmp_path: Path) -> None:
    for name in ("images", "labels", "masks"):
        (tmp_path / name).mkdir()
    with pytest.raises(UserError, match="holds masks and labels: keep one of them"):
        split_folders(tmp_path)


def test_volumes_of_any_format_pair_and_pictures_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "images/a_0000.nii.gz", "images/b.nrrd", "images/site/a.mha", "images/a.png", "images/notes.txt")
    touch(tmp_path, "labels/a.nii.gz", "labels/b_mask.mha", "labels/site/a.nii", "labels/b.png")
    assert paired(tmp_path) == {"a_0000.nii.gz": "a.nii.gz", "b.nrrd": "b_mask.mha", "site/a.mha": "site/a.nii"}


def test_a_dicom_folder_is_a_scan_by_the_name_that_its_mask_has(tmp_path: Path) -> None:
    images = tmp_path / "images"
    few = series(HU[:2], PLACE, seed="x")
    for name in ("p1", "p2/study/ct", "site/p3/1", "site/p3/2", "plain"):
        write(images / name, few)
    for slice_ in (images / "plain").iterdir():
        slice_.rename(slice_.with_suffix(""))
    touch(tmp_path, "images/p4.nii.gz")
    touch(tmp_path, *(f"labels/{name}" for name in ("p1.nii.gz", "P2.nrrd", "site/p3.mha", "p4.nii.gz", "plain.nii.gz")))
    assert paired(tmp_path) == {
        "p1": "p1.nii.gz", "p2": "P2.nrrd", "p4.nii.gz": "p4.nii.gz", "plain": "plain.nii.gz", "site/p3": "site/p3.mha",
    }  # fmt: skip


def test_one_dicom_file_of_many_frames_is_a_scan_by_its_stem(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.dcm", "images/b.dcm", "labels/a.nrrd", "labels/b.nrrd")
    assert paired(tmp_path) == {"a.dcm": "a.nrrd", "b.dcm": "b.nrrd"}


def test_linked_folders_are_followed_for_images_as_for_masks_and_links_to_themselves_end(tmp_path: Path) -> None:
    touch(tmp_path / "far", "images/a.nii.gz", "masks/a.nrrd")
    write(tmp_path / "far" / "images" / "p1" / "ct", series(HU[:2], PLACE))
    touch(tmp_path, "far/masks/p1.nii.gz", "images/b.nii", "labels/b.mha")
    for ours, theirs in (("images", "images"), ("labels", "masks")):
        (tmp_path / ours / "site").symlink_to(tmp_path / "far" / theirs)
        for loop, target in (("self", ours), ("site/self", ours), ("up", ".")):
            (tmp_path / ours / loop).symlink_to(tmp_path / target)
    expected = {"b.nii": "b.mha", "site/a.nii.gz": "site/a.nrrd", "site/p1": "site/p1.nii.gz"}
    assert paired(tmp_path) == expected
    (tmp_path / "far" / "masks" / "a.nrrd").unlink()
    with pytest.raises(UserError, match=r"1 image has no mask in .*\(site/a\.nii\.gz\): give"):
        paired(tmp_path)


def test_scans_without_a_mask_are_named(tmp_path: Path) -> None:
    write(tmp_path / "images" / "p1" / "ct", series(HU[:2], PLACE))
    touch(tmp_path, "images/p2.nii.gz", "labels/p2.nii.gz", "labels/p3.nii.gz")
    with pytest.raises(UserError, match=r"1 image has no mask in .*\(p1/ct\) and 1 mask has no image in .*\(p3\.nii\.gz\)"):
        paired(tmp_path)
    told: list[str] = []
    assert paired(tmp_path, told) == {"p2.nii.gz": "p2.nii.gz"}
    assert len(told) == 1
