"""``lungseg check``: the faults of a data set, before a training learns them."""

import json
import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lungseg.commands.exits import PARTLY, exit_code, without_debug
from lungseg.commands.folders import as_typed, from_here, make_output
from lungseg.commands.progress import progress
from lungseg.commands.words import parse, unquoted
from lungseg.errors import UserError, count_of

if TYPE_CHECKING:
    from lungseg.data.cases import FileCase
    from lungseg.data.check import Findings

HELP = """\
lungseg check: looks for the faults of a data set before a training learns them.

  lungseg check data.root=DIR              DIR/Train/Images DIR/Train/Masks DIR/Test/Images DIR/Test/Masks
  lungseg check data.manifest=FILE.csv     or a table with the columns image, mask, patient, split

  data.patient_regex=...   its first group (or whole match), searched in an image's stem, is the patient
  data.mask_values=1,2     values in the masks that are lung, where they hold more than two
  data.ignore_values=9     values in the masks where nobody knows
  output=DIR               where check.html, check.json and suspicious.png go; outputs/check/NAME unless given
  data=volumes             DICOM folders are scans, and each scan is a patient unless it is named
  data=folder|manifest     may be given as in the training's command, and changes nothing
  -q                       only what is odd or wrong
  debug=true               what lies behind an error too, as a traceback

Every pair of image and mask is read: counts, sizes, grey values and their unit, mask values, pictures that come twice (also
flipped, shifted or saved again), patients on both sides of the split, and masks that do not fit their image. Nothing is changed.
Exit code: 0 no fault, 1 faults that spoil a training or its scores, 2 refused."""


@dataclass(frozen=True)
class Options:
    """What may stand on the command line, with its type and default."""

    data: str | None = None
    data_root: Path | None = None
    data_manifest: Path | None = None
    data_patient_regex: str | None = None
    data_mask_values: tuple[float, ...] | None = None
    data_ignore_values: tuple[float, ...] = ()
    output: Path | None = None
    quiet: bool = False


def main(argv: Sequence[str]) -> int:
    """Reads ``key=value`` words, literally, and checks."""
    if not argv or any(flag in argv for flag in ("-h", "--help")):
        print(HELP)
        return 0 if argv else 2
    words, debug = without_debug(argv)
    usage = "check takes data.root=DIR or data.manifest=FILE.csv"
    return exit_code(lambda: _check(parse(words, Options, "check", usage)), lambda: "Nothing was written.", debug)


def _check(options: Options) -> int:
    unpaired: list[str] = []
    where, parts = _parts(options, unpaired)
    output = options.output or Path("outputs", "check", where.resolve().stem if where.is_file() else where.resolve().name)
    make_output(output, {path.parent for cases in parts.values() for case in cases for path in (case.image, case.mask)})

    from rich.console import Console

    from lungseg.data.check import check
    from lungseg.data.check_report import as_json, as_page, as_screen, suspicious_picture
    from lungseg.files import write_text
    from lungseg.imaging.writers import write_picture
    from lungseg.log import log, messages, say

    console = Console(soft_wrap=True)
    with messages(console, level=logging.WARNING if options.quiet else logging.INFO):
        total = sum(map(len, parts.values()))
        log.info(f"{count_of(total)} with a mask in {where}")
        with progress(console, "checking", total, options.quiet) as done:
            found = check(parts, done)
        found.faults[:0] = unpaired
        write_text(output / "check.json", json.dumps(as_json(found), indent=1))
        write_text(output / "check.html", as_page(found, str(where)))
        if found.shown:
            write_picture(output / "suspicious.png", suspicious_picture(found))
        log.info(as_screen(found))
        everything = "all on the page and in check.json"
        say(log.warning, [f"{one.case.name}: {'; '.join(one.sentences)}" for one in found.odd()], f"pairs to look at, {everything}")
        say(log.error, found.faults, f"faults, {everything}")
        log.info(f"\n  look at  {from_here(output / 'check.html')}  (the oddest as pictures, which are in suspicious.png too)")
        log.info(f"  in full  {from_here(output / 'check.json')}")
        if not found.faults and options.data_root is not None and parts["train"]:
            kind = "volumes" if all(case.is_volume for cases in parts.values() for case in cases) else "folder"
            log.info(f"  train    lungseg train data={kind} data.root={as_typed(options.data_root)}{_said(options)}")
        log.info(_verdict(found))
    return PARTLY if found.faults else 0


def _said(options: Options) -> str:
    """What was said of the masks and the patients, as words of a training's command."""
    values = {"data.mask_values": options.data_mask_values, "data.ignore_values": options.data_ignore_values}
    words = [f"{name}=[{','.join(f'{value:.15g}' for value in some)}]" for name, some in values.items() if some]
    regex = unquoted(options.data_patient_regex)
    return "".join(f" {shlex.quote(word)}" for word in [*([f"data.patient_regex={regex}"] if regex else []), *words])


def _parts(options: Options, unpaired: list[str]) -> "tuple[Path, Mapping[str, Sequence[FileCase]]]":
    from lungseg.data.sources import FolderSource, ManifestSource
    from lungseg.data.volumes import VolumeSource

    given = (options.data_root, options.data_manifest)
    if options.data not in (None, "folder", "manifest", "volumes"):
        raise UserError(f"data={options.data} cannot be checked: give data.root=DIR or data.manifest=FILE.csv.")
    if sum(one is not None for one in given) != 1:
        raise UserError("data.root=DIR or data.manifest=FILE.csv is needed, one of them.")
    shared: dict[str, Any] = {
        "patient_regex": unquoted(options.data_patient_regex),
        "mask_values": options.data_mask_values,
        "ignore_values": options.data_ignore_values,
    }
    if options.data == "volumes":
        where = options.data_root or options.data_manifest
        assert where is not None
        root, manifest = (None if path is None else str(path) for path in given)
        return where, VolumeSource(root, manifest, **shared).parts(unpaired)
    if options.data_root is not None:
        return options.data_root, FolderSource(str(options.data_root), **shared).parts(unpaired)
    assert options.data_manifest is not None
    return options.data_manifest, ManifestSource(str(options.data_manifest), **shared).parts()


def _verdict(found: "Findings") -> str:
    odd = len(found.odd())
    looks = f"{count_of(odd)} to look at" if odd else "no mask is suspicious" if found.checked else "no pair could be read"
    if found.faults:
        return f"\n{len(found.faults)} fault{'' if len(found.faults) == 1 else 's'} to be mended, {looks}."
    return f"\nNo fault was found; {looks}."
