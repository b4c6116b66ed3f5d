"""Plots of a report as PNG, drawn by matplotlib, which is imported only here and only to draw.

Colours are those of Okabe and Ito (2008), which colour-blind readers tell apart; line styles and marks say the same without colour.
The same figures give the same bytes.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lungseg.evaluation.convergence import Curve
from lungseg.metrics.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#000000", "#E69F00", "#777777")
LINES = ("-", "--", "-.", ":")
MARKS = "osD^vPX*"
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
}
WIDE = 9.0  # inches, which are 900 pixels on a page and twice as many in the file
DEEPEST = 0.15  # below the best that a long curve is followed down to, so that its end can be seen
LONG = 10  # points; of a shorter curve little would be left


@dataclass(frozen=True)
class Line:
    """A mean with its interval, if there is one, and what it is of; lines of a ``group`` have a colour."""

    label: str
    mean: float
    interval: Interval | None
    group: str = ""


def intervals(lines: Sequence[Line], what: str, zero: bool = False) -> bytes:
    """Means with their intervals, one below the other.

    Args:
        what: stands on the axis.
        zero: marks the place where there is no difference.
    """
    groups = list(dict.fromkeys(line.group for line in lines))

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        if zero:
            axes.axvline(0, color="#000000", linewidth=1)
        for place, line in enumerate(lines):
            number = groups.index(line.group)
            colour, mark = COLOURS[number % len(COLOURS)], MARKS[number % len(MARKS)]
            if line.interval is not None:
                axes.plot([line.interval.low, line.interval.high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
            axes.plot([line.mean], [place], mark, color=colour, markersize=6)
        axes.set_yticks(range(len(lines)), [line.label for line in lines])
        axes.set_ylim(len(lines) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(what)

    return _png(draw, 0.9 + 0.27 * len(lines))


def label(setting: str, value: str) -> str:
    """A value of a setting in a plot, by its name where it is a number, a list or a word that would say nothing alone."""
    is_name = value[:1].isalpha() and value.lower() not in ("null", "true", "false")
    return value if is_name else f"{setting.rpartition('.')[2]}={value}"


def curves(named: Mapping[str, Curve], what: str) -> bytes:
    """Curves against epochs, images and seconds side by side, each with its band."""

    def draw(figure: "Figure") -> None:
        panels = figure.subplots(1, 3, sharey=True)
        for axes, field in zip(panels, ("epochs", "images", "seconds"), strict=True):
            for number, curve in enumerate(named.values()):
                colour, at = COLOURS[number % len(COLOURS)], getattr(curve, field)
                line: dict[str, Any] = {"linestyle": LINES[number % len(LINES)], "marker": MARKS[number % len(MARKS)]}
                axes.fill_between(at, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
                axes.plot(at, curve.mean, color=colour, linewidth=1.6, markersize=3.5, **line)
            axes.set_xlabel(field)
            axes.set_xlim(left=0)
            axes.locator_params(axis="x", nbins=5, integer=True)
        bottom, best = shown_range(list(named.values()))
        room = 0.04 * (best - bottom) or 0.01
        panels[0].set_ylim(bottom - room, best + room)
        panels[0].set_ylabel(what)
        figure.legend(panels[0].get_lines(), list(named), loc="outside upper center", ncols=min(4, len(named)), frameon=False)

    return _png(draw, 3.4 + 0.22 * (len(named) // 4))


def shown_range(curves: Sequence[Curve]) -> tuple[float, float]:
    """The IoU from which and up to which curves are seen: all of short ones, of long ones the end and what is near the best."""
    best, lowest = max(float(curve.high.max()) for curve in curves), min(float(curve.low.min()) for curve in curves)
    if max(len(curve.epochs) for curve in curves) < LONG:
        return lowest, best
    return max(lowest, min(best - DEEPEST, *(float(curve.low[-1]) for curve in curves))), best


def _png(draw: Callable[["Figure"], None], tall: float) -> bytes:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    file = io.BytesIO()
    with matplotlib.rc_context():  # whatever the user's own style is, and without leaving ours behind
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        figure = Figure(figsize=(WIDE, tall), layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure)
        figure.savefig(file, format="png", dpi=200, facecolor="white", metadata={"Software": ""})
    return file.getvalue()
