"""Laws of pieces low beside the lungs: gas goes for its dark core, however much wall is in its rim; dark lung stays."""

import numpy as np
import pytest
from numpy.typing import NDArray

from lungseg.postprocess.coarse import BlockGrid
from lungseg.postprocess.pieces import Reach, Scene, sort_pieces

GRID = BlockGrid.of((40, 40, 60), (3.0, 3.0, 3.0))


def scene_with(piece: tuple[slice, slice, slice], core_hu: float, rim_hu: float) -> tuple[NDArray[np.bool_], Scene]:
    """Two lungs of -850 HU and, below the left one, a piece with a core and a rim of a block."""
    mask, hu = np.zeros(GRID.shape, bool), np.full(GRID.shape, 40, np.float32)
    for lung in (slice(2, 24), slice(36, 58)):
        mask[12:38, 4:36, lung] = True
        hu[12:38, 4:36, lung] = -850
    mask[piece], hu[piece] = True, rim_hu
    hu[tuple(slice(s.start + 1, s.stop - 1) for s in piece)] = core_hu
    return mask, Scene(hu, np.ones(GRID.shape, bool), 29.5)


@pytest.mark.parametrize(
    ("core_hu", "rim_hu", "goes"), [(-980, -600, True), (-990, -700, True), (-850, -600, False), (-870, -870, False)]
)
def test_gas_beside_a_lung_goes_for_its_dark_core(core_hu: float, rim_hu: float, goes: bool) -> None:
    piece = slice(5, 11), slice(15, 21), slice(40, 46)  # 6 mm below the lung
    mask, scene = scene_with(piece, core_hu, rim_hu)
    sides = sort_pieces(mask, GRID, scene, Reach()).sides
    assert (sides[piece] == 0).all() == goes
    assert ((sides > 0) | (mask & goes & (np.arange(40) < 12)[:, None, None]) == mask).all()


def test_what_is_large_or_high_is_no_gas() -> None:
    for piece in ((slice(2, 11), slice(6, 34), slice(37, 57)), (slice(28, 34), slice(15, 21), slice(25, 31))):
        mask, scene = scene_with(piece, -920, -600)
        assert (sort_pieces(mask, GRID, scene, Reach()).sides[piece] > 0).all()
