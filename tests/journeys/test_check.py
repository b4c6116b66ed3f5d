"""Journeys of ``lungseg check``: a data set in, its faults on the screen, as a page and as JSON."""

import json
import os
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from helpers import Done, assert_refused, lungseg, read_png, train, write_png

from builders import write_slice
from lungseg.commands.folders import read_config
from lungseg.commands.plan import planned
from lungseg.commands.rank import test_here as score_test_set
from lungseg.data.phantom import phantom_slice, phantom_volume
from lungseg.errors import UserError

REAL = Path(os.environ.get("LUNGSEG_DATA", Path(__file__).parents[3] / "shared" / "data"))


def check(root: Path, output: Path, *words: str) -> Done:
    return lungseg("check", f"data.root={root}", f"output={output}", *words)


def report(output: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((output / "check.json").read_text(encoding="utf-8"))
    return content


def phantoms(root: Path, part: str, *seeds: int) -> None:
    """Generated slices as 16-bit TIFF files with PNG masks, each of a patient of its own."""
    for seed in seeds:
        made = phantom_slice(seed, 96, height=0.5)
        for folder, suffix, pixels in (
            ("Images", ".tif", made.image_hu.round().astype(np.int16)),
            ("Masks", ".png", (made.sides > 0).astype(np.uint8) * np.uint8(255)),
        ):
            write_png(root / part / folder / f"p{seed}_1{suffix}", pixels)


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    root = tmp_path / "set"
    phantoms(root, "Train", 1, 2, 4, 5)
    phantoms(root, "Test", 8, 9)
    return root


class Page(HTMLParser):
    """What a page loads from elsewhere, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href") and not (value or "").startswith("data:")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_sound_set_has_no_fault(sound: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = check(sound, out, "data=folder", "data.patient_regex='^p(.*)_'")  # as in a training's command
    assert (done.code, done.err) == (0, ""), done.out
    assert "6 files with a mask" in done.out
    assert re.search(r"train +4 +4 +4 +4 +96 x 96 +HU", done.out)
    assert "No fault was found" in done.out
    assert str(out / "check.html") in done.out
    found = report(out)
    assert (found["faults"], found["twins"]) == ([], [])
    assert [part["files"] for part in found["parts"]] == [4, 2]
    pair = next(pair for pair in found["pairs"] if pair["name"] == "train/p2_1.tif")
    assert (pair["patient"], pair["shape"], pair["grey_kind"], pair["mask_values"]) == ("2", [1, 96, 96], "HU", "0, 255")
    mask = read_png(sound / "Train" / "Masks" / "p2_1.png")
    assert pair["lung_fraction"] == pytest.approx((mask > 0).mean(), abs=1e-5)
    assert read_png(out / "suspicious.png").shape[2] == 3
    page = Page(out / "check.html")
    assert page.loads == []
    assert page.tags.count("script") == 1
    assert page.tags.count("img") == 6
    assert "train/p2_1.tif" in page.text
    assert {path.name for path in out.iterdir()} == {"check.html", "check.json", "suspicious.png"}


def test_faults_are_told_together_and_the_rest_goes_on(sound: Path, tmp_path: Path) -> None:
    images, masks = sound / "Train" / "Images", sound / "Train" / "Masks"
    (images / "p1_1.tif").write_bytes((images / "p1_1.tif").read_bytes()[:500])
    mask = read_png(masks / "p2_1.png")
    mask[:4] = 7
    write_png(masks / "p2_1.png", mask)
    write_png(masks / "p4_1.png", read_png(masks / "p4_1.png")[:50])
    write_png(sound / "Test" / "Images" / "p5_2.tif", read_png(images / "p5_1.tif")[:, ::-1])
    write_png(sound / "Test" / "Masks" / "p5_2.png", read_png(masks / "p5_1.png")[:, ::-1])
    done = check(sound, tmp_path / "out", "data.patient_regex=^p(.*)_")
    assert done.code == 1
    faults = report(tmp_path / "out")["faults"]
    assert len(faults) == 5, faults
    for part in ("p1_1.tif cannot be read", "holds 3 values (0, 7, 255)", "96 x 96", "1 patient is both in train and in test (5)"):
        assert sum(part in fault for fault in faults) == 1, part
    assert any("train/p5_1.tif and test/p5_2.tif are alike" in fault for fault in faults)
    for fault in faults:
        assert f"Error: {fault}" in done.out
    assert "5 faults to be mended" in done.out
    assert "To be mended" in Page(tmp_path / "out" / "check.html").text
    assert check(sound, tmp_path / "two", "data.mask_values=255").code == 1
    assert not any("3 values" in fault for fault in report(tmp_path / "two")["faults"])


def test_the_training_that_is_named_knows_whose_the_slices_are(sound: Path, tmp_path: Path) -> None:
    said = check(sound, tmp_path / "out", r"data.patient_regex='^(p\d)_'", "data.mask_values=255").out
    words = shlex.split(next(line for line in said.splitlines() if line.startswith("  train")).partition("lungseg train ")[2])
    assert words[2:] == [r"data.patient_regex=^(p\d)_", "data.mask_values=[255]"]
    source = planned(["--multirun", *words, "trainer=debug"]).jobs[0].config["data"]
    assert (source["patient_regex"], source["mask_values"]) == (r"^(p\d)_", [255])


def test_the_same_picture_in_two_parts_stops_a_training_and_a_copy_is_warned_of(sound: Path, tmp_path: Path) -> None:
    copied, mask = sound / "Test" / "Images" / "other.tif", read_png(sound / "Train" / "Masks" / "p4_1.png")
    write_png(sound / "Test" / "Masks" / "other.png", mask)
    write_png(copied, read_png(sound / "Train" / "Images" / "p4_1.tif"))
    words = (
        "preprocess.size=64",
        "model.widths=[4,8]",
        "trainer=debug",
        "data=folder",
        f"data.root={sound}",
        "data.val_fraction=0.3",
    )
    done = lungseg("train", *words, f"hydra.run.dir={tmp_path / 'run'}")
    assert_refused(done, "1 picture is in two parts of the split", "test/other.tif in test", "remove one")
    write_png(copied, np.roll(read_png(copied)[::-1], 2, axis=1))
    write_png(sound / "Test" / "Masks" / "other.png", mask[::-1])
    done = lungseg("train", *words, f"hydra.run.dir={tmp_path / 'run'}")
    assert done.code == 0, done.out + done.err
    assert "1 pair of pictures is alike across the split" in done.out
    assert "Data: lung in " in done.out
    assert "grey values: HU." in done.out


def test_a_test_set_that_is_opened_later_is_compared_with_what_was_learnt(sound: Path, tmp_path: Path) -> None:
    words = ("preprocess.size=64", "model.widths=[4,8]", "data=folder", f"data.root={sound}", "data.val_fraction=0.3", "logger=csv")
    train(tmp_path / "run", *words, "trainer.max_epochs=1", "test=never")
    for folder, name in (("Images", "p4_1.tif"), ("Masks", "p4_1.png")):
        write_png(sound / "Test" / folder / f"copy{Path(name).suffix}", read_png(sound / "Train" / folder / name))
    with pytest.raises(UserError, match=r"1 picture is in two parts of the split .*test/copy\.tif in test"):
        score_test_set(read_config(tmp_path / "run"), tmp_path / "run", "lungseg train")
    assert "test/iou" not in json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))


def test_doubtful_masks_come_first(sound: Path, tmp_path: Path) -> None:
    masks = sound / "Train" / "Masks"
    phantoms(sound, "Train", 10, 11, 12)
    write_png(masks / "p1_1.png", read_png(masks / "p1_1.png") * 0)
    write_png(masks / "p2_1.png", np.roll(read_png(masks / "p2_1.png"), 40, axis=0))
    write_png(masks / "p5_1.png", read_png(masks / "p4_1.png"))
    done = check(sound, tmp_path / "out")
    assert done.code == 0
    found = report(tmp_path / "out")
    doubts = {pair["name"]: {doubt["kind"] for doubt in pair["doubts"]} for pair in found["pairs"]}
    assert doubts["train/p1_1.tif"] == {"empty"}
    assert "outside" in doubts["train/p2_1.tif"] or "solid" in doubts["train/p2_1.tif"]
    assert {pair["name"] for pair in found["pairs"][:3]} == {"train/p1_1.tif", "train/p2_1.tif", "train/p5_1.tif"}
    assert "train/p4_1.tif, train/p5_1.tif have one and the same mask." in found["notes"]
    assert "Without lung: 1 of 9 slices." in found["notes"]
    assert any(note.startswith("The patient is not known") for note in found["notes"])


def test_volumes_and_other_units_of_grey_are_told(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for seed, slope, offset in ((1, 1, 0), (2, 0.8165, 0), (3, 1, 1024)):
        volume = phantom_volume(seed, (24, 64, 64))
        for folder, voxels in (
            ("Images", (volume.voxels_hu.clip(-1024) * slope + offset).round().astype(np.int16)),
            ("Masks", (volume.sides > 0).astype(np.uint8)),
        ):
            (root / "Test" / folder).mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(sitk.GetImageFromArray(voxels), str(root / "Test" / folder / f"{seed}.nii.gz"))
    done = check(root, tmp_path / "out", "-q")
    assert (done.code, done.err) == (0, "")
    assert all(line.startswith("Warning: test/") for line in done.out.splitlines())
    found = report(tmp_path / "out")
    assert [pair["grey_kind"] for pair in sorted(found["pairs"], key=lambda pair: pair["name"])] == [
        "HU", "HU at another scale", "HU with an offset",
    ]  # fmt: skip
    notes = " ".join(found["notes"])
    for part in ("several kinds", "Not true HU (1 file)", "slope near 1.2", "an intercept near", "Without lung: "):
        assert part in notes
    assert [[doubt["kind"] for doubt in pair["doubts"]] for pair in found["pairs"]] == [[], [], []]


def test_a_manifest_can_be_checked(sound: Path, tmp_path: Path) -> None:
    places = ((1, "Train", "train"), (2, "Train", "val"), (8, "Test", "test"), (9, "Test", "test"))
    rows = [f"{folder}/Images/p{seed}_1.tif,{folder}/Masks/p{seed}_1.png,{seed},{part}" for seed, folder, part in places]
    manifest = sound / "all.csv"
    manifest.write_text("\n".join(["image,mask,patient,split", *rows]) + "\n", encoding="utf-8")
    done = lungseg("check", f"data.manifest={manifest}", f"output={tmp_path / 'out'}")
    assert done.code == 0, done.out
    assert [(part["part"], part["patients"]) for part in report(tmp_path / "out")["parts"]] == [
        ("train", 1),
        ("val", 1),
        ("test", 2),
    ]


def test_the_report_has_a_place_of_its_own_unless_told(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = lungseg("check", f"data.root={sound}")
    assert done.code == 0
    assert (tmp_path / "outputs" / "check" / "set" / "check.html").is_file()
    assert f"look at  {Path('outputs', 'check', 'set', 'check.html')}" in done.out


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ((), ["data.root=DIR or data.manifest=FILE.csv is needed"]),
        (("data.root=nowhere",), ["nowhere is not a folder"]),
        (("data.rot=x",), ["data.rot is no option of check", "did you mean data.root?"]),
        (("data.root=x", "data.mask_values=a"), ["data.mask_values=a must be numbers"]),
        (("data.root=x", "data.patient_regex=("), ["is no regular expression"]),
        (("data.root=x", "data.manifest=y"), ["one of them"]),
        (("data=phantom",), ["data=phantom cannot be checked"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_wrong_options_are_refused(words: tuple[str, ...], parts: list[str]) -> None:
    done = lungseg("check", *words, "-q")
    assert_refused(done, *parts)


def test_a_report_never_lies_among_the_data(sound: Path, tmp_path: Path) -> None:
    assert_refused(check(sound, sound / "Train" / "Images"), "lies among the images or masks")
    assert_refused(check(sound, sound / "Train" / "Masks" / "report" / "deep"), "lies among the images or masks")
    (tmp_path / "file").write_text("")
    assert_refused(check(sound, tmp_path / "file"), "is a file")
    (sound / "Train" / "Images" / "lonely.png").write_bytes((sound / "Train" / "Masks" / "p1_1.png").read_bytes())
    assert check(sound, tmp_path / "out").code == 1  # the other pairs are looked at all the same
    assert "1 image has no mask" in report(tmp_path / "out")["faults"][0]
    assert len(report(tmp_path / "out")["pairs"]) == 6


def test_one_training_case_is_too_few_and_none_is_said(tmp_path: Path) -> None:
    phantoms(tmp_path / "one", "Train", 3)
    assert check(tmp_path / "one", tmp_path / "out").code == 1
    assert report(tmp_path / "out")["faults"][0].startswith("there is only one training patient or case (train/p3_1.tif)")
    phantoms(tmp_path / "test", "Test", 3)
    assert check(tmp_path / "test", tmp_path / "out").code == 0
    assert report(tmp_path / "out")["notes"][0].startswith("There is no training part")


def test_masks_that_all_misfit_are_a_fault_and_so_is_a_test_set_without_lung(sound: Path, tmp_path: Path) -> None:
    for part, change in (("Train", lambda mask: np.roll(mask, 40, axis=0)), ("Test", np.zeros_like)):
        for path in (sound / part / "Masks").iterdir():
            write_png(path, change(read_png(path)))
    assert check(sound, tmp_path / "out").code == 1
    faults = report(tmp_path / "out")["faults"]
    assert [fault.partition(" (")[0] for fault in faults[:1]] == ["4 of 4 masks in train do not fit their images"]
    assert faults[1].startswith("no test mask holds any lung")


def test_debug_shows_what_lies_behind_an_error(sound: Path, tmp_path: Path) -> None:
    done = lungseg("check", "data.root=nowhere", "debug=true")
    assert done.code == 2
    assert "Traceback" in done.err
    assert done.err.splitlines()[-1].startswith("Error: nowhere is not a folder")
    for command in ("train", "predict"):
        assert "Traceback" in lungseg(command, "debug=true", "unknown=1").err
        assert "Traceback" not in lungseg(command, "unknown=1").err


def test_the_same_picture_twice_in_training_is_a_fault_unless_it_is_one_patients(sound: Path, tmp_path: Path) -> None:
    for folder, suffix in (("Images", ".tif"), ("Masks", ".png")):
        write_png(sound / "Train" / folder / f"p4_2{suffix}", read_png(sound / "Train" / folder / f"p4_1{suffix}"))
    assert check(sound, tmp_path / "known", "data.patient_regex=^p(.*)_").code == 0
    assert [(twins["likeness"], twins["leak"]) for twins in report(tmp_path / "known")["twins"]] == [(1.0, False)]
    done = check(sound, tmp_path / "unknown")
    assert done.code == 1  # validation is drawn from these, and may part them
    assert report(tmp_path / "unknown")["faults"] == [
        "train/p4_1.tif and train/p4_2.tif hold the same picture: results would be too good; remove one."
    ]


def test_many_slices_of_one_scan_on_both_sides_are_one_fault(tmp_path: Path) -> None:
    for part, shift in (("Train", 0), ("Test", 2)):
        for seed in range(8):
            made = phantom_slice(seed, 96, height=0.5)
            write_png(tmp_path / part / "Images" / f"{seed}.tif", np.roll(made.image_hu.round().astype(np.int16), shift, axis=0))
            write_png(tmp_path / part / "Masks" / f"{seed}.png", np.roll((made.sides > 0).astype(np.uint8) * 255, shift, axis=0))
    assert check(tmp_path, tmp_path / "out").code == 1
    (fault,) = report(tmp_path / "out")["faults"]
    assert fault.startswith("8 pairs of files are alike (train/")
    assert "name the patients by data.patient_regex" in fault


def test_help_says_all_options() -> None:
    done = lungseg("check", "--help")
    assert done.code == 0
    for word in ("data.root=", "data.manifest=", "data.patient_regex=", "output=", "Exit code"):
        assert word in done.out
    assert lungseg("check").code == 2


def test_what_is_on_a_page_is_text_and_no_markup(tmp_path: Path) -> None:
    for seed, name in enumerate(("a<b>&amp;.png", "plain.png", "third.png")):
        write_slice(tmp_path / "Train" / "Images", tmp_path / "Train" / "Masks", name, seed)
    assert check(tmp_path, tmp_path / "out").code == 0
    assert "train/a<b>&amp;.png" in Page(tmp_path / "out" / "check.html").text


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="the real data are not here")
def test_faults_of_real_sets_are_found_unasked(tmp_path: Path) -> None:
    assert check(REAL / "lungsegdb", tmp_path / "lungsegdb", "-q").code == 0
    found = report(tmp_path / "lungsegdb")
    assert found["pairs"][0]["name"] == "test/310.png"  # a liver dome taken for lung
    assert any("Lungs in the lowest grey of all" in note for note in found["notes"])
    assert sum("rim" in {doubt["kind"] for doubt in pair["doubts"]} for pair in found["pairs"]) >= 2  # thin rims missed
    assert check(REAL / "finding_lungs", tmp_path / "finding", "-q").code == 0
    found = report(tmp_path / "finding")
    assert not any(pair["doubts"] for pair in found["pairs"])
    scaled = sum(pair["grey_kind"] == "HU at another scale" for pair in found["pairs"])
    assert scaled >= 0.98 * len(found["pairs"])  # where no air is seen around the body nobody can tell
    assert found["twins"] == []
