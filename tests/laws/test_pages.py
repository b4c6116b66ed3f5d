"""Laws of a report's pages: whatever a name holds, a table keeps its columns and nothing becomes markup."""

import re
from html import unescape

from hypothesis import example, given
from hypothesis import strategies as st

from lungseg.evaluation.pages import Figure, Part, Sentences, Table, as_html, as_markdown, span
from lungseg.metrics.statistics import Interval

WORDS = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]) | st.sampled_from("|\\<>[]`*#\n"), max_size=15)
PART = "here"


@given(words=st.lists(WORDS, min_size=3, max_size=3), value=st.floats(-1, 1))
def test_a_table_keeps_its_columns(words: list[str], value: float) -> None:
    part = Part(PART, "", [Table(("a", "b", "c", "d"), [(*words, Figure(value))])])
    *_, row = as_markdown("title", "", (), [part], "plots").strip("\n").split("\n")
    bare = re.sub(r"\\.", "", row)
    assert bare.count("|") == 5
    assert not set(bare) & set("<>`*[]#")
    assert row.endswith(f"| {value:.4f} |".replace("-", "\u2212"))
    page = as_html("title", "", (), [part])
    cells = re.findall(r"<td(?: class=\"number\")?>(.*?)</td>", page, re.DOTALL)
    assert [unescape(cell) for cell in cells[:3]] == words
    assert page.count('<th class="number">') == 1


@given(said=WORDS)
@example(said="#")
def test_a_sentence_is_one_line(said: str) -> None:
    text = as_markdown(said, said, [(said, said, "")], [Part(PART, said, [Sentences([said])])], "plots")
    assert text.count("\n# ") + text.startswith("# ") == 1
    assert text.count("\n## ") == 1
    assert text.splitlines()[-1].startswith("- ") or not said.strip()


def test_an_interval_is_its_ends() -> None:
    assert span(Interval(-0.01, 0.2), "{:+.2f}") == "\u22120.01 to +0.20"
    assert span(None) == ""
    part = Part(PART, "", [Table(("a", "b"), [(Figure(Interval(-0.01, 0.2)), Figure(None))])])
    assert as_markdown("title", "", (), [part], "plots").endswith("| ---: | ---: |\n| \u22120.0100 to 0.2000 |  |\n")
    page = as_html("title", "", (), [part])  # as a number, which does not wrap
    assert '<td class="number">\u22120.0100 to 0.2000</td><td class="number"></td>' in page
