"""One page style for all reports: a single file that asks for nothing from elsewhere, and runs no script but ``page.js``."""

import base64
import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from html import escape
from itertools import pairwise
from pathlib import Path
from statistics import median
from unicodedata import category

STYLE, SCRIPT = (Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))


def page(title: str, subtitle: str, sections: Iterable[str]) -> str:
    """A whole page; ``title`` and ``subtitle`` are text, sections are made by the functions below.

    Its policy lets a browser load nothing, run this script alone and use this style alone: whatever a file's name may smuggle
    in, there is nobody to hear it.
    """
    style, script = (base64.b64encode(sha256(text.encode()).digest()).decode() for text in (STYLE, SCRIPT))
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{style}'; script-src 'sha256-{script}'"
    policy += "; base-uri 'none'; form-action 'none'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<h1>{_text(title)}</h1>\n<p class="soft">{_text(subtitle)}</p>\n'
        + "\n".join(sections)
        + f"\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def section(heading: str, *content: str, lead: str = "") -> str:
    """A heading, a sentence below it if wanted, and content that is HTML already."""
    said = f"<p>{_text(lead)}</p>\n" if lead else ""
    return f"<section>\n<h2>{_text(heading)}</h2>\n{said}" + "\n".join(content) + "\n</section>"


def facts(figures: Iterable[tuple[str, str, str]]) -> str:
    """Large figures side by side: what each is, the figure, and its kind (bad, look or nothing)."""
    said = (f'<div><dt>{_text(what)}</dt><dd class="{kind}">{_text(figure)}</dd></div>' for what, figure, kind in figures)
    return '<dl class="facts">' + "".join(said) + "</dl>"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Rows of text, numbers and cells; numbers stand at the right, and so do the heads of columns whose first row is a number."""
    rows = list(rows)
    marks = [' class="number"' * _is_number(value) for value in rows[0]] if rows else [""] * len(header)
    head = "".join(f"<th{mark}>{_text(name)}</th>" for name, mark in zip(header, marks, strict=True))
    body = "\n".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    kind = ' class="many"' * (len(header) > MANY)
    return f'<div class="scroll"><table{kind}>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def listing(sentences: Iterable[str], kind: str = "") -> str:
    """Sentences as a list; ``kind`` is bad for what must be mended, look for what should be looked at, or nothing."""
    mark = f' class="{kind}"' if kind else ""
    return f"<ul{mark}>\n" + "\n".join(f"<li>{_text(sentence)}</li>" for sentence in sentences) + "\n</ul>"


def pictures(figures: Iterable[tuple[bytes, str, str]]) -> str:
    """PNG files side by side, each with a name and a caption of several lines."""
    return '<div class="pictures">\n' + "\n".join(_figure(*figure) for figure in figures) + "\n</div>"


def plot(png: bytes, what: str) -> str:
    """A PNG as wide as the page reads well, with a sentence below it; white also on a dark page, as it was drawn."""
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return f'<figure class="plot"><img src="{source}" alt="{_text(what)}"><figcaption>{_text(what)}</figcaption></figure>'


@dataclass(frozen=True)
class Column:
    """Of a table that sorts.

    Attributes:
        hint: what it means, shown to who points at it.
        is_number: its cells stand at the right.
    """

    name: str
    unit: str = ""
    hint: str = ""
    is_number: bool = False


@dataclass(frozen=True)
class Cell:
    """Of a table that sorts: HTML, and the number it is sorted by, nan where it is empty; None sorts, and finds, by its words."""

    html: str
    value: float | None = None
    look: str = ""  # name, picture, status


@dataclass(frozen=True)
class Row:
    """Of a table that sorts; ``kind`` is one of those that can be shown and hidden."""

    cells: Sequence[Cell]
    kind: str = ""


def text(words: str) -> Cell:
    """Words."""
    return Cell(_text(words))


def number(value: float | None, shown: str = "{:,.0f}") -> Cell:
    """A number in a format; None and nan give an empty cell."""
    return Cell("", math.nan) if value is None or math.isnan(value) else Cell(_minus(shown.format(value)), value)


def rank(place: int, words: str, kind: str = "") -> Cell:
    """Words that sort by a place in an order of their own."""
    return Cell(f'<span class="{kind}">{_text(words)}</span>', place, look="status")


def named(name: str, sentences: Sequence[str] = (), kind: str = "", remarks: Sequence[str] = ()) -> Cell:
    """A name with sentences below it, ``kind`` as in ``listing``, and what is said more softly."""
    below = (listing(said, how) for said, how in ((sentences, kind), (remarks, "soft")) if said)
    return Cell(f"<b>{_text(name)}</b>" + "".join(below), look="name")


def thumbnail(jpeg: bytes, size: tuple[int, int], name: str) -> Cell:
    """A picture of (height, width) pixels that opens large when it is clicked."""
    height, width = size
    source = f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
    image = f'<img src="{source}" width="{width}" height="{height}" alt="picture of {_text(name)}" decoding="async">'
    return Cell(f'<button type="button" class="thumb">{image}</button>', 1, look="picture")


def no_thumbnail(reason: str) -> Cell:
    """The place of a picture that is not there."""
    return Cell(f'<span class="missing">{_text(reason)}</span>', math.nan, look="picture")


def sortable(
    columns: Sequence[Column],
    rows: Sequence[Row],
    sorted_by: int,
    falling: bool = False,
    kinds: Mapping[str, str] | None = None,
    above: str = "",
) -> str:
    """A table that a click on a header sorts, and that shows what is asked for by words and by kind.

    Args:
        sorted_by: the column by which the rows are sorted as they are given, rising or ``falling``.
        kinds: of rows, and what they are called; those that no row has are left out.
        above: a ``histogram`` of one of its columns, or nothing.
    """
    heads = "".join(
        _head(column, ("descending" if falling else "ascending") * (place == sorted_by)) for place, column in enumerate(columns)
    )
    body = "\n".join(_row(row, columns) for row in rows)
    counts = {kind: sum(row.kind == kind for row in rows) for kind in kinds or {}}
    boxes = "".join(
        f'<label><input type="checkbox" value="{_text(kind)}" checked> {_text((kinds or {})[kind])} <b>{count}</b></label>'
        for kind, count in counts.items()
        if count
    )
    shows_pictures = any(cell.look == "picture" and cell.value == 1 for row in rows for cell in row.cells)
    return (
        f'<div class="finder">\n{above}\n<div class="controls" hidden>\n'
        '<input type="search" placeholder="name or warning" aria-label="show rows with these words" autocomplete="off">\n'
        f"<div>{boxes}</div>\n"
        '<button type="button" class="all" hidden>show all</button>\n<span class="shown" role="status"></span>\n</div>\n'
        f'<table class="sortable{" many" * (len(columns) > MANY)}">\n<thead><tr>{heads}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table>\n"
        '<p class="empty" hidden>No row is like that.</p>\n' + (VIEWER if shows_pictures else "") + "</div>"
    )


MANY = 12  # columns, of which a table is set closer
VIEWER = (
    '<dialog class="viewer" aria-label="picture in full">\n<header><span></span>'
    '<button type="button" aria-label="previous picture">&larr;</button>'
    '<button type="button" aria-label="next picture">&rarr;</button>'
    '<button type="button">close</button></header>\n'
    '<div class="both"><img alt=""><div class="said"></div></div>\n</dialog>\n'
)


def histogram(values: Sequence[tuple[float, bool]], column: int, name: str, unit: str, odd: str, highest: float = math.inf) -> str:
    """Bars of how many values lie where; a click on one shows their rows alone in the table below.

    Args:
        values: each with whether it is odd, which gets another colour; there must be one.
        column: of the table, in which they stand.
        odd: what odd ones are, after "with" and "without".
        highest: what does not lie below has a bar of its own, so that one wild value does not push all others together.
    """
    said = [value for value, _ in values]
    edges, middle = _edges(said, highest), median(said)
    counts = [
        tuple(sum(is_odd is kind and low <= value < high for value, is_odd in values) for kind in (False, True))
        for low, high in pairwise(edges)
    ]
    most, wide = max(map(sum, counts)), (WIDE - LEFT) / len(counts)
    drawn = _count_lines(most)
    for place, (low, high) in enumerate(pairwise(edges)):
        where = f"{_figures(low)} {unit} and more" if math.isinf(high) else f"{_figures(low)} to {_figures(high)} {unit}"
        label = f"{where}: {sum(counts[place])}" + (f", {counts[place][1]} with {odd}" if counts[place][1] else "")
        drawn.append(
            f'<g class="bar" role="button" tabindex="0" aria-pressed="false" aria-label="{_text(label)}" data-column="{column}" '
            f'data-low="{low!r}" data-high="{"Infinity" if math.isinf(high) else repr(high)}"><title>{_text(label)}</title>'
            f"{_bar(LEFT + wide * place, wide, counts[place], most)}</g>"
        )
    drawn += _value_labels(edges, wide)
    place = bisect_right(edges, middle) - 1
    if not math.isinf(edges[place + 1]):
        x = LEFT + wide * (place + (middle - edges[place]) / (edges[place + 1] - edges[place]))
        drawn.append(f'<line class="median" x1="{x:.1f}" x2="{x:.1f}" y1="{FLOOR - TALL - 8}" y2="{FLOOR}"/>')
    marks = (("plain", f"without {odd}"), ("odd", f"with {odd}")) if any(is_odd for _, is_odd in values) else ()
    legend = "".join(f'<span><span class="swatch {kind}"></span>{_text(words)}</span>' for kind, words in marks)
    return (
        f'<figure class="histogram">\n<figcaption><b>{_text(name)}, {_text(unit)}</b><span>n = {len(said):,}</span>'
        f"<span>median {_figures(middle)}</span>{legend}</figcaption>\n"
        f'<svg viewBox="0 0 {WIDE} {FLOOR + 24}" role="group" aria-label="{_text(name)}: a bar shows its rows alone">\n'
        + "\n".join(drawn)
        + "\n</svg>\n</figure>"
    )


# Of a histogram, in its own units: FLOOR is where the bars stand, LEFT where they begin.
WIDE, TALL, FLOOR, LEFT = 560, 120, 132, 30


def _count_lines(most: int) -> list[str]:
    drawn = []
    for count in range(0, most + 1, math.ceil(_nice(most / 4))):
        y = FLOOR - TALL * count / most
        drawn.append(f'<line x1="{LEFT}" x2="{WIDE}" y1="{y:.1f}" y2="{y:.1f}"/>')
        drawn.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{count:,}</text>')
    return drawn


def _bar(x: float, wide: float, counts: Sequence[int], most: int) -> str:
    """Odd values stand upon the others; the room above them can be clicked too."""
    drawn, y = f'<rect class="room" x="{x:.1f}" y="{FLOOR - TALL}" width="{wide:.1f}" height="{TALL}"/>', float(FLOOR)
    for kind, count in zip(("plain", "odd"), counts, strict=True):
        tall = TALL * count / most
        y -= tall
        drawn += f'<rect class="{kind}" x="{x + 1:.1f}" y="{y:.1f}" width="{wide - 2:.1f}" height="{tall:.1f}"/>'
    return drawn


def _value_labels(edges: Sequence[float], wide: float) -> list[str]:
    """Round numbers below the bars, every other one also where the page is narrow."""
    is_open = math.isinf(edges[-1])
    closed = edges[:-1] if is_open else edges
    step = _nice((closed[-1] - closed[0]) / 7)
    drawn = []
    for place, edge in enumerate(closed):
        meets_more = is_open and place == len(closed) - 1 and wide < 70
        if abs(edge / step - round(edge / step)) < 0.01 and not meets_more:
            kind = ' class="every-other"' if round(edge / step) % 2 else ""
            drawn.append(f'<text x="{LEFT + wide * place:.1f}" y="{FLOOR + 16}" text-anchor="middle"{kind}>{_figures(edge)}</text>')
    if is_open:
        drawn.append(f'<text x="{WIDE - wide / 2:.1f}" y="{FLOOR + 16}" text-anchor="middle">more</text>')
    return drawn


def _edges(values: Sequence[float], highest: float) -> list[float]:
    """Where bars begin and end, at round numbers; what is not below ``highest`` lies in the last one, which has no end."""
    inside = [value for value in values if value < highest] or list(values)
    low, high = min(inside), max(inside)
    span = high - low if high - low > 1e-9 * max(1.0, abs(high)) else max(1.0, abs(high))
    step = _nice(span / min(max(6, 2 * math.isqrt(len(values))), 24))
    first = math.floor(low / step)
    edges = [first * step]
    while edges[-1] <= high:  # not by a count of steps, which roundings make one too small
        edges.append((first + len(edges)) * step)
    return edges + [math.inf] * (len(inside) < len(values))


def _nice(step: float) -> float:
    """The next of 1, 2, 5, 10, 20 ... and of 0.5, 0.2, 0.1 ..."""
    ten = 10.0 ** math.floor(math.log10(step))
    return next(ten * part for part in (1, 2, 5, 10) if step <= ten * part * 1.000001)


def _figures(value: float) -> str:
    return _minus(f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}")


def _minus(figure: str) -> str:
    """With the sign that is as wide as a digit."""
    return figure.replace("-", "\u2212")


def _text(words: str) -> str:
    """Any text as HTML, also within an attribute; what HTML cannot hold, such as half a letter or a bell, is shown as missing."""
    held = "".join("\ufffd" if category(letter) in ("Cc", "Cs") and letter not in "\t\n\r" else letter for letter in words)
    return escape(held).replace("\r", "&#13;")


def _head(column: Column, order: str) -> str:
    kind = ' class="number"' if column.is_number else ""
    state = f' aria-sort="{order}"' if order else ""
    hint = f' title="{_text(column.hint)}"' if column.hint else ""
    unit = f"<small>{_text(column.unit)}</small>" if column.unit else ""
    return f'<th scope="col"{kind}{state}><button type="button"{hint}><span>{_text(column.name)}{unit}</span></button></th>'


def _row(row: Row, columns: Sequence[Column]) -> str:
    cells = []
    for cell, column in zip(row.cells, columns, strict=True):
        kind = " ".join(filter(None, (cell.look, "number" * column.is_number)))
        marks = f' class="{kind}"' if kind else ""
        marks += "" if cell.value is None else f' data-v="{"" if math.isnan(cell.value) else repr(float(cell.value))}"'
        marks += "" if cell.look else f' data-label="{_text(", ".join(filter(None, (column.name, column.unit))))}"'
        cells.append(f"<td{marks}>{cell.html}</td>")
    return f'<tr data-kind="{_text(row.kind)}">{"".join(cells)}</tr>'


def _figure(png: bytes, name: str, caption: str) -> str:
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    said = "<br>".join(_text(line) for line in caption.splitlines())
    return f'<figure><img src="{source}" alt="{_text(name)}"><figcaption><b>{_text(name)}</b>{said}</figcaption></figure>'


def _is_number(value: object) -> bool:
    return value.value is not None if isinstance(value, Cell) else isinstance(value, (int, float))


def _cell(value: object) -> str:
    mark = ' class="number"' if _is_number(value) else ""
    said = value.html if isinstance(value, Cell) else _text(f"{value:.4g}" if isinstance(value, float) else str(value))
    return f"<td{mark}>{said}</td>"
