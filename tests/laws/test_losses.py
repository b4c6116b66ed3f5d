"""Identities of the losses, on drawn logits and masks."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lungseg.errors import UserError
from lungseg.losses import BCE, EMPTY_SMOOTH, Dice, DiceBCE, Focal, FocalDice, Tversky

LAW = settings(deadline=None)  # the first call of a process warms torch up

LOSSES = [DiceBCE(), BCE(), Dice(), Tversky(), Focal(), FocalDice()]

seeds = st.integers(0, 2**32 - 1)
sizes = st.floats(0, 1e4)
losses = st.sampled_from(LOSSES)


def draw(seed: int, size: float = 3.0) -> tuple[Tensor, Tensor, Tensor]:
    """Logits up to about ``size``, a hard mask that may be empty, and valid pixels: each (3, 1, 6, 9)."""
    random = torch.Generator().manual_seed(seed)
    logits = size * (2 * torch.rand(3, 1, 6, 9, generator=random) - 1)
    share = torch.rand(3, 1, 1, 1, generator=random).round(decimals=1)
    target = (torch.rand(3, 1, 6, 9, generator=random) < share).float()
    return logits, target, torch.rand(3, 1, 6, 9, generator=random) < 0.8


@given(seed=seeds, size=sizes, loss=losses)
@LAW
def test_never_negative_and_always_finite(seed: int, size: float, loss: nn.Module) -> None:
    logits, target, valid = draw(seed, size)
    value = loss(logits.requires_grad_(), target, valid)
    value.backward()
    assert 0 <= value < math.inf
    assert logits.grad.isfinite().all()
    assert (logits.grad[~valid] == 0).all()


@given(seed=seeds, loss=losses, axes=st.sampled_from([(2,), (3,), (2, 3), (0,)]))
@LAW
def test_blind_to_a_flip_of_everything(seed: int, loss: nn.Module, axes: tuple[int, ...]) -> None:
    tensors = draw(seed)
    torch.testing.assert_close(loss(*(x.flip(axes) for x in tensors)), loss(*tensors))


@given(seed=seeds, loss=losses)
@LAW
def test_soft_target_between_hard_ones(seed: int, loss: nn.Module) -> None:
    logits, target, valid = draw(seed)
    value = loss(logits, 0.9 * target + 0.05, valid)
    assert 0 <= value < math.inf


@given(seed=seeds)
@LAW
def test_dice_is_symmetric_between_masks(seed: int) -> None:
    _, a, valid = draw(seed)
    _, b, _ = draw(seed + 1)
    a[..., 0, 0] = b[..., 0, 0] = 1  # both with lung: an empty truth has a rule of its own
    valid[..., 0, 0] = True
    torch.testing.assert_close(Dice()(200 * a - 100, b, valid), Dice()(200 * b - 100, a, valid))


@given(seed=seeds, smooth=st.floats(1e-3, 100))
@LAW
def test_dice_of_masks_is_its_definition(seed: int, smooth: float) -> None:
    _, found, valid = draw(seed)
    _, truth, _ = draw(seed + 1)
    truth[..., 0, 0], valid[..., 0, 0] = 1, True
    both, sizes = ((valid * x).sum((1, 2, 3)) for x in (found * truth, found + truth))
    expected = (1 - (2 * both + smooth) / (sizes + smooth)).mean()
    torch.testing.assert_close(Dice(smooth)(200 * found - 100, truth, valid), expected)


@given(seed=seeds)
@LAW
def test_bce_and_focal_are_symmetric_under_complement(seed: int) -> None:
    logits, target, valid = draw(seed)
    for loss in (BCE(), Focal()):
        torch.testing.assert_close(loss(-logits, 1 - target, valid), loss(logits, target, valid))


@given(seed=seeds, size=sizes)
@LAW
def test_focal_without_focus_is_bce(seed: int, size: float) -> None:
    tensors = draw(seed, size)
    torch.testing.assert_close(Focal(gamma=0)(*tensors), BCE()(*tensors))


@given(seed=seeds, gamma=st.floats(0, 5))
@LAW
def test_focus_only_takes_away(seed: int, gamma: float) -> None:
    tensors = draw(seed)
    assert Focal(gamma)(*tensors) <= BCE()(*tensors) * (1 + 1e-6)


@given(seed=seeds, smooth=st.floats(0.1, 10))
@LAW
def test_tversky_of_halves_is_dice(seed: int, smooth: float) -> None:
    tensors = draw(seed)
    assert Tversky(0.5, 0.5, smooth)(*tensors) == Dice(smooth)(*tensors)


@given(seed=seeds, weights=st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)))
@LAW
def test_sums_are_sums(seed: int, weights: tuple[float, float]) -> None:
    tensors, (a, b) = draw(seed), weights
    torch.testing.assert_close(DiceBCE(a, b)(*tensors), a * Dice()(*tensors) + b * BCE()(*tensors))
    torch.testing.assert_close(FocalDice(focal_weight=a, dice_weight=b)(*tensors), a * Focal()(*tensors) + b * Dice()(*tensors))


@given(seed=seeds, loss=losses, pixel=st.integers(0, 53), rise=st.floats(0.1, 5))
@LAW
def test_any_false_pixel_raises_the_loss_of_an_empty_image(seed: int, loss: nn.Module, pixel: int, rise: float) -> None:
    logits = draw(seed)[0][:1]
    more = logits.clone()
    more.view(-1)[pixel] += rise
    empty, everywhere = torch.zeros_like(logits), torch.ones_like(logits, dtype=torch.bool)
    assert loss(more, empty, everywhere) > loss(logits, empty, everywhere)


@given(share=st.floats(0.01, 1))
@LAW
def test_false_lung_costs_the_same_without_lung_as_beside_a_typical_one(share: float) -> None:
    side, typical = 100, int(EMPTY_SMOOTH / 2 * 100)
    truth = torch.zeros(1, 1, side, side)
    truth[..., :typical, :] = 1
    false = torch.zeros_like(truth)
    false[..., typical:, : max(1, int(share * side))] = 1
    valid = torch.ones_like(truth, dtype=torch.bool)
    beside = Dice()(200 * (truth + false) - 100, truth, valid)
    alone = Dice()(200 * false - 100, torch.zeros_like(truth), valid)
    assert alone == pytest.approx(beside.item(), rel=1e-3)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: DiceBCE(dice_weight=-1), "loss.dice_weight=-1"),
        (lambda: DiceBCE(dice_weight=0, bce_weight=0), "nothing to learn from"),
        (lambda: DiceBCE(bce_weight=math.nan), "loss.bce_weight=nan"),
        (lambda: DiceBCE(smooth=0), "loss.smooth=0"),
        (lambda: Dice(smooth=-1), "loss.smooth=-1"),
        (lambda: Tversky(alpha=-0.1), "loss.alpha=-0.1"),
        (lambda: Tversky(alpha=0, beta=0), "nothing to learn from"),
        (lambda: FocalDice(gamma=-1), "loss.gamma=-1"),
        (lambda: FocalDice(focal_weight=0, dice_weight=0), "nothing to learn from"),
    ],
)
def test_arguments_out_of_range_are_refused(build, said: str) -> None:
    with pytest.raises(UserError, match=said):
        build()
