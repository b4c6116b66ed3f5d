"""``lungseg predict``: masks for a file or a folder."""

import difflib
import json
import logging
import math
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lungseg.commands.exits import exit_code
from lungseg.errors import UserError
from lungseg.files import from_home

if TYPE_CHECKING:
    from lungseg.inference.cohort import Result

HELP = """\
{program}: writes a lung mask for every image of a file or a folder.

  {program} ckpt=RUN/checkpoints/best.ckpt input=FILE_OR_FOLDER output=DIR

  ckpt=FILE            a best.ckpt of lungseg train
  input=PATH           PNG, JPEG, BMP, TIFF, NPY, single DICOM slices or NIfTI volumes; a folder is searched with its sub-folders
  output=DIR           one mask for each image (0 and 255, its size, its stem) and summary.csv
  truth=PATH           true masks with the same stems: adds IoU and Dice for each image and on average
  overlays=true        also a picture of each image with the mask's outline
  probabilities=true   also the probability of lung, as 16-bit PNG
  threshold=0.5        probability from which a pixel is lung
  device=auto          auto | cpu | cuda | cuda:N | mps
  batch_size=16        images at a time on a GPU, halved when its memory runs out
  threads=0            of the CPU; 0 leaves the choice to PyTorch
  mask_values=1,2      values in the true masks that are lung, where they hold more than two
  ignore_values=9      values in the true masks where nobody knows
  overwrite=true       write into a folder that is not empty
  -q                   only warnings and errors

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
    return exit_code(lambda: _predict(parse(argv)), "The masks written so far are whole and stay.")


def parse(argv: Sequence[str]) -> Options:
    """Options from ``key=value`` words, each split at its first equals sign.

    Raises:
        UserError: a word is no option, is given twice, or its value has the wrong type.
    """
    known = {field.name: field for field in fields(Options)}
    values: dict[str, Any] = {}
    for word in argv:
        key, equals, text = ("quiet", "=", "true") if word in ("-q", "--quiet") else word.partition("=")
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise UserError(f"{key} is no option of predict: {f'did you mean {near[0]}?' if near else 'see --help.'}")
        if not equals or not text:
            raise UserError(f"{key} needs a value: {key}=...")
        if key in values:
            raise UserError(f"{key} is given twice.")
        values[key] = _value(key, text, str(known[key].type))
    missing = [name for name, field in known.items() if field.default is MISSING and name not in values]
    if missing:
        raise UserError(f"{missing[0]}=... is needed: predict takes ckpt=BEST.ckpt input=FILE_OR_FOLDER output=DIR.")
    return Options(**values)


def _value(key: str, text: str, kind: str) -> Any:
    try:
        if "Path" in kind:
            return from_home(text)
        if "tuple" in kind:
            return tuple(float(part) for part in text.strip("[]").split(","))
        if "bool" in kind:
            return {"true": True, "false": False}[text.lower()]
        return {"float": float, "int": int}.get(kind.removeprefix("<class '").removesuffix("'>"), str)(text)
    except (ValueError, KeyError):
        wanted = "true or false" if "bool" in kind else "numbers" if "tuple" in kind else "a number"
        raise UserError(f"{key}={text} must be {wanted}.") from None


def _predict(options: Options) -> int:
    from lungseg.imaging.pairs import find_images

    images = _images(options, find_images)
    _check_output(options)

    # Only now the heavy part: everything above answers at once.
    import torch
    from rich.console import Console
    from rich.progress import Progress

    from lungseg.inference.cohort import Extras, items, scores, segment
    from lungseg.inference.segmenter import Segmenter
    from lungseg.log import log, messages

    if options.threads < 0:
        raise UserError(f"threads={options.threads} must be 0 (PyTorch's choice) or more.")
    if options.threads:
        torch.set_num_threads(options.threads)
    segmenter = Segmenter.load(options.ckpt, options.device, options.batch_size, options.threshold)
    work = items(images, options.output)
    if options.truth is not None:
        work = _with_truth(work, options.truth, options.input)
    _check_nothing_replaced(work)
    extras = Extras(options.overlays, options.probabilities, options.mask_values, options.ignore_values)

    console = Console(soft_wrap=True)
    with messages(console, level=logging.WARNING if options.quiet else logging.INFO):
        log.info(f"{len(work)} files, {segmenter.device}")
        bar = Progress(console=console, transient=True) if console.is_terminal and not options.quiet else nullcontext()
        with bar as progress:
            task = progress.add_task("segmenting", total=len(work)) if progress else None

            def done(result: "Result") -> None:
                if progress is not None and task is not None:
                    progress.advance(task)
                if result.error:
                    log.error(f"{result.item.name}: {result.error}")
                for warning in result.warnings:
                    log.warning(f"{result.item.name}: {warning}")

            results = segment(segmenter, work, options.output, extras, done)
        failed = sum(result.error is not None for result in results)
        if options.truth is not None:
            _say_scores(scores(results), options.output)
        told = f"{len(results) - failed} masks and summary.csv are in {options.output}"
        log.info(f"{told}; {failed} files failed, see the column warnings." if failed else f"{told}.")
    return 1 if failed else 0


def _images(options: Options, find_images: Any) -> list[tuple[str, Path]]:
    """Names below the input, and paths; what an earlier prediction left in an output inside the input is no image."""
    source, output = options.input, options.output.resolve()
    if source.is_dir():
        inside = output != source.resolve() and output.is_relative_to(source.resolve())
        paths = [path for path in find_images(source) if not (inside and path.resolve().is_relative_to(output))]
        if not paths:
            raise UserError(f"input={source} holds no image that can be read: check the folder and its file types.")
        return [(path.relative_to(source).as_posix(), path) for path in paths]
    if source.is_file():
        return [(source.name, source)]
    raise UserError(f"input={source} is neither a file nor a folder.")


def _check_output(options: Options) -> None:
    output = options.output
    if output.exists() and not output.is_dir():
        raise UserError(f"output={output} is a file: give a folder.")
    for name, other in (("input", options.input), ("truth", options.truth)):
        if other is not None and other.resolve() == output.resolve():
            raise UserError(f"output={output} is also the {name}: masks must not replace images; give another folder.")
    if output.is_dir() and any(output.iterdir()) and not options.overwrite:
        raise UserError(f"output={output} is not empty: give another folder, or overwrite=true.")


def _check_nothing_replaced(work: Sequence[Any]) -> None:
    given = {path.resolve() for item in work for path in (item.image, item.truth) if path is not None}
    for item in work:
        if item.mask.resolve() in given:
            raise UserError(
                f"the mask of {item.image} would replace {item.mask}: masks must not replace images; give another output."
            )


def _with_truth(work: Sequence[Any], truth: Path, source: Path) -> list[Any]:
    from dataclasses import replace

    from lungseg.imaging.pairs import pair_files

    if source.is_file():
        if not truth.is_file():
            raise UserError(f"truth={truth} must be a file, as input={source} is one.")
        return [replace(work[0], truth=truth)]
    masks = {pair.image: pair.mask for pair in pair_files(source, truth)}
    return [replace(item, truth=masks[item.image]) for item in work]


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
