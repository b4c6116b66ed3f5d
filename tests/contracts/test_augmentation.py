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
from lungseg.preprocess import BACKGROUND, IGNORE, LUNG, Preprocess

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
    """A body with two lungs in HU (SIDE, SIDE) and its labels, with a patch to ignore inside the left lung."""
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    body = (x / 0.9) ** 2 + (y / 0.7) ** 2 < 1
    lung = ((np.abs(x) - 0.42) / 0.28) ** 2 + (y / 0.45) ** 2 < 1
    image = np.where(body, np.where(lung, -850.0, 40.0), -1000.0)
    image += np.random.default_rng(seed).normal(0, 20, image.shape)
    labels = np.where(lung & (x < -0.4) & (np.abs(y) < 0.2), IGNORE, lung).astype(np.uint8)
    return image.astype(np.float32), labels


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
    labels = thorax()[1]
    for sample in range(20):
        image, out = augmentation(slices()[kind], labels, preprocess, (0, 0, sample))
        assert image.shape == out.shape == (SIDE, SIDE)
        assert (image.dtype, out.dtype) == (np.float32, np.uint8)
        assert np.isfinite(image).all()
        assert image.min() >= 0
        assert image.max() <= 1
        assert kind == "constant" or preprocess is WINDOW or image.max() - image.min() > 0.99  # something is to be seen


def test_labels_keep_their_values_and_ignored_pixels_move_along(augmentation):
    image, labels = thorax()
    patch = (labels == IGNORE).sum()
    for sample in range(40):
        out = augmentation(image, labels, PREPROCESS, (1, 0, sample))[1]
        assert set(np.unique(out)) <= {BACKGROUND, LUNG, IGNORE}
        assert 0.25 < (out == IGNORE).sum() / patch < 4  # zoomed at most, never mixed with its neighbours


def test_the_lung_edge_stays_visible(augmentation):
    """The labels still fit the picture, and the drawn window leaves lung and body apart."""
    image, labels = thorax()
    body = cv2.dilate((labels > 0).astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    labels[body & (labels == 0)] = 2  # a rim of body round the lungs, to be followed too
    for sample in range(40):
        seen, out = augmentation(image, labels, PREPROCESS, (2, 0, sample))
        if (out == 2).sum() > 50 and (out == LUNG).sum() > 50:
            assert np.median(seen[out == 2]) > np.median(seen[out == LUNG]) + 0.15


def test_same_seed_same_bytes_whatever_was_drawn_before(augmentation):
    image, labels = thorax()
    forwards = [augmentation(image, labels, PREPROCESS, (3, 0, i)) for i in range(8)]
    augmentation(image, labels, WINDOW, (9, 9, 9))
    again = pickle.loads(pickle.dumps(augmentation))
    backwards = [again(image, labels, PREPROCESS, (3, 0, i)) for i in reversed(range(8))][::-1]
    for (image_a, labels_a), (image_b, labels_b) in zip(forwards, backwards, strict=True):
        assert image_a.tobytes() == image_b.tobytes()
        assert labels_a.tobytes() == labels_b.tobytes()


def test_epochs_and_samples_differ(augmentation):
    image, labels = thorax()
    drawn = [augmentation(image, labels, PREPROCESS, (0, e, i))[0].tobytes() for e in range(3) for i in range(8)]
    assert len(set(drawn)) == (1 if augmentation == Augmentation() else len(drawn))


def test_the_input_is_left_alone(augmentation):
    """A cache gives read-only arrays, and what comes out must not be a window on them, even where nothing moved."""
    image, labels = thorax()
    before = image.copy(), labels.copy()
    image.flags.writeable = labels.flags.writeable = False
    for chosen in (augmentation, Augmentation(blur=1), Augmentation(flip_horizontal=1)):
        out = chosen(image, labels, PREPROCESS, (4, 0, 0))
        assert all(a.flags.writeable and a.flags.c_contiguous for a in out)
        assert not any(np.shares_memory(a, b) for a in out for b in (image, labels))
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(labels, before[1])


def test_none_is_exactly_what_prediction_does():
    augmentation = preset(FOLDER / "none.yaml")
    for preprocess in (PREPROCESS, WINDOW):
        for image in slices().values():
            out, labels = augmentation(image, thorax()[1], preprocess, (0, 0, 0))
            np.testing.assert_array_equal(out, preprocess.normalise(image))
            np.testing.assert_array_equal(labels, thorax()[1])


class Slices(Dataset):
    """What a training dataset does: the epoch lives in shared memory, so that persistent workers see it change."""

    def __init__(self, augmentation: Augmentation) -> None:
        self.augmentation = augmentation
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return 9

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image, labels = self.augmentation(*thorax(index), PREPROCESS, (7, int(self.epoch), index))
        return torch.from_numpy(image), torch.from_numpy(labels)


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
        batches = [torch.stack([image, labels.float()], dim=1) for image, labels in loader]
        epochs.append(torch.cat(batches))
    return torch.stack(epochs)  # (2 epochs, 9 samples, image and labels, SIDE, SIDE)


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
image, labels = np.eye(16, dtype=np.float32), np.zeros((16, 16), np.uint8)
Augmentation()(image, labels, Preprocess(16), (0, 0, 0))
assert "albumentations" not in sys.modules, "imported before it is needed"
Augmentation(flip_horizontal=1)(image, labels, Preprocess(16), (0, 0, 0))
assert "albumentations" in sys.modules
assert not asked, asked
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
