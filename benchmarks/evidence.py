"""The trainings behind docs/evidence.md, from data to tables, one after the other; what was stopped is gone on with.

    python benchmarks/evidence.py data=DIR output=DIR [only=screening,residual] [jobs=2]

``data`` holds finding_lungs and lctsc (Train and Test), lungsegdb and covid19_ct_seg (Test), each with Images and Masks. Choices
are made by validation on the Train sets alone: the last two steps alone open the Test sets, for columns of their own.
"""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import median

import cv2
import numpy as np
from numpy.typing import NDArray

from lungseg.cli import main as lungseg
from lungseg.commands.words import parse
from lungseg.errors import UserError
from lungseg.imaging.slices import read_labels, read_stack
from lungseg.imaging.writers import write_picture
from lungseg.signatures import nearest

HERE = Path(__file__).resolve().parent
FINDING_SLOPE = 1 / 0.8165  # its grey values are no HU but this much too small
# Patients of Test sets of whom there are few, found by looking; slices of lctsc are told apart by their place in the scan.
KINDS: dict[str, dict[str, tuple[str, ...]]] = {
    "finding_lungs": {"prone": ("ID_0200", "ID_0214")},
    "lungsegdb": {"tumour": ("153",), "apex": ("165", "338", "341", "376", "380"), "base": ("81", "310")},
    "covid19_ct_seg": {},
    "lctsc": {},
}
FOLDS = ["data.manifest=MANIFESTS/train.csv", "data.balance=source", "data.folds=5", "data.fold=${seed}"]  # a seed, a fold
SMALL = ["preprocess.size=128", "trainer.max_epochs=10", "trainer.check_val_every_n_epoch=2", "test=never"]
EPOCHS = 8
FULL = ["preprocess.size=256", f"trainer.max_epochs={EPOCHS}", "test=never"]
TESTED = ["data.manifest=MANIFESTS/all.csv", "data.balance=source", *SMALL, f"trainer.max_epochs={EPOCHS}", "test=always"]
LUNG_HU, MEDIASTINUM_HU = (-600, 1500), (40, 400)  # level, width
PICTURES = {"lung": LUNG_HU, "mediastinum": MEDIASTINUM_HU, "equalised": LUNG_HU, "turned": LUNG_HU}
LEARNT = ("finding_lungs", "lctsc")
# The manifests, each of sets, their folders and what they are for.
MANIFESTS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "train": tuple((name, "Train", "train") for name in LEARNT),
    "to_lctsc": (("finding_lungs", "Train", "train"), ("lctsc", "Train", "val")),
    "to_finding": (("lctsc", "Train", "train"), ("finding_lungs", "Train", "val")),
    "all": (*((name, "Train", "train") for name in LEARNT), *((name, "Test", "test") for name in KINDS)),
}
AUGMENTATIONS, LOSSES = "augmentation=robust,light,none", "loss=dice_bce,bce,dice"
STRIDED = "model=resunet_strided"  # the default when these steps ran
STEPS = {
    # What each choice buys within the hospitals of the Train sets.
    "screening": [*FOLDS, "seed=0,1,2", AUGMENTATIONS, LOSSES, f"{STRIDED},unet_small", *SMALL],
    # What augmentation buys in a hospital that was not learnt from: from one Train set to the other, 5,500 images each.
    "to_lctsc": [
        "data.manifest=MANIFESTS/to_lctsc.csv",
        *("seed=0,1,2", AUGMENTATIONS, STRIDED, *SMALL, "trainer.max_epochs=30", "trainer.check_val_every_n_epoch=5"),
    ],
    "to_finding": ["data.manifest=MANIFESTS/to_finding.csv", "seed=0,1,2", AUGMENTATIONS, STRIDED, *SMALL],
    # The networks of to_finding on the same slices as pictures: windowed, 8 bit, as they come out of a viewer or a paper.
    "pictures": ["data.manifest=MANIFESTS/to_finding.csv"],
    # What the shortcuts buy, with nothing else changed (unet_small) and at equal parameters, and what pooling does for them.
    "residual": [*FOLDS, "seed=0,1,2,3,4", "model=resunet_small,unet_small,unet_matched,resunet_strided", *FULL],
    # The same seconds instead of the same epochs: the plain network trains longer, by as much as it was faster in "residual".
    "equal_time": [*FOLDS, "seed=0,1,2,3,4", "model=unet_small", *FULL],
    # Other makers' networks, by quality.py, on the first fold.
    "quality": ["data=manifest", "data.manifest=MANIFESTS/train.csv", "data.balance=source"],
    # The Test sets, filled in afterwards: the networks with robust, and the first of them with light.
    "test": [*TESTED, "seed=0,1,2", "model=resunet_small,unet_small"],
    "test_augmentation": [*TESTED, "seed=0,1", "augmentation=light"],
}


