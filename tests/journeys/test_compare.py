"""Journeys of ``lungseg compare``: two choices, scored on the same cases, and what may be said of them."""

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from helpers import Done, assert_refused, files, lungseg, table, write_png

from builders import chest

RNG = np.random.default_rng(3)
HARD = RNG.uniform(0.90, 0.96, 20)  # IoU of a case by which others are better or worse

SOURCES = {"near": slice(0, 6), "far": slice(6, 14), "farther": slice(14, 20)}


def run(folder: Path, ious: Sequence[float], name: str = "val_images.csv", first: int = 0, px: float = 2.0, of: str = "x") -> Path:
    """The folder of a training with scores of two slices of each patient, and one without lung."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "patient", "source", "iou", "hd95_px", "area_error"))
        for i, iou in enumerate(ious, first):
            writer.writerow((f"p{i}_a.png", f"p{i}", of, iou, px / iou, -0.1))
            writer.writerow((f"p{i}_b.png", f"p{i}", of, iou + 0.01, px / iou, 0.1))
            writer.writerow((f"p{i}_c.png", f"p{i}", of, "", "", ""))
    return folder


def compare(a: Path | str, b: Path | str, *words: str) -> Done:
    return lungseg("compare", str(a), str(b), *words)


def test_the_better_one_wins_in_a_sentence(tmp_path: Path) -> None:
    a = run(tmp_path / "job=a,x", HARD + RNG.uniform(0.003, 0.006, 20))  # a name as Hydra gives them
    b = run(tmp_path / "b", HARD, px=2.1)
    done = compare(a, b, f"output={tmp_path / 'out'}")
    assert (done.code, done.err) == (0, "")
    assert "60 cases of 20 patients are paired." in done.out
    head, _, _, area = (line.split() for line in done.out.splitlines() if line.startswith(("figure", "IoU", "HD95", "size")))
    assert head[-5:] == ["A", "better", "B", "better", "equal"]
    assert area[-3:] == ["0", "0", "20"]
    assert "A beats B in IoU by 0.004" in done.out
    assert "20 patients, p < 0.001)." in done.out
    assert "A beats B in HD95" in done.out
    assert "The data cannot tell A from B in size of area error" in done.out  # the size is the same
    assert "3 figures were tested" in done.out
    assert "p is not corrected" in done.out
    assert files(tmp_path / "out") == {"compare.csv", "compare.json"}
    rows = {row["figure"]: row for row in table(tmp_path / "out" / "compare.csv")}
    assert (rows["iou"]["winner"], rows["iou"]["patients_a_better"], rows["iou"]["patients"]) == ("A", "20", "20")
    assert 0 < float(rows["iou"]["low"]) < float(rows["iou"]["difference"]) < float(rows["iou"]["high"])
    assert float(rows["hd95_px"]["difference"]) < 0
    assert rows["hd95_px"]["winner"] == "A"
    told = json.loads((tmp_path / "out" / "compare.json").read_text())["images"]
    assert len(told["cases"]) == 60
    assert any(sentence.startswith("A beats B in IoU") for sentence in told["sentences"])
    turned = compare(b, a)
    assert "B beats A in IoU by 0.004" in turned.out


def test_what_cannot_be_told_is_said_not_to_be(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", HARD + RNG.normal(0, 0.01, 20)), run(tmp_path / "b", HARD)
    done = compare(a, b)
    assert done.code == 0
    assert "beats" not in done.out
    assert "The data cannot tell A from B in IoU (" in done.out


def test_few_patients_are_shown_case_by_case(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", [0.95, 0.96]), run(tmp_path / "b", [0.5, 0.6])
    done = compare(a, b, f"output={tmp_path / 'out'}")
    assert done.code == 0
    assert "2 patients are too few" in done.out
    assert "p0_a.png" in done.out
    assert "beats" not in done.out
    row = table(tmp_path / "out" / "compare.csv")[0]
    assert (row["low"], row["p_value"], row["winner"]) == ("", "", "")


def test_seeds_are_paired_in_the_order_given(tmp_path: Path) -> None:
    seeds = (0.0, 0.02, 0.05)  # which differ more than the choices do
    a = [run(tmp_path / f"a{i}", HARD + seed + 0.004 + RNG.normal(0, 0.001, 20)) for i, seed in enumerate(seeds)]
    b = [run(tmp_path / f"b{i}", HARD + seed) for i, seed in enumerate(seeds)]
    done = compare(",".join(map(str, a)), ",".join(map(str, b)), f"output={tmp_path / 'out'}")
    assert (done.code, done.err) == (0, "")
    assert "A beats B in IoU by 0.00" in done.out
    assert "3 runs, 20 patients" in done.out
    assert table(tmp_path / "out" / "compare.csv")[0]["runs"] == "3"
    assert_refused(compare(",".join(map(str, a)), b[0]), "A has 3 runs and B 1")


def test_folds_have_cases_of_their_own(tmp_path: Path) -> None:
    a = [run(tmp_path / f"a{fold}", HARD[4 * fold :][:4] + 0.004, first=4 * fold) for fold in range(5)]
    b = [run(tmp_path / f"b{fold}", HARD[4 * fold :][:4], first=4 * fold) for fold in range(5)]
    done = compare(",".join(map(str, a)), ",".join(map(str, b)))
    assert done.code == 0
    assert "A beats B in IoU by 0.0040 (95 % interval 0.0040 to 0.0040, 5 runs, 20 patients" in done.out


def test_cases_of_one_side_alone_are_said(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", HARD), run(tmp_path / "b", HARD[:-1])
    done = compare(a, b, "-q")
    assert done.code == 0
    assert "only A has 3 cases without a partner: p19_a.png, p19_b.png, p19_c.png" in done.out
    assert "beats" not in done.out
    assert_refused(compare(a, run(tmp_path / "c", HARD, first=50)), "share no case")


def test_the_part_that_both_have_is_compared(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", HARD), run(tmp_path / "b", HARD)
    run(a, HARD + 0.01, "test_images.csv", first=30)  # which a sweep has of its best job only
    assert "val_images.csv" in compare(a, b).out
    assert_refused(compare(a, b, "part=test"), "its test part")
    run(b, HARD, "test_images.csv", first=30)
    assert "A beats B in IoU by 0.0100" in compare(a, b).out
    assert "A beats B" not in compare(a, b, "part=val").out


def test_scans_of_trainings_are_compared_too(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", HARD), run(tmp_path / "b", HARD)
    for folder, gain in ((a, 0.0), (b, 0.01)):
        lines = "".join(f"s{i},12,{iou + gain}\n" for i, iou in enumerate(HARD))
        (folder / "val_volumes.csv").write_text(f"scan,slices,iou_3d\n{lines}")
    done = compare(a, b, f"output={tmp_path / 'out'}")
    assert "B beats A in IoU 3-D by 0.0100" in done.out
    assert [row["of"] for row in table(tmp_path / "out" / "compare.csv")].count("volumes") == 1


def test_cases_of_some_sources_alone_are_compared(tmp_path: Path) -> None:
    sides = {"a": HARD + 0.01, "b": HARD}
    for side, ious in sides.items():
        parts = [(run(tmp_path / of / side, ious[rows], first=rows.start, of=of)) for of, rows in SOURCES.items()]
        texts = [(part / "val_images.csv").read_text().splitlines(keepends=True) for part in parts]
        (tmp_path / side).mkdir()
        (tmp_path / side / "val_images.csv").write_text("".join([texts[0][0], *(line for text in texts for line in text[1:])]))
        (tmp_path / side / "val_volumes.csv").write_text("scan,patient,source,dice_3d\ns,s,near,0.9\nt,t,far,0.8\n")
    for words, cases in (([], 60), (["source=far"], 24), (["source=near,farther"], 36), (["source=farther"], 18)):
        done = compare(tmp_path / "a", tmp_path / "b", *words)
        assert (done.code, done.err) == (0, "")
        assert f"{cases} cases of {cases // 3} patients are paired." in done.out
        assert ("Dice 3-D" in done.out) == (words != ["source=farther"])
    assert_refused(compare(tmp_path / "a", tmp_path / "b", "source=fra"), "source=fra is unknown in A: did you mean far?")
    nowhere = [run(tmp_path / "nowhere" / side, HARD, of="") for side in sides]
    assert_refused(compare(*nowhere, "source=far"), "no case of A says where it comes from")
    assert_refused(compare(tmp_path / "a", nowhere[1], "source=far"), "no case of B says where it comes from")
    folds = [",".join(str(tmp_path / of / side) for of in SOURCES) for side in sides]
    done = compare(*folds, "source=near,farther")
    assert (done.code, done.err) == (0, "")
    assert "36 cases of 12 patients in 2 runs are paired." in done.out


def test_two_evaluations_are_compared(tmp_path: Path) -> None:
    for i in range(6):
        mask = chest(64, seed=i)[1]
        write_png(tmp_path / "truth" / f"{i}.png", mask * np.uint8(255))
        write_png(tmp_path / "a" / f"{i}.png", mask * np.uint8(255))
        write_png(tmp_path / "b" / f"{i}.png", np.roll(mask, 2, axis=1) * np.uint8(255))
    for name in "ab":
        words = (f"predictions={tmp_path / name}", f"truth={tmp_path / 'truth'}", f"output={tmp_path / name}_scored")
        assert lungseg("evaluate", *words).code == 0
    done = compare(tmp_path / "a_scored", tmp_path / "b_scored")
    assert done.code == 0
    assert "A beats B in IoU by 0." in done.out
    assert "No table says whose a case is" in done.out


def test_surface_dice_of_two_tolerances_is_not_compared(tmp_path: Path) -> None:
    for i in range(6):
        mask = chest(64, seed=i)[1]
        write_png(tmp_path / "truth" / f"{i}.png", mask * np.uint8(255))
        write_png(tmp_path / "made" / f"{i}.png", np.roll(mask, 2, axis=1) * np.uint8(255))
    for tolerance in (1, 3):
        words = (f"predictions={tmp_path / 'made'}", f"truth={tmp_path / 'truth'}", f"output={tmp_path / str(tolerance)}")
        assert lungseg("evaluate", *words, f"tolerance={tolerance}").code == 0
    done = compare(tmp_path / "1", tmp_path / "3")
    assert "Warning: surface Dice is left out: its tolerance was 1 and 3" in done.out
    assert "beats" not in done.out
    assert "equal in every figure" not in done.out  # surface Dice may differ
    twin = tmp_path / "twin"
    shutil.copytree(tmp_path / "1", twin)
    done = compare(tmp_path / "1", twin)
    assert "surface Dice" in done.out
    assert done.out.splitlines()[-2:] == ["6 cases of 6 patients are paired.", "A and B are equal in every figure."]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{a}"], "compare takes two runs"),
        (["{a}", "{b}", "prt=val"], "prt=val is neither an option nor one of them: did you mean part?"),
        (["{a}", "{b}", "{sweep}"], "sweep is neither an option nor one of them."),
        (["{a}", "{lost}"], "neither a file nor a folder"),
        (["{a}", "{empty}"], "holds no table with scores"),
        (["{a}", "{begun}"], "is a training that is not finished"),
        (["{sweep}", "{a}"], "is a sweep: lungseg report says"),
        (["{a}", "{a}"], "a/val_images.csv is on both sides: give another run"),
        (["{a}", "{b}/../a/val_images.csv"], "is on both sides"),
        (["{a},{b}", "{b},{a}"], "is on both sides"),
        (["{a},{a}", "{b},{empty}"], "a twice: a run counts once"),
        (["{a},{empty}", "{b},{b}/../b"], "b twice: a run counts once"),
        (["{a}", "{b}", "part=train"], "must be val or test"),
        (["{a}", "{b}", "output={a}/val_images.csv"], "is a file"),
    ],
)
def test_what_cannot_be_compared_is_refused(words: list[str], said: str, tmp_path: Path) -> None:
    for name, file in (("empty", "notes.txt"), ("begun", "config.yaml"), ("sweep", "sweep.json")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).touch()
    places = {name: tmp_path / name for name in ("lost", "empty", "begun", "sweep")} | {
        name: run(tmp_path / name, HARD) for name in "ab"
    }
    assert_refused(lungseg("compare", *(word.format(**places) for word in words)), said)
