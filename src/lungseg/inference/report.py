"""``report.html``: many scans on one page for a person to look through, the suspicious ones first."""

import math
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from lungseg import html
from lungseg.errors import UserError
from lungseg.files import write_text
from lungseg.html import Cell, Column
from lungseg.imaging.thumbnails import jpeg_of
from lungseg.inference.items import Result
from lungseg.inference.volumes import LEAST_ML, MOST_ML
from lungseg.metrics.lungs import Lung

FAILED, WARNED, CLEAN, LEFT_OUT = "failed", "warned", "clean", "left out"
KINDS = {FAILED: "failed", WARNED: "with warnings", CLEAN: "without warnings", LEFT_OUT: "left out"}
LOOKS = {FAILED: "bad", WARNED: "look", CLEAN: "soft", LEFT_OUT: "soft"}
PAGE_BYTES, ROW_BYTES = 39_000_000, 2_000  # that the page may have, and of them what a row's text needs at most, mostly
LEAD = "The suspicious ones come first. A heading sorts, a bar shows its rows alone, a picture opens large."
NOTES = (
    "All is measured of what a scan shows: of lungs that the field of view cuts, volume and height are lower bounds.",
    "The share below \u2212950 HU (LAA-950) was validated on thin slices in full inspiration: noise and sharp kernels raise it.",
    "Densities are empty where grey values are no HU. The tables beside this page hold the same numbers, and more of them.",
)


def write_report(results: Sequence[Result], output: Path) -> None:
    """``report.html``: a row for each result, with its picture; a file that needs nothing beside it.

    Raises:
        UserError: the output cannot be written.
    """
    ordered = sorted(results, key=_suspicion)
    with ThreadPoolExecutor() as pool:
        pictures = list(pool.map(partial(_picture, most_bytes=_room(ordered)), ordered))
    fields = [field for field in FIELDS if any(_is_told(field.of(result)) for result in results)]
    what = "scan" if any(result.item.is_volume for result in results) else "slice"
    columns = [Column("Picture"), Column("Status", hint="failed first, then by warnings, then by name"), Column(what.capitalize())]
    rows = [
        html.Row((picture, _status(result, place), _name(result), *(field.cell(result) for field in fields)), _kind(result))
        for place, (result, picture) in enumerate(zip(ordered, pictures, strict=True))
    ]
    chart = next((_chart(ordered, field, 3 + place) for place, field in enumerate(fields) if field.chart), "")
    table = html.sortable([*columns, *(field.column for field in fields)], rows, sorted_by=1, kinds=KINDS, above=chart)
    notes = html.section("How to read this", html.listing(NOTES, "soft"))
    page = html.page(f"Lungs of {len(results):,} {what}s", LEAD, [_facts(results, f"{what}s"), table, notes])
    write_text(output / "report.html", page)


@dataclass(frozen=True)
class Field:
    """A column of what was measured, which stands there if any result has it.

    Attributes:
        of: a number or words; None or nan where there is none.
        shown: the format of a number.
        chart: what a histogram of it is called; the first with one gets it.
        highest: as ``html.histogram`` has it.
    """

    column: Column
    of: Callable[[Result], float | str | None]
    shown: str = "{:,.0f}"
    chart: str = ""
    highest: float = math.inf

    def cell(self, result: Result) -> Cell:
        value = self.of(result)
        return html.text(value) if isinstance(value, str) else html.number(value, self.shown)


def _of(side: str, figure: Callable[[Lung], float | None]) -> Callable[[Result], float | None]:
    return lambda result: next((figure(lung) for lung in result.lungs if lung.side == side), None)


def _below_950_percent(lung: Lung) -> float | None:
    share = lung.emphysema_fraction_below_950_hu
    return None if share is None else 100 * share


def _volume_ml(lung: Lung) -> float:
    return lung.volume_ml


