"""Kinds of cases on lines of their own: where they come from, and where in a scan they lie."""

import math
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from lungseg.evaluation.effects import false_lung, patient_values, score
from lungseg.evaluation.jobs import Job
from lungseg.evaluation.pages import DIGITS, Figure, Part, Table
from lungseg.evaluation.tables import Cases
from lungseg.metrics.cases import TITLES

BASE, MIDDLE, APEX, FREE = PLACES = "base of the lungs", "between", "apex of the lungs", "above and below the lungs"
END = 0.1  # of a scan's slices with lung is its base, as many are its apex
LEAST_SLICES = 10  # with lung, or a tenth of them is none
LEAD = (
    "The same choices in the same order, for each kind of case on lines of their own. Apex and base are the uppermost and the "
    f"lowest tenth of a scan's slices with lung, of scans with {LEAST_SLICES} or more of them. False lung is the share of slices "
    "without lung where some was found."
)

Ranked = Sequence[tuple[tuple[str, ...], Sequence[Job]]]


def by_kind(ranked: Ranked, varied: Sequence[str]) -> list[Part]:
    """A table of the validation and one of the Test set, as far as their cases are of several kinds.

    Args:
        ranked: the jobs of each choice, in the order in which choices are to be shown.
        varied: what a choice is made of.
    """
    val = [(values, [job.val for job in jobs if job.val is not None]) for values, jobs in ranked]
    test = [(values, [job.test for job in jobs if job.test is not None]) for values, jobs in ranked]
    parts = []
    for heading, tables in (("Validation by kind of case", val), ("Test by kind of case", test)):
        placed = [(values, [in_places(cases) for cases in several]) for values, several in tables]
        every = [cases for _, several in tables for cases in several]
        sources = sorted({source for cases in every for source in cases.sources})
        shown = [
            one for one in DIGITS if one != "iou" and any(np.isfinite(cases.columns.get(one, np.nan)).any() for cases in every)
        ]
        rows = [*(_rows(tables, sources, shown) if len(sources) > 1 else ()), *_rows(placed, PLACES, shown)]
        if rows:
            named = (*(varied or ["choice"]), "patients", "IoU", "95 % interval", *(TITLES[one] for one in shown), "false lung")
            parts.append(Part(heading, LEAD, [Table(("kind", *named), rows)]))
    return parts


def _rows(
    tables: Sequence[tuple[tuple[str, ...], Sequence[Cases]]], kinds: Sequence[str], shown: Sequence[str]
) -> list[list[str | Figure]]:
    """A row for each source of these, and each choice that has cases from there."""
    rows: list[list[str | Figure]] = []
    for kind in kinds:
        for values, several in tables:
            own = [one for cases in several if (one := only(cases, [kind])).names]
            if own:
                rows.append([kind, *(values or ["the one"]), *_figures(own, shown)])
    return rows


def _figures(tables: Sequence[Cases], shown: Sequence[str]) -> list[str | Figure]:
    iou, patients = score(tables, "iou"), {patient for cases in tables for patient in cases.patients}
    means = {figure: patient_values(tables, figure) for figure in shown}
    return [
        Figure(len(patients), "{:.0f}"),
        Figure(math.nan if iou is None else iou.mean),
        Figure(None if iou is None else iou.interval),
        *(Figure(float(np.nanmean(one)) if one.size else math.nan, DIGITS[figure]) for figure, one in means.items()),
        Figure(false_lung(tables), "{:.0%}"),
    ]


def only(cases: Cases, sources: Collection[str]) -> Cases:
    """The cases that come from one of these sources."""
    rows = [row for row, own in enumerate(cases.sources) if own in sources]
    return replace(
        cases,
        names=tuple(cases.names[row] for row in rows),
        patients=tuple(cases.patients[row] for row in rows),
        sources=tuple(cases.sources[row] for row in rows),
        columns={figure: values[rows] for figure, values in cases.columns.items()},
    )


def in_places(cases: Cases) -> Cases:
    """The slices of whole scans with their place for a source; other cases, and slices of scans with few, have none.

    A slice is known by its name, ``SCAN#Z``; Z counts upwards through the patient, as everywhere in lungseg.
    """
    places = [""] * len(cases.names)
    scans: dict[str, list[tuple[int, int]]] = {}
    for row, name in enumerate(cases.names):
        scan, mark, z = name.rpartition("#")
        if mark and z.isdecimal():
            scans.setdefault(scan, []).append((int(z), row))
    has_lung = np.isfinite(cases.columns.get("iou", np.full(len(places), np.nan)))
    for slices in scans.values():
        upwards = [row for _, row in sorted(slices)]
        lung = [row for row in upwards if has_lung[row]]
        if len(lung) < LEAST_SLICES:
            continue
        end = round(END * len(lung))
        for row in upwards:
            places[row] = FREE
        for rows, place in ((lung, MIDDLE), (lung[:end], BASE), (lung[-end:], APEX)):
            for row in rows:
                places[row] = place
    return replace(cases, sources=tuple(places))
