"""Networks that are trained alike: ours, and those that a user would otherwise take.

    python benchmarks/quality.py output=DIR data=folder data.root=DIR

Every network sees the same slices in the same order and augmentation, with the same loss, optimiser, batch size and seed, for two
budgets: equal images, and equal seconds, those that the steps of resunet_small take for its images. For each budget it is trained
from first weights with a schedule that ends there; its last weights are scored on the validation patients, slice by slice.

    output=DIR        quality.md (the table), quality.json, log.txt, results/ (a file for each training that is finished)
    images=2000       of a training
    networks=...      some of lungmask_unet, monai_unet, monai_basic_unet, nnunet_plain, nnunet_resenc and the configs of
                      configs/model; without it unet_small and all of other makers; resunet_small is always among them
    seeds=0           or several: seeds=0,1,2
    max_minutes=60    a training that would take longer is left out, and said

Every other word is a setting of lungseg train: data=manifest data.manifest=FILE.csv, preprocess.size=192, loss=bce, ... Slices are
128 pixels a side, and of a folder or table the first of five folds of its patients is for validation, unless it is said otherwise.
The same command goes on where it was stopped. The other makers' networks need pip install -e ".[benchmark]".
"""

import difflib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from lungseg.checkpoint import build_net
from lungseg.commands.compose import plain, sentence
from lungseg.commands.exits import exit_code, without_debug
from lungseg.commands.folders import claimed, is_predictions
from lungseg.commands.words import parse
from lungseg.config import config_folder, groups, job, quoted
from lungseg.data.brief import described, refuse_leaks
from lungseg.data.datamodule import LungDataModule
from lungseg.errors import UserError
from lungseg.files import write_text
from lungseg.log import log, messages
from lungseg.nets.blocks import EncoderDecoder
from lungseg.signatures import nearest
from lungseg.training.cost import parameter_count
from lungseg.training.faults import faults_said
from lungseg.training.pace import spoken
from lungseg.training.trainer import interruptible, quiet_libraries
from quality_networks import multiply_adds, recipes, unused_parameters
from quality_tables import as_markdown, as_screen, summary
from quality_trainings import Bench, judged, keep_settings, load_average, settings, trained

REFERENCE = "resunet_small"
NETWORKS = (REFERENCE, "unet_small", *recipes(128))
USAGE = "python benchmarks/quality.py output=DIR data=folder data.root=DIR"
UNUSED = ("trainer.max_epochs", "trainer.max_steps", "early_stopping", "test", "logger", "init_ckpt", "ckpt_path")
TRIAL_STEPS = 4  # the first of which warms up


@dataclass(frozen=True)
class Options:
    """What the command line says beside the settings of a training."""

    output: Path
    images: int = 2000
    networks: tuple[str, ...] = NETWORKS
    seeds: tuple[int, ...] = (0,)
    max_minutes: float = 60.0

    def __post_init__(self) -> None:
        if self.images < 1:
            raise UserError(f"images={self.images} must be 1 or more.")
        if not all(0 <= seed < 2**32 for seed in self.seeds) or len(set(self.seeds)) < len(self.seeds):
            raise UserError(f"seeds={list(self.seeds)} must be at least 0 and below 2**32, each once.")
        known = [*groups()["model"], *recipes(128)]
        for name in self.networks:
            if name not in known:
                raise UserError(f"networks={name} is unknown: {nearest(name, known, '')}")


@dataclass(frozen=True)
class Candidate:
    """A network to be trained; ``about`` says how it is built and what it weighs."""

    build: Callable[[], EncoderDecoder]
    about: Mapping[str, Any]


def main(argv: Sequence[str]) -> int:
    """Trains what is not trained yet, then prints the table; exit codes are those of ``lungseg``."""
    if any(flag in argv for flag in ("-h", "--help")):
        print(__doc__)
        return 0
    words, debug = without_debug(argv)
    return exit_code(partial(_run, words), lambda: "Finished trainings are kept: the same command goes on.", debug)


