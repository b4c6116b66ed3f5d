"""Laws of the page that all reports are made of: it says what it was given, and asks nobody for anything."""

import base64
import math
import re
from hashlib import sha256
from html.parser import HTMLParser
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from lungseg import html

NASTY = "<script>alert(1)</script>\"'&amp;&#0;\u202e\r\n\x00\x1b[2J\ud800</td></tr>--> https://example.org"
words = st.text(st.characters(codec=None), max_size=40)
numbers = st.none() | st.floats(-1e9, 1e9) | st.just(math.nan)


class Page(HTMLParser):
    """Tags with their attributes, texts by the tag they stand in."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._inside = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.texts[self._inside][-1] += data

    def attributes(self, name: str) -> list[str]:
        return [attrs[name] or "" for _, attrs in self.tags if name in attrs]


def shown(text: str) -> str:
    """What of a text HTML can hold."""
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]", "\ufffd", text)


def whole(*rows: html.Row, columns: int, above: str = "") -> str:
    heads = [html.Column(f"column {place}", "unit", "hint") for place in range(columns)]
    return html.page("title", "subtitle", [html.sortable(heads, rows, 0, kinds={"a": "first"}, above=above)])


@given(name=words, said=st.lists(words, min_size=1, max_size=3), word=words)
@example(name=NASTY, said=[NASTY], word=NASTY)
def test_every_word_is_shown_as_it_is_and_never_obeyed(name: str, said: list[str], word: str) -> None:
    def made(name: str, said: list[str], word: str) -> str:
        cells = (html.named(name, said, "bad"), html.text(word), html.rank(1, word), html.thumbnail(b"jpeg", (3, 4), word))
        pages = [
            whole(html.Row(cells, "a"), columns=4),
            html.page(name, word, [html.section(name, lead=f"x{word}"), html.listing(said), html.facts([(name, word, "")])]),
            html.page(name, word, [html.table([name], [[word]]), html.pictures([(b"png", name, "x")])]),
            html.page(name, word, [html.histogram([(1.0, True)], 0, name, word, name)]),
        ]
        return "\n".join(pages)

    source = made(name, said, word)
    source.encode()  # as a file will hold it
    page, plain = Page(source), Page(made("n", ["s"] * len(said), "w"))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]
    assert [list(attrs) for _, attrs in page.tags] == [list(attrs) for _, attrs in plain.tags]
    first = Page(whole(html.Row((html.named(name, said), html.text(word)), "a"), columns=2))
    assert first.texts["b"] == ["1", shown(name)]  # after the count beside the checkbox
    assert first.texts["li"] == [shown(sentence) for sentence in said]
    assert first.texts["td"][1] == shown(word)


@given(name=words)
@example(name=NASTY)
def test_a_page_asks_nobody_and_runs_its_own_script_alone(name: str) -> None:
    chart = html.histogram([(1.0, False), (2.0, True)], 0, name, "mL", "warnings")
    source = whole(html.Row((html.thumbnail(b"jpeg", (3, 4), name), html.named(name)), "a"), columns=2, above=chart)
    page = Page(source)
    assert all(value.startswith("data:image/") for value in page.attributes("src"))
    for never in ("href", "style", "srcset", "action", "onclick", "onload", "onerror", "xlink:href"):
        assert page.attributes(never) == []
    assert "url(" not in html.STYLE
    assert "@import" not in html.STYLE
    assert not re.search("https?://|import|fetch|innerHTML|eval|XMLHttp|Function", html.SCRIPT)
    (policy,) = page.attributes("content")[:1]
    assert policy.startswith("default-src 'none'; img-src data:; ")
    for tag, kind in (("script", "script-src"), ("style", "style-src")):
        (held,) = page.texts[tag]
        assert f"{kind} 'sha256-{base64.b64encode(sha256(held.encode()).digest()).decode()}'" in policy


@given(value=numbers)
def test_a_number_sorts_by_its_value_and_an_empty_cell_by_none(value: float | None) -> None:
    page = Page(whole(html.Row([html.number(value, "{:.2f}")]), columns=1))
    (held,) = page.attributes("data-v")
    if value is None or math.isnan(value):
        assert (held, page.texts["td"]) == ("", [""])
    else:
        assert float(held) == value
        assert page.texts["td"] == [f"{value:.2f}".replace("-", "\u2212")]


@given(
    values=st.lists(st.tuples(st.floats(0, 1e6) | st.floats(4000, 4001), st.booleans()), min_size=1, max_size=60),
    highest=st.sampled_from([math.inf, 12_000.0, 1e-3]),
)
@example(values=[(0.0, False)], highest=12_000.0)
@example(values=[(0.3, False), (0.1, True), (0.1 + 0.2, False)], highest=math.inf)
def test_each_value_lies_in_one_bar_and_bars_are_few(values: list[tuple[float, bool]], highest: float) -> None:
    page = Page(html.histogram(values, 3, "volume", "mL", "warnings", highest))
    bars = [attrs for tag, attrs in page.tags if tag == "g"]
    edges = [(float(str(bar["data-low"])), float(str(bar["data-high"]))) for bar in bars]
    assert len(bars) <= 27
    assert all(high == low for (_, high), (low, _) in pairwise(edges))
    for value, _ in values:
        assert sum(low <= value < high for low, high in edges) == 1
    for (low, high), bar in zip(edges, bars, strict=True):
        own = [is_odd for value, is_odd in values if low <= value < high]
        said = str(bar["aria-label"]).partition(": ")[2]
        assert said == f"{len(own)}" + (f", {sum(own)} with warnings" if any(own) else "")
