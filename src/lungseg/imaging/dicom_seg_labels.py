"""A DICOM segmentation (SEG) of lungs as a label volume, whoever wrote it."""
# mypy: allow-untyped-calls

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from lungseg.errors import UserError
from lungseg.imaging.dicom_seg import LUNG, SIDES, check_highdicom
from lungseg.imaging.limits import MAX_VOXELS, check_size
from lungseg.imaging.refusals import reading
from lungseg.imaging.volume import Grid, Volume
from lungseg.labels import LEFT, RIGHT
from lungseg.labels import LUNG as BOTH

MODIFIERS = {RIGHT: Code("24028007", "SCT", "Right"), LEFT: Code("7771000", "SCT", "Left")}  # of a lung, as 3D Slicer has them


def read_seg(path: Path) -> Volume:
    """The labels (Z, Y, X) in a SEG, uint8 or uint16: 1 right lung, 2 left lung, or 1 lung where the sides are not told apart.

    Lungs are known by the codes of their segments (SNOMED CT, or the older SNOMED-RT); of a SEG without any the labels are the
    numbers of its segments. Planes that the SEG leaves out between its first and its last are empty.

    Raises:
        UserError: highdicom is not installed, it is no SEG, its frames are no regular volume, or its segments overlap.
    """
    check_highdicom()
    import highdicom as hd

    with reading(path):
        held = hd.seg.segread(path)
        geometry = held.get_volume_geometry()
        if geometry is None:
            raise UserError(f"{path} lies on slices that are no regular volume, as of a tilted gantry: give the mask as NIfTI.")
        check_size(path, math.prod(geometry.spatial_shape), MAX_VOXELS)
        meaning = _labels(held.SegmentSequence)
        given = held.get_volume(combine_segments=True, segment_numbers=sorted(meaning))
    table = np.zeros(max(meaning) + 1, dtype=np.uint8 if max(meaning.values()) < 256 else np.uint16)
    for number, label in meaning.items():
        table[number] = label
    voxels, affine = table[given.array], np.asarray(given.affine)
    if np.linalg.det(affine[:3, 2::-1]) < 0:  # highdicom counts slices against the normal of rows x columns
        voxels = voxels[::-1]
        affine = affine @ np.array([[-1, 0, 0, len(voxels) - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    direction = (affine[:3, :3] / spacing)[:, ::-1]
    depth, height, width = voxels.shape
    return Volume(
        voxels,
        Grid((depth, height, width), (spacing[0], spacing[1], spacing[2]), tuple(affine[:3, 3]), tuple(direction.ravel().tolist())),
    )


def _labels(segments: Iterable[Dataset]) -> dict[int, int]:
    """The label of each segment, by its number; of segments beside lungs there is none."""
    sides: dict[int, int] = {}
    lungs: dict[int, int] = {}
    others: dict[int, int] = {}
    for segment in segments:
        number = int(segment.SegmentNumber)
        kind = segment.SegmentedPropertyTypeCodeSequence[0]
        words = [_code(item) for item in (kind, *kind.get("SegmentedPropertyTypeModifierCodeSequence", ()))]
        side = next((side for side in SIDES if words[0] == SIDES[side] or (words[0] == LUNG and MODIFIERS[side] in words)), None)
        if side is not None:
            sides[number] = side
        elif words[0] == LUNG:
            lungs[number] = BOTH
        elif number:  # 0 is the background of a label map
            others[number] = number
    return sides or lungs or others


def _code(item: Dataset) -> Code:
    return Code(str(item.get("CodeValue", "")), str(item.get("CodingSchemeDesignator", "")), "")
