"""``lungseg evaluate``: how good masks are, whoever made them."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lungseg.commands.exits import PARTLY, exit_code, without_debug
from lungseg.commands.folders import from_here, is_predictions, make_output, remove_empty
from lungseg.commands.progress import progress
from lungseg.commands.words import parse, unquoted
from lungseg.errors import UserError, count_of, printable
from lungseg.files import BESIDE, writing

HELP = """\
lungseg evaluate: says how good masks are, whoever made them.

  lungseg evaluate predictions=DIR truth=DIR

  predictions=DIR      masks as lungseg predict writes them, or those of another tool: pictures of two values, volumes of 0 and 1,
                       or of 0, 1 (right) and 2 (left)
  truth=DIR            true masks of the same sub-folders and stems; a predicted mask of another orientation or grid is put onto the
                       voxels of the true one. Two files may be given instead of two folders
  output=DIR           where cases.csv, summary.csv, summary.json and worst.png go; outputs/evaluate/NAME unless given
  images=DIR           the images themselves, to show the worst cases on
  patient_regex=...    its first group (or whole match), searched in a true mask's stem, is the patient; else each case is one
  tolerance=2          of the surface Dice: mm, or pixels where a file does not say how large its pixels are
  mask_values=1,2      values in the true masks that are lung, where they hold more than two
  ignore_values=9      values in the true masks where nobody knows
  prediction_values=1,2
                       values in the predicted masks that are lung, where they hold more than two
  -q                   only warnings and errors
  debug=true           what lies behind an error too, as a traceback

A case has a row for both lungs, and one for each where predicted and true masks tell them apart. Means are over patients, the cases
of each averaged first, with the 95 % interval of a bootstrap over patients; medians are over cases. lungseg compare sets two such
outputs against each other.
Exit code: 0 all judged, 1 some could not be, 2 none could be, or refused.

