"""What the header of a DICOM file says about its picture."""
# mypy: allow-untyped-calls

from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom

from lungseg.errors import printable
from lungseg.imaging.quiet import quiet
from lungseg.imaging.slices import DICOM_SUFFIXES, suffix_of

ELSEWHERE = ("HEAD", "BRAIN", "SKULL")
MOST_TILT = 0.7  # of the slice normal may point elsewhere than along the body; a tilted gantry reaches 0.5


def header_doubts(path: Path) -> tuple[str, ...]:
    """Why the picture in a file that was read already may be no axial slice of a chest CT; nothing for other kinds than DICOM."""
    if suffix_of(path) not in ("", *DICOM_SUFFIXES):
        return ()
    with quiet():
        header = pydicom.dcmread(BytesIO(path.read_bytes()), stop_before_pixels=True)
        modality, kind, part = (_value(header, name) or "" for name in ("Modality", "ImageType", "BodyPartExamined"))
        found = []
        if modality != "CT":
            found.append(f"its header says {printable(modality or 'no modality', most=20)}, not CT")
        if "LOCALIZER" in str(kind):
            found.append("it is a localizer, no axial slice")
        if str(part).upper() in ELSEWHERE:
            found.append(f"its header says {part}, not chest")
        if not _may_be_axial(_value(header, "ImageOrientationPatient")):
            found.append("its header says that it is no axial slice")
    return tuple(found)


def _value(header: pydicom.Dataset, name: str) -> object:
    """An element, or None if it is missing or damaged: pydicom decodes it only now, and raises whatever comes up."""
    try:
        return header.get(name)
    except Exception:  # the picture itself was read and is judged all the same
        return None


def _may_be_axial(cosines: object) -> bool:
    """Whether the direction cosines of rows and columns are those of an axial slice, or say nothing."""
    try:
        rows_and_columns = np.array(cosines, dtype=float).reshape(2, 3)
    except (TypeError, ValueError):
        return True
    normal = np.cross(*rows_and_columns)
    return not np.hypot(normal[0], normal[1]) > MOST_TILT
