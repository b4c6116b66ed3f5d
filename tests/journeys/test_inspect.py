"""Journeys of inspection: what lies in a folder, what a prediction would take of it, and that the prediction does just that."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Done, assert_refused, files, lungseg, predict, table

from builders import write_slice
from dicoms import Place, litter, others, plain_hu, series, uid, write
from greyscales import window
from patients import HU, ORIGIN_MM, PLACE, SIDES, SPACING_MM, save


def inspect(path: Path, *words: str) -> tuple[Done, dict[str, dict[str, Any]], dict[str, str]]:
    """What was said, the scans by name (and number), and the reasons of files that were left out."""
    report = path.parent / f"{path.name}.json"
    done = lungseg("inspect", str(path), f"json={report}", *words)
    found = json.loads(report.read_text(encoding="utf-8"))
    scans = {f"{scan['name']} {scan['number'] or ''}".strip(): scan for scan in found["scans"]}
    return done, scans, {entry["file"]: entry["reason"] for entry in found["skipped"]}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A soft and a sharp series of one study, one with a gap, an MR scan, a volume, a picture of 8 bits and two kinds of litter."""
    root = tmp_path_factory.mktemp("mixed") / "in"
    soft = series(HU, PLACE, SeriesNumber=2, ConvolutionKernel="B30f")
    sharp = series(HU[::2], replace(PLACE, step_mm=27.0), seed="b", SeriesNumber=4, ConvolutionKernel="B70f")
    write(root / "p1", [*soft, *sharp], names="shuffled")
    gap = series(HU, PLACE, seed="c", StudyInstanceUID=uid("gap"), SeriesNumber=1)
    write(root / "p2", gap[:5] + gap[6:])
    write(root / "p3", series(HU[:3], PLACE, seed="d", StudyInstanceUID=uid("mr"), Modality="MR"))
    save(root / "volume.nii.gz", orientation="RAS")
    save(root / "grey.nrrd", window(HU, -600, 1500))
    write_slice(root, root.parent / "truth", "slice.png", seed=0)
    litter(root)
    for name in ("text", "empty"):
        others()[name](root)
    return root


def test_a_mixed_folder_is_told_in_full(mixed: Path) -> None:
    done, scans, skipped = inspect(mixed)
    assert (done.code, done.err) == (0, "")
    assert list(scans) == ["p2 1", "p1 2", "p1 3", "grey.nrrd", "slice.png", "volume.nii.gz"]
    soft, sharp, gap = scans["p1 2"], scans["p1 3"], scans["p2 1"]
    assert (soft["slices"], soft["size"], soft["kernel"], soft["modality"]) == (24, [64, 56], "B30f", "CT")
    assert soft["spacing_mm"] == pytest.approx(SPACING_MM)
    assert (soft["orientation"], soft["greys"], soft["kind"]) == ("LPS", "HU", "DICOM series")
    assert -1100 < soft["grey_range"][0] < -900 < 200 < soft["grey_range"][1] <= HU.max()
    assert (sharp["slices"], sharp["kernel"], sharp["spacing_mm"][0]) == (12, "B70f", 27.0)
    assert (soft["segmented"], sharp["segmented"], gap["segmented"]) == (True, False, False)
    assert sharp["verdict"] == "another series of its study is taken"
    assert "1 slice is missing" in gap["verdict"]
    volume, grey, picture = scans["volume.nii.gz"], scans["grey.nrrd"], scans["slice.png"]
    assert (volume["orientation"], volume["kind"], volume["greys"]) == ("RAS", "volume", "HU")
    assert volume["grey_range"] == [HU.min(), HU.max()]
    assert (grey["greys"], grey["grey_range"]) == ("8-bit grey", [55, 255])  # -1024 and whatever is above 150 HU
    assert any("input.window" in doubt for doubt in grey["doubts"])
    assert (picture["kind"], picture["spacing_mm"], picture["slices"]) == ("picture", None, 1)
    assert skipped["empty.dcm"] == "is empty (0 bytes)"
    assert skipped["readme.txt"] == "is no image"
    assert skipped["p3/IM0000.dcm"] == "is MR, no CT"
    assert not any("DS_Store" in name for name in skipped)


def test_the_table_shows_what_the_json_holds(mixed: Path) -> None:
    done, scans, _ = inspect(mixed, "-q")
    for name, scan in scans.items():
        key = name.split()[0]
        line = next(line for line in done.out.splitlines() if key in line and scan["kernel"] in line)
        assert " x ".join(map(str, [*scan["size"], scan["slices"]])) in line
        assert line.split()[-1] == ("yes" if scan["segmented"] else "no")
        assert scan["greys"] in line
    assert "5.25 x 5.25 x 13.5" in done.out


def test_what_is_said_to_be_taken_is_what_is_segmented(mixed: Path, seeing_file: Path, tmp_path: Path) -> None:
    done, scans, _ = inspect(mixed)
    predict(seeing_file, mixed, tmp_path / "out", "overlays=false")
    segmented = {row["file"] for row in table(tmp_path / "out" / "summary.csv") if row["lung_fraction"]}
    assert segmented == {scan["name"] for scan in scans.values() if scan["segmented"]}
    assert f"{len(segmented)} scans would be segmented" in done.out


