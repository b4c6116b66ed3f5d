"""Laws of tables of cases: what a job wrote is read as it stood, or the user hears what is wrong with it."""

from pathlib import Path

import numpy as np
import pytest

from lungseg.errors import UserError
from lungseg.evaluation.tables import read_cases


def write(folder: Path, name: str, *lines: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_a_training_gives_its_test_part_else_the_other(tmp_path: Path) -> None:
    run = write(tmp_path, "val_images.csv", "image,patient,source,iou,hd95_mm", "a,p1,x,0.9,", "b,p1,y,0.8,2.5")
    cases = read_cases(run)
    assert (cases.names, cases.patients, cases.sources) == (("a", "b"), ("p1", "p1"), ("x", "y"))
    np.testing.assert_array_equal(cases.columns["hd95_mm"], [np.nan, 2.5])
    write(run, "test_images.csv", "image,iou", "c,0.7")
    assert read_cases(run).names == ("c",)
    assert read_cases(run).patients == ("c",)  # nobody says whose it is
    assert read_cases(run, part="val").names == ("a", "b")


def test_scans_of_a_training_are_a_table_of_their_own(tmp_path: Path) -> None:
    run = write(tmp_path, "test_images.csv", "image,iou", "a,0.9")
    with pytest.raises(UserError, match="no table of volumes"):
        read_cases(run, kind="volumes")
    write(run, "test_volumes.csv", "scan,slices,iou_3d", "s,12,0.95")
    assert list(read_cases(run, kind="volumes").columns) == ["slices", "iou_3d"]


def test_of_an_evaluation_both_lungs_count_and_failures_do_not(tmp_path: Path) -> None:
    head = "case,patient,side,error,iou"
    folder = write(tmp_path, "cases.csv", head, "a,p,both,,0.9", "a,p,right,,0.8", "a,p,left,,0.7", "b,p,both,damaged,")
    assert read_cases(folder).names == ("a",)
    assert list(read_cases(folder).columns) == ["iou"]


def test_of_a_prediction_only_what_the_truth_says_counts(tmp_path: Path) -> None:
    head = "file,status,lung_fraction,seconds,warnings,error,iou"
    folder = write(tmp_path, "summary.csv", head, "a.png,done,0.1,0.2,odd,,0.9", "b.png,failed,,,,damaged,")
    cases = read_cases(folder)
    assert (cases.names, list(cases.columns)) == (("a.png",), ["iou"])
    assert read_cases(folder / "summary.csv").names == ("a.png",)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["file,status,lung_fraction,seconds", "a,done,0.1,0.2"], "no table of scores"),
        (["image,iou", "a,0.9", "a,0.8"], "names a twice"),
        (["image,iou", "a,good"], "'good' in the column iou"),
        (["image,hd95_mm", "a,2.5", "b,inf"], "'inf' in the column hd95_mm: score the masks"),
        (["image,iou", "a"], "number 2"),
        (["image,iou", "a,0.9,0.8"], "number 2"),
        ([""], "no table of scores"),
    ],
)
def test_another_table_is_refused(tmp_path: Path, lines: list[str], said: str) -> None:
    write(tmp_path, "summary.csv", *lines)
    with pytest.raises(UserError, match=said) as told:
        read_cases(tmp_path)
    assert "summary.csv" in str(told.value)


def test_a_folder_without_a_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no table with scores"):
        read_cases(tmp_path)
    with pytest.raises(UserError, match="neither a file nor a folder"):
        read_cases(tmp_path / "missing")
    write(tmp_path, "val_images.csv", "image,iou", "a,0.9")
    with pytest.raises(UserError, match="its test part"):
        read_cases(tmp_path, part="test")