@dataclass(frozen=True)
class Options:
    """What may stand on the command line, with its type and default."""

    data: Path
    output: Path
    only: tuple[str, ...] = tuple(STEPS)
    jobs: int = 2

    def __post_init__(self) -> None:
        for name in self.only:
            if name not in STEPS:
                raise UserError(f"only={name} is unknown: {nearest(name, STEPS, '')}")
        if self.jobs < 1:
            raise UserError(f"jobs={self.jobs} must be a number of jobs side by side, 1 or more.")


def main(words: Sequence[str]) -> int:
    if not words or any(word in ("-h", "--help") for word in words):
        print(f"{__doc__}\nSteps: {', '.join(STEPS)}.")
        return 0 if words else 2
    try:
        return _run(parse(words, Options, "evidence.py", "python benchmarks/evidence.py data=DIR output=DIR"))
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2


def _run(options: Options) -> int:
    data, output, jobs = options.data.resolve(), options.output.resolve(), options.jobs
    for name in MANIFESTS:
        if any(f"MANIFESTS/{name}.csv" in word for step in options.only for word in STEPS[step]):
            write_manifest(output / "manifests" / f"{name}.csv", data, MANIFESTS[name])
    for name in options.only:
        if name == "equal_time":
            code = equal_time(output, jobs)
        elif name == "pictures":
            code = pictures(output)
        elif name == "quality":
            code = quality(output)
        else:
            code = trained(STEPS[name], output / name, output, jobs)
        if code:
            return code
    print(f"\nTables and plots of each step: {output}/*/report, and {output}/quality/quality.md")
    return 0


def equal_time(output: Path, jobs: int) -> int:
    """The plain network for the seconds that the residual one has had, and how the latter's jobs of ``residual`` compare."""
    ours, plain = (folders_of(output / "residual", f"model={model}") for model in ("resunet_small", "unet_small"))
    faster = median(epoch_seconds(ours)) / median(epoch_seconds(plain))
    folder = output / "equal_time"
    code = trained([*STEPS["equal_time"], f"trainer.max_epochs={round(EPOCHS * faster)}"], folder, output, jobs)
    if code:
        return code
    sides = (",".join(map(str, runs)) for runs in (ours, folders_of(folder)))
    return lungseg(["compare", *sides, "part=val", f"output={folder / 'report'}"])


def pictures(output: Path) -> int:
    """What each augmentation of ``to_finding`` makes of pictures of the slices it was judged on, and how each pair compares."""
    with (output / "manifests" / "to_finding.csv").open(newline="", encoding="utf-8") as file:
        judged = [row for row in csv.DictReader(file) if row["split"] == "val"]
    runs = {name: folders_of(output / "to_finding", f"augmentation={name}") for name in ("robust", "light", "none")}
    for kind in PICTURES:
        folder = output / "pictures" / kind
        for row in judged:
            image, mask = shown(kind, float(row["slope"]) * read_stack(Path(row["image"]))[0], read_labels(Path(row["mask"]))[0])
            write_picture(folder / "images" / f"{Path(row['image']).stem}.png", image)
            write_picture(folder / "masks" / f"{Path(row['image']).stem}.png", mask)
        for run in (run for several in runs.values() for run in several):
            made = folder / "of" / run.name
            words = [f"ckpt={run / 'checkpoints' / 'best.ckpt'}", f"input={folder / 'images'}", f"truth={folder / 'masks'}"]
            code = lungseg(["predict", "-q", *words, f"output={made}", *(["resume=true"] if made.is_dir() else [])])
            if code:
                return code
        for pair in combinations(runs, 2):
            print(f"\nPictures of kind {kind}: A is {pair[0]}, B is {pair[1]}")
            sides = [",".join(str(folder / "of" / run.name) for run in runs[name]) for name in pair]
            code = lungseg(["compare", *sides, f"output={folder / ' against '.join(pair)}"])
            if code:
                return code
    return 0


