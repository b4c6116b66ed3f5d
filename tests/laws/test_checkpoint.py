"""Laws of best.ckpt: it gives back the very network, holds nothing but plain values, and no file makes it run code."""

import pickle
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from lungseg import checkpoint
from lungseg.checkpoint import Checkpoint
from lungseg.errors import UserError
from lungseg.preprocess import Preprocess

NETWORKS = st.one_of(
    st.fixed_dictionaries(
        {
            "class": st.just("ResUNet"),
            "widths": st.lists(st.integers(1, 6), min_size=2, max_size=3),
            "norm": st.sampled_from(["batch", "instance", "group"]),
            "down": st.sampled_from(["pool", "stride"]),
            "shortcut": st.booleans(),
            "deep_supervision": st.booleans(),
        }
    ),
    st.fixed_dictionaries({"class": st.just("UNet"), "widths": st.lists(st.integers(1, 6), min_size=2, max_size=3)}),
)


def used(net: torch.nn.Module) -> torch.nn.Module:
    """A network whose statistics have seen an image, so that a forgotten buffer shows."""
    net.train()(torch.rand(2, 1, 16, 16))
    return net.eval()


@pytest.fixture
def content(checkpoint_file: Path) -> dict[str, Any]:
    return dict(torch.load(checkpoint_file, weights_only=True))


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(config=NETWORKS, seed=st.integers(0, 2**31))
def test_the_same_network_comes_back(config: dict[str, Any], seed: int, tmp_path: Path) -> None:
    torch.manual_seed(seed)
    net, image = used(checkpoint.build_net(config)), torch.rand(2, 1, 20, 13)
    path = tmp_path / "best.ckpt"
    metrics = {"val/iou": 0.9, "epoch": 3.0}
    saved = Checkpoint(config, net.state_dict(), Preprocess(32, "window"), ("lung",), metrics)
    checkpoint.save(path, saved)
    loaded = checkpoint.load(path)
    assert replace(loaded, weights={}) == replace(saved, weights={})
    with torch.no_grad():
        assert torch.equal(loaded.build()(image), net(image))


def test_it_holds_nothing_but_plain_values(content: dict[str, Any]) -> None:
    assert list(content) == ["format", "weights", "net", "preprocess", "classes", "metrics"]
    assert all(type(key) is str and type(value) is Tensor for key, value in content["weights"].items())
    assert not any(value.requires_grad for value in content["weights"].values())

    def plain(value: object) -> bool:
        if type(value) is dict:
            return all(type(key) is str and plain(inner) for key, inner in value.items())
        return all(map(plain, value)) if type(value) is list else type(value) in (str, int, float, bool, type(None))

    assert plain({key: value for key, value in content.items() if key != "weights"})