def _run(words: Sequence[str]) -> int:
    known = [field.name for field in fields(Options)]
    options = parse([word for word in words if word.partition("=")[0] in known], Options, "quality.py", USAGE)
    chosen = _with_defaults([word for word in words if word.partition("=")[0] not in known], known)
    if is_predictions(options.output):
        raise UserError(f"output={options.output} holds a prediction: give another folder.")
    with (
        claimed(options.output),
        messages(Console(), options.output / "log.txt"),
        faults_said(options.output),
        quiet_libraries(),
        interruptible(),
    ):
        bench = _read(chosen, options.output)
        keep_settings(bench)
        candidates, left_out = _candidates(options.networks, chosen, bench)
        results = [one for seed in options.seeds for one in _of_seed(bench, candidates, left_out, options, seed)]
        _report(bench, candidates, results, left_out, options)
    return 0


def _with_defaults(words: Sequence[str], known: Sequence[str]) -> list[str]:
    """The settings of a training, with this benchmark's own defaults; none is a misspelt option of the benchmark."""
    for word in words:
        key = word.partition("=")[0]
        if key.partition(".")[0] in ("model", "seed"):
            raise UserError(f"{word} is chosen by networks=... and seeds=... here.")
        if key in UNUSED:
            raise UserError(f"{word} says nothing here: images=... is how long a training lasts, and each is judged at its end.")
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.8)
        if near:
            raise UserError(f"{key} is no option of quality.py: did you mean {near[0]}?")
    generated = not any(word.startswith("data=") and word != "data=phantom" for word in words)
    return ["preprocess.size=128", *([] if generated else ["data.folds=5"]), *words]


def _composed(words: Sequence[str]) -> dict[str, Any]:
    try:
        with initialize_config_dir(str(config_folder()), version_base="1.3"):
            return plain(compose("config", [quoted(word) for word in words]))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(sentence(error, words)) from error


def _read(words: Sequence[str], output: Path) -> Bench:
    shared = job(_composed(words), "quality.py")
    data = LungDataModule(shared.source.split(), shared.preprocess, shared.augmentation, shared.loader)
    data.setup("fit")
    refuse_leaks(data.caches)
    log.info(described(data.caches))
    return Bench(shared, data, output)


def _candidates(names: Sequence[str], words: Sequence[str], bench: Bench) -> tuple[dict[str, Candidate], dict[str, str]]:
    """The networks, the reference first, and why others are not among them."""
    foreign, own, left_out = recipes(bench.job.preprocess.size), groups()["model"], {}
    found: dict[str, Candidate] = {}
    for name in dict.fromkeys((REFERENCE, *names)):
        if name in own:
            net = job(_composed([*words, f"model={name}"]), "quality.py").net
            arguments = {key: value for key, value in net.items() if key != "class"}
            build: Callable[[], EncoderDecoder] = partial(build_net, net)
            about = {"package": "lungseg", "class": net["class"], "arguments": arguments}
        else:
            recipe = foreign[name]
            if recipe.installed() is None:
                left_out[name] = f'{recipe.package} is not installed; pip install -e ".[benchmark]"'
                continue
            build = recipe.build
            package = f"{recipe.package} {recipe.installed()}"
            about = {"package": package, "class": recipe.target, "arguments": recipe.plain_arguments()}
        found[name] = Candidate(build, about | bench.kept(name, partial(_weighed, bench, build)))
        log.info(_said(name, found[name].about, bench.job.preprocess.size))
    for name, reason in left_out.items():
        log.warning(f"{name} is left out: {reason}")
    return found, left_out


def _weighed(bench: Bench, build: Callable[[], EncoderDecoder]) -> dict[str, Any]:
    net, size = build(), bench.job.preprocess.size
    unused, cost = unused_parameters(net, size), multiply_adds(net, size)
    _, clock = trained(bench, build, TRIAL_STEPS, seed=0, said="")
    return {
        "parameters": parameter_count(net),
        "parameters_unused": unused,
        "multiply_adds": cost,
        "trial_step_seconds": clock.step_seconds,
    }


def _said(name: str, about: Mapping[str, Any], size: int) -> str:
    return (
        f"{name}: {about['parameters'] / 1e6:.2f} M parameters, {about['multiply_adds'] / 1e9:.2f} G multiply-adds for a slice of "
        f"{size} x {size}, {about['trial_step_seconds']:.2f} s a step in a trial"
    )


