"""What each setting changes, as sentences, a plot and a table."""

from lungseg.errors import count_of
from lungseg.evaluation import plots
from lungseg.evaluation.compare import winner_of
from lungseg.evaluation.effects import Effect, effects, sources_of
from lungseg.evaluation.pages import DIGITS, Figure, Part, Plot, Sentences, Table, span
from lungseg.evaluation.sweeps import Sweeps
from lungseg.metrics.cases import TITLES

COMPARED = ("iou", "nsd", "hd95_mm", "hd95_px")  # Dice says what IoU says
HEAD = ("setting", "compared", "figure", "patients", "better by", "95 % interval", "p", "better", "worse", "pairs", "so that")
LEAD = (
    "Jobs that share everything else, seed and fold included, on the same patients: how much better the first is, also where less "
    "is better, and the patients with whom it does better and worse."
)


def what_changes(sweeps: Sweeps) -> list[Part]:
    """A sentence on IoU for every two values of every setting, then all figures, over all patients and by source."""
    sources = sources_of(sweeps.jobs)
    rows, lines, said = [], [], []
    for figure in COMPARED:
        whole = effects(sweeps.jobs, sweeps.varied, figure)
        rows += [_row(effect, None) for effect in whole]
        if figure == "iou":
            said = [sentence(effect) for effect in whole]
            lines = [_line(effect) for effect in whole]
        for source in sources if len(sources) > 1 else ():
            for effect in effects(sweeps.jobs, sweeps.varied, figure, source):
                all_there = any(_pair(one) == _pair(effect) and one.gain.patients == effect.gain.patients for one in whole)
                if not all_there:  # else it says nothing new
                    rows.append(_row(effect, source))
    if not rows:
        return []
    drawn = plots.intervals(lines, "difference in IoU; right of 0 the first is better", zero=True)
    plot = Plot("effects", drawn, "Paired differences in IoU with their 95 % intervals; each setting has a colour")
    return [Part("What each setting changes", LEAD, [Sentences(said), plot, Table(HEAD, rows)])]


def _pair(effect: Effect) -> tuple[str, str, str]:
    return effect.setting, effect.one, effect.other


def _line(effect: Effect) -> plots.Line:
    label = f"{effect.setting}: {effect.one} \u2212 {effect.other}"
    return plots.Line(label, effect.gain.difference, effect.gain.interval, effect.setting)


def sentence(effect: Effect) -> str:
    """Which value has the higher IoU and by how much, or that the data cannot tell."""
    gain, winner = effect.gain, _winner(effect)
    over = f"{count_of(gain.patients, 'patient')}, {count_of(effect.pairs, 'pair')} of jobs"
    if gain.interval is None:
        difference = f"{gain.difference:+.4f}".replace("-", "\u2212")
        return (
            f"{effect.setting}: {effect.one} differs from {effect.other} by {difference} IoU; {over} are too few for an interval, "
            "so that the data cannot tell which is better."
        )
    if winner is None:
        against = "" if gain.interval.low <= 0 <= gain.interval.high else ", but Wilcoxon's test does not agree"
        return (
            f"{effect.setting}: the data cannot tell {effect.one} from {effect.other}: the difference in IoU lies within "
            f"{span(gain.interval, '{:+.4f}')}{against} ({over})."
        )
    loser = effect.other if winner == effect.one else effect.one
    low, high = sorted(map(abs, (gain.interval.low, gain.interval.high)))
    once = " One run each, however: another seed may say otherwise." if effect.repeats == 1 else ""
    return (
        f"{effect.setting}: {winner} beats {loser} by {abs(gain.difference):.4f} IoU "
        f"(95 % interval {low:.4f} to {high:.4f}; {over}).{once}"
    )


def _row(effect: Effect, source: str | None) -> list[str | Figure]:
    gain, winner = effect.gain, _winner(effect)
    shown = DIGITS[effect.figure].replace(":", ":+")
    verdict = "cannot be told" if winner is None else f"{winner} is better" + (" in one run" if effect.repeats == 1 else "")
    return [
        effect.setting,
        f"{effect.one} \u2212 {effect.other}",
        TITLES[effect.figure],
        f"{gain.patients}" + (f" of {source}" if source else ""),
        Figure(gain.difference, shown),
        Figure(gain.interval, shown),
        "" if gain.p_value is None else "< 0.001" if gain.p_value < 0.001 else f"{gain.p_value:.3f}",
        Figure(gain.better, "{:.0f}"),
        Figure(gain.worse, "{:.0f}"),
        Figure(effect.pairs, "{:.0f}"),
        verdict if gain.interval is not None else "too few patients",
    ]


def _winner(effect: Effect) -> str | None:
    """The value that wins by the rule of ``lungseg compare``; None if the data cannot tell."""
    return {"A": effect.one, "B": effect.other}.get(winner_of(effect.gain, effect.is_repeated))
