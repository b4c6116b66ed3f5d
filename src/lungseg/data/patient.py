"""A generated patient: everything about the body that is drawn once and stays the same from slice to slice.

Lengths are in mm. The origin is in the middle of the chest at the lowest point of the lungs; x goes to the patient's
left, y to the back, z to the head. A pair is (right, left).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungseg.data import organs
from lungseg.data.solids import Solid, Waves


@dataclass(frozen=True)
class Patient:
    """The sizes, the grey values (HU) and the organs of one patient."""

    length: float  # of the lungs, from the lowest point to the apices
    width: float  # half of the inside of the chest at its widest
    depth: float
    squareness: float  # exponent of the superellipse
    ripple: NDArray[np.float64]  # (n, 2) amplitude and phase of the Fourier terms of the outline
    spine_y: float  # middle of the vertebral bodies
    fat: float
    muscle: float
    breast: float
    rounding: float  # of the corner between chest wall and mediastinum
    junction: float  # half of what lies between the lungs behind the sternum
    shift: float  # of the mediastinum to the left
    dome: tuple[float, float]  # height of the diaphragm over the lowest point of the lungs
    dome_x: tuple[float, float]
    dome_y: tuple[float, float]
    apex: tuple[float, float]
    effusion: tuple[float, float]  # thickness of the layer of fluid at its bottom; where it fills the chest, no lung is left
    prone: bool
    warp: tuple[Waves, Waves, float]
    patches: Waves
    fat_hu: float
    muscle_hu: float
    blood_hu: float
    bone_hu: float
    fluid_hu: float
    mediastinum: tuple[Solid, ...]
    airways: tuple[Solid, ...]
    abdomen: tuple[Solid, ...]
    bones: tuple[Solid, ...]
    arms: tuple[Solid, ...]

    @property
    def bed(self) -> float:
        """Distance from the axis of the chest to the table."""
        return self.depth + 14 + 1.3 * self.muscle + 0.6 * self.fat


def draw_patient(rng: np.random.Generator) -> Patient:
    """A patient drawn at random: one in seven with an effusion, a tiny lung or only one lung, one in twelve prone."""
    size = rng.normal(1, 0.07)
    width, depth = 132 * size * rng.normal(1, 0.05), 93 * size * rng.normal(1, 0.07)
    length = rng.uniform(205, 300)
    spine_y = 0.60 * depth + rng.normal(0, 2)
    contrast = bool(rng.random() < 0.5)
    muscle_hu, fat_hu = rng.normal(52, 8), rng.normal(-100, 8)
    blood_hu = rng.uniform(110, 360) if contrast else rng.normal(42, 6)
    bone_hu = rng.uniform(150, 380)
    prone = bool(rng.random() < 0.08)
    dome = rng.uniform(0.2, 0.42) * length
    domes = [dome * rng.uniform(0.9, 1.1), dome * rng.uniform(0.65, 1.0)]
    shift = rng.normal(0, 4)
    effusion = [0.0, 0.0]
    trouble, side = rng.random(), int(rng.integers(2))
    if trouble < 0.025:  # a lung was taken out: fluid fills the room, the mediastinum moves over
        effusion[side] = 10 * width
        shift += (-1, 1)[side] * rng.uniform(10, 35)
    elif trouble < 0.065:  # a tiny lung over a high diaphragm
        domes[side] = rng.uniform(0.5, 0.75) * length
    elif trouble < 0.145:
        effusion[side] = rng.uniform(8, 55)
        if rng.random() < 0.5:
            effusion[1 - side] = rng.uniform(6, 40)
    return Patient(
        length=length,
        width=width,
        depth=depth,
        squareness=rng.uniform(2.1, 2.7),
        ripple=np.column_stack([rng.normal(0, [0.025, 0.02, 0.015, 0.01, 0.007]), rng.uniform(0, 2 * np.pi, 5)]),
        spine_y=spine_y,
        fat=float(np.clip(rng.lognormal(2.4, 0.65), 2, 50)),
        muscle=rng.uniform(3, 11),
        breast=rng.uniform(10, 60) if rng.random() < 0.45 else 0.0,
        rounding=rng.uniform(4, 16),
        junction=rng.uniform(0.5, 3.6) ** 2,
        shift=shift,
        dome=(domes[0], domes[1]),
        dome_x=(-width * rng.uniform(0.42, 0.55), width * rng.uniform(0.42, 0.55)),
        dome_y=(-depth * rng.uniform(0.05, 0.35), -depth * rng.uniform(0.05, 0.35)),
        apex=(length * rng.uniform(0.96, 1.0), length * rng.uniform(0.96, 1.0)),
        effusion=(effusion[0], effusion[1]),
        prone=prone,
        warp=(Waves.draw(rng, 130), Waves.draw(rng, 130), rng.uniform(1.5, 4.5)),
        patches=Waves.draw(rng, 35, 10),
        fat_hu=fat_hu,
        muscle_hu=muscle_hu,
        blood_hu=blood_hu,
        bone_hu=bone_hu,
        fluid_hu=rng.uniform(0, 25),
        mediastinum=organs.mediastinum(rng, width, depth, length, spine_y, muscle_hu, blood_hu),
        airways=organs.airways(rng, width, length, spine_y),
        abdomen=organs.abdomen(rng, width, depth, length, prone, contrast),
        bones=organs.bones(rng, width, depth, length, bone_hu),
        arms=organs.arms(rng, width, length, muscle_hu, bone_hu) if rng.random() < 0.3 else (),
    )
