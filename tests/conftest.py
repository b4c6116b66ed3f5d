"""What tests of all three kinds ask for by name."""

import os
from pathlib import Path

import pytest
import torch

from builders import write_dataset
from lungseg import checkpoint
from lungseg.preprocess import Preprocess
from seer import seeing_checkpoint

if "PYTEST_XDIST_WORKER" in os.environ:  # processes side by side, each and what it starts with one thread
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A folder for ``data.root``: Train and Test, ten slices of four patients p01 to p04."""
    return write_dataset(tmp_path / "dataset")


@pytest.fixture(scope="session")
def checkpoint_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``best.ckpt`` of a tiny untrained network on a grid of 64."""
    net = {"class": "ResUNet", "widths": [4, 8]}
    torch.manual_seed(0)
    weights = checkpoint.build_net(net).state_dict()
    path = tmp_path_factory.mktemp("run") / "best.ckpt"
    checkpoint.save(path, checkpoint.Checkpoint(net, weights, Preprocess(size=64), metrics={"val/iou": 0.5}))
    return path


@pytest.fixture(scope="session")
def seeing_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``best.ckpt`` of a network that finds the lungs of a phantom, on a grid of 64."""
    return seeing_checkpoint(tmp_path_factory.mktemp("seer") / "best.ckpt")