FIELDS = (
    Field(Column("Volume", "mL", "of both lungs", True), _of("both", _volume_ml), chart="Volume of both lungs", highest=MOST_ML),
    Field(Column("Right", "mL", "volume of the right lung", True), _of("right", _volume_ml)),
    Field(Column("Left", "mL", "volume of the left lung", True), _of("left", _volume_ml)),
    Field(Column("Mean", "HU", "mean density of both lungs", True), _of("both", lambda lung: lung.mean_hu)),
    Field(Column("< \u2212950 HU", "%", "share of both lungs below \u2212950 HU", True), _of("both", _below_950_percent), "{:.1f}"),
    Field(Column("Height", "mm", "from the lowest slice with lung to the highest", True), _of("both", lambda lung: lung.height_mm)),
    Field(
        Column("Cut at", hint="where the field of view cuts the lungs"),
        lambda result: ", ".join(result.lungs[-1].borders) if result.lungs else "",
    ),
    Field(
        Column("Lung", "% of picture", "share of the pixels that are lung", True),
        lambda result: None if result.lungs else 100 * result.lung_fraction,
        "{:.1f}",
        chart="Share of the picture that is lung",
    ),
    Field(Column("IoU", "3-D", "of all voxels together", True), lambda result: _score(result, "iou_3d"), "{:.3f}"),
    Field(Column("Dice", "3-D", "of all voxels together", True), lambda result: _score(result, "dice_3d"), "{:.3f}"),
    Field(Column("IoU", "2-D", "mean over slices with lung", True), lambda result: _score(result, "iou"), "{:.3f}"),
    Field(Column("Dice", "2-D", "mean over slices with lung", True), lambda result: _score(result, "dice"), "{:.3f}"),
)


def _score(result: Result, figure: str) -> float | None:
    """A figure of all voxels of a volume together, or of the slices of a picture."""
    return result.figures.get(figure) if result.item.is_volume is figure.endswith("_3d") else None


def _is_told(value: float | str | None) -> bool:
    return bool(value) if isinstance(value, str) else value is not None and not math.isnan(value)


def _kind(result: Result) -> str:
    if result.error:
        return LEFT_OUT if result.is_mask else FAILED
    return WARNED if result.warnings else CLEAN


def _suspicion(result: Result) -> tuple[object, ...]:
    """The order of the rows: failed, no volume of lungs, by warnings, by name; names by the numbers in them."""
    kind = _kind(result)
    is_wild = kind == WARNED and bool(result.lungs) and not LEAST_ML <= result.lungs[-1].volume_ml <= MOST_ML
    name = [int(part) if part.isdecimal() else part.casefold() for part in re.split(r"(\d+)", result.item.name)]
    return list(KINDS).index(kind), not is_wild, -len(result.warnings), name, result.item.name


def _status(result: Result, place: int) -> Cell:
    kind, count = _kind(result), len(result.warnings)
    said = {WARNED: f"{count} warning{'' if count == 1 else 's'}", CLEAN: "\u2013"}.get(kind, kind)
    return html.rank(place, said, LOOKS[kind])


def _name(result: Result) -> Cell:
    said = "" if result.error is None else result.error.removeprefix(str(result.item.image)).removeprefix(":").strip()
    sentences = [said] if said else result.warnings
    return html.named(result.item.name, sentences, LOOKS[_kind(result)], result.remarks)


def _room(results: Sequence[Result]) -> int:
    """The bytes of a JPEG file that each picture may have; as text of the page it has a third more."""
    drawn = sum(_is_drawn(result) for result in results)
    return max(0, PAGE_BYTES - ROW_BYTES * len(results)) * 3 // 4 // max(1, drawn)


def _is_drawn(result: Result) -> bool:
    return not result.error and result.item.overlay.is_file()


def _picture(result: Result, most_bytes: int) -> Cell:
    """The scan's overlay, or why there is none."""
    if result.error:
        return html.no_thumbnail("no mask")
    if not _is_drawn(result):
        return html.no_thumbnail("not drawn: overlays=true draws it")
    try:
        made = jpeg_of(result.item.overlay, most_bytes)
    except (UserError, OSError):
        return html.no_thumbnail("the picture cannot be read")
    return (
        html.no_thumbnail("left out of this page: too many pictures") if made is None else html.thumbnail(*made, result.item.name)
    )


def _facts(results: Sequence[Result], what: str) -> str:
    counts = {kind: sum(_kind(result) == kind for result in results) for kind in KINDS}
    volumes_ml = [result.lungs[-1].volume_ml for result in results if result.lungs]
    figures = [(what, f"{len(results):,}", "")]
    figures += [
        (KINDS[kind], f"{count:,}", LOOKS[kind] if count else "soft")
        for kind, count in counts.items()
        if kind in (FAILED, WARNED) or (kind == LEFT_OUT and count)
    ]
    if volumes_ml:
        figures.append(("median volume", f"{median(volumes_ml):,.0f} mL", ""))
    return html.facts(figures)


def _chart(ordered: Sequence[Result], field: Field, column: int) -> str:
    values = [
        (value, _kind(result) == WARNED) for result in ordered if isinstance(value := field.of(result), float) and _is_told(value)
    ]
    return html.histogram(values, column, field.chart, "mL" if field.column.unit == "mL" else "%", "warnings", field.highest)
