"""Journeys of ``benchmarks/evidence.py``: what its steps leave behind."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers import files, read_png, table

import evidence
from builders import write_slice
from evidence import PICTURES, equal_time, pictures, reported
from sweeps import Made, write_sweep


def test_a_step_ends_with_its_report(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "screening", [Made(["seed=0"])])
    assert reported(sweep) == 0
    assert {"report.html", "report.md"} <= files(sweep / "report")


def test_a_step_that_cannot_be_reported_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reported(tmp_path) == 2
    assert "holds no sweep.json" in capsys.readouterr().err


def test_plain_networks_train_longer_by_as_much_as_they_are_faster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"resunet_small": 12.0, "unet_small": 10.0, "unet_matched": 11.0}
    made = [
        Made([f"seed={seed}", f"model={model}"], val={f"p{seed}": 0.9}, epoch_seconds=seconds[model])
        for seed in range(5)
        for model in seconds
    ]
    write_sweep(tmp_path / "residual", made)
    epochs = {}

    def train(step: Sequence[str], folder: Path, output: Path, jobs: int) -> int:
        words = {word.partition("=")[0]: word.partition("=")[2] for word in step}
        epochs[words["model"]] = words["trainer.max_epochs"]
        write_sweep(folder, [Made([f"seed={seed}", f"model={words['model']}"], val={f"p{seed}": 0.8}) for seed in range(5)])
        return 0

    monkeypatch.setattr(evidence, "trained", train)
    assert equal_time(tmp_path, jobs=2) == 0
    assert epochs == {"unet_small": "12", "unet_matched": "11"}
    for model in epochs:
        found = json.loads((tmp_path / f"equal_time_{model}" / "report" / "compare.json").read_text())["images"]
        assert [(one["a"], one["b"], one["patients"]) for one in found["figures"] if one["figure"] == "iou"] == [(0.9, 0.8, 5)]


def test_networks_are_judged_on_pictures_of_the_slices(tmp_path: Path, seeing_file: Path) -> None:
    for number in range(5):
        write_slice(tmp_path / "Images", tmp_path / "Masks", f"p{number}.tif", seed=number)
    sweep = write_sweep(tmp_path / "to_finding", [Made([f"augmentation={one}"]) for one in ("robust", "light", "none")])
    for job in "012":
        (sweep / job / "checkpoints").mkdir(exist_ok=True)
        (sweep / job / "checkpoints" / "best.ckpt").write_bytes(seeing_file.read_bytes())
    assert pictures(tmp_path, tmp_path) == 0
    for kind in PICTURES:
        folder = tmp_path / "pictures" / kind
        assert len(table(folder / "light" / "1" / "summary.csv")) == 5
        found = json.loads((folder / "robust against none" / "compare.json").read_text())["images"]["figures"]
        assert {(one["difference"], one["patients"]) for one in found if one["figure"] == "iou"} == {(0, 5)}
    lung, soft = (read_png(tmp_path / "pictures" / kind / "images" / "p0.png") for kind in ("lung", "mediastinum"))
    assert (lung == 0).mean() < 0.01
    assert (soft == 0).mean() > 0.4, "air and lung are black"
