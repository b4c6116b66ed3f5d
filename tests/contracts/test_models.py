"""What every configs/model/*.yaml must do; a new file in that folder is tested unasked."""

from importlib import import_module
from itertools import product
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor, nn

from lungseg.errors import UserError
from lungseg.nets.blocks import ResidualBlock
from lungseg.nets.resunet import DOWNS, ResUNet
from lungseg.nets.unet import UNet

CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "model").glob("*.yaml"))

# Pinned, because a changed count is a changed network: old checkpoints no longer load, old figures no longer hold.
PARAMETERS = {
    "resunet": 21_420_929,
    "resunet_noshortcut": 1_286_417,
    "resunet_small": 1_341_665,
    "resunet_strided": 1_358_305,
    "unet": 20_548_673,
    "unet_matched": 1_342_297,
    "unet_small": 1_286_417,
}

ARCHITECTURES = [ResUNet, UNet]
NORMS = ["batch", "instance", "group"]


def build(config: Path) -> nn.Module:
    arguments = yaml.safe_load(config.read_text(encoding="utf-8"))
    module, name = arguments.pop("_target_").rsplit(".", 1)
    torch.manual_seed(0)
    return getattr(import_module(module), name)(**arguments)


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def random_image(batch: int, height: int, width: int) -> Tensor:
    return torch.rand(batch, 1, height, width, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=CONFIGS, ids=lambda config: config.stem)
def config(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_parameters_are_pinned(config: Path) -> None:
    counted = count(build(config))
    assert config.stem in PARAMETERS, f'a new model: pin it, "{config.stem}": {counted:_}, in PARAMETERS of this file'
    assert counted == PARAMETERS[config.stem]


def test_matched_baseline_has_the_parameters_of_resunet_small() -> None:
    assert PARAMETERS["unet_matched"] == pytest.approx(PARAMETERS["resunet_small"], rel=0.01)


def test_shape_and_gradient_of_every_parameter(config: Path) -> None:
    net = build(config).train()
    logits = net(random_image(2, 32, 32))
    assert logits.shape == (2, 1, 32, 32)
    logits.square().mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("size", [(33, 47), (5, 7), (1, 1)], ids=str)
def test_one_image_of_any_size_in_training(config: Path, size: tuple[int, int]) -> None:
    logits = build(config).train()(random_image(1, *size))
    assert logits.shape == (1, 1, *size)
    assert logits.isfinite().all()


def test_bfloat16_is_close_to_float32(config: Path) -> None:
    net, image = build(config).eval(), random_image(1, 32, 32)
    with torch.inference_mode():
        exact = net(image)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = net(image).float()
    # Eight bits of mantissa through some thirty convolutions: a few per cent of the range of the logits.
    assert (rounded - exact).abs().max() < 0.05 * (exact.max() - exact.min())


def test_compiles_in_one_graph(config: Path) -> None:
    net, image = build(config).eval(), random_image(2, 33, 47)
    torch.compiler.reset()
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    with torch.inference_mode():
        torch.testing.assert_close(compiled(image), net(image))


def test_compiled_gradient_is_the_eager_one() -> None:
    net = ResUNet(widths=(4, 6, 8)).train()
    torch.compiler.reset()
    gradients = []
    for run in (net, torch.compile(net, backend="aot_eager", fullgraph=True)):
        net.zero_grad(set_to_none=True)
        run(random_image(2, 9, 13)).square().mean().backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in net.parameters()]))
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_argument_works_with_every_other(architecture: type[nn.Module], norm: str) -> None:
    # Three channels in, two out, and widths that no power of two divides.
    net = architecture(3, 2, widths=(5, 7, 9, 12), norm=norm, dropout=0.5, deep_supervision=True).train()
    image = random_image(3, 5, 27).transpose(0, 1)
    scales = net.forward_scales(image)
    assert [tuple(logits.shape) for logits in scales] == [(1, 2, 5, 27)] * 3
    sum(logits.square().mean() for logits in scales).backward()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_forward_is_the_first_scale(architecture: type[nn.Module]) -> None:
    image = random_image(1, 20, 24)
    for deep_supervision, scales in ((False, 1), (True, 2)):
        net = architecture(widths=(4, 6, 8), deep_supervision=deep_supervision).eval()
        given = net.forward_scales(image)
        assert len(given) == scales
        torch.testing.assert_close(net(image), given[0], rtol=0, atol=0)


@pytest.mark.parametrize("down", DOWNS)
def test_no_shortcut_leaves_out_the_shortcuts_and_nothing_else(down: str) -> None:
    names, without = (
        {(name, tensor.shape) for name, tensor in ResUNet(widths=(4, 6, 8), down=down, shortcut=shortcut).state_dict().items()}
        for shortcut in (True, False)
    )
    assert without == {(name, shape) for name, shape in names if "shortcut" not in name}


def test_without_shortcuts_it_is_the_plain_unet_weight_for_weight() -> None:
    torch.manual_seed(0)
    residual = ResUNet(widths=(4, 6, 8), shortcut=False).train()
    torch.manual_seed(0)
    plain = UNet(widths=(4, 6, 8)).train()
    assert all(torch.equal(*pair) for pair in zip(residual.parameters(), plain.parameters(), strict=True))
    image = random_image(2, 16, 24)
    assert torch.equal(residual(image), plain(image))


@pytest.mark.parametrize("down", DOWNS)
def test_shortcuts_of_zero_change_nothing(down: str) -> None:
    net = ResUNet(widths=(4, 6, 8), down=down).eval()
    without = ResUNet(widths=(4, 6, 8), down=down, shortcut=False).eval()
    for module in net.modules():
        if isinstance(module, ResidualBlock):
            assert isinstance(module.shortcut, nn.Sequential)  # no stage of these widths keeps its channels
            nn.init.zeros_(module.shortcut[-1].weight)
    without.load_state_dict({name: tensor for name, tensor in net.state_dict().items() if "shortcut" not in name})
    image = random_image(1, 16, 24)
    assert torch.equal(net(image), without(image))


def test_a_shortcut_carries_the_image_past_dead_convolutions() -> None:
    for down, shortcut in product(DOWNS, (True, False)):
        net = ResUNet(widths=(4, 6, 8), norm="group", down=down, shortcut=shortcut).eval()
        for name, parameter in net.named_parameters():
            if ".body." in name:
                nn.init.zeros_(parameter)
        assert net(random_image(1, 16, 16)).std().gt(0) == shortcut


def test_dropout_works_in_training_only() -> None:
    net, image = ResUNet(widths=(4, 6), norm="group", dropout=0.5), random_image(1, 16, 16)
    assert not torch.equal(net.train()(image), net(image))
    assert torch.equal(net.eval()(image), net(image))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"widths": (16,)}, r"model.widths=\[16\]"),
        ({"widths": (16, 0)}, r"model.widths=\[16, 0\]"),
        ({"norm": "layer"}, "model.norm=layer.*batch, instance, group"),
        ({"dropout": 1.0}, "model.dropout=1.0"),
        ({"dropout": -0.1}, "model.dropout=-0.1"),
        ({"in_channels": 0}, "model.in_channels=0"),
        ({"out_channels": 0}, "model.out_channels=0"),
    ],
)
def test_arguments_out_of_range_are_refused(architecture: type[nn.Module], arguments: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        architecture(**arguments)
