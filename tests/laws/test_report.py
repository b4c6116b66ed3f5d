"""Laws of ``report.html``: every scan once, the suspicious ones first, and small however many there are."""

import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lungseg.errors import UserError
from lungseg.imaging.thumbnails import jpeg_of
from lungseg.imaging.writers import write_picture
from lungseg.inference.items import Item, Result, Source
from lungseg.inference.report import write_report
from lungseg.metrics.lungs import Lung


def lungs(volume_ml: float) -> tuple[Lung, ...]:
    def lung(side: str, share: float) -> Lung:
        return Lung(side, volume_ml > 0, volume_ml * share, -800.0, -810.0, -900.0, 0.05, 250.0, False, ())

    return lung("right", 0.55), lung("left", 0.45), lung("both", 1.0)


def result(name: str, folder: Path = Path("nowhere"), *, volume: bool = True) -> Result:
    ending = ".nii.gz" if volume else ".png"
    targets = (folder / part for part in (f"m{ending}", "o.png", f"p{ending}", "s.dcm", "r.json"))
    item = Item(Source(name, folder / name), *targets)
    return Result(item, lung_fraction=0.25, lungs=lungs(5000.0) if volume else ())


def page(results: list[Result], folder: Path) -> str:
    write_report(results, folder)
    return (folder / "report.html").read_text(encoding="utf-8")


def names(source: str) -> list[str]:
    return re.findall(r'<td class="name"><b>(.*?)</b>', source)


def test_the_suspicious_come_first(tmp_path: Path) -> None:
    ordinary = [result(f"scan{number}") for number in (10, 9)]
    wild = replace(result("wild"), lungs=lungs(40_000.0), warnings=("40,000 mL are not the volume of lungs",))
    one, two = replace(result("one"), warnings=("odd",)), replace(result("two"), warnings=("odd", "odder"))
    failed = [replace(result(name), lungs=(), error=f"{name} is damaged") for name in ("z", "y")]
    left_out = replace(result("mask"), lungs=(), error="holds labels", is_mask=True)
    source = page([left_out, *ordinary, one, two, wild, *failed], tmp_path)
    assert names(source) == ["y", "z", "wild", "two", "one", "scan9", "scan10", "mask"]
    assert re.findall(r'<tr data-kind="(.*?)">', source) == ["failed"] * 2 + ["warned"] * 3 + ["clean"] * 2 + ["left out"]
    for what, figure in (("scans", "8"), ("failed", "2"), ("with warnings", "3"), ("left out", "1"), ("median volume", "5,000 mL")):
        assert re.search(rf"<dt>{what}</dt><dd[^>]*>{figure}</dd>", source), what


@given(
    st.lists(
        st.tuples(st.text(min_size=1, max_size=20), st.lists(st.text(max_size=9), max_size=2), st.booleans(), st.booleans()),
        min_size=1,
        max_size=6,
    )
)
def test_every_scan_has_its_row(tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[str, list[str], bool, bool]]) -> None:
    results = []
    for name, warnings, fails, is_volume in drawn:
        made = replace(result("x", volume=is_volume), warnings=tuple(warnings))
        made = replace(made, item=replace(made.item, source=Source(name, Path("x"))))
        results.append(replace(made, lungs=(), lung_fraction=float("nan"), error=name) if fails else made)
    source = page(results, tmp_path_factory.mktemp("page"))
    assert source.count("<tr data-kind=") == len(drawn)
    assert source.count('data-kind="failed"') == sum(fails for *_, fails, _ in drawn)
    assert ('class="histogram"' in source) == any(not fails for *_, fails, _ in drawn)


@pytest.mark.parametrize(("volumes", "what"), [((False, False), "slices"), ((True, True), "scans"), ((False, True), "scans")])
def test_slices_are_no_scans(volumes: tuple[bool, bool], what: str, tmp_path: Path) -> None:
    source = page([result(str(number), volume=is_volume) for number, is_volume in enumerate(volumes)], tmp_path)
    assert f"<h1>Lungs of 2 {what}</h1>" in source
    assert f"<dt>{what}</dt>" in source
    assert f"<span>{what.capitalize()[:-1]}</span>" in source


def test_pictures_have_their_share_and_truths_their_scores(tmp_path: Path) -> None:
    figures = {"iou": 0.85, "dice": 0.92, "iou_3d": 0.84, "dice_3d": 0.91}
    plain = page([result("a"), result("b.png", volume=False)], tmp_path)
    assert "<span>Lung<small>% of picture</small></span>" in plain
    assert 'data-v="25.0"' in plain
    assert "Dice" not in plain
    source = page([replace(result("a"), figures=figures), replace(result("b.png", volume=False), figures=figures)], tmp_path)
    assert source.count("<span>Dice<small>") == 2
    for told in ("0.840", "0.910", "0.850", "0.920"):  # of all voxels of a scan together, of a picture over its slices
        assert source.count(f">{told}<") == 1
    shares = page([result("b.png", volume=False), result("c.png", volume=False)], tmp_path)
    assert "Share of the picture that is lung, %" in shares
    assert "mL" not in shares


def test_a_picture_is_there_or_the_reason_why_not(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    drawn, missing = result("a", tmp_path / "a"), result("b")
    drawn.item.mask.touch()
    write_picture(drawn.item.overlay, np.full((70, 90, 3), 200, np.uint8))
    source = page([drawn, missing, replace(missing, error="damaged", lungs=())], tmp_path)
    assert source.count('<img src="data:image/jpeg;base64,') == 1
    assert 'width="90" height="70"' in source
    for reason in ("not drawn: overlays=true draws it", "no mask"):
        assert source.count(reason) == 1
    drawn.item.overlay.write_bytes(b"no picture")
    assert "the picture cannot be read" in page([drawn, missing], tmp_path)


@pytest.mark.parametrize("most", [400, 10_000, 30_000, 10**6])
def test_a_picture_fits_or_is_left_out(most: int, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 420, 3), dtype=np.uint8)
    write_picture(tmp_path / "a.png", noise)
    made = jpeg_of(tmp_path / "a.png", most)
    if most == 400:
        assert made is None
        return
    assert made is not None
    assert len(made[0]) <= most
    assert cv2.imdecode(np.frombuffer(made[0], np.uint8), cv2.IMREAD_COLOR).shape[:2] == made[1]
    assert (made[1] == (300, 420)) == (most == 10**6)
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(UserError, match="no picture"):
        jpeg_of(tmp_path / "a.png", most)
