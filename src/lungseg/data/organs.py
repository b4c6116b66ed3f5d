"""The organs of a generated patient as solids: mediastinum, airways, abdomen, bones and arms.

A list is painted in its order, so what lies within another solid comes after it. Lengths are in mm, with the axes of
``lungseg.data.patient``: width and depth are half of the inside of the chest, length is that of the lungs.
"""

import numpy as np

from lungseg.data.solids import Solid


def mediastinum(
    rng: np.random.Generator,
    width: float,
    depth: float,
    length: float,
    spine_y: float,
    muscle_hu: float,
    blood_hu: float,
) -> tuple[Solid, ...]:
    """Heart, great vessels and hila, in the order in which they are painted; the lungs make room for all of them."""
    k = width / 132
    heart = k * rng.uniform(0.85, 1.25)
    vessel = k * rng.uniform(0.8, 1.3)
    phase_hu = (rng.normal(0, 0.12, 4) * blood_hu).tolist()  # arteries and veins fill at different times
    myocardium = min(blood_hu, 0.35 * blood_hu + 60)
    aorta = rng.uniform(10.5, 15) * vessel
    front = spine_y - 17 - aorta

    def at(x: float, y: float, s: float) -> tuple[float, float, float]:
        return (x * k, y * k, s * length)

    def tube(start: tuple[float, float, float], end: tuple[float, float, float], radius: float, hu: float) -> Solid:
        return Solid(start, end, (radius, radius, radius), hu)

    organs = [
        Solid(
            at(-8, -10, 0.47),
            (44 * heart, -0.46 * depth, 0.27 * length),
            (45 * heart, 43 * heart, 42 * heart),
            myocardium,
        ),
        Solid(at(-26, -20, 0.48), at(-24, -18, 0.3), (29 * heart, 32 * heart, 30 * heart), blood_hu + phase_hu[0]),
        Solid(
            at(14, -22, 0.44),
            (42 * heart, -0.44 * depth, 0.3 * length),
            (24 * heart, 21 * heart, 24 * heart),
            blood_hu + phase_hu[1],
        ),
        Solid(at(-20, 10, 0.47), at(24, 12, 0.47), (19 * heart, 17 * heart, 26), blood_hu + phase_hu[2]),
        tube(at(-10, -25, 0.48), at(-15, -28, 0.7), 1.25 * aorta, blood_hu),
        tube(at(-14, -26, 0.71), (19 * k, front - 6, 0.74 * length), 1.1 * aorta, blood_hu),
        tube((21 * k, front + 4, 0.74 * length), (15 * k, front + 6, -0.6 * length), aorta, blood_hu),
        tube(at(14, -36, 0.53), at(10, -18, 0.6), 14 * vessel, blood_hu + phase_hu[0]),
        tube(at(6, -10, 0.585), at(-38, 0, 0.56), 10 * vessel, blood_hu + phase_hu[0]),
        tube(at(14, -12, 0.605), at(39, 10, 0.6), 10.5 * vessel, blood_hu + phase_hu[0]),
        tube(at(-26, -18, 0.5), at(-24, -20, 0.86), 9 * vessel, blood_hu + phase_hu[3]),
        tube(at(-22, -20, 0.84), at(-36, -12, 1.15), 7 * vessel, blood_hu + phase_hu[3]),
        tube(at(-20, -28, 0.84), at(38, -22, 0.98), 6 * vessel, blood_hu + phase_hu[3]),
        tube(at(-8, -12, 0.74), at(-24, -4, 1.2), 6 * vessel, blood_hu),
        tube(at(8, -6, 0.75), at(24, 0, 1.2), 5 * vessel, blood_hu),
        tube(at(16, 4, 0.75), at(34, 8, 1.1), 5 * vessel, blood_hu),
        tube((3 * k, spine_y - 25, 1.2 * length), (8 * k, spine_y - 26, 0.0), 7, muscle_hu),  # oesophagus
        tube((-9 * k, spine_y - 18, 0.62 * length), (-9 * k, spine_y - 18, 0.0), 4, blood_hu + phase_hu[3]),  # azygos vein
        tube(at(-22, 14, 0.46), at(-58, 24, 0.42), 7 * vessel, blood_hu + phase_hu[2]),
        tube(at(24, 14, 0.46), at(56, 24, 0.43), 7 * vessel, blood_hu + phase_hu[2]),
    ]
    for sign in (-1, 1):  # hila: lumps of vessel and node, no two alike
        for _ in range(int(rng.integers(4, 8))):
            x, y, s = sign * rng.uniform(24, 40), rng.normal(10, 12), rng.uniform(0.42, 0.66)
            radius = rng.uniform(6, 12) * k
            tilt = rng.normal(0, 0.06)
            lump = blood_hu + phase_hu[0] if rng.random() < 0.7 else muscle_hu
            organs.append(
                Solid(at(x, y, s), at(x + sign * rng.uniform(0, 10), y + rng.normal(0, 8), s + tilt), (radius,) * 3, lump)
            )
    return tuple(organs)