class Hostile:
    """What a hand-made pickle looks like: loading it would make a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str, str], object], tuple[str, str]]:
        return open, (str(self.mark), "w")


def test_a_pickled_object_is_refused_unrun(content: dict[str, Any], tmp_path: Path) -> None:
    for legacy in (False, True):
        content["metrics"] = Hostile(tmp_path / "mark")
        torch.save(content, tmp_path / "best.ckpt", _use_new_zipfile_serialization=not legacy)
        with pytest.raises(UserError, match=r"best\.ckpt is refused"):
            checkpoint.load(tmp_path / "best.ckpt")
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    "name", ["antigravity.fly", "os.system", "torch.nn.Linear", "EncoderDecoder", "__class__", None, ["ResUNet"]]
)
def test_a_class_is_taken_from_the_list_and_never_imported(name: Any, content: dict[str, Any], tmp_path: Path) -> None:
    content["net"] = {"class": name}
    torch.save(content, tmp_path / "best.ckpt")
    with pytest.raises(UserError, match="unknown; known are ResUNet, UNet"):
        checkpoint.load(tmp_path / "best.ckpt").build()
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "cannot be read as a checkpoint"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "is refused: it is no lungseg checkpoint"),
        (b"PK\x03\x04" + bytes(100), "cannot be read as a checkpoint"),
        (b"image,mask\na.png,b.png\n", "is refused: it is no lungseg checkpoint"),
        (pickle.dumps({"format": "lungseg-1"}), "is refused: it is no lungseg checkpoint"),
    ],
)
def test_another_kind_of_file_is_refused(data: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "best.ckpt").write_bytes(data)
    with pytest.raises(UserError, match=rf"best\.ckpt {said}"):
        checkpoint.load(tmp_path / "best.ckpt")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "best.ckpt", tmp_path):
        with pytest.raises(UserError, match=rf"{path} is no file"):
            checkpoint.load(path)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_a_sentence_or_does_not_matter(data: st.DataObject, checkpoint_file: Path, tmp_path: Path) -> None:
    """Cut off anywhere, or with bytes changed anywhere: a UserError, never a traceback."""
    whole = bytearray(checkpoint_file.read_bytes())
    structure = whole.index(b"PK\x03\x04", 4)  # the first of the zip's files tells what the others, mere numbers, mean
    if data.draw(st.booleans(), label="cut"):
        damaged = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        damaged = whole
        places = st.integers(0, structure - 1) | st.integers(0, len(whole) - 1)
        for place in data.draw(st.lists(places, min_size=1, max_size=5)):
            damaged[place] = data.draw(st.integers(0, 255))
    (tmp_path / "best.ckpt").write_bytes(damaged)
    try:
        checkpoint.load(tmp_path / "best.ckpt").build()
    except UserError:
        return
    assert len(damaged) == len(whole)


@pytest.mark.parametrize(
    ("saved", "said"),
    [
        ({"pytorch-lightning_version": "2.6.6", "state_dict": {}, "epoch": 3}, r"training state.*take best\.ckpt"),
        ({"state_dict": {}}, "not a lungseg checkpoint"),
        ({"format": "lungseg-0"}, r"not a lungseg checkpoint \(lungseg-1\)"),
        ([1, 2], "not a lungseg checkpoint"),
        (torch.zeros(3), "not a lungseg checkpoint"),
        ({"format": "lungseg-1"}, "damaged checkpoint: KeyError in 'net'"),
    ],
)
def test_something_else_saved_by_torch_is_refused(saved: object, said: str, tmp_path: Path) -> None:
    torch.save(saved, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match=said):
        checkpoint.load(tmp_path / "last.ckpt")


@pytest.mark.parametrize("value", [None, 5, "x", [1], {"x": 1}, {"class": "ResUNet", "widths": "x"}, {1: 2}])
@pytest.mark.parametrize("field", ["net", "weights", "preprocess"])
def test_a_damaged_field_is_a_sentence(field: str, value: object, content: dict[str, Any], tmp_path: Path) -> None:
    content[field] = value
    torch.save(content, tmp_path / "best.ckpt")
    with pytest.raises(UserError):
        checkpoint.load(tmp_path / "best.ckpt").build()


@pytest.mark.parametrize("field", ["weights", "net", "preprocess", "classes", "metrics"])
def test_a_missing_field_is_named(field: str, content: dict[str, Any], tmp_path: Path) -> None:
    del content[field]
    torch.save(content, tmp_path / "best.ckpt")
    with pytest.raises(UserError, match=f"damaged checkpoint: KeyError in '{field}'"):
        checkpoint.load(tmp_path / "best.ckpt")


@pytest.mark.parametrize(
    ("net", "said"),
    [
        ({"widths": [16384, 16384]}, "the weights do not fit"),  # 29 GB
        ({"widths": [16384] * 10}, "the weights do not fit"),
        ({"widths": [10**12, 8]}, r"model\.widths"),
        ({"widths": [4, 8], "in_channels": 10**12}, "in_channels=1000000000000"),
        ({"widths": [4, 8], "in_channels": 2}, "in_channels=2"),
        ({"widths": [4, 8], "out_channels": 3}, "out_channels=3"),
        ({"widths": [4, 8], "_instantiator": "os.system"}, "_instantiator is unknown"),
        ({"widths": list(range(1, 10**5))}, r"model\.widths"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_network_is_compared_with_its_weights_before_it_takes_memory(
    net: dict[str, Any], said: str, content: dict[str, Any], tmp_path: Path
) -> None:
    content["net"] = {"class": "ResUNet", **net}
    torch.save(content, tmp_path / "best.ckpt")
    with pytest.raises(UserError, match=rf"best\.ckpt cannot be used: .*{said}") as caught:
        checkpoint.load(tmp_path / "best.ckpt")
    assert len(str(caught.value)) < 1000


def _compressed(path: Path) -> None:
    with zipfile.ZipFile(path) as file:
        parts = {entry.filename: file.read(entry) for entry in file.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in parts.items():
            file.writestr(name, data + bytes(10**6))


def test_a_checkpoint_is_no_larger_inside_than_outside(content: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "best.ckpt"
    torch.save(content, path)
    _compressed(path)
    with pytest.raises(UserError, match="its parts are larger than the file"):
        checkpoint.load(path)
    content["net"] = {"class": "ResUNet", "widths": [512, 2048]}  # fits, and is made of one number
    with torch.device("meta"):
        wanted = checkpoint.build_net(content["net"]).state_dict()
    content["weights"] = {key: torch.zeros((), dtype=value.dtype).expand(value.shape) for key, value in wanted.items()}
    torch.save(content, path)
    with pytest.raises(UserError, match="the weights are not stored in full"):
        checkpoint.load(path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda weight: weight * torch.nan,
        lambda weight: weight.to_sparse(),
        lambda weight: weight.to("meta"),
        lambda weight: weight.to(torch.complex64),
        lambda weight: weight.to(torch.int32),
        lambda weight: weight[:1, :1],
        lambda weight: weight.tolist(),
    ],
    ids=["nan", "sparse", "meta", "complex", "whole numbers", "shape", "list"],
)
def test_weights_that_are_none_are_refused(spoil: Callable[[Tensor], object], content: dict[str, Any], tmp_path: Path) -> None:
    content["weights"]["down.0.1.body.0.weight"] = spoil(content["weights"]["down.0.1.body.0.weight"])
    torch.save(content, tmp_path / "best.ckpt")
    with pytest.raises(UserError, match=r"best\.ckpt cannot be used: the weights .*down\.0\.1\.body\.0\.weight"):
        checkpoint.load(tmp_path / "best.ckpt")


def test_weights_in_half_precision_are_taken(content: dict[str, Any], tmp_path: Path) -> None:
    content["weights"] = {key: value.half() if value.is_floating_point() else value for key, value in content["weights"].items()}
    torch.save(content, tmp_path / "best.ckpt")
    assert next(checkpoint.load(tmp_path / "best.ckpt").build().parameters()).dtype == torch.float32


def test_weights_of_another_network_do_not_fit(checkpoint_file: Path) -> None:
    stored = checkpoint.load(checkpoint_file)
    for other in ({"class": "ResUNet", "widths": [4, 9]}, {"class": "UNet", "widths": [4, 8]}):
        with pytest.raises(UserError, match="the weights do not fit the network"):
            replace(stored, net=other).build()


@pytest.mark.parametrize("arguments", [{"depth": 3}, {"widths": 5}, {"widths": ["a", "b"]}, {"norm": "layer"}])
def test_wrong_arguments_of_a_network_are_a_sentence(arguments: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        checkpoint.build_net({"class": "ResUNet", **arguments})


def test_a_failed_save_leaves_the_old_file(checkpoint_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "best.ckpt"
    path.write_bytes(checkpoint_file.read_bytes())
    stored = checkpoint.load(path)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        checkpoint.save(path, replace(stored, net={"class": lambda: None}))
    assert path.read_bytes() == checkpoint_file.read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == ["best.ckpt"]


def test_weights_whose_checksum_is_wrong_are_refused(content: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "best.ckpt"
    torch.save(content, path)
    with zipfile.ZipFile(path) as file:
        part = max(file.infolist(), key=lambda entry: entry.file_size)
        with file.open(part) as weights:
            start = path.read_bytes().index(weights.read())
    data = bytearray(path.read_bytes())
    data[start + 3] ^= 0x80  # the sign of one weight, which torch would take as it is
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"best\.ckpt cannot be read as a checkpoint \(the checksum of its part .* is wrong\)"):
        checkpoint.load(path)
