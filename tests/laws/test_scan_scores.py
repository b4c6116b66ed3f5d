"""Laws of the table of scans that a training ends with."""

import math

from hypothesis import given
from hypothesis import strategies as st

from lungseg.training.scans import SHOWN, ScanScore, as_screen

DICES = st.lists(st.sampled_from([math.nan, 0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=2 * SHOWN)


@given(dices=DICES)
def test_the_worst_are_shown_first_and_those_without_any_lung_last(dices: list[float]) -> None:
    scores = [ScanScore(f"scan{i:02}", "", "folder", 9, 5, {"dice_3d_network": dice}) for i, dice in enumerate(dices)]
    _, *rows = as_screen(scores, "val").splitlines()
    with_dice = sorted((dice, f"scan{i:02}") for i, dice in enumerate(dices) if not math.isnan(dice))
    without = [f"scan{i:02}" for i, dice in enumerate(dices) if math.isnan(dice)]
    expected = [*(name for _, name in with_dice), *without]
    assert [row.split()[0] for row in rows[:SHOWN]] == expected[:SHOWN]
    assert rows[SHOWN:] == ([f"... and {len(dices) - SHOWN} scans more in val_volumes.csv"] if len(dices) > SHOWN else [])
