"""What every network that is compared with ours must do: train as ours do, and be what its maker takes."""

import pytest
import torch
from torch import nn

from lungseg.nets.unet import UNet
from quality_networks import Recipe, multiply_adds, recipes, unused_parameters

# In millions, as their makers give them or count them; lungmask's builds shortcuts that it does not use.
PARAMETERS = {
    "lungmask_unet": (31.05, 2.10),
    "monai_unet": (1.62, 0.0),
    "monai_basic_unet": (1.98, 0.0),
    "nnunet_plain": (20.62, 0.0),
    "nnunet_resenc": (71.82, 0.0),
}


def installed(name: str, size: int) -> Recipe:
    recipe = recipes(size)[name]
    if recipe.installed() is None:
        pytest.skip(f'{recipe.package} is not installed: pip install -e ".[benchmark]"')
    return recipe


@pytest.mark.parametrize("name", recipes(64))
def test_a_network_gives_one_logit_a_pixel_and_learns_from_each(name: str) -> None:
    net = installed(name, 64).build()
    image = torch.rand(2, 1, 50, 70)
    (logits,) = net.forward_scales(image)
    assert logits.shape == image.shape
    logits.sigmoid().mean().backward()
    assert any(bool(weight.grad.abs().sum() > 0) for weight in net.parameters() if weight.grad is not None)
    assert torch.equal(net.eval()(image), net.forward_scales(image)[0])


@pytest.mark.parametrize("name", recipes(128))
def test_a_network_is_as_large_as_its_maker_has_it(name: str) -> None:
    net = installed(name, 128).build()
    parameters, unused = PARAMETERS[name]
    assert sum(weight.numel() for weight in net.parameters()) / 1e6 == pytest.approx(parameters, abs=0.01)
    assert unused_parameters(net, 128) / 1e6 == pytest.approx(unused, abs=0.01)


def test_what_nnunet_plans_follows_the_size() -> None:
    plans = {size: recipes(size)["nnunet_resenc"].arguments for size in (64, 128, 512)}
    assert {size: plan["features_per_stage"] for size, plan in plans.items()} == {
        64: (32, 64, 128, 256, 512),
        128: (32, 64, 128, 256, 512, 512),
        512: (32, 64, 128, 256, 512, 512, 512, 512),
    }
    assert plans[512]["n_blocks_per_stage"] == (1, 3, 4, 6, 6, 6, 6, 6)


def test_multiply_adds_are_those_of_a_count_by_hand() -> None:
    pixels, coarse = 32 * 32, 16 * 16
    stem = pixels * 9 * (1 * 4 + 4 * 4)
    down = coarse * 9 * (4 * 8 + 8 * 8)
    enlarge = coarse * 4 * 8 * 4  # each pixel that comes in gives four
    up = pixels * 9 * (8 * 4 + 4 * 4)
    head = pixels * 4
    assert multiply_adds(UNet(widths=[4, 8]), 32) == stem + down + enlarge + up + head


def test_parameters_that_no_slice_passes_are_known() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1))
    assert unused_parameters(net, 16) == 0
    net[0].never = nn.Linear(10, 10)
    assert unused_parameters(net, 16) == 110