def _of_seed(
    bench: Bench, candidates: Mapping[str, Candidate], left_out: dict[str, str], options: Options, seed: int
) -> list[dict[str, Any]]:
    """The trainings of all networks by both budgets."""
    steps = bench.steps(options.images)
    estimates = {name: steps * candidate.about["trial_step_seconds"] for name, candidate in candidates.items()}
    slow = [name for name, seconds in estimates.items() if seconds > 60 * options.max_minutes]
    if REFERENCE in slow:
        raise UserError(
            f"{REFERENCE} alone would take about {spoken(estimates[REFERENCE])}: choose a larger max_minutes or fewer images."
        )
    for name in slow:
        about = f"it would take about {spoken(estimates[name])}, and max_minutes is {options.max_minutes:g}"
        left_out[f"{name}, equal images"] = about
        log.warning(f"{name} is left out of equal images: {about}.")
    total = sum(estimates[name] for name in candidates if name not in slow) + (len(candidates) - 1) * estimates[REFERENCE]
    log.info(f"Seed {seed}: {steps} steps for equal images; all trainings take about {spoken(total)}, less what is done already.")

    results = []
    seconds = 0.0  # the reference comes first and says how many
    for name, candidate in candidates.items():
        pace = candidate.about["trial_step_seconds"]
        if name not in slow:
            one = _result(bench, name, candidate, steps, seed)
            results.append({"budget": "equal images", **one})
            pace = one["step_seconds"]
        seconds = seconds or steps * pace
        results.append({"budget": "equal seconds", **_result(bench, name, candidate, max(1, round(seconds / pace)), seed)})
    return results


def _result(bench: Bench, name: str, candidate: Candidate, steps: int, seed: int) -> dict[str, Any]:
    """A training's result, from its file if it is finished already."""

    def make() -> dict[str, Any]:
        module, clock = trained(bench, candidate.build, steps, seed, f"{name}, seed {seed}")
        figures = judged(bench, module)
        counted = {"steps": steps, "images": clock.images, "last_lr": clock.last_lr}
        timed = {"seconds": clock.seconds, "step_seconds": clock.step_seconds, "load": load_average()}
        return {"network": name, "seed": seed, **counted, **timed, "figures": figures}

    return bench.kept(f"{name}-{steps}steps-seed{seed}", make)


def _report(
    bench: Bench,
    candidates: Mapping[str, Candidate],
    results: Sequence[Mapping[str, Any]],
    left_out: Mapping[str, str],
    options: Options,
) -> None:
    networks = {name: dict(candidate.about) for name, candidate in candidates.items()}
    rows = summary(results, networks, REFERENCE)
    size, many = bench.job.preprocess.size, "s" if len(options.seeds) > 1 else ""
    limits = (
        f"No claim beyond this budget: {bench.steps(options.images)} steps, or as many seconds as {REFERENCE} takes for them, at "
        f"{size} x {size}, {len(options.seeds)} seed{many}, with lungseg's own settings; the other networks' makers train them "
        "longer and otherwise."
    )
    notes = [f"Left out: {name}: {reason}." for name, reason in left_out.items()]
    if any(case.patient is None for case in bench.data.split.val):
        notes.append("Where no patient is known an image counts as one: where a person has several, intervals are too narrow.")
    others = max(one["load"] or 0.0 for one in results) - torch.get_num_threads()
    if others > 1:
        notes.append(
            f"Other programs were at work (up to {others:.0f} at a time): seconds, and so equal seconds, are not to be trusted."
        )
    below = "\n".join(["", limits, *notes])
    record = {
        "limits": limits,
        **settings(bench),
        "images": options.images,
        "seeds": list(options.seeds),
        "networks": networks,
        "left_out": dict(left_out),
        "summary": rows,
        "results": results,
    }
    write_text(options.output / "quality.json", json.dumps(record, indent=1, allow_nan=False))
    write_text(options.output / "quality.md", f"{as_markdown(rows, REFERENCE)}\n{below}\n")
    print(f"{as_screen(rows, REFERENCE)}\n{below}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
