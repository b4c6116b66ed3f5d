"""``lungseg predict``: masks for a file or a folder."""

import json
import logging
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lungseg.commands.exits import PARTLY, exit_code, without_debug
from lungseg.commands.progress import count_of, progress
from lungseg.commands.words import parse
from lungseg.errors import UserError
from lungseg.files import writing

if TYPE_CHECKING:
    from lungseg.imaging.readers import Found
    from lungseg.inference.items import Item, Result, Source
    from lungseg.inference.volumes import Settings

HELP = """\
{program}: writes lung masks for a scan, for a picture, or for every one below a folder.

  {program} ckpt=RUN/checkpoints/best.ckpt input=FILE_OR_FOLDER output=DIR

  ckpt=FILE            a best.ckpt of lungseg train
  input=PATH           a volume (NIfTI, NRRD, MHA), a DICOM folder, a single DICOM file, or a PNG, JPEG, BMP, TIFF or NPY;
                       a folder is searched with its sub-folders, its DICOM files are put together to series
  output=DIR           a mask for each, of its size and stem, and summary.csv. The mask of a volume lies on its grid, 1 right
                       lung, 2 left lung, in its own format (NIfTI for DICOM), with a picture in overlays/ and its volumes and
                       densities in measurements.csv and .json; a picture gets a PNG of 0 and 255, an NPY stack the like
  format=nrrd          of the masks of volumes: nifti | nrrd | mha
  labels=binary        1 for both lungs; the default sides is 1 for the right and 2 for the left
  series=2             of several DICOM series the second that lungseg inspect lists; or 1,2, a folder's or a kernel's name, or
                       all; the best axial CT of each study is taken otherwise
  input.allow_gaps=true          interpolates missing slices and uneven steps of a DICOM series, which are refused otherwise
  input.window=-600,1500         level and width in HU of the window that the grey values went through
  input.slope=1 input.intercept=-1024   make HU of the grey values
  tta=true             the mean over each slice and its three mirror images; four times as slow
  postprocess=false    the network's mask as it is, with one label
  postprocess.airways=false      leaves trachea and main bronchi in; so with touching, pieces and holes
  truth=PATH           true masks with the same stems: adds IoU and Dice for each image and on average
  overlays=true        a picture of each image with the mask's outline; by default of volumes only, false for none
  probabilities=true   also the probability of lung: 16-bit PNG or NPY where 65535 is 1, or a volume
  threshold=0.5        a pixel is lung where its probability is above this
  device=auto          auto | cpu | cuda | cuda:N | mps
  batch_size=16        slices at a time on a GPU, halved when its memory runs out
  threads=0            of the CPU; 0 leaves the choice to PyTorch
  mask_values=1,2      values in the true masks that are lung, where they hold more than two
  ignore_values=9      values in the true masks where nobody knows
  overwrite=true       write into a folder that is not empty
  -q                   only warnings and errors
  debug=true           what lies behind an error too, as a traceback

Values are taken as they are typed, whatever they hold; ~ is your home. Exit code: 0 all done, 1 some files failed, 2 refused.

{definitions}"""

ENDINGS = {"nifti": ".nii.gz", "nrrd": ".nrrd", "mha": ".mha"}
TABLES = ("summary.csv", "metrics.json", "measurements.csv", "measurements.json", "run.json")
SCORES = ("iou", "dice", "iou_pooled", "iou_worst")


