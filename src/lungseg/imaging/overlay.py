"""Pictures that a person judges a mask by: contours on the grey slice, and grids of them with captions and a legend."""

import unicodedata
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from lungseg.labels import IGNORE, LUNG

# Colours that the colour-blind can tell apart (Okabe & Ito, Color Universal Design, 2008). Blue is what the program
# says, yellow and orange what the truth says, so that too much is bluish and missed is reddish.
MASK_COLOUR = (86, 180, 233)
TRUTH_COLOUR = (240, 228, 66)
EXCESS_COLOUR = (0, 114, 178)
MISSED_COLOUR = (213, 94, 0)
LEGEND = (("mask", MASK_COLOUR), ("truth", TRUTH_COLOUR), ("too much", EXCESS_COLOUR), ("missed", MISSED_COLOUR))

TINT = 0.65  # share of colour in a tinted pixel; the grey values stay readable under it
FIELD = 0.97  # of half a slice's width and height, within which a round field of view has no padding
GAP = 4  # pixels between tiles
PAPER, INK = 24, (235, 235, 235)

Rgb = tuple[int, int, int]


def to_grey(image: NDArray[Any]) -> NDArray[np.uint8]:
    """A slice (H, W) of any grey values for the screen."""
    return to_greys([image])[0]


def to_greys(images: Sequence[NDArray[Any]]) -> list[NDArray[np.uint8]]:
    """Slices (H, W) of any grey values for the screen, on one scale: the percentiles 0.5 and 99.5 become 0 and 255.

    Padding counts for nothing, for it would take all the contrast: neither the corners, which lie outside of a round field of
    view, whether they hold one grey or noise, nor the lowest grey.
    """
    inside = np.concatenate([_inside(image) for image in images])
    above = inside[inside > inside.min()]
    low, high = np.percentile(above if above.size else inside, (0.5, 99.5))
    if high <= low:  # almost constant: whatever differs lies beyond the percentiles
        low, high = min(float(image.min()) for image in images), max(float(image.max()) for image in images)
    step = max(high - low, np.finfo(np.float64).tiny)
    scaled = [np.clip((np.asarray(image, dtype=np.float64) - low) / step, 0, 1) for image in images]
    return [np.rint(image * 255).astype(np.uint8) for image in scaled]


def _inside(image: NDArray[Any]) -> NDArray[Any]:
    """The greys (N,) of the ellipse that a slice (H, W) has room for, or of all of it where that is empty."""
    y, x = (np.linspace(-1, 1, side) for side in image.shape)
    inside = image[np.hypot(y[:, None], x) < FIELD]
    return inside if inside.size else image.ravel()


def overlay(image: NDArray[Any], mask: NDArray[Any], truth: NDArray[Any] | None = None) -> NDArray[np.uint8]:
    """The slice (H, W) with the mask's contour, and with the truth's contour and both kinds of error tinted: (H, W, 3).

    Args:
        mask, truth: (H, W) bool, or labels where 1 is lung and 255 is ignored: no error is shown there.
    """
    picture = np.repeat(to_grey(image)[..., None], 3, axis=2)
    lung = mask == LUNG
    width = max(1, round(max(lung.shape) / 400))
    if truth is not None:
        true_lung, judged = truth == LUNG, truth != IGNORE
        _tint(picture, lung & ~true_lung & judged, EXCESS_COLOUR)
        _tint(picture, ~lung & true_lung, MISSED_COLOUR)
        contour(picture, true_lung, TRUTH_COLOUR, width)
    contour(picture, lung, MASK_COLOUR, width)
    return picture


def grid(
    pictures: Sequence[NDArray[np.uint8]],
    columns: int,
    captions: Sequence[str] | None = None,
    legend: Sequence[tuple[str, Rgb]] | None = None,
) -> NDArray[np.uint8]:
    """Pictures (H, W) or (H, W, 3) of any sizes as tiles of one size, row by row: (H, W, 3).

    Args:
        captions: a short text for each picture, in its tile's upper left corner.
        legend: names and colours for a line below, such as ``LEGEND``.
    """
    height, width = (max(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    text_size = max(11, round(width / 22))
    line = 2 * text_size if legend else 0
    sheet = np.full((rows * (height + GAP) + GAP + line, columns * (width + GAP) + GAP, 3), PAPER, dtype=np.uint8)
    places = [divmod(index, columns) for index in range(len(pictures))]
    corners = [(GAP + row * (height + GAP), GAP + column * (width + GAP)) for row, column in places]
    for picture, (top, left) in zip(pictures, corners, strict=True):
        sheet[top : top + height, left : left + width] = _tile(picture, height, width)
    canvas = Image.fromarray(sheet)
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(text_size)
    for caption, (top, left) in zip(captions or [""] * len(pictures), corners, strict=True):
        place = (left + text_size // 3, top + text_size // 4)
        draw.text(place, ascii_only(caption), fill=INK, font=font, stroke_width=max(1, text_size // 10), stroke_fill=(0, 0, 0))
    x, y = GAP + text_size // 2, sheet.shape[0] - line + text_size // 3
    for name, colour in legend or ():
        draw.rectangle((x, y + text_size // 4, x + text_size, y + text_size), fill=colour)
        draw.text((x + 1.4 * text_size, y), name, fill=INK, font=font)
        x += round(2.4 * text_size + font.getlength(name))
    return np.array(canvas)


def ascii_only(text: str) -> str:
    """ASCII, which is all that Pillow's built-in font draws: 'Größe' becomes 'Gro?e'."""
    letters = "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    return letters.encode("ascii", "replace").decode()


def _tint(picture: NDArray[np.uint8], where: NDArray[np.bool_], colour: Rgb) -> None:
    picture[where] = ((1 - TINT) * picture[where] + TINT * np.array(colour)).round().astype(np.uint8)


def contour(picture: NDArray[np.uint8], lung: NDArray[np.bool_], colour: Rgb, width: int) -> None:
    """Draws the outline of lung (H, W) into a picture (H, W, 3)."""
    outlines, _ = cv2.findContours(lung.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, outlines, -1, colour, width)


def _tile(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """A picture scaled into a black tile (height, width, 3), its aspect kept, in the middle."""
    scale = min(height / picture.shape[0], width / picture.shape[1])
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    scaled = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    tile = np.zeros((height, width, 3), dtype=np.uint8)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    tile[top : top + size[1], left : left + size[0]] = scaled if scaled.ndim == 3 else scaled[..., None]
    return tile
