"""``lungseg train --multirun``: every job checked before the first, each in a process of its own, ranked at the end."""

import json
import os
import random
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from lungseg.commands.compose import through_hydra
from lungseg.commands.exits import PARTLY, REFUSED
from lungseg.commands.folders import (
    as_typed,
    claimed,
    difference,
    from_here,
    newest,
    other_settings,
    predict_command,
    read_config,
    remove_empty,
    write_config,
)
from lungseg.commands.plan import SHUFFLE_SEED, Plan, planned
from lungseg.commands.rank import FULL, RANK, TEST_ONLY, UNTESTED
from lungseg.config import GROUPS, VALUES, job
from lungseg.errors import UserError, count_of
from lungseg.evaluation.jobs import read_json
from lungseg.evaluation.outcomes import FINISHED, Outcome, as_csv, as_table, chosen, ious, mean_iou, outcome_of, ranked
from lungseg.evaluation.sweeps import REPEATS
from lungseg.evaluation.tables import PLAN
from lungseg.files import write_text
from lungseg.log import messages
from lungseg.signatures import setting
from lungseg.training.launch import RunFailed, end_with, launch, rank_count
from lungseg.training.state import STATE


class Sweep:
    """A grid of jobs, in numbered folders of their own.

    Hydra is called twice: to learn what the jobs will be, so that all of them are checked before the first, and to let its launcher
    run them. What then runs is the config that was checked, which lies in each job's folder.
    """

    def __init__(self, argv: Sequence[str], command: str) -> None:
        self.argv, self.command = argv, command
        self.plan: Plan | None = None  # once something is written

    def run(self) -> int:
        plan = planned(self.argv)
        if plan.resumes:
            plan = replace(plan, folder=_folder_to_go_on_with(plan))
        _check_sources(plan)
        try:
            with claimed(plan.folder):
                _refuse_what_would_be_lost(plan)
                self.plan = plan
                self._keep_plan(plan)
                return self._finished(plan, self._launched(plan))
        finally:
            remove_empty(plan.folder)  # if it was refused

    def kept(self) -> str:
        """What an interruption leaves, and how to go on."""
        if self.plan is None:
            return "Nothing had been started."
        done = sum(one.status == FINISHED for one in _outcomes(self.plan))
        return (
            f"{done} of {len(self.plan.jobs)} jobs are finished in {from_here(self.plan.folder)}, the others keep their epochs; "
            "repeat the command with sweep.resume=true to go on."
        )

    def _keep_plan(self, plan: Plan) -> None:
        before = read_json(plan.folder / PLAN).get("jobs", []) if (plan.folder / PLAN).is_file() else []
        left = [entry["folder"] for entry in before if entry["folder"] not in {one.place for one in plan.jobs}]
        jobs = [{"job": one.number, "folder": one.place, "overrides": one.words} for one in plan.jobs]
        write_text(plan.folder / PLAN, json.dumps({"command": self.command, "jobs": jobs}, indent=1))
        for one in plan.jobs:
            write_config(plan.folder / one.place, one.config)
        print(f"{len(jobs)} job{'s' if len(jobs) > 1 else ''}, all checked, in {from_here(plan.folder)}", flush=True)
        if left:
            print(
                f"Jobs of an earlier command are no part of the sweep any more, and stay in their folders: {', '.join(left)}",
                flush=True,
            )

    def _launched(self, plan: Plan) -> str | None:
        """Lets Hydra's launcher run the jobs; gives what is to be said if the launcher itself failed."""
        random.seed(SHUFFLE_SEED)
        try:
            through_hydra([*self.argv, f"hydra.sweep.dir={plan.folder}"], _job_task(plan.folder, self.command, os.getpid()))
        except Exception as error:  # jobs keep theirs, so that this is the launcher's; what they have done is kept
            return f"the launcher failed ({type(error).__name__}: {str(error).strip().partition(chr(10))[0]})"
        return None

    def _finished(self, plan: Plan, launcher_failed: str | None) -> int:
        """Ranks the choices, opens the Test set for the best, and says what was found."""
        outcomes, repeats = _outcomes(plan), REPEATS if _judge_other_patients(plan) else ()
        choices = ranked(outcomes, repeats)
        best = choices[0] if choices else []
        wrong = [f"job {one.job} ({' '.join(one.words)}) {one.status}: {one.error}" for one in outcomes if one.status != FINISHED]
        unfinished = len(wrong)
        if launcher_failed:
            wrong.append(launcher_failed)
        waits = bool(repeats and unfinished)  # another choice may be the best once it has the same patients
        asked = {one.job: read_config(one.folder)["test"] for jobs in choices for one in jobs if one.test_iou is None}
        for one in (one for jobs in choices for one in jobs if one.job in asked):
            if asked[one.job] == "always" or (asked[one.job] == "best" and one in best and not waits):
                try:
                    launch(RANK, one.folder, [self.command, TEST_ONLY, "", ""], ranks=1)
                except RunFailed as failure:
                    wrong.append(f"the Test set could not be opened for job {one.job}: {failure}")
        outcomes = _outcomes(plan)
        choices = ranked(outcomes, repeats)
        outcomes = [*(one for jobs in choices for one in jobs), *(one for one in outcomes if one.status != FINISHED)]
        write_text(plan.folder / "sweep.csv", as_csv(outcomes))
        print(f"\n{as_table(outcomes)}\n")
        tested = [one for one in outcomes if one.test_iou is not None]
        if tested:
            print(f"  Test set         opened for {_jobs(tested)}")
        if waits and "best" in asked.values():
            print("  Test set         stays closed for the best choice until all jobs are finished")
        if repeats and choices:
            self._say_choice(choices, repeats)
        elif best:
            print(f"  best checkpoint  {from_here(best[0].folder / 'checkpoints' / 'best.ckpt')}  ({_jobs(best)})")
            print(f"  predict with     {predict_command(best[0].folder, self.command)}")
        print(f"  table            {from_here(plan.folder / 'sweep.csv')}")
        print(f"  curves           tensorboard --logdir {as_typed(plan.folder)}")
        print(f"  compared         lungseg report {as_typed(plan.folder)}", flush=True)
        for said in wrong:
            print(f"Error: {said}", file=sys.stderr)
        if unfinished:
            print(
                f"{unfinished} of {len(outcomes)} did not finish; sweep.resume=true added to the command tries again.",
                file=sys.stderr,
            )
        return PARTLY if choices and wrong else 0 if choices else REFUSED

    def _say_choice(self, choices: Sequence[Sequence[Outcome]], repeats: Sequence[str]) -> None:
        """Of jobs that judge other patients each none is the best: the one with the easiest patients has the highest score."""
        best = choices[0]
        if len(choices) > 1:
            print(f"  best choice      {' '.join(chosen(best[0], repeats))}  ({_jobs(best)})")
        scores = ious(best)
        spread = f"{mean_iou(best):.4f}, {min(scores):.4f} to {max(scores):.4f}" if scores else "none"
        print(
            f"  mean val/iou     {spread}; of {count_of(len(best), 'job')}, not all judged on the same patients: none is the best"
        )