{definitions}"""


@dataclass(frozen=True)
class Options:
    """What may stand on the command line, with its type and default."""

    predictions: Path
    truth: Path
    output: Path | None = None
    images: Path | None = None
    patient_regex: str | None = None
    tolerance: float | None = None
    mask_values: tuple[float, ...] | None = None
    ignore_values: tuple[float, ...] = ()
    prediction_values: tuple[float, ...] | None = None
    quiet: bool = False


def main(argv: Sequence[str]) -> int:
    """Reads ``key=value`` words, literally, and evaluates."""
    if not argv or any(flag in argv for flag in ("-h", "--help")):
        from lungseg.metrics.definitions import CASE_DEFINITIONS

        print(HELP.format(definitions=CASE_DEFINITIONS))
        return 0 if argv else 2
    words, debug = without_debug(argv)
    usage = "evaluate takes predictions=DIR truth=DIR"
    return exit_code(lambda: _evaluate(parse(words, Options, "evaluate", usage)), lambda: "Nothing was written.", debug)


def _evaluate(options: Options) -> int:
    from lungseg.imaging.pairs import common_stem

    predictions = options.predictions.resolve()
    name = common_stem(predictions) if predictions.is_file() else predictions.name
    output = options.output or Path("outputs", "evaluate", name)
    _check(options, output)
    try:
        return _evaluated(options, output)
    finally:
        remove_empty(output)  # if it was refused


def _evaluated(options: Options, output: Path) -> int:
    from rich.console import Console

    from lungseg.evaluation.cases import Judged, Reading, find_cases, judge, sides_unknown, with_sides
    from lungseg.evaluation.summary import as_csv, as_json, as_screen, cases_csv, reasons, summarised
    from lungseg.evaluation.worst import picture, worst_first
    from lungseg.files import write_text
    from lungseg.imaging.writers import write_picture
    from lungseg.log import log, messages, say
    from lungseg.metrics.cases import TOLERANCE

    console = Console(soft_wrap=True)
    with messages(console, level=logging.WARNING if options.quiet else logging.INFO):
        cases = find_cases(options.predictions, options.truth, unquoted(options.patient_regex), _no_predictions(options))
        images = _images(options)
        tolerance = TOLERANCE if options.tolerance is None else options.tolerance
        reading = Reading(options.mask_values, options.ignore_values, options.prediction_values, tolerance)
        log.info(f"{count_of(len(cases), 'case')} in {options.predictions}")
        judged: list[Judged] = []
        worst: list[Judged] = []
        with progress(console, "evaluating", len(cases), options.quiet) as advance:
            for one in judge(cases, reading):
                worst = worst_first([*worst, one])
                judged.append(replace(one, shown=None))
                advance()
        if sides_unknown(judged):
            log.warning("the predicted masks hold one value, taken as both lungs; the true ones tell right (1) from left (2).")
        judged = with_sides(judged)
        summary = summarised(judged)
        doubts = [f"{printable(one.case.name)}: {doubt}" for one in judged for doubt in one.doubts]
        say(log.warning, doubts, "doubts, all in cases.csv")
        say(log.error, reasons(judged), "kinds of reasons why cases could not be judged, all in cases.csv")
        if (output / "cases.csv").is_file():
            log.warning(f"the earlier evaluation in {from_here(output)} is replaced; output=... keeps the next one apart.")
        write_text(output / "cases.csv", cases_csv(judged))
        write_text(output / "summary.csv", as_csv(summary))
        write_text(output / "summary.json", json.dumps(as_json(summary, tolerance), indent=1))
        with writing(output / "worst.png"):  # of an earlier evaluation
            (output / "worst.png").unlink(missing_ok=True)
        if worst:
            write_picture(output / "worst.png", picture(worst, images))
        log.info(f"\n{as_screen(summary)}\n")
        if options.patient_regex is None and len(judged) > 1:
            log.info("Each case counts as a patient; patient_regex= says otherwise.")
        log.info(f"All figures of each case are in {from_here(output / 'cases.csv')}, means and intervals in summary.csv.")
        if worst:
            log.info(f"Look at {from_here(output / 'worst.png')}.")
    return PARTLY if summary.failed else 0


def _check(options: Options, output: Path) -> None:
    """What is wrong whatever lies in the folders."""
    for name in ("predictions", "truth", "images"):
        path = getattr(options, name)
        if path is not None and not path.exists():
            raise UserError(f"{name}={path} is neither a file nor a folder.")
    if options.predictions.resolve() == options.truth.resolve():
        raise UserError(f"predictions={options.predictions} is also the truth: give two folders.")
    if options.tolerance is not None and not (math.isfinite(options.tolerance) and options.tolerance > 0):
        raise UserError(f"tolerance={options.tolerance:g} must be above 0, in mm or pixels.")
    if is_predictions(output):
        raise UserError(f"output={output} holds a prediction, whose tables would be replaced: give another folder.")
    given = (options.predictions, options.truth, options.images)
    make_output(output, [path for path in given if path is not None and path.is_dir()])


def _no_predictions(options: Options) -> list[Path]:
    """Folders below the predictions that hold other pictures."""
    beside = [options.predictions / name for name in BESIDE] if is_predictions(options.predictions) else []
    return [*beside, *([options.images] if options.images is not None else [])]


def _images(options: Options) -> Mapping[Path, Path]:
    """The image of each true mask, as far as there are any."""
    from lungseg.imaging.pairs import find_images, pair_files

    if options.images is None:
        return {}
    if options.images.is_file() or options.truth.is_file():
        if options.images.is_dir():
            raise UserError(f"images={options.images} must be a file, as truth={options.truth} is one.")
        return {options.truth: options.images}
    without = (options.images, options.predictions)
    pairs = pair_files(options.images, options.truth, mask_files=find_images(options.truth, without), unpaired=[])
    return {pair.mask: pair.image for pair in pairs}