def test_the_number_that_is_shown_is_what_predict_takes(mixed: Path, seeing_file: Path, tmp_path: Path) -> None:
    _, scans, _ = inspect(mixed / "p1")
    for scan in scans.values():
        out = tmp_path / f"out{scan['number']}"
        assert predict(seeing_file, mixed / "p1", out, f"series={scan['number']}", "overlays=false").code == 0
        (written,) = json.loads((out / "measurements.json").read_text())
        assert written["shape"][0] == scan["slices"]
        assert written["spacing_mm"] == pytest.approx(scan["spacing_mm"])
    assert {scan["slices"] for scan in scans.values()} == {12, 24}


def test_one_file_of_any_kind_is_told(mixed: Path, tmp_path: Path) -> None:
    for name, kind in (("volume.nii.gz", "volume"), ("slice.png", "picture"), ("p1/" + sorted(files(mixed / "p1"))[0], None)):
        report = tmp_path / "one.json"
        done = lungseg("inspect", str(mixed / name), f"json={report}")
        assert done.code == 0
        (scan,) = json.loads(report.read_text())["scans"]
        assert scan["segmented"]
        assert kind in (None, scan["kind"])


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd"])
def test_a_label_volume_is_judged(name: str, tmp_path: Path) -> None:
    swapped = np.where(SIDES > 0, 3 - SIDES, 0).astype(np.uint8)
    save(tmp_path / "in" / "sound" / name, SIDES, orientation="RAI")
    save(tmp_path / "in" / "swapped" / name, swapped)
    save(tmp_path / "in" / "one" / name, (SIDES == 1).astype(np.uint8))
    done, scans, _ = inspect(tmp_path / "in")
    assert done.code == 1  # nothing to segment
    assert {scan["kind"] for scan in scans.values()} == {"labels"}
    assert {scan["verdict"] for scan in scans.values()} == {"it holds labels, no grey values"}
    assert not any("exchanged" in doubt for doubt in scans[f"sound/{name}"]["doubts"])
    assert any("exchanged" in doubt for doubt in scans[f"swapped/{name}"]["doubts"])
    assert f"swapped/{name}: left and right are exchanged" in done.out
    _, other, _ = inspect(tmp_path / "in", "right=2")
    assert any("exchanged" in doubt for doubt in other[f"sound/{name}"]["doubts"])
    assert not any("exchanged" in doubt for doubt in other[f"swapped/{name}"]["doubts"])


def test_label_volumes_beside_scans_are_segmented_by_neither(seeing_file: Path, tmp_path: Path) -> None:
    save(tmp_path / "in" / "image.nii.gz")
    save(tmp_path / "in" / "mask.nii.gz", SIDES)
    _, scans, _ = inspect(tmp_path / "in")
    assert {name: scan["segmented"] for name, scan in scans.items()} == {"image.nii.gz": True, "mask.nii.gz": False}
    done = predict(seeing_file, tmp_path / "in", tmp_path / "out")
    assert done.code == 0  # it was left out, as inspect says; given alone it is an error
    assert "left out" in done.out
    rows = {row["file"]: row["error"] for row in table(tmp_path / "out" / "summary.csv")}
    assert "holds labels, no grey values" in rows["mask.nii.gz"]
    assert "mask.nii.gz" not in files(tmp_path / "out")
    assert "image.nii.gz" in files(tmp_path / "out")


def test_codes_say_whether_there_is_anything_to_segment(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    done, scans, skipped = inspect(folder)
    assert (done.code, scans, skipped) == (1, {}, {})
    assert "0 scans would be segmented" in done.out
    write(folder, series(HU[:3], PLACE, Modality="MR"))
    done, scans, skipped = inspect(folder)
    assert (done.code, scans, len(skipped)) == (1, {}, 3)
    assert "not taken: IM0000.dcm and 2 more: is MR, no CT" in done.out
    save(folder / "a.nii.gz")
    assert inspect(folder)[0].code == 0
    (tmp_path / "b.nii.gz").write_bytes(b"nonsense")
    assert lungseg("inspect", str(tmp_path / "b.nii.gz")).code == 1
    assert_refused(lungseg("inspect", str(tmp_path / "nowhere")), "neither a file nor a folder")
    assert_refused(lungseg("inspect", str(folder), "right=3"), "right=3")
    assert_refused(lungseg("inspect", str(folder), "jsn=a"), "jsn")
    assert lungseg("inspect").code == 2
    helped = lungseg("inspect", "--help")
    assert helped.code == 0
    assert "json=FILE" in helped.out


def test_nothing_is_changed(mixed: Path) -> None:
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in mixed.rglob("*") if path.is_file()}
    inspect(mixed)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in mixed.rglob("*") if path.is_file()} == before


def test_a_thousand_files_take_seconds(tmp_path: Path) -> None:
    for number in range(5):
        place = Place(origin_mm=ORIGIN_MM, step_mm=1.25)
        write(tmp_path / "in" / f"p{number}", series(plain_hu((200, 16, 16)), place, seed=number, StudyInstanceUID=uid(number)))
    began = time.perf_counter()
    done, scans, _ = inspect(tmp_path / "in")
    seconds = time.perf_counter() - began
    assert len(scans) == 5
    assert {scan["slices"] for scan in scans.values()} == {200}
    print(f"1,000 DICOM files: {seconds:.1f} s")
    assert seconds < 20
    assert done.code == 0
