"""How often degraded scans are told for what they are, and that sound ones are never repaired: on real training scans."""

import os
from pathlib import Path

import cv2
import pytest
import SimpleITK as sitk

from greyscales import DEGRADED, KINDS, Voxels
from lungseg.data.phantom import phantom_volume
from lungseg.imaging import greys
from lungseg.imaging.greys import judge

REAL = Path(os.environ.get("LUNGSEG_DATA", Path(__file__).parents[3] / "shared" / "data"))
pytestmark = pytest.mark.skipif(not (REAL / "lctsc").is_dir(), reason="the real data are not here")


def scans() -> list[Voxels]:
    paths = sorted((REAL / "lctsc" / "Train" / "Images").glob("*.nii.gz"))
    return [sitk.GetArrayFromImage(sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS")).astype("float32") for path in paths]


@pytest.mark.slow
def test_degraded_scans_are_told_and_sound_ones_left_alone() -> None:
    real = scans()
    assert all((judge(scan).name, judge(scan).sentence) == (greys.HU, "HU") for scan in real)
    assert [judge(slice_).is_repaired for scan in real for slice_ in scan[::3]].count(True) == 0
    every = [scan[::8] for scan in real] + [phantom_volume(seed, (16, 128, 128)).voxels_hu for seed in range(300, 304)]
    told = {name: [judge(degrade(scan)).name for scan in every] for name, degrade in DEGRADED.items()}
    wrong = [(name, kind) for name, kinds in told.items() for kind in kinds if kind not in KINDS[name]]
    assert len(wrong) <= 0.05 * len(DEGRADED) * len(every), wrong


def test_slices_at_a_scale_that_is_none_of_the_usual_are_told_and_not_repaired() -> None:
    paths = sorted((REAL / "finding_lungs" / "Train" / "Images").glob("*.tif"))
    told = [judge(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)) for path in paths]
    assert not any(one.is_repaired for one in told)
    assert sum(one.name == greys.SCALED for one in told) >= 0.95 * len(paths)
