"""Sweeps as they lie in their folders: what their jobs vary, which of them are repeats of one choice, and what is missing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lungseg.errors import UserError
from lungseg.evaluation.jobs import NEEDED, Job, read_job, read_json, read_yaml
from lungseg.evaluation.outcomes import FINISHED, Outcome, outcome_of
from lungseg.evaluation.tables import PLAN
from lungseg.log import log
from lungseg.signatures import setting

# What differs between the repeats of a choice: chance, and which patients validate.
PATIENTS = "data.val_patients"  # whose values are nobody's to read in a report
REPEATS = ("seed", "data.seed", "data.fold", "data.split_seed", PATIENTS)
# What may differ between folders and decides nothing of what is learnt.
NEUTRAL = ("ckpt_path", "sweep", "test", "logger", "loader.num_workers", "loader.cache", "loader.cache_folder", "trainer.devices")
# What a reader wants to know of what was the same for all, beside the options of the groups.
TOLD = (
    "preprocess.size",
    "preprocess.normalisation",
    "trainer.max_epochs",
    "trainer.limit_train_batches",
    "trainer.precision",
    "loader.batch_size",
    "optimization.lr",
    "optimization.ema_decay",
    "early_stopping",
    "data.balance",
    "data.folds",
)
UNTOLD_GROUPS = ("experiment", "logger")


@dataclass(frozen=True)
class Sweeps:
    """What lies in one sweep's folder, or in several that are looked at together.

    Attributes:
        jobs: the finished ones, one for each choice and repeat.
        planned: how many there are to be.
        varied: the settings that differ between choices, each with its values.
        repeats: the same of ``REPEATS``.
        fixed: what was the same for all of what a reader wants to know.
        missing: a sentence for each job that is not among ``jobs``, failed and unreadable ones first.
    """

    jobs: tuple[Job, ...]
    planned: int
    varied: dict[str, tuple[str, ...]]
    repeats: dict[str, tuple[str, ...]]
    fixed: dict[str, str]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class _Planned:
    """A job as its sweep has planned it, whether it has ended or not."""

    name: str
    outcome: Outcome
    words: dict[str, str]
    config: dict[str, Any]
    chosen: dict[str, str]  # options of config groups that no word varies


def read_sweeps(folders: Sequence[Path]) -> Sweeps:
    """Reads sweeps, also while they run; of a job that cannot be read a warning says why.

    Raises:
        UserError: a folder holds no sweep, or no job can be read.
    """
    unread: dict[str, UserError] = {}
    planned = [job for folder in folders for job in _planned(folder, len(folders) > 1, unread)]
    if not planned:
        raise next(iter(unread.values()))
    names = list(dict.fromkeys([*(name for job in planned for name in job.words), *_between_folders(planned), *REPEATS]))
    values = [{name: _value(job, name) for name in names} for job in planned]
    several = [name for name in names if len({one[name] for one in values}) > 1]
    jobs: dict[tuple[object, ...], Job] = {}
    failed: list[str] = []
    missing: list[str] = []
    for job, named in zip(planned, values, strict=True):
        if job.outcome.status != FINISHED:
            words = " ".join(f"{name}={named[name]}" for name in several if name in job.words and name != PATIENTS)
            # The error itself may name patients and files, and is nobody's to read in a report.
            why = "; job.json in its folder says why" if job.outcome.error else ""
            (failed if why else missing).append(f"{job.name}{f' ({words})' if words else ''} {_status(job.outcome)}{why}")
            continue
        settings = {name: named[name] for name in several if name not in REPEATS}
        repeat = tuple(_written(setting(job.config, name)) for name in REPEATS)
        key = (*settings.values(), *repeat)
        if key in jobs:
            missing.append(f"{job.name} repeats {jobs[key].name} and is left out")
        else:
            try:
                jobs[key] = read_job(job.name, job.outcome.folder, settings, repeat)
            except UserError as error:
                unread[job.name] = error
    if unread and not (jobs or failed or missing):
        raise next(iter(unread.values()))
    for name, reason in unread.items():
        log.warning(f"{name} is left out: {reason}")
    ordered = {name: tuple(dict.fromkeys(one[name] for one in values)) for name in several}
    return Sweeps(
        tuple(jobs.values()),
        len({job.name for job in planned} | unread.keys()),
        {name: ordered[name] for name in several if name not in REPEATS},
        {name: ordered[name] for name in several if name in REPEATS},
        _fixed(planned, several),
        (*failed, *(f"{name} cannot be read and is left out" for name in unread), *missing),
    )


def choices(jobs: Sequence[Job], settings: Sequence[str]) -> dict[tuple[str, ...], list[Job]]:
    """Jobs by their values of these settings, in the order in which they come."""
    grouped: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        grouped.setdefault(tuple(job.settings[name] for name in settings), []).append(job)
    return grouped


def _planned(sweep: Path, several: bool, unread: dict[str, UserError]) -> Iterator[_Planned]:
    """The jobs of a sweep; those of which nothing can be known go into ``unread``."""
    if not (sweep / PLAN).is_file():
        raise _no_sweep(sweep)
    jobs = read_json(sweep / PLAN).get("jobs")
    if not jobs:
        raise UserError(f"{sweep / PLAN} names no job: {NEEDED}.")
    whole = sweep / "multirun.yaml"  # Hydra's own, with the options of all groups
    hydra = (read_yaml(whole) if whole.is_file() else {}).get("hydra", {})
    chosen = {str(group): str(option) for group, option in hydra.get("runtime", {}).get("choices", {}).items()}
    for entry in jobs:
        folder = sweep / entry["folder"]
        words = dict(word.lstrip("+").split("=", 1) for word in entry["overrides"])
        name = f"job {entry['job']}" + (f" of {sweep.name}" if several else "")
        try:
            if not folder.is_dir():
                raise UserError(f"the folder {folder} is missing; if it was renamed, give it this name again.")
            outcome, config = outcome_of(folder, entry["job"], entry["overrides"]), read_yaml(folder / "config.yaml")
        except UserError as error:
            unread[name] = error
        else:
            yield _Planned(name, outcome, words, config, chosen)


def _no_sweep(folder: Path) -> UserError:
    """What a folder is that is no sweep's, and what to do with it."""
    above = folder.resolve().parent
    if not folder.is_dir():
        return UserError(f"{folder} is no folder: {NEEDED}.")
    if (above / PLAN).is_file():
        return UserError(f"{folder} is a part of a sweep: give the sweep's folder, {above}.")
    if (folder / "config.yaml").is_file():
        return UserError(
            f"{folder} is a single training and no sweep: its scores are in its metrics.json once it is finished, and "
            "lungseg compare sets two trainings side by side."
        )
    return UserError(f"{folder} holds no {PLAN}: {NEEDED}.")


