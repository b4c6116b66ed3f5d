"""Journeys of prediction: a checkpoint and images in, masks and one summary out."""

import json
import os
import resource
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from helpers import assert_refused, files, lungseg, predict, read_png, table, write_png
from numpy.typing import NDArray
from scipy.special import expit

from builders import chest, write_slice
from lungseg import Segmenter, checkpoint
from lungseg.errors import UserError
from lungseg.imaging.slices import read_stack
from lungseg.inference.cohort import segment
from lungseg.inference.items import Extras, Result, Source, items
from lungseg.preprocess import Preprocess


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three slices, one of them in a sub-folder; their true masks lie in ``truth`` beside."""
    folder = tmp_path / "images"
    for seed, name in enumerate(("a.png", "b.tif")):
        write_slice(folder, tmp_path / "truth", name, seed)
    write_slice(folder / "sub", tmp_path / "truth" / "sub", "c.png", seed=2)
    return folder


@pytest.fixture
def window_file(checkpoint_file: Path, tmp_path: Path) -> Path:
    """The same network, trained on HU."""
    stored, path = checkpoint.load(checkpoint_file), tmp_path / "window.ckpt"
    preprocess = Preprocess(size=64, normalisation="window")
    checkpoint.save(path, checkpoint.Checkpoint(stored.net, stored.weights, preprocess, metrics=stored.metrics))
    return path


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def masks(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files(folder) if not name.endswith((".csv", ".json", ".html"))}


def test_one_file_gives_one_mask_of_its_size(checkpoint_file: Path, images: Path, tmp_path: Path) -> None:
    write_png(images / "wide.png", np.arange(50 * 70, dtype=np.uint8).reshape(50, 70))
    done = predict(checkpoint_file, images / "wide.png", tmp_path / "out")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("1 file, cpu\n")
    assert f"1 mask and summary.csv are in {tmp_path / 'out'}.\n" in done.out
    assert files(tmp_path / "out") == {"wide.png", "summary.csv", "run.json"}
    mask = read_png(tmp_path / "out" / "wide.png")
    assert (mask.shape, mask.dtype) == ((50, 70), np.uint8)
    assert set(np.unique(mask)) <= {0, 255}


def test_a_folder_is_mirrored(checkpoint_file: Path, images: Path, tmp_path: Path) -> None:
    done = predict(checkpoint_file, images, tmp_path / "out")
    assert done.code == 0
    assert files(tmp_path / "out") == {"a.png", "b.png", "sub/c.png", "summary.csv", "run.json", "report.html"}
    rows = table(tmp_path / "out" / "summary.csv")
    assert list(rows[0]) == ["file", "status", "lung_fraction", "seconds", "warnings", "error"]
    assert [row["file"] for row in rows] == ["a.png", "b.tif", "sub/c.png"]
    for row, name in zip(rows, ("a.png", "b.png", "sub/c.png"), strict=True):
        mask = read_png(tmp_path / "out" / name)
        assert float(row["lung_fraction"]) == pytest.approx((mask > 0).mean(), abs=1e-5)
        assert float(row["seconds"]) > 0
        assert ("no lung found" in row["warnings"]) == (not mask.any())
    assert "3 files, cpu" in done.out
    assert f"3 masks and summary.csv are in {tmp_path / 'out'}" in done.out


def test_the_python_interface_gives_the_same_mask(checkpoint_file: Path, images: Path, tmp_path: Path) -> None:
    predict(checkpoint_file, images, tmp_path / "out")
    segmenter = Segmenter.load(str(checkpoint_file))
    for name, mask in (("a.png", "a.png"), ("b.tif", "b.png")):
        found = segmenter(images / name)
        assert (found.dtype, found.shape) == (np.bool_, (64, 64))
        np.testing.assert_array_equal(found, read_png(tmp_path / "out" / mask) > 0)
        np.testing.assert_array_equal(found, segmenter(str(images / name)))
        np.testing.assert_array_equal(found, segmenter(read_stack(images / name)[0]))
        np.testing.assert_array_equal(found[None], segmenter(read_stack(images / name)))


@pytest.mark.parametrize(
    ("array", "part"),
    [
        (np.zeros(5), r"\(5,\)"),
        (np.zeros((2, 3, 4, 5)), "no slice"),
        (np.zeros((0, 5)), r"\(0, 5\)"),
        (np.zeros((32, 32, 3)), "channels last"),
        (np.full((32, 32), np.nan), "nan"),
        (np.full((32, 32), np.inf), "infinite"),
    ],
)
def test_arrays_that_are_no_slices_are_refused(array: NDArray[np.float64], part: str, checkpoint_file: Path) -> None:
    with pytest.raises(UserError, match=part):
        Segmenter.load(checkpoint_file)(array)


def test_equal_stems_do_not_overwrite_each_other(checkpoint_file: Path, tmp_path: Path) -> None:
    for seed, name in enumerate(("a.png", "a.tif", "A.bmp", "b.png")):
        write_slice(tmp_path / "images", tmp_path / "truth", name, seed)
    assert predict(checkpoint_file, tmp_path / "images", tmp_path / "out").code == 0
    assert files(tmp_path / "out") == {"a.png.png", "a.tif.png", "A.bmp.png", "b.png", "summary.csv", "run.json", "report.html"}
    segmenter = Segmenter.load(checkpoint_file)
    for name in ("a.png", "a.tif", "A.bmp"):
        mask = read_png(tmp_path / "out" / f"{name}.png")
        np.testing.assert_array_equal(segmenter(tmp_path / "images" / name), mask > 0)


def test_no_two_files_share_a_result(checkpoint_file: Path, images: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "many", tmp_path / "out"
    names = ("a.png", "A.tif", "a.png.bmp", "B.png", "b.bmp", "overlays/d.png.overlay.png", "probabilities/d.png.probability.tif")
    for seed, name in enumerate((*names, "d.png", "e.png/f.tif", "e.bmp")):
        write_slice(folder, tmp_path / "truth", name, seed)
    volume = sitk.GetImageFromArray(chest(64)[0][None].round().astype(np.int16))
    for name in ("a.nii.gz", "p.v1.nii", "p.v1.nii.gz"):
        sitk.WriteImage(volume, str(folder / name))
    done = predict(checkpoint_file, folder, out, "overlays=true", "probabilities=true")
    assert done.code == 0, done.out
    count = len(table(out / "summary.csv"))
    assert count == 13
    written = files(out) - {"summary.csv", "run.json", "measurements.csv", "measurements.json", "report.html"}
    assert len({name.casefold() for name in written}) == len(written) == 3 * count
    assert {"a.png.png", "A.tif.png", "a.png.bmp.png", "a.nii.gz", "p.v1.nii.nii.gz", "p.v1.nii.gz.nii.gz"} <= written
    assert {"overlays/a.nii.gz.overlay.png", "overlays/a.png.png.overlay.png"} <= written
    segmenter = Segmenter.load(checkpoint_file)
    for item in items([Source(name, folder / name) for name in sorted(files(folder))], out):
        found = segmenter(item.image)
        np.testing.assert_array_equal(found.squeeze() > 0, read_stack(item.mask).squeeze() > 0, err_msg=item.name)


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems do not hold both names")
def test_names_that_differ_in_case_only_stay_apart(checkpoint_file: Path, tmp_path: Path) -> None:
    for seed, name in enumerate(("a.png", "A.png", "A.PNG")):
        write_slice(tmp_path / "images", tmp_path / "truth", name, seed)
    assert predict(checkpoint_file, tmp_path / "images", tmp_path / "out").code == 0
    assert len({name.casefold() for name in files(tmp_path / "out")}) == 6


def test_an_array_of_slices_gives_an_array_of_masks(checkpoint_file: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "images", tmp_path / "out"
    folder.mkdir()
    stack = np.stack([chest(64, seed)[0][:50] for seed in range(3)])
    np.save(folder / "stack.npy", stack)
    np.save(folder / "one.npy", stack[:1])
    done = predict(checkpoint_file, folder, out, "probabilities=true", "threshold=0.45")
    assert done.code == 0, done.out
    probabilities = {"probabilities/stack.npy.probability.npy", "probabilities/one.png.probability.png"}
    assert files(out) == {"stack.npy", "one.png", "summary.csv", "run.json", "report.html"} | probabilities
    mask = np.load(out / "stack.npy")
    assert (mask.dtype, set(np.unique(mask))) == (np.uint8, {0, 255})
    np.testing.assert_array_equal(mask > 0, Segmenter.load(checkpoint_file, threshold=0.45)(stack))
    np.testing.assert_array_equal(mask[0], read_png(out / "one.png"))


def test_results_are_replaced_only_when_told_so(checkpoint_file: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(checkpoint_file, images, out)
    before = masks(out)
    assert_refused(predict(checkpoint_file, images, out, "threshold=0.99"), "is not empty", "overwrite=true")
    assert masks(out) == before
    assert predict(checkpoint_file, images, out, "threshold=0.99", "overwrite=true").code == 0
    assert masks(out) != before


def test_masks_never_replace_images(checkpoint_file: Path, images: Path, tmp_path: Path) -> None:
    before = masks(images)
    assert_refused(predict(checkpoint_file, images, images, "overwrite=true"), "must not replace")
    assert_refused(predict(checkpoint_file, images, tmp_path / "sub" / ".." / "images", "overwrite=true"), "must not replace")
    truth = tmp_path / "truth"
    assert_refused(predict(checkpoint_file, images, truth, f"truth={truth}", "overwrite=true"), "must not replace")
    assert_refused(predict(checkpoint_file, images / "a.png", images, "overwrite=true"), "must not replace")
    assert masks(images) == before
    np.save(images / "stack.npy", np.stack([chest(64, seed)[0] for seed in range(3)]))
    write_slice(images, truth, "b.png", seed=3)
    before = masks(images)
    for name in ("stack.npy", "b.tif"):  # the one would replace itself, the other its neighbour
        assert_refused(predict(checkpoint_file, images / name, images, "overwrite=true"), "must not replace")
    for name in ("a.png", "stack.npy"):
        (tmp_path / "links").mkdir(exist_ok=True)
        (tmp_path / "links" / name).symlink_to(images / name)
        assert_refused(predict(checkpoint_file, tmp_path / "links", images, "overwrite=true"), name, "must not replace")
        (tmp_path / "links" / name).unlink()
    assert masks(images) == before


def test_masks_never_replace_true_masks(checkpoint_file: Path, images: Path, tmp_path: Path) -> None:
    truth, out = tmp_path / "truth", tmp_path / "out"
    before = masks(truth)
    one = (images / "a.png", truth, f"truth={truth / 'a.png'}")
    assert_refused(predict(checkpoint_file, *one, "overwrite=true"), "must not replace")
    out.mkdir()
    (out / "sub").symlink_to(truth / "sub")
    assert_refused(predict(checkpoint_file, images, out, f"truth={truth}", "overwrite=true"), "c.png", "must not replace")
    assert_refused(predict(checkpoint_file, images, tmp_path / "new", f"truth={images}"), "is also the input")
    assert masks(truth) == before


def test_an_output_inside_the_input_is_not_segmented_again(checkpoint_file: Path, images: Path) -> None:
    for _ in range(2):
        assert predict(checkpoint_file, images, images / "masks", "overwrite=true").code == 0
        assert len(table(images / "masks" / "summary.csv")) == 3


def test_folders_of_other_roles_inside_a_folder_are_no_part_of_it(checkpoint_file: Path, images: Path, tmp_path: Path) -> None:
    (tmp_path / "truth").rename(images / "truth")
    for output in (images / "out", images / "truth" / "out"):
        for _ in range(2):
            done = predict(checkpoint_file, images, output, f"truth={images / 'truth'}", "overwrite=true")
            assert done.code == 0, done.out + done.err
            assert [row["file"] for row in table(output / "summary.csv")] == ["a.png", "b.tif", "sub/c.png"]
        assert json.loads((output / "metrics.json").read_text())["images"] == 3
        for name in sorted(files(output), reverse=True):
            (output / name).unlink()
    for name in ("a.png", "b.tif", "sub"):  # and the images inside the true masks
        target = images / "truth" / "images" / name
        target.parent.mkdir(exist_ok=True)
        (images / name).rename(target)
    done = predict(checkpoint_file, images / "truth" / "images", tmp_path / "out", f"truth={images / 'truth'}")
    assert done.code == 0, done.err
    assert len(table(tmp_path / "out" / "summary.csv")) == 3


def test_names_are_taken_as_they_are_typed(checkpoint_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "Röntgen [neu], a=b" / "it's 100% {x} $HOME *"
    names = ["p1 [a], x=ü.png", "p2 (b)  'y'.tif", "ß = ?.png"]
    for seed, name in enumerate(names):
        write_slice(folder, tmp_path / "wahr, [1]=ä", name, seed)
    model = tmp_path / "Läufe, [1] a=b" / "best.ckpt"
    model.parent.mkdir()
    model.write_bytes(checkpoint_file.read_bytes())
    done = predict(model, folder, tmp_path / "aus = [x], ö", f"truth={tmp_path / 'wahr, [1]=ä'}", "overlays=true")
    assert done.code == 0, done.err
    assert {f"{Path(name).stem}.png" for name in names} <= files(tmp_path / "aus = [x], ö")
    assert [row["file"] for row in table(tmp_path / "aus = [x], ö" / "summary.csv")] == sorted(names)


def test_a_tilde_is_home(checkpoint_file: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "best.ckpt").write_bytes(checkpoint_file.read_bytes())
    assert predict(Path("~/best.ckpt"), Path("~/images"), Path("~/out"), "truth=~/truth").code == 0
    assert (tmp_path / "out" / "a.png").is_file()
    assert Segmenter.load("~/best.ckpt")("~/images/a.png").shape == (64, 64)


def test_a_bad_file_does_not_stop_the_others(checkpoint_file: Path, images: Path, tmp_path: Path) -> None:
    (images / "a2.png").write_bytes((images / "a.png").read_bytes()[:300])
    (images / "empty.tif").touch()
    done = predict(checkpoint_file, images, tmp_path / "out")
    assert done.code == 1
    assert files(tmp_path / "out") == {"a.png", "b.png", "sub/c.png", "summary.csv", "run.json", "report.html"}
    said = {row["file"]: row["error"] for row in table(tmp_path / "out" / "summary.csv")}
    assert "damaged" in said["a2.png"]
    assert "is empty" in said["empty.tif"]
    assert "Error: a2.png: " in done.out
    assert "2 files failed" in done.out
    assert "Traceback" not in done.out + done.err
    bad = table(tmp_path / "out" / "summary.csv")[1]
    assert (bad["file"], bad["lung_fraction"], bad["seconds"]) == ("a2.png", "", "")


def test_a_constant_image_is_said_to_be_one(checkpoint_file: Path, images: Path, tmp_path: Path) -> None:
    write_png(images / "grey.png", np.full((40, 50), 77, np.uint8))
    write_png(images / "pixel.png", np.full((1, 1), 77, np.uint8))
    assert predict(checkpoint_file, images, tmp_path / "out", "threshold=0.01").code == 0
    said = {row["file"]: row["warnings"] for row in table(tmp_path / "out" / "summary.csv")}
    assert {name for name, warning in said.items() if "the picture has no structure" in warning} == {"grey.png", "pixel.png"}
    assert read_png(tmp_path / "out" / "grey.png").shape == (40, 50)


def test_grey_values_that_are_no_hu_are_a_fault_of_their_file(window_file: Path, images: Path, tmp_path: Path) -> None:
    done = predict(window_file, images, tmp_path / "out")
    assert done.code == 1, done.err
    assert files(tmp_path / "out") == {"b.png", "summary.csv", "run.json", "report.html"}
    said = {row["file"]: row["error"] for row in table(tmp_path / "out" / "summary.csv")}
    for name in ("a.png", "sub/c.png"):
        assert "not HU" in said[name]
        assert "train with preprocess.normalisation=percentile" in said[name]
        assert f"Error: {name}: the grey values" in done.out
    with pytest.raises(UserError, match=r"not HU.*train with"):
        Segmenter.load(window_file)(images / "a.png")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")
def test_a_file_too_large_for_the_memory_is_a_fault_of_its_file(checkpoint_file: Path, images: Path, tmp_path: Path) -> None:
    voxels = np.lib.format.open_memmap(images / "huge.npy", "w+", np.uint8, (32, 4096, 4096))  # sparse: no byte on the disk
    del voxels
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, limits[1]))  # its 512 MiB can be mapped, their float32 not held
    try:
        done = predict(checkpoint_file, images, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert done.code == 1, done.out + done.err
    said = {row["file"]: row["error"] for row in table(tmp_path / "out" / "summary.csv")}
    assert "huge.npy does not fit into the memory" in said["huge.npy"]
    assert files(tmp_path / "out") == {"a.png", "b.png", "sub/c.png", "summary.csv", "run.json", "report.html"}


def test_the_summary_has_what_was_done_before_an_interruption(checkpoint_file: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    work = items([Source(name, images / name) for name in ("a.png", "b.tif", "sub/c.png")], out)

    def done(result: Result) -> None:
        if result.item.name == "b.tif":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment(Segmenter.load(checkpoint_file), work, out, Extras(), done)
    assert [row["file"] for row in table(out / "summary.csv")] == ["a.png", "b.tif"]
    assert files(out) == {"a.png", "b.png", "summary.csv"}


def test_progress_is_told_on_and_off_a_terminal(checkpoint_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(22):
        write_png(tmp_path / "images" / f"{number:02}.png", np.full((16, 16), number, np.uint8))
    words = ("threshold=0.01",)
    done = predict(checkpoint_file, tmp_path / "images", tmp_path / "plain", *words)
    lines = [line for line in done.out.splitlines() if " left" in line]
    assert [line.split(" files, about ")[0] for line in lines] == [f"{number} of 22" for number in (3, 5, 7, 9, 11, 14, 16, 18, 20)]
    assert all(line.endswith(" left") and line.count(":") == 2 for line in lines)
    said = predict(checkpoint_file, tmp_path / "images", tmp_path / "quiet", "-q", *words).out.splitlines()
    assert len(said) == 22
    assert all(line.endswith("the picture has no structure, all its pixels have one value") for line in said)
    monkeypatch.setenv("FORCE_COLOR", "1")
    done = predict(checkpoint_file, tmp_path / "images", tmp_path / "terminal", *words)
    assert "22 masks" in done.out
    assert " left" not in done.out


class Full(torch.nn.Module):
    """A network that asks for more memory than there is, or fails as other devices say it."""

    def __init__(self, words: str | None = None) -> None:
        super().__init__()
        self.words = words

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if self.words is None:
            return torch.empty(2**50)
        raise RuntimeError(self.words)


class FullAtOnce(Full):
    """One that does not even fit."""

    def _apply(self, fn: object, recurse: bool = True) -> torch.nn.Module:
        self.forward(torch.empty(1))
        return self


@pytest.mark.parametrize("words", [None, "MPS backend out of memory (MPS allocated: 9 GB)", "CUDA error: out of memory"])
def test_a_device_too_small_is_said_in_one_sentence(words: str | None, images: Path, tmp_path: Path) -> None:
    segmenter = Segmenter(Full(words), Preprocess(size=64))
    with pytest.raises(UserError, match="the memory of cpu does not hold one slice"):
        segmenter(images / "a.png")
    with pytest.raises(UserError, match="does not hold one slice"):  # true of every file, so it ends the run
        segment(segmenter, items([Source("a.png", images / "a.png")], tmp_path / "out"), tmp_path / "out", Extras(), print)
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="does not hold the network"):
        Segmenter(FullAtOnce(words), Preprocess(size=64))


def test_another_fault_of_a_network_keeps_its_traceback(images: Path) -> None:
    with pytest.raises(RuntimeError, match="a bug"):
        Segmenter(Full("a bug"), Preprocess(size=64))(images / "a.png")
    with pytest.raises(RuntimeError, match="a bug"):
        Segmenter(FullAtOnce("a bug"), Preprocess(size=64))


def test_overlays_and_probabilities_come_when_asked_for(checkpoint_file: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert predict(checkpoint_file, images, out, "overlays=true", "probabilities=true", "threshold=0.4").code == 0
    for stem in ("a", "b", "sub/c"):
        assert read_png(out / "overlays" / f"{stem}.png.overlay.png").shape[2] == 3
        probability, mask = read_png(out / "probabilities" / f"{stem}.png.probability.png"), read_png(out / f"{stem}.png") > 0
        assert (probability.dtype, probability.shape) == (np.uint16, mask.shape)
        sure = np.abs(probability / 65535 - 0.4) > 1 / 65535  # what rounding to 16 bits cannot have moved
        np.testing.assert_array_equal((probability / 65535 > 0.4)[sure], mask[sure])
        assert sure.any()


def test_a_higher_threshold_never_adds_lung(checkpoint_file: Path, images: Path, tmp_path: Path) -> None:
    probability = expit(np.concatenate(Segmenter.load(checkpoint_file).logits(read_stack(images / "a.png"))))
    found = []
    for threshold in np.quantile(probability, [0.1, 0.5, 0.9], method="nearest").tolist():  # a pixel lies right at it
        out = tmp_path / f"out{threshold}"
        assert predict(checkpoint_file, images / "a.png", out, f"threshold={threshold}").code == 0
        found.append(read_png(out / "a.png") > 0)
        np.testing.assert_array_equal(found[-1], Segmenter.load(checkpoint_file, threshold=threshold)(images / "a.png"))
    for lower, higher in pairwise(found):
        assert not (higher & ~lower).any()
        assert lower.sum() > higher.sum() > 0


def test_half_is_not_above_half(checkpoint_file: Path) -> None:
    logits = np.array([-1e-30, 0, 1e-30], np.float32)
    assert (logits > Segmenter.load(checkpoint_file).limit).tolist() == [False, False, True]  # as training scores


def test_truth_adds_scores(checkpoint_file: Path, images: Path, tmp_path: Path) -> None:
    write_png(images / "none.png", np.zeros((64, 64), np.uint8))
    write_png(tmp_path / "truth" / "none.png", np.zeros((64, 64), np.uint8))
    out = tmp_path / "out"
    done = predict(checkpoint_file, images, out, f"truth={tmp_path / 'truth'}", "threshold=0.45")
    assert done.code == 0

    ious, dices, both_all, either_all = [], [], 0, 0
    for row in table(out / "summary.csv"):
        name = Path(row["file"]).with_suffix(".png")
        truth, found = read_png(tmp_path / "truth" / name) > 0, read_png(out / name) > 0
        both, either = (truth & found).sum(), (truth | found).sum()
        both_all, either_all = both_all + both, either_all + either
        if not truth.any():
            assert row["iou"] == row["dice"] == ""
            continue
        ious.append(both / either)
        dices.append(2 * both / (truth.sum() + found.sum()))
        assert float(row["iou"]) == pytest.approx(ious[-1], abs=1e-5)
        assert float(row["dice"]) == pytest.approx(dices[-1], abs=1e-5)
    metrics = json.loads((out / "metrics.json").read_text())
    assert len(ious) == 3
    assert np.mean(ious) > 0
    assert metrics["iou"] == pytest.approx(np.mean(ious))
    assert metrics["dice"] == pytest.approx(np.mean(dices))
    assert metrics["iou_worst"] == pytest.approx(min(ious))
    assert metrics["iou_pooled"] == pytest.approx(both_all / either_all)
    assert (metrics["images"], metrics["images_with_lung"]) == (4, 3)
    assert f"iou {np.mean(ious):.4f}" in done.out


def test_truth_of_one_file_is_one_file(checkpoint_file: Path, images: Path, tmp_path: Path) -> None:
    truth = tmp_path / "truth"
    assert predict(checkpoint_file, images / "a.png", tmp_path / "out", f"truth={truth / 'a.png'}").code == 0
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["images"] == 1
    assert_refused(predict(checkpoint_file, images / "a.png", tmp_path / "two", f"truth={truth}"), "must be a file")


def test_truth_that_does_not_fit(checkpoint_file: Path, images: Path, tmp_path: Path) -> None:
    truth = tmp_path / "truth"
    write_png(truth / "a.png", chest(32)[1] * 255)
    done = predict(checkpoint_file, images, tmp_path / "out", f"truth={truth}")
    assert done.code == 1
    assert "a.png has 32 x 32 pixels but" in table(tmp_path / "out" / "summary.csv")[0]["error"]
    (truth / "b.png").unlink()
    assert_refused(predict(checkpoint_file, images, tmp_path / "two", f"truth={truth}"), "b.tif")


def test_values_of_the_truth_can_be_named(checkpoint_file: Path, images: Path, tmp_path: Path) -> None:
    truth = tmp_path / "truth" / "a.png"
    mask = read_png(truth) // 255 * 2
    mask[:, :32] = np.where(mask[:, :32] > 0, 1, 0)  # two lungs of their own values
    mask[:5] = 9
    write_png(truth, mask)
    out, source = tmp_path / "out", images / "a.png"
    assert predict(checkpoint_file, source, tmp_path / "no", f"truth={truth}").code == 1
    words = (f"truth={truth}", "mask_values=1,2", "ignore_values=9", "threshold=0.45")
    assert predict(checkpoint_file, source, out, *words).code == 0
    found, counted = read_png(out / "a.png") > 0, mask != 9
    lung = counted & (mask > 0)
    expected = (found & lung).sum() / ((found | lung) & counted).sum()
    assert json.loads((out / "metrics.json").read_text())["iou"] == pytest.approx(expected)


def test_a_nifti_volume_keeps_its_geometry(checkpoint_file: Path, tmp_path: Path) -> None:
    slices = np.stack([chest(64, seed)[0][:50, 4:] for seed in range(4)])
    volume = sitk.GetImageFromArray(slices.round().astype(np.int16))
    volume.SetSpacing((0.7, 0.8, 2.5))
    volume.SetOrigin((-100.0, 20.5, 7.0))
    volume.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))  # lies the other way round than read_stack gives it
    path = tmp_path / "images" / "scan.nii.gz"
    path.parent.mkdir()
    sitk.WriteImage(volume, str(path))
    done = predict(checkpoint_file, path.parent, tmp_path / "out", "probabilities=true", "overlays=true")
    assert done.code == 0, done.out
    assert files(tmp_path / "out") == {
        "scan.nii.gz", "run.json", "measurements.csv", "measurements.json", "summary.csv",
        "probabilities/scan.nii.gz.probability.nii.gz", "overlays/scan.nii.gz.overlay.png",
    }  # fmt: skip
    written = sitk.ReadImage(str(tmp_path / "out" / "scan.nii.gz"))
    stored = sitk.ReadImage(str(path))
    assert written.GetSize() == stored.GetSize()
    for get in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(written, get)(), getattr(stored, get)(), atol=1e-6)
    found = Segmenter.load(checkpoint_file)(path)
    assert found.shape == (4, 50, 60)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(written), found)  # in the order of the file
    again = predict(checkpoint_file, path, tmp_path / "again", f"truth={tmp_path / 'out' / 'scan.nii.gz'}")
    assert again.code == 0
    if found.any():
        assert json.loads((tmp_path / "again" / "metrics.json").read_text())["iou"] == 1.0


def test_the_batch_size_does_not_change_a_byte(checkpoint_file: Path, images: Path, tmp_path: Path) -> None:
    for size in (1, 7):
        words = (f"batch_size={size}", "probabilities=true", "device=cpu")
        assert predict(checkpoint_file, images, tmp_path / str(size), *words).code == 0
    assert masks(tmp_path / "1") == masks(tmp_path / "7")


def test_the_number_of_threads_can_be_chosen(checkpoint_file: Path, images: Path, tmp_path: Path, one_thread: None) -> None:
    assert predict(checkpoint_file, images, tmp_path / "out", "threads=1").code == 0
    assert torch.get_num_threads() == 1


def test_quiet_is_quiet_but_for_what_goes_wrong(checkpoint_file: Path, images: Path, tmp_path: Path) -> None:
    done = predict(checkpoint_file, images / "a.png", tmp_path / "out", "-q", "threshold=0.01")
    assert (done.code, done.err) == (0, "")
    assert all(line.startswith("Warning: a.png: ") for line in done.out.splitlines())  # of the untrained network's mask
    (images / "bad.png").write_text("no picture")
    done = predict(checkpoint_file, images, tmp_path / "two", "--quiet", "threshold=0.01")
    assert done.code == 1
    assert [line for line in done.out.splitlines() if "bad.png" not in line and not line.startswith("Warning: ")] == []


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["thresold=0.4"], ["thresold is no option", "did you mean threshold?"]),
        (["--fast"], ["--fast is no option"]),
        (["threshold="], ["threshold needs a value"]),
        (["overlays"], ["overlays needs a value"]),
        (["threshold=high"], ["threshold=high must be a number"]),
        (["threshold=1"], ["threshold=1"]),
        (["threshold=nan"], ["threshold=nan"]),
        (["overlays=maybe"], ["overlays=maybe must be true or false"]),
        (["mask_values=a,b"], ["mask_values=a,b must be numbers"]),
        (["batch_size=0"], ["batch_size=0"]),
        (["threads=-1"], ["threads=-1"]),
        (["device=gpu"], ["device=gpu is unknown"]),
        (["device=cuda:99"], ["device=cuda:99 is not on this machine"]),
        (["device=cpu", "device=cpu"], ["device is given twice"]),
        (["truth=nowhere"], ["nowhere"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_wrong_options_are_refused(words: list[str], parts: list[str], checkpoint_file: Path, images: Path, tmp_path: Path) -> None:
    assert_refused(predict(checkpoint_file, images, tmp_path / "out", *words), *parts)
    assert not (tmp_path / "out").exists()


def test_paths_that_are_not_there_are_refused(checkpoint_file: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert_refused(lungseg("predict", f"input={images}", f"output={out}"), "ckpt=... is needed")
    assert_refused(predict(checkpoint_file, tmp_path / "nowhere", out), "neither a file nor a folder")
    assert_refused(predict(checkpoint_file, images, images / "a.png"), "is a file")
    (tmp_path / "none").mkdir()
    assert_refused(predict(checkpoint_file, tmp_path / "none", out), "holds no image")
    assert not out.exists()


def test_checkpoints_that_cannot_be_read_are_refused(checkpoint_file: Path, images: Path, tmp_path: Path) -> None:
    whole, other = checkpoint_file.read_bytes(), tmp_path / "other.ckpt"
    assert_refused(predict(tmp_path / "nowhere.ckpt", images, tmp_path / "out"), "nowhere.ckpt is no file")
    for content in (b"", b"text", whole[:1000], whole[: len(whole) // 2]):
        other.write_bytes(content)
        assert_refused(predict(other, images, tmp_path / "out"), "other.ckpt")
    content = torch.load(checkpoint_file, weights_only=True)
    for field, value in (
        ("net", {"class": "os.system"}),
        ("preprocess", {"size": 9}),
        ("net", {**content["net"], "widths": [4, 9]}),
    ):
        torch.save({**content, field: value}, other)
        assert_refused(predict(other, images, tmp_path / "out"), "other.ckpt cannot be used: ", "give the best.ckpt of a")
    assert not (tmp_path / "out").exists()
    torch.save({"weights": 1}, other)
    assert_refused(predict(other, images, tmp_path / "out"), "is not a lungseg checkpoint")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_that_cannot_be_written_is_refused(checkpoint_file: Path, images: Path, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    assert_refused(predict(checkpoint_file, images, tmp_path / "locked" / "out"), "cannot be written")


def test_an_output_below_a_file_is_refused(checkpoint_file: Path, images: Path, tmp_path: Path) -> None:
    assert_refused(predict(checkpoint_file, images, images / "a.png" / "out"), "cannot be written")


def test_help_says_all_options_and_what_the_scores_mean() -> None:
    done = lungseg("predict", "--help")
    assert done.code == 0
    for word in ("ckpt=", "input=", "output=", "truth=", "device=", "iou_pooled", "false_lung_images", "every slice counts"):
        assert word in done.out
    assert lungseg("predict").code == 2


def test_commands_that_do_not_exist_are_named() -> None:
    done = lungseg("predcit")
    assert done.code == 2
    assert "no command 'predcit'" in done.err
    assert "lungseg predict" in done.err
    assert lungseg("--version").out.strip()
    assert lungseg().code == 0


def test_a_result_that_cannot_be_right_is_warned_of(checkpoint_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    rng = np.random.default_rng(0)
    write_png(folder / "noise.png", rng.integers(0, 255, (80, 80), np.uint8))
    write_png(folder / "photo.png", cv2.GaussianBlur(rng.integers(0, 255, (96, 120), np.uint8), (0, 0), 6))
    write_png(folder / "constant.png", np.full((64, 64), 90, np.uint8))
    write_slice(folder, tmp_path / "truth", "chest.png", seed=1, side=96)
    done = predict(checkpoint_file, folder, tmp_path / "out", "threshold=0.999")
    said = {row["file"]: row["warnings"].split("; ") for row in table(tmp_path / "out" / "summary.csv")}
    for name in ("noise.png", "photo.png"):
        assert "the picture does not look like an axial chest CT" in said[name]
        assert f"Warning: {name}: the picture does not look like an axial chest CT" in done.out
    assert said["constant.png"] == ["the picture has no structure, all its pixels have one value"]
    assert said["chest.png"] == ["no lung found"]
    predict(checkpoint_file, folder / "chest.png", tmp_path / "all", "threshold=0.001")
    warned = table(tmp_path / "all" / "summary.csv")[0]["warnings"]
    assert "of the mask lies outside the body" in warned
    assert "of the mask is dense tissue" in warned


def test_in_python_too_an_odd_mask_is_said(checkpoint_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    segmenter = Segmenter.load(checkpoint_file, threshold=0.999)
    assert not segmenter(chest(64)[0]).any()
    assert caplog.messages == ["the image: no lung found"]


def test_a_folder_of_somebody_elses_masks_is_not_written_over(checkpoint_file: Path, images: Path, tmp_path: Path) -> None:
    truth = tmp_path / "truth"
    before = masks(truth)
    assert_refused(predict(checkpoint_file, images, truth, "overwrite=true"), "a.png is there and no earlier prediction's")
    assert masks(truth) == before
    out = tmp_path / "out"
    assert predict(checkpoint_file, images, out).code == 0
    assert predict(checkpoint_file, images, out, "overwrite=true").code == 0


def test_debug_shows_what_lies_behind_the_fault_of_a_file(checkpoint_file: Path, images: Path, tmp_path: Path) -> None:
    (images / "bad.png").write_bytes(b"no picture")
    assert "Traceback" not in predict(checkpoint_file, images, tmp_path / "one").out
    done = predict(checkpoint_file, images, tmp_path / "two", "debug=True")
    assert "PIL.UnidentifiedImageError" in done.out
    assert done.code == 1
    assert_refused(predict(checkpoint_file, images, tmp_path / "three", "debug=yes"), "debug=yes must be debug=true or debug=false")
