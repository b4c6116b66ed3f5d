"""``lungseg predict``: masks for a file or a folder."""

import json
import logging
import math
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from lungseg.commands.exits import PARTLY, exit_code, without_debug
from lungseg.commands.folders import claimed, is_predictions
from lungseg.commands.progress import progress
from lungseg.commands.words import parse, typed
from lungseg.errors import UserError, count_of, printable
from lungseg.files import HIDDEN, remove_partials, sha256_of, writing

if TYPE_CHECKING:
    from rich.console import Console

    from lungseg.inference.items import Result
    from lungseg.inference.volumes import Settings

HELP = """\
{program}: writes lung masks for a scan, for a picture, or for every one below a folder.

  {program} ckpt=RUN/checkpoints/best.ckpt input=FILE_OR_FOLDER output=DIR

  ckpt=FILE            a best.ckpt of lungseg train
  input=PATH           a volume (NIfTI, NRRD, MHA), a DICOM folder, a single DICOM file, or a PNG, JPEG, BMP, TIFF or NPY;
                       a folder is searched with its sub-folders, its DICOM files are put together to series; a .txt file is
                       a list of all these, a path a line
  output=DIR           a mask for each, of its size and stem, and summary.csv. The mask of a volume lies on its grid, 1 right
                       lung, 2 left lung, in its own format (NIfTI for DICOM), with a picture in overlays/ and its volumes and
                       densities in measurements.csv and .json; a picture gets a PNG of 0 and 255, an NPY stack the like;
                       of several scans report.html shows all, the suspicious ones first
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
  truth=PATH           true masks with the same stems: adds their figures for each image, as of lungseg evaluate, and on average
  overlays=true        a picture of each image with the mask's outline; by default of volumes only, false for none
  probabilities=true   also the probability of lung: 16-bit PNG or NPY where 65535 is 1, or a volume
  dicom_seg=true       also a DICOM-SEG of each DICOM series in dicom_seg/, on the very slices, for a PACS or a viewer; it names the
                       patient as its scan does, which the standard demands (pip install "lungseg[dicom]")
  threshold=0.5        a pixel is lung where its probability is above this
  device=auto          auto | cpu | cuda | cuda:N | mps
  batch_size=16        slices at a time on a GPU, halved when its memory runs out
  threads=0            of the CPU; 0 leaves the choice to PyTorch
  mask_values=1,2      values in the true masks that are lung, where they hold more than two
  ignore_values=9      values in the true masks where nobody knows
  resume=true          goes on with an output that is not finished: what is done stays, unless its scan has changed. Takes the same
                       settings; with overwrite=true others too, and what was made otherwise is made anew
  overwrite=true       write into a folder that is not empty
  -q                   only warnings and errors
  debug=true           what lies behind an error too, as a traceback

Values are taken as they are typed, whatever they hold; ~ is your home. Exit code: 0 all done, 1 some files failed, 2 refused.

{definitions}"""

ENDINGS = {"nifti": ".nii.gz", "nrrd": ".nrrd", "mha": ".mha"}
RECORD = "run.json"
TABLES = ("summary.csv", "metrics.json", "measurements.csv", "measurements.json", "report.html", RECORD)
# Options that change no result of a scan, or whose effect its own bytes show.
WITHOUT_EFFECT = ("ckpt", "input", "output", "truth", "series", "device", "batch_size", "threads", "resume", "overwrite", "quiet")
SCORES = ("iou", "dice", "iou_pooled", "iou_worst", "iou_3d", "dice_3d")


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
    dicom_seg: bool = False
    threshold: float = 0.5
    device: str = "auto"
    batch_size: int = 16
    threads: int = 0
    mask_values: tuple[float, ...] | None = None
    ignore_values: tuple[float, ...] = ()
    resume: bool = False
    overwrite: bool = False
    quiet: bool = False


