"""What a check has found, for a person to read: on the screen, as a page with pictures, as JSON."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungseg import html
from lungseg.data.check import SHOWN, Findings, grey_kinds, small
from lungseg.data.checked import Checked, Spot
from lungseg.data.twins import Twins
from lungseg.imaging.overlay import MASK_COLOUR, grid, overlay
from lungseg.imaging.plausibility import Doubt
from lungseg.imaging.writers import png
from lungseg.log import aligned

LISTED = 1000  # pairs in a table
TWINS = 12  # pairs of files as pictures


def as_screen(found: Findings) -> str:
    """A table of the parts and all notes, in plain text."""
    lines = aligned([PART_COLUMNS, *([str(cell) for cell in row] for row in _part_rows(found))], right=())
    within = [twins.sentence for twins in found.twins if not twins.leak]
    more = [f"... and {len(within) - SHOWN} more, all in check.json"] if len(within) > SHOWN else []
    table = ["", *lines, ""] if found.checked else []
    return "\n".join([*table, *found.notes, *within[:SHOWN], *more, ""])


def as_json(found: Findings) -> dict[str, Any]:
    """Everything, as plain values."""
    return {
        "faults": found.faults,
        "notes": found.notes,
        "parts": [dict(zip(PART_COLUMNS, row, strict=True)) for row in _part_rows(found)],
        "twins": [
            {
                "files": [twins.first.case.name, twins.second.case.name],
                "slices": list(twins.slices),
                "likeness": round(twins.likeness, 3),
                "leak": twins.leak,
            }
            for twins in found.twins
        ],
        "pairs": [_pair(one) for one in found.ranked()],
    }


def as_page(found: Findings, where: str) -> str:
    """A page that shows the faults, the most suspicious pairs and every pair with a doubt."""
    ranked = found.ranked()
    odd = found.odd()
    sections = []
    if found.faults:
        sections.append(
            html.section("To be mended", html.listing(found.faults[:LISTED], "bad"), lead="These spoil a training or its scores.")
        )
    sections.append(html.section("What is there", html.table(PART_COLUMNS, _part_rows(found)), html.listing(found.notes)))
    if found.twins:
        lead = "The same picture in two files, or one made from the other. Across the parts of a split, scores become too good."
        sections.append(html.section("Pictures that come twice", html.pictures(_twin_figures(found.twins[:TWINS])), lead=lead))
    if ranked:
        lead = f"{len(odd)} of {len(ranked)} pairs are odd. The oddest come first; lung as the mask has it is outlined in blue."
        figures = [(png(one.picture), one.checked.slice_name(one.spot.z), _reasons(one.spot)) for one in found.shown]
        sections.append(html.section("Look at these first", html.pictures(figures), lead=lead))
    if odd:
        rows = [
            html.Row(
                (
                    html.named(one.case.name, one.sentences, "look"),
                    html.text(one.part),
                    html.number(one.degree, "{:.2f}"),
                    html.number(100 * one.lung, "{:.1f}"),
                )
            )
            for one in odd[:LISTED]
        ]
        lead = "A degree of 1 is the limit of what masks usually show."
        lead += f" The first {LISTED:,} of {len(odd):,}; check.json holds all." if len(odd) > LISTED else ""
        sections.append(
            html.section("Every pair with a doubt", html.sortable(DOUBT_COLUMNS, rows, sorted_by=2, falling=True), lead=lead)
        )
    return html.page("Check of a data set", where, sections)


def suspicious_picture(found: Findings) -> NDArray[np.uint8]:
    """The most suspicious slices on one sheet (H, W, 3); there must be one."""
    names = [one.checked.slice_name(one.spot.z).rpartition("/")[2] for one in found.shown]
    kinds = [", ".join(doubt.kind for doubt in one.spot.doubts) for one in found.shown]
    captions = [f"{name}  {kind}" for name, kind in zip(names, kinds, strict=True)]
    return grid([one.picture for one in found.shown], 5, captions, legend=[("mask", MASK_COLOUR)])


DOUBT_COLUMNS = (
    html.Column("Pair"),
    html.Column("Part"),
    html.Column("Degree", hint="how far beyond its limit the oddest is", is_number=True),
    html.Column("Lung", "% of picture", is_number=True),
)
PART_COLUMNS = ("part", "files", "slices", "with lung", "patients", "size", "grey values", "lung", "mask values")


def _part_rows(found: Findings) -> Iterator[tuple[str | int, ...]]:
    for part in dict.fromkeys(one.part for one in found.checked):
        own = [one for one in found.checked if one.part == part]
        patients = {one.case.patient for one in own}
        lung = sorted(one.lung for one in own)
        kinds = " or ".join(kind for kind, _ in grey_kinds(own).most_common())
        low, high = min(one.greys.levels.low for one in own), max(one.greys.levels.high for one in own)
        yield (
            part,
            len(own),
            sum(one.shape[0] for one in own),
            sum(one.with_lung for one in own),
            "unknown" if None in patients else len(patients),
            _most([f"{one.shape[1]} x {one.shape[2]}" for one in own]),
            f"{kinds}, {low:.0f} to {high:.0f}",
            f"{lung[0]:.1%} to {lung[-1]:.1%}, mostly {lung[len(lung) // 2]:.1%}",
            _most([one.values for one in own]),
        )


def _most(values: Any) -> str:
    """The commonest of some texts, and how many others there are."""
    counted = Counter(values).most_common()
    return str(counted[0][0]) + (" or others" if len(counted) > 1 else "")


def _pair(one: Checked) -> dict[str, Any]:
    return {
        "name": one.case.name,
        "part": one.part,
        "patient": one.case.patient,
        "shape": list(one.shape),
        "slices_with_lung": one.with_lung,
        "lung_fraction": round(one.lung, 5),
        "grey_kind": one.greys.name,
        "grey_low": one.greys.levels.low,
        "grey_high": one.greys.levels.high,
        "grey_air": one.greys.levels.air,
        "grey_tissue": one.greys.levels.tissue,
        "mask_values": one.values,
        "degree": round(one.degree, 3),
        "doubts": _doubts(one.doubts),
        "slices": [{"slice": spot.z, "degree": round(spot.degree, 3), "doubts": _doubts(spot.doubts)} for spot in one.spots],
    }


def _doubts(doubts: Iterable[Doubt]) -> list[dict[str, Any]]:
    return [{"kind": doubt.kind, "sentence": doubt.sentence, "degree": round(doubt.degree, 3)} for doubt in doubts]


def _reasons(spot: Spot) -> str:
    return "\n".join(doubt.sentence for doubt in spot.doubts) or "within all limits"


def _twin_figures(every: list[Twins]) -> Iterator[tuple[bytes, str, str]]:
    for twins in every:
        stacks = (twins.first.case.read().image, twins.second.case.read().image)
        slices = [stack[z] for stack, z in zip(stacks, twins.slices, strict=True)]
        sides = [overlay(*small(slice_, np.zeros(slice_.shape, np.uint8))) for slice_ in slices]
        yield png(grid(sides, 2)), f"{twins.first.case.name} | {twins.second.case.name}", twins.sentence
