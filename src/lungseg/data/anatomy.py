"""One plane through a generated patient: chest wall, bones, mediastinum, abdomen, and the outline of the lungs."""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from lungseg.data.patient import Patient
from lungseg.data.solids import Floats, Hit, Plane, Solid, gaussian, paint

Table = NDArray[np.float64]  # (ANGLES,) radius in mm around the body

ANGLES = 1024
THETA = np.arange(ANGLES) * (2 * np.pi / ANGLES)  # 0 is the patient's left, a quarter turn the back
BACK, FRONT = 0.5 * np.pi, 1.5 * np.pi

# The chest at these heights (0 the lowest point of the lungs, 1 the apices): its share of the patient's half width and
# half depth, then the half width of the mediastinum in mm from the sternum to behind the spine.
LEVELS = (-0.3, 0.0, 0.15, 0.35, 0.6, 0.75, 0.9, 1.0, 1.1)
CAGE = (0.95, 0.98, 1.0, 0.98, 0.92, 0.83, 0.70, 0.58, 0.50)
MEDIASTINUM_Y = (-1.1, -0.75, -0.4, 0.0, 0.35, 0.62, 0.85, 1.05)  # share of the half depth
MEDIASTINUM_MM = (
    (16, 20, 20, 18, 13, 22, 28, 42),
    (16, 20, 20, 18, 12, 22, 28, 42),
    (15, 17, 20, 18, 9, 22, 28, 42),
    (6, 4, 24, 22, 8, 22, 28, 42),
    (5, 0, 24, 30, 14, 22, 28, 42),
    (6, 1, 24, 25, 19, 22, 28, 40),
    (14, 18, 24, 23, 20, 22, 30, 50),
    (26, 26, 25, 23, 21, 22, 28, 40),
    (30, 28, 26, 23, 21, 22, 28, 40),
)


@dataclass(frozen=True)
class Anatomy:
    """A plane with everything painted but the lungs.

    Shapes: all (H, W). image_hu is air outside the body; body (with the arms), wall (the chest wall seen from within),
    lung and fluid (in the pleura) are signed distances in mm, positive inside; left is the patient's left half.
    """

    image_hu: Floats
    body: Floats
    wall: Floats
    lung: Floats
    fluid: Floats
    left: NDArray[np.bool_]


def cut(patient: Patient, plane: Plane, edge_mm: float) -> Anatomy:
    """Paint the patient on the plane; edge_mm is the softness of every edge."""
    s = plane.z / patient.length
    _shift_mediastinum(patient, plane)
    centre_y = 16 * max(s - 0.4, 0)  # the inlet of the chest lies behind its middle
    rho, angle = cv2.cartToPolar(plane.x, plane.y - np.float32(centre_y))
    index = (angle * np.float32(ANGLES / (2 * np.pi))).astype(np.intp) % ANGLES
    cage_table = _cage(patient, s)
    muscle_table, body_table = _body(patient, s, cage_table)
    wall, muscle, body = (table.astype(np.float32)[index] - rho for table in (cage_table, muscle_table, body_table))
    left = plane.x > 0

    diaphragm = _diaphragm(patient, plane, left)
    organs = [(organ.hu, hit) for organ in patient.mediastinum if (hit := plane.inside(organ)) is not None]
    airways = [(tube.hu, hit) for tube in patient.airways if (hit := plane.inside(tube)) is not None]
    middle = _mediastinum(patient, plane, [hit for _, hit in organs], [hit for _, hit in airways])
    # Round beside the spine, sharp behind the sternum.
    reach = np.float32(1) + np.float32(patient.rounding) * np.clip(0.4 + plane.y / np.float32(patient.depth), 0, 1)
    pleura = _smooth_minimum(wall, -middle, reach)
    pleura = np.minimum(pleura, 0.5 * (np.float32(plane.z) - diaphragm))
    pleura = np.minimum(pleura, _apex(patient, plane, left))
    pleura = gaussian(pleura, max(1.8 / plane.pixel_mm, 0.4))  # no organ has a corner
    fluid = _effusion(patient, plane, wall, left)
    lung = np.minimum(pleura, -fluid)

    patches = plane.field(patient.patches)
    image = np.full(plane.shape, -1000, dtype=np.float32)
    paint(image, body, patient.fat_hu, edge_mm)
    paint(image, np.float32(1.2) - np.abs(body - 1), 10, edge_mm)  # skin
    streaks = np.clip(muscle, 0, 3) - np.clip(3.5 * (patches - 1.0), 0, 9)  # fat between the muscles
    paint(image, np.minimum(streaks, muscle), patient.muscle_hu, 1.5 * edge_mm)
    paint(image, wall + 2, patient.muscle_hu, edge_mm)
    inner = patient.fat_hu + (patient.muscle_hu - patient.fat_hu) * np.clip(0.5 + 0.6 * patches, 0, 1)
    paint(image, wall, inner, edge_mm)
    below = np.minimum(wall - 1, diaphragm - np.float32(plane.z) - 1)
    for organ in patient.abdomen:
        _paint_solid(image, plane, organ, edge_mm, below)
    for hu, (box, inside) in organs:
        paint(image[box], inside, hu, edge_mm)
    _paint_ribs(image, patient, plane, wall, index, edge_mm)
    _paint_spine(image, patient, plane, edge_mm)
    for bone in patient.bones:
        _paint_solid(image, plane, bone, edge_mm, body - 4)
    paint(image, pleura, patient.fluid_hu, edge_mm)
    for _, (box, inside) in airways:
        paint(image[box], inside + np.float32(1.5), patient.muscle_hu, edge_mm)
    for hu, (box, inside) in airways:
        paint(image[box], inside, hu, edge_mm)
    for limb in patient.arms:
        _paint_solid(image, plane, limb, edge_mm)
        if (hit := plane.inside(limb)) is not None:
            body[hit[0]] = np.maximum(body[hit[0]], hit[1])
    return Anatomy(image, body, wall, lung, fluid, left)