@dataclass(frozen=True)
class Options:
    """What may stand on the command line, with its type and default."""

    ckpt: Path
    input: Path
    output: Path
    truth: Path | None = None
    format: str | None = None
    labels: str = "sides"
    series: str | None = None
    input_allow_gaps: bool = False
    input_window: tuple[float, ...] | None = None
    input_slope: float | None = None
    input_intercept: float | None = None
    tta: bool = False
    postprocess: bool = True
    postprocess_airways: bool = True
    postprocess_touching: bool = True
    postprocess_pieces: bool = True
    postprocess_holes: bool = True
    overlays: bool | None = None
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
    _check_words(options)
    _check_folders(options)
    # Only now the heavy part: everything above answers at once.
    from rich.console import Console

    from lungseg.log import log, messages

    console = Console(soft_wrap=True)
    with messages(console, level=logging.WARNING if options.quiet else logging.INFO):
        sources, left_out = _sources(options)
        truths = {} if options.truth is None else _truths(options, sources)

        import torch

        from lungseg.inference.cohort import scores, segment
        from lungseg.inference.items import Extras, items
        from lungseg.inference.record import keep_record
        from lungseg.inference.segmenter import Segmenter
        from lungseg.metrics.overlap import volume_scores

        if options.threads:
            torch.set_num_threads(options.threads)
        made = items(sources, options.output, ENDINGS.get(options.format or ""))
        work = [replace(item, truth=truths.get(item.source)) for item in made]
        _check_nothing_replaced(work, options.output)
        segmenter = Segmenter.load(
            options.ckpt, options.device, options.batch_size, options.threshold, options.tta, _settings(options)
        )
        extras = Extras(
            options.overlays,
            options.probabilities,
            options.labels == "sides",
            options.input_allow_gaps,
            options.mask_values,
            options.ignore_values,
        )
        thing = "scan" if all(item.is_volume for item in work) else "file"
        log.info(f"{count_of(len(work), thing)}, {segmenter.device}{left_out}")
        for source in sources:
            for remark in source.remarks:
                log.info(f"{source.name}: {remark}")
        for name in TABLES:  # of an earlier run; this one may have no reason to write them all
            with writing(options.output / name):
                (options.output / name).unlink(missing_ok=True)
        with progress(console, "segmenting", len(work), options.quiet) as advance:

            def done(result: "Result") -> None:
                if result.error:
                    if debug:
                        console.print(result.cause, markup=False, highlight=False)
                    is_fault = len(work) == 1 or not result.is_mask
                    (log.error if is_fault else log.info)(f"{result.item.name}: {'' if is_fault else 'left out: '}{result.error}")
                for remark in result.remarks[len(result.item.source.remarks) :]:
                    log.info(f"{result.item.name}: {remark}")
                if result.item.is_volume and result.scores:
                    iou, dice = volume_scores(result.scores)
                    log.info(f"{result.item.name}: 3-D Dice {dice:.4f}, IoU {iou:.4f}")
                for warning in result.warnings:
                    log.warning(f"{result.item.name}: {warning}")
                advance()

            results = segment(segmenter, work, options.output, extras, done, advance)
        keep_record(options.output, options.ckpt, asdict(options), segmenter, results)
        masks_given = [result for result in results if result.is_mask] if len(results) > 1 else []
        failed = sum(result.error is not None for result in results) - len(masks_given)
        if options.truth is not None:
            _say_scores(scores(results), options.output)
        masks = sum(result.error is None for result in results)
        warned = sum(bool(result.warnings) for result in results)
        told = f"{masks} mask{'' if masks == 1 else 's'} and summary.csv are in {options.output}"
        if any(result.lungs for result in results):
            told += f"; {'' if options.overlays is False else 'look at overlays/, '}volumes and densities are in measurements.csv"
        if warned and not options.quiet:
            log.info(f"{count_of(warned)} with warnings: look at the masks that the column warnings of summary.csv names.")
        log.info(f"{told}; {count_of(failed)} failed, see the column warnings." if failed else f"{told}.")
    return PARTLY if failed else 0


def _check_words(options: Options) -> None:
    if options.threads < 0:
        raise UserError(f"threads={options.threads} must be 0 (PyTorch's choice) or more.")
    if options.format is not None and options.format not in ENDINGS:
        raise UserError(f"format={options.format} must be one of {', '.join(ENDINGS)}.")
    if options.labels not in ("sides", "binary"):
        raise UserError(f"labels={options.labels} must be sides or binary.")
    if options.input_window is not None and len(options.input_window) != 2:
        raise UserError("input.window must be two numbers in HU, level and width, such as input.window=-600,1500.")


