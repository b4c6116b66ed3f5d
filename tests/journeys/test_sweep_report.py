"""Journeys of ``lungseg report``: a sweep becomes one page and one text, also while it runs, and Test never decides."""

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from helpers import PHANTOMS, assert_refused, files, lungseg

from sweeps import FAILED, NOT_FINISHED, Made, write_job, write_sweep

LOSSES, MODELS, SEEDS = ("dice", "bce"), ("resunet_small", "unet_small"), ("0", "1", "2")


def patients(mean: float, seed: int = 0, names: str = "") -> Mapping[str, float]:
    """Sixteen patients that score about so."""
    drawn = np.random.default_rng(seed).uniform(-0.05, 0.05, 16)
    return {f"{names}p{number}": mean + float(one) for number, one in enumerate(drawn)}


def jobs() -> list[Made]:
    """Two losses and two networks, three seeds: the loss is worth 0.1, the network next to nothing."""
    made = []
    for seed, loss, model in product(SEEDS, LOSSES, MODELS):
        mean = 0.8 + 0.1 * (loss == "dice") + 0.001 * (int(seed) - 1) * (model == "unet_small")
        words = [f"seed={seed}", f"loss={loss}", f"model={model}"]
        curve = (mean - 0.3, None, mean - 0.05, mean)
        made.append(Made(words, {"seed": int(seed)}, val=patients(mean, int(seed)), curve=curve))
    return made


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def report(*words: str | Path) -> str:
    """The text of a report that must succeed."""
    done = lungseg("report", *map(str, words), "output=out")
    assert done.code == 0, done.err
    assert not done.err
    return Path("out", "report.md").read_text(encoding="utf-8")


def rows(text: str, heading: str) -> list[list[str]]:
    """The table below a heading, its head first."""
    below = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in below.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "---" not in line]


def test_a_sweep_becomes_one_page_and_one_text(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "sweep", jobs())
    before = files(sweep)
    text = report(sweep)
    assert files(sweep) == before
    plots = {"plots/choices.png", "plots/effects.png", "plots/curves_loss.png", "plots/curves_model.png"}
    assert files(tmp_path / "out") == {"report.html", "report.md", *plots}
    assert set(re.findall(r"\((plots/.*?)\)", text)) == plots
    head, *table = rows(text, "Choices")
    assert head[:5] == ["loss", "model", "runs", "IoU", "95 % interval"]
    assert [row[0] for row in table] == ["dice", "dice", "bce", "bce"]
    assert all(row[2] == "3" for row in table)
    for row in table:
        low, high = map(float, row[4].split(" to "))
        assert low < float(row[3]) < high
    assert "loss: dice beats bce by 0.1000 IoU (95 % interval 0.1000 to 0.1000; 16 patients, 6 pairs of jobs)." in text
    assert "model: the data cannot tell resunet_small from unet_small: the difference in IoU lies within" in text
    reached = rows(text, "How fast")
    assert reached[1][:4] == ["dice", reached[1][1], "3", "3"]
    assert reached[3][:4] == ["bce", reached[3][1], "3", "0"]
    assert ["seed", "repeated", "0, 1, 2"] in rows(text, "What was varied and what was not")
    assert "What is missing" not in text
    assert "Test IoU" not in text
    said = "All of it is val/iou, a mean over slices, where the tables above are means over patients."
    assert said in text.partition("## How fast")[2].partition("![")[0]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count('<img src="data:image/png;base64,') == 4
    assert "<script>" in page
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", page)
    for sentence in re.findall(r"^- (.*)$", text, re.MULTILINE):
        assert sentence.replace("\\", "") in page.replace("&#x27;", "'"), sentence


def test_plots_of_an_earlier_report_go_and_those_of_others_stay(tmp_path: Path) -> None:
    report(write_sweep(tmp_path / "two", jobs()[:4]))
    for other in ("curves_mine.png", "choices.svg"):
        (tmp_path / "out" / "plots" / other).touch()
    text = report(write_sweep(tmp_path / "one", [Made(["seed=0"]), Made(["seed=1"], {"seed": 1})]))
    assert re.findall(r"\((plots/.*?)\)", text) == ["plots/curves_all.png"]
    plots = {"plots/curves_all.png", "plots/curves_mine.png", "plots/choices.svg"}
    assert files(tmp_path / "out") == {"report.html", "report.md", *plots}


