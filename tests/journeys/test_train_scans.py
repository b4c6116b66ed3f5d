"""Journeys of whole scans as training data: any format and orientation in, 3-D scores out that prediction repeats."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from helpers import SMALL, Done, lungseg, metrics_of, table, train
from moments import before_each_file
from processes import finished

from dicoms import Place, series, write
from lungseg.data.phantom import phantom_volume

FEW = (*SMALL, "augmentation=none", "optimization.lr=0.02", "loader.batch_size=3", "logger=csv")
SHAPE = (20, 56, 56)
# How each scan of the set is stored: image, its orientation, mask, its orientation, and what is added to its HU.
SCANS = {
    "train": [
        ("p1.nii.gz", "LPS", "p1.nii.gz", "LPS", 0),
        ("p2.nrrd", "RAI", "p2_mask.mha", "LPS", 0),
        ("p3.mha", "PIR", "p3.nrrd", "ASL", 1024),
        ("p4", "DICOM", "p4.nii.gz", "RPI", 0),
    ],
    "test": [("p5.nii", "ASR", "p5.nii.gz", "LPS", 0), ("p6.nii.gz", "LPS", "p6.nii.gz", "RAI", 0)],
}


def save(path: Path, voxels: np.ndarray, spacing_mm: tuple[float, ...], way: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = sitk.GetImageFromArray(voxels)
    made.SetSpacing(spacing_mm[::-1])
    made.SetOrigin((-100.0, -90.0, -250.0))
    sitk.WriteImage(sitk.DICOMOrient(made, way), str(path))


@pytest.fixture(scope="session")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``Train/Images Train/Masks Test/Images Test/Masks`` with 4 and 2 generated scans."""
    root = tmp_path_factory.mktemp("scans")
    for part, stored in SCANS.items():
        for image, way, mask, mask_way, offset in stored:
            patient = phantom_volume(int(image[1]), SHAPE)
            spacing = tuple(round(mm * 4) / 4 for mm in patient.spacing_mm)  # exact in every format
            hu = patient.voxels_hu.clip(-1024).round().astype(np.int16)
            if way == "DICOM":
                place = Place(origin_mm=(-100.0, -90.0, -250.0), pixel_mm=spacing[1:], step_mm=spacing[0])
                write(root / part / "Images" / image / "study" / "ct", series(hu, place))
            else:
                save(root / part / "Images" / image, (hu + offset).astype(np.int16), spacing, way)
            save(root / part / "Masks" / mask, patient.sides, spacing, mask_way)
    return root


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def run(scans: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    folder = tmp_path_factory.mktemp("run") / "run"
    done = train(folder, "data=volumes", f"data.root={scans}", f"loader.cache_folder={cache}", *FEW, "trainer.max_epochs=4")
    return folder, done


def test_scans_of_all_formats_are_learnt(run: tuple[Path, Done], scans: Path) -> None:
    folder, done = run
    assert done.err == ""
    assert "6 built" in done.out
    assert "60 training, 20 validation, 40 test slices" in done.out
    assert "Warning: train/p3.mha: grey values are HU with an offset: taken as value - 1024" in done.out
    assert done.out.count("Warning: ") == 1, done.out
    split = json.loads((folder / "split.json").read_text())
    assert sorted(case["patient"] for case in (*split["train"], *split["val"])) == ["p1", "p2", "p3", "p4"]
    assert [case["name"] for case in split["test"]] == ["test/p5.nii", "test/p6.nii.gz"]
    images = table(folder / "test_images.csv")
    assert len(images) == 40
    assert {row["patient"] for row in images} == {"p5", "p6"}
    assert any(row["hd95_mm"] for row in images)
    assert "hd95_px" not in images[0]
    for row in table(folder / "test_volumes.csv"):
        assert row["patient"] == Path(row["scan"]).name.partition(".")[0]
        assert float(row["hd95_3d_mm"]) >= float(row["assd_3d_mm"]) > 0
        assert 0 < float(row["nsd_3d"]) < 1


def test_nothing_is_written_among_the_scans(run: tuple[Path, Done], scans: Path) -> None:
    stored = {name for part in SCANS.values() for image, _, mask, *_ in part for name in (image, mask)}
    found = {path.name for path in scans.glob("*/*/*")}
    assert found == stored


def test_each_scan_is_judged_in_3d_as_prediction_judges_it(run: tuple[Path, Done], scans: Path, tmp_path: Path) -> None:
    folder, done = run
    ckpt = f"ckpt={folder / 'checkpoints' / 'best.ckpt'}"
    (validated,) = table(folder / "val_volumes.csv")
    part, name = validated["scan"].split("/")
    rows = {Path(row["scan"]).name: row for row in (*table(folder / "test_volumes.csv"), validated)}
    for key, words in (("", ()), ("_network", ("postprocess=false",))):
        for source, truth in ((scans / "test" / "Images", scans / "test" / "Masks"), validated_files(scans, name)):
            out = tmp_path / f"{source.name}{key}"
            predicted = lungseg("predict", ckpt, f"input={source}", f"truth={truth}", f"output={out}", *words)
            assert predicted.code == 0, predicted
            for row in table(out / "summary.csv"):
                own = rows[row["file"]]
                assert float(own[f"dice_3d{key}"]) == pytest.approx(float(row["dice_3d"]), abs=2e-4)
                assert float(own[f"iou_3d{key}"]) == pytest.approx(float(row["iou_3d"]), abs=2e-4)
    assert all(float(row["dice_3d"]) > 0.6 for row in rows.values()), rows  # or there would be little to agree on
    assert any(row["dice_3d"] != row["dice_3d_network"] for row in rows.values())
    metrics = metrics_of(folder)
    mean = sum(float(row["dice_3d"]) for row in table(folder / "test_volumes.csv")) / 2
    assert metrics["test/dice_3d"] == pytest.approx(mean, abs=1e-5)
    assert metrics["val/dice_3d"] == pytest.approx(float(validated["dice_3d"]), abs=1e-5)
    assert "Judging 1 val scan in 3-D." in done.out
    assert "Judging 2 test scans in 3-D." in done.out
    assert f"test/dice_3d {mean:.4f}" in done.out
    assert "scans in 3-D" in done.out
    assert f"{part}/{name}" in done.out


def validated_files(scans: Path, name: str) -> tuple[Path, Path]:
    mask = next(mask for image, _, mask, *_ in SCANS["train"] if image == name)
    return scans / "train" / "Images" / name, scans / "train" / "Masks" / mask


def test_slices_without_lung_count_as_everywhere(run: tuple[Path, Done]) -> None:
    """They are learnt from and left out of the means; false lung in them is counted."""
    folder, _ = run
    images, metrics = table(folder / "test_images.csv"), metrics_of(folder)
    empty = [row for row in images if row["iou"] == ""]
    assert 4 <= len(empty) <= 30
    false_lung = [float(row["false_lung_pixels"]) for row in empty]
    assert metrics["test/false_lung_images"] == sum(count > 0 for count in false_lung)
    assert metrics["test/false_lung_pixels_max"] == max(false_lung)
    scored = [float(row["iou"]) for row in images if row["iou"]]
    assert metrics["test/iou"] == pytest.approx(sum(scored) / len(scored), abs=1e-5)
    scans = table(folder / "test_volumes.csv")
    assert sum(int(row["slices"]) - int(row["slices_with_lung"]) for row in scans) == len(empty)


def test_the_next_run_reads_nothing_and_finds_the_same(run: tuple[Path, Done], scans: Path, cache: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_size for path in cache.rglob("slices")}
    rows = ["image,mask,split"]  # by a manifest, which names the same files
    for part, stored in SCANS.items():
        rows += [f"{scans / part / 'Images' / image},{scans / part / 'Masks' / mask},{part}" for image, _, mask, *_ in stored]
    manifest = tmp_path / "list.csv"
    manifest.write_text("\n".join(rows), encoding="utf-8")
    words = ("trainer.max_epochs=1", "test=never", f"loader.cache_folder={cache}")
    done = train(tmp_path / "again", "data=volumes", f"data.manifest={manifest}", *FEW, *words)
    assert "built" not in done.out
    assert "Warning: train/" in done.out  # what was said of a scan is said again
    assert {path: path.stat().st_size for path in cache.rglob("slices")} == before
    assert (tmp_path / "again" / "val_volumes.csv").is_file()
    assert not (tmp_path / "again" / "test_volumes.csv").exists()


def test_scans_can_be_checked(scans: Path, tmp_path: Path) -> None:
    done = lungseg("check", "data=volumes", f"data.root={scans}", f"output={tmp_path / 'out'}")
    assert done.code == 0, done.out
    found = json.loads((tmp_path / "out" / "check.json").read_text())
    assert {(part["part"], part["files"], part["patients"]) for part in found["parts"]} == {("train", 4, 4), ("test", 2, 2)}
    assert {pair["grey_kind"] for pair in found["pairs"]} == {"HU", "HU with an offset"}
    assert f"lungseg train data=volumes data.root={scans}" in done.out


def test_a_scan_that_is_gone_when_it_is_to_be_judged_costs_nothing_else(scans: Path, tmp_path: Path) -> None:
    root, folder = shutil.copytree(scans, tmp_path / "data"), tmp_path / "run"
    early: dict[str, float] = {}

    def mishaps(file: Path) -> None:
        if file.name == "test_images.csv":  # all is learnt, and no scan judged yet
            (validated,) = json.loads((folder / "split.json").read_text())["val"]
            validated_files(root, Path(validated["name"]).name)[0].rename(tmp_path / "elsewhere")
            for other, kept in (("Images", slice(3, None)), ("Masks", slice(-3))):  # replaced by a shorter scan
                path = root / "test" / other / "p6.nii.gz"
                sitk.WriteImage(sitk.ReadImage(str(path))[:, :, kept], str(path))
        if file.name == "val_volumes.csv":
            early.update(metrics_of(folder))

    words = ("data=volumes", f"data.root={root}", f"loader.cache_folder={tmp_path / 'cache'}", *FEW, "trainer.max_epochs=1")
    with before_each_file(mishaps):
        done = train(folder, *words)
    whole, cut = table(folder / "test_volumes.csv")
    (gone,) = table(folder / "val_volumes.csv")
    said = f"Warning: {gone['scan']} has the figures of the network's own mask alone, as it cannot be read again: {root}"
    assert said in done.out
    assert "Warning: test/p6.nii.gz has the figures of the network's own mask alone" in done.out
    assert "it has the shape (17, 56, 56) now, and had (20, 56, 56)." in done.out
    assert [bool(row["dice_3d"]) for row in (whole, cut, gone)] == [True, False, False]
    assert [bool(row["dice_3d_network"]) for row in (whole, cut, gone)] == [True, True, True]
    metrics = metrics_of(folder)
    assert metrics["test/dice_3d"] == pytest.approx(float(whole["dice_3d"]), abs=1e-5)
    assert metrics["val/dice_3d_network"] == pytest.approx(float(gone["dice_3d_network"]), abs=1e-5)
    assert "val/dice_3d" not in metrics
    assert {"val/iou", "test/iou"} <= early.keys()  # they were safe before
    assert early.items() <= metrics.items()


@pytest.mark.slow
def test_ranks_judge_scans_as_one_process_does(scans: Path, tmp_path: Path) -> None:
    """Three scans for two ranks; what one reads the other finds."""
    words = ("data=volumes", f"data.root={scans}", f"loader.cache_folder={tmp_path / 'cache'}", *FEW, "data.val_fraction=0.75")
    command = ("train", *words, "trainer.max_epochs=2", "trainer.devices=2", "hydra.run.dir=both")
    done = finished(tmp_path, *command)
    assert done.returncode == 0, done.stderr
    start = f"init_ckpt={tmp_path / 'both' / 'checkpoints' / 'best.ckpt'}"
    alone = train(tmp_path / "alone", *words, "trainer.max_epochs=0", start)
    assert "built" not in alone.out
    for part, count in (("val", 3), ("test", 2)):
        both, one = (table(tmp_path / name / f"{part}_volumes.csv") for name in ("both", "alone"))
        assert both == one
        assert len(both) == count
    assert metrics_of(tmp_path / "both")["val/dice_3d"] == pytest.approx(metrics_of(tmp_path / "alone")["val/dice_3d"], abs=1e-9)


@pytest.mark.slow
def test_the_best_job_of_a_sweep_is_judged_in_3d(scans: Path, cache: Path, tmp_path: Path) -> None:
    words = ("data=volumes", f"data.root={scans}", f"loader.cache_folder={cache}", *FEW, "trainer.max_epochs=1", "seed=0,1")
    done = lungseg("train", "--multirun", *words, f"hydra.sweep.dir={tmp_path}")
    assert done.code == 0, done.out + done.err
    assert len(list(tmp_path.glob("*/val_volumes.csv"))) == 2
    (tested,) = tmp_path.glob("*/test_volumes.csv")
    assert "test/dice_3d" in metrics_of(tested.parent)


def test_a_mask_of_another_scan_is_named_before_anything_is_learnt(scans: Path, tmp_path: Path) -> None:
    rows = [("p1.nii.gz", "p1.nii.gz"), ("p2.nrrd", "p3.nrrd")]
    with (tmp_path / "list.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "mask"))
        writer.writerows((scans / "train" / "Images" / image, scans / "train" / "Masks" / mask) for image, mask in rows)
    words = (f"data.manifest={tmp_path / 'list.csv'}", f"loader.cache_folder={tmp_path}", f"hydra.run.dir={tmp_path / 'run'}")
    done = lungseg("train", "data=volumes", *words, *FEW)
    assert done.code == 2
    assert done.err.startswith("Error: ")
    assert "p3.nrrd" in done.err
    assert len(done.err.splitlines()) == 1
