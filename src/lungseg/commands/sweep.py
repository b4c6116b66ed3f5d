"""``lungseg train --multirun``: every job checked before the first, each in a process of its own, ranked at the end."""

import json
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, cast

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from lungseg.commands.compose import plain, sentence, through_hydra
from lungseg.commands.exits import PARTLY, REFUSED
from lungseg.commands.folders import RESUMED_SECTIONS, as_typed, check_same, from_here, newest_folder, predict_command
from lungseg.commands.rank import FULL, RANK, TEST_ONLY, UNTESTED
from lungseg.config import job
from lungseg.errors import UserError
from lungseg.files import write_text
from lungseg.origins import located
from lungseg.training.launch import RunFailed, launch, rank_count
from lungseg.training.sweep import FINISHED, Outcome, as_csv, as_table, outcome_of, ranked

PLAN = "sweep.json"
# Of Hydra's shuffled choices, so that a sweep that is gone on with has the same jobs under the same numbers.
SHUFFLE_SEED = 0


@dataclass(frozen=True)
class Planned:
    """A job of a sweep before it has run: ``words`` are its values of what the sweep varies."""

    number: int
    folder: Path
    words: tuple[str, ...]
    config: dict[str, Any]


class Sweep:
    """A grid of jobs, in numbered folders of their own.

    Hydra is called twice: to learn what the jobs will be, so that all of them are checked before the first, and to let its launcher
    run them. What then runs is the config that was checked, which lies in each job's folder.
    """

    def __init__(self, argv: Sequence[str], command: str) -> None:
        self.argv, self.command = list(argv), command
        self.folder: Path | None = None  # once something is written into it
        self.jobs: list[Planned] = []

    def run(self) -> int:
        self._refuse_what_cannot_be_swept()
        resumes = any(word.lower() == "sweep.resume=true" for word in self.argv)
        if resumes:
            earlier = newest_folder(self.argv, "hydra.sweep.dir", "multirun", PLAN)
            if earlier is None:
                raise UserError("sweep.resume=true finds no sweep, here or where hydra.sweep.dir says: nothing to go on with.")
            self.argv.append(f"hydra.sweep.dir={earlier}")
        random.seed(SHUFFLE_SEED)
        folder, jobs = self._planned()
        self._refuse_what_would_be_lost(folder, jobs, resumes)
        for planned in jobs:
            write_text(planned.folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(planned.config)))
        plan = [{"job": one.number, "folder": one.folder.name, "overrides": one.words} for one in jobs]
        write_text(folder / PLAN, json.dumps({"command": self.command, "jobs": plan}, indent=1))
        self.folder, self.jobs = folder, jobs
        print(f"{len(jobs)} job{'s' if len(jobs) > 1 else ''}, all checked, in {from_here(folder)}", flush=True)
        random.seed(SHUFFLE_SEED)
        code = through_hydra([*self.argv, f"hydra.sweep.dir={folder}"], _job_task(self.command))
        return code or self._finished()

    def kept(self) -> str:
        """What an interruption leaves, and how to go on."""
        if self.folder is None:
            return "Nothing had been started."
        done = sum(one.status == FINISHED for one in self._outcomes())
        return (
            f"{done} of {len(self.jobs)} jobs are finished in {from_here(self.folder)}, the others keep their epochs; "
            "repeat the command with sweep.resume=true to go on."
        )

    def _refuse_what_cannot_be_swept(self) -> None:
        if "ckpt_path=last" in self.argv:
            raise UserError("ckpt_path=last goes on with a single run; a sweep goes on with sweep.resume=true.")

    def _planned(self) -> tuple[Path, list[Planned]]:
        try:
            code = through_hydra([*self.argv, f"+hydra.callbacks.lungseg_plan._target_={__name__}.Plan"], _job_task(self.command))
        except _Answer as answer:
            if isinstance(answer.value, Exception):
                raise answer.value from None
            return cast(tuple[Path, list[Planned]], answer.value)
        raise UserError(f"the sweep could not be planned (Hydra ended with {code}).")

    def _refuse_what_would_be_lost(self, folder: Path, jobs: Sequence[Planned], resumes: bool) -> None:
        if len({one.folder for one in jobs}) < len(jobs):
            raise UserError("hydra.sweep.subdir gives two jobs the same folder; leave it, or use ${hydra.job.num} in it.")
        if resumes:
            for one in jobs:
                check_same(one.config, one.folder / "config.yaml", (*RESUMED_SECTIONS, "trainer", "loader", "early_stopping"))
        elif any((one.folder / "config.yaml").exists() for one in jobs) or (folder / PLAN).exists():
            raise UserError(f"{folder} holds a sweep already: go on by sweep.resume=true, or choose another hydra.sweep.dir.")

    def _outcomes(self) -> list[Outcome]:
        return [outcome_of(one.folder, one.number, one.words) for one in self.jobs]

    def _finished(self) -> int:
        """Ranks the jobs, opens the Test set for the best, and says what was found."""
        assert self.folder is not None
        outcomes = ranked(self._outcomes())
        finished = [one for one in outcomes if one.status == FINISHED]
        failed = [one for one in outcomes if one.status != FINISHED]
        untested = None
        if finished:
            best = next(one for one in self.jobs if one.number == finished[0].job)
            if best.config["test"] == "best" and finished[0].test_iou is None:
                try:
                    launch(RANK, best.folder, [self.command, TEST_ONLY, ""], ranks=1)
                except UserError as error:
                    untested = f"the Test set could not be opened for job {best.number}: {error}"
                outcomes = ranked(self._outcomes())
        write_text(self.folder / "sweep.csv", as_csv(outcomes))
        print(f"\n{as_table(outcomes)}\n")
        if finished:
            if finished[0].test_iou is None and best.config["test"] == "best" and not untested:
                print(f"  Test set         opened once, for job {best.number}")
            print(f"  best checkpoint  {from_here(best.folder / 'checkpoints' / 'best.ckpt')}  (job {best.number})")
            print(f"  predict with     {predict_command(best.folder, self.command)}")
        print(f"  table            {from_here(self.folder / 'sweep.csv')}")
        print(f"  curves           tensorboard --logdir {as_typed(self.folder)}")
        for one in failed:
            print(f"Error: job {one.job} ({' '.join(one.words)}) {one.status}: {one.error}", file=sys.stderr)
        if untested:
            print(f"Error: {untested}", file=sys.stderr)
        if failed:
            print(
                f"{len(failed)} of {len(outcomes)} did not finish; sweep.resume=true added to the command tries again.",
                file=sys.stderr,
            )
        return REFUSED if not finished else PARTLY if failed or untested else 0


