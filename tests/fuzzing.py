"""Damaged files of every kind through the real doors: each case is made from a seed and its number, and must keep the law.

The law: a mask of the very size of its image, or one sentence for the user. ``watched`` adds: in time, and in little memory.
``python tests/fuzzing.py SEED FOLDER NUMBER`` tries one case again and leaves its files in the folder.
"""

import io
import json
import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from numpy.random import Generator
from PIL import Image

import dicoms
import lies
from builders import write_slice
from damage import lying_slice, of_kind, pick
from kinds import DISC, EXACT, GREY8, dicom, nifti, opencv, palette, pillow, tiff
from lungseg import checkpoint, cli
from lungseg.commands.predict import TABLES
from lungseg.commands.single import Single
from lungseg.data.cases import FileCase
from lungseg.data.sources import ManifestSource
from lungseg.data.split import Case
from lungseg.errors import UserError
from lungseg.files import HIDDEN
from lungseg.imaging.readers import Scan, read
from lungseg.imaging.slices import read_labels, read_stack
from lungseg.imaging.volume import Volume
from lungseg.inference.segmenter import Segmenter
from lungseg.preprocess import Preprocess
from watched import CASE, Wrong, serve

NO_MEMORY = ("does not fit into the memory", "allocate memory", "MemoryError")

IMAGES = {
    **{kind: (name, write) for kind, (name, write, _) in EXACT.items() if "uint32" not in kind},
    "jpeg": ("a.jpg", lambda path: Image.fromarray(GREY8).save(path, quality=90)),
    "jpeg progressive": ("a.jpeg", lambda path: Image.fromarray(GREY8).save(path, progressive=True)),
}
MASKS = {
    "png": ("m.png", pillow(DISC * np.uint8(255))),
    "png 1 bit": ("m.png", pillow(DISC > 0)),
    "png palette": ("m.png", lambda path: palette(DISC, (0, 0, 0), (255, 0, 0)).save(path)),
    "png rgb": ("m.png", pillow(DISC * np.uint8(255), "RGB")),
    "jpeg": ("m.jpg", lambda path: Image.fromarray(DISC * np.uint8(255)).save(path, quality=95)),
    "bmp": ("m.bmp", pillow(DISC * np.uint8(255))),
    "tif": ("m.tif", lambda path: tiff(path, DISC, deflate=True)),
    "tif lzw": ("m.tif", lambda path: opencv(path, DISC * np.uint8(255))),
    "npy": ("m.npy", lambda path: np.save(path, DISC)),
    "dicom": ("m.dcm", lambda path: dicom(path, DISC.astype(np.uint16))),
    "nii.gz": ("m.nii.gz", lambda path: nifti(path, np.stack([DISC] * 3))),
}
STUDIES: dict[str, Callable[[Path], Any]] = {
    "series": lambda folder: dicoms.write(folder, dicoms.series(dicoms.plain_hu((6, 16, 20)))),
    "two series": lambda folder: [
        dicoms.write(folder / seed, dicoms.series(dicoms.plain_hu((5, 16, 20)), seed=seed)) for seed in "ab"
    ],
    "litter": lambda folder: [dicoms.write(folder, dicoms.series(dicoms.plain_hu((5, 16, 20)))), dicoms.litter(folder)],
    "multi-frame": lambda folder: dicoms.enhanced(folder / "a.dcm", dicoms.series(dicoms.plain_hu((7, 16, 20)))),
}
VOLUMES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
NET = {
    "class": "ResUNet",
    "widths": [4, 8],
    "norm": "batch",
    "down": "pool",
    "shortcut": True,
    "dropout": 0.0,
    "deep_supervision": False,
}


@dataclass
class Seeds:
    """The valid files that all cases begin with, made once in a folder."""

    folder: Path

    def __post_init__(self) -> None:
        for group, kinds in (("images", IMAGES), ("masks", MASKS)):
            for kind, (name, make) in kinds.items():
                path = self.path(group, kind, name)
                path.parent.mkdir(parents=True)
                make(path)  # type: ignore[operator]
        for kind, study_of in STUDIES.items():
            folder = self.path("studies", kind, "study")
            folder.mkdir(parents=True)
            study_of(folder)
        torch.manual_seed(0)
        weights = checkpoint.build_net(NET).state_dict()
        self.checkpoint = self.folder / "best.ckpt"
        checkpoint.save(self.checkpoint, checkpoint.Checkpoint(NET, weights, Preprocess(size=32), metrics={"val/iou": 0.5}))
        for seed, name in enumerate(("a.png", "b.tif", "c.png", "d.png")):
            write_slice(self.folder / "i", self.folder / "m", name, seed)

    def path(self, group: str, kind: str, name: str) -> Path:
        return self.folder / group / kind.replace(" ", "_") / name


