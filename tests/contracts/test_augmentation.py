"""What every preset in configs/augmentation must do, whatever it draws."""

import inspect
import pickle
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from torch.utils.data import DataLoader, Dataset

from lungseg.data.augment import Augmentation
from lungseg.preprocess import Preprocess

FOLDER = Path(__file__).parents[2] / "configs" / "augmentation"
PRESETS = sorted(FOLDER.glob("*.yaml"))
SIDE = 96
PREPROCESS = Preprocess(size=SIDE)
WINDOW = Preprocess(size=SIDE, normalisation="window")


def preset(path: Path) -> Augmentation:
    config = yaml.safe_load(path.read_text())
    assert config.pop("_target_") == "lungseg.data.augment.Augmentation"
    return Augmentation(**config)


def thorax(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A body with two lungs in HU (SIDE, SIDE) and its target (SIDE, SIDE, 2), a patch to ignore in the lung at the left."""
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    body = (x / 0.9) ** 2 + (y / 0.7) ** 2 < 1
    lung = ((np.abs(x) - 0.42) / 0.28) ** 2 + (y / 0.45) ** 2 < 1
    image = np.where(body, np.where(lung, -850.0, 40.0), -1000.0)
    image += np.random.default_rng(seed).normal(0, 20, image.shape)
    ignored = lung & (x < -0.4) & (np.abs(y) < 0.2)
    return image.astype(np.float32), shares(lung & ~ignored, ignored)


def shares(lung: np.ndarray, ignored: np.ndarray) -> np.ndarray:
    return np.stack([lung, ignored], axis=-1).astype(np.uint8) * np.uint8(255)


def slices() -> dict[str, np.ndarray]:
    hu, _ = thorax()
    return {
        "hu": hu,
        "picture": np.clip((hu + 1000) * 255 / 1400, 0, 255).round(),
        "constant": np.full_like(hu, -1000),
        "metal": np.where(hu > 90, np.float32(30000), hu),
    }


@pytest.fixture(params=PRESETS, ids=lambda path: path.stem)
def augmentation(request: pytest.FixtureRequest) -> Augmentation:
    return preset(request.param)


def test_the_groups_of_the_readme_are_there():
    assert {"none", "light", "robust"} <= {path.stem for path in PRESETS}


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_key_can_be_overridden_and_says_what_it_does(path):
    lines = path.read_text().splitlines()[2:]
    assert [line.split(":")[0] for line in lines] == list(inspect.signature(Augmentation).parameters)
    assert all("# " in line for line in lines)


@pytest.mark.parametrize("kind", slices())
@pytest.mark.parametrize("preprocess", [PREPROCESS, WINDOW], ids=lambda p: p.normalisation)
def test_output_is_network_input(augmentation, preprocess, kind):
    target = thorax()[1]
    for sample in range(20):
        image, out = augmentation(slices()[kind], target, preprocess, (0, 0, sample))
        assert (image.shape, out.shape) == ((SIDE, SIDE), (SIDE, SIDE, 2))
        assert (image.dtype, out.dtype) == (np.float32, np.uint8)
        assert np.isfinite(image).all()
        assert image.min() >= 0
        assert image.max() <= 1
        assert kind == "constant" or preprocess is WINDOW or image.max() - image.min() > 0.99  # something is to be seen


def test_shares_mix_at_edges_only_and_ignored_pixels_move_along(augmentation):
    image, target = thorax()
    patch = target[..., 1].sum(dtype=int)
    for sample in range(40):
        out = augmentation(image, target, PREPROCESS, (1, 0, sample))[1]
        assert out.sum(axis=-1, dtype=int).max() <= 256  # lung and ignored share a pixel; 1 for rounding
        assert 0.25 < out[..., 1].sum(dtype=int) / patch < 4  # zoomed at most
        # A zoomed edge is up to three pixels wide; the picture's own border, where the fill comes in, is one too.
        edges = cv2.morphologyEx((out >= 128).astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((7, 7), np.uint8))
        inner = ~edges.any(axis=-1)[1:-1, 1:-1]
        assert np.isin(out[1:-1, 1:-1][inner], (0, 255)).all()


def test_the_lung_edge_stays_visible(augmentation):
    """The target still fits the picture, and the drawn window leaves lung and body apart."""
    image, target = thorax()
    lung = target.any(axis=-1)
    rim = cv2.dilate(lung.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    target = shares(lung, rim & ~lung)  # the body round the lungs in place of the ignored, to be followed too
    for sample in range(40):
        seen, out = augmentation(image, target, PREPROCESS, (2, 0, sample))
        inside, outside = seen[out[..., 0] == 255], seen[out[..., 1] == 255]
        if min(len(inside), len(outside)) > 50:
            assert np.median(outside) > np.median(inside) + 0.15


def test_same_seed_same_bytes_whatever_was_drawn_before(augmentation):
    image, target = thorax()
    forwards = [augmentation(image, target, PREPROCESS, (3, 0, i)) for i in range(8)]
    augmentation(image, target, WINDOW, (9, 9, 9))
    again = pickle.loads(pickle.dumps(augmentation))
    backwards = [again(image, target, PREPROCESS, (3, 0, i)) for i in reversed(range(8))][::-1]
    for (image_a, target_a), (image_b, target_b) in zip(forwards, backwards, strict=True):
        assert image_a.tobytes() == image_b.tobytes()
        assert target_a.tobytes() == target_b.tobytes()


def test_epochs_and_samples_differ(augmentation):
    image, target = thorax()
    drawn = [augmentation(image, target, PREPROCESS, (0, e, i))[0].tobytes() for e in range(3) for i in range(8)]
    assert len(set(drawn)) == (1 if augmentation == Augmentation() else len(drawn))


def test_the_input_is_left_alone(augmentation):
    """A cache gives read-only arrays, and what comes out must not be a window on them, even where nothing moved."""
    image, target = thorax()
    before = image.copy(), target.copy()
    image.flags.writeable = target.flags.writeable = False
    for chosen in (augmentation, Augmentation(blur=1), Augmentation(flip_horizontal=1)):
        out = chosen(image, target, PREPROCESS, (4, 0, 0))
        assert all(a.flags.writeable and a.flags.c_contiguous for a in out)
        assert not any(np.shares_memory(a, b) for a in out for b in (image, target))
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(target, before[1])


def test_none_is_exactly_what_prediction_does():
    augmentation = preset(FOLDER / "none.yaml")
    for preprocess in (PREPROCESS, WINDOW):
        for image in slices().values():
            out, target = augmentation(image, thorax()[1], preprocess, (0, 0, 0))
            np.testing.assert_array_equal(out, preprocess.normalise(image))
            np.testing.assert_array_equal(target, thorax()[1])


class Slices(Dataset):
    """What a training dataset does: the epoch lives in shared memory, so that persistent workers see it change."""

    def __init__(self, augmentation: Augmentation) -> None:
        self.augmentation = augmentation
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return 9

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image, target = self.augmentation(*thorax(index), PREPROCESS, (7, int(self.epoch), index))
        return torch.from_numpy(image), torch.from_numpy(target)


def two_epochs(augmentation: Augmentation, workers: int, persistent: bool = False) -> torch.Tensor:
    dataset = Slices(augmentation)
    loader = DataLoader(
        dataset,
        batch_size=2,
        num_workers=workers,
        persistent_workers=persistent,
        worker_init_fn=lambda _: cv2.setNumThreads(0),
    )
    epochs = []
    for epoch in range(2):
        dataset.epoch.fill_(epoch)
        batches = [torch.cat([image[..., None], target.float()], dim=-1) for image, target in loader]
        epochs.append(torch.cat(batches))
    return torch.stack(epochs)  # (2 epochs, 9 samples, SIDE, SIDE, image and two shares)


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize(("workers", "persistent"), [(1, False), (4, False), (4, True)])
def test_workers_do_not_change_a_pixel(workers, persistent):
    expected = two_epochs(preset(FOLDER / "robust.yaml"), workers=0)
    assert not torch.equal(expected[0], expected[1])
    assert torch.equal(two_epochs(preset(FOLDER / "robust.yaml"), workers, persistent), expected)


def test_albumentations_comes_late_and_asks_no_network():
    script = """
import sys
asked = []
sys.addaudithook(lambda event, args: asked.append(event) if event.startswith("socket.") else None)
import numpy as np
from lungseg.data.augment import Augmentation
from lungseg.preprocess import Preprocess
image, target = np.eye(16, dtype=np.float32), np.zeros((16, 16, 2), np.uint8)
Augmentation()(image, target, Preprocess(16), (0, 0, 0))
assert "albumentations" not in sys.modules, "imported before it is needed"
Augmentation(flip_horizontal=1)(image, target, Preprocess(16), (0, 0, 0))
assert "albumentations" in sys.modules
assert not asked, asked
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
