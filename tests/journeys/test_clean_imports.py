"""A command loads what it needs and no more: help at once, prediction without anything of training."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from builders import write_slice
from dicoms import series, write
from lungseg import __version__
from lungseg.metrics.definitions import DEFINITIONS
from patients import HU, PLACE, SIDES, save
from sweeps import Made, write_sweep

CHECKOUT = Path(__file__).parents[2]
TRAINING_ONLY = ("pytorch_lightning", "lightning_fabric", "hydra", "omegaconf", "albumentations", "tensorboard", "lungseg.training")


def modules_after(code: str, *arguments: str) -> tuple[str, set[str]]:
    """What a fresh interpreter says while it runs this, and the modules that it has loaded then."""
    script = f"import json, sys\n{code}\nprint(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True, timeout=120)
    return done.stdout, set(json.loads(done.stderr.splitlines()[-1]))


def test_prediction_needs_nothing_of_training(checkpoint_file: Path, tmp_path: Path) -> None:
    write_slice(tmp_path / "in", tmp_path / "truth", "a.png", seed=0)
    save(tmp_path / "in" / "b.nrrd")
    write(tmp_path / "in" / "ct", series(HU, PLACE))
    for name in ("b.nrrd", "ct.nrrd"):
        save(tmp_path / "truth" / name, (SIDES > 0).astype(np.uint8))
    words = ["predict", f"ckpt={checkpoint_file}", f"input={tmp_path / 'in'}", f"output={tmp_path / 'out'}"]
    words += [f"truth={tmp_path / 'truth'}", "overlays=true", "probabilities=true"]
    _, loaded = modules_after("from lungseg.cli import main\nassert main(sys.argv[1:]) == 0", *words)
    assert {"a.png", "b.nrrd", "ct.nii.gz", "measurements.csv"} <= {path.name for path in (tmp_path / "out").iterdir()}
    assert "torch" in loaded
    assert not loaded & {"highdicom", *TRAINING_ONLY}


def test_help_loads_no_torch_and_says_everything() -> None:
    commands = ("train", "predict", "inspect", "evaluate", "compare", "report")
    for words in (["--help"], ["--version"], *([command, "--help"] for command in commands)):
        out, loaded = modules_after("from lungseg.cli import main\nassert main(sys.argv[1:]) == 0", *words)
        assert out
        assert not loaded & {"torch", "numpy", *TRAINING_ONLY}, words


def test_help_of_training_answers_at_once() -> None:
    began = time.perf_counter()
    command = [sys.executable, str(CHECKOUT / "train.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    seconds = time.perf_counter() - began
    print(f"python train.py --help: {seconds:.2f} s")
    assert seconds < 3  # under 1 s on a quiet machine
    said = set(done.stdout.split())
    assert {"data", "model", "loss", "augmentation", "trainer", "logger", "experiment", "resunet_small", "ckpt_path=last"} <= said
    assert {"train.py", "iou_pooled", "false_lung_images", "val/iou"} <= said
    assert DEFINITIONS in done.stdout


def test_inspection_needs_no_torch(tmp_path: Path) -> None:
    write(tmp_path / "ct", series(HU, PLACE))
    save(tmp_path / "a.nrrd")
    said, loaded = modules_after("from lungseg.cli import main\nassert main(sys.argv[1:]) == 0", "inspect", str(tmp_path))
    assert "2 scans would be segmented" in said
    assert not loaded & {"torch", *TRAINING_ONLY}


def test_evaluation_and_comparison_need_no_torch(tmp_path: Path) -> None:
    for name, shift in (("made", 0), ("moved", 1), ("truth", 0)):
        save(tmp_path / name / "a.nrrd", np.roll(SIDES, shift, axis=0))
    runs = [
        (f"predictions={tmp_path / name}", f"truth={tmp_path / 'truth'}", f"output={tmp_path / name} out")
        for name in ("made", "moved")
    ]
    judged = "".join(f"assert main({['evaluate', *words]}) == 0\n" for words in runs)
    code = f"from lungseg.cli import main\n{judged}assert main({['compare', *(words[2][7:] for words in runs)]}) == 0"
    said, loaded = modules_after(code)
    assert "1 patient is too few" in said
    assert not loaded & {"torch", *TRAINING_ONLY}


def test_a_report_needs_no_torch(tmp_path: Path) -> None:
    write_sweep(tmp_path / "sweep", [Made(["seed=0"]), Made(["seed=1"], {"seed": 1})])
    _, loaded = modules_after("from lungseg.cli import main\nassert main(sys.argv[1:]) == 0", "report", str(tmp_path / "sweep"))
    assert (tmp_path / "sweep" / "report.html").is_file()
    assert "matplotlib" in loaded
    assert not loaded & {"torch", "matplotlib.pyplot", *TRAINING_ONLY}


def test_a_refusal_of_prediction_needs_no_torch(tmp_path: Path) -> None:
    words = [f"ckpt={tmp_path / 'no.ckpt'}", f"input={tmp_path / 'nowhere'}", f"output={tmp_path / 'out'}"]
    _, loaded = modules_after("from lungseg.cli import main\nassert main(sys.argv[1:]) == 2", "predict", *words)
    assert "torch" not in loaded


def test_the_package_itself_loads_nothing_heavy() -> None:
    _, loaded = modules_after("import lungseg\nassert lungseg.__version__")
    assert not loaded & {"torch", "numpy", *TRAINING_ONLY}
    _, loaded = modules_after("from lungseg import Segmenter")
    assert "torch" in loaded
    assert not loaded & set(TRAINING_ONLY)


def test_python_m_is_a_door_too() -> None:
    done = subprocess.run([sys.executable, "-m", "lungseg", "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{__version__}\n")
