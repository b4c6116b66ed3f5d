"""One page style for all reports: a single file that needs no network and no script from elsewhere."""

import base64
from collections.abc import Iterable, Sequence
from html import escape

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --line: #d8dee4; --paper: #fff; --card: #f6f8fa;
  --bad: #b3261e; --look: #8a5a00; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #9198a1; --line: #3d444d; --paper: #0d1117; --card: #161b22;
    --bad: #ff8a80; --look: #e3b341; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.5rem 4rem; max-width: 78rem; color: var(--ink); background: var(--paper);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; }
p { margin: .4rem 0; max-width: 60rem; }
.soft { color: var(--soft); }
.bad { color: var(--bad); } .look { color: var(--look); }
ul { padding-left: 1.2rem; margin: .4rem 0; } li { margin: .25rem 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { padding: .35rem .8rem .35rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
td.number { text-align: right; white-space: nowrap; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1rem; }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 8px; overflow: hidden; }
figure img { display: block; width: 100%; height: auto; background: #000; }
figcaption { padding: .5rem .7rem .7rem; font-size: .88rem; overflow-wrap: anywhere; }
figcaption b { display: block; }
"""


def page(title: str, subtitle: str, sections: Iterable[str]) -> str:
    """A whole page; ``title`` and ``subtitle`` are text, sections are made by the functions below."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<h1>{escape(title)}</h1>\n<p class="soft">{escape(subtitle)}</p>\n' + "\n".join(sections) + "\n</body>\n</html>\n"
    )


def section(heading: str, *content: str, lead: str = "") -> str:
    """A heading, a sentence below it if wanted, and content that is HTML already."""
    said = f"<p>{escape(lead)}</p>\n" if lead else ""
    return f"<section>\n<h2>{escape(heading)}</h2>\n{said}" + "\n".join(content) + "\n</section>"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Rows of text and numbers; numbers stand at the right."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "\n".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    return f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def listing(sentences: Iterable[str], kind: str = "") -> str:
    """Sentences as a list; ``kind`` is bad for what must be mended, look for what should be looked at, or nothing."""
    mark = f' class="{kind}"' if kind else ""
    return f"<ul{mark}>\n" + "\n".join(f"<li>{escape(sentence)}</li>" for sentence in sentences) + "\n</ul>"


def pictures(figures: Iterable[tuple[bytes, str, str]]) -> str:
    """PNG files side by side, each with a name and a caption of several lines."""
    return '<div class="pictures">\n' + "\n".join(_figure(*figure) for figure in figures) + "\n</div>"


def _figure(png: bytes, name: str, caption: str) -> str:
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    said = "<br>".join(escape(line) for line in caption.splitlines())
    return f'<figure><img src="{source}" alt="{escape(name)}"><figcaption><b>{escape(name)}</b>{said}</figcaption></figure>'


def _cell(value: object) -> str:
    mark = ' class="number"' if isinstance(value, (int, float)) else ""
    return f"<td{mark}>{escape(f'{value:.4g}' if isinstance(value, float) else str(value))}</td>"
