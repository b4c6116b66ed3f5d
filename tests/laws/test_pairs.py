"""Laws of pairing: every image gets its own mask whatever their types, or the user hears of all that is amiss."""

import tempfile
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lungseg.errors import UserError
from lungseg.imaging.layouts import split_folders
from lungseg.imaging.pairs import MASK_SUFFIXES, Pair, common_stem, find_images, pair_files

# Stems that no mark ends or begins, with the characters that path handling tends to trip over.
STEMS = st.text(alphabet="abcABC09 äÉß[](),=%+-_.#'", min_size=1, max_size=8).map(lambda text: f"x{text}9")
FOLDERS = st.sampled_from([".", "p1", "P 2/sub"])
KINDS = st.sampled_from([".png", ".TIF", ".nii.gz", ".npy", ".jpg"])
MARKS = st.sampled_from(["", *MASK_SUFFIXES])
QUICK = settings(deadline=None, max_examples=40)


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


@QUICK
@given(
    cases=st.lists(
        st.tuples(FOLDERS, STEMS, KINDS, KINDS, MARKS, st.booleans()),
        min_size=1,
        max_size=6,
        unique_by=lambda case: (case[0].casefold(), unicodedata.normalize("NFC", case[1]).casefold()),
    )
)
def test_every_image_finds_its_mask(cases: list[tuple[str, str, str, str, str, bool]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        expected = []
        for folder, stem, image_kind, mask_kind, mark, shouts in cases:
            mask_stem = stem.upper() if shouts and stem.upper().lower() == stem.lower() else stem
            image, mask = f"{folder}/{stem}{image_kind}", f"{folder}/{mask_stem}{mark}{mask_kind}"
            touch(root / "images", image)
            touch(root / "masks", mask)
            expected.append(Pair(root / "images" / image, root / "masks" / mask))
        assert pair_files(root / "images", root / "masks") == sorted(expected, key=lambda pair: pair.image)


@QUICK
@given(stem=STEMS, kind=KINDS)
def test_a_stem_is_the_name_without_its_image_suffix(stem: str, kind: str) -> None:
    assert common_stem(Path("folder") / (stem + kind)) == stem
    assert common_stem(Path(stem)) == stem


def test_umlauts_match_however_they_are_spelt(tmp_path: Path) -> None:
    touch(tmp_path / "i", unicodedata.normalize("NFC", "Bär.png"))
    touch(tmp_path / "m", unicodedata.normalize("NFD", "Bär_mask.png"))
    assert len(pair_files(tmp_path / "i", tmp_path / "m")) == 1


def test_the_better_fit_wins(tmp_path: Path) -> None:
    touch(tmp_path / "i", "a.png", "A_lung.png")
    touch(tmp_path / "m", "a.tif", "A_lung.tif")
    pairs = pair_files(tmp_path / "i", tmp_path / "m")
    assert [(pair.image.name, pair.mask.name) for pair in pairs] == [("A_lung.png", "A_lung.tif"), ("a.png", "a.tif")]


def test_a_mask_may_be_marked_in_front(tmp_path: Path) -> None:
    touch(tmp_path / "i", "7.png")
    touch(tmp_path / "m", "mask_7.png")
    assert len(pair_files(tmp_path / "i", tmp_path / "m")) == 1


def test_all_files_without_partner_are_named_at_once(tmp_path: Path) -> None:
    touch(tmp_path / "i", "good.png", *(f"p/lone{n:02}.png" for n in range(12)))
    touch(tmp_path / "m", "good.png", "left over.png")
    with pytest.raises(
        UserError, match=r"12 images .*p/lone00\.png.*lone09\.png.*lone11\.png.*1 mask has no image .*left over\.png"
    ) as caught:
        pair_files(tmp_path / "i", tmp_path / "m")
    assert "good" not in str(caught.value)


def test_where_no_file_has_a_partner_some_names_of_both_sides_tell_why(tmp_path: Path) -> None:
    touch(tmp_path / "i", *(f"case{n:02}_ct.png" for n in range(30)))
    touch(tmp_path / "m", *(f"{n:02}.png" for n in range(30)))
    with pytest.raises(UserError, match=r"none of the 30 images .*case09_ct\.png and 20 more.* has a mask in .*00\.png, 01\.png"):
        pair_files(tmp_path / "i", tmp_path / "m")


@pytest.mark.parametrize(
    ("images", "masks", "says"),
    [
        (["a.png"], ["a.png", "a.tif"], r"2 masks \(a\.png, a\.tif\)"),
        (["a.png"], ["a_mask.png", "a_seg.png"], "2 masks"),
        (["a.png", "a.tif"], ["a.png"], r"a\.png, a\.tif .* same stem"),
        (["a.png", "A.png"], ["a_mask.png"], "fits 2 images"),
        ([], ["a.png"], "no image that can be read"),
        (["a.png"], [], "no image that can be read"),
        (["a.png"], ["sub/a.png"], "1 image has no mask"),
    ],
)
def test_what_cannot_be_paired_is_refused(images: list[str], masks: list[str], says: str, tmp_path: Path) -> None:
    for folder, names in (("i", images), ("m", masks)):
        (tmp_path / folder).mkdir()
        touch(tmp_path / folder, "notes.txt", *names)
    with pytest.raises(UserError, match=says):
        pair_files(tmp_path / "i", tmp_path / "m")


def test_only_the_files_given_are_paired(tmp_path: Path) -> None:
    touch(tmp_path / "i", "b.png", "a.png", "out/a.png")
    touch(tmp_path / "m", "a.tif", "b.tif", "notes/a.tif")
    images = [tmp_path / "i" / name for name in ("b.png", "a.png")]
    with pytest.raises(UserError, match=r"1 image has no mask.*1 mask has no image"):
        pair_files(tmp_path / "i", tmp_path / "m")
    pairs = pair_files(tmp_path / "i", tmp_path / "m", images, [tmp_path / "m/a.tif", tmp_path / "m/b.tif"])
    assert [(pair.image.name, pair.mask.name) for pair in pairs] == [("a.png", "a.tif"), ("b.png", "b.tif")]
    with pytest.raises(UserError, match="no image that can be read"):
        pair_files(tmp_path / "i", tmp_path / "m", [])


def test_only_images_are_found(tmp_path: Path) -> None:
    clutter = [".DS_Store", "Thumbs.db", "notes.txt", "._a.png", ".cache/a.png", "__MACOSX/a.png", "README", "DICOMDIR"]
    touch(tmp_path, "b.png", "a/z.nii.gz", *clutter)
    (tmp_path / "folder.png").mkdir()
    assert find_images(tmp_path) == [tmp_path / "a/z.nii.gz", tmp_path / "b.png"]
    with pytest.raises(UserError, match="not a folder"):
        find_images(tmp_path / "missing")


def test_split_folders_are_found_in_any_case(tmp_path: Path) -> None:
    for folder in ("TRAIN/images", "TRAIN/Masks", "other"):
        (tmp_path / folder).mkdir(parents=True)
    train = (tmp_path / "TRAIN/images", tmp_path / "TRAIN/Masks")
    assert split_folders(tmp_path) == {"train": train}
    for folder in ("test/IMAGES", "test/masks"):
        (tmp_path / folder).mkdir(parents=True)
    assert split_folders(tmp_path) == {"train": train, "test": (tmp_path / "test/IMAGES", tmp_path / "test/masks")}


@pytest.mark.parametrize(
    ("folders", "says"),
    [
        ([], "Train/Images, Train/Masks .*but holds no folder"),
        (["Images", "other"], "but holds Images, other"),
        (["Train/Images"], "but holds Train, Train/Images"),
        (["Train/Images", "Train/Masks", "Test/Images"], "Test/Masks .*but holds"),
        (["Train/Images", "train/Masks"], "holds Train and train"),
    ],
)
def test_another_layout_is_shown_with_the_expected_one(folders: list[str], says: str, tmp_path: Path) -> None:
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(UserError, match=says):
        split_folders(tmp_path)


def test_a_root_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.root"):
        split_folders(tmp_path / "missing")