def _smooth_minimum(a: Floats, b: Floats, reach: Floats) -> Floats:
    """The smaller of two distances, with the corner between them rounded (Quilez' polynomial minimum)."""
    near = np.maximum(reach - np.abs(a - b), 0)
    return np.asarray(np.minimum(a, b) - 0.25 * near * near / reach, dtype=np.float32)


def _paint_solid(image: Floats, plane: Plane, solid: Solid, edge_mm: float, within: Floats | None = None) -> None:
    if (hit := plane.inside(solid)) is not None:
        box, inside = hit
        paint(image[box], inside if within is None else np.minimum(inside, within[box]), solid.hu, edge_mm)


def _shift_mediastinum(patient: Patient, plane: Plane) -> None:
    """Bend the plane so that heart and vessels lie to one side while the chest wall and the spine stay."""
    near = np.clip(1 - np.abs(plane.x) / np.float32(patient.width), 0, 1)
    near *= np.clip((np.float32(patient.spine_y + 5) - plane.y) / 30, 0, 1)
    plane.x -= np.float32(patient.shift) * near


@cache
def _bump(angle: float, width: float) -> Table:
    """1 at an angle, falling off to both sides."""
    away = np.angle(np.exp(1j * (THETA - angle)))
    return np.asarray(np.exp(-0.5 * (away / width) ** 2))


def _cage(patient: Patient, s: float) -> Table:
    """The inside of the chest wall: a superellipse with ripples, narrowing to the inlet."""
    share = float(np.interp(s, LEVELS, CAGE))
    p = patient.squareness
    across, deep = np.abs(np.cos(THETA)) / patient.width, np.abs(np.sin(THETA)) / patient.depth
    terms = np.arange(2, 2 + len(patient.ripple))[:, None]
    ripple = (patient.ripple[:, :1] * np.cos(terms * THETA + patient.ripple[:, 1:] + s)).sum(axis=0)
    flat_sternum = 0.05 * _bump(FRONT, 0.25)
    return np.asarray(share * (across**p + deep**p) ** (-1 / p) * (1 + ripple - flat_sternum))


