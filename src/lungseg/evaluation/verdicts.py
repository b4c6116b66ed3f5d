"""A comparison in words and tables: who wins which figure, and what the data cannot tell."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from lungseg.errors import count_of, named, printable
from lungseg.evaluation.compare import Comparison, Outcome
from lungseg.evaluation.tables import short
from lungseg.log import aligned
from lungseg.metrics.cases import HIGHER_IS_BETTER, SIGNED, TITLES
from lungseg.metrics.statistics import LEAST_PATIENTS, Interval

LISTED = 20  # cases on the screen
MAIN = (("iou_3d", "iou"), ("hd95_3d_mm", "hd95_mm", "hd95_px"), ("nsd_3d", "nsd"))  # of each case; the first that there is
HEAD = ("figure", "A", "B", "A - B", "95 % interval", "p", "A better", "B better", "equal", "")


def as_screen(found: Comparison) -> str:
    """The figures as a table and the verdicts as sentences; of few patients the cases instead."""
    few = found.patients < LEAST_PATIENTS
    parts = [aligned([HEAD, *map(_shown, found.outcomes)], right=range(1, 9))]
    parts += [aligned(list(_per_case(found)), right=range(2, 99))] if few else []
    return "\n\n".join("\n".join(lines) for lines in [*parts, list(sentences(found))])


def sentences(found: Comparison) -> Iterator[str]:
    """How much is compared, who wins which figure, what cannot be told, and how much that is worth."""
    over = count_of(found.patients, "patient")
    runs = f" in {found.runs} runs" if found.runs > 1 else ""
    yield f"{count_of(len(found.cases), 'case')} of {over}{runs} {'is' if len(found.cases) == 1 else 'are'} paired."
    alike = len(found.tolerances) == 1 and not any(case.of_one for case in found.cases)
    if alike and all(a == b for case in found.cases for a, b in case.figures.values()):
        yield "A and B are equal in every figure."
        return
    if found.patients < LEAST_PATIENTS:
        are = "is" if found.patients == 1 else "are"
        yield f"{over} {are} too few for an interval or a test, which need {LEAST_PATIENTS}: this says how A and B did on these."
        return
    for outcome in found.outcomes:
        if outcome.winner:
            yield _won(outcome, found)
    open_ = [outcome for outcome in found.outcomes if not outcome.winner]
    if open_:
        yield f"The data cannot tell A from B in {_listed([_told(outcome, found) for outcome in open_])}."
    tested = sum(outcome.gain.interval is not None for outcome in found.outcomes)
    if tested:
        were = f"{count_of(tested, 'figure')} {'was' if tested == 1 else 'were'} tested"
        chance = "of 20 figures without any difference one"
        if found.is_repeated:
            yield f"{were} by intervals over runs and patients: {chance} is won by chance."
        else:
            yield f"{were} (interval and test must agree), and p is not corrected for that: {chance} has p < 0.05 by chance."
    if all(case.patient == case.name for case in found.cases):
        yield "No table says whose a case is, so each counts as a patient: where one has several, intervals are too narrow."


def left_out(found: Comparison) -> Iterator[str]:
    """Cases that only one side has, those that have a figure on one side only, and a figure that means two things."""
    if len(found.tolerances) > 1:
        said = " and ".join(f"{tolerance:g}" for tolerance in found.tolerances)
        yield f"surface Dice is left out: its tolerance was {said}"
    for side, names in (("A", found.only_a), ("B", found.only_b)):
        if names:
            yield f"only {side} has {count_of(len(names), 'case')} without a partner: {named(names)}"
    for figure in HIGHER_IS_BETTER:
        lost = [case.name for case in found.cases if figure in case.of_one]
        if lost:
            yield f"{count_of(len(lost), 'case')} without {_worded(figure)[0]} on one side, left out of it: {named(lost)}"


def as_csv(found: Sequence[tuple[str, Comparison]]) -> str:
    """A row for each figure of each comparison, under its name."""
    rows = [{"of": of, **row} for of, one in found for row in _rows(one)]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_json(found: Sequence[tuple[str, Comparison]]) -> dict[str, Any]:
    """Everything by the names of the comparisons, each case among it."""
    return {
        of: {
            "runs": one.runs,
            "patients": one.patients,
            "sentences": list(sentences(one)),
            "figures": list(_rows(one)),
            "only_a": list(one.only_a),
            "only_b": list(one.only_b),
            "cases": [asdict(case) for case in one.cases],
        }
        for of, one in found
    }


def _rows(found: Comparison) -> Iterator[dict[str, Any]]:
    for outcome in found.outcomes:
        interval = _difference(outcome)[1]
        yield {
            "figure": outcome.figure,
            "a": outcome.a,
            "b": outcome.b,
            "difference": _difference(outcome)[0],
            "low": None if interval is None else interval.low,
            "high": None if interval is None else interval.high,
            "p_value": outcome.gain.p_value,
            "patients_a_better": outcome.gain.better,
            "patients_b_better": outcome.gain.worse,
            "patients_equal": outcome.gain.equal,
            "patients": outcome.gain.patients,
            "runs": found.runs,
            "winner": outcome.winner,
        }


def _difference(outcome: Outcome) -> tuple[float, Interval | None]:
    """A - B, whichever way is better, and its interval."""
    gain = outcome.gain
    if HIGHER_IS_BETTER[outcome.figure]:
        return gain.difference, gain.interval
    return -gain.difference, None if gain.interval is None else Interval(-gain.interval.high, -gain.interval.low)


def _shown(outcome: Outcome) -> tuple[str, ...]:
    difference, interval = _difference(outcome)
    gain = outcome.gain
    between = "" if interval is None else f"{short(interval.low)} to {short(interval.high)}"
    verdict = f"{outcome.winner} wins" if outcome.winner else ""
    numbers = (
        short(outcome.a),
        short(outcome.b),
        short(difference),
        between,
        _p(gain.p_value).removeprefix("p = ").removeprefix("p "),
    )
    return _title(outcome.figure), *numbers, str(gain.better), str(gain.worse), str(gain.equal), verdict


def _per_case(found: Comparison) -> Iterator[tuple[str, ...]]:
    have = {figure for case in found.cases for figure in case.figures}
    main = [next(one for one in figures if one in have) for figures in MAIN if have & set(figures)]
    yield "run", "case", *(f"{_title(figure)} {side}" for figure in main for side in "AB")
    for case in found.cases[:LISTED]:
        both = [case.figures.get(figure) for figure in main]
        yield str(case.run), printable(case.name), *(short(value) for pair in both for value in pair or (float("nan"),) * 2)


def _won(outcome: Outcome, found: Comparison) -> str:
    winner, loser = ("A", "B") if outcome.winner == "A" else ("B", "A")
    gain = outcome.gain
    assert gain.interval is not None
    ends = (gain.interval.low, gain.interval.high)
    low, high = ends if winner == "A" else (-ends[1], -ends[0])
    over = [count_of(found.runs, "run")] if found.runs > 1 else []
    over.append(count_of(gain.patients, "patient"))
    between = f"95 % interval {short(low)} to {short(high)}, {', '.join([*over, *_tested(outcome, found)])}"
    name, unit = _worded(outcome.figure)
    return f"{winner} beats {loser} in {name} by {short(abs(gain.difference))}{unit} ({between})."


def _told(outcome: Outcome, found: Comparison) -> str:
    difference, interval = _difference(outcome)
    name, unit = _worded(outcome.figure)
    if interval is None:
        have = "has" if outcome.gain.patients == 1 else "have"
        return f"{name} (only {count_of(outcome.gain.patients, 'patient')} {have} it)"
    between = f"{short(interval.low)} to {short(interval.high)}"
    return f"{name} ({', '.join([f'{short(difference)}{unit}', between, *_tested(outcome, found)])})"


def _tested(outcome: Outcome, found: Comparison) -> list[str]:
    """The p value, where it has a say: of several seeds it knows nothing of their luck."""
    return [] if found.is_repeated else [_p(outcome.gain.p_value)]


def _worded(figure: str) -> tuple[str, str]:
    """A figure as a word in a sentence, and the unit behind its values."""
    name, _, unit = _title(figure).rstrip(")").partition(" (")
    return name, f" {unit}" if unit in ("mm", "px", "ml") else ""


def _title(figure: str) -> str:
    return f"{'size of ' if figure in SIGNED else ''}{TITLES[figure]}"


def _listed(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _p(value: float | None) -> str:
    return "" if value is None else "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
