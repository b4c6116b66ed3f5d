"""``lungseg predict``: masks for a file or a folder."""

import json
import logging
import math
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lungseg.commands.exits import PARTLY, exit_code, without_debug
from lungseg.commands.progress import count_of, progress
from lungseg.commands.words import parse
from lungseg.errors import UserError

if TYPE_CHECKING:
    from lungseg.inference.cohort import Item, Result

HELP = """\
{program}: writes a lung mask for every image of a file or a folder.

  {program} ckpt=RUN/checkpoints/best.ckpt input=FILE_OR_FOLDER output=DIR

  ckpt=FILE            a best.ckpt of lungseg train
  input=PATH           PNG, JPEG, BMP, TIFF, NPY, single DICOM slices or NIfTI volumes; a folder is searched with its sub-folders
  output=DIR           one mask for each image, of its size and stem, and summary.csv; the mask is a PNG of 0 and 255, for a
                       volume a NIfTI file of 0 and 1 on its grid, for an NPY stack of slices an NPY stack of 0 and 255
  truth=PATH           true masks with the same stems: adds IoU and Dice for each image and on average
  overlays=true        also a picture of each image with the mask's outline
  probabilities=true   also the probability of lung: 16-bit PNG or NPY where 65535 is 1, or NIfTI
  threshold=0.5        a pixel is lung where its probability is above this
  device=auto          auto | cpu | cuda | cuda:N | mps
  batch_size=16        images at a time on a GPU, halved when its memory runs out
  threads=0            of the CPU; 0 leaves the choice to PyTorch
  mask_values=1,2      values in the true masks that are lung, where they hold more than two
  ignore_values=9      values in the true masks where nobody knows
  overwrite=true       write into a folder that is not empty
  -q                   only warnings and errors
  debug=true           what lies behind an error too, as a traceback

Values are taken as they are typed, whatever they hold; ~ is your home. Exit code: 0 all done, 1 some files failed, 2 refused.

{definitions}"""


@dataclass(frozen=True)
class Options:
    """What may stand on the command line, with its type and default."""

    ckpt: Path
    input: Path
    output: Path
    truth: Path | None = None
    overlays: bool = False
    probabilities: bool = False
    threshold: float = 0.5
    device: str = "auto"
    batch_size: int = 16
    threads: int = 0
    mask_values: tuple[float, ...] | None = None
    ignore_values: tuple[float, ...] = ()
    overwrite: bool = False
    quiet: bool = False


def main(argv: Sequence[str]) -> int:
    """Reads ``key=value`` words, literally, and predicts."""
    if not argv or any(flag in argv for flag in ("-h", "--help")):
        from lungseg.metrics.definitions import DEFINITIONS

        program = "python predict.py" if Path(sys.argv[0]).name == "predict.py" else "lungseg predict"
        print(HELP.format(program=program, definitions=DEFINITIONS))
        return 0 if argv else 2
    words, debug = without_debug(argv)
    usage = "predict takes ckpt=BEST.ckpt input=FILE_OR_FOLDER output=DIR"
    return exit_code(
        lambda: _predict(parse(words, Options, "predict", usage), debug),
        lambda: "The masks written so far are whole and stay; summary.csv lists them.",
        debug,
    )


def _predict(options: Options, debug: bool) -> int:
    _check_folders(options)
    images = _images(options)
    truths = {} if options.truth is None else _truths(options, images)

    # Only now the heavy part: everything above answers at once.
    import torch
    from rich.console import Console

    from lungseg.inference.cohort import Extras, items, scores, segment
    from lungseg.inference.segmenter import Segmenter
    from lungseg.log import log, messages

    if options.threads < 0:
        raise UserError(f"threads={options.threads} must be 0 (PyTorch's choice) or more.")
    if options.threads:
        torch.set_num_threads(options.threads)
    work = [replace(item, truth=truths.get(item.image)) for item in items(images, options.output)]
    _check_nothing_replaced(work, options.output)
    segmenter = Segmenter.load(options.ckpt, options.device, options.batch_size, options.threshold)
    extras = Extras(options.overlays, options.probabilities, options.mask_values, options.ignore_values)

    console = Console(soft_wrap=True)
    with messages(console, level=logging.WARNING if options.quiet else logging.INFO):
        log.info(f"{count_of(len(work))}, {segmenter.device}")
        with progress(console, "segmenting", len(work), options.quiet) as advance:

            def done(result: "Result") -> None:
                if result.error:
                    if debug and result.cause is not None:
                        console.print("".join(traceback.format_exception(result.cause)), markup=False, highlight=False)
                    log.error(f"{result.item.name}: {result.error}")
                for warning in result.warnings:
                    log.warning(f"{result.item.name}: {warning}")
                advance()

            results = segment(segmenter, work, options.output, extras, done)
        failed = sum(result.error is not None for result in results)
        if options.truth is not None:
            _say_scores(scores(results), options.output)
        masks = len(results) - failed
        warned = sum(bool(result.warnings) for result in results)
        told = f"{masks} mask{'' if masks == 1 else 's'} and summary.csv are in {options.output}"
        if warned and not options.quiet:
            log.info(f"{count_of(warned)} with warnings: look at the masks that the column warnings of summary.csv names.")
        log.info(f"{told}; {count_of(failed)} failed, see the column warnings." if failed else f"{told}.")
    return PARTLY if failed else 0


