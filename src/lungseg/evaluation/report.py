"""What a report of sweeps says: which choices score how, what each setting changes, how fast it is learnt, and what is missing."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from lungseg.errors import count_of
from lungseg.evaluation import pages, plots
from lungseg.evaluation.changes import what_changes
from lungseg.evaluation.convergence import Curve, Run, curve, reached, run_of
from lungseg.evaluation.effects import false_lung, patient_values, score
from lungseg.evaluation.groups import by_kind
from lungseg.evaluation.jobs import Job
from lungseg.evaluation.pages import DIGITS, OF_SCANS, Figure, Part, Plot, Sentences, Table
from lungseg.evaluation.sweeps import PATIENTS, Sweeps, choices
from lungseg.evaluation.tables import Cases
from lungseg.files import write_text, writing, written_whole
from lungseg.metrics.cases import TITLES
from lungseg.metrics.statistics import LEAST_PATIENTS

PLOTS = "plots"
NAMES = ("report.html", "report.md")
LISTED = 8  # jobs that are missing, one by one
NEAR = (0.95, 0.99)  # of the best IoU
SUBTITLE = "Validation alone decides and orders; figures of the Test set, where it was opened, stand in columns of their own."
NOTES = (
    "A figure is the mean over patients and runs; the cases of a patient are averaged first, so that each patient counts once. "
    "The val/iou of a training counts every slice with lung once instead: a scan of many slices weighs more there.",
    "Intervals of 95 % are by bootstrap draws over patients and, where there are several, over runs; few patients or runs stretch "
    f"them as Student's t does, two runs up to sixfold. Those of folds are no narrower than Student's t makes them of the folds' "
    f"means, which differ for the luck of each training too. Fewer than {LEAST_PATIENTS} patients give none.",
    "Each run is scored by its best epoch on the patients that chose the epoch, so that all figures are a little too good, and "
    "differences are what to look at.",
    "One value beats another if the interval of their difference excludes 0 and, unless patients come in several runs, Wilcoxon's "
    "signed rank test over patients agrees (p below 0.05), as in lungseg compare. Of twenty comparisons of equals one "
    "is said to differ.",
    "Seconds are those of the machine as it was; jobs side by side slow each other down.",
)


def write_report(sweeps: Sweeps, title: str, output: Path) -> None:
    """``report.html``, ``report.md`` and the plots of the latter.

    Raises:
        UserError: the output cannot be written.
    """
    grouped = choices(sweeps.jobs, list(sweeps.varied))
    parts = _missing(sweeps)
    if grouped:
        parts += [_choices(sweeps, grouped), *what_changes(sweeps), *_scans(sweeps, grouped), *_convergence(sweeps, grouped)]
        parts += by_kind(_ranked(grouped), list(sweeps.varied))
    parts += [_settings(sweeps), Part("How to read this", "", [Sentences((*_unknown(sweeps), *NOTES), "soft")])]
    figures = _facts(sweeps, grouped)
    drawn = {f"{content.name}.png": content.png for part in parts for content in part.contents if isinstance(content, Plot)}
    earlier = _shown_earlier(output)
    for name, png in drawn.items():
        with written_whole(output / PLOTS / name) as beside:
            beside.write_bytes(png)
    write_text(output / NAMES[1], pages.as_markdown(title, SUBTITLE, figures, parts, PLOTS))
    write_text(output / NAMES[0], pages.as_html(title, SUBTITLE, figures, parts))
    for name in earlier - drawn.keys():
        with writing(output / PLOTS / name):
            (output / PLOTS / name).unlink(missing_ok=True)


def _shown_earlier(output: Path) -> set[str]:
    """The plots of the report that is there; by its own text, for a user's pictures may lie beside them."""
    text = (output / NAMES[1]).read_text(encoding="utf-8", errors="replace") if (output / NAMES[1]).is_file() else ""
    return set(re.findall(rf"\]\({PLOTS}/((?:choices|effects|curves_\w+)\.png)\)", text))


Grouped = Mapping[tuple[str, ...], Sequence[Job]]


def _facts(sweeps: Sweeps, grouped: Grouped) -> list[tuple[str, str, str]]:
    left = sweeps.planned - len(sweeps.jobs)
    patients = {patient for job in sweeps.jobs if job.val for patient in job.val.patients}
    return [
        ("jobs finished", f"{len(sweeps.jobs)} of {sweeps.planned}", "look" if left else ""),
        ("choices", str(len(grouped)), ""),
        ("patients in validation", str(len(patients)), ""),
    ]