def airways(rng: np.random.Generator, width: float, length: float, spine_y: float) -> tuple[Solid, ...]:
    """Trachea, main and lobar bronchi and the gas in the oesophagus: air, and no lung."""
    k = width / 132
    trachea, bronchus = rng.uniform(7, 11) * k, rng.uniform(4.6, 7) * k
    carina = (rng.normal(0, 3), spine_y - 33, rng.uniform(0.62, 0.68) * length)
    right = (-40 * k, spine_y - 42, carina[2] - rng.uniform(18, 32))
    left = (44 * k, spine_y - 38, carina[2] - rng.uniform(22, 36))
    tubes = [
        ((carina[0], spine_y - 46, 1.4 * length), carina, trachea),
        (carina, right, 1.1 * bronchus),
        (carina, left, bronchus),
        (right, (-46 * k, spine_y - 38, 0.46 * length), 0.75 * bronchus),
        (left, (50 * k, spine_y - 30, 0.47 * length), 0.65 * bronchus),
        ((right[0] + 12, right[1], right[2] + 8), (-50 * k, spine_y - 46, right[2] + 14), 0.6 * bronchus),
        (left, (53 * k, spine_y - 52, left[2] + 6), 0.6 * bronchus),
    ]
    for _ in range(int(rng.integers(0, 4))):  # swallowed air
        z = rng.uniform(0.1, 1.1) * length
        tubes.append(((6 * k, spine_y - 26, z), (6 * k, spine_y - 26, z + rng.uniform(5, 30)), rng.uniform(1.5, 4)))
    return tuple(Solid(a, b, (r, r, r), -1000.0) for a, b, r in tubes)


