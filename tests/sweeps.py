"""Sweeps as a training leaves them, written by hand: so many jobs as a test wants, in no time."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

CONFIG: dict[str, Any] = {
    "seed": 0,
    "model": {"_target_": "lungseg.nets.unet.UNet"},
    "loss": {"_target_": "lungseg.losses.Dice"},
    "optimization": {"lr": 1e-3},
    "preprocess": {"size": 64},
    "data": {"_target_": "lungseg.data.sources.PhantomSource", "seed": 0, "folds": None, "fold": 0},
    "trainer": {"max_epochs": 3, "check_val_every_n_epoch": 1},
}
CHOICES = {
    "model": "unet_small",
    "loss": "dice",
    "data": "phantom",
    "trainer": "auto",
    "experiment": None,
    "hydra/launcher": "basic",
}
NOT_FINISHED, FAILED = "not finished", "failed"


@dataclass(frozen=True)
class Made:
    """A job to be written.

    Attributes:
        words: what it varies.
        config: dotted settings that differ from ``CONFIG``.
        val, test: IoU by patient; None for no table. Patients named ``b/...`` come from the source b, others from a; of an image
            ``x.png`` nobody knows the patient.
        scans: 3-D Dice of validated scans; None for no table.
        curve: ``val/iou`` of each epoch, None where it was not validated.
        epoch_seconds: of each epoch.
    """

    words: Sequence[str] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    val: Mapping[str, float] | None = field(default_factory=lambda: {f"p{i}": 0.9 for i in range(6)})
    test: Mapping[str, float] | None = None
    scans: Mapping[str, float] | None = None
    status: str = "finished"
    error: str = ""
    curve: Sequence[float | None] = (0.5, 0.8, 0.9)
    epoch_seconds: float = 2.0


def write_sweep(folder: Path, jobs: Sequence[Made], choices: Mapping[str, str | None] = CHOICES) -> Path:
    """``sweep.json``, ``multirun.yaml`` and the folders of the jobs."""
    folder.mkdir(parents=True)
    entries = [{"job": number, "folder": str(number), "overrides": list(job.words)} for number, job in enumerate(jobs)]
    (folder / "sweep.json").write_text(json.dumps({"command": "lungseg train ...", "jobs": entries}), encoding="utf-8")
    (folder / "multirun.yaml").write_text(yaml.safe_dump({"hydra": {"runtime": {"choices": dict(choices)}}}), encoding="utf-8")
    for number, job in enumerate(jobs):
        write_job(folder / str(number), job)
    return folder


def write_job(folder: Path, job: Made) -> None:
    """What a job has left; one that is not finished has a history at most."""
    folder.mkdir(exist_ok=True)
    config = json.loads(json.dumps(CONFIG))
    for name, value in job.config.items():
        *sections, key = name.split(".")
        inner = config
        for section in sections:
            inner = inner[section]
        inner[key] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    if job.curve:
        rows = [(epoch, job.epoch_seconds, 10, "nan" if iou is None else iou) for epoch, iou in enumerate(job.curve, 1)]
        _write(folder / "history.csv", ("epoch", "seconds", "images", "val/iou"), rows)
    if job.status == NOT_FINISHED:
        return
    record = {"status": job.status, "exit_code": int(job.status == FAILED), "error": job.error, "seconds": 7.0}
    (folder / "job.json").write_text(json.dumps(record), encoding="utf-8")
    if job.status == FAILED:
        return
    score = max((iou for iou in job.curve if iou is not None), default=None)
    metrics = {"val/iou": score, "parameters": 1.3e6, "seconds": 6.0}
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    for part, patients in (("val", job.val), ("test", job.test)):
        if patients is not None:
            rows = []
            for name, iou in patients.items():
                image, patient = (name, "") if name.endswith(".png") else (f"{name}.png", name)
                rows.append((image, patient, name.partition("/")[0] if "/" in name else "a", iou, ""))
            rows.append((f"free of {part}.png", "free", "a", "", 3))
            _write(folder / f"{part}_images.csv", ("image", "patient", "source", "iou", "false_lung_pixels"), rows)

    if job.scans is not None:
        _write(folder / "val_volumes.csv", ("scan", "slices", "dice_3d"), [(name, 9, dice) for name, dice in job.scans.items()])


def _write(path: Path, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([head, *rows])