def _body(patient: Patient, s: float, cage: Table) -> tuple[Table, Table]:
    """The outside of the muscles and of the skin."""
    high, middle = np.exp(-0.5 * ((s - 0.75) / 0.2) ** 2), np.exp(-0.5 * ((s - 0.42) / 0.16) ** 2)
    both = _bump(FRONT - 0.75, 0.35) + _bump(FRONT + 0.75, 0.35)
    sides = _bump(0.0, 0.55) + _bump(np.pi, 0.55)
    behind = _bump(BACK - 0.45, 0.3) + _bump(BACK + 0.45, 0.3)
    muscle = patient.muscle * (1 + high * (1.1 * both + 1.0 * sides + 1.0 * behind) + 1.0 * behind)
    shoulder = np.clip((s - 0.66) / 0.3, 0, 1) ** 1.5 * (1 - np.clip((s - 1.08) / 0.2, 0, 1)) * patient.width
    outside_muscle = cage + 10 + muscle + shoulder * 0.75 * sides
    fat = patient.fat * (1 + 0.35 * sides + 0.3 * both * (s < 0.1) - 0.4 * _bump(BACK, 0.4))
    breasts = patient.breast * middle * (_bump(FRONT - 0.55, 0.27) + _bump(FRONT + 0.55, 0.27))
    down = -np.sin(THETA) if patient.prone else np.sin(THETA)
    flat = patient.bed / np.maximum(down, 1e-3)  # the table flattens what lies on it
    return np.minimum(outside_muscle, flat - 4), np.minimum(outside_muscle + 3 + fat + breasts, flat)


def _pick(left: NDArray[np.bool_], pair: tuple[float, float]) -> Floats:
    return np.float32(pair[0]) + np.float32(pair[1] - pair[0]) * left.astype(np.float32)


def _diaphragm(patient: Patient, plane: Plane, left: NDArray[np.bool_]) -> Floats:
    """Height z of the diaphragm over each pixel: a dome on each side, deepest behind and at the sides."""
    x, y = plane.x - _pick(left, patient.dome_x), plane.y - _pick(left, patient.dome_y)
    lateral = (x > 0) == left
    medial = _pick(left, (-patient.dome_x[0], patient.dome_x[1]))
    reach_x = np.where(
        lateral,
        np.float32(1.14) * (np.float32(patient.width) - medial),
        medial * (np.float32(2.2) - np.clip(y / np.float32(0.7 * patient.depth), 0, 1)),  # low beside the spine
    )
    reach_y = np.where(y > 0, np.float32(1.08 * patient.depth), np.float32(1.35 * patient.depth))
    q = np.minimum((x / reach_x) ** 2 + (y / reach_y) ** 2, 1)
    height: Floats = _pick(left, patient.dome) * (1 - np.float32(0.5) * (q + q * q))
    return height


def _apex(patient: Patient, plane: Plane, left: NDArray[np.bool_]) -> Floats:
    """Distance to the dome of the pleura over each lung."""
    share_r, share_l = ((apex - plane.z) / (0.32 * patient.length) for apex in patient.apex)
    # The dome's radius in this plane, as a share of its radius below; far outside above the apex.
    room = _pick(left, (share_r**0.5 if share_r > 0 else -9, share_l**0.5 if share_l > 0 else -9))
    reach_x, reach_y = np.float32(0.6 * patient.width), np.float32(0.9 * patient.depth)
    half = 0.47 * patient.width
    x, y = (plane.x - _pick(left, (-half, half))) / reach_x, (plane.y - np.float32(12)) / reach_y
    inside: Floats = (room - np.sqrt(x * x + y * y)) * reach_x
    return inside


def _mediastinum(patient: Patient, plane: Plane, organs: list[Hit], airways: list[Hit]) -> Floats:
    """Distance into what lies between the lungs: a column in the middle, spine, heart, vessels, hila and airways."""
    s = plane.z / patient.length
    widths = np.array([np.interp(s, LEVELS, column) for column in np.array(MEDIASTINUM_MM, dtype=float).T])
    widths[:2] += patient.junction
    rows = np.linspace(-1.3, 1.6, 256) * patient.depth
    table = np.interp(rows, np.array(MEDIASTINUM_Y) * patient.depth, widths).astype(np.float32)
    index = np.clip((plane.y - np.float32(rows[0])) * np.float32(255 / (rows[-1] - rows[0])), 0, 255).astype(np.intp)
    inside: Floats = table[index] - np.abs(plane.x)
    for hits, coat_mm in ((organs, 2), (airways, 3)):
        for box, distance in hits:
            np.maximum(inside[box], distance + np.float32(coat_mm), out=inside[box])
    return inside


