"""``lungseg inspect``: what lies in a file or a folder, and what a prediction would do with it."""

import json
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lungseg.commands.exits import PARTLY, exit_code, without_debug
from lungseg.commands.progress import progress
from lungseg.commands.words import parse
from lungseg.errors import UserError, count_of
from lungseg.files import write_text

if TYPE_CHECKING:
    from rich.table import Table

    from lungseg.inference.inspection import Entry

WIDE = 170  # columns, where no terminal says how many

HELP = """\
lungseg inspect: what lies in a file or a folder: DICOM series, volumes and pictures, their geometry, the unit of their grey
values, what a prediction would segment, and why not the rest. Nothing that names a patient is shown, and nothing is changed.

  lungseg inspect PATH

  json=FILE            the same as JSON, into a file
  right=2              the value of the patient's right lung in label volumes; 1 unless given
  -q                   the table, warnings and errors only
  debug=true           what lies behind an error too, as a traceback

The number of a DICOM series is what predict's series=... takes. Exit code: 0 something can be segmented, 1 nothing, 2 refused."""


@dataclass(frozen=True)
class Options:
    """What may stand on the command line, with its type and default."""

    input: Path
    json: Path | None = None
    right: int = 1
    quiet: bool = False


def main(argv: Sequence[str]) -> int:
    """Reads a path and ``key=value`` words, literally, and looks."""
    if not argv or any(flag in argv for flag in ("-h", "--help")):
        print(HELP)
        return 0 if argv else 2
    words, debug = without_debug(argv)
    if words and not words[0].startswith(("input=", "-")):
        words[0] = f"input={words[0]}"  # the one path, as every tool takes it
    return exit_code(
        lambda: _inspect(parse(words, Options, "inspect", "inspect takes a path")), lambda: "Nothing was written.", debug
    )


def _inspect(options: Options) -> int:
    if not options.input.exists():
        raise UserError(f"{options.input} is neither a file nor a folder.")
    if options.right not in (1, 2):
        raise UserError(f"right={options.right} must be 1 or 2.")

    from rich.console import Console

    from lungseg.inference.inspection import inspect
    from lungseg.log import log, messages, say

    console = Console(soft_wrap=True)
    with messages(console, level=logging.WARNING if options.quiet else logging.INFO):
        with ExitStack() as stack:

            def started(count: int) -> Callable[[], None]:
                return stack.enter_context(progress(console, "looking", max(count, 1), options.quiet))

            found = inspect(options.input, options.right, started)
        if found.entries:
            wide = console if console.is_terminal else Console(width=WIDE)
            wide.print(_table(found.entries))
        odd = [f"{entry.name}: {'; '.join(entry.doubts)}" for entry in found.entries if entry.doubts]
        say(log.warning, odd, "scans with doubts, all in json=FILE")
        _say_left_out([(entry.name, entry.verdict) for entry in found.entries if not entry.segmented])
        _say_left_out(found.skipped)
        taken = sum(entry.segmented for entry in found.entries)
        how = f": lungseg predict ckpt=BEST.ckpt input={options.input} output=masks" if taken else ""
        log.info(f"\n{count_of(taken, 'scan')} would be segmented{how}")
        if options.json is not None:
            write_text(options.json, json.dumps(found.as_json(), indent=1))
            log.info(f"  in full  {options.json}")
    return 0 if taken else PARTLY


def _table(entries: "Sequence[Entry]") -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, header_style="bold", pad_edge=False)
    for name in ("series", "name", "what", "voxels (x, y, z)", "mm", "axes", "kernel", "grey values", "taken"):
        is_number = name in ("series", "voxels (x, y, z)", "mm")
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for entry in entries:
        spacing = "unknown" if entry.spacing_mm is None else " x ".join(f"{mm:.3g}" for mm in reversed(entry.spacing_mm))
        low_high = "" if entry.grey_range is None else f"{entry.grey_range[0]:g} to {entry.grey_range[1]:g}"
        table.add_row(
            "" if entry.number is None else str(entry.number),
            entry.name,
            f"{entry.modality} {entry.kind.removeprefix('DICOM ')}".strip(),
            f"{entry.size[0]} x {entry.size[1]} x {entry.slices}" if entry.slices else "",
            spacing if entry.slices else "",
            entry.orientation,
            entry.kernel,
            ", ".join(part for part in (entry.greys, low_high) if part),
            "yes" if entry.segmented else "no",
        )
    return table


def _say_left_out(files: "Sequence[tuple[str, str]]") -> None:
    from lungseg.log import log

    by_reason = defaultdict(list)
    for name, reason in files:
        by_reason[reason].append(name)
    for reason, names in sorted(by_reason.items(), key=lambda item: -len(item[1])):
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        log.info(f"not taken: {names[0]}{more}: {reason}")
