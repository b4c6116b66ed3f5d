"""What the header of a DICOM file says about its picture."""
# mypy: allow-untyped-calls

from pathlib import Path

import numpy as np
import pydicom

from lungseg.imaging.slices import DICOM_SUFFIXES, suffix_of

ELSEWHERE = ("HEAD", "BRAIN", "SKULL")
MOST_TILT = 0.7  # of the slice normal may point elsewhere than along the body; a tilted gantry reaches 0.5


def header_doubts(path: Path) -> tuple[str, ...]:
    """Why the picture in a file that was read already may be no axial slice of a chest CT; nothing for other kinds than DICOM."""
    if suffix_of(path) not in ("", *DICOM_SUFFIXES):
        return ()
    header = pydicom.dcmread(path, stop_before_pixels=True)
    kind, modality = header.get("ImageType") or (), header.get("Modality") or "no modality"
    found = []
    if modality != "CT":
        found.append(f"its header says {modality}, not CT")
    if "LOCALIZER" in kind:
        found.append("it is a localizer, no axial slice")
    if str(header.get("BodyPartExamined", "")).upper() in ELSEWHERE:
        found.append(f"its header says {header.BodyPartExamined}, not chest")
    cosines = header.get("ImageOrientationPatient")
    if cosines is not None and len(cosines) == 6:
        normal = np.cross([float(c) for c in cosines[:3]], [float(c) for c in cosines[3:]])
        if np.hypot(normal[0], normal[1]) > MOST_TILT:
            found.append("its header says that it is no axial slice")
    return tuple(found)
