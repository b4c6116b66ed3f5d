"""Lies in what a person writes and a checkpoint holds: tables, settings, plain values and weights. All by a generator of draws."""

import csv
import io
from collections.abc import Callable
from typing import Any

import torch
from numpy.random import Generator

from damage import anywhere, pick
from headers import EXTREMES, NUMBERS

MANIFEST = """image,mask,patient,split,slope,intercept,source
i/a.png,m/a.png,A,train,,,x
i/b.tif,m/b.png,B,train,2,-5,y
i/c.png,m/c.png,C,val,1.5,,x
i/d.png,m/d.png,D,test,,3,
"""
EXPERIMENT = """# @package _global_
defaults:
  - override /model: resunet
  - override /loss: dice
optimization:
  lr: 1e-3
  schedule: constant
trainer:
  max_epochs: 3
  accelerator: cpu
  gradient_clip_val: 1.0
data:
  train: 80
  size: 64
preprocess:
  size: 64
  percentiles: [1, 99]
augmentation:
  rotation_deg: 10
loader:
  batch_size: 2
  num_workers: 0
early_stopping: 5
seed: 3
"""
CELLS = (
    *NUMBERS, "train", "test", " TRAIN ", "i", "i/a.png", "m/b.png", "../list.csv", "/dev/zero", "~", "A", "a\0b", "x" * 5000, "ü",
)  # fmt: skip
VALUES = (
    *NUMBERS, "null", "true", "[]", "{}", "[1, 2, 3]", "???", "${seed}", "${x.y}", "${now:%Y}", "${oc.env:HOME}", "'", '"a',
    "a: b: c", "1e-400", "!!python/object/apply:os.system ['touch mark']", "!!binary aGk=", "&a [*a]", "*a", "0x7f", "2020-01-01",
    "os.system", "\t", "äöü", "a" * 3000,
)  # fmt: skip
HOSTILE = (
    "os.system",
    "builtins.eval",
    "antigravity.fly",
    "torch.nn.Linear",
    "lungseg.nets.resunet.ResUNet",
    "__import__",
    "EncoderDecoder",
)


def manifest(rng: Generator) -> bytes:
    """A table of images and masks with some cells changed, or damaged as bytes."""
    if rng.random() < 0.5:
        return anywhere(MANIFEST.encode(), rng)
    rows = list(csv.reader(io.StringIO(MANIFEST)))
    for _ in range(int(rng.integers(1, 4))):
        row = rows[int(rng.integers(len(rows)))]
        row[int(rng.integers(len(row)))] = str(pick(rng, CELLS))
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def experiment(rng: Generator) -> bytes:
    """A file of settings with some lines changed, or damaged as bytes, or both."""
    lines = EXPERIMENT.splitlines()
    for _ in range(int(rng.integers(1, 3))) if rng.random() < 0.7 else ():
        at = int(rng.integers(1, len(lines)))
        way = int(rng.integers(5))
        key, colon, _value = lines[at].partition(":")
        if way < 3 and colon:
            lines[at] = f"{key}: {pick(rng, VALUES)}"
        elif way == 3:
            lines.insert(int(rng.integers(len(lines))), lines[at])
        else:
            lines[at] = str(pick(rng, ("", f"   {lines[at]}", f"{key}x: 1", "hydra: {run: {dir: x}}", "_target_: os.system")))
    data = "\n".join(lines).encode()
    return anywhere(data, rng) if rng.random() < 0.4 else data


def lie(content: dict[str, Any], rng: Generator) -> None:
    """One value somewhere in a checkpoint is another."""
    nets = (
        "class",
        "widths",
        "in_channels",
        "out_channels",
        "norm",
        "dropout",
        "down",
        "shortcut",
        "deep_supervision",
        "_instantiator",
    )
    way = int(rng.integers(4))
    if way == 0 and isinstance(content["net"], dict):
        content["net"][str(pick(rng, nets))] = _value(rng)
    elif way == 1 and isinstance(content["preprocess"], dict):
        content["preprocess"][str(pick(rng, (*content["preprocess"], "path")))] = _value(rng)
    elif way == 2 and content.get("weights") and isinstance(content["weights"], dict):
        key = str(pick(rng, list(content["weights"])))
        weight = content["weights"].pop(key)
        if rng.random() < 0.9:
            content["weights"][key if rng.random() < 0.8 else f"{key}x"] = _other_weight(weight, rng)
    else:
        content[str(pick(rng, list(content)))] = _value(rng)


def _value(rng: Generator) -> Any:
    numbers = [value for values in EXTREMES.values() for value in values]
    plain = (*numbers, *NUMBERS, *HOSTILE, None, True, -1, 4096, 10**30, b"x", 1j, [], {}, (), set(), {1: 2}, {"a": {"b": []}})
    right = ("window", "percentile", "ResUNet", "UNet", "group", [4, 8], [0.5, 99.5], {"class": "UNet", "widths": [4, 8]})
    nearly = ([16384] * 10, [10**9, 8], [4, 8, 16], [4.5, 8], [[4], 8], [99, 1], ["lung", "heart"], [1] * 100_000, "x" * 100_000)
    torches = (torch.zeros(3), torch.zeros(()), torch.Size([4, 8]), torch.float16, torch.device("cpu"))
    return pick(rng, (*plain, *right, *nearly, *torches))


def _other_weight(weight: Any, rng: Generator) -> Any:
    if type(weight) is not torch.Tensor or weight.is_nested or weight.is_quantized or weight.layout != torch.strided:
        return _value(rng)  # a lie already
    number = weight.float()
    ways: tuple[Callable[[], Any], ...] = (
        lambda: weight.flatten(),
        lambda: weight[:1] if weight.ndim else weight[None],
        lambda: weight.half(),
        lambda: weight.double(),
        lambda: weight.to(torch.int8),
        lambda: weight.to(torch.complex64),
        lambda: weight.to("meta"),
        lambda: weight.to_sparse(),
        lambda: weight.tolist(),
        lambda: weight * torch.inf,
        lambda: weight * 1e30,
        lambda: torch.zeros(0),
        lambda: torch.zeros((), dtype=weight.dtype).expand(weight.shape),
        lambda: torch.zeros(1).expand(2**40),
        lambda: torch.nn.Parameter(number),
        lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
        lambda: torch.quantize_per_tensor(number, 0.1, 0, torch.qint8),
        lambda: _value(rng),
    )
    return pick(rng, ways)()  # type: ignore[operator]
