"""One picture of a scan: both lungs outlined in planes of all three directions, as a radiologist is used to see them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from lungseg.errors import UserError
from lungseg.imaging.body import BEYOND
from lungseg.imaging.overlay import GAP, INK, MASK_COLOUR, PAPER, TRUTH_COLOUR, Rgb, ascii_only, contour, to_greys
from lungseg.labels import LEFT, LUNG, RIGHT

LUNG_WINDOW_HU = (-1350.0, 150.0)
RIGHT_COLOUR, LEFT_COLOUR = MASK_COLOUR, (230, 159, 0)  # Okabe & Ito again
WIDE, TALL = 1400, 860  # pixels: of the picture, and of a row at most
TEXT = 19  # pixels
FAINT = (150, 150, 150)
SHARES = (0.7, 0.35)  # of the lung volume below the axial planes

Numbers = NDArray[np.float32]


@dataclass(frozen=True)
class _Cut:
    """A plane through the volume: views of it, nothing copied.

    Attributes:
        name: what it is called under the picture.
        stored, labels, truth: (h, w), the head or the patient's front up.
        size_mm: height and width.
        letters: at its top, bottom, left and right.
    """

    name: str
    stored: NDArray[Any]
    labels: NDArray[np.uint8]
    truth: NDArray[np.uint8] | None
    size_mm: tuple[float, float]
    letters: str


def planes(
    voxels: NDArray[Any],
    labels: NDArray[np.uint8],
    spacing_mm: tuple[float, float, float],
    title: str = "",
    captions: Sequence[str] = (),
    slope: float = 1.0,
    intercept: float = 0.0,
    window_hu: tuple[float, float] | None = LUNG_WINDOW_HU,
    sided: bool | None = None,
    truth: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Two axial planes, a coronal one and a sagittal one through each lung, with the outlines of the lungs: (H, W, 3).

    Planes lie where most lung is, or in the middle where there is none; a single slice is shown alone. A row of planes
    has one scale, which its bar tells. Only the planes that are shown are read from the volume.

    Args:
        voxels: (Z, H, W), z rising to the head, rows from front to back, columns from the patient's right to left.
        labels: (Z, H, W), 1 right lung, 2 left lung; or 1 both lungs.
        spacing_mm: z, y, x.
        captions: lines below the picture.
        slope, intercept: HU are slope * voxels + intercept.
        window_hu: what becomes black and white; None where the voxels are no HU: their percentiles do.
        sided: whether 1 is the right lung; by default it is if there is any 2.
        truth: (Z, H, W), 1 is lung: its outline too, below the others.

    Raises:
        UserError: the shapes differ.
    """
    if voxels.shape != labels.shape:
        raise UserError(f"a mask of shape {labels.shape} is not of a volume of shape {voxels.shape}: give the mask of this volume.")
    where = _Where(labels, sided)
    rows = _cuts(voxels, labels, truth, spacing_mm, where)
    values = [np.asarray(cut.stored, dtype=np.float32) * np.float32(slope) + np.float32(intercept) for row in rows for cut in row]
    greys = iter(_greys([np.nan_to_num(plane, nan=-BEYOND, posinf=BEYOND, neginf=-BEYOND) for plane in values], window_hu))
    outlined: list[tuple[str, tuple[int, ...], Rgb]] = [("right lung", (RIGHT,), RIGHT_COLOUR), ("left lung", (LEFT,), LEFT_COLOUR)]
    if not where.sided:
        outlined = [("lungs", (RIGHT, LEFT), RIGHT_COLOUR)]
    lungs = [(labelled, colour) for _, labelled, colour in outlined]
    pictures = []
    for row in rows:
        scale = min((WIDE - (len(row) + 1) * GAP) / sum(cut.size_mm[1] for cut in row), TALL / max(cut.size_mm[0] for cut in row))
        pictures.append([_picture(cut, next(greys), lungs, scale) for cut in row])
        _scale_bar(pictures[-1][-1], scale)
    legend = [(name, colour) for name, _, colour in outlined] if where.found else [("no lung", FAINT)]
    legend += [("truth", TRUTH_COLOUR)] if truth is not None else []
    return _sheet(rows, pictures, title, captions, legend)