def _status(outcome: Outcome) -> str:
    started = outcome.status != "failed" and (outcome.folder / "history.csv").is_file()
    return "has begun and is not finished" if started else outcome.status


def _between_folders(planned: Sequence[_Planned]) -> list[str]:
    """Settings that no sweep varies but that differ between sweeps, a group by its name."""
    words = {name for job in planned for name in job.words}
    first = planned[0]
    found: dict[str, None] = {}
    for job in planned[1:]:
        if job.chosen is first.chosen:
            continue
        ours, theirs = dict(_leaves(first.config)), dict(_leaves(job.config))
        for key in ours.keys() | theirs.keys():
            group = key.partition(".")[0]
            if ours.get(key) != theirs.get(key) and not any(_within(key, name) for name in (*words, *REPEATS, *NEUTRAL)):
                found[group if first.chosen.get(group) != job.chosen.get(group) else key] = None
    return sorted(found)


def _fixed(planned: Sequence[_Planned], several: Sequence[str]) -> dict[str, str]:
    groups = [name for name in planned[0].chosen if "/" not in name and name not in UNTOLD_GROUPS]
    told = {name: {_value(job, name) for job in planned} for name in (*groups, *TOLD) if name not in several}
    return {name: ", ".join(sorted(values)) for name, values in told.items() if values != {"null"}}


def _leaves(config: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _within(key: str, name: str) -> bool:
    return key == name or key.startswith(f"{name}.")


def _value(job: _Planned, name: str) -> str:
    """A job's value of a setting, as it is typed: its own word, or what its sweep had."""
    if name in job.words:
        return job.words[name].strip("'\"")
    found = setting(job.config, name)
    return job.chosen.get(name, "unknown") if isinstance(found, Mapping) else _written(found)


def _written(value: Any) -> str:
    return {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else str(value)
