"""The files below a folder: what is hidden is left out, linked folders are followed."""

import os
from collections import deque
from collections.abc import Callable, Collection, Iterator
from pathlib import Path


def walk(
    folder: Path, without: Collection[Path] = (), closed: Callable[[OSError], None] | None = None
) -> Iterator[tuple[Path, list[str]]]:
    """A folder and the folders in it, each with the names of its own files, in order of their names.

    Linked folders come after those that lie there themselves, and each place once: so a link to a folder around it leads nowhere,
    and a folder that is met in two ways keeps its own name.

    Args:
        without: folders, resolved, that are left out with all that is in them.
        closed: told of each folder that cannot be read.
    """
    seen, tops = {*without, *folder.resolve().parents}, deque([folder])
    while tops:
        for parent, folders, names in os.walk(tops.popleft(), onerror=closed, followlinks=True):
            here = Path(parent)
            place = here.resolve()
            if place in seen:
                folders.clear()
                continue
            seen.add(place)
            inside = sorted(name for name in folders if not is_hidden(Path(name)))
            links = [name for name in inside if (here / name).is_symlink()]
            tops.extend(here / name for name in links)
            folders[:] = [name for name in inside if name not in links]
            yield here, sorted(name for name in names if not is_hidden(Path(name)))


def is_hidden(relative: Path) -> bool:
    """Whether a path below a folder is none of a user's."""
    return any(part.startswith(".") or part == "__MACOSX" for part in relative.parts)