def _folder_to_go_on_with(plan: Plan) -> Path:
    """The newest sweep below ``multirun``, or just where ``hydra.sweep.dir`` says."""
    sweeps = [plan.folder] if plan.chosen or (plan.folder / PLAN).is_file() else newest("multirun", PLAN)
    if not sweeps or not (sweeps[0] / PLAN).is_file():
        raise UserError("sweep.resume=true finds no sweep, here or where hydra.sweep.dir says: nothing to go on with.")
    return sweeps[0].resolve()


def _check_sources(plan: Plan) -> None:
    """That the files of each source are there and can be divided, before the first job; what is odd about them, the jobs say.

    Raises:
        UserError: a job would not find its data.
    """
    known = set()
    for one in plan.jobs:
        source = json.dumps({key: value for key, value in one.config["data"].items() if key != "fold"}, sort_keys=True)
        if source in known:
            continue
        known.add(source)
        try:
            with messages(None):
                job(one.config, "").source.split()
        except UserError as error:
            raise UserError(f"job {one.number} ({' '.join(one.words)}) cannot run: {error} No job was started.") from error


def _refuse_what_would_be_lost(plan: Plan) -> None:
    if plan.resumes:
        settings = [name for name in (*GROUPS, *VALUES) if name not in ("sweep", "test")]
        for one in plan.jobs:
            name = difference(one.config, plan.folder / one.place, settings)
            if name is not None and (plan.folder / one.place / "checkpoints").exists():  # else it has learnt nothing yet
                raise other_settings(plan.folder / one.place, name)
    elif (plan.folder / PLAN).exists():
        raise UserError(
            f"{from_here(plan.folder)} holds a sweep already: go on by sweep.resume=true, or choose another hydra.sweep.dir."
        )


