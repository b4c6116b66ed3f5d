"""A generated patient whose lungs the network of ``seer`` finds, as a volume in a file or as a DICOM series."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from dicoms import Place
from lungseg.data.phantom import phantom_volume

_PHANTOM = phantom_volume(6, (24, 56, 64))
HU = _PHANTOM.voxels_hu.round().astype(np.int16)  # (24, 56, 64), canonical order
SIDES = _PHANTOM.sides
SPACING_MM = (13.5, 5.25, 5.25)  # z, y, x: exact in every format
ORIGIN_MM = (-168.5, -141.25, -300.0)  # x, y, z
VOXEL_ML = float(np.prod(SPACING_MM)) / 1000
PLACE = Place(origin_mm=ORIGIN_MM, pixel_mm=SPACING_MM[1:], step_mm=SPACING_MM[0])


def image(voxels: NDArray[np.generic] = HU, orientation: str = "LPS", direction: NDArray[np.float64] | None = None) -> sitk.Image:
    """Voxels in canonical order where the patient lies, stored in the orientation named.

    Args:
        direction: (3, 3) by which patient and axes are turned away from the scanner's axes before.
    """
    made = sitk.GetImageFromArray(voxels)
    made.SetSpacing(SPACING_MM[::-1])
    made.SetOrigin(ORIGIN_MM)
    if direction is not None:
        made.SetDirection(direction.ravel().tolist())
    return sitk.DICOMOrient(made, orientation)


def save(
    path: Path, voxels: NDArray[np.generic] = HU, orientation: str = "LPS", direction: NDArray[np.float64] | None = None
) -> Path:
    """The same as a file, in the format that its name asks for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image(voxels, orientation, direction), str(path), useCompression=path.suffix == ".gz")
    return path


def dice(found: NDArray[np.generic], true: NDArray[np.generic], label: int) -> float:
    """Of one label in both."""
    both = np.count_nonzero((found == label) & (true == label))
    return 2 * both / (np.count_nonzero(found == label) + np.count_nonzero(true == label))
