"""Which mask belongs to which image: by sub-folder and stem, whatever the two file types."""

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lungseg.errors import UserError
from lungseg.imaging.slices import is_image, suffix_of
from lungseg.imaging.walk import walk

# Longest first, for the first that fits is taken off.
MASK_SUFFIXES = tuple(
    mark + word
    for word in ("segmentation", "lungmask", "labels", "label", "masks", "lungs", "mask", "lung", "seg")
    for mark in "_- ."
)
MASK_PREFIXES = ("mask_", "mask-", "seg_", "label_")
CHANNEL = "_0000"  # what nnU-Net adds to the stem of an image, and not of its mask
LISTED = 10  # names in an error, then a count; files without a partner are all named, for each has to be found


@dataclass(frozen=True)
class Pair:
    """An image file and the file of its mask."""

    image: Path
    mask: Path


def common_stem(path: Path) -> str:
    """A file's name without its image suffix, '.nii.gz' being one; other dots stay: 'a.v2.png' gives 'a.v2'."""
    suffix = suffix_of(path)
    return path.name[: -len(suffix)] if suffix else path.name


def find_images(folder: Path, without: Collection[Path] = ()) -> list[Path]:
    """All files below a folder that can be read, sorted, as ``walk`` finds them.

    Args:
        without: folders whose files do not count.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: check the path.")
    left_out = [other.resolve() for other in without]
    files = (here / name for here, names in walk(folder, left_out) for name in names)
    return sorted(path for path in files if path.is_file() and is_image(path))


def pair_files(
    images: Path,
    masks: Path,
    image_files: Sequence[Path] | None = None,
    mask_files: Sequence[Path] | None = None,
    unpaired: list[str] | None = None,
    kinds: tuple[str, str] = ("image", "mask"),
) -> list[Pair]:
    """Each image below one folder with its mask below another, sorted by image.

    Args:
        image_files, mask_files: the files below the two folders that count; None: all that ``find_images`` finds.
        unpaired: where given, files without a partner are told in this list, and the others are paired.
        kinds: what the two are called in errors.

    A mask has the image's relative sub-folder and its stem, or that stem with one of ``MASK_SUFFIXES`` or
    ``MASK_PREFIXES``, or without ``CHANNEL``. The better fit wins: the same stem before a marked one, the same case before
    another case.

    Raises:
        UserError: a folder is missing or empty, a file has no partner, or one has two.
    """
    kind, partner = kinds
    image_files = find_images(images) if image_files is None else sorted(image_files)
    mask_files = find_images(masks) if mask_files is None else sorted(mask_files)
    for folder, files in ((images, image_files), (masks, mask_files)):
        if not files:
            raise UserError(f"{folder} holds no image that can be read: check the folder and its file types.")
    _check_unique(image_files, images)
    fitting_masks = masks_that_fit(mask_files, masks)
    pairs, alone = [], []
    for image in image_files:
        fitting = fitting_masks(image, images)
        if len(fitting) > 1:
            raise UserError(f"{image} has {len(fitting)} {partner}s ({_names(fitting, masks)}): keep one of them.")
        if fitting:
            pairs.append(Pair(image, fitting[0]))
        else:
            alone.append(image)
    owners = defaultdict(list)
    for pair in pairs:
        owners[pair.mask].append(pair.image)
    for mask, shared in owners.items():
        if len(shared) > 1:
            raise UserError(f"{mask} fits {len(shared)} {kind}s ({_names(shared, images)}): give each its own {partner}.")
    unused = [mask for mask in mask_files if mask not in owners]
    if not pairs and len(image_files) > 1:
        raise UserError(
            f"none of the {len(image_files)} {kind}s in {images} ({_names(image_files, images)}) has a {partner} in {masks} "
            f"({_names(mask_files, masks)}): give each {kind} a {partner} of the same sub-folder and stem."
        )
    if alone or unused:
        parts = [f"{_lacking(alone, kind)} no {partner} in {masks} ({_names(alone, images, len(alone))})"] if alone else []
        parts += [f"{_lacking(unused, partner)} no {kind} in {images} ({_names(unused, masks, len(unused))})"] if unused else []
        sentence = f"{' and '.join(parts)}: give each {kind} a {partner} of the same sub-folder and stem, or remove it."
        if unpaired is None:
            raise UserError(sentence)
        unpaired.append(sentence)
    return pairs


def masks_that_fit(mask_files: Sequence[Path], masks: Path) -> Callable[[Path, Path], list[Path]]:
    """What gives the masks that fit an image below a folder as well as any: none, one or, where nobody can tell, several."""
    levels = [_group(mask_files, masks, key) for key in (_exact, _unmarked, _folded, _folded_unmarked)]

    def fitting(image: Path, images: Path) -> list[Path]:
        exact, folded = _exact(image, images), _folded(image, images)
        keys = (exact, exact, folded, folded)
        ways = [*zip(levels, keys, strict=True), *zip(levels, map(_without_channel, keys), strict=True)]
        return next((level[key] for level, key in ways if key in level), [])

    return fitting


def _exact(path: Path, root: Path) -> tuple[str, ...]:
    # NFC: a folder that went through a Mac spells the umlauts of one and the same name in two ways.
    return tuple(unicodedata.normalize("NFC", part) for part in (*path.relative_to(root).parts[:-1], common_stem(path)))


def _unmarked(path: Path, root: Path) -> tuple[str, ...]:
    *folders, stem = _exact(path, root)
    lower = stem.lower()
    suffix = next((mark for mark in MASK_SUFFIXES if lower.endswith(mark)), "")
    prefix = next((mark for mark in MASK_PREFIXES if lower.startswith(mark)), "")
    return (*folders, stem[: -len(suffix)] if suffix else stem[len(prefix) :])


def _folded(path: Path, root: Path) -> tuple[str, ...]:
    return tuple(part.casefold() for part in _exact(path, root))


def _folded_unmarked(path: Path, root: Path) -> tuple[str, ...]:
    return tuple(part.casefold() for part in _unmarked(path, root))


def _without_channel(key: tuple[str, ...]) -> tuple[str, ...]:
    return (*key[:-1], key[-1].removesuffix(CHANNEL))


def _group(files: Iterable[Path], root: Path, key: Callable[[Path, Path], tuple[str, ...]]) -> dict[tuple[str, ...], list[Path]]:
    groups = defaultdict(list)
    for path in files:
        groups[key(path, root)].append(path)
    return dict(groups)


def _check_unique(files: Iterable[Path], root: Path) -> None:
    for same in _group(files, root, _exact).values():
        if len(same) > 1:
            raise UserError(f"{_names(same, root)} in {root} have the same stem, so one mask fits both: rename one.")


def _lacking(files: list[Path], kind: str) -> str:
    return f"{len(files)} {kind}s have" if len(files) > 1 else f"1 {kind} has"


def _names(files: Sequence[Path], root: Path, most: int = LISTED) -> str:
    more = f" and {len(files) - most} more" if len(files) > most else ""
    return ", ".join(path.relative_to(root).as_posix() for path in files[:most]) + more
