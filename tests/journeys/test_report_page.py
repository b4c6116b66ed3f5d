"""The journey of somebody who looks through a cohort: many scans in, one page out, opened in a real browser."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Done, files, lungseg, predict, table, write_png

from builders import chest
from lungseg.data.phantom import phantom_slice
from patients import HU, save

BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
WEIRD = '<i onclick="alert(1)">Grüße & "x" 5%.nii.gz' if os.name == "posix" else "Grüße & 5%.nii.gz"


@pytest.fixture(scope="module")
def cohort(seeing_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """The output and the words of a prediction: three sound scans, one of one lung, a damaged one, a mask and a slice."""
    home = tmp_path_factory.mktemp("cohort")
    scans = home / "scans"
    save(scans / "scan10.nii.gz")
    save(scans / "scan9.mha", HU[:10].copy())
    save(scans / "plain.nii.gz").rename(scans / WEIRD)
    save(scans / "half.nrrd", HU[:, :, :28].copy())
    save(scans / "mask.nrrd", (HU < -500).astype(np.uint8))
    (scans / "cut.nii.gz").write_bytes((scans / "scan10.nii.gz").read_bytes()[:9000])
    write_png(scans / "slice.tif", chest()[0].round().astype(np.int16))
    return home / "out", predict(seeing_file, scans, home / "out", "threshold=0.3")  # at 0.5 the rims of all lungs are too thin


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'")
    if BROWSER is None:
        pytest.skip("neither chromium nor google-chrome is installed")
    with sync_api.sync_playwright() as playwright:
        args = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=BROWSER, args=args)
        yield browser
        browser.close()


@pytest.fixture
def opened(cohort: tuple[Path, Done], browser: Any) -> Iterator[Any]:
    """The report in a window; whatever it asks of others or complains of fails the test."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    page, report = context.new_page(), (cohort[0] / "report.html").as_uri()
    asked: list[str] = []
    wrong: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(report)
    yield page
    context.close()
    assert [url for url in asked if not url.startswith("data:image/jpeg;")] == [report]
    assert wrong == []


def names(page: Any) -> list[str]:
    """Of the scans that are shown, from the top."""
    return [str(name) for name in page.locator("tbody tr:visible td.name b").all_inner_texts()]


def heading(page: Any, name: str) -> Any:
    return page.get_by_role("columnheader").filter(has_text=name).get_by_role("button")


ORDER = ["cut.nii.gz", "half.nrrd", WEIRD, "scan9.mha", "scan10.nii.gz", "slice.tif", "mask.nrrd"]


def test_many_scans_are_one_page_and_one_scan_is_none(cohort: tuple[Path, Done], seeing_file: Path, tmp_path: Path) -> None:
    out, done = cohort
    assert "report.html" in done.out
    assert "report.html" in files(out)
    source = (out / "report.html").read_text(encoding="utf-8")
    assert source.count("data:image/jpeg;base64,") == 4
    assert WEIRD not in source
    volumes_ml = [float(value) for value in re.findall('data-v="([^"]+)" data-label="(?:Volume|Right|Left), mL"', source)]
    assert sorted(volumes_ml) == pytest.approx(sorted(float(row["volume_ml"]) for row in table(out / "measurements.csv")), rel=1e-5)
    save(tmp_path / "one.nii.gz")
    assert "report.html" not in predict(seeing_file, tmp_path / "one.nii.gz", out, "overwrite=true", "overlays=false").out
    assert "report.html" not in files(out)  # an earlier run's would speak of other scans
    (out / "report.html").write_text(source, encoding="utf-8")


def test_the_suspicious_come_first(opened: Any) -> None:
    assert names(opened) == ORDER
    assert opened.locator("dl.facts").inner_text().split()[:4] == ["scans", "7", "failed", "1"]
    assert "is damaged" in opened.locator("tbody tr").first.inner_text()
    assert opened.get_by_role("status").inner_text() == "7 of 7 shown"
    assert heading(opened, "Status").locator("xpath=..").get_attribute("aria-sort") == "ascending"


def test_headings_sort_by_mouse_and_keyboard(opened: Any) -> None:
    volume = heading(opened, "Volume")

    def volumes() -> list[float]:
        shown = opened.locator("tbody tr td:nth-child(4)").evaluate_all("cells => cells.map((cell) => cell.dataset.v)")
        assert shown[4:] == ["", "", ""]  # empty ones come last either way
        return [float(value) for value in shown[:4]]

    volume.click()
    rising = volumes()
    assert rising == sorted(rising)
    volume.focus()
    opened.keyboard.press("Enter")
    assert volumes() == rising[::-1]
    assert opened.locator("th[aria-sort]").evaluate_all("heads => heads.map((head) => head.ariaSort)") == ["descending"]
    heading(opened, "Scan").click()
    assert names(opened) == sorted(ORDER, key=lambda name: (name[0].isalpha(), name.replace("n9", "n09")))
    heading(opened, "Status").click()
    assert names(opened) == ORDER


