"""The body's middle, from grey values on the coarse grid: where the spine is, else the middle of the body."""
# mypy: allow-untyped-calls

import cv2
import numpy as np
from scipy import ndimage

from lungseg.postprocess.coarse import Blocks, Floats, Spacing

TISSUE_HU = -400.0
BONE_HU = 180.0  # in the mean of a block
SPINE_MM = 45.0  # across
LEAST_BONE = 0.25  # of the spine's width times the depth of a vertebra, on average over the slices
MOST_ASIDE = 0.2  # of the body's width: how far the spine may lie from the body's middle


def bodies(hu: Floats) -> Blocks:
    """The body in each slice, (z, y, x): the largest piece of tissue and what it encloses, arms left out if they lie apart."""
    out = np.zeros(hu.shape, bool)
    for z, plane in enumerate(hu):
        tissue = cv2.morphologyEx((plane > TISSUE_HU).view(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
        contours, _ = cv2.findContours(tissue, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        if contours:
            filled = np.zeros(plane.shape, np.uint8)
            cv2.drawContours(filled, [max(contours, key=cv2.contourArea)], -1, 1, cv2.FILLED)
            out[z] = filled > 0
    return out


def midline(hu: Floats, body: Blocks, spacing_mm: Spacing) -> float | None:
    """The column of the body's middle, in blocks; None where there is no body.

    The spine is the band of columns with the most bone in all slices together, near the middle of the body; ribs lie on both
    sides alike. A body that the field of view cuts on one side is so found too.
    """
    columns = np.flatnonzero(body.any(axis=(0, 1)))
    if not len(columns):
        return None
    extents = [np.flatnonzero(plane.any(axis=0))[[0, -1]] for plane in body if plane.any()]
    middle = float(np.median([extent.mean() for extent in extents]))
    width = float(np.median([np.ptp(extent) for extent in extents]))
    bone = ((hu > BONE_HU) & body).sum(axis=(0, 1)).astype(np.float32)
    across = max(1, round(SPINE_MM / spacing_mm[2]))
    band = ndimage.uniform_filter1d(bone, across, mode="constant") * across
    is_cut = columns[0] == 0 or columns[-1] == hu.shape[2] - 1
    near = np.abs(np.arange(len(bone)) - middle) <= (0.5 if is_cut else MOST_ASIDE) * width
    band[~near] = 0
    vertebra = SPINE_MM * SPINE_MM / (spacing_mm[1] * spacing_mm[2])  # blocks in a slice
    if band.max() < LEAST_BONE * vertebra * len(extents):
        return middle
    best = int(band.argmax())
    start, stop = max(0, best - across // 2), min(len(bone), best + across // 2 + 1)
    return float(bone[start:stop] @ np.arange(start, stop) / bone[start:stop].sum())
