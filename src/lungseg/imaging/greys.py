"""What unit the grey values of a picture are in, and what makes HU of them: the one place that knows units of grey values.

A volume in HU has air around the body at -1000 and tissue near 0, whatever the scanner; so the two levels tell the unit, the way
from one to the other its scale. Nothing that has them is ever repaired. Elsewhere a repair is made only where air, tissue (and
for scales lung) all lie where a usual mistake puts them: else the sentence asks for ``input.window`` or ``input.slope`` and
``input.intercept``.
"""

from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from lungseg.imaging.levels import Levels, measure

HU, SCALED, OFFSET, EIGHT_BIT, OTHER = "HU", "HU at another scale", "HU with an offset", "8-bit grey", "an unknown unit"
WINDOWED, NORMALISED, NOT_CT = "windowed grey", "normalised grey", "not a CT"

AIR_HU, LUNG_HU, TISSUE_HU = (-1100.0, -900.0), (-1000.0, -350.0), (-150.0, 150.0)
DARKEST_HU = (-1100.0, -800.0)  # where a field of view shows no air around the body
OFFSETS = (1000.0, 1024.0, 8192.0, 32768.0, 31768.0, 31744.0, -1000.0, -1024.0)
SCALES = (0.1, 0.5, 2.0, 10.0)
TOPS = (255.0, 1023.0, 4095.0, 32767.0, 65535.0)  # the greatest whole numbers of usual files, from which values are subtracted
BACKDROPS_HU = (0.0, -1000.0, -1024.0, -2000.0, -2048.0, -3024.0)
NEAR_AIR, NEAR_TISSUE = 80.0, 120.0  # HU between a level and where a repair puts it
MOST_SPREAD = 0.32  # of the way from air to tissue lie the quarters of tissue apart in a CT; farther in MR and narrow windows
LEAST_CUT = 0.004  # of the pixels have the greatest value: a window cut bone
MOST_UNLIKE = 0.9  # of the slices may look unlike an axial chest; a narrow field of view does
MOST_NORMALISED = 100.0  # is the widest range of normalised values, with metal
ASK_WINDOW = "give input.window=LEVEL,WIDTH if the window is known"
ASK_SLOPE = "give input.slope= and input.intercept="


@dataclass(frozen=True)
class Judgement:
    """The unit of a picture's grey values.

    Attributes:
        kind: ``HU``, ``OFFSET``, ``SCALED``, ``EIGHT_BIT``, ``WINDOWED``, ``NORMALISED``, ``NOT_CT`` or ``OTHER``; of what is
            inverted that of its negative.
        inverted: air is bright.
        certain: the repair may be made unasked; so it is where there is nothing to repair.
        slope, intercept: the repair, ``slope * value + intercept``: HU where ``is_hu``, else a picture with rising grey.
            1 and 0 where not ``certain``.
        sentence: what was found, and what to give if that is not right or not enough.
        levels: what it was told by.
    """

    kind: str
    inverted: bool
    certain: bool
    slope: float
    intercept: float
    sentence: str
    levels: Levels

    @property
    def is_hu(self) -> bool:
        """Whether the values are HU once the repair is made."""
        return self.certain and self.kind in (HU, OFFSET, SCALED)

    @property
    def is_repaired(self) -> bool:
        return (self.slope, self.intercept) != (1.0, 0.0)

    @property
    def name(self) -> str:
        """The kind, for tables."""
        return f"{self.kind}, inverted" if self.inverted else self.kind


def judge(voxels: NDArray[Any]) -> Judgement:
    """The unit of a volume (Z, H, W) of axial slices or of one slice (H, W), of any type, as 24 slices at most tell it."""
    levels = measure(voxels)
    if levels.low == levels.high:
        return Judgement(NOT_CT, False, False, 1.0, 0.0, f"all pixels have one value ({levels.low:g})", levels)
    if _is_hu(levels):
        return Judgement(HU, False, True, 1.0, 0.0, "HU", levels)
    if levels.falling:
        return _turned(measure(voxels, turned=True), levels)
    kind, repair = _kind(levels, OFFSETS)
    if repair is not None:
        return Judgement(kind, False, True, *repair, f"{kind}: taken as {_formula(*repair)}", levels)
    return Judgement(kind, False, kind in (EIGHT_BIT, WINDOWED, NORMALISED), 1.0, 0.0, _asked(kind, levels), levels)


def _turned(levels: Levels, straight: Levels) -> Judgement:
    """Of a picture whose air is bright: ``levels`` are those of its negative."""
    offsets = tuple(offset - top for top in TOPS for offset in (1000.0, 1024.0, 32768.0)) + OFFSETS
    if _is_hu(levels) and levels.unlike <= MOST_UNLIKE:
        kind, repair, found = HU, (1.0, 0.0), None
    else:
        kind, found = _kind(levels, offsets)
        repair = found or (1.0, sum(ends_of(kind, straight.low, straight.high)))
    own = replace(levels.negative(), padding=straight.padding)
    slope, intercept = -repair[0], repair[1]
    told = f"{kind}, inverted (air is bright)"
    if kind == HU or found is not None:
        return Judgement(kind, True, True, slope, intercept, f"{told}: taken as {_formula(slope, intercept)}", own)
    if kind in (EIGHT_BIT, WINDOWED, NORMALISED):
        turned = f"{told}: taken as {_formula(slope, intercept)}; no HU: {ASK_WINDOW}"
        return Judgement(kind, True, True, slope, intercept, turned, own)
    if kind in (OFFSET, SCALED):
        return Judgement(kind, True, False, 1.0, 0.0, f"{told}: {ASK_SLOPE}, a slope below 0", own)
    return Judgement(kind, kind == OTHER, False, 1.0, 0.0, _asked(kind, own), own)


