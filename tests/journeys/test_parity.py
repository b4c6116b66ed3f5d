"""What training reports of its best checkpoint is what prediction with it reaches on the same files."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import SMALL, lungseg, metrics_of, table, train, write_png

from builders import chest

AGREE = ("iou", "dice", "iou_worst", "iou_pooled", "false_lung_images", "false_lung_pixels_max")


def write_set(root: Path) -> None:
    """Slices of another size and shape than the grid, a lung-free one among each part, with a strip where nobody knows."""
    for part, count in (("Train", 8), ("Test", 4)):
        for seed in range(count):
            size = (70, 90) if seed % 2 else (120, 97)
            image, labels = (plane[: size[0], : size[1]] for plane in chest(max(size), 100 * count + seed))
            if seed == count - 1:
                image, labels = np.where(labels > 0, 40, image), np.zeros_like(labels)
            mask = labels * 255
            mask[:, :11] = 128
            grey = np.clip((image + 1000) / 1400 * 255, 0, 255).astype(np.uint8)
            write_png(root / part / "Images" / f"{seed}.png", grey)
            write_png(root / part / "Masks" / f"{seed}.png", mask)


@pytest.mark.parametrize("words", [(), ("optimization.ema_decay=null", "trainer.precision=bf16-mixed")], ids=["average", "bf16"])
def test_the_score_of_a_run_is_the_score_of_its_checkpoint(words: tuple[str, ...], tmp_path: Path) -> None:
    root, run, out = tmp_path / "data", tmp_path / "run", tmp_path / "out"
    write_set(root)
    settings = (
        "data.ignore_values=[128]",
        "trainer.max_epochs=8",
        "optimization.lr=0.02",
        "loader.batch_size=3",
        "augmentation=none",
    )
    train(run, *SMALL, "data=folder", f"data.root={root}", *settings, "logger=csv", *words)
    truth = f"truth={root / 'Test' / 'Masks'}"
    done = lungseg(
        "predict",
        f"ckpt={run / 'checkpoints' / 'best.ckpt'}",
        f"input={root / 'Test' / 'Images'}",
        f"output={out}",
        truth,
        "ignore_values=128",
    )
    assert done.code == 0, done.out
    trained, predicted = metrics_of(run), json.loads((out / "metrics.json").read_text())
    for key in AGREE:
        assert abs(trained[f"test/{key}"] - predicted[key]) < 1e-4, key
    assert predicted["iou"] > 0.3  # or there would be little to agree on
    each = {row["file"]: float(row["iou"]) for row in table(out / "summary.csv") if row["iou"]}
    for row in table(run / "test_images.csv"):
        if row["iou"] == "":  # no lung in the truth
            assert Path(row["image"]).name not in each
            continue
        assert float(row["iou"]) == pytest.approx(each[Path(row["image"]).name], abs=1e-4)