# Each case gets the seeds, an empty folder and a generator, and raises what it finds.


def image(seeds: Seeds, work: Path, rng: Generator) -> str:
    kind, path = _damaged(seeds, work, rng, "images", IMAGES)
    stack = _sentence_or(lambda: read_stack(path))
    if stack is not None and not (stack.dtype == np.float32 and stack.ndim == 3 and stack.size and np.isfinite(stack).all()):
        raise Wrong(f"a stack of {stack.dtype} {stack.shape}, finite {np.isfinite(stack).all()}")
    return f"image, {kind}: {'read' if stack is not None else 'refused'}"


def mask(seeds: Seeds, work: Path, rng: Generator) -> str:
    kind, path = _damaged(seeds, work, rng, "masks", MASKS)
    named = (1.0, 255.0) if rng.random() < 0.4 else None
    labels = _sentence_or(lambda: read_labels(path, named, ignore_values=(7.0,)))
    if labels is not None:
        stack = _sentence_or(lambda: read_stack(path))  # or None: a palette of colours can be a mask, and no image
        size = labels.shape if stack is None else stack.shape
        if labels.ndim != 3 or labels.shape != size or labels.dtype != np.uint8 or not np.isin(labels, (0, 1, 255)).all():
            raise Wrong(f"labels {labels.dtype} {labels.shape} for an image of {size}")
    return f"mask, {kind}: {'read' if labels is not None else 'refused'}"


def predict(seeds: Seeds, work: Path, rng: Generator) -> str:
    kind, path = _damaged(seeds, work, rng, "images", IMAGES)
    words = [word for word in ("overlays=true", "probabilities=true") if rng.random() < 0.3]
    return f"predict, {kind}: {_predict(seeds.checkpoint, path, work / 'out', *words)}"


def study(seeds: Seeds, work: Path, rng: Generator) -> str:
    """A DICOM folder with one damaged file or several."""
    kind = str(pick(rng, list(STUDIES)))
    folder = Path(shutil.copytree(seeds.path("studies", kind, "study"), work / "study"))
    files = sorted(path for path in folder.rglob("*.dcm") if not path.name.startswith("."))
    chosen = files if rng.random() < 0.2 else rng.permutation(np.array(files))[: int(rng.integers(1, 4))]
    hurt, once = (lying_slice, lying_slice, of_kind("a.dcm"))[int(rng.integers(3))], int(rng.integers(2**31))
    for path in chosen:
        # The same lie in all files is a lie of the series.
        own = np.random.default_rng(once) if len(chosen) == len(files) else rng
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path.write_bytes(hurt(path.read_bytes(), own))
    if rng.random() < 0.35:
        return f"inspect dicom study, {kind}: {_inspect(folder, work)}"
    words = [word for word in ("input.allow_gaps=true", "series=all", "format=nrrd", "probabilities=true") if rng.random() < 0.25]
    code = _command("predict", f"ckpt={seeds.checkpoint}", f"input={folder}", f"output={work / 'out'}", "device=cpu", *words)
    masks = _masks(work / "out")
    if any((work / "out").rglob(".partial-*")) or (code == 0 and not masks) or (code == 2 and masks):
        raise Wrong(f"exit code {code} and {[path.name for path in masks]}")
    scan = _sentence_or(lambda: read(folder, allow_gaps="input.allow_gaps=true" in words))
    if code == 0 and len(masks) == 1 and scan is not None and scan.volume.grid is not None:
        _check_geometry(masks[0], scan)
    return f"dicom study, {kind}: {('done', 'partly', 'refused')[code]}"


def inspect(seeds: Seeds, work: Path, rng: Generator) -> str:
    group, kinds = ("images", IMAGES) if rng.random() < 0.7 else ("masks", MASKS)
    kind, path = _damaged(seeds, work, rng, group, kinds)
    if rng.random() < 0.5:
        shutil.copy(seeds.folder / "i" / "b.tif", path.parent)
        path = path.parent
    return f"inspect, {kind}: {_inspect(path, work)}"


def truth(seeds: Seeds, work: Path, rng: Generator) -> str:
    kind, path = _damaged(seeds, work, rng, "masks", MASKS)
    given = seeds.folder / "i" / "a.png"
    return f"truth, {kind}: {_predict(seeds.checkpoint, given, work / 'out', f'truth={path}', 'overlays=true')}"


