"""What is written for one scan: mask, probability, picture and DICOM-SEG, each turned back to the order of the file."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungseg.imaging.dicom_seg import NoSegmentation, write_dicom_seg
from lungseg.imaging.overlay import overlay
from lungseg.imaging.planes import LUNG_WINDOW_HU, planes
from lungseg.imaging.slices import VOLUME_SUFFIXES, suffix_of
from lungseg.imaging.stacking import is_tilted
from lungseg.imaging.volume import Volume
from lungseg.imaging.writers import write_mask, write_picture, write_probability
from lungseg.inference.items import Extras, Item
from lungseg.inference.volumes import Segmentation
from lungseg.metrics.lungs import Lung

TILTED = "the DICOM-SEG lies on the tilted slices, which 3D Slicer takes for upright ones: load the mask there"


def write(
    item: Item, volume: Volume, found: Segmentation, truth: NDArray[np.uint8] | None, extras: Extras, said: Sequence[str]
) -> tuple[str, ...]:
    """Mask, probability, picture and DICOM-SEG, those that are wanted; the picture with the warnings that were ``said``.

    Returns:
        What is to be warned of: why there is no DICOM-SEG, or who shows it elsewhere.
    """
    like = item.image if item.is_volume and item.source.series is None and suffix_of(item.image) in VOLUME_SUFFIXES else None
    has_sides = extras.sides and found.has_sides
    labels = found.labels if has_sides else found.labels > 0
    if item.is_volume:
        write_mask(item.mask, labels, like, volume.grid)
    else:
        write_mask(item.mask, _stored(volume, labels > 0))
    if found.probability is not None:
        probability = found.probability if item.is_volume else _stored(volume, found.probability)
        write_probability(item.probability, probability, like, volume.grid)
    if extras.overlays or (extras.overlays is None and item.is_volume):
        write_picture(item.overlay, _picture(item, found, truth, said))
    if extras.dicom_seg is None or item.source.series is None:
        return ()
    try:
        assert volume.grid is not None
        write_dicom_seg(item.segmentation, labels, volume.grid, item.source.series, extras.dicom_seg)
    except NoSegmentation as reason:
        return (f"no DICOM-SEG: {reason}",)
    return (TILTED,) if is_tilted(item.source.series) else ()


def _picture(item: Item, found: Segmentation, truth: NDArray[np.uint8] | None, said: Sequence[str]) -> NDArray[np.uint8]:
    if not item.is_volume:
        middle = int(np.argmax(np.count_nonzero(found.labels, axis=(1, 2))))
        true = None if truth is None else truth[middle]
        return overlay(found.hu[middle], found.labels[middle] > 0, true)
    assert found.volume.grid is not None
    return planes(
        found.volume.voxels,
        found.labels,
        found.volume.grid.spacing_mm,
        title=item.name,
        captions=[*map(_caption, found.lungs), *(f"! {sentence}" for sentence in said)],
        slope=found.hu.slope,
        intercept=found.hu.intercept,
        window_hu=LUNG_WINDOW_HU if found.is_hu else None,
        sided=found.has_sides,
        truth=truth,
    )


def _caption(lung: Lung) -> str:
    said = [f"{lung.side} {'lungs' if lung.side == 'both' else 'lung'}: {lung.volume_ml:,.0f} mL"]
    if lung.mean_hu is not None:
        said.append(f"mean {lung.mean_hu:.0f} HU, {lung.emphysema_fraction_below_950_hu:.1%} below -950 HU")
    if lung.touches_border:
        said.append(f"cut by the field of view ({', '.join(lung.borders)})")
    return ", ".join(said)


def as_slices(volume: Volume) -> Volume:
    """A volume as slices that lie nowhere, seen from the feet, if they are axial; else as they are stored."""
    is_axial = volume.grid is not None and volume.grid.turn.order[0] == 0
    return Volume(volume.canonical().voxels if is_axial else volume.voxels)


def _stored(volume: Volume, canonical: NDArray[Any]) -> NDArray[Any]:
    """What lies as ``as_slices`` gives it in the order of the file."""
    return volume.stored(canonical) if volume.grid is not None and volume.grid.turn.order[0] == 0 else canonical
