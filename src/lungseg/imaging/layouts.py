"""The folders in which people keep images and masks, and the scans below them, DICOM folders among them."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lungseg.errors import UserError
from lungseg.imaging.pairs import LISTED, Pair, find_images, masks_that_fit, pair_files
from lungseg.imaging.slices import DICOM_SUFFIXES, PLACED_SUFFIXES, VOLUME_SUFFIXES, is_image, suffix_of
from lungseg.imaging.walk import is_hidden, walk

LAYOUT = "Train/Images, Train/Masks and, if there is one, Test/Images, Test/Masks (or images, labels; or imagesTr, labelsTr)"
MASKS = ("masks", "labels")


def split_folders(root: Path, train_needed: bool = True) -> dict[str, tuple[Path, Path]]:
    """The folders of images and of masks of ``train`` and, where it exists, ``test``; their names in any case.

    ``Train`` and ``Test`` hold ``Images`` and ``Masks`` (or ``Labels``); a root without them may hold ``images`` and ``masks`` (or
    ``labels``), all for training, or nnU-Net's ``imagesTr``, ``labelsTr`` and, if labelled, ``imagesTs``, ``labelsTs``.

    Args:
        train_needed: whether a root with ``test`` alone is refused.

    Raises:
        UserError: the folder is not laid out so.
    """
    if not root.is_dir():
        raise UserError(f"{root} is not a folder: check data.root.")
    if not (_child(root, "train") or _child(root, "test")):
        flat = {"train": _pair(root, "images", MASKS) or _pair(root, "imagestr", ("labelstr",))}
        flat["test"] = _pair(root, "imagests", ("labelsts",))
        splits = {split: folders for split, folders in flat.items() if folders is not None}
        if splits.keys() - {"test"} or (splits and not train_needed):
            return splits
        raise _other_layout(root)
    splits = {}
    for split in ("train", "test"):
        folder = _child(root, split)
        if folder is None and (splits or (split == "train" and not train_needed)):
            continue
        found = _pair(folder, "images", MASKS) if folder else None
        if found is None:
            raise _other_layout(root)
        splits[split] = found
    return splits


def pair_scans(images: Path, masks: Path, unpaired: list[str] | None = None) -> list[Pair]:
    """Each scan below one folder with the volume, or the DICOM-SEG, that is its mask below another, as ``pair_files`` pairs them.

    A scan is a volume in one file, or a folder with DICOM files, which may lie deeper in it: the folder that has a mask of its
    name, or where there is none the one that holds the files. Pictures are no scans and are left out.
    """
    mask_files = [file for file in find_images(masks) if suffix_of(file) in PLACED_SUFFIXES]
    fits = masks_that_fit(mask_files, masks)
    return pair_files(images, masks, sorted(set(_scans(images, fits))), mask_files, unpaired)


def _scans(images: Path, fits: Callable[[Path, Path], list[Path]]) -> Iterator[Path]:
    for here, names in walk(images):
        loose: list[Path] = []  # DICOM files that are no scans of their own
        for name in names:
            file = here / name
            suffix = suffix_of(file)
            if suffix in VOLUME_SUFFIXES:
                yield file
            elif suffix in DICOM_SUFFIXES or (suffix == "" and not loose and is_image(file)):
                if fits(file, images):
                    yield file
                else:
                    loose.append(file)
        if here == images:
            yield from loose  # without a mask, as will be said
        elif loose:
            above = [here, *here.parents]
            inside = above[: above.index(images)]
            yield next((folder for folder in reversed(inside) if fits(folder, images)), here)


def _pair(folder: Path, images: str, masks: Sequence[str]) -> tuple[Path, Path] | None:
    found = [one for one in (_child(folder, name) for name in masks) if one is not None]
    if len(found) > 1:
        raise UserError(f"{folder} holds {found[0].name} and {found[1].name}: keep one of them.")
    own = _child(folder, images)
    return (own, found[0]) if own is not None and found else None


def _other_layout(root: Path) -> UserError:
    found = ", ".join(_folders_below(root)) or "no folder"
    return UserError(f"{root} must hold {LAYOUT}, but holds {found}: rename the folders or correct data.root.")


def _child(folder: Path, name: str) -> Path | None:
    """The sub-folder of this name in any case."""
    fitting = sorted(path for path in folder.iterdir() if path.name.lower() == name and path.is_dir())
    if len(fitting) > 1:
        raise UserError(f"{folder} holds {fitting[0].name} and {fitting[1].name}: keep one of them.")
    return fitting[0] if fitting else None


def _folders_below(root: Path) -> list[str]:
    folders = sorted(path for path in (*root.glob("*"), *root.glob("*/*")) if path.is_dir())
    return [path.relative_to(root).as_posix() for path in folders if not is_hidden(path.relative_to(root))][:LISTED]