def _kind(levels: Levels, offsets: tuple[float, ...]) -> tuple[str, tuple[float, float] | None]:
    """The kind of values that rise from air to tissue and are not HU; with the slope and the intercept that certainly repair it."""
    if levels.unlike > MOST_UNLIKE:
        return NOT_CT, None
    if _is_normalised(levels):
        return NORMALISED, None
    if _is_eight_bit(levels):
        return EIGHT_BIT, None
    air = _air(levels)
    way = levels.tissue - (air if air is not None else levels.low)
    if levels.cut_high > LEAST_CUT or (levels.low == 0 and levels.high in TOPS[1:]):
        return WINDOWED, None
    if way <= 0 or levels.spread > MOST_SPREAD * way:
        return OTHER, None
    if air is None:
        return _without_air(levels), None
    if repair := _repair(levels, air, 1.0, offsets):
        return OFFSET, repair
    if repair := next((found for scale in SCALES if (found := _repair(levels, air, scale, (0.0, *offsets)))), None):
        return SCALED, repair if levels.lung is not None and _within(levels.lung * repair[0] + repair[1], LUNG_HU) else None
    return (OFFSET if abs(way - 1000) < 150 and not _within(levels.tissue, TISSUE_HU) else SCALED), None


def _is_hu(levels: Levels) -> bool:
    if levels.high - levels.low <= MOST_NORMALISED or not _within(levels.tissue, TISSUE_HU):
        return False
    if levels.air is not None:
        return _within(levels.air, AIR_HU)
    if levels.backdrop is not None and _within(levels.backdrop, AIR_HU):
        return True
    if (levels.lung is not None and _within(levels.lung, LUNG_HU)) or _within(levels.darkest, DARKEST_HU):
        return True
    return levels.lung is None and levels.low < -200 and levels.unlike <= MOST_UNLIKE


def _is_normalised(levels: Levels) -> bool:
    if levels.whole or levels.high - levels.low > MOST_NORMALISED:
        return False
    return max(abs(levels.low), abs(levels.high)) <= 1 or (abs(levels.mean) < 0.5 and 0.3 < levels.deviation < 3)


def _is_eight_bit(levels: Levels) -> bool:
    low, high = (-levels.high, -levels.low) if levels.high <= 0 else (levels.low, levels.high)
    return low >= 0 and 2 < high <= 255  # no matter whether it was interpolated since


def _air(levels: Levels) -> float | None:
    """The air around the body; where it was cut to one grey, that grey."""
    if levels.air is None and levels.backdrop is not None and levels.backdrop < levels.tissue:
        return levels.backdrop
    return levels.air


def _without_air(levels: Levels) -> str:
    if levels.lung is not None and 450 < levels.tissue - levels.lung < 1000:
        return OFFSET
    return OTHER


def _repair(levels: Levels, air: float, scale: float, offsets: tuple[float, ...]) -> tuple[float, float] | None:
    """What makes HU of ``scale * HU + offset`` or ``scale * (HU + offset)``, the offset that fits best, or None where none fits."""

    def misfit(offset: float) -> float:
        to_hu = [(level - offset) / scale for level in (air, levels.tissue)]
        if abs(to_hu[0] + 1000) > NEAR_AIR or abs(to_hu[1]) > NEAR_TISSUE:
            return float("inf")
        backdrop = None if levels.backdrop is None else (levels.backdrop - offset) / scale
        is_usual = backdrop is None or any(abs(backdrop - usual) < 1.5 / scale for usual in BACKDROPS_HU)
        return abs(to_hu[0] + 1000) + (0 if is_usual else NEAR_AIR)

    best = min({*offsets, *(scale * offset for offset in offsets)}, key=misfit)
    return (1 / scale, -best / scale) if misfit(best) < float("inf") else None


def ends_of(kind: str, low: float, high: float) -> tuple[float, float]:
    """The first and the last grey that a file of this kind can hold, as far as its least and its greatest value tell."""
    if kind == EIGHT_BIT:
        return 0.0, 255.0
    if kind == NORMALISED and low >= 0 and high <= 1:
        return 0.0, 1.0
    return (0.0 if low >= 0 and high in TOPS else low), high


def _asked(kind: str, levels: Levels) -> str:
    told, air = f"{kind} ({levels.low:g} to {levels.high:g})", _air(levels)
    if kind == NOT_CT:
        return "the picture does not look like an axial chest CT"
    if kind in (EIGHT_BIT, WINDOWED, NORMALISED):
        return f"{told}, no HU: {ASK_WINDOW}"
    if kind == SCALED and air is not None:
        is_shifted = not _within(levels.tissue, TISSUE_HU)
        slope = 1000 / ((levels.tissue if is_shifted else 0) - air)
        likely = f"{slope:.3g} and {-slope * levels.tissue if is_shifted else 0:.0f}"
        if not is_shifted and _within(air, LUNG_HU):  # lung that the edge of a narrow field cuts lies there too
            return f"{told}, or HU in a narrow field of view: if the darkest grey, {air:.4g}, is air, {ASK_SLOPE}, near {likely}"
        return f"{told}, air at {air:.4g}: for HU {ASK_SLOPE}, near {likely} by air and tissue"
    if kind in (OFFSET, SCALED):
        return f"{told}: for HU {ASK_SLOPE}"
    return f"{told}: if it is a CT, {ASK_WINDOW}, or {ASK_SLOPE}"


def _formula(slope: float, intercept: float) -> str:
    scaled = {1.0: "value", -1.0: "-value"}.get(slope, f"{slope:g} * value")
    return f"{scaled} {'-' if intercept < 0 else '+'} {abs(intercept):g}" if intercept else scaled


def _within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]