def test_words_boxes_and_bars_choose_rows(opened: Any) -> None:
    search, status = opened.get_by_role("searchbox"), opened.get_by_role("status")
    search.fill("grüße 5%")
    assert names(opened) == [WEIRD]
    assert status.inner_text() == "1 of 7 shown"
    search.fill("RIGHT lung no")  # words of a warning
    assert names(opened) == ["half.nrrd"]
    search.fill("nothing is like this")
    assert opened.get_by_text("No row is like that.").is_visible()
    opened.get_by_role("button", name="show all").click()
    assert names(opened) == ORDER
    opened.get_by_label("without warnings").uncheck()
    opened.get_by_label("left out").uncheck()
    assert names(opened) == ["cut.nii.gz", "half.nrrd"]
    opened.get_by_role("button", name="show all").click()
    bars = opened.locator(".bar")
    said = [str(label) for label in bars.evaluate_all("bars => bars.map((bar) => bar.ariaLabel)")]
    assert sum(int(label.rpartition(": ")[2].partition(",")[0]) for label in said) == 4
    odd = next(place for place, label in enumerate(said) if "with warnings" in label)
    bars.nth(odd).click()
    assert names(opened) == ["half.nrrd"]
    assert bars.nth(odd).get_attribute("aria-pressed") == "true"
    bars.nth(odd).press("Enter")
    assert names(opened) == ORDER


def test_a_picture_opens_large_and_arrows_go_on(opened: Any) -> None:
    opened.get_by_label("failed").uncheck()
    opened.locator(".thumb").first.click()
    dialog = opened.get_by_role("dialog")
    assert "half.nrrd" in dialog.inner_text()
    assert "1 of 4" in dialog.inner_text()
    assert dialog.locator("img").bounding_box()["width"] > 600
    assert dialog.locator("img").evaluate("image => image.naturalWidth") > 600
    opened.keyboard.press("ArrowLeft")
    assert "half.nrrd" in dialog.inner_text()
    opened.keyboard.press("ArrowRight")
    assert WEIRD in dialog.inner_text()
    assert opened.locator("i").count() == 0
    opened.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert opened.evaluate("document.activeElement.closest('tr').querySelector('.name b').textContent") == WEIRD


@pytest.mark.parametrize("width", [390, 800, 1200, 1900])
def test_it_fits_every_window(width: int, opened: Any) -> None:
    opened.set_viewport_size({"width": width, "height": 900})
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    for scheme in ("light", "dark"):
        opened.emulate_media(color_scheme=scheme)
        ink, paper = (opened.evaluate(f"getComputedStyle(document.body).{key}") for key in ("color", "backgroundColor"))
        sums = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (ink, paper)]
        assert (sums[0] < sums[1]) == (scheme == "light")
    opened.emulate_media(media="print", color_scheme="dark")
    assert opened.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not opened.get_by_role("searchbox").is_visible()


def test_without_its_script_the_page_shows_everything(cohort: tuple[Path, Done], browser: Any) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((cohort[0] / "report.html").as_uri())
    assert names(page) == ORDER
    assert not page.get_by_role("searchbox").is_visible()
    context.close()


def test_the_check_of_a_data_set_sorts_too(browser: Any, tmp_path: Path) -> None:
    for seed in (1, 2, 4, 5):
        made = phantom_slice(seed, 96, height=0.5)
        mask = (made.sides > 0).astype(np.uint8) * np.uint8(255)
        if seed < 4:
            mask[:, 48:] = 0  # one lung only
            mask[: 6 * seed, : 6 * seed] = 255
        write_png(tmp_path / "set" / "Train" / "Images" / f"p{seed}_1.tif", made.image_hu.round().astype(np.int16))
        write_png(tmp_path / "set" / "Train" / "Masks" / f"p{seed}_1.png", mask)
    lungseg("check", f"data.root={tmp_path / 'set'}", f"output={tmp_path / 'out'}")
    page = browser.new_page()
    page.goto((tmp_path / "out" / "check.html").as_uri())
    degree = heading(page, "Degree").locator("xpath=..")
    assert degree.get_attribute("aria-sort") == "descending"
    first = names(page)
    assert set(first) == {"train/p1_1.tif", "train/p2_1.tif"}
    heading(page, "Degree").click()
    assert names(page) == first[::-1]
    page.get_by_role("searchbox").fill("p2")
    assert page.get_by_role("status").inner_text() == "1 of 2 shown"
    page.close()
