"""What fills the lungs of a generated patient: air and tissue, a tree of vessels, and disease."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lungseg.data.anatomy import Anatomy
from lungseg.data.patient import Patient
from lungseg.data.solids import Floats, Plane, Solid, Waves, grainy, paint

GENERATIONS = (6, 22, 75, 220, 620)  # branches of the vessel tree of one lung
RADII_MM = (4.2, 2.9, 2.0, 1.35, 0.9)
REACH = (0.4, 0.62, 0.8, 0.93, 0.98)  # share of the way from the hilum to the pleura


@dataclass(frozen=True)
class LungTissue:
    """The tissue of both lungs of a patient, drawn once."""

    tree: NDArray[np.float64]  # (n, 7) start, end and radius of each branch in mm
    airway_share: float  # how far bronchi are seen beside the vessels
    base_hu: float
    gravity_hu: float  # rise towards the bottom, per chest depth
    clouds: Waves
    fine: Waves
    nodules: tuple[Solid, ...]
    solidified: tuple[Solid, ...]
    solid_hu: float
    ground_glass: float  # 0 none to 1
    emphysema: float
    fibrosis: float
    collapse_mm: float  # depth of dense lung beside an effusion
    collapse_hu: float


def draw_tissue(rng: np.random.Generator, patient: Patient) -> LungTissue:
    """Lungs for a patient: one in four with consolidation, ground glass or fibrosis, one in eight with emphysema."""
    kind, airless = rng.random(), rng.random() < 0.4
    masses = int(rng.integers(1, 4)) if rng.random() < 0.3 else 0
    nodules = []
    for _ in range(masses):
        radius = float(np.clip(rng.lognormal(1.9, 0.6), 3, 38))
        start = _place(rng, patient)
        end = tuple(c + rng.normal(0, 0.5 * radius) for c in start)
        nodules.append(Solid(start, (end[0], end[1], end[2]), (radius,) * 3, rng.uniform(-40, 70)))
    solidified = []
    if kind < 0.11:
        for _ in range(int(rng.integers(1, 5))):
            start = _place(rng, patient, dependent=0.7)
            r = rng.uniform(12, 50, 3)
            solidified.append(Solid(start, start, (r[0], r[1], r[2]), 0.0))
    return LungTissue(
        tree=np.vstack([_tree(rng, patient, sign) for sign in (-1, 1)]),
        airway_share=rng.uniform(0, 0.5),
        base_hu=rng.normal(-850, 35) if rng.random() < 0.8 else rng.uniform(-760, -480),
        gravity_hu=rng.uniform(0, 140),
        clouds=Waves.draw(rng, 90, 8),
        fine=Waves.draw(rng, 28, 12),
        nodules=tuple(nodules),
        solidified=tuple(solidified),
        solid_hu=rng.uniform(-100, 60),
        ground_glass=rng.uniform(0.3, 1) if 0.08 < kind < 0.2 else 0.0,
        emphysema=rng.uniform(0.3, 1) if 0.2 < kind < 0.32 else 0.0,
        fibrosis=rng.uniform(0.3, 1) if 0.32 < kind < 0.38 else 0.0,
        collapse_mm=rng.uniform(2, 8) if airless else rng.uniform(2, 15),
        collapse_hu=rng.uniform(80, 110) if airless else rng.uniform(-500, -100),
    )


def fill_lungs(
    anatomy: Anatomy,
    patient: Patient,
    tissue: LungTissue,
    plane: Plane,
    thickness_mm: float,
    edge_mm: float,
    rng: np.random.Generator,
) -> Floats:
    """The picture (H, W) in HU with the lungs painted into it."""
    down = -plane.y if patient.prone else plane.y
    clouds, fine = plane.field(tissue.clouds), plane.field(tissue.fine)
    grain = grainy(rng, plane.shape, 1.2 / plane.pixel_mm)
    lung = np.float32(tissue.base_hu) + down * np.float32(tissue.gravity_hu / (2 * patient.depth))
    lung += 15 * clouds + 12 * fine + 18 * grain
    if tissue.emphysema:
        holes = np.clip(0.7 * fine + 0.5 * clouds + 0.4 * grain - np.float32(1.0 - 1.0 * tissue.emphysema), 0, 1)
        lung += holes * (-970 - lung)
    if tissue.ground_glass:
        haze = np.clip(0.8 * clouds + 0.6 * fine + np.float32(tissue.ground_glass - 0.6), 0, 1)
        lung += haze * np.float32(200 + 250 * tissue.ground_glass) * (1 + np.float32(0.15) * grain)
    if tissue.fibrosis:
        shell = np.clip(1.3 - anatomy.lung / np.float32(10 + 25 * tissue.fibrosis), 0, 1)
        net = np.clip(1 - 2.2 * np.abs(grainy(rng, plane.shape, 2.6 / plane.pixel_mm)), 0, 1)
        lung += shell * np.clip(0.6 + 0.5 * fine, 0, 1) * (net * 650 - 40) * np.float32(0.5 + 0.5 * tissue.fibrosis)
    vessels, lumen = _draw_tree(tissue, plane, thickness_mm)
    lung += vessels * (np.float32(patient.blood_hu - 10) - lung)
    lung += lumen * (-960 - lung)
    for solid in tissue.solidified:
        if (hit := plane.inside(solid.grown(12))) is not None:
            box, inside = hit
            rough = inside - 8 + 7 * fine[box] + 2 * grain[box]
            paint(lung[box], rough, np.float32(tissue.solid_hu) + 15 * fine[box] - 500 * lumen[box], 9)
    for nodule in tissue.nodules:
        if (hit := plane.inside(nodule)) is not None:
            paint(lung[hit[0]], hit[1] + 1.2 * fine[hit[0]], nodule.hu, 1.5 * edge_mm)
    if any(patient.effusion):
        paint(lung, tissue.collapse_mm + anatomy.fluid, np.float32(tissue.collapse_hu) + 40 * fine, 6)
    image = anatomy.image_hu
    paint(image, anatomy.lung, lung, edge_mm)
    return image


def _place(rng: np.random.Generator, patient: Patient, dependent: float = 0.0) -> tuple[float, float, float]:
    """A point in either lung; with dependent, more often towards the side on which the patient lies."""
    radius, angle = np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
    x = (0.55 + 0.4 * radius * np.cos(angle)) * patient.width * rng.choice([-1, 1])
    y = 0.85 * radius * np.sin(angle) * patient.depth
    if rng.random() < dependent:
        y = -abs(y) if patient.prone else abs(y)
    return float(x), float(y), float(rng.uniform(0.1, 0.9) * patient.length)


def _tree(rng: np.random.Generator, patient: Patient, sign: int) -> NDArray[np.float64]:
    """Branches (n, 7) of one lung: each generation reaches for random places from the nearest ends of the last."""
    hilum = np.array([[sign * 0.33 * patient.width, 0.12 * patient.depth, 0.54 * patient.length]])
    ends, branches = hilum, []
    for count, radius, reach in zip(GENERATIONS, RADII_MM, REACH, strict=True):
        ring, angle = np.sqrt(rng.random(count)), rng.uniform(0, 2 * np.pi, count)
        target = np.column_stack(
            [
                sign * (0.56 + 0.44 * ring * np.cos(angle)) * patient.width,
                0.97 * ring * np.sin(angle) * patient.depth,
                rng.uniform(0, 1, count) * patient.length,
            ]
        )
        target = hilum + reach * (target - hilum)
        start = ends[((ends**2).sum(axis=1) - 2 * target @ ends.T).argmin(axis=1)]  # the nearest
        bend = 0.5 * (start + target) + 0.08 * rng.normal(size=(count, 3)) * np.linalg.norm(target - start, axis=1, keepdims=True)
        thick = (radius * rng.uniform(0.7, 1.15, count))[:, None]
        branches += [np.hstack([start, bend, thick]), np.hstack([bend, target, 0.85 * thick])]
        ends = np.vstack([ends, target]) if len(ends) == 1 else target
    return np.vstack(branches)


def _draw_tree(tissue: LungTissue, plane: Plane, thickness_mm: float) -> tuple[Floats, Floats]:
    """How much of each pixel (H, W) is vessel, and how much is the air of a bronchus, 0 to 1."""
    zoom = 2  # vessels are as thin as a pixel
    start, end, radius = tissue.tree[:, :3], tissue.tree[:, 3:6], tissue.tree[:, 6]
    half = 0.5 * thickness_mm + 0.6 * radius
    rise = end[:, 2] - start[:, 2]
    rise = np.where(np.abs(rise) < 1e-3, 1e-3, rise)
    t = np.sort(np.stack([(plane.z - half - start[:, 2]) / rise, (plane.z + half - start[:, 2]) / rise]), axis=0).clip(0, 1)
    met = np.flatnonzero(t[1] > t[0])
    met = met[np.argsort(radius[met])]
    tips = [start[met, :2] + t[i, met, None] * (end - start)[met, :2] for i in (0, 1)]
    ends_px = [np.round((plane.pixels(tip) + 0.5) * zoom * 16 - 8).astype(int) for tip in tips]
    cover = np.minimum(1, 2.2 * radius[met] / max(thickness_mm, 1.5)) * 255
    width_px = 2 * radius[met] * zoom / plane.pixel_mm
    cover = cover * np.minimum(1, width_px)  # a line is never thinner than a pixel
    vessels, lumen = (np.zeros((plane.shape[0] * zoom, plane.shape[1] * zoom), dtype=np.uint8) for _ in range(2))
    for a, b, width, value in zip(*ends_px, width_px, cover, strict=True):
        cv2.line(vessels, a.tolist(), b.tolist(), float(value), max(1, round(width)), cv2.LINE_AA, 4)
    for i in np.flatnonzero(radius[met] > 2.0):
        if (met[i] * 0.618) % 1 < tissue.airway_share:  # the same branches in every plane
            aside = np.array([1.5, 0.6]) * radius[met[i]] * zoom * 16 / plane.pixel_mm
            a, b = ((tip[i] + aside).astype(int).tolist() for tip in ends_px)
            cv2.line(vessels, a, b, 110.0, max(2, round(1.35 * width_px[i])), cv2.LINE_AA, 4)
            cv2.line(lumen, a, b, 255.0, max(1, round(0.75 * width_px[i])), cv2.LINE_AA, 4)
    vessel_share, lumen_share = (
        np.asarray(cv2.resize(canvas, plane.shape[::-1], interpolation=cv2.INTER_AREA), dtype=np.float32) / np.float32(255)
        for canvas in (vessels, lumen)
    )
    return vessel_share, lumen_share
