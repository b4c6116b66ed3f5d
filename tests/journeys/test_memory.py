"""Journeys of large scans: what a prediction takes of the memory, as the system counts it for a process of its own."""

import gzip
import json
import os
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from numpy.typing import NDArray

import dicoms
from lungseg import checkpoint
from lungseg.data.phantom import phantom_volume
from lungseg.imaging.readers import read
from lungseg.preprocess import Preprocess

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of one process alone")

MOST_MB = 2500  # of 1,000 slices of 512 x 512
BESIDE_BYTES = 3.0  # beside each voxel: its label, a copy of that while it is written, and little more
COMMAND = """
import re, sys
from pathlib import Path
from lungseg.cli import main
code = main(["predict", *sys.argv[1:]])
for name in ("VmPeak", "VmHWM"):
    print(name, int(re.search(rf"{name}:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024)
sys.exit(code)
"""


@pytest.fixture(scope="module")
def between(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint set by hand: what lies between air and tissue is lung, and so is the edge of the body."""
    net = {"class": "UNet", "widths": [2, 1], "norm": "batch", "dropout": 0.0, "deep_supervision": False}
    weights = checkpoint.build_net(net).state_dict()
    for name, weight in weights.items():
        if weight.is_floating_point():
            weight.fill_(1.0 if name.endswith(("running_var", "1.weight", "4.weight")) else 0.0)
    middle, wide = 0.13, 0.08  # of the window, -1000 to 400 HU
    way, skip = torch.eye(2), torch.eye(4)[2:]  # past the bottleneck
    weights["stem.body.0.weight"][:, 0, 1, 1] = torch.tensor([1.0, -1.0])  # above the middle, below it
    weights["stem.body.1.bias"][:] = torch.tensor([-middle, middle])
    for name, matrix in (("stem.body.3", way), ("up.0.block.body.0", skip), ("up.0.block.body.3", way)):
        weights[f"{name}.weight"][:, :, 1, 1] = matrix
    weights["heads.0.weight"].fill_(-50.0)
    weights["heads.0.bias"].fill_(50 * wide)
    path = tmp_path_factory.mktemp("run") / "best.ckpt"
    preprocess = Preprocess(size=64, normalisation="window")
    checkpoint.save(path, checkpoint.Checkpoint(net, weights, preprocess, metrics={"val/iou": 0.5}))
    return path


@dataclass(frozen=True)
class Tiled:
    """A phantom patient of any size, made plane by plane of a few planes and the same noise at other places.

    Attributes:
        shape: (Z, H, W), W = H a multiple of 128.
    """

    shape: tuple[int, int, int]

    def planes(self) -> Iterator[NDArray[np.int16]]:
        depth, side, _ = self.shape
        made, rng = phantom_volume(0, (40, 128, 128)).voxels_hu, np.random.default_rng(0)
        noise = rng.normal(0, 15, (side + 64, side + 64))
        for z in range(depth):
            down, across = rng.integers(0, 64, 2)
            plane = made[z * len(made) // depth].repeat(side // 128, 0).repeat(side // 128, 1)
            yield np.rint(plane + noise[down : down + side, across : across + side]).clip(-1024, 3000).astype(np.int16)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        z, y, x = phantom_volume(0, (40, 128, 128)).spacing_mm
        return z * 40 / self.shape[0], y * 128 / self.shape[1], x * 128 / self.shape[2]

    def nifti(self, path: Path, dtype: str = "<i2", slope: float = 1.0) -> Path:
        """Written plane by plane, for memory that this process takes would be laid at the door of its children."""
        small = sitk.GetImageFromArray(np.zeros((2, *self.shape[1:]), np.dtype(dtype)))
        small.SetSpacing(self.spacing_mm[::-1])
        sitk.WriteImage(small, str(path.with_name("head.nii")))
        header = bytearray(path.with_name("head.nii").read_bytes()[:352])
        struct.pack_into("<h", header, 46, self.shape[0])
        struct.pack_into("<2f", header, 112, slope, 0.0)
        with gzip.open(path, "wb", compresslevel=1) if path.suffix == ".gz" else path.open("wb") as file:
            file.write(header)
            for plane in self.planes():
                file.write((plane / slope).astype(dtype).tobytes())
        return path

    def dicom(self, folder: Path) -> Path:
        z, y, x = self.spacing_mm
        pieces = dicoms.series(np.zeros((self.shape[0], 1, 1)), dicoms.Place(pixel_mm=(y, x), step_mm=z))
        for number, (piece, plane) in enumerate(zip(pieces, self.planes(), strict=True)):
            folder.mkdir(exist_ok=True)
            dicoms.write_slice(folder / f"{number}.dcm", dicoms.replace(piece, hu=plane))
        return folder


def peak_bytes(ckpt: Path, source: Path, out: Path, *more: str, **environment: str) -> tuple[int, int, dict[str, Any]]:
    """What a prediction takes at most, what it asks for at most, and its record."""
    words = [f"ckpt={ckpt}", f"input={source}", f"output={out}", "device=cpu", "threads=1", *more]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *words], capture_output=True, text=True, check=False, env=os.environ | environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    asked, peak = (int(re.search(rf"^{name} (\d+)$", done.stdout, re.MULTILINE)[1]) for name in ("VmPeak", "VmHWM"))
    record = json.loads((out / "run.json").read_text())
    seconds = " ".join(f"{stage} {spent:.1f} s" for stage, spent in record["seconds"].items())
    print(f"{source.name}: {peak / 2**20:.0f} MB; {seconds}")
    assert record["peak_memory_mb"] == pytest.approx(peak / 2**20, rel=0.05)
    measured = json.loads((out / "measurements.json").read_text())[0]["lungs"]
    assert [lung["side"] for lung in measured if lung["volume_ml"] > 200] == ["right", "left", "both"]  # there was work to do
    return peak, asked, record


@pytest.mark.parametrize(
    ("dtype", "slope", "held", "runs"),
    [
        ("<i2", 1.0, 2, (1, 2)),
        pytest.param("<f4", 1.0, 4, (3, 3), marks=pytest.mark.slow),
        pytest.param("<i2", 0.5, 4, (3, 3), marks=pytest.mark.slow),
    ],
)
def test_memory_grows_by_a_few_bytes_a_voxel(
    dtype: str, slope: float, held: int, runs: tuple[int, int], between: Path, tmp_path: Path
) -> None:
    depths = (120, 360)  # of 2.7 and 0.9 mm: the blocks in which lungs are told apart are as many
    scans = [Tiled((depth, 256, 256)).nifti(tmp_path / f"{depth}.nii.gz", dtype, slope) for depth in depths]
    # Arrays come from the system and go back to it: else glibc keeps some of up to 32 MB, by chance, and more of the small scan's.
    given_back = {"MALLOC_MMAP_THRESHOLD_": str(2**20), "MALLOC_ARENA_MAX": "1"}
    small, large = (
        [peak_bytes(between, scan, tmp_path / f"{time} {scan.name}", **given_back)[:2] for time in range(times)]
        for scan, times in zip(scans, runs, strict=True)
    )
    voxels = (depths[1] - depths[0]) * 256 * 256
    grown, asked = ((max(one[which] for one in large) - min(one[which] for one in small)) / voxels for which in (0, 1))
    print(f"{dtype}, slope {slope}: {grown:.2f} bytes a voxel, of {asked:.2f} asked for")
    # From below it is what the program asks for: labels that are still 0 take no memory, or do, as the system hands out its pages.
    assert held + 0.9 < asked
    assert grown < held + BESIDE_BYTES


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nii.gz", "DICOM"])
def test_a_thousand_slices_fit_into_a_small_machine(kind: str, between: Path, tmp_path: Path) -> None:
    scan = Tiled((1000, 512, 512))
    source = scan.dicom(tmp_path / "study") if kind == "DICOM" else scan.nifti(tmp_path / "scan.nii.gz")
    more = ["dicom_seg=true"] if kind == "DICOM" and find_spec("highdicom") else []
    peak, _, record = peak_bytes(between, source, tmp_path / "out", *more)
    assert record["scans"][0]["shape"] == [1000, 512, 512]
    assert peak < MOST_MB * 2**20
    mask = next((tmp_path / "out").glob("*.nii.gz"))
    assert sitk.ReadImage(str(mask)).GetSize() == (512, 512, 1000)
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == len(more)


def test_voxels_outlive_the_image_that_they_were_read_with(tmp_path: Path) -> None:
    values = np.arange(64**3, dtype=np.int32).reshape(64, 64, 64)
    sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / "a.nii"))
    volumes = [read(tmp_path / "a.nii").volume.canonical() for _ in range(3)]
    others = [np.zeros((64, 64, 64), np.int32) for _ in range(20)]  # in memory that was given back, if it was
    assert all((volume.stored(volume.voxels) == values).all() for volume in volumes)
    assert not any(other.any() for other in others)