def _unknown(sweeps: Sweeps) -> list[str]:
    """What to think of intervals where images have no patient by name."""
    named = (zip(job.val.names, job.val.patients, strict=True) for job in sweeps.jobs if job.val)
    alone = {name for job in named for name, patient in job if name == patient}
    if not alone:
        return []
    said = f"Of {count_of(len(alone), 'validation image')} nobody says whose it is, so that each counts as a patient"
    return [f"{said}: where one has several, intervals are too narrow (data.patient_regex, or a manifest, names them)."]


def _missing(sweeps: Sweeps) -> list[Part]:
    said = list(sweeps.missing[:LISTED])
    if len(sweeps.missing) > LISTED:
        said.append(f"... and {len(sweeps.missing) - LISTED} more")
    untold = [job.name for job in sweeps.jobs if job.val is None]
    if untold:
        said.append(
            f"{', '.join(untold)}: no table of validation cases, so that only val/iou is known; test=best or never keeps one"
        )
    if not said:
        return []
    lead = "All that follows is of the finished jobs; sweep.resume=true added to the sweep's command goes on with the others."
    return [Part("What is missing", lead if sweeps.missing else "", [Sentences(said, "look")])]


def _settings(sweeps: Sweeps) -> Part:
    rows = [(name, "varied", ", ".join(values)) for name, values in sweeps.varied.items()]
    for name, values in sweeps.repeats.items():
        rows.append((name, "repeated", f"{len(values)} choices of patients" if name == PATIENTS else ", ".join(values)))
    rows += [(name, "the same for all", value) for name, value in sweeps.fixed.items()]
    return Part("What was varied and what was not", "", [Table(("setting", "", "values"), rows)] if rows else [])


def _choices(sweeps: Sweeps, grouped: Grouped) -> Part:
    """A row for each choice, the best by validation first."""
    tested = any(job.test is not None for job in sweeps.jobs)
    figures = [figure for figure in DIGITS if figure != "iou" and _has([job.val for job in sweeps.jobs], figure)]
    free = _has([job.val for job in sweeps.jobs], "false_lung_pixels")
    head = [*(sweeps.varied or ["choice"]), "runs", "IoU", "95 % interval"]
    head += ["Test runs", "Test IoU", "Test 95 % interval"] * tested
    head += [*(TITLES[figure] for figure in figures), *["false lung"] * free, "parameters", "seconds", "images"]
    rows, lines = [], []
    for values, jobs in _ranked(grouped):
        mean, first = _iou(jobs), score(_val(jobs), "iou")
        interval = None if first is None else first.interval
        row: list[str | Figure] = [*(values or ["the one"]), Figure(len(jobs), "{:.0f}"), Figure(mean), Figure(interval)]
        if tested:
            test = score([job.test for job in jobs], "iou")
            row.append(Figure(sum(job.test is not None for job in jobs), "{:.0f}"))
            row += [Figure(math.nan if test is None else test.mean), Figure(None if test is None else test.interval)]
        row += [_figure(_val(jobs), figure, DIGITS[figure]) for figure in figures]
        row += [Figure(false_lung(_val(jobs)), "{:.0%}")] * free
        row.append(Figure(_mean(job.metrics.get("parameters", math.nan) for job in jobs) / 1e6, "{:.2f} M"))
        row.append(Figure(_mean(job.metrics.get("seconds", math.nan) for job in jobs), "{:,.0f}"))
        row.append(Figure(_mean(float(np.sum(job.history.get("images", math.nan))) for job in jobs), "{:,.0f}"))
        rows.append(row)
        if not math.isnan(mean):
            label = ", ".join(plots.label(name, value) for name, value in zip(sweeps.varied, values, strict=True))
            lines.append(plots.Line(label, mean, interval))
    lead = "Seeds and folds of a choice are one row, the best by validation first."
    lead += " False lung is the share of slices without lung where some was found." if free else ""
    drawn = [Plot("choices", plots.intervals(lines, "IoU of the validation"), "IoU of each choice with its 95 % interval")]
    return Part("Choices", lead, [Table(head, rows), *(drawn if len(lines) > 1 else [])])


def _scans(sweeps: Sweeps, grouped: Grouped) -> list[Part]:
    """A row for each choice that was judged on whole scans."""
    shown = [figure for figure in OF_SCANS if _has([job.scans for job in sweeps.jobs], figure)]
    rows: list[list[str | Figure]] = []
    for values, jobs in _ranked(grouped):
        tables = [job.scans for job in jobs]
        names = {name for cases in tables if cases is not None for name in cases.names}
        if names:
            figures = [_figure(tables, figure, OF_SCANS[figure]) for figure in shown]
            rows.append([*(values or ["the one"]), Figure(len(names), "{:.0f}"), *figures])
    head = [*(sweeps.varied or ["choice"]), "scans", *(TITLES[figure] for figure in shown)]
    lead = "Scans of the validation, all their voxels together, after the post-processing; the choices in the same order."
    return [Part("Whole scans", lead, [Table(head, rows)])] if rows else []