def main(argv: Sequence[str]) -> int:
    """Reads ``key=value`` words, literally, and predicts."""
    if not argv or any(flag in argv for flag in ("-h", "--help")):
        from lungseg.metrics.definitions import CASE_DEFINITIONS, DEFINITIONS

        program = "python predict.py" if Path(sys.argv[0]).name == "predict.py" else "lungseg predict"
        print(HELP.format(program=program, definitions=f"{DEFINITIONS}\n\n{CASE_DEFINITIONS}"))
        return 0 if argv else 2
    words, debug = without_debug(argv)
    usage = "predict takes ckpt=BEST.ckpt input=FILE_OR_FOLDER output=DIR"
    return exit_code(
        lambda: _predict(parse(words, Options, "predict", usage), debug),
        lambda: "The masks written so far are whole and stay; resume=true goes on from there.",
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
        from lungseg.commands.scans import check_nothing_replaced, find_scans, find_truths
        from lungseg.imaging.readers import said_of_skipped

        without = [other for other in (options.output, options.truth) if other is not None and other.is_dir()]
        with console.status("looking for scans") if console.is_terminal and not options.quiet else nullcontext():
            scans = find_scans(options.input, without, options.series, options.input_allow_gaps)
        truths = {} if options.truth is None else find_truths(scans, options.input, options.truth, options.output)

        import torch

        from lungseg.imaging.dicom_seg import Maker
        from lungseg.inference.cohort import scores, segment
        from lungseg.inference.items import Extras, items
        from lungseg.inference.record import keep_record
        from lungseg.inference.report import write_report
        from lungseg.inference.resume import Records
        from lungseg.inference.segmenter import Segmenter

        if options.threads:
            torch.set_num_threads(options.threads)
        made = items(scans.sources, options.output, ENDINGS.get(options.format or ""))
        work = [replace(item, truth=truths.get(item.source)) for item in made]
        check_nothing_replaced(work, options.output, TABLES)
        segmenter = Segmenter.load(
            options.ckpt, options.device, options.batch_size, options.threshold, options.tta, _settings(options)
        )
        checkpoint = sha256_of(options.ckpt)
        extras = Extras(
            options.overlays,
            options.probabilities,
            options.labels == "sides",
            options.input_allow_gaps,
            options.mask_values,
            options.ignore_values,
            Maker(version("lungseg"), checkpoint) if options.dicom_seg else None,
        )
        thing = "scan" if all(item.is_volume for item in work) else "file"
        left_out = f"; left out: {said_of_skipped(scans.left_out)}" if scans.left_out else ""
        log.info(f"{count_of(len(work), thing)}, {segmenter.device}{left_out}")
        if options.dicom_seg and (others := sum(source.series is None for source in scans.sources)):
            log.info(f"{count_of(others, thing)} without a DICOM-SEG, which needs a DICOM series.")
        for source in scans.sources:
            for remark in source.remarks:
                log.info(f"{source.name}: {remark}")

        settings = {name: value for name, value in asdict(options).items() if name not in WITHOUT_EFFECT}
        _check_settings(options, checkpoint, settings)
        with claimed(options.output / HIDDEN):
            for folder in {options.output, *(target.parent for item in work for target in item.targets)}:
                remove_partials(folder)
            keep = partial(keep_record, options.output, checkpoint, asdict(options), segmenter, scans.left_out)
            keep([], None)  # so that whoever comes after a killed run knows whose folder this is
            for name in TABLES:  # of an earlier run; this one may have no reason to write them all
                if name != RECORD:
                    with writing(options.output / name):
                        (options.output / name).unlink(missing_ok=True)
            records = Records({**settings, "checkpoint": checkpoint}, options.output, options.resume)
            began = time.perf_counter()
            done = partial(_say_result, console=console, alone=len(work) == 1, debug=debug)
            with progress(console, "segmenting", len(work), options.quiet) as advance:
                results = segment(segmenter, work, options.output, extras, done, advance, records)
            keep(results, time.perf_counter() - began)
            if len(results) > 1:
                write_report(results, options.output)
        return _say(options, results, scores(results))


def _check_settings(options: Options, checkpoint: str, settings: Mapping[str, object]) -> None:
    """Refuses to go on with what other settings made: it would be lost, or stand among the rest unnoticed."""
    from lungseg.inference.record import changed

    name = changed(options.output, checkpoint, settings) if options.resume and not options.overwrite else None
    if name is not None:
        raise UserError(
            f"output={options.output} was made with another {typed(name)}=: repeat its settings, which run.json holds, give "
            "another output, or add overwrite=true to make it anew."
        )


def _say_result(result: "Result", console: "Console", alone: bool, debug: bool) -> None:
    from lungseg.log import log

    if result.kept:
        return
    name = printable(result.item.name, most=1000)
    if result.error:
        if debug:
            console.print(result.cause, markup=False, highlight=False)
        said = printable(result.error.removeprefix(str(result.item.image)).removeprefix(":"), most=5000)
        (log.info if result.is_mask and not alone else log.error)(
            f"{name}: {'left out: ' if result.is_mask and not alone else ''}{said}"
        )
    for remark in result.remarks[len(result.item.source.remarks) :]:
        log.info(f"{name}: {remark}")
    if result.item.is_volume and result.figures:
        log.info(f"{name}: 3-D Dice {result.figures['dice_3d']:.4f}, IoU {result.figures['iou_3d']:.4f}")
    for warning in result.warnings:
        log.warning(f"{name}: {warning}")


def _say(options: Options, results: "Sequence[Result]", means: Mapping[str, float]) -> int:
    """What was done, what to do next, and the exit code."""
    from lungseg.log import log

    masks_given = [result for result in results if result.is_mask] if len(results) > 1 else []
    failed = sum(result.error is not None for result in results) - len(masks_given)
    if options.truth is not None:
        _say_scores(means, options.output)
    masks, kept = sum(result.error is None for result in results), sum(result.kept for result in results)
    told = f"{masks} mask{'' if masks == 1 else 's'} and summary.csv are in {options.output}"
    told += f" ({kept} of them from the earlier run)" if kept else ""
    if any(result.lungs for result in results):
        told += "; volumes and densities are in measurements.csv"
    if options.dicom_seg and any(result.item.segmentation.is_file() for result in results if not result.error):
        told += "; the DICOM-SEG, which name the patient, are in dicom_seg/"
    log.info(f"{told}; {count_of(failed)} failed, see the column error." if failed else f"{told}.")
    own = {result.item.record for result in results}
    if orphans := sum(record not in own for record in (options.output / HIDDEN).rglob("*.json")):
        log.warning(f"{count_of(orphans, 'result')} of scans that are not in this input stay in {options.output}, and in no table.")
    warned = sum(bool(result.warnings) for result in results)
    if len(results) > 1:
        first = f": {warned} with warnings, which come first" if warned else ""
        log.info(f"Look at {options.output / 'report.html'}{first}.")
    elif not failed and results[0].item.overlay.is_file():
        log.info(f"Look at {results[0].item.overlay}.")
    return PARTLY if failed else 0


def _check_words(options: Options) -> None:
    if options.threads < 0:
        raise UserError(f"threads={options.threads} must be 0 (PyTorch's choice) or more.")
    if options.format is not None and options.format not in ENDINGS:
        raise UserError(f"format={options.format} must be one of {', '.join(ENDINGS)}.")
    if options.dicom_seg:
        from lungseg.imaging.dicom_seg import check_highdicom

        check_highdicom()
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
    if not options.input.exists():
        raise UserError(f"input={options.input} is neither a file nor a folder.")
    if output.exists() and not output.is_dir():
        raise UserError(f"output={output} is a file: give a folder.")
    for name, other in (("input", options.input), ("truth", options.truth)):
        # A mask beside a single file could replace a neighbour of another type: 'a.tif' gives 'a.png'.
        if other is not None and output.resolve() in (other.resolve(), other.resolve().parent if other.is_file() else None):
            raise UserError(f"output={output} holds the {name}: masks must not replace images; give another folder.")
    if options.truth is not None and options.truth.resolve() == options.input.resolve():
        raise UserError(f"truth={options.truth} is also the input: give the true masks, in a folder of their own.")
    # Tables alone are what a run without any mask has left.
    if output.is_dir() and any(path.name not in (*TABLES, HIDDEN) for path in output.iterdir()) and not options.overwrite:
        there = is_predictions(output)
        if not (options.resume and there):
            remedy = "resume=true to go on with what is there, or overwrite=true" if there else "or overwrite=true"
            raise UserError(f"output={output} is not empty: give another folder, {remedy}.")


def _say_scores(summary: Mapping[str, float], output: Path) -> None:
    from lungseg.files import write_text
    from lungseg.log import log

    log.info("  ".join(f"{key} {value:.4f}" if key in SCORES else f"{key} {value:.0f}" for key, value in summary.items()))
    finite = {key: None if math.isnan(value) else value for key, value in summary.items()}
    write_text(output / "metrics.json", json.dumps(finite, indent=1))
