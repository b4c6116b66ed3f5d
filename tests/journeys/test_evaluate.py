"""Journeys of ``lungseg evaluate``: masks of whoever against true masks, as tables, as sentences and as a picture."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from helpers import Done, assert_refused, files, lungseg, predict, read_png, table, write_png
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion

from builders import chest, write_slice
from lungseg.evaluation.cases import ONE_VALUE
from patients import SIDES, save

TABLES = {"cases.csv", "summary.csv", "summary.json", "worst.png"}


def evaluate(predictions: Path, truth: Path, output: Path, *words: str) -> Done:
    return lungseg("evaluate", f"predictions={predictions}", f"truth={truth}", f"output={output}", *words)


def eroded(mask: NDArray[np.uint8], times: int) -> NDArray[np.uint8]:
    return binary_erosion(mask, iterations=times).astype(np.uint8) if times else mask


@pytest.fixture
def slices(tmp_path: Path) -> Path:
    """Three patients with two slices each: true masks, and predicted ones that are the thinner the later they come."""
    for i, name in enumerate(("p1_a", "p1_b", "p2_a", "p2_b", "p3_a", "p3_b")):
        mask = chest(64, seed=i)[1]
        write_png(tmp_path / "truth" / "sub" / f"{name}_mask.png", mask * np.uint8(255))
        write_png(tmp_path / "made" / "sub" / f"{name}.png", eroded(mask, i) * np.uint8(255))
    return tmp_path


def test_pictures_are_scored_by_case_and_patient(slices: Path) -> None:
    done = evaluate(slices / "made", slices / "truth", slices / "out", r"patient_regex='^(p\d)_'")
    assert (done.code, done.err) == (0, "")
    assert files(slices / "out") == TABLES
    rows = table(slices / "out" / "cases.csv")
    assert [row["case"] for row in rows] == [f"sub/p{n}_{which}_mask" for n in "123" for which in "ab"]
    assert [row["patient"] for row in rows] == ["p1", "p1", "p2", "p2", "p3", "p3"]
    for i, row in enumerate(rows):
        truth = chest(64, seed=i)[1]
        assert float(row["iou"]) == pytest.approx(eroded(truth, i).sum() / truth.sum(), abs=1e-5)
        assert row["side"] == "both"
    summary = json.loads((slices / "out" / "summary.json").read_text())
    assert (summary["cases"], summary["failed"], summary["patients"]) == (6, 0, 3)
    iou = next(one for one in summary["figures"] if one["figure"] == "iou")
    own = [float(row["iou"]) for row in rows]
    assert iou["mean"] == pytest.approx(np.mean(own), abs=1e-5)
    assert (iou["worst"], iou["worst_case"], iou["low"]) == (min(own), "sub/p3_b_mask", None)
    assert table(slices / "out" / "summary.csv")[0]["low"] == ""
    assert "Fewer than 5 patients: no interval" in done.out
    assert f"{np.mean(own):.4f}" in done.out
    assert "6 cases of 3 patients" in done.out


def test_five_patients_have_an_interval_around_their_mean(slices: Path) -> None:
    done = evaluate(slices / "made", slices / "truth", slices / "out")
    assert done.code == 0
    assert "Each case counts as a patient" in done.out
    row = next(row for row in table(slices / "out" / "summary.csv") if row["figure"] == "iou")
    assert float(row["low"]) < float(row["mean"]) < float(row["high"])


def test_the_sides_of_volumes_on_any_grid(tmp_path: Path) -> None:
    save(tmp_path / "truth" / "a.nii.gz", SIDES)
    save(tmp_path / "truth" / "b.nii.gz", SIDES)
    save(tmp_path / "made" / "a.nrrd", SIDES, orientation="RAI")
    save(tmp_path / "made" / "b.mha", np.where(SIDES == 1, SIDES, 0))  # of which nobody alone could say that it misses a lung
    done = evaluate(tmp_path / "made", tmp_path / "truth", tmp_path / "out")
    assert (done.code, done.err) == (0, "")
    rows = {(row["case"], row["side"]): row for row in table(tmp_path / "out" / "cases.csv")}
    assert list(rows) == [(case, side) for case in "ab" for side in ("both", "right", "left")]
    assert all(float(rows["a", side]["iou_3d"]) == 1 for side in ("both", "right", "left"))
    assert [float(rows["b", side]["iou_3d"]) for side in ("right", "left")] == [1, 0]
    assert float(rows["b", "left"]["hd95_3d_mm"]) > 100  # a missed lung is far, and not nowhere
    assert float(rows["b", "both"]["iou_3d"]) == pytest.approx((SIDES == 1).sum() / (SIDES > 0).sum(), abs=1e-5)
    assert "Lungs of which nothing was found: left in 1 case." in done.out
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["missed_lungs"] == {"both": 0, "right": 0, "left": 1}


def test_one_label_for_both_lungs_has_no_sides(tmp_path: Path) -> None:
    save(tmp_path / "truth" / "a.nii.gz", SIDES)
    save(tmp_path / "made" / "a.nii.gz", (SIDES > 0).astype(np.uint8))
    np.save(tmp_path / "made" / "b.npy", (SIDES > 0).astype(np.uint8) * np.uint8(255))  # lies nowhere, but has the shape
    save(tmp_path / "truth" / "b.nii.gz", SIDES)
    done = evaluate(tmp_path / "made", tmp_path / "truth", tmp_path / "out")
    assert done.code == 0
    assert "Warning: the predicted masks hold one value, taken as both lungs" in done.out
    rows = table(tmp_path / "out" / "cases.csv")
    assert [(row["case"], row["side"], row["iou_3d"]) for row in rows] == [("a", "both", "1"), ("b", "both", "1")]


def test_one_value_for_both_lungs_among_masks_of_two_is_told(tmp_path: Path) -> None:
    for name in "ab":
        save(tmp_path / "truth" / f"{name}.nii.gz", SIDES)
    save(tmp_path / "made" / "a.nii.gz", SIDES)
    save(tmp_path / "made" / "b.nii.gz", (SIDES > 0).astype(np.uint8))
    done = evaluate(tmp_path / "made", tmp_path / "truth", tmp_path / "out")
    assert [line for line in done.out.splitlines() if line.startswith("Warning: ")] == [f"Warning: b: {ONE_VALUE}"]


def test_what_is_refused_leaves_no_folder(tmp_path: Path) -> None:
    save(tmp_path / "truth" / "a.nii.gz", SIDES)
    save(tmp_path / "made" / "b.nii.gz", SIDES)
    assert evaluate(tmp_path / "made", tmp_path / "truth", tmp_path / "out").code == 2
    assert not (tmp_path / "out").exists()


def test_sides_that_mean_the_opposite_are_told(tmp_path: Path) -> None:
    save(tmp_path / "truth" / "a.nii.gz", SIDES)
    save(tmp_path / "made" / "a.nii.gz", np.where(SIDES > 0, 3 - SIDES, 0).astype(np.uint8))
    done = evaluate(tmp_path / "made", tmp_path / "truth", tmp_path / "out")
    assert done.code == 0
    assert "Warning: a: right and left lie the other way round" in done.out
    assert table(tmp_path / "out" / "cases.csv")[0]["doubts"].startswith("right and left lie the other way round")


def test_two_files_and_the_values_that_are_lung(tmp_path: Path) -> None:
    mask = SIDES[12]
    truth, made = tmp_path / "truth.png", tmp_path / "made.png"
    write_png(truth, np.where(mask == 1, 50, np.where(mask == 2, 90, 0)).astype(np.uint8))
    write_png(made, np.where(mask == 1, 3, np.where(mask == 2, 4, 7)).astype(np.uint8))
    done = evaluate(made, truth, tmp_path / "out", "mask_values=50,90")
    assert_refused(done, f"{made} is no two-valued mask", "prediction_values=1,2")
    done = evaluate(made, truth, tmp_path / "out", "mask_values=50", "ignore_values=90", "prediction_values=3,4")
    assert (done.code, done.err) == (0, "")
    assert float(table(tmp_path / "out" / "cases.csv")[0]["iou"]) == 1


def test_a_bad_case_is_named_and_the_others_are_judged(slices: Path) -> None:
    (slices / "made" / "sub" / "p1_a.png").write_bytes(b"no picture")
    (slices / "truth" / "sub" / "p1_b_mask.png").unlink()
    (slices / "made" / "sub" / "p2_a.png").unlink()
    write_png(slices / "made" / "sub" / "p2_b.png", np.zeros((32, 32), np.uint8))
    done = evaluate(slices / "made", slices / "truth", slices / "out")
    assert done.code == 1
    rows = {row["case"]: row for row in table(slices / "out" / "cases.csv")}
    said = {
        "sub/p1_a_mask": "cannot be read",
        "sub/p1_b": "has no true mask",
        "sub/p2_a_mask": "has no prediction",
        "sub/p2_b_mask": "has 32 x 32 pixels but",
    }
    for name, sentence in said.items():
        assert sentence in rows[name]["error"]
        assert rows[name]["iou"] == ""
        assert rows[name]["error"] in done.out
    assert [name for name, row in rows.items() if row["iou"]] == ["sub/p3_a_mask", "sub/p3_b_mask"]
    assert "2 cases of 2 patients, 4 more could not be judged" in done.out


def test_cases_that_want_the_same_remedy_are_told_in_one_sentence(slices: Path) -> None:
    for i in range(13):
        write_png(slices / "truth" / f"q{i:02}.png", chest(64, seed=i)[1])
    for name in ("p1_a", "p2_a"):
        write_png(slices / "made" / "sub" / f"{name}.png", np.zeros((32, 40), np.uint8))
    done = evaluate(slices / "made", slices / "truth", slices / "out", "-q")
    assert done.code == 1
    names = ", ".join(f"q{i:02}" for i in range(1, 11))
    truth, own = slices / "truth", slices / "made" / "sub"
    assert done.out.splitlines() == [
        f"Error: {truth / 'q00.png'} has no prediction: give one of its sub-folder and stem, or remove the true mask. "
        f"The like holds for 12 more cases, each with its reason in cases.csv: {names} and 2 more.",
        f"Error: {own / 'p1_a.png'} has 40 x 32 pixels but {truth / 'sub' / 'p1_a_mask.png'} has 64 x 64: "
        "resize the former by nearest neighbour, or give the mask that belongs there. "
        "The like holds for 1 more case, each with its reason in cases.csv: sub/p2_a_mask.",
    ]
    rows = {row["case"]: row["error"] for row in table(slices / "out" / "cases.csv")}
    assert rows["q12"].startswith(f"{truth / 'q12.png'} has no prediction")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.zeros((32, 32), np.uint8), "has 64 x 64 pixels but"),
        (np.arange(4096, dtype=np.uint16).reshape(64, 64), "looks like an image"),
    ],
)
def test_where_nothing_can_be_judged_an_earlier_result_stays(values: NDArray[np.generic], said: str, slices: Path) -> None:
    assert evaluate(slices / "made", slices / "truth", slices / "out").code == 0
    earlier = {name: (slices / "out" / name).read_bytes() for name in files(slices / "out")}
    for mask in (slices / "truth" / "sub").iterdir():
        write_png(mask, values)
    write_png(slices / "truth" / "sub" / "o.png", values)  # which has no prediction, and comes first
    done = evaluate(slices / "made", slices / "truth", slices / "out")
    assert_refused(done, "Error: none of 6 pairs of masks can be judged: ", said)
    assert "Lungs" not in done.out
    assert {name: (slices / "out" / name).read_bytes() for name in files(slices / "out")} == earlier
    assert_refused(evaluate(slices / "made", slices / "truth", slices / "other"), said)
    assert not (slices / "other").exists()


def test_lung_where_there_is_none_is_counted(slices: Path) -> None:
    for name, false_lung in (("p4_a", 0), ("p4_b", 9)):
        write_png(slices / "truth" / "sub" / f"{name}_mask.png", np.zeros((64, 64), np.uint8))
        mask = np.zeros((64, 64), np.uint8)
        mask[0, :false_lung] = 255
        write_png(slices / "made" / "sub" / f"{name}.png", mask)
    done = evaluate(slices / "made", slices / "truth", slices / "out")
    assert done.code == 0
    assert "Slices without lung: 2, false lung in 1 of them." in done.out
    rows = {row["case"]: row for row in table(slices / "out" / "cases.csv")}
    assert (rows["sub/p4_b_mask"]["iou"], rows["sub/p4_b_mask"]["false_lung_pixels"]) == ("", "9")


def test_the_worst_are_shown_on_their_images_or_on_black(slices: Path) -> None:
    for i, name in enumerate(("p1_a", "p1_b", "p2_a", "p2_b", "p3_a", "p3_b")):
        write_slice(slices / "images" / "sub", slices / "unused", f"{name}.png", seed=i)
    pictures = []
    for words in ((), (f"images={slices / 'images'}",)):
        assert evaluate(slices / "made", slices / "truth", slices / "out", *words).code == 0
        pictures.append(read_png(slices / "out" / "worst.png"))
    assert pictures[0].shape == pictures[1].shape
    black, shown = (float((picture.max(axis=2) == 0).mean()) for picture in pictures)
    assert black > 0.3 > shown


def test_a_prediction_said_the_same_of_itself(seeing_file: Path, tmp_path: Path) -> None:
    """Every figure that ``predict truth=`` writes, of volumes and pictures, after going on with it too."""
    save(tmp_path / "in" / "a.nii.gz", orientation="RAI")
    save(tmp_path / "truth" / "a.mha", SIDES)
    for seed in range(3):
        write_slice(tmp_path / "in" / "sub", tmp_path / "truth" / "sub", f"{seed}.png", seed)
    words = (f"truth={tmp_path / 'truth'}", "overlays=true", "probabilities=true")
    assert predict(seeing_file, tmp_path / "in", tmp_path / "made", *words).code == 0
    fresh = table(tmp_path / "made" / "summary.csv")
    assert predict(seeing_file, tmp_path / "in", tmp_path / "made", *words, "resume=true").code == 0
    assert table(tmp_path / "made" / "summary.csv") == fresh
    assert json.loads((tmp_path / "made" / "run.json").read_text())["scans"][0]["seconds"]["scores"] > 0
    done = evaluate(tmp_path / "made", tmp_path / "truth", tmp_path / "out")
    assert (done.code, done.err) == (0, "")
    rows = [row for row in table(tmp_path / "out" / "cases.csv") if row["side"] == "both"]
    assert [row["case"] for row in rows] == ["a", "sub/0", "sub/1", "sub/2"]
    figures = [name for name in rows[0] if name not in ("case", "patient", "side", "doubts", "error")]
    assert {"iou", "dice", "hd95_px", "hd95_3d_mm", "nsd_3d", "volume_error_ml"} <= set(figures) == set(fresh[0]) & set(figures)
    for own, said in zip(rows, fresh, strict=True):
        assert {name: own[name] for name in figures} == {name: said[name] for name in figures}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["predictions={made}"], "truth=... is needed"),
        (["predictions={made}", "truth={lost}"], "neither a file nor a folder"),
        (["predictions={made}", "truth={made}"], "is also the truth"),
        (["predictions={made}", "truth={truth}", "tolerance=0"], "must be above 0"),
        (["predictions={made}", "truth={truth}", "tolerance=much"], "must be a number"),
        (["predictions={made}", "truth={truth}", "patient_regex=("], "patient_regex='(' is no regular expression"),
        (["predictions={made}", "truth={truth}", "patient_regex=x"], "finds no patient in"),
        (["predictions={made}", "truth={truth}", "output={made}/out"], "lies among the images or masks"),
        (["predictions={made}", "truth={other}"], "none of the 6 predictions in"),
        (["predictions={made}", "truth={other}/z.png"], "is no folder"),
        (["predictions={made}", "truth={truth}", "prediction=1"], "did you mean predictions?"),
        (["{made}", "{truth}"], "made is no option of evaluate: evaluate takes predictions=DIR truth=DIR"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(words: list[str], said: str, slices: Path) -> None:
    write_png(slices / "other" / "z.png", np.zeros((64, 64), np.uint8))
    places = {name: slices / name for name in ("made", "truth", "other", "lost")}
    given = [word.format(**places) if "=(" not in word else word for word in words]
    given += [] if any(word.startswith("output=") for word in words) else [f"output={slices / 'out'}"]
    assert_refused(lungseg("evaluate", *given), said)
    assert files(slices / "made") == {f"sub/p{n}_{which}.png" for n in "123" for which in "ab"}


def test_the_tables_of_a_prediction_are_not_replaced(slices: Path) -> None:
    (slices / "run").mkdir()
    (slices / "run" / "summary.csv").write_text("file,iou\na,0.5\n")
    assert_refused(evaluate(slices / "made", slices / "truth", slices / "run"), "holds a prediction")
    first, second = (evaluate(slices / "made", slices / "truth", slices / "out") for _ in range(2))
    assert (first.code, second.code) == (0, 0)  # its own may be, but not unsaid: two folders of one name have one output
    assert "is replaced" not in first.out + first.err
    assert "the earlier evaluation in" in second.out + second.err


def test_a_smaller_tolerance_is_harder(slices: Path) -> None:
    shares = []
    for tolerance in ("1", "3"):
        assert evaluate(slices / "made", slices / "truth", slices / "out", f"tolerance={tolerance}").code == 0
        assert json.loads((slices / "out" / "summary.json").read_text())["tolerance"] == float(tolerance)
        shares.append([float(row["nsd"]) for row in table(slices / "out" / "cases.csv")])
    assert math.fsum(shares[0]) < math.fsum(shares[1])
