"""Generated chest CT with known lungs: slices and whole volumes of parametric patients, for training without any data.

Nothing here is taken from a patient: the shapes are parametric, drawn by hand after the anatomy. The truth follows one
convention: everything inside the pleura that is or was lung is lung (vessels, nodules, ground glass, consolidation and
fibrosis in; trachea, main bronchi, hilum, effusion and mediastinum out).
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lungseg.data.anatomy import Anatomy, cut
from lungseg.data.patient import Patient, draw_patient
from lungseg.data.solids import Floats, Plane, gaussian, grainy, paint
from lungseg.data.texture import LungTissue, draw_tissue, fill_lungs
from lungseg.labels import LEFT, RIGHT

BOTTOM, TOP = -0.25, 1.25  # of a whole patient, in lengths of the lungs: height 0 and height 1
LUNG_FREE_SHARE = 0.12


@dataclass(frozen=True)
class PhantomSlice:
    """One slice in the usual radiological display: the patient's right is at the image's left, the spine at the bottom.

    A prone patient is turned by 180 degrees, and the sides with them.
    """

    image_hu: Floats  # (H, W)
    sides: NDArray[np.uint8]  # (H, W): 0 none, 1 right lung, 2 left lung


@dataclass(frozen=True)
class PhantomVolume:
    """A whole patient; index 0 of z is nearest to the feet, each plane is displayed like a ``PhantomSlice``."""

    voxels_hu: Floats  # (Z, H, W)
    sides: NDArray[np.uint8]  # (Z, H, W): 0 none, 1 right lung, 2 left lung
    spacing_mm: tuple[float, float, float]  # z, y, x


@dataclass(frozen=True)
class _Scan:
    """How a patient was scanned: position, field of view, table and picture quality."""

    field_mm: float
    offset_mm: tuple[float, float]
    angle: float
    round_field: bool
    padding_hu: float
    table_mm: float  # from the patient's axis down to the table
    table_curve: float
    table_hu: tuple[float, ...]  # of each sheet
    shell_mm: float  # thickness of a hollow table; 0 for sheets
    blanket_mm: float
    thickness_mm: float
    blur_mm: float
    sharpening: float
    noise_hu: float
    noise_grain_mm: float
    streak_hu: float


def phantom_slice(seed: int, size: int = 256, height: float | None = None) -> PhantomSlice:
    """One slice (size, size) of the patient with this seed.

    Args:
        height: from 0 (below the lungs) to 1 (above their apices); where not given it is drawn from the seed, so that
            about one slice in eight is free of lung.
    """
    anatomy_seed, slice_seed = np.random.SeedSequence(seed).spawn(2)
    patient, tissue, scan = _draw(np.random.default_rng(anatomy_seed))
    rng = np.random.default_rng(slice_seed)
    drawn = _draw_height(rng)
    z = (BOTTOM + (drawn if height is None else height) * (TOP - BOTTOM)) * patient.length
    return _render(patient, tissue, scan, (size, size), scan.field_mm / size, z, rng)


def phantom_volume(
    seed: int, shape: tuple[int, int, int] = (48, 128, 128), spacing_mm: tuple[float, float, float] | None = None
) -> PhantomVolume:
    """The whole patient with this seed.

    Args:
        shape: (Z, H, W).
        spacing_mm: z, y, x; by default the planes reach from below the lungs to above the
            apices. The middle of the volume is the middle of the lungs.

    Raises:
        ValueError: the pixels are not square.
    """
    if spacing_mm is not None and spacing_mm[1] != spacing_mm[2]:
        raise ValueError(f"pixels must be square, not {spacing_mm[1]} x {spacing_mm[2]} mm")
    anatomy_seed, slice_seed = np.random.SeedSequence(seed).spawn(2)
    patient, tissue, scan = _draw(np.random.default_rng(anatomy_seed))
    if spacing_mm is None:
        pixel = scan.field_mm / min(shape[1:])
        spacing_mm = ((TOP - BOTTOM) * patient.length / shape[0], pixel, pixel)
    middle = 0.5 * patient.length
    heights = middle + (np.arange(shape[0]) - 0.5 * (shape[0] - 1)) * spacing_mm[0]
    slices = [
        _render(patient, tissue, scan, shape[1:], spacing_mm[1], float(z), np.random.default_rng(child))
        for z, child in zip(heights, slice_seed.spawn(shape[0]), strict=True)
    ]
    return PhantomVolume(np.stack([s.image_hu for s in slices]), np.stack([s.sides for s in slices]), spacing_mm)


def _draw(rng: np.random.Generator) -> tuple[Patient, LungTissue, _Scan]:
    patient = draw_patient(rng)
    return patient, draw_tissue(rng, patient), _draw_scan(rng, patient)


def _draw_height(rng: np.random.Generator) -> float:
    if rng.random() < LUNG_FREE_SHARE:
        s = rng.uniform(BOTTOM, -0.01) if rng.random() < 0.6 else rng.uniform(1.01, TOP)
    elif rng.random() < 0.12:
        s = rng.uniform(0.01, 0.98)
    else:  # the outermost planes hold little lung
        s = rng.uniform(0.2, 0.9)
    return float((s - BOTTOM) / (TOP - BOTTOM))


def _draw_scan(rng: np.random.Generator, patient: Patient) -> _Scan:
    body_mm = 2 * (patient.width + 12 + patient.muscle + 1.3 * patient.fat)
    field = float(np.clip(body_mm * rng.uniform(0.88, 1.45), 250, 520))
    if rng.random() < 0.03:  # a field of view on the lungs alone
        field = 2 * patient.width * rng.uniform(0.85, 1.05)
    spare = max(field - 2 * patient.width - 20, 0) / 2
    return _Scan(
        field_mm=field,
        offset_mm=(float(np.clip(rng.normal(0, 8), -spare, spare)), rng.normal(-6, 12)),
        angle=rng.normal(0, 0.06) + (np.pi if patient.prone else 0),
        round_field=bool(rng.random() < 0.45),
        padding_hu=float(rng.choice([-1024, -2000, -2048, -3024, -1000, 0])),
        table_mm=patient.bed + 2,
        table_curve=0.0 if rng.random() < 0.35 else rng.uniform(0.0004, 0.0018),
        table_hu=tuple(rng.uniform(-700, 150, int(rng.integers(1, 4))).tolist()),
        shell_mm=rng.uniform(30, 80) if rng.random() < 0.5 else 0.0,
        blanket_mm=rng.uniform(4, 25) if rng.random() < 0.35 else 0.0,
        thickness_mm=rng.uniform(0.8, 7),
        blur_mm=rng.uniform(0, 1.5),
        sharpening=rng.uniform(0.3, 1.5) if rng.random() < 0.35 else 0.0,
        noise_hu=float(np.clip(rng.lognormal(2.9, 0.8), 4, 90)),
        noise_grain_mm=rng.uniform(0, 1.6),
        streak_hu=rng.uniform(5, 25) if rng.random() < 0.3 else 0.0,
    )


def _render(
    patient: Patient,
    tissue: LungTissue,
    scan: _Scan,
    shape: tuple[int, int],
    pixel_mm: float,
    z: float,
    rng: np.random.Generator,
) -> PhantomSlice:
    centre = (0.5 * (shape[1] - 1) + scan.offset_mm[0] / pixel_mm, 0.5 * (shape[0] - 1) + scan.offset_mm[1] / pixel_mm)
    plane = Plane(shape, z, pixel_mm, centre, scan.angle, patient.warp)
    edge_mm = float(np.hypot(pixel_mm, 0.8))
    anatomy = cut(patient, plane, edge_mm)
    image = fill_lungs(anatomy, patient, tissue, plane, scan.thickness_mm, edge_mm, rng)
    _lay_on_table(image, anatomy, scan, pixel_mm, centre, edge_mm)
    image = _expose(image, anatomy.body, scan, pixel_mm, rng)
    lung = anatomy.lung > 0
    if scan.round_field:
        rows, columns = (np.linspace(-1, 1, side, dtype=np.float32) for side in shape)
        outside = rows[:, None] ** 2 + columns[None, :] ** 2 > 1
        image[outside], lung[outside] = scan.padding_hu, False
    sides = np.where(lung, np.where(anatomy.left, LEFT, RIGHT), 0).astype(np.uint8)
    return PhantomSlice(image, sides)


def _lay_on_table(
    image: Floats, anatomy: Anatomy, scan: _Scan, pixel_mm: float, centre: tuple[float, float], edge_mm: float
) -> None:
    """A table of one or more sheets or of a closed shell around foam, and sometimes a blanket."""
    down = (np.arange(image.shape[0], dtype=np.float32)[:, None] - np.float32(centre[1])) * np.float32(pixel_mm)
    across = (np.arange(image.shape[1], dtype=np.float32)[None, :] - np.float32(centre[0])) * np.float32(pixel_mm)
    outside = -anatomy.body - 2
    depth = down - np.float32(scan.table_mm)
    curved = depth + np.float32(scan.table_curve) * across * across
    if scan.shell_mm:
        shell = np.minimum(np.minimum(depth, scan.shell_mm - curved), 0.42 * scan.field_mm - np.abs(across))
        paint(image, np.minimum(shell, outside), -930, edge_mm)
        paint(image, np.minimum(np.float32(1.6) - np.abs(shell), outside), scan.table_hu[0], edge_mm)
    else:
        for number, hu in enumerate(scan.table_hu):
            sheet = np.float32(1.6) - np.abs(curved - np.float32(26 * number))
            paint(image, np.minimum(sheet, outside), hu, edge_mm)
    if scan.blanket_mm:
        away = anatomy.body + np.float32(scan.blanket_mm) * (1 + np.float32(0.5) * np.sin(across / 31))
        paint(image, np.minimum(np.float32(0.7) - np.abs(away), -30 - down), -750, edge_mm)


def _expose(image: Floats, body: Floats, scan: _Scan, pixel_mm: float, rng: np.random.Generator) -> Floats:
    """Blur, sharpening, noise and streaks, as a scanner adds them."""
    sigma = scan.blur_mm / pixel_mm
    if sigma > 0.3:
        image = gaussian(image, sigma)
    if scan.sharpening:
        image = image + np.float32(scan.sharpening) * (image - gaussian(image, 1.2))
    noise = grainy(rng, body.shape, scan.noise_grain_mm / pixel_mm)
    image = image + np.float32(scan.noise_hu) * np.where(body > 0, np.float32(1), np.float32(0.6)) * noise
    if scan.streak_hu:
        streaks = cv2.blur(rng.standard_normal(image.shape, dtype=np.float32), (max(3, image.shape[1] // 5), 1))
        image += np.float32(scan.streak_hu * 4) * streaks * (body > 0)
    return np.clip(image, np.float32(-1024), np.float32(3071))