def _judge_other_patients(plan: Plan) -> bool:
    """Whether repeats of a choice have other patients to validate, so that their scores are no match for each other."""
    return any(len({str(setting(one.config, name)) for one in plan.jobs}) > 1 for name in REPEATS if name != "seed")


def _jobs(outcomes: Sequence[Outcome]) -> str:
    return f"job{'s' if len(outcomes) > 1 else ''} {', '.join(str(one.job) for one in outcomes)}"


def _outcomes(plan: Plan) -> list[Outcome]:
    return [outcome_of(plan.folder / one.place, one.number, one.words) for one in plan.jobs]


def _job_task(sweep: Path, command: str, sweeper: int) -> Any:
    """What Hydra's launcher calls for every job, perhaps in another process than the sweeper's."""

    def task(_config: DictConfig) -> float | None:
        from hydra.core.hydra_config import HydraConfig

        number, beside_others = int(HydraConfig.get().job.num), os.getpid() != sweeper
        if beside_others and os.getppid() == sweeper:
            end_with(sweeper)
        return run_job(sweep, number, command, f"job {number}: " if beside_others else "")

    return task


def run_job(sweep: Path, number: int, command: str, prefix: str) -> float | None:
    """One job of a sweep in a process of its own, so that whatever befalls it stays there; gives its ``val/iou``.

    Args:
        prefix: before each of its lines, to tell them from those of other jobs.
    """
    plan = json.loads((sweep / PLAN).read_text(encoding="utf-8"))
    entry = next(one for one in plan["jobs"] if one["job"] == number)
    folder, words = sweep / entry["folder"], entry["overrides"]
    before = outcome_of(folder, number, words)
    title = f"job {number} ({' '.join(words)})"
    if before.status == FINISHED:
        print(f"{title} is finished already", flush=True)
        return before.val_iou
    print(f"\n{title}", flush=True)
    began = time.perf_counter()
    record: dict[str, Any] = {"status": FINISHED, "exit_code": 0, "error": ""}
    try:
        config = read_config(folder)
        part = FULL if config["test"] == "always" else UNTESTED
        state = str(folder / STATE) if (folder / STATE).is_file() else ""
        launch(RANK, folder, [command, part, state, prefix], rank_count(config["trainer"]))
    except UserError as error:
        code = error.code if isinstance(error, RunFailed) else REFUSED
        record = {"status": "failed", "exit_code": code, "error": str(error)}
    except Exception as error:  # a fault of the program, which is not to take the other jobs along
        traceback.print_exc()
        record = {"status": "failed", "exit_code": PARTLY, "error": f"a fault of the program ({type(error).__name__}), see above."}
    if record["error"]:
        print(f"Error: {title} failed: {record['error']}", file=sys.stderr, flush=True)
    seconds = time.perf_counter() - began
    write_text(folder / "job.json", json.dumps({"job": number, "overrides": words, "seconds": seconds, **record}, indent=1))
    return outcome_of(folder, number, words).val_iou