def manifest(seeds: Seeds, work: Path, rng: Generator) -> str:
    for name in ("i", "m"):
        (work / name).symlink_to(seeds.folder / name)
    path = work / "list.csv"
    path.write_bytes(lies.manifest(rng))
    split = _sentence_or(lambda: ManifestSource(str(path), balance="source").split())
    for case in (*split.train, *split.val, *split.test) if split else ():
        _check_stack(case)
    return f"manifest: {'read' if split else 'refused'}"


def scan(seeds: Seeds, work: Path, rng: Generator) -> str:
    """A volume and its mask as training data, one of them damaged."""
    volumes = {kind: made for kind, made in IMAGES.items() if made[0].endswith(VOLUMES)}
    kind, path = _damaged(seeds, work, rng, "images", volumes)
    whole = seeds.path("images", kind, volumes[kind][0])
    volume = read(whole).volume
    mask = work / "mask.nrrd"
    lung = (volume.voxels > np.median(volume.voxels)).astype(np.uint8)
    sitk.WriteImage(replace(volume, voxels=lung).image(), str(mask))
    if rng.random() < 0.5:
        path = whole
        mask.write_bytes(of_kind(mask.name)(mask.read_bytes(), rng))
    return f"scan, {kind}: {'read' if _check_stack(FileCase('a', path, mask)) else 'refused'}"


def _check_stack(case: Case) -> bool:
    """Whether a case is read, and not refused in a sentence."""
    stack = _sentence_or(case.read)
    if stack is not None and (stack.image.shape != stack.labels.shape or not np.isfinite(stack.image[:]).all()):
        raise Wrong(f"{case.name}: image {stack.image.shape}, mask {stack.labels.shape}")
    return stack is not None


def experiment(seeds: Seeds, work: Path, rng: Generator) -> str:
    (work / "experiment").mkdir()
    (work / "experiment" / "mine.yaml").write_bytes(lies.experiment(rng))
    code = _command("train", "--config-dir", str(work), "experiment=mine", "logger=csv", f"hydra.run.dir={work / 'run'}")
    return f"experiment: {'taken' if code == 0 else 'refused'}"


def archive(seeds: Seeds, work: Path, rng: Generator) -> str:
    path = work / "best.ckpt"
    path.write_bytes(of_kind("best.ckpt")(seeds.checkpoint.read_bytes(), rng))
    return f"checkpoint, bytes: {_use(seeds, path, rng)}"


def contents(seeds: Seeds, work: Path, rng: Generator) -> str:
    content, path = torch.load(seeds.checkpoint, weights_only=True), work / "best.ckpt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(int(rng.integers(1, 3))):
            lies.lie(content, rng)
        torch.save(content, path, _use_new_zipfile_serialization=bool(rng.random() < 0.95))
    return f"checkpoint, values: {_use(seeds, path, rng)}"


SHARES: dict[Callable[[Seeds, Path, Generator], str], float] = {
    image: 0.15,
    scan: 0.04,
    mask: 0.10,
    predict: 0.21,
    study: 0.12,
    inspect: 0.07,
    truth: 0.03,
    manifest: 0.09,
    experiment: 0.04,  # the slowest by far
    archive: 0.06,
    contents: 0.09,
}