def _settings(options: Options) -> "Settings":
    from lungseg.imaging.units import Units
    from lungseg.inference.volumes import Settings
    from lungseg.postprocess.steps import Postprocess

    window = options.input_window
    steps = Postprocess(
        airways=options.postprocess_airways,
        touching=options.postprocess_touching,
        pieces=options.postprocess_pieces,
        holes=options.postprocess_holes,
    )
    return Settings(
        Units(None if window is None else (window[0], window[1]), options.input_slope, options.input_intercept),
        steps if options.postprocess else None,
    )


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
    # Tables alone are what a run without any mask has left.
    if output.is_dir() and any(path.name not in TABLES for path in output.iterdir()) and not options.overwrite:
        raise UserError(f"output={output} is not empty: give another folder, or overwrite=true.")


def _sources(options: Options) -> "tuple[list[Source], str]":
    """What is to be segmented, and what is said of the files that are not."""
    from lungseg.imaging.readers import find, nothing_but, said_of_skipped

    path = options.input
    if not path.exists():
        raise UserError(f"input={path} is neither a file nor a folder.")
    others = [other for other in (options.output, options.truth) if other is not None and other.is_dir()]
    found = find(path, [other for other in others if other.resolve() != path.resolve()])
    if options.series is not None and not found.series:
        raise UserError(f"input={path} holds no DICOM series, of which series={options.series} could choose: leave it out.")
    if path.is_file() and not found.series:
        return [_source(path.name, path)], ""
    sources = [_source(file.relative_to(path).as_posix(), file) for file in found.files]
    sources = sorted(sources + _series(options, found), key=lambda source: source.name)
    if not sources:
        raise UserError(f"input={path} holds {nothing_but(found)}: check the folder and its file types.")
    return sources, f"; left out: {said_of_skipped(found.skipped)}" if found.skipped else ""


def _source(name: str, path: Path) -> "Source":
    from lungseg.inference.items import Source

    return Source(name, path)


def _series(options: Options, found: "Found") -> "list[Source]":
    """The DICOM series to segment, named by their folders."""
    from lungseg.imaging.readers import choose, said_of_skipped
    from lungseg.imaging.series import folder_of
    from lungseg.inference.items import Source

    chosen = choose(found.series, options.series, options.input_allow_gaps) if found.series else []
    folders = [folder_of(one.series) for one in chosen]
    sources = []
    for one, folder in zip(chosen, folders, strict=True):
        name = options.input.resolve().name if folder == options.input else folder.relative_to(options.input).as_posix()
        if folders.count(folder) > 1:
            name += f"_series{found.series.index(one.series) + 1}"
        damage = said_of_skipped([(file, reason) for file, reason in found.damaged if file.is_relative_to(folder)])
        doubts = (f"slices may be missing, left out: {damage}",) if damage else ()
        sources.append(Source(name or "scan", folder, one.series, one.remarks, doubts, one.refusal))
    return sources


def _truths(options: Options, sources: "Sequence[Source]") -> "dict[Source, Path]":
    """The true mask of each source."""
    from lungseg.imaging.pairs import find_images, pair_files

    path, truth = options.input, options.truth
    assert truth is not None
    if len(sources) == 1 and (path.is_file() or truth.is_file()):
        if not truth.is_file():
            raise UserError(f"truth={truth} must be a file, as input={path} is one.")
        return {sources[0]: truth}
    below = [other.resolve() for other in (options.output, path) if other.resolve().is_relative_to(truth.resolve())]
    masks = [file for file in find_images(truth) if not any(file.resolve().is_relative_to(other) for other in below)]
    by_path = {path / source.name: source for source in sources}
    pairs = pair_files(path, truth, list(by_path), masks)
    return {by_path[pair.image]: pair.mask for pair in pairs}


def _check_nothing_replaced(work: "Sequence[Item]", output: Path) -> None:
    # By what the file system calls the same file: names may differ by links, or by case where case does not count.
    given = {_identity(path) for item in work for path in (item.image, item.truth) if path is not None} - {None}
    given |= {_identity(frame.path) for item in work if item.source.series for frame in item.source.series.frames}
    targets = [*(path for item in work for path in item.targets), *(output / name for name in TABLES)]
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

    log.info("  ".join(f"{key} {value:.4f}" if key in SCORES else f"{key} {value:.0f}" for key, value in summary.items()))
    finite = {key: None if math.isnan(value) else value for key, value in summary.items()}
    write_text(output / "metrics.json", json.dumps(finite, indent=1))
