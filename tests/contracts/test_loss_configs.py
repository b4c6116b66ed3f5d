"""What every configs/loss/*.yaml must do; a new file in that folder is tested unasked."""

from importlib import import_module
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor, nn

CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "loss").glob("*.yaml"))

LUNG = torch.zeros(1, 1, 16, 16)
LUNG[..., 4:12, 3:9] = 1
EVERYWHERE = torch.ones_like(LUNG, dtype=torch.bool)


@pytest.fixture(params=CONFIGS, ids=lambda config: config.stem)
def loss(request: pytest.FixtureRequest) -> nn.Module:
    arguments = yaml.safe_load(request.param.read_text(encoding="utf-8"))
    module, name = arguments.pop("_target_").rsplit(".", 1)
    return getattr(import_module(module), name)(**arguments)


def sure(mask: Tensor, logit: float = 30.0) -> Tensor:
    """Logits of a prediction that is sure of a mask."""
    return logit * (2 * mask - 1)


def test_nothing_to_pay_for_a_sure_and_right_prediction(loss: nn.Module) -> None:
    for truth in (LUNG, torch.zeros_like(LUNG), torch.ones_like(LUNG)):
        assert loss(sure(truth), truth, EVERYWHERE) == pytest.approx(0, abs=1e-6)


def test_a_wrong_prediction_costs_more_than_a_half_right_one(loss: nn.Module) -> None:
    half = LUNG.clone()
    half[..., :8, :] = 0
    right, less, wrong = (loss(sure(mask), LUNG, EVERYWHERE) for mask in (LUNG, half, 1 - LUNG))
    assert right < less < wrong


def test_a_float32_scalar_whatever_the_precision(loss: nn.Module) -> None:
    exact = loss(sure(LUNG, 2.0), LUNG, EVERYWHERE)
    assert exact.shape == ()
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = loss(sure(LUNG, 2.0).to(dtype), LUNG, EVERYWHERE)
        assert rounded.dtype == torch.float32
        assert rounded == exact  # 2 is exact in every format, and nothing is computed in less than float32


def test_gradient_goes_down(loss: nn.Module) -> None:
    for truth in (LUNG, torch.zeros_like(LUNG)):
        logits = torch.zeros_like(truth, requires_grad=True)
        loss(logits, truth, EVERYWHERE).backward()
        assert (logits.grad[truth == 1] < 0).all()
        assert (logits.grad[truth == 0] > 0).all()


def test_gradient_is_finite_at_the_extremes(loss: nn.Module) -> None:
    for truth in (LUNG, torch.zeros_like(LUNG), torch.ones_like(LUNG)):
        for size in (0.0, 1.0, 88.0, 1e4, -1e4):
            logits = sure(LUNG, size).requires_grad_()
            value = loss(logits, truth, EVERYWHERE)
            value.backward()
            assert value.isfinite(), size
            assert logits.grad.isfinite().all(), size


def test_ignored_pixels_take_no_part(loss: nn.Module) -> None:
    valid = EVERYWHERE.clone()
    valid[..., :6] = False
    reference = loss(sure(LUNG, 1.0), LUNG, valid)
    for nonsense in (1e4, -1e4, float("inf"), float("nan")):
        logits = torch.where(valid, sure(LUNG, 1.0), nonsense).requires_grad_()
        value = loss(logits, torch.where(valid, LUNG, 255.0), valid)
        value.backward()
        assert value == reference
        assert (logits.grad[~valid] == 0).all()
        assert logits.grad[valid].isfinite().all()


def test_an_image_without_valid_pixels_costs_nothing(loss: nn.Module) -> None:
    logits = sure(LUNG, -3.0).requires_grad_()
    value = loss(logits, LUNG, ~EVERYWHERE)
    value.backward()
    assert value == 0
    assert (logits.grad == 0).all()


def test_every_image_weighs_the_same(loss: nn.Module) -> None:
    images = [(sure(LUNG, 1.0), LUNG), (sure(LUNG, 3.0), 1 - LUNG), (sure(LUNG, 2.0), torch.zeros_like(LUNG))]
    each = [loss(logits, truth, EVERYWHERE) for logits, truth in images]
    together = loss(*(torch.cat(tensors) for tensors in zip(*images, strict=True)), EVERYWHERE.repeat(3, 1, 1, 1))
    torch.testing.assert_close(together, torch.stack(each).mean())


def test_more_false_lung_costs_more_where_there_is_none(loss: nn.Module) -> None:
    truth = torch.zeros(1, 1, 64, 64)
    costs, slopes = [], []
    for columns in (0, 1, 2, 8, 32, 64):
        false = truth.clone()
        false[..., :columns] = 1
        logits = sure(false, 4.0).requires_grad_()
        cost = loss(logits, truth, torch.ones_like(truth, dtype=torch.bool))
        cost.backward()
        costs.append(cost.item())
        slopes.append(logits.grad.sum().item())
    assert costs == sorted(set(costs))
    # A gradient that dies with the area would leave an image full of false lung as it is.
    assert min(slopes[1:]) > 1e-4