def _check_folders(options: Options) -> None:
    output = options.output
    if output.exists() and not output.is_dir():
        raise UserError(f"output={output} is a file: give a folder.")
    for name, other in (("input", options.input), ("truth", options.truth)):
        # A mask beside a single file could replace a neighbour of another type: 'a.tif' gives 'a.png'.
        if other is not None and output.resolve() in (other.resolve(), other.resolve().parent if other.is_file() else None):
            raise UserError(f"output={output} holds the {name}: masks must not replace images; give another folder.")
    if options.truth is not None and options.truth.resolve() == options.input.resolve():
        raise UserError(f"truth={options.truth} is also the input: give the true masks, in a folder of their own.")
    if output.is_dir() and any(output.iterdir()) and not options.overwrite:
        raise UserError(f"output={output} is not empty: give another folder, or overwrite=true.")


def _images(options: Options) -> list[tuple[str, Path]]:
    """Names below the input, and paths."""
    source = options.input
    if source.is_dir():
        paths = _found(source, options.output, options.truth)
        if not paths:
            raise UserError(f"input={source} holds no image that can be read: check the folder and its file types.")
        return [(path.relative_to(source).as_posix(), path) for path in paths]
    if source.is_file():
        return [(source.name, source)]
    raise UserError(f"input={source} is neither a file nor a folder.")


def _truths(options: Options, images: Sequence[tuple[str, Path]]) -> dict[Path, Path]:
    """The true mask of each image."""
    from lungseg.imaging.pairs import pair_files

    source, truth = options.input, options.truth
    assert truth is not None
    if source.is_file():
        if not truth.is_file():
            raise UserError(f"truth={truth} must be a file, as input={source} is one.")
        return {source: truth}
    pairs = pair_files(source, truth, [path for _, path in images], _found(truth, options.output, source))
    return {pair.image: pair.mask for pair in pairs}


def _found(folder: Path, *others: Path | None) -> list[Path]:
    """The images below a folder, but for those below another role's folder inside it: an earlier output, say, is no input."""
    from lungseg.imaging.pairs import find_images

    here = folder.resolve()
    inside = [other.resolve() for other in others if other is not None and other.resolve().is_relative_to(here)]
    return [path for path in find_images(folder) if not any(path.resolve().is_relative_to(other) for other in inside)]


def _check_nothing_replaced(work: "Sequence[Item]", output: Path) -> None:
    # By what the file system calls the same file: names may differ by links, or by case where case does not count.
    given = {_identity(path) for item in work for path in (item.image, item.truth) if path is not None} - {None}
    targets = [*(path for item in work for path in item.targets), output / "summary.csv", output / "metrics.json"]
    for target in targets:
        if _identity(target) in given:
            raise UserError(f"{target} is an image or a true mask: masks must not replace it; give another output.")
    if not (output / "summary.csv").is_file():
        foreign = next((target for target in targets if target.exists()), None)
        if foreign is not None:
            raise UserError(f"{foreign} is there and no earlier prediction's: it stays; give another output.")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _say_scores(summary: Mapping[str, float], output: Path) -> None:
    from lungseg.files import write_text
    from lungseg.log import log

    log.info(
        "  ".join(
            f"{key} {value:.4f}" if key in ("iou", "dice", "iou_pooled", "iou_worst") else f"{key} {value:.0f}"
            for key, value in summary.items()
        )
    )
    finite = {key: None if math.isnan(value) else value for key, value in summary.items()}
    write_text(output / "metrics.json", json.dumps(finite, indent=1))
