"""Laws of doubt: true masks raise none, each kind of fault raises its own, and flips or units of grey change nothing."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from builders import chest
from lungseg.data.phantom import phantom_slice, phantom_volume
from lungseg.imaging.body import divide
from lungseg.imaging.greys import judge
from lungseg.imaging.plausibility import Look, doubts, look, suspicion, warnings

MAY_BE = {"empty", "tiny", "solid", "one_lung", "missed"}  # ends of the lungs, tumours and consolidation, collapse, bowel gas


def kinds(image: NDArray[np.float32], mask: NDArray[np.bool_]) -> list[str]:
    return [doubt.kind for doubt in doubts(look(image, mask))]


def disc(side: int, y: float, x: float, radius: float) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[:side, :side]
    return np.asarray((rows - y) ** 2 + (columns - x) ** 2 < radius**2)


IMAGE, LABELS = chest(128, seed=3)
LUNG = LABELS == 1
LEFT_HALF = np.arange(128)[None] < 64


def faulty(kind: str) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A chest and its mask with one fault."""
    image, mask = IMAGE.copy(), LUNG.copy()
    if kind == "constant":
        image[:] = -1000
    elif kind == "not_ct":
        image = np.random.default_rng(0).normal(0, 50, image.shape).astype(np.float32)
    elif kind == "empty":
        mask[:] = False
    elif kind == "tiny":
        mask &= disc(128, *(np.argwhere(LUNG & LEFT_HALF).mean(axis=0)), 2.6)
    elif kind == "outside":
        mask[:20] = True
    elif kind == "solid":
        mask |= disc(128, 64, 64, 10)
    elif kind in ("missed", "one_lung"):
        mask &= LEFT_HALF
    elif kind == "rim":
        mask = ndimage.binary_erosion(mask, iterations=2)
    elif kind == "gap":
        mask &= ~disc(128, *(np.argwhere(LUNG & LEFT_HALF).mean(axis=0)), 13)
    elif kind == "pieces":
        mask &= (np.arange(128) % 10 > 2)[:, None]
    return image, mask


@pytest.mark.parametrize(
    "kind", ["constant", "not_ct", "empty", "tiny", "outside", "solid", "missed", "one_lung", "rim", "gap", "pieces"]
)
def test_each_fault_is_seen_for_what_it_is(kind: str) -> None:
    assert kinds(IMAGE, LUNG) == []
    assert kind in kinds(*faulty(kind))
    assert suspicion(look(*faulty(kind))) > 1 > suspicion(look(IMAGE, LUNG))


def test_true_masks_of_phantoms_raise_no_doubt_but_what_is_odd_indeed() -> None:
    raised = [kinds(image.image_hu, image.sides > 0) for image in (phantom_slice(seed, 128) for seed in range(5000, 5100))]
    odd = [own for own in raised if set(own) - MAY_BE]
    assert len(odd) <= 2, odd  # fields of view that end inside the chest
    assert sum(not own for own in raised) > 60


@given(seed=st.integers(0, 500), axis=st.sampled_from([0, 1, (0, 1)]))
def test_flips_change_sides_and_nothing_else(seed: int, axis: int | tuple[int, int]) -> None:
    image, labels = chest(128, seed)
    seen, flipped = look(image, labels == 1), look(np.flip(image, axis), np.flip(labels, axis) == 1)
    assert (seen.body, seen.lung, seen.full_lung, seen.pieces) == (flipped.body, flipped.lung, flipped.full_lung, flipped.pieces)
    assert doubts(seen) == doubts(flipped) == []


@given(seed=st.integers(0, 500), slope=st.floats(0.1, 4), offset=st.floats(5000, 9000))
def test_the_unit_of_grey_values_does_not_matter(seed: int, slope: float, offset: float) -> None:
    image, labels = chest(96, seed)
    shifted = look(image * np.float32(slope) + np.float32(offset), labels == 1)
    for name in ("body", "lung", "outside", "missed"):
        assert getattr(shifted, name) == pytest.approx(getattr(look(image, labels == 1), name), abs=20)
    assert doubts(shifted) == []


@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 200)),
    scale=st.sampled_from([1e-30, 1.0, 1e30]),
    seed=st.integers(0, 99),
    share=st.sampled_from([0, 0.3, 1]),
)
def test_any_picture_and_mask_can_be_looked_at(shape: tuple[int, int], scale: float, seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    image, mask = (rng.normal(0, 1, shape) * scale).astype(np.float32), rng.random(shape) < share
    seen = look(image, mask)
    assert seen.full_lung == mask.sum()
    assert max(seen.lung, seen.body) <= 128 * 128
    assert (len(doubts(seen)) == 0) == (suspicion(seen) <= 1)
    told = judge(image).levels
    assert (told.low, told.high) == (image.min(), image.max())


def test_a_volume_is_judged_as_a_whole() -> None:
    volume = phantom_volume(11, (40, 128, 128))
    lung = volume.sides > 0
    assert lung[0].sum() == 0  # below the lungs, which a picture alone would be doubted for
    whole = Look.total(look(slice_, own) for slice_, own in zip(volume.voxels_hu, lung, strict=True))
    assert whole.full_lung == lung.sum()
    assert not {doubt.kind for doubt in doubts(whole)} - {"solid"}
    assert not {doubt.kind for doubt in doubts(look(volume.voxels_hu[0], lung[0]), in_volume=True)}
    assert warnings(volume.voxels_hu, lung) == ()
    assert warnings(volume.voxels_hu, np.zeros_like(lung))[0] == "no lung found"
    assert any("outside the body" in sentence for sentence in warnings(volume.voxels_hu, np.roll(lung, 45, axis=1)))


def test_a_radiograph_made_from_a_chest_is_no_ct() -> None:
    volume = phantom_volume(11, (60, 128, 128))
    thickness = np.maximum(volume.voxels_hu + 1000, 0).sum(axis=1)[::-1].astype(np.float32)
    radiograph = cv2.resize(thickness, (128, 128))[16:112, 16:112]  # as exported: the body fills the picture
    assert look(radiograph, np.zeros(radiograph.shape, bool)).unlike_ct == 1


def test_a_field_of_view_that_ends_inside_the_lung_is_no_fault() -> None:
    middle = slice(24, 104)
    assert "outside" not in kinds(IMAGE[middle, middle], LUNG[middle, middle])


@pytest.mark.parametrize("padding", [-3000.0, 0.0, 500.0])
def test_padding_around_a_round_field_is_no_tissue(padding: float) -> None:
    outside = ~disc(128, 63.5, 63.5, 64)
    image = np.where(outside, np.float32(padding), IMAGE)
    assert kinds(image, LUNG) == []
    assert not divide(image).tissue[outside].any()


def test_the_air_around_the_body_is_no_cut_lung() -> None:
    assert kinds(IMAGE, LUNG | (IMAGE < -930))[0] == "outside"