def abdomen(rng: np.random.Generator, width: float, depth: float, length: float, prone: bool, contrast: bool) -> tuple[Solid, ...]:
    """Liver, spleen, kidneys, stomach and bowel with their gas: what lies under the diaphragm, gas on top."""
    up = 1.0 if prone else -1.0  # the y direction in which gas rises
    liver_hu = rng.uniform(40, 65) + contrast * rng.uniform(20, 60)
    organs = [
        Solid(
            (-0.5 * width, 0.0, 0.1 * length),
            (-0.5 * width, 0.0, -0.25 * length),
            (0.9 * width, 1.2 * depth, 150),
            liver_hu,
        ),
        Solid(
            (0.0, -0.5 * depth, 0.1 * length),
            (0.3 * width, -0.5 * depth, 0.0),
            (0.6 * width, 0.45 * depth, 60),
            liver_hu,
        ),
        Solid(
            (0.72 * width, 0.45 * depth, 0.15 * length),
            (0.72 * width, 0.4 * depth, -0.1 * length),
            (26, 42, 40),
            liver_hu + 10,
        ),
        Solid(
            (-0.42 * width, 0.55 * depth, -0.1 * length),
            (-0.5 * width, 0.5 * depth, -0.35 * length),
            (26, 24, 24),
            liver_hu + 20,
        ),
        Solid(
            (0.42 * width, 0.55 * depth, -0.1 * length),
            (0.5 * width, 0.5 * depth, -0.35 * length),
            (26, 24, 24),
            liver_hu + 20,
        ),
    ]
    stomach = (0.45 * width, rng.uniform(-0.3, 0.1) * depth, rng.uniform(0.05, 0.25) * length)
    radius = rng.uniform(28, 48)
    organs.append(Solid(stomach, (0.1 * width, stomach[1] - 15, -0.15 * length), (radius, radius, radius), rng.uniform(10, 80)))
    if rng.random() < 0.8:
        gas = rng.uniform(0.3, 0.9) * radius
        centre = (stomach[0], stomach[1] + up * (radius - gas), stomach[2] + rng.uniform(0, 15))
        organs.append(Solid(centre, centre, (1.1 * gas, 0.8 * gas, gas), rng.uniform(-1000, -930)))
    for _ in range(int(rng.integers(4, 18))):  # loops of bowel, fluid or gas
        x, y = rng.uniform(-0.85, 0.85) * width, rng.uniform(-0.85, 0.3) * depth
        z = rng.uniform(-0.45, 0.3 if x > 0 else 0.04) * length
        r = rng.uniform(8, 24)
        loop = (x + rng.normal(0, 20), y + rng.normal(0, 12), z + rng.normal(0, 15))
        organs.append(Solid((x, y, z), loop, (r + 3, r + 3, r + 3), 45.0))
        if rng.random() < 0.7:
            organs.append(Solid((x, y, z), loop, (r, 0.8 * r, r), rng.uniform(-1000, -850)))
        else:
            organs.append(Solid((x, y, z), loop, (r, r, r), rng.uniform(-120, 60)))
    return tuple(organs)


def bones(rng: np.random.Generator, width: float, depth: float, length: float, bone_hu: float) -> tuple[Solid, ...]:
    """Shoulder blades and collar bones; spine, ribs and sternum follow the chest wall and are painted with it."""
    solids = []
    for sign in (-1, 1):
        tilt, out = rng.uniform(0.1, 0.5) * depth, rng.uniform(0.98, 1.12)
        middle = rng.uniform(0.68, 0.8) * length
        blade_start = (sign * 0.68 * width * out, 0.92 * depth, middle)
        blade_end = (sign * 1.0 * width * out, tilt, middle + 10)
        solids.append(Solid(blade_start, blade_end, (4.5, 4.5, 0.27 * length), bone_hu + 200))
        collar_start = (sign * 18, -0.62 * depth, 0.9 * length)
        collar_end = (sign * 1.15 * width, -0.15 * depth + rng.normal(0, 8), (0.98 + rng.normal(0, 0.03)) * length)
        solids.append(Solid(collar_start, collar_end, (6, 6, 6), bone_hu + 300))
    return tuple(solids)


def arms(rng: np.random.Generator, width: float, length: float, muscle_hu: float, bone_hu: float) -> tuple[Solid, ...]:
    """Arms beside the body, each a sleeve of fat, muscle, and the hollow bone."""
    solids = []
    for sign in (-1, 1):
        reach = width + rng.uniform(62, 95)
        shoulder = (sign * (reach - 8), 5.0, 0.98 * length)
        elbow = (sign * reach, rng.uniform(0, 50), -0.6 * length)
        for radius, hu in ((44, -100.0), (38, muscle_hu), (12, bone_hu + 600), (7, 60.0)):
            r = radius * rng.normal(1, 0.06)
            solids.append(Solid(shoulder, elbow, (r, r, r), hu))
    return tuple(solids)
