"""Laws of kinds of cases: each slice of a scan has one place, from the base up to the apex."""

import math
from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lungseg.evaluation.groups import APEX, BASE, FREE, LEAST_SLICES, MIDDLE, in_places, only
from lungseg.evaluation.tables import Cases


def table(names: list[str], iou: list[float]) -> Cases:
    return Cases(tuple(names), tuple(name.partition("#")[0] for name in names), ("a",) * len(names), {"iou": np.array(iou)})


@given(has_lung=st.lists(st.booleans(), max_size=60), order=st.randoms(use_true_random=False))
def test_a_scan_is_base_between_and_apex(has_lung: list[bool], order: Random) -> None:
    rows = [(f"scan.nii.gz#{z}", 0.9 if lung else math.nan) for z, lung in enumerate(has_lung)]
    order.shuffle(rows)
    cases = in_places(table([name for name, _ in rows], [iou for _, iou in rows]))
    slices = sum(has_lung)
    if slices < LEAST_SLICES:
        assert set(cases.sources) <= {""}
        return
    place = {int(name.rpartition("#")[2]): source for name, source in zip(cases.names, cases.sources, strict=True)}
    assert [place[z] == FREE for z in range(len(has_lung))] == [not lung for lung in has_lung]
    upwards = [place[z] for z, lung in enumerate(has_lung) if lung]
    end = round(slices / 10)
    assert upwards == [BASE] * end + [MIDDLE] * (slices - 2 * end) + [APEX] * end


def test_scans_are_placed_one_by_one_and_pictures_not_at_all() -> None:
    low, high = ([f"{scan}.nii.gz#{z}" for z in range(first, first + 10)] for scan, first in (("low", 0), ("high", 50)))
    cases = in_places(table([*low, "picture.png", "odd#name.png", *high], [0.9] * 22))
    assert [cases.names[row] for row, place in enumerate(cases.sources) if place == BASE] == [low[0], high[0]]
    assert [cases.names[row] for row, place in enumerate(cases.sources) if place == APEX] == [low[-1], high[-1]]
    assert only(cases, [""]).names == ("picture.png", "odd#name.png")
    assert only(cases, [APEX]).columns["iou"].tolist() == [0.9, 0.9]
