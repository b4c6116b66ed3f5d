"""Laws of the sources: every image meets its own mask, whatever the files are called and made of."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import chest, write_slice
from lungseg.data.cache import in_memory
from lungseg.data.sources import FolderSource, ManifestSource, PhantomSource
from lungseg.errors import UserError
from lungseg.labels import IGNORE, LUNG
from lungseg.preprocess import Preprocess

ODD_NAMES = ["p1 [a], b=c.png", "Pät'ient 2.tif", "p3.v2.final.bmp", "100%_p4.PNG"]


def write_volume(images: Path, masks: Path, name: str, planes: int = 3) -> None:
    for folder, values in ((images, 0), (masks, 1)):
        stack = np.stack([chest(64, seed)[values] for seed in range(planes)])
        folder.mkdir(parents=True, exist_ok=True)
        image = sitk.GetImageFromArray(stack.astype(np.int16 if values == 0 else np.uint8))
        image.SetSpacing((0.7, 0.7, 5.0))
        sitk.WriteImage(image, str(folder / name))


def test_a_folder_of_odd_names_and_mixed_files(tmp_path: Path) -> None:
    images, masks = tmp_path / "TRAIN" / "images", tmp_path / "TRAIN" / "Masks"
    for seed, name in enumerate(ODD_NAMES):
        write_slice(images, masks, name, seed)
    np.save(images / "p5.npy", chest(64, 5)[0])
    write_slice(tmp_path / "elsewhere", masks, "p5.png", 5)
    write_volume(images, masks, "p6.nii.gz")
    split = FolderSource(str(tmp_path), val_patients=["train/p5.npy"]).split()
    assert [case.name for case in split.val] == ["train/p5.npy"]
    assert {case.name for case in split.train} == {f"train/{name}" for name in [*ODD_NAMES, "p6.nii.gz"]}
    assert split.test == ()
    cache = in_memory([*split.train, *split.val], Preprocess(64), keep_truth=True)
    for i, info in enumerate(cache.infos):
        seed = 5 if "npy" in info.name else int(info.name[-1]) if "#" in info.name else ODD_NAMES.index(info.name[6:])
        image, labels = chest(64, seed)
        np.testing.assert_array_equal(cache.truth(i), labels)
        assert np.corrcoef(cache.image(i).ravel(), image.ravel())[0, 1] > 0.999
    assert [info.name[-2:] for info in cache.infos if "#" in info.name] == ["#0", "#1", "#2"]


def test_the_patients_of_a_folder(dataset: Path) -> None:
    for pattern in (r"(p\d+)_", r"p\d+", r"^([^_]+)"):
        split = FolderSource(str(dataset), pattern, val_patients=["p02"]).split()
        assert {case.patient for case in split.train} == {"p01", "p03"}
        assert [case.name for case in split.val] == ["train/p02_a.png", "train/p02_b.tif"]
        assert {case.patient for case in split.test} == {"p04"}


def test_a_folder_without_known_patients_is_split_by_image_with_a_warning(dataset: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "lungseg"):
        split = FolderSource(str(dataset), val_fraction=0.25).split()
    assert (len(split.train), len(split.val), len(split.test)) == (6, 2, 2)
    assert "data.patient_regex" in caplog.text


def test_known_patients_need_no_warning(dataset: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "lungseg"):
        FolderSource(str(dataset), r"p\d+").split()
    assert not caplog.records


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (r"(p\d+", "is no regular expression"),
        (r"ID_(\d+)", r"finds no patient in 'p01_a'"),
        (r"(z)|p", "finds no patient"),
        ("z*", "finds no patient"),
    ],
)
def test_a_pattern_that_finds_no_patient_is_refused(pattern: str, said: str, dataset: Path) -> None:
    with pytest.raises(UserError, match=said):
        FolderSource(str(dataset), pattern).split()


def test_a_patient_in_train_and_test_stops_the_run(dataset: Path) -> None:
    write_slice(dataset / "Test" / "Images", dataset / "Test" / "Masks", "p01_z.png", 7)
    with pytest.raises(UserError, match=r"both in (train|val) and in test \(p01\)"):
        FolderSource(str(dataset), r"p\d+").split()


def test_named_values_of_a_mask_are_lung_or_ignored(tmp_path: Path) -> None:
    folders = [tmp_path / "Train" / "Images", tmp_path / "Train" / "Masks"]
    for name in ("a", "b"):
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            np.save(folder / f"{name}.npy", np.arange(16, dtype=np.float32).reshape(4, 4) % 4)
    split = FolderSource(str(tmp_path), mask_values=[1, 2], ignore_values=[3]).split()
    labels = split.train[0].read().labels
    np.testing.assert_array_equal(labels, np.tile(np.array([0, LUNG, LUNG, IGNORE], np.uint8), (1, 4, 1)))


def test_an_image_and_a_mask_of_two_sizes_are_refused(dataset: Path) -> None:
    np.save(dataset / "Train" / "Images" / "p01_z.npy", np.zeros((64, 32), np.float32))
    write_slice(dataset / "elsewhere", dataset / "Train" / "Masks", "p01_z.png", 0)
    split = FolderSource(str(dataset), val_patients=["p02"], patient_regex=r"p\d+").split()
    with pytest.raises(UserError, match=r"p01_z\.png has 64 x 64 pixels but .*p01_z\.npy has 32 x 64: resize the former"):
        in_memory(split.train, Preprocess(32), keep_truth=False)


def manifest(folder: Path, *rows: str, columns: str = "image,mask,patient,split,slope,intercept,source") -> str:
    path = folder / "list.csv"
    path.write_text("\n".join([columns, *rows]), encoding="utf-8")
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for seed, name in enumerate(["a", "b", "c", "d"]):
        write_slice(tmp_path / "i", tmp_path / "m", f"{name}.tif", seed)
    return tmp_path


def test_a_manifest_says_it_all(files: Path) -> None:
    rows = ["i/a.tif,m/a.png,A,train,,,", "i/b.tif,m/b.png,B,TRAIN,2,-5,x", "i/c.tif,m/c.png,C,val,,,", "i/d.tif,m/d.png,D,test,,,"]
    split = ManifestSource(manifest(files, *rows)).split()
    assert [[case.name for case in part] for part in (split.train, split.val, split.test)] == [
        ["train/i/a.tif", "train/i/b.tif"],
        ["val/i/c.tif"],
        ["test/i/d.tif"],
    ]
    assert [(case.patient, case.source) for case in split.train] == [("A", "manifest"), ("B", "x")]
    stored = replace(split.train[1], slope=1.0, intercept=0.0).read().image
    np.testing.assert_array_equal(split.train[1].read().image[:], 2 * stored - 5)
    assert not split.balanced


def test_a_manifest_may_leave_out_what_it_need_not_say(files: Path) -> None:
    """Columns in any order and case, a byte order mark, a blank line, an absolute path; the patient out of the stem."""
    rows = ["m/a.png,i/a.tif", "", f"m/b.png,{files / 'i' / 'b.tif'}", '"m/c.png", i/c.tif']
    path = Path(manifest(files, *rows, columns="\ufeffMask, IMAGE"))
    split = ManifestSource(str(path), patient_regex="[a-c]", val_patients=["b"]).split()
    assert [case.patient for case in split.train] == ["a", "c"]
    assert [case.patient for case in split.val] == ["b"]
    assert in_memory(split.train, Preprocess(32), True).infos[0].shape == (64, 64)


def test_sources_are_balanced_when_asked_for(files: Path) -> None:
    path = manifest(files, "i/a.tif,m/a.png,A,,,,x", "i/b.tif,m/b.png,B,,,,y", "i/c.tif,m/c.png,C,,,,x")
    assert ManifestSource(path, balance="source").split().balanced
    with pytest.raises(UserError, match=r"data\.balance=patient is unknown"):
        ManifestSource(path, balance="patient")


@pytest.mark.parametrize(("slope", "said"), [("3e38", "no finite values with slope 3e"), ("1e-45", "is constant")])
def test_a_scale_that_leaves_no_grey_values_is_refused(slope: str, said: str, files: Path) -> None:
    path = manifest(files, f"i/a.tif,m/a.png,A,train,{slope},5,", "i/b.tif,m/b.png,B,val,,,")
    with pytest.raises(UserError, match=rf"a\.tif .*{said}"):
        ManifestSource(path).split().train[0].read()


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("i/none.tif,m/a.png,A,train,,,", "the image 'i/none.tif' is no file"),
        ("i/a.tif,,A,train,,,", "the mask '' is no file"),
        ("i/a.tif,m,A,train,,,", "the mask 'm' is no file"),
        ("i/a.tif,m/a.png,A,training,,,", "split 'training' is unknown"),
        ("i/a.tif,m/a.png,A,train,two,,", "slope and intercept must be numbers"),
        ("i/a.tif,m/a.png,A,train,nan,,", "slope nan"),
        ("i/a.tif,m/a.png,A,train,0,,", "slope 0"),
        ("i/a.tif,m/a.png,A,train,1,inf,", "intercept inf"),
        ("i/d.tif,m/d.png,A,test,,,", r"i/d\.tif is in train already"),
    ],
)
def test_a_bad_row_is_named_by_its_line(row: str, said: str, files: Path) -> None:
    path = manifest(files, "i/d.tif,m/d.png,D,train,,,", "", row)
    with pytest.raises(UserError, match=rf"list\.csv line 4: .*{said}"):
        ManifestSource(path).split()


def test_what_stands_in_a_row_is_shown_as_one_short_line(files: Path) -> None:
    for cell in ("x" * 5000, "a\0b", "\x1b[31m", "n\u2028l"):
        for row in (f"{cell},m/a.png,A,train,,,", f"i/a.tif,m/a.png,A,{cell},,,", f"i/a.tif,m/a.png,A,train,{cell},,"):
            with pytest.raises(UserError, match=r"list\.csv line 2: ") as caught:
                ManifestSource(manifest(files, row)).split()
            assert str(caught.value).isprintable()
            assert len(str(caught.value)) < 600
    with pytest.raises(UserError, match=r"unknown column spl\?it: "):
        ManifestSource(manifest(files, columns="image,mask,spl\0it")).split()


@pytest.mark.parametrize(
    ("columns", "said"),
    [("image,patient", "lacks mask"), ("image,mask,patiant", "unknown column patiant"), ("", "lacks image, mask")],
)
def test_bad_columns_are_named(columns: str, said: str, files: Path) -> None:
    with pytest.raises(UserError, match=said):
        ManifestSource(manifest(files, columns=columns)).split()


def test_a_manifest_that_cannot_be_read_is_named(files: Path) -> None:
    (files / "latin.csv").write_bytes("image,mask\nä.png,m.png".encode("latin-1"))
    for name in ("missing.csv", "i", "latin.csv"):
        with pytest.raises(UserError, match=f"{name} cannot be read as a CSV file"):
            ManifestSource(str(files / name)).split()
    with pytest.raises(UserError, match="no row with split train"):
        ManifestSource(manifest(files, "i/a.tif,m/a.png,A,test,,,")).split()


@given(counts=st.tuples(st.integers(1, 300), st.integers(1, 300), st.integers(0, 300)), seed=st.integers(0, 1000))
def test_phantom_parts_share_no_patient_and_stay_when_one_grows(counts: tuple[int, int, int], seed: int) -> None:
    split, larger = PhantomSource(*counts, seed=seed).split(), PhantomSource(counts[0] + 50, *counts[1:], seed=seed).split()
    assert (len(split.train), len(split.val), len(split.test)) == counts
    assert len({case.patient for case in (*split.train, *split.val, *split.test)}) == sum(counts)
    assert all(case.patient != case.name for case in split.train)  # as a table would say that nobody knows the patient
    assert larger.train[: counts[0]] == split.train
    assert (larger.val, larger.test) == (split.val, split.test)
    other = PhantomSource(*counts, seed=seed + 1).split()
    assert not {case.patient for case in split.train} & {case.patient for case in other.train}


@settings(deadline=None, max_examples=3)
@given(train=st.integers(1, 30), val=st.integers(1, 10), seed=st.integers(0, 9), folds=st.integers(2, 6))
def test_folds_of_phantoms_keep_every_patient_of_train_and_val_once(train: int, val: int, seed: int, folds: int) -> None:
    if train + val < folds:
        with pytest.raises(UserError, match=rf"data\.folds={folds} must be at most {train + val}"):
            PhantomSource(train, val, 1, seed=seed, folds=folds).split()
        return
    whole = PhantomSource(train, val, 1, seed=seed).split()
    parts = [PhantomSource(train, val, 1, seed=seed, folds=folds, fold=fold).split() for fold in range(folds)]
    assert sorted(case.name for part in parts for case in part.val) == sorted(case.name for case in (*whole.train, *whole.val))
    assert {part.test for part in parts} == {whole.test}


@given(seed=st.integers(0, 100))
def test_a_phantom_is_a_slice_in_hu_with_its_lungs(seed: int) -> None:
    (case,) = PhantomSource(1, 1, 0, size=64, seed=seed).split().train
    stack = case.read()
    image, labels = stack.image, stack.labels
    assert (image.shape, image.dtype) == ((1, 64, 64), np.float32)
    assert (labels.shape, labels.dtype) == ((1, 64, 64), np.uint8)
    assert image.min() < -900
    assert set(np.unique(labels)) <= {0, LUNG}
    np.testing.assert_array_equal(case.read().image, image)


@pytest.mark.parametrize(
    "wrong",
    [{"train": 0}, {"val": 0}, {"test": -1}, {"size": 16}, {"seed": -1}, {"folds": 1}, {"fold": 2}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_number_of_phantoms_out_of_range_is_named(wrong: dict[str, int]) -> None:
    with pytest.raises(UserError, match=rf"data\.{next(iter(wrong))}"):
        PhantomSource(**wrong)
