"""``lungseg report``: one page about a sweep, or about several."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lungseg.commands.exits import exit_code, without_debug
from lungseg.commands.folders import from_here, is_predictions
from lungseg.commands.words import parse
from lungseg.errors import UserError
from lungseg.files import from_home

HELP = """\
lungseg report: what a sweep shows: a row for each choice with intervals, what each setting changes, curves, and what is missing.

  lungseg report MULTIRUN_DIR [MULTIRUN_DIR ...]

  output=DIR     where report.html, report.md and plots/ go; the sweep's own folder, of several outputs/report, unless given
  debug=true     what lies behind an error too, as a traceback

A sweep that is still running, or whose jobs failed, is reported as far as it is. Nothing but these files is written.
Exit code: 0 a report, 2 refused."""


@dataclass(frozen=True)
class Options:
    """What may stand on the command line beside the folders."""

    output: Path | None = None


def main(argv: Sequence[str]) -> int:
    """Reads folders and ``key=value`` words, literally, and reports."""
    if not argv or any(flag in argv for flag in ("-h", "--help")):
        print(HELP)
        return 0 if argv else 2
    words, debug = without_debug(argv)
    options = [word for word in words if word.startswith("-") or ("=" in word and not from_home(word).is_dir())]
    folders = [from_home(word) for word in words if word not in options]
    return exit_code(
        lambda: _report(folders, parse(options, Options, "report", "report takes folders")), lambda: "Nothing was written.", debug
    )


def _report(folders: Sequence[Path], options: Options) -> int:
    if not folders:
        raise UserError("a sweep's folder is needed: lungseg report multirun/DATE/TIME.")
    output = options.output or (folders[0] if len(folders) == 1 else Path("outputs", "report"))
    if output.exists() and not output.is_dir():
        raise UserError(f"output={output} is a file: give a folder.")
    if is_predictions(output):
        raise UserError(f"output={output} holds a prediction, whose report would be replaced: give another folder.")

    from rich.console import Console

    from lungseg.evaluation.report import write_report
    from lungseg.evaluation.sweeps import read_sweeps
    from lungseg.log import messages

    with messages(Console(soft_wrap=True)):
        sweeps = read_sweeps(folders)
    names = " and ".join(folder.resolve().name for folder in folders)
    title = f"What the sweep {names} shows" if len(folders) == 1 else f"What the sweeps {names} show"
    write_report(sweeps, title, output)
    print(f"{len(sweeps.jobs)} of {sweeps.planned} jobs are finished.")
    print(f"  look at    {from_here(output / 'report.html')}")
    print(f"  as a text  {from_here(output / 'report.md')}, with {from_here(output / 'plots')}")
    return 0