def attempt(seeds: Seeds, work: Path, seed: int, number: int) -> str:
    """One case, made and tried; gives its name and what came of it."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    rng = np.random.default_rng([seed, number])
    done = list(SHARES)[rng.choice(len(SHARES), p=list(SHARES.values()))](seeds, work, rng)
    if "antigravity" in sys.modules or (work / "mark").exists() or Path("mark").exists():
        raise Wrong("hostile code ran")
    return done


def _damaged(seeds: Seeds, work: Path, rng: Generator, group: str, kinds: dict[str, Any]) -> tuple[str, Path]:
    volumes = [kind for kind, made in kinds.items() if made[0].endswith(VOLUMES)]
    kind = str(pick(rng, volumes if rng.random() < 0.35 else list(kinds)))
    name = kinds[kind][0]
    path = work / "given" / name
    shutil.copytree(seeds.path(group, kind, name).parent, path.parent)  # of some kinds the voxels lie beside
    others = [other for other in path.parent.iterdir() if other != path]
    if others and rng.random() < 0.3:
        others[0].write_bytes(of_kind(others[0].name)(others[0].read_bytes(), rng))
        return kind, path
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path.write_bytes(of_kind(name)(seeds.path(group, kind, name).read_bytes(), rng))
    return kind, path


def _sentence_or(work: Callable[[], Any]) -> Any:
    """What the work gives, or None where it was refused in one sentence."""
    try:
        return work()
    except UserError as error:
        _check_sentence(str(error))
        return None


def _check_sentence(text: str) -> None:
    if not text.isprintable() or len(text) > 1500:
        raise Wrong(f"no sentence: {text[:300]!r} ... ({len(text)} letters)")
    if any(words in text for words in NO_MEMORY):
        raise Wrong(f"it ran out of memory: {text}")


def _command(*words: str, silent: tuple[int, ...] = (0,)) -> int:
    """The exit code of a command that kept the law.

    Args:
        silent: codes that need no sentence.
    """
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = cli.main(words)
    said = [line for line in (out.getvalue() + err.getvalue()).splitlines() if line.startswith(("Error: ", "Warning: "))]
    if code not in (0, 1, 2) or "Traceback" in out.getvalue() + err.getvalue():
        raise Wrong(f"exit code {code}: {out.getvalue()} {err.getvalue()}")
    if code not in silent and not any(line.startswith("Error: ") for line in said):
        raise Wrong(f"exit code {code} without a sentence: {out.getvalue()} {err.getvalue()}")
    if code == 2 and len(err.getvalue().splitlines()) != 1:
        raise Wrong(f"more than one sentence: {err.getvalue()}")
    for line in said:
        _check_sentence(line)
    for line in (out.getvalue() + err.getvalue()).splitlines():
        if not line.isprintable():
            raise Wrong(f"a terminal would obey: {line!r}")
    return code


def _inspect(path: Path, work: Path) -> str:
    code = _command("inspect", str(path), f"json={work / 'found.json'}", silent=(0, 1))
    if (code < 2) != (work / "found.json").is_file() or any(work.rglob(".partial-*")):
        raise Wrong(f"exit code {code} and {sorted(work.iterdir())}")
    if code < 2:
        json.loads((work / "found.json").read_text(encoding="utf-8"))
    return "refused" if code else "read"


def _predict(ckpt: Path, path: Path, out: Path, *words: str) -> str:
    """A prediction, which leaves a mask of its image's own size or none."""
    code = _command("predict", f"ckpt={ckpt}", f"input={path}", f"output={out}", "device=cpu", *words)
    masks = _masks(out)
    if any(out.rglob(".partial-*")) or (code and masks) or (not code and len(masks) != 1):
        raise Wrong(f"exit code {code} and {[file.name for file in masks]}")
    for file in masks:
        _check_geometry(file, read(path))
    return "refused" if code else "done"


def _masks(out: Path) -> list[Path]:
    beside = (out / "overlays", out / "probabilities", out / HIDDEN)
    files = (file for file in out.rglob("*") if file.is_file() and not any(file.is_relative_to(folder) for folder in beside))
    return [file for file in files if file.name not in TABLES]


def _check_geometry(mask: Path, scan: Scan) -> None:
    """A volume's mask has its grid, a picture's its size."""
    is_volume = mask.name.endswith(VOLUMES)
    found, volume = read(mask).volume if is_volume else Volume(read_stack(mask)), scan.volume
    stored = volume if is_volume or volume.grid is None else replace(volume, grid=None)
    if found.voxels.shape != stored.voxels.shape or not np.isin(found.voxels, (0, 1, 2) if is_volume else (0, 255)).all():
        raise Wrong(f"a mask of {found.voxels.shape} with {np.unique(found.voxels)[:5]} for an image of {volume.voxels.shape}")
    if is_volume and not (found.grid and volume.grid and found.grid.is_same(volume.grid)):
        raise Wrong(f"a mask at {found.grid} for an image at {volume.grid}")


def _use(seeds: Seeds, path: Path, rng: Generator) -> str:
    given = seeds.folder / "i" / "a.png"
    if rng.random() < 0.3:
        return _predict(path, given, path.parent / "out")
    segmenter = _sentence_or(lambda: Segmenter.load(path, "cpu"))
    found = None if segmenter is None else _sentence_or(lambda: segmenter(given))
    if found is not None and (found.shape != (64, 64) or found.dtype != bool):
        raise Wrong(f"a mask of {found.dtype} {found.shape}")
    return "refused" if found is None else "done"


if __name__ == "__main__":
    chosen, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    logging.getLogger("lungseg").addHandler(logging.NullHandler())
    Single._train = lambda *_: None  # type: ignore[method-assign]  # composed and checked, but not trained
    made = Seeds(Path(tempfile.mkdtemp(prefix="seeds-", dir=folder)))
    os.chdir(made.folder)
    if len(sys.argv) == 4:
        print(attempt(made, folder / CASE, chosen, int(sys.argv[3])))
    else:
        _predict(made.checkpoint, made.folder / "i" / "a.png", made.folder / "warm")  # what is loaded once is no case's fault
        first, last = map(int, sys.argv[3:])
        serve(folder, first, last, lambda number: attempt(made, folder / CASE, chosen, number))
