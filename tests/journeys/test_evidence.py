"""Journeys of ``benchmarks/evidence.py``: what its steps leave behind."""

import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pytest
from helpers import files, table

import evidence
from builders import chest, write_slice
from evidence import FINDING_SLOPE, MANIFESTS, PICTURES, equal_time, main, pictures, reported, shown, write_manifest
from lungseg.labels import LUNG
from sweeps import Made, write_sweep


def test_a_step_ends_with_its_report(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "screening", [Made(["seed=0"])])
    assert reported(sweep) == 0
    assert {"report.html", "report.md"} <= files(sweep / "report")


def test_a_step_that_cannot_be_reported_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reported(tmp_path) == 2
    assert "holds no sweep.json" in capsys.readouterr().err


def test_the_plain_network_trains_longer_by_as_much_as_it_is_faster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"resunet_small": 12.0, "unet_small": 10.0}
    made = [
        Made([f"seed={seed}", f"model={model}"], val={f"p{seed}": 0.9}, epoch_seconds=seconds[model])
        for seed in range(5)
        for model in seconds
    ]
    write_sweep(tmp_path / "residual", made)
    words: list[str] = []

    def train(step: Sequence[str], folder: Path, output: Path, jobs: int) -> int:
        words.extend(step)
        write_sweep(folder, [Made([f"seed={seed}"], val={f"p{seed}": 0.8}) for seed in range(5)])
        return 0

    monkeypatch.setattr(evidence, "trained", train)
    monkeypatch.setattr(evidence, "EPOCHS", 10)
    assert equal_time(tmp_path, jobs=2) == 0
    assert {"model=unet_small", "trainer.max_epochs=12"} <= set(words)
    found = json.loads((tmp_path / "equal_time" / "report" / "compare.json").read_text())["images"]
    assert [(one["a"], one["b"], one["patients"]) for one in found["figures"] if one["figure"] == "iou"] == [(0.9, 0.8, 5)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The sets of the evidence, two or more cases each."""
    names = {"finding_lungs": [f"ID_{n:04}_Z_01.tif" for n in range(5)], "lctsc": ["S1.tif", "S2.tif"]}
    for name, part in product(names, ("Train", "Test")):
        root = tmp_path / "data" / name / part
        for image in names[name]:
            write_slice(root / "Images", root / "Masks", image, seed=len(image))
    return tmp_path / "data"


def test_manifests_say_whose_a_slice_is_and_what_it_is_for(data: Path, tmp_path: Path) -> None:
    write_manifest(tmp_path / "all.csv", data, (("lctsc", "Train", "train"), ("finding_lungs", "Test", "test")))
    rows = table(tmp_path / "all.csv")
    assert [(row["patient"], row["split"], row["source"], float(row["slope"])) for row in rows[1:3]] == [
        ("lctsc S2", "train", "lctsc", 1),
        ("finding_lungs ID_0000", "test", "finding_lungs Test", FINDING_SLOPE),
    ]
    assert [Path(row["mask"]).relative_to(data) for row in rows[:1]] == [Path("lctsc/Train/Masks/S1.png")]


def test_what_is_missing_is_said(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"data={data}", f"output={tmp_path / 'out'}", "only=test"]) == 2
    assert "lungsegdb/Test/Images is no folder" in capsys.readouterr().err
    for words, said in (
        ([f"data={data}"], "output=... is needed"),
        (["onyl=test"], "did you mean only?"),
        (["data="], "needs a value"),
    ):
        assert main(words) == 2
        assert said in capsys.readouterr().err
    assert main([f"data={data}", f"output={tmp_path / 'out'}", "only=tset"]) == 2
    assert "only=tset is unknown: did you mean test?" in capsys.readouterr().err
    for step, first in (("pictures", "to_finding"), ("equal_time", "residual")):
        assert main([f"data={data}", f"output={tmp_path / 'early'}", f"only={step}"]) == 2
        assert f"run only={first} first" in capsys.readouterr().err
    (data / "lctsc" / "Train" / "Masks" / "S1.png").unlink()
    assert main([f"data={data}", f"output={tmp_path / 'out'}", "only=residual"]) == 2
    assert "S1.tif has no mask of its name" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_networks_are_judged_on_pictures_of_the_slices(data: Path, tmp_path: Path, seeing_file: Path) -> None:
    write_manifest(tmp_path / "manifests" / "to_finding.csv", data, MANIFESTS["to_finding"])
    sweep = write_sweep(tmp_path / "to_finding", [Made([f"augmentation={one}"]) for one in ("robust", "light", "none")])
    for job in "012":
        (sweep / job / "checkpoints").mkdir(exist_ok=True)
        (sweep / job / "checkpoints" / "best.ckpt").write_bytes(seeing_file.read_bytes())
    assert pictures(tmp_path) == 0
    for kind in PICTURES:
        folder = tmp_path / "pictures" / kind
        assert len(table(folder / "of" / "1" / "summary.csv")) == 5
        found = json.loads((folder / "robust against none" / "compare.json").read_text())["images"]["figures"]
        assert {(one["difference"], one["patients"]) for one in found if one["figure"] == "iou"} == {(0, 5)}
    assert pictures(tmp_path) == 0, "what is done stays"


def test_a_picture_shows_what_its_kind_says() -> None:
    image_hu, labels = chest(seed=1)
    images, masks = zip(*(shown(kind, image_hu, labels) for kind in ("lung", "mediastinum", "equalised", "turned")), strict=True)
    lung, soft, equalised, turned = images
    where = labels == LUNG
    assert lung[where].mean() == pytest.approx(255 * (-850 + 600 + 750) / 1500, abs=2)
    assert soft[where].max() == 0
    assert equalised.std() != lung.std()
    assert (turned[::-1, ::-1] == lung).all()
    assert (masks[3][::-1, ::-1] == masks[0]).all()
    assert ((masks[0] == 255) == where).all()