def _effusion(patient: Patient, plane: Plane, wall: Floats, left: NDArray[np.bool_]) -> Floats:
    """Distance into the fluid: a crescent along the dependent wall, thinner towards the head."""
    thickness = np.array(patient.effusion) * np.clip(1.25 - plane.z / patient.length, 0, 1)
    down = -plane.y if patient.prone else plane.y
    if not thickness.any():
        return np.full(plane.shape, -99, dtype=np.float32)
    share = np.clip(np.float32(0.2) + down / np.float32(patient.depth), 0, 1)
    layer = _pick(left, (float(thickness[0]), float(thickness[1])))
    inside: Floats = layer * share - wall - 25 * (1 - share) ** 2
    inside[layer == 0] = -99
    inside[layer > patient.width] = 99  # the whole side of the chest
    return inside


def _paint_ribs(image: Floats, patient: Patient, plane: Plane, wall: Floats, index: NDArray[np.intp], edge_mm: float) -> None:
    """Ribs in the chest wall, which fall towards the front, so that a plane cuts each into an arc; the sternum."""
    pitch, drop = patient.length / 10.5, 0.42 * patient.length
    front = (1 - np.sin(THETA)) / 2
    across = ((plane.z + drop * front) / pitch % 1 - 0.5) * pitch / 6.5
    across_2 = (across**2).astype(np.float32)[index]
    through = (wall + 5.5) / np.float32(4.2)
    rib = np.float32(1) - np.sqrt(across_2 + through * through)
    bone = (front < 0.9).astype(np.float32)[index]  # cartilage next to the sternum
    above_first = np.clip(plane.z / patient.length - 1.06 + 0.2 * front, 0, 1)
    rib -= (9 * above_first).astype(np.float32)[index]
    hu = np.where(bone > 0, np.float32(patient.bone_hu) + 500 * np.clip(1 - 2.2 * rib, 0, 1), np.float32(110))
    paint(image, rib * 4.2, hu, edge_mm)
    if 0.3 < plane.z / patient.length < 0.92:
        sternum = np.minimum(6 - np.abs(wall + 8), (18 * _bump(FRONT, 0.16) - 8).astype(np.float32)[index])
        paint(image, sternum, np.float32(patient.bone_hu) + 350 * np.clip(1 - sternum / 3, 0, 1), edge_mm)


def _paint_spine(image: Floats, patient: Patient, plane: Plane, edge_mm: float) -> None:
    """Vertebral body with its shell, discs between them, the canal, and the processes."""
    y, z, bone = patient.spine_y, plane.z, patient.bone_hu
    step = patient.length / 10.5
    disc = abs(z / step % 1 - 0.5) > 0.38
    high = step * (0.5 + np.floor(z / step))

    def solid(x: float, dy: float, x2: float, dy2: float, radius: tuple[float, float], hu: float) -> None:
        shape = Solid((x, y + dy, high), (x2, y + dy2, high), (*radius, step), hu)
        _paint_solid(image, plane, shape, edge_mm)

    for side in (-1, 1):  # paraspinal muscles
        solid(side * 22, 42, side * 30, 36, (24, 20), patient.muscle_hu)
    solid(-4, 0, 4, 0, (18, 17), 80 if disc else bone + 450)
    if not disc:
        solid(-4, 0, 4, 0, (15.5, 14.5), bone)
    for side in (-1, 1):
        solid(side * 11, 16, side * 11, 28, (4, 4), bone + 350)  # pedicle and lamina
        solid(side * 11, 28, 0, 36, (3.5, 3.5), bone + 350)
        if not disc:
            solid(side * 12, 24, side * 36, 32, (4.5, 4.5), bone + 250)
    solid(0, 36, 0, 58, (3.5, 3.5), bone + 300)
    solid(0, 24, 0, 24, (8.5, 8), 35)