class _Where:
    """Where most lung is in labels (Z, H, W), and whether they tell sides; counted slice by slice.

    Attributes:
        axial: two slices, the higher one first.
        coronal: a row.
        sagittal: a column through the right lung and one through the left.
    """

    def __init__(self, labels: NDArray[np.uint8], sided: bool | None) -> None:
        by_slice, by_row, by_column = (np.zeros((size, 2), dtype=np.int64) for size in labels.shape)
        for z in range(labels.shape[0]):
            for side, label in enumerate((RIGHT, LEFT)):
                lung = np.asarray(labels[z] == label)
                by_slice[z, side] = np.count_nonzero(lung)
                if by_slice[z, side]:
                    by_row[:, side] += np.count_nonzero(lung, axis=1)
                    by_column[:, side] += np.count_nonzero(lung, axis=0)
        self.sided = bool(by_slice[:, 1].any()) if sided is None else sided
        lung_below, lung_in_row, lung_in_column = by_slice.sum(axis=1).cumsum(), by_row.sum(axis=1), by_column.sum(axis=1)
        self.found = bool(lung_below[-1])
        depth, rows, columns = labels.shape
        self.axial = [depth * 2 // 3, depth // 3]
        self.coronal = rows // 2
        self.sagittal = [columns // 3, columns * 2 // 3]
        if not self.found:
            return
        self.axial = [int(np.searchsorted(lung_below, share * lung_below[-1])) for share in SHARES]
        self.coronal = int(lung_in_row.argmax())
        if not self.sided:  # the sides are those of the middle column of all lung
            middle = int(np.searchsorted(lung_in_column.cumsum(), lung_in_column.sum() / 2))
            place = np.arange(columns)
            by_column = np.stack(
                [np.where(place <= middle, lung_in_column, 0), np.where(place > middle, lung_in_column, 0)], axis=1
            )
        for side in (0, 1):
            if by_column[:, side].any():
                self.sagittal[side] = int(by_column[:, side].argmax())


def _cuts(
    voxels: NDArray[Any],
    labels: NDArray[np.uint8],
    truth: NDArray[np.uint8] | None,
    spacing_mm: tuple[float, float, float],
    where: _Where,
) -> list[list[_Cut]]:
    """The planes, row by row."""
    depth, height, width = (size * mm for size, mm in zip(labels.shape, spacing_mm, strict=True))

    def cut(name: str, index: Any, size_mm: tuple[float, float], letters: str) -> _Cut:
        return _Cut(name, voxels[index], labels[index], None if truth is None else truth[index], size_mm, letters)

    axial = [cut(f"axial, slice {z}", z, (height, width), "APRL") for z in dict.fromkeys(where.axial)]
    if labels.shape[0] == 1:
        return [axial]
    down, y = slice(None, None, -1), where.coronal
    coronal = cut(f"coronal, row {y}", (down, y), (depth, width), "SIRL")
    sagittal = [
        cut(f"sagittal, {side}, column {x}", (down, slice(None), x), (depth, height), "SIAP")
        for side, x in zip(("right", "left"), where.sagittal, strict=True)
    ]
    return [axial, [coronal, *sagittal]]


def _greys(values: list[Numbers], window_hu: tuple[float, float] | None) -> list[NDArray[np.uint8]]:
    """Planes of any shapes on one scale of greys."""
    if window_hu is not None:
        low, high = window_hu
        return [np.rint(np.clip((plane - low) / (high - low), 0, 1) * 255).astype(np.uint8) for plane in values]
    return to_greys(values)


def _picture(cut: _Cut, grey: NDArray[np.uint8], lungs: Sequence[tuple[tuple[int, ...], Rgb]], scale: float) -> NDArray[np.uint8]:
    """A plane with its outlines and letters, so many pixels a mm: (h, w, 3); no smaller than its letters need."""
    height, width = (max(1, round(mm * scale)) for mm in cut.size_mm)
    picture = np.repeat(_resized(grey, (height, width))[..., None], 3, axis=2)
    outlines = [] if cut.truth is None else [(cut.truth == LUNG, TRUTH_COLOUR)]
    for lung, colour in [*outlines, *((np.isin(cut.labels, labelled), colour) for labelled, colour in lungs)]:
        contour(picture, _resized(lung.astype(np.float32), (height, width)) > 0.5, colour, 2)
    spare = [max(0, 5 * TEXT - side) for side in (height, width)]
    picture = np.pad(picture, [*((size // 2, size - size // 2) for size in spare), (0, 0)])
    return _lettered(picture, cut.letters)


def _resized(plane: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """Each axis for itself, for OpenCV averages only where both shrink, and slices are often thick."""
    for axis in (0, 1):
        size = [plane.shape[1], plane.shape[0]]
        size[1 - axis] = shape[axis]
        shrinks = shape[axis] < plane.shape[axis]
        plane = cv2.resize(np.ascontiguousarray(plane), size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return plane


def _lettered(picture: NDArray[np.uint8], letters: str) -> NDArray[np.uint8]:
    """The picture with letters at its top, bottom, left and right."""
    canvas = Image.fromarray(picture)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(TEXT)
    height, width = picture.shape[:2]
    edge = TEXT // 3
    places = ((width / 2, edge, "mt"), (width / 2, height - edge, "mb"), (edge, height / 2, "lm"), (width - edge, height / 2, "rm"))
    for letter, (x, y, anchor) in zip(letters, places, strict=True):
        draw.text((x, y), letter, fill=INK, font=font, anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0))
    return np.array(canvas)


def _scale_bar(picture: NDArray[np.uint8], scale: float) -> None:
    """Draws the longest of some round lengths that has room in the lower right corner."""
    height, width = picture.shape[:2]
    length_mm = next((mm for mm in (100, 50, 20, 10, 5, 2, 1) if mm * scale <= 0.3 * width), None)
    if length_mm is None:
        return
    canvas = Image.fromarray(picture)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(TEXT * 3 // 4)
    right, bottom, long = width - TEXT // 2, height - TEXT // 2, round(length_mm * scale)
    draw.rectangle((right - long - 1, bottom - 4, right, bottom), fill=(0, 0, 0))
    draw.rectangle((right - long, bottom - 3, right - 1, bottom - 1), fill=INK)
    text = f"{length_mm // 10} cm" if length_mm >= 10 else f"{length_mm} mm"
    draw.text((right - long / 2, bottom - 7), text, fill=INK, font=font, anchor="mb", stroke_width=2, stroke_fill=(0, 0, 0))
    picture[:] = np.array(canvas)


def _sheet(
    rows: list[list[_Cut]],
    pictures: list[list[NDArray[np.uint8]]],
    title: str,
    captions: Sequence[str],
    legend: Sequence[tuple[str, Rgb]],
) -> NDArray[np.uint8]:
    """All rows, each plane's name under it, a title above and the legend and captions below."""
    large, small = ImageFont.load_default(TEXT), ImageFont.load_default(TEXT * 3 // 4)
    line, wide = round(1.6 * TEXT), max(sum(picture.shape[1] + GAP for picture in row) for row in pictures) + GAP
    lines = [part for caption in captions for part in _wrapped(ascii_only(caption), large, wide - TEXT)]
    titles = _wrapped(ascii_only(title), large, wide - TEXT)
    high = sum(max(picture.shape[0] for picture in row) + GAP + line for row in pictures)
    sheet = np.full((high + GAP + line * (1 + len(lines) + len(titles)) + TEXT // 2, wide, 3), PAPER, dtype=np.uint8)
    top = GAP + line * len(titles)
    names = []
    for cuts, row in zip(rows, pictures, strict=True):
        left = (wide + GAP - sum(picture.shape[1] + GAP for picture in row)) // 2
        for cut, picture in zip(cuts, row, strict=True):
            height, width = picture.shape[:2]
            sheet[top : top + height, left : left + width] = picture
            names.append((left + width / 2, top + height + line / 2, cut.name))
            left += width + GAP
        top += max(picture.shape[0] for picture in row) + GAP + line
    canvas = Image.fromarray(sheet)
    draw = ImageDraw.Draw(canvas)
    for x, y, name in names:
        draw.text((x, y), name, fill=FAINT, font=small, anchor="mm")
    for number, text in enumerate(titles):
        draw.text((TEXT // 2, GAP + line * (number + 0.5)), text, fill=INK, font=large, anchor="lm")
    x, y = TEXT / 2, top + line / 2
    for name, colour in legend:
        draw.rectangle((x, y - TEXT / 3, x + TEXT * 2 / 3, y + TEXT / 3), fill=colour)
        draw.text((x + TEXT, y), name, fill=INK, font=large, anchor="lm")
        x += 2.4 * TEXT + large.getlength(name)
    for number, text in enumerate(lines, 1):
        draw.text((TEXT // 2, y + line * number), text, fill=INK, font=large, anchor="lm")
    return np.array(canvas)


def _wrapped(text: str, font: Any, width: float) -> list[str]:
    """Lines of whole words that are no wider, a longer word apart."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