def test_the_same_sweep_gives_the_same_bytes(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "sweep", jobs()[:2])
    for place in ("one", "two"):
        assert lungseg("report", "sweep", f"output={place}").code == 0
    assert files(tmp_path / "one") == files(tmp_path / "two")
    for name in files(tmp_path / "one"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    done = lungseg("report", str(sweep))
    assert {"report.html", "report.md"} <= files(sweep)
    assert f"look at    {Path('sweep/report.html')}" in done.out
    assert (sweep / "report.html").read_bytes() == (tmp_path / "one" / "report.html").read_bytes()


def test_a_sweep_that_runs_or_has_failed_is_reported_as_far_as_it_is(tmp_path: Path) -> None:
    made = jobs()
    made[3] = replace(made[3], status=FAILED, error="Doe.png cannot be read")
    made[4] = replace(made[4], status=NOT_FINISHED)
    made[5:] = [replace(job, status=NOT_FINISHED, curve=()) for job in made[5:]]
    text = report(write_sweep(tmp_path / "sweep", made))
    assert "jobs finished **3 of 12**" in text
    assert "- job 3 (seed=0 loss=bce model=unet_small) failed; job.json in its folder says why" in text
    assert "job 4 (seed=1 loss=dice model=resunet_small) has begun and is not finished" in text
    assert "... and 1 more" in text
    assert "One run each, however: another seed may say otherwise." in text
    assert "Doe.png" not in text + (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_a_sweep_without_any_finished_job_has_a_report_too(tmp_path: Path) -> None:
    text = report(write_sweep(tmp_path / "sweep", [replace(job, status=NOT_FINISHED, curve=()) for job in jobs()]))
    assert "jobs finished **0 of 12**" in text
    assert "## Choices" not in text


def test_the_test_set_stands_beside_and_decides_nothing(tmp_path: Path) -> None:
    made = [
        Made(["model=a"], {"model._target_": "A"}, val=patients(0.8), test=patients(0.5)),
        Made(["model=b"], {"model._target_": "B"}, val=patients(0.7), test=patients(0.9)),
        Made(["model=c"], {"model._target_": "C"}, val=patients(0.6)),
    ]
    text = report(write_sweep(tmp_path / "sweep", made))
    head, *table = rows(text, "Choices")
    assert head[2:7] == ["IoU", "95 % interval", "Test runs", "Test IoU", "Test 95 % interval"]
    assert [row[0] for row in table] == ["a", "b", "c"]
    assert [float(row[5]) < 0.6 for row in table[:2]] == [True, False]
    assert [row[4] for row in table] == ["1", "1", "0"]
    assert table[2][5:7] == ["", ""]
    untested = [replace(job, test=None) for job in made]
    assert lungseg("report", str(write_sweep(tmp_path / "other", untested)), "output=untested").code == 0
    again = (tmp_path / "untested" / "report.md").read_text(encoding="utf-8")
    assert [row[:4] + row[7:] for row in rows(text, "Choices")] == rows(again, "Choices")
    for heading in ("What each setting changes", "How fast"):
        assert rows(text, heading) == rows(again, heading)


def test_sources_have_lines_of_their_own(tmp_path: Path) -> None:
    made = [
        Made([f"model={model}"], {"model._target_": model}, val={**patients(mean), **patients(0.6, 1, "b/")})
        for model, mean in (("one", 0.8), ("two", 0.9))
    ]
    text = report(write_sweep(tmp_path / "sweep", made))
    _, *table = rows(text, "Validation by kind of case")
    assert [row[:3] for row in table] == [["a", "two", "17"], ["a", "one", "17"], ["b", "two", "16"], ["b", "one", "16"]]
    assert [row[-1] for row in table] == ["100%", "100%", "", ""]
    _, *changes = rows(text, "What each setting changes")
    assert [(row[3], row[-1]) for row in changes] == [
        ("32", "two is better in one run"),
        ("16 of a", "two is better in one run"),
        ("16 of b", "cannot be told"),
    ]


def test_a_source_of_few_is_said_to_be_one_and_a_source_of_all_has_no_lines(tmp_path: Path) -> None:
    for few in (2, 0):
        made = [
            Made([f"model={model}"], {"model._target_": model}, val={**patients(mean), **{f"b/{i}": 0.5 for i in range(few)}})
            for model, mean in (("one", 0.8), ("two", 0.9))
        ]
        _, *changes = rows(report(write_sweep(tmp_path / f"sweep{few}", made)), "What each setting changes")
        assert [row[3] for row in changes] == [str(16 + few)] + ["16 of a", f"{few} of b"] * (few > 0)
        assert [row[-1] for row in changes[2:]] == ["too few patients"] * (few > 0)


def test_a_cross_validation_is_one_choice(tmp_path: Path) -> None:
    folds = [
        Made([f"data.fold={fold}"], {"data.fold": fold, "data.folds": 3}, val=patients(0.8, fold, f"a/{fold}")) for fold in range(3)
    ]
    text = report(write_sweep(tmp_path / "sweep", folds))
    head, row = rows(text, "Choices")
    assert (head[0], row[:2]) == ("choice", ["the one", "3"])
    assert "patients in validation **49**" in text
    assert "What each setting changes" not in text
    assert "(plots/curves_all.png)" in text


def test_whole_scans_have_their_figures_in_3d(tmp_path: Path) -> None:
    made = [Made([f"seed={seed}"], {"seed": seed}, scans={"a.nii": 0.9, "b.nii": 0.8 + 0.2 * seed}) for seed in range(2)]
    text = report(write_sweep(tmp_path / "sweep", made))
    head, row = rows(text, "Whole scans")
    assert row[head.index("Dice 3-D")] == "0.9000"
    assert (row[head.index("scans")], "after the post-processing" in text) == ("2", True)


def test_jobs_without_a_table_count_by_their_own_figure(tmp_path: Path) -> None:
    made = [Made([f"seed={seed}"], {"seed": seed}, val=None, curve=(0.5, 0.7)) for seed in range(2)]
    text = report(write_sweep(tmp_path / "sweep", made))
    assert rows(text, "Choices")[1][2:4] == ["0.7000", ""]
    assert "job 0, job 1: no table of validation cases" in text


def test_images_of_nobody_known_are_said_to_count_as_patients(tmp_path: Path) -> None:
    made = jobs()[:2]
    assert "counts as a patient" not in report(write_sweep(tmp_path / "known", made))
    made[1] = replace(made[1], val={**patients(0.8), "one.png": 0.5, "two.png": 0.6})
    said = "Of 2 validation images nobody says whose it is, so that each counts as a patient"
    assert said in report(write_sweep(tmp_path / "unknown", made))


def test_two_sweeps_make_one_report(tmp_path: Path) -> None:
    made = jobs()[:6]
    for name, part in (("one", made[:4]), ("two", made[4:])):
        write_sweep(tmp_path / name, part)
    write_sweep(tmp_path / "whole", made)
    both = report("one", "two")
    assert "# What the sweeps one and two show" in both
    assert rows(report("whole"), "Choices") == rows(both, "Choices")
    assert lungseg("report", "one", "two").code == 0
    assert (tmp_path / "outputs" / "report" / "report.html").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "nowhere is no folder: give a folder that `lungseg train --multirun` has made"),
        (["empty"], "empty holds no sweep.json: give a folder that `lungseg train --multirun` has made"),
        (
            ["single"],
            "single is a single training and no sweep: its scores are in its metrics.json once it is finished, and lungseg",
        ),
        (["sweep/0"], "sweep/0 is a part of a sweep: give the sweep's folder, "),
        (["output=out"], "a sweep's folder is needed"),
        (["sweep", "outputs=out"], "did you mean output?"),
        (["sweep", "-x"], "-x is no option of report"),
        (["sweep", "output=file"], "output=file is a file"),
        (["sweep", "output=masks"], "output=masks holds a prediction, whose report would be replaced"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_reported_is_refused(words: list[str], said: str, tmp_path: Path) -> None:
    write_sweep(tmp_path / "sweep", jobs()[:1])
    write_job(tmp_path / "single", Made())
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "masks" / ".lungseg").mkdir(parents=True)
    before = files(tmp_path)
    assert_refused(lungseg("report", *words), said)
    assert files(tmp_path) == before


def test_help_is_there() -> None:
    assert "lungseg report MULTIRUN_DIR" in lungseg("report", "--help").out
    assert lungseg("report").code == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "best", "opened"),
    [
        (
            ("experiment=ablation", "loss=dice", "augmentation=none", "seed=0,1", "trainer.max_epochs=1"),
            "best choice      model=",
            2,
        ),
        (
            ("experiment=convergence", "seed=0", "model=unet_small,resunet_small", "preprocess.size=64", "trainer.max_epochs=2"),
            "best checkpoint  sweep",
            1,
        ),
        (
            ("experiment=crossval", "data.folds=3", "data.fold=0,1,2", "trainer.max_epochs=1"),
            "of 3 jobs, not all judged on the same patients: none",
            3,
        ),
    ],
    ids=lambda words: words[0] if isinstance(words, tuple) else "",
)
def test_an_experiment_and_its_report(words: tuple[str, ...], best: str, opened: int) -> None:
    """The real thing, small: phantoms, as a student tries it. The Test set is opened for all folds of the best choice."""
    trained = lungseg("train", *PHANTOMS, "trainer=debug", "logger=csv", *words, "hydra.sweep.dir=sweep")
    assert trained.code == 0, trained.err
    assert "lungseg report sweep" in trained.out
    assert best in trained.out
    text = report("sweep")
    jobs = len(list(Path("sweep").glob("*/metrics.json")))
    assert f"jobs finished **{jobs} of {jobs}**" in text
    assert "nobody says whose it is" not in text
    assert rows(text, "Choices")[1:]
    again = lungseg(
        "train", *PHANTOMS, "trainer=debug", "logger=csv", *words, "hydra.sweep.dir=sweep", "sweep.resume=true", "test=best"
    )
    assert again.code == 0, again.err
    assert sum("test/iou" in path.read_text(encoding="utf-8") for path in Path("sweep").glob("*/metrics.json")) == opened