def _job_task(command: str) -> Any:
    """What Hydra's launcher calls for every job, perhaps in another process."""

    def task(config: DictConfig) -> float | None:
        from hydra.core.hydra_config import HydraConfig

        hydra = HydraConfig.get()
        return run_job(Path(hydra.runtime.output_dir), int(hydra.job.num), command)

    return task


def run_job(folder: Path, number: int, command: str) -> float | None:
    """One job of a sweep in a process of its own, so that whatever befalls it stays there; gives its ``val/iou``."""
    words = next(one["overrides"] for one in json.loads((folder.parent / PLAN).read_text())["jobs"] if one["job"] == number)
    before = outcome_of(folder, number, words)
    title = f"job {number} ({' '.join(words)})"
    if before.status == FINISHED:
        print(f"{title} is finished already")
        return before.val_iou
    config = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(folder / "config.yaml")))
    state = folder / "checkpoints" / "last.ckpt"
    part = FULL if config["test"] == "always" else UNTESTED
    print(f"\n{title}", flush=True)
    began = time.perf_counter()
    try:
        launch(RANK, folder, [command, part, str(state) if state.is_file() else ""], rank_count(config["trainer"]))
    except RunFailed as failure:
        print(f"Error: {title} failed: {failure}", file=sys.stderr, flush=True)
        record = {"status": "failed", "exit_code": failure.code, "error": str(failure)}
    else:
        record = {"status": FINISHED, "exit_code": 0, "error": ""}
    seconds = time.perf_counter() - began
    write_text(folder / "job.json", json.dumps({"job": number, "overrides": words, "seconds": seconds, **record}, indent=1))
    return outcome_of(folder, number, words).val_iou


class _Answer(BaseException):
    """Carries a plan, or what stood against it, past Hydra, which would turn an Exception of a callback into a warning."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


class Plan(Callback):
    """Called by Hydra between composing a sweep and running it, and goes no further."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> NoReturn:
        try:
            value: Any = _plan(config)
        except Exception as error:
            value = error
        raise _Answer(value)


def _plan(config: DictConfig) -> tuple[Path, list[Planned]]:
    """The folder of a sweep and its jobs, as Hydra's basic sweeper and launchers will make them, each checked."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    if not str(config.hydra.sweeper._target_).endswith(".BasicSweeper"):
        raise UserError("only Hydra's basic sweeper is supported: grids, choices and ranges, which can be checked beforehand.")
    loader = GlobalHydra.instance().config_loader()
    texts = [*(f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()), *config.hydra.overrides.task]
    overrides = OverridesParser.create(config_loader=loader).parse_overrides(texts)
    swept = {override.get_key_element() for override in overrides if override.is_sweep_override()}
    (jobs,) = BasicSweeper.split_arguments(overrides, None)
    planned = []
    for number, words in enumerate(jobs):
        varied = tuple(word for word in words if word.partition("=")[0] in swept)
        try:
            composed = loader.load_sweep_config(config, words)
            folder = _place(composed, number)
            settings = plain(OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"]))
            job(settings, "")
            rank_count(settings["trainer"])
        except (UserError, HydraException) as error:
            why = located(error, words) if isinstance(error, UserError) else sentence(error, words)
            raise UserError(f"job {number} ({' '.join(varied)}) cannot run: {why} No job was started.") from error
        planned.append(Planned(number, folder, varied, settings))
    return Path(str(config.hydra.sweep.dir)).resolve(), planned


def _place(composed: DictConfig, number: int) -> Path:
    """The folder that Hydra will give a job; from here on ``${hydra:...}`` speaks of this job."""
    from hydra.core.hydra_config import HydraConfig

    with open_dict(composed):
        composed.hydra.job.id = composed.hydra.job.num = number
    HydraConfig.instance().set_config(composed)
    folder = (Path(str(composed.hydra.sweep.dir)) / str(composed.hydra.sweep.subdir)).resolve()
    with read_write(composed.hydra.runtime), open_dict(composed.hydra.runtime):
        composed.hydra.runtime.output_dir = str(folder)
    return folder