def shown(kind: str, image_hu: NDArray[np.float32], labels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A slice (H, W) as a picture of this kind, 0 to 255, and its mask of 0 and 255."""
    level, width = PICTURES[kind]
    image = np.rint(255 * np.clip((image_hu - level) / width + 0.5, 0, 1)).astype(np.uint8)
    if kind == "equalised":
        image = np.asarray(cv2.createCLAHE(clipLimit=2, tileGridSize=(8, 8)).apply(image), np.uint8)
    turn = -1 if kind == "turned" else 1
    return image[::turn, ::turn], 255 * labels[::turn, ::turn]


def quality(output: Path) -> int:
    words = [word.replace("MANIFESTS", str(output / "manifests")) for word in STEPS["quality"]]
    return subprocess.run(
        [sys.executable, str(HERE / "quality.py"), f"output={output / 'quality'}", *words], check=False
    ).returncode


def folders_of(sweep: Path, word: str | None = None) -> list[Path]:
    """The folders of the jobs with a word, or of all, in the order of their seeds.

    Raises:
        UserError: the sweep has not begun.
    """
    if not (sweep / "sweep.json").is_file():
        raise UserError(f"{sweep} holds no sweep yet: run only={sweep.name} first.")
    jobs = json.loads((sweep / "sweep.json").read_text(encoding="utf-8"))["jobs"]
    return [sweep / job["folder"] for job in jobs if word is None or word in job["overrides"]]


def epoch_seconds(runs: Sequence[Path]) -> list[float]:
    rows = [row for run in runs for row in csv.DictReader((run / "history.csv").read_text(encoding="utf-8").splitlines())]
    return [float(row["seconds"]) for row in rows]


def trained(step: Sequence[str], folder: Path, output: Path, jobs: int) -> int:
    """Runs a sweep, or goes on with it, and reports it; jobs side by side have one thread each."""
    words = [
        *("data=manifest", "logger=csv"),
        *("loader.num_workers=0", "loader.cache=disk", f"loader.cache_folder={output / 'cache'}"),
        *("hydra/launcher=joblib", f"hydra.launcher.n_jobs={jobs}", f"hydra.sweep.dir={folder}"),
        *(word.replace("MANIFESTS", str(output / "manifests")) for word in step),
        *(["sweep.resume=true"] if (folder / "sweep.json").is_file() else []),
    ]
    last = {word.partition("=")[0]: word for word in words}  # a step's own word wins
    environment = os.environ | {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs))}
    command = [sys.executable, str(HERE.parent / "train.py"), "--multirun", *last.values()]
    return subprocess.run(command, env=environment, check=False).returncode or reported(folder)


def reported(folder: Path) -> int:
    return lungseg(["report", str(folder), f"output={folder / 'report'}"])


def write_manifest(path: Path, data: Path, sets: Sequence[tuple[str, str, str]]) -> None:
    """A table of image, mask, patient, split and source of these sets.

    Raises:
        UserError: one of them is not below ``data``, or an image has no mask.
    """
    rows = [row for name, part, split in sets for row in rows_of(data, name, part, split)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def rows_of(data: Path, name: str, part: str, split: str) -> list[dict[str, object]]:
    """A row for each pair of a set; the source of a Test row says which kind of case it is."""
    root, rows = data / name / part, []
    for folder in (root / "Images", root / "Masks"):
        if not folder.is_dir():
            raise UserError(f"{folder} is no folder: data={data} must hold the data sets, each with Train or Test.")
    masks = {path.name.partition(".")[0]: path for path in (root / "Masks").iterdir()}
    for image in sorted((root / "Images").iterdir()):
        stem = image.name.partition(".")[0]
        if stem not in masks:
            raise UserError(f"{image} has no mask of its name in {root / 'Masks'}.")
        patient = {"finding_lungs": "_".join(stem.split("_")[:2]), "covid19_ct_seg": stem.partition("_")[0]}.get(name, stem)
        kind = next((kind for kind, patients in KINDS[name].items() if patient in patients), "") if part == "Test" else ""
        source = " ".join(filter(None, (name, part if part == "Test" else "", kind)))
        slope = FINDING_SLOPE if name == "finding_lungs" else 1
        rows.append(
            {
                "image": image,
                "mask": masks[stem],
                "patient": f"{name} {patient}",
                "split": split,
                "slope": slope,
                "intercept": 0,
                "source": source,
            }
        )
    return rows


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
