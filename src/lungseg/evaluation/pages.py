"""A report as one page of HTML and as Markdown, from the same parts."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from lungseg import html
from lungseg.metrics.statistics import Interval

# The figures of cases that a report shows, as they are written.
DIGITS = {"iou": "{:.4f}", "dice": "{:.4f}", "nsd": "{:.4f}", "hd95_mm": "{:.2f}", "hd95_px": "{:.2f}"}
OF_SCANS = {"dice_3d": "{:.4f}", "nsd_3d": "{:.4f}", "hd95_3d_mm": "{:.2f}"}


@dataclass(frozen=True)
class Figure:
    """A number of a table, or an interval; nan and None leave its cell empty."""

    value: float | Interval | None
    shown: str = "{:.4f}"


@dataclass(frozen=True)
class Table:
    """Rows of words and figures."""

    head: Sequence[str]
    rows: Sequence[Sequence[str | Figure]]


@dataclass(frozen=True)
class Sentences:
    """A list; ``kind`` as ``html.listing`` has it."""

    said: Sequence[str]
    kind: str = ""


@dataclass(frozen=True)
class Plot:
    """A picture: its file's stem, PNG, and what it shows."""

    name: str
    png: bytes
    what: str


@dataclass(frozen=True)
class Part:
    """A heading with what stands below it, ``lead`` first."""

    heading: str
    lead: str
    contents: Sequence[Table | Sentences | Plot]


def as_html(title: str, subtitle: str, figures: Sequence[tuple[str, str, str]], parts: Sequence[Part]) -> str:
    """One file that needs nothing beside it; ``figures`` are those of ``html.facts``."""
    sections = [html.section(part.heading, *map(_html, part.contents), lead=part.lead) for part in parts]
    return html.page(title, subtitle, [html.facts(figures), *sections])


def as_markdown(title: str, subtitle: str, figures: Sequence[tuple[str, str, str]], parts: Sequence[Part], plots: str) -> str:
    """GitHub's Markdown; pictures lie beside it in the folder ``plots``."""
    told = " · ".join(f"{_escaped(what)} **{_escaped(figure)}**" for what, figure, _ in figures)
    blocks = [f"# {_escaped(title)}", _escaped(subtitle), told]
    for part in parts:
        blocks += [f"## {_escaped(part.heading)}", _escaped(part.lead), *(_markdown(one, plots) for one in part.contents)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def span(interval: Interval | None, shown: str = "{:.4f}") -> str:
    """Both ends of an interval in a format; nothing where there is none."""
    if interval is None:
        return ""
    return f"{shown.format(interval.low)} to {shown.format(interval.high)}".replace("-", "\u2212")


def _html(content: Table | Sentences | Plot) -> str:
    if isinstance(content, Plot):
        return html.plot(content.png, content.what)
    if isinstance(content, Sentences):
        return html.listing(content.said, content.kind)
    return html.table(content.head, [[_cell(cell) if isinstance(cell, Figure) else cell for cell in row] for row in content.rows])


def _cell(figure: Figure) -> html.Cell:
    if isinstance(figure.value, Interval):
        return html.Cell(span(figure.value, figure.shown), figure.value.low)
    return html.number(figure.value, figure.shown)


def _markdown(content: Table | Sentences | Plot, plots: str) -> str:
    if isinstance(content, Plot):
        return f"![{_escaped(content.what)}]({plots}/{content.name}.png)"
    if isinstance(content, Sentences):
        return "\n".join(f"- {_escaped(sentence)}" for sentence in content.said)
    numbers = [isinstance(cell, Figure) for cell in content.rows[0]]
    lines = [map(_escaped, content.head), ["---:" if is_number else "---" for is_number in numbers]]
    lines += [[_written(cell) for cell in row] for row in content.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _written(cell: str | Figure) -> str:
    if isinstance(cell, str):
        return _escaped(cell)
    if cell.value is None or isinstance(cell.value, Interval):
        return span(cell.value, cell.shown)
    return "" if math.isnan(cell.value) else cell.shown.format(cell.value).replace("-", "\u2212")


def _escaped(text: str) -> str:
    """Text on one line in which nothing is Markdown or HTML."""
    return re.sub(r"([\\`*\[\]<>|#])", r"\\\1", " ".join(text.split()))
