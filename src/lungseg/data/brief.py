"""What is said of the data at each start of a training; ``lungseg check`` says it in full."""

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import combinations

import numpy as np

from lungseg.data import duplicates
from lungseg.data.cache import SliceCache
from lungseg.errors import UserError, named
from lungseg.imaging import greys

NO_LUNG = "no training mask holds any lung: look at the masks, or name their lung values with data.mask_values=[...]."
PARTS = {"train": "training", "val": "validation", "test": "test"}
LOOKED_AT = 40  # slices whose grey values are described
COMPARED = 12  # slices of a scan
NAMED = 3
SAID = 10


def refuse_leaks(caches: Mapping[str, SliceCache]) -> None:
    """Refuses the same pixels in two parts of a split, whatever their files are called.

    Raises:
        UserError: there are such pictures.
    """
    for left, right in combinations(caches, 2):
        names = {info.digest: info.name for info in caches[left].infos if info.digest is not None}
        twins = [(names[info.digest], info.name) for info in caches[right].infos if info.digest in names]
        if twins:
            shown = ", ".join(f"{one} in {left} and {other} in {right}" for one, other in twins[:NAMED])
            raise UserError(
                f"{'1 picture is' if len(twins) == 1 else f'{len(twins)} pictures are'} in two parts of the split ({shown}): "
                "results would be too good; remove one of each."
            )


def described(caches: Mapping[str, SliceCache]) -> str:
    """A line about lung and grey values."""
    lung = {part: [info.lung for info in cache.infos] for part, cache in caches.items()}
    parts = [f"{sum(share > 0 for share in shares)} of {len(shares)} {PARTS[part]}" for part, shares in lung.items()]
    mostly = np.median(np.concatenate(list(lung.values())))
    first = next(iter(caches.values()))
    chosen = np.unique(np.linspace(0, len(first) - 1, LOOKED_AT).round().astype(int))
    kinds = Counter(greys.judge(first.image(i)).name for i in chosen)
    units = ", ".join(kind for kind, _ in kinds.most_common())
    return f"Data: lung in {', '.join(parts)} slices, mostly {mostly:.0%} of a slice; grey values: {units}."


def lookalikes(caches: Mapping[str, SliceCache]) -> Iterator[str]:
    """Sentences about pictures that come in two parts of the split flipped, shifted or saved again."""
    prints, groups, names = [], [], []
    for number, cache in enumerate(caches.values()):
        for i in _compared(cache):
            print_ = duplicates.fingerprint(cache.image(i))
            if print_ is not None:
                prints.append(print_)
                groups.append(number)  # within a part nothing can leak
                names.append(cache.infos[i].name)
    pairs = [(names[i], names[j]) for i, j, _ in duplicates.alike(prints, groups)]
    if pairs:
        shown = ", ".join(f"{one} and {other}" for one, other in pairs[:NAMED])
        are = "1 pair of pictures is" if len(pairs) == 1 else f"{len(pairs)} pairs of pictures are"
        yield (
            f"{are} alike across the split ({shown}): copies, or slices of one patient, make results too good; "
            "lungseg check shows them."
        )


def doubts(caches: Mapping[str, SliceCache]) -> Iterator[str]:
    """What is odd about volumes and their masks, each thing once."""
    names: dict[str, list[str]] = {}
    for cache in caches.values():
        for scan in cache.scans:
            for doubt in scan.doubts:
                names.setdefault(doubt, []).append(scan.name)
    said = [f"{named(own, NAMED)}: {doubt}" for doubt, own in names.items()]
    yield from said[:SAID]
    if len(said) > SAID:
        yield f"... and {len(said) - SAID} more of this kind; lungseg check shows them all."


def _compared(cache: SliceCache) -> Iterator[int]:
    """Slices to compare with those of other parts: all pictures, and of each scan some, which are those of a copy too."""
    scanned = {i for scan in cache.scans for i in scan.slices}
    yield from (i for i in range(len(cache)) if i not in scanned)
    for scan in cache.scans:
        chosen = np.linspace(0, len(scan.slices) - 1, COMPARED).round().astype(int)
        yield from (scan.slices[i] for i in np.unique(chosen))