def _convergence(sweeps: Sweeps, grouped: Grouped) -> list[Part]:
    """Curves of every varied setting, the others averaged, and when each choice came near the best."""
    contents: list[Table | Sentences | Plot] = []
    for setting in sweeps.varied or ("",):
        named = {
            plots.label(setting, value) if setting else "mean of the runs": found
            for value, jobs in _alike(sweeps, setting)
            if (found := _curve(jobs)) is not None
        }
        if len(named) > 1 or (named and not setting):
            what = f"{setting or 'All runs'}: mean, and a band from the lowest to the highest seed or fold"
            what += f"; of jobs that differ in {setting} alone, the other settings averaged" if len(sweeps.varied) > 1 else ""
            contents.append(Plot(f"curves_{_stem(setting)}", plots.curves(named, "val/iou, mean over slices"), what))
    every = [(values, [run for job in jobs if (run := run_of(job)) is not None]) for values, jobs in _ranked(grouped)]
    every = [(values, runs) for values, runs in every if runs]
    if not every:
        return []
    best = max(float(np.mean([run.iou.max() for run in runs])) for _, runs in every)
    head, rows = [*(sweeps.varied or ["choice"]), "runs"], []
    for share in NEAR:
        head += [f"reach {share:.0%}", "epochs", "images", "seconds"]
    for values, runs in every:
        row: list[str | Figure] = [*(values or ["the one"]), Figure(len(runs), "{:.0f}")]
        for share in NEAR:
            when = reached(runs, share * best)
            row += [Figure(when.runs, "{:.0f}"), Figure(when.epochs, "{:.1f}")]
            row += [Figure(when.images, "{:,.0f}"), Figure(when.seconds, "{:,.0f}")]
        rows.append(row)
    lead = (
        f"When runs first reach {' and '.join(f'{share:.0%} ({share * best:.4f})' for share in NEAR)} of {best:.4f}, the highest "
        "mean of a choice's best validations; means over the runs that do. Curves show epochs at which all runs were validated. "
        "All of it is val/iou, a mean over slices, where the tables above are means over patients."
    )
    return [Part("How fast", lead, [*contents, Table(head, rows)])]


def _alike(sweeps: Sweeps, setting: str) -> list[tuple[str, list[Job]]]:
    """The jobs of each value of a setting, those only that every value with a job has alike; of no setting all jobs."""
    if not setting:
        return [("", list(sweeps.jobs))]
    by_value = {
        value: {job.rest(setting): job for job in sweeps.jobs if job.settings[setting] == value} for value in sweeps.varied[setting]
    }
    there = [jobs for jobs in by_value.values() if jobs]
    shared = set.intersection(*(set(jobs) for jobs in there)) if there else set()
    return [(value, [job for rest, job in jobs.items() if rest in shared]) for value, jobs in by_value.items() if jobs]


def _curve(jobs: Sequence[Job]) -> Curve | None:
    repeats: dict[tuple[str, ...], list[Run]] = {}
    for job in jobs:
        run = run_of(job)
        if run is not None:
            repeats.setdefault(job.repeat, []).append(run)
    return curve(repeats.values())


def _ranked(grouped: Grouped) -> list[tuple[tuple[str, ...], Sequence[Job]]]:
    """The highest mean IoU of the validation first, those without one last."""

    def place(item: tuple[tuple[str, ...], Sequence[Job]]) -> float:
        mean = _iou(item[1])
        return math.inf if math.isnan(mean) else -mean

    return sorted(grouped.items(), key=place)


def _iou(jobs: Sequence[Job]) -> float:
    """The mean IoU of a choice, of trainings without a table of cases their own figure."""
    values = patient_values(_val(jobs), "iou")
    return float(np.nanmean(values)) if values.size else _mean(job.metrics.get("val/iou", math.nan) for job in jobs)


def _val(jobs: Sequence[Job]) -> list[Cases | None]:
    return [job.val for job in jobs]


def _has(tables: Sequence[Cases | None], figure: str) -> bool:
    return any(cases is not None and np.isfinite(cases.columns.get(figure, np.nan)).any() for cases in tables)


def _figure(tables: Sequence[Cases | None], figure: str, shown: str) -> Figure:
    """The mean of a figure over patients and runs; nan where nobody has it."""
    values = patient_values(tables, figure)
    return Figure(float(np.nanmean(values)) if values.size else math.nan, shown)


def _mean(values: Iterable[float]) -> float:
    there = [value for value in values if not math.isnan(value)]
    return float(np.mean(there)) if there else math.nan


def _stem(setting: str) -> str:
    """A setting as a part of a file's name."""
    return "".join(letter if letter.isalnum() else "_" for letter in setting) or "all"
