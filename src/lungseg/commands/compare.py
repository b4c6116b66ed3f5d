"""``lungseg compare``: whether one choice beats another, or the data cannot tell."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from lungseg.commands.exits import exit_code, without_debug
from lungseg.commands.folders import from_here, is_predictions
from lungseg.commands.words import FLAGS, parse, typed
from lungseg.errors import UserError
from lungseg.files import from_home
from lungseg.signatures import nearest

if TYPE_CHECKING:
    from lungseg.evaluation.tables import Cases

HELP = """\
lungseg compare: says whether A beats B on the same cases, or that the data cannot tell.

  lungseg compare RUN_A RUN_B

  RUN                  the folder of a training, of lungseg evaluate or of lungseg predict truth=, or its table; or several with
                       commas between them, such as the seeds of one choice: those of A and B are paired in the order given
  part=val             of trainings: val | test; test unless one of them lacks it
  source=NAME,NAME     only cases whose column source says so, such as one hospital's; all of them by default
  output=DIR           where compare.csv and compare.json go; nothing is written otherwise
  -q                   only warnings and errors
  debug=true           what lies behind an error too, as a traceback

Both lungs are compared as one. Cases are matched by name, and the differences of a patient's cases averaged. A wins a figure if
the 95 % interval of the mean difference (bootstrap over patients) excludes 0 and Wilcoxon's signed rank test has p below 0.05; of
several seeds the interval alone decides, which is then over runs and patients. Runs with other patients each, such as folds, are
parts of one, and the interval no narrower than Student's t makes it of their means: the luck of each training is in it. Of a single
run it is not. Of signed figures, such as volume errors, the size counts. With fewer than 5 patients there is neither interval nor
test, and of 5 in one run p is never below 0.06.
Exit code: 0 compared, 2 refused.

{definitions}"""
USAGE = "compare takes two runs: lungseg compare RUN_A RUN_B"


@dataclass(frozen=True)
class Options:
    """What may stand on the command line beside the runs, with its type and default."""

    part: str | None = None
    source: tuple[str, ...] = ()
    output: Path | None = None
    quiet: bool = False


def main(argv: Sequence[str]) -> int:
    """Takes two words for runs and reads ``key=value`` words, literally, and compares."""
    if not argv or any(flag in argv for flag in ("-h", "--help")):
        from lungseg.metrics.definitions import CASE_DEFINITIONS

        print(HELP.format(definitions=CASE_DEFINITIONS))
        return 0 if argv else 2
    words, debug = without_debug(argv)
    return exit_code(lambda: _compare(words), lambda: "Nothing was written.", debug)


def _compare(words: Sequence[str]) -> int:
    keys = [typed(one.name) for one in fields(Options)]
    named = [word for word in words if word in FLAGS or ("=" in word and word.partition("=")[0] in keys)]
    runs = [word for word in words if word not in named]  # whose names may hold an equals sign, as those of a sweep's jobs do
    options = parse(named, Options, "compare", USAGE)
    if len(runs) != 2:
        more = f", and {runs[2]} is neither an option nor one of them" if len(runs) > 2 else ""
        meant = f": {nearest(runs[2].partition('=')[0], keys, '')}" if more and "=" in runs[2] else "."
        raise UserError(f"{USAGE}{more}{meant}")
    if options.part not in (None, "val", "test"):
        raise UserError(f"part={options.part} must be val or test.")
    if options.output is not None and options.output.exists() and not options.output.is_dir():
        raise UserError(f"output={options.output} is a file: give a folder.")
    if options.output is not None and is_predictions(options.output):
        raise UserError(f"output={options.output} holds a prediction: give another folder.")

    from rich.console import Console

    from lungseg.evaluation.compare import compare
    from lungseg.evaluation.groups import only
    from lungseg.evaluation.tables import PARTS, Kind, find_table, read_cases
    from lungseg.evaluation.verdicts import as_csv, as_json, as_screen, left_out
    from lungseg.files import write_text
    from lungseg.log import log, messages

    a, b = map(_paths, runs)
    with messages(Console(soft_wrap=True), level=logging.WARNING if options.quiet else logging.INFO):
        shared = next((part for part in PARTS if all(find_table(path, part) for path in (*a, *b))), None)
        part = options.part or shared
        for side, paths in (("A", a), ("B", b)):
            log.info(f"{side}: {', '.join(str(from_here(find_table(path, part) or path)) for path in paths)}")
        tables = [{(find_table(path, part) or path).resolve() for path in paths} for paths in (a, b)]
        if both := set.intersection(*tables):
            raise UserError(f"{from_here(min(both))} is on both sides: give another run as A or as B.")
        found = []
        kinds: tuple[Kind, ...] = ("images", "volumes")
        for kind in kinds:
            if kind == "volumes" and not all(find_table(path, part, kind) for path in (*a, *b)):
                continue
            sides = [[read_cases(path, part, kind) for path in paths] for paths in (a, b)]
            if options.source:
                if kind == "images":
                    _check_sources(options.source, sides)
                sides = [[only(cases, options.source) for cases in side] for side in sides]
                if len(a) == len(b):  # a fold may have none of them
                    pairs = [both for both in zip(*sides, strict=True) if all(cases.names for cases in both)]
                    if kind == "volumes" and not pairs:
                        continue  # only pictures come from there
                    sides = [list(side) for side in zip(*pairs, strict=True)] if pairs else sides
            one = compare(*sides)
            for sentence in left_out(one):
                log.warning(sentence)
            log.info(f"\n{as_screen(one)}")
            found.append((kind, one))
        if options.output is not None:
            write_text(options.output / "compare.csv", as_csv(found))
            write_text(options.output / "compare.json", json.dumps(as_json(found), indent=1))
            log.info(f"\nAll of it is in {from_here(options.output / 'compare.csv')} and compare.json.")
    return 0


def _check_sources(wanted: Sequence[str], sides: Sequence[Sequence["Cases"]]) -> None:
    """Refuses a source that no case of A, or none of B, comes from."""
    for name, side in zip("AB", sides, strict=True):
        known = sorted({source for cases in side for source in cases.sources if source})
        for source in wanted:
            if not known:
                raise UserError(f"source={source}: no case of {name} says where it comes from: leave it out.")
            if source not in known:
                raise UserError(f"source={source} is unknown in {name}: {nearest(source, known, '')}")


def _paths(word: str) -> list[Path]:
    """The run that a word names, or those with commas between them, each once.

    Raises:
        UserError: one of them is named twice: it would count as another seed.
    """
    whole = from_home(word)
    paths = [whole] if whole.exists() else [from_home(part) for part in word.split(",") if part]
    twice = next((path for path in paths if [one.resolve() for one in paths].count(path.resolve()) > 1), None)
    if twice is not None:
        raise UserError(f"{word} names {twice} twice: a run counts once, another seed is a run of its own.")
    return paths
