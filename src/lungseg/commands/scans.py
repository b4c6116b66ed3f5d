"""What a prediction works on: the scans below a path or in a list, and their true masks; and that no result replaces them."""

import os
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lungseg.commands.folders import is_predictions
from lungseg.errors import UserError, printable
from lungseg.files import from_home
from lungseg.imaging.pairs import find_images, pair_files
from lungseg.imaging.readers import Found, choose, find, nothing_but, said_of_skipped
from lungseg.imaging.series import folder_of
from lungseg.inference.items import Item, Source

LIST = ".txt"


@dataclass(frozen=True)
class Scans:
    """What there is to segment.

    Attributes:
        root: the folder below which the names of the sources are paths.
        left_out: the files that are none, each with the reason.
    """

    sources: tuple[Source, ...]
    root: Path
    left_out: tuple[tuple[Path, str], ...] = ()


def find_scans(path: Path, without: Collection[Path], series: str | None, allow_gaps: bool) -> Scans:
    """The scans and pictures of a file, of a folder with its sub-folders, or of a list of both, a path a line.

    Args:
        without: folders that hold no input, such as that of an earlier output.
        series: of several DICOM series those that are wanted.

    Raises:
        UserError: there is none.
    """
    if path.is_file() and path.suffix.lower() == LIST:
        return _listed(path, without, series, allow_gaps)
    found = find(path, [other for other in without if other.resolve() != path.resolve()])
    if series is not None and not found.series:
        raise UserError(f"input={path} holds no DICOM series, of which series={series} could choose: leave it out.")
    root = path if path.is_dir() else path.parent
    if path.is_file() and not found.series:
        return Scans((Source(path.name, path),), root)
    sources = _sources(found, root, series, allow_gaps)
    if not sources:
        raise UserError(f"input={path} holds {nothing_but(found)}: check the folder and its file types.")
    return Scans(tuple(sorted(sources, key=lambda source: source.name)), root, _files(found))


def find_truths(scans: Scans, path: Path, truth: Path, output: Path) -> dict[Source, Path]:
    """The true mask of each source.

    Args:
        path: what was given as input.

    Raises:
        UserError: one has none, or the other way round.
    """
    is_one = path.is_file() and path.suffix.lower() != LIST
    if len(scans.sources) == 1 and (is_one or truth.is_file()):
        if not truth.is_file():
            raise UserError(f"truth={truth} must be a file, as input={path} is one.")
        return {scans.sources[0]: truth}
    masks = find_images(truth, without=(output, scans.root))
    by_path = {scans.root / source.name: source for source in scans.sources}
    pairs = pair_files(scans.root, truth, list(by_path), masks)
    return {by_path[pair.image]: pair.mask for pair in pairs}


def check_nothing_replaced(work: Sequence[Item], output: Path, tables: Iterable[str]) -> None:
    """Refuses an output whose files would replace an image, a true mask or what no prediction has made.

    Raises:
        UserError: which file it is.
    """
    # By what the file system calls the same file: names may differ by links, or by case where case does not count.
    given = {_identity(path) for item in work for path in (item.image, item.truth) if path is not None} - {None}
    given |= {_identity(frame.path) for item in work if item.source.series for frame in item.source.series.frames}
    targets = [*(path for item in work for path in item.targets), *(output / name for name in tables)]
    for target in targets:
        if _identity(target) in given:
            raise UserError(f"{target} is an image or a true mask: masks must not replace it; give another output.")
    if not is_predictions(output):
        foreign = next((target for target in targets if target.exists()), None)
        if foreign is not None:
            raise UserError(f"{foreign} is there and no earlier prediction's: it stays; give another output.")


def _listed(path: Path, without: Collection[Path], series: str | None, allow_gaps: bool) -> Scans:
    """What a list names, relative to the folder of the list; what cannot be read fails alone."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as a list in UTF-8 ({error}): give a path of a scan a line.") from error
    once: dict[Path, int] = {}  # and the line where it stands first
    for number, line in enumerate(lines, 1):
        if line.strip():
            entry = path.parent / from_home(line.strip())
            once.setdefault(Path(os.path.normpath(entry.absolute())), number)
    if not once:
        raise UserError(f"{path} names no scan: give the path of one a line.")
    try:
        root = Path(os.path.commonpath([entry.parent for entry in once]))
    except ValueError as error:
        raise UserError(f"{path} names scans on several drives: give a list for each.") from error
    sources: dict[str, Source] = {}  # by their names: a scan may be named twice, or lie in a folder that is named too
    skipped: list[tuple[Path, str]] = []
    for entry, number in once.items():
        name = entry.relative_to(root).as_posix()
        try:
            if not entry.exists():
                raise UserError(f"{printable(entry)} is neither a file nor a folder: correct line {number} of {path}.")
            found = find(entry, without)
            own = _sources(found, root, series, allow_gaps)
            if not own and entry.is_file():
                own = [Source(name, entry)]
            if not own:
                raise UserError(f"{entry} holds {nothing_but(found)}: correct line {number} of {path}.")
            skipped += _files(found) if entry.is_dir() else ()
        except UserError as error:
            own = [Source(name, entry, refusal=str(error))]
        except (OSError, ValueError) as error:  # a name longer than any file's, a folder that is closed, a byte that no name holds
            reason = getattr(error, "strerror", None) or error
            own = [Source(name, entry, refusal=f"{printable(entry)} cannot be opened ({reason}): correct line {number} of {path}.")]
        for source in own:
            sources.setdefault(source.name, source)
    return Scans(tuple(sources.values()), root, tuple(skipped))


def _sources(found: Found, root: Path, wanted: str | None, allow_gaps: bool) -> list[Source]:
    """Volumes and pictures named by their files, and the DICOM series to segment by their folders, below a folder."""
    chosen = choose(found.series, wanted, allow_gaps) if found.series else []
    folders = [folder_of(one.series) for one in chosen]
    shared, damaged = Counter(folders), found.damaged
    numbers = {id(one): number for number, one in enumerate(found.series, 1)}
    sources = [Source(file.relative_to(root).as_posix(), file) for file in found.files]
    for path, reason in found.skipped:
        if path.is_dir():  # nobody knows what is in it
            sources.append(Source(_name(path, root), path, refusal=f"{path} {reason}: ask for the right to read it, or remove it."))
    for one, folder in zip(chosen, folders, strict=True):
        name = _name(folder, root)
        if shared[folder] > 1:
            name += f"_series{numbers[id(one.series)]}"
        damage = said_of_skipped([(file, reason) for file, reason in damaged if file.is_relative_to(folder)])
        doubts = (f"slices may be missing, left out: {damage}",) if damage else ()
        sources.append(Source(name, folder, one.series, one.remarks, doubts, one.refusal))
    return sources


def _files(found: Found) -> tuple[tuple[Path, str], ...]:
    return tuple((path, reason) for path, reason in found.skipped if not path.is_dir())


def _name(folder: Path, root: Path) -> str:
    return (root.resolve().name or "scan") if folder == root else folder.relative_to(root).as_posix()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except (OSError, ValueError):  # ValueError: no path at all
        return None
    return found.st_dev, found.st_ino
