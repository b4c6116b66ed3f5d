"""The wheel: what is installed from it works like a checkout, configs included."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from builders import write_slice

CHECKOUT = Path(__file__).parents[2]
PARTS = ("src", "configs", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, because a build leaves things in its folder."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for name in PARTS:
        source = CHECKOUT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(copy)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_holds_the_package_and_all_configs(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    configs = {f"lungseg/{path.relative_to(CHECKOUT).as_posix()}" for path in (CHECKOUT / "configs").rglob("*.yaml")}
    kinds = (".py", ".css", ".js", ".typed")
    modules = {path.relative_to(CHECKOUT / "src").as_posix() for path in (CHECKOUT / "src").rglob("*") if path.suffix in kinds}
    assert "lungseg/configs/config.yaml" in configs
    assert {"lungseg/page.css", "lungseg/page.js", "lungseg/py.typed"} <= modules
    assert configs | modules <= inside
    others = {name for name in inside if not name.startswith("lungseg/") and ".dist-info/" not in name}
    assert not others


@pytest.mark.slow
def test_what_is_installed_trains_and_predicts_outside_a_checkout(wheel: Path, tmp_path: Path) -> None:
    place, elsewhere = tmp_path / "place", tmp_path / "elsewhere"
    elsewhere.mkdir()
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(place), str(wheel)]
    subprocess.run(install, check=True, capture_output=True, timeout=300)

    def installed(*command: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(place)}
        done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = installed(sys.executable, "-c", "import lungseg.config as c; print(c.__file__, c.config_folder())")
    assert where.split() == [str(place / "lungseg" / "config.py"), str(place / "lungseg" / "configs")]

    program = str(place / "bin" / "lungseg")
    assert "resunet_small" in installed(program, "train", "--help")
    words = ["data.train=6", "data.val=2", "data.test=2", "data.size=64", "preprocess.size=64", "model.widths=[4,8]"]
    said = installed(program, "train", *words, "trainer.max_epochs=1", "trainer.accelerator=cpu", "hydra.run.dir=run")
    assert "lungseg predict ckpt=run/checkpoints/best.ckpt" in said

    write_slice(elsewhere / "in", elsewhere / "truth", "a.png", seed=0)
    installed(program, "predict", "ckpt=run/checkpoints/best.ckpt", "input=in", "output=out", "truth=truth")
    assert (elsewhere / "out" / "a.png").is_file()
