"""Journeys of training: from one command to a folder with everything that a person looks for afterwards."""

import contextlib
import json
import math
import re
import shlex
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import PHANTOMS, SMALL, Done, assert_refused, lungseg, metrics_of, read_png, table, train, write_png
from processes import running, wait_for

from builders import chest, write_slice
from lungseg import checkpoint
from lungseg.commands import folders


@dataclass(frozen=True)
class Run:
    folder: Path
    done: Done


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a run without hydra.run.dir makes outputs/ where it stands


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two epochs on phantoms, as a person sees them; no test changes the folder."""
    base = tmp_path_factory.mktemp("phantoms")
    with contextlib.chdir(base):
        return Run(base / "my run", train(Path("my run"), *PHANTOMS, "trainer.max_epochs=2"))


def test_the_console_has_a_line_for_every_epoch(run: Run) -> None:
    lines = [line for line in run.done.out.splitlines() if line.startswith("epoch ")]
    assert [line.split()[1] for line in lines] == ["1/2", "2/2"]
    for line in lines:
        assert re.search(r"train loss [\d.]+ iou [\d.]+  val loss [\d.]+ iou [\d.]+  [\d.]+ s", line)
    assert re.search(r" s, \d+ s left$", lines[0])
    assert lines[1].endswith(" s")  # nothing is left
    assert run.done.err == ""


def test_it_says_beforehand_what_an_epoch_will_cost(run: Run) -> None:
    said, _, _ = run.done.out.partition("\nepoch ")
    assert "8 training, 4 validation, 4 test" in said
    assert re.search(r"An epoch is 1 step of 6 slices and takes about \d+ s; 2 epochs about \d+ s\.", said)
    assert re.search(r"needs about \d+ MB of memory, \d+ MB of it slices\.", said)


def test_the_last_screen_names_what_is_there_and_a_command_that_works(run: Run) -> None:
    screen = dict(
        line.strip().split("  ", 1) for line in run.done.out.splitlines() if line.startswith("  ") and "  " in line.strip()
    )
    base = run.folder.parent
    assert (base / screen["best checkpoint"].strip().partition("  (")[0]).is_file()
    assert list((base / screen["overlays"].strip()).glob("*.png"))
    tensorboard, _, history = screen["curves"].partition(", or ")
    assert (base / shlex.split(tensorboard)[-1] / "tensorboard").is_dir()
    assert (base / history).is_file()

    with contextlib.chdir(base):
        write_slice(Path("in"), Path("truth"), "slice.png", seed=1)
        program, *words = shlex.split(screen["predict with"])
        assert program == "lungseg"
        done = lungseg(*(word.replace("FILE_OR_FOLDER", "in").replace("=masks", "=found") for word in words))
        assert done.code == 0, done.err
        assert set(np.unique(read_png(Path("found/slice.png")))) <= {0, 255}


def test_the_config_is_kept_resolved(run: Run) -> None:
    text = (run.folder / "config.yaml").read_text()
    assert "${" not in text
    assert "widths:\n  - 4\n  - 8\n" in text


def test_metrics_are_flat_and_finite(run: Run) -> None:
    metrics = json.loads((run.folder / "metrics.json").read_text())
    assert {"val/iou", "val/dice", "test/iou", "test/dice", "test/loss", "epoch", "epochs", "seconds"} <= set(metrics)
    assert all(isinstance(value, float) and math.isfinite(value) for value in metrics.values())
    assert 0 <= metrics["test/iou"] <= metrics["test/dice"] <= 1
    assert metrics["epochs"] == 2


def test_the_history_has_a_row_for_every_epoch(run: Run) -> None:
    rows = table(run.folder / "history.csv")
    columns = ["epoch", "seconds", "images", "lr", "train/loss", "train/iou", "val/loss", "val/iou", "val/dice"]
    assert list(rows[0]) == columns
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(math.isfinite(float(row[column])) for row in rows for column in columns)
    metrics = metrics_of(run.folder)
    scores = [float(row["val/iou"]) for row in rows]
    assert scores[int(metrics["epoch"]) - 1] == max(scores) == pytest.approx(metrics["val/iou"], abs=1e-6)


def test_the_record_says_how_to_repeat_the_run(run: Run) -> None:
    record = json.loads((run.folder / "run.json").read_text())
    assert record["seed"] == 0
    assert {"python", "lungseg", "torch", "pytorch-lightning"} <= set(record["versions"])
    assert record["cpu"]
    assert record["threads"] == torch.get_num_threads()
    assert shlex.split(record["command"]) == [
        "lungseg", "train", *PHANTOMS, "trainer.max_epochs=2", "hydra.run.dir=my run",
    ]  # fmt: skip
    assert set(record["data_hash"]) == {"train", "val", "test"}
    assert len(set(record["data_hash"].values())) == 3
    assert record["images"] == {"train": 8, "val": 4, "test": 4}


def test_the_split_is_kept(run: Run) -> None:
    split = json.loads((run.folder / "split.json").read_text())
    names = {part: {case["name"] for case in cases} for part, cases in split.items()}
    assert {part: len(cases) for part, cases in names.items()} == {"train": 8, "val": 4, "test": 4}
    assert len(set.union(*names.values())) == 16


def test_pictures_and_the_log_are_kept(run: Run) -> None:
    for name in ("test_worst.png", "test_typical.png"):
        assert read_png(run.folder / "overlays" / name).ndim == 3
    for part in ("val", "test"):
        images = table(run.folder / f"{part}_images.csv")
        of = ("patient", "source")
        assert [(row["image"], *(row[key] for key in of)) for row in images] == [
            (case["name"], *(case[key] for key in of)) for case in json.loads((run.folder / "split.json").read_text())[part]
        ]
        assert {row["source"] for row in images} == {"phantom"}
        scored = [float(row["iou"]) for row in images if row["iou"]]
        assert sum(scored) / len(scored) == pytest.approx(metrics_of(run.folder)[f"{part}/iou"], abs=1e-5)
        assert all((row["iou"] == "") == (row["hd95_px"] == "") == (row["nsd"] == "") for row in images)
    log = (run.folder / "log.txt").read_text()
    assert log.count("INFO epoch ") == 2
    assert not list(run.folder.rglob(".partial-*"))


def test_the_best_checkpoint_is_plain_values_that_build_a_network(run: Run) -> None:
    path = run.folder / "checkpoints" / "best.ckpt"
    content = torch.load(path, weights_only=True)
    assert set(content) == {"format", "weights", "net", "preprocess", "classes", "metrics"}
    assert str(run.folder) not in repr({key: value for key, value in content.items() if key != "weights"})
    stored = checkpoint.load(path)
    assert stored.preprocess.size == 64
    assert stored.metrics is not None
    assert stored.metrics["val/iou"] == metrics_of(run.folder)["val/iou"]
    assert stored.build()(torch.zeros(1, 1, 64, 64)).shape == (1, 1, 64, 64)
    assert (run.folder / "checkpoints" / "last.ckpt").is_file()


def test_tensorboard_shows_curves_pictures_and_hyperparameters(run: Run) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.folder / "tensorboard")).Reload()
    tags = events.Tags()
    curves = {"train/loss", "train/iou", "val/loss", "val/iou", "val/dice", "test/iou", "lr"}
    assert curves <= set(tags["scalars"])
    assert len(events.Scalars("val/iou")) == 2
    assert tags["images"] == ["val/overlays"]
    # Hyperparameters are told from scalars by the plugin's content; the final metric stands beside them.
    assert "_hparams_/experiment" in events.PluginTagToContent("hparams")
    final = events.Scalars("hp/test/iou")[-1].value
    assert final == pytest.approx(metrics_of(run.folder)["test/iou"])


def test_the_same_command_gives_the_same_figures(run: Run, tmp_path: Path) -> None:
    again = train(tmp_path / "again", *PHANTOMS, "trainer.max_epochs=2")
    assert metrics_of(tmp_path / "again") == metrics_of(run.folder)
    assert again.out.count("\nepoch ") == run.done.out.count("\nepoch ") == 2  # the second run of a process is not silent


def test_a_run_goes_on_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    # A constant learning rate, because the first epoch of a cosine knows how many will follow.
    words = (*PHANTOMS, "optimization.schedule=constant", "optimization.warmup=0", "logger=csv")
    train(tmp_path / "whole", *words, "trainer.max_epochs=2")
    assert lungseg("train", *words, "trainer.max_epochs=1").code == 0
    done = lungseg("train", *words, "trainer.max_epochs=2", "ckpt_path=last")  # the newest below outputs
    assert [line.split()[1] for line in done.out.splitlines() if line.startswith("epoch ")] == ["2/2"]

    def rows(folder: Path) -> list[dict[str, str]]:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in table(folder / "history.csv")]

    (parted,) = tmp_path.glob("outputs/*/*")
    assert rows(parted) == rows(tmp_path / "whole")
    assert metrics_of(parted) == metrics_of(tmp_path / "whole")


def test_the_newest_run_with_the_same_settings_is_gone_on_with(tmp_path: Path) -> None:
    words = (*PHANTOMS, "logger=csv", "trainer.max_epochs=2")
    train(tmp_path / "outputs" / "first", *words)
    # One that was killed before its training began, and asked for something else.
    kept = (tmp_path / "outputs" / "first" / "config.yaml").read_text()
    (tmp_path / "outputs" / "killed").mkdir()
    (tmp_path / "outputs" / "killed" / "config.yaml").write_text(kept.replace("seed: 0", "seed: 7"))
    done = lungseg("train", *words, "ckpt_path=last")
    assert "outputs/first/checkpoints/best.ckpt" in done.out
    assert_refused(lungseg("train", *words, "ckpt_path=last", "seed=5"), "outputs/first", "seed was another")
    again = lungseg("train", *words, "ckpt_path=last", "hydra.run.dir=outputs/killed")
    assert_refused(again, "outputs/killed holds a run whose", "was another")


def test_two_trainings_do_not_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "LOCK_WAIT_S", 0.1)
    with folders.claimed(tmp_path / "run"):
        assert_refused(lungseg("train", *PHANTOMS, "hydra.run.dir=run"), "run is in use by another process")
        assert_refused(lungseg("train", "-m", *PHANTOMS, "seed=0,1", "hydra.sweep.dir=run"), "run is in use by another process")
        assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]
    assert not any((tmp_path / "run").iterdir())


def test_a_run_can_start_from_the_weights_of_another(run: Run, tmp_path: Path) -> None:
    start = f"init_ckpt={run.folder / 'checkpoints' / 'best.ckpt'}"
    train(tmp_path / "started", *PHANTOMS, "trainer.max_epochs=0", start, "logger=csv")
    assert metrics_of(tmp_path / "started")["test/iou"] == metrics_of(run.folder)["test/iou"]
    assert_refused(lungseg("train", *PHANTOMS, start, "model.widths=[4,8,8]"), "does not fit this model")


def test_a_run_is_not_gone_on_with_under_other_settings(run: Run) -> None:
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    state = f"ckpt_path={run.folder / 'checkpoints' / 'last.ckpt'}"
    words = (*PHANTOMS, state, f"hydra.run.dir={run.folder}", "trainer.max_epochs=3")
    assert_refused(lungseg("train", *words, "data.seed=1"), "data.seed was another")
    assert_refused(lungseg("train", *words, "loader.batch_size=2"), "loader.batch_size was another")
    assert_refused(lungseg("train", *words, "trainer.max_epochs=1"), "trainer.max_epochs=1 must be at least 2")
    assert_refused(lungseg("train", *words[:-3], words[-2]), "holds a run already", "ckpt_path=last")
    assert_refused(lungseg("train", *words, "loss=bce"), "loss was another")
    assert_refused(lungseg("train", *words, "optimization.lr=1"), "optimization.lr was another")
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before


def test_a_run_that_goes_on_elsewhere_has_a_best_of_its_own(tmp_path: Path) -> None:
    words = (*PHANTOMS, "optimization.lr=1e-12", "optimization.schedule=constant", "optimization.warmup=0", "logger=csv")
    train(tmp_path / "first", *words, "trainer.max_epochs=1")  # at this rate no later epoch is better
    state = tmp_path / "first" / "checkpoints" / "last.ckpt"
    train(tmp_path / "second", *words, "trainer.max_epochs=2", f"ckpt_path={state}")
    assert metrics_of(tmp_path / "second")["epoch"] == 2
    assert checkpoint.load(tmp_path / "second" / "checkpoints" / "best.ckpt").metrics["epoch"] == 2


@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)], ids=lambda how: how.name)
def test_an_interruption_keeps_what_was_done_and_says_so(how: signal.Signals, tmp_path: Path) -> None:
    words = (*PHANTOMS, "trainer.max_epochs=10000", f"hydra.run.dir={tmp_path / 'run'}", "logger=csv")
    with running(tmp_path, "train", *words) as process:
        wait_for(process, "epoch   3/")
        process.send_signal(how)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + how, err
    assert len(err.splitlines()) == 1, err
    assert "kept in run/checkpoints; repeat the command with ckpt_path=last to go on" in err
    state = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["epoch"] >= 1
    checkpoint.load(tmp_path / "run" / "checkpoints" / "best.ckpt")


def test_the_best_checkpoint_holds_the_weights_that_were_scored(tmp_path: Path) -> None:
    # Validated after one of two steps: the weights at the end of the epoch are others.
    words = (*PHANTOMS, "data.train=12", "logger=csv")
    train(tmp_path / "run", *words, "trainer.val_check_interval=0.5", "trainer.max_epochs=2", "optimization.lr=0.02")
    best = tmp_path / "run" / "checkpoints" / "best.ckpt"
    train(tmp_path / "again", *PHANTOMS, "trainer.max_epochs=0", f"init_ckpt={best}", "data.test=0", "logger=csv")
    assert metrics_of(tmp_path / "again")["val/iou"] == pytest.approx(checkpoint.load(best).metrics["val/iou"], abs=1e-6)


def test_early_stopping_ends_a_run_that_gets_no_better(tmp_path: Path) -> None:
    # Without a learning rate or running statistics nothing can change.
    still = ("optimization.lr=1e-12", "optimization.ema_decay=null", "model.norm=instance")
    train(tmp_path / "run", *PHANTOMS, *still, "trainer.max_epochs=5", "early_stopping=1", "logger=csv")
    assert [row["epoch"] for row in table(tmp_path / "run" / "history.csv")] == ["1", "2"]


@pytest.mark.parametrize(
    "words",
    [
        ("loss=bce", "augmentation=none", "optimization.ema_decay=null", "optimization.schedule=constant"),
        ("loss=dice", "augmentation=light", "preprocess.normalisation=window"),
        ("loss=tversky", "model=unet_small", "model.widths=[4,8,8]", "model.deep_supervision=true", "model.dropout=0.1"),
        ("loss=focal_dice", "logger=csv", "loader.cache=disk", "loader.num_workers=1"),
        ("trainer=debug", "experiment=quick", "trainer.precision=bf16-mixed", "trainer.accumulate_grad_batches=2"),
    ],
    ids=" ".join,
)
def test_every_choice_trains(words: tuple[str, ...], tmp_path: Path) -> None:
    cache = f"loader.cache_folder={tmp_path / 'cache'}"
    train(tmp_path / "run", *PHANTOMS, *words, "trainer.max_epochs=1", "preprocess.size=64", cache)
    assert math.isfinite(metrics_of(tmp_path / "run")["test/loss"])
    assert checkpoint.load(tmp_path / "run" / "checkpoints" / "best.ckpt").build()
    assert (tmp_path / "cache").exists() == ("loader.cache=disk" in words)
    assert (tmp_path / "run" / "csv" / "version_0" / "metrics.csv").is_file() == ("logger=csv" in words)


@pytest.mark.parametrize("word", ["trainer.fast_dev_run=true", "trainer.limit_val_batches=0"])
def test_a_run_that_hardly_trains_still_leaves_a_checkpoint(word: str, tmp_path: Path) -> None:
    done = train(tmp_path / "run", *PHANTOMS, "trainer.max_epochs=1", word)
    assert "best checkpoint" in done.out
    assert checkpoint.load(tmp_path / "run" / "checkpoints" / "best.ckpt").build()


def test_names_are_taken_as_they_are_typed(tmp_path: Path) -> None:
    odd = tmp_path / "Röntgen [neu], a=b" / "it's 100%"
    for part, names in (("Train", ["p1 [a], x=ü.png", "p2 (b)  y.tif", "p3 ß,=.png"]), ("Test", ["p9 = [ä].png"])):
        for seed, name in enumerate(names):
            write_slice(odd / part / "Images", odd / part / "Masks", name, seed + 10 * (part == "Test"))
    folder = tmp_path / "Läufe, [1] a=b" / "it's"
    words = (*SMALL, "data=folder", f"data.root={odd}", r"data.patient_regex=^(p\d) [^,=]*", "trainer.max_epochs=1", "logger=csv")
    train(folder, *words)
    split = json.loads((folder / "split.json").read_text(encoding="utf-8"))
    assert [case["name"] for case in split["test"]] == ["test/p9 = [ä].png"]
    assert sorted(case["patient"] for case in split["train"] + split["val"]) == ["p1", "p2", "p3"]
    train(folder, *words, "trainer.max_epochs=2", "ckpt_path=last")
    assert len(table(folder / "history.csv")) == 2
    train(tmp_path / "next", *words, "trainer.fast_dev_run=true", f"init_ckpt={folder / 'checkpoints' / 'best.ckpt'}")


def test_a_tilde_is_home(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    words = (*SMALL, "data=folder", f"data.root=~/{dataset.name}", "trainer.fast_dev_run=true", "logger=csv")
    train(Path("~/run"), *words)
    assert (tmp_path / "run" / "metrics.json").is_file()


def test_without_a_test_folder_validation_is_shown(dataset: Path, tmp_path: Path) -> None:
    shutil.rmtree(dataset / "Test")
    done = train(tmp_path / "run", *SMALL, "data=folder", f"data.root={dataset}", "trainer.max_epochs=1", "logger=csv")
    assert "Warning: No patient is known" in done.out
    assert not [key for key in metrics_of(tmp_path / "run") if key.startswith("test/")]
    assert (tmp_path / "run" / "overlays" / "val_worst.png").is_file()


def test_validation_patients_may_be_named(dataset: Path, tmp_path: Path) -> None:
    words = ("data.patient_regex=^p(0.)", "data.val_patients=[02,03]", "trainer.max_epochs=1", "logger=csv")
    done = train(tmp_path / "run", *SMALL, "data=folder", f"data.root={dataset}", *words)
    assert "No patient is known" not in done.out
    split = json.loads((tmp_path / "run" / "split.json").read_text())
    assert {part: {case["patient"] for case in cases} for part, cases in split.items()} == {
        "train": {"01"}, "val": {"02", "03"}, "test": {"04"},
    }  # fmt: skip


def test_a_manifest_mixes_sources_of_different_scale(tmp_path: Path) -> None:
    rows = ["image,mask,patient,split,slope,intercept,source"]
    for seed in range(8):
        name = f"s{seed}.tif" if seed % 4 else f"s{seed}.png"  # a quarter are pictures of 0 to 255
        write_slice(tmp_path / "images", tmp_path / "masks", name, seed)
        scale = "5.49,-1000,pictures" if name.endswith("png") else ",,scanner"
        part = ("train", "train", "train", "train", "train", "val", "val", "test")[seed]
        rows.append(f"images/{name},masks/s{seed}.png,p{seed},{part},{scale}")
    (tmp_path / "list.csv").write_text("\n".join(rows))
    words = (*SMALL, "data=manifest", f"data.manifest={tmp_path / 'list.csv'}", "trainer.max_epochs=1", "logger=csv")
    # True HU in all of them, which this normalisation asks for.
    train(tmp_path / "run", *words, "data.balance=source", "preprocess.normalisation=window")
    split = json.loads((tmp_path / "run" / "split.json").read_text())
    assert {case["source"] for case in split["train"]} == {"pictures", "scanner"}
    assert len(split["test"]) == 1
    without = (tmp_path / "list.csv").read_text().replace("5.49,-1000", ",")
    (tmp_path / "list.csv").write_text(without)
    assert_refused(lungseg("train", *words, "preprocess.normalisation=window"), "are not HU")


def test_ignored_values_must_be_named(dataset: Path, tmp_path: Path) -> None:
    for path in dataset.rglob("Masks/*.png"):
        mask = read_png(path)
        mask[:, :20] = 128
        write_png(path, mask)
    words = (*SMALL, "data=folder", f"data.root={dataset}", "trainer.max_epochs=1", "logger=csv")
    assert_refused(lungseg("train", *words), "holds")
    train(tmp_path / "run", *words, "data.ignore_values=[128]")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["nonsense=1"], ["nonsense is unknown"]),
        (["trainer.max_epoch=1"], ["trainer.max_epoch is unknown", "did you mean trainer.max_epochs?"]),
        (["+loss.smoth=1"], ["loss.smoth is unknown", "did you mean loss.smooth?"]),
        (["model=resnet_small"], ["model=resnet_small is unknown", "did you mean resunet_small?"]),
        (["nonsense"], ["nonsense cannot be read", "key=value"]),
        (["batch_size=3"], ["batch_size is unknown: did you mean loader.batch_size?"]),
        (["--epochs", "3"], ["--epochs is no option", "trainer.max_epochs=3"]),
        (["seed=0,1"], ["--multirun"]),
        (["optimization.lr=fast"], ["optimization.lr=fast must be a number"]),
        (["optimization.lr=-1"], ["optimization.lr=-1 must be above 0"]),
        (["preprocess.percentiles=[1]"], ["preprocess.percentiles"]),
        (["model.out_channels=2"], ["model.out_channels"]),
        (["trainer.precision=odd"], ["trainer.precision=odd", "bf16-mixed"]),
        (["trainer.accelerator=abacus"], ["abacus"]),
        (["trainer.devices=0"], ["trainer.devices=0"]),
        (["seed=-1"], ["seed=-1"]),
        (["init_ckpt=nowhere.ckpt"], ["nowhere.ckpt is no file"]),
        (["ckpt_path=last"], ["nothing to go on from"]),
        (["ckpt_path=last", "hydra.run.dir=empty"], ["nothing to go on from"]),
        (["ckpt_path=nowhere.ckpt"], ["nowhere.ckpt is no file"]),
        (["hydra.job.chdir=true"], ["hydra.job.chdir=true must be false"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_what_cannot_work_is_refused_in_one_sentence(words: list[str], parts: list[str]) -> None:
    assert_refused(lungseg("train", *PHANTOMS, *words), *parts)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("seed: 1\nlr: [", ["experiment/mine.yaml, line 3, is no YAML"]),
        ("seed: \0", ["experiment/mine.yaml, character ", "is no YAML: special characters are not allowed"]),
        ("seed: &a [*a]", ["the settings hold themselves"]),
        ("defaults:\n  - no/such", ["Could not load 'experiment/no/such'", "path=pkg://hydra.conf provider="]),
        ("trainer:\n  max_epochs: " + "a" * 3000, ["trainer.max_epochs=aaaa", "a ... must be a whole number"]),
        ("!!python/object/apply:os.system ['touch mark']", ["is no YAML: could not determine a constructor"]),
    ],
    ids=["bracket", "nul", "alias", "tab", "long", "object"],
)
def test_a_damaged_file_of_settings_is_one_sentence(text: str, parts: list[str], tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{text}")
    done = lungseg("train", *PHANTOMS, "--config-dir", str(tmp_path), "experiment=mine")
    assert_refused(done, *parts)
    assert done.err[:-1].isprintable()
    assert len(done.err) < 1500
    assert not (tmp_path / "mark").exists()


def test_a_checkpoint_of_the_wrong_kind_is_refused(run: Run) -> None:
    best, last = (run.folder / "checkpoints" / name for name in ("best.ckpt", "last.ckpt"))
    assert_refused(lungseg("train", *PHANTOMS, f"ckpt_path={best}"), "goes into init_ckpt")
    assert_refused(lungseg("train", *PHANTOMS, f"init_ckpt={last}"), "training state")
    assert_refused(lungseg("train", *PHANTOMS, f"ckpt_path={last}", "model.widths=[4,8,8]"), "model.widths was another")
    for spoil in ({"loops": None}, {"callbacks": "x"}, {"optimizer_states": None}, {"state_dict": [1]}):
        torch.save({**torch.load(last, weights_only=True), **spoil}, Path("other.ckpt"))
        done = lungseg("train", *PHANTOMS, f"ckpt_path={Path('other.ckpt').resolve()}", "hydra.run.dir=other")
        assert_refused(done, "other.ckpt is no training state")


def _no_masks(root: Path) -> None:
    shutil.rmtree(root / "Train" / "Masks")


def _one_mask_missing(root: Path) -> None:
    (root / "Train" / "Masks" / "p01_a.png").unlink()


def _other_size(root: Path) -> None:
    write_png(root / "Train" / "Masks" / "p01_a.png", chest(32)[1] * 255)


def _no_lung(root: Path) -> None:
    for path in root.rglob("Masks/*.png"):
        write_png(path, np.zeros((64, 64), np.uint8))


def _damaged(root: Path) -> None:
    path = root / "Train" / "Images" / "p01_a.png"
    path.write_bytes(path.read_bytes()[:200])


def _constant(root: Path) -> None:
    write_png(root / "Train" / "Images" / "p01_b.png", np.full((64, 64), 7, np.uint8))


def _patient_on_both_sides(root: Path) -> None:
    write_slice(root / "Test" / "Images", root / "Test" / "Masks", "p01_z.png", seed=3)


@pytest.mark.parametrize(
    ("spoil", "parts"),
    [
        (shutil.rmtree, ["is not a folder", "data.root"]),
        (_no_masks, ["must hold Train/Images"]),
        (_one_mask_missing, ["p01_a.png"]),
        (_other_size, ["p01_a.png", "64 x 64", "32 x 32"]),
        (_no_lung, ["no training mask holds any lung"]),
        (_damaged, ["p01_a.png", "damaged"]),
        (_constant, ["p01_b.png is constant (all 7)", "remove it and its mask"]),
        (_patient_on_both_sides, ["1 patient is both in", "p01"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_data_that_cannot_be_used_are_refused_in_one_sentence(spoil, parts: list[str], dataset: Path) -> None:
    spoil(dataset)
    done = lungseg("train", *SMALL, "data=folder", f"data.root={dataset}", r"data.patient_regex=^p\d\d", "logger=csv")
    assert_refused(done, *parts)


def test_a_path_may_look_like_an_interpolation() -> None:
    assert_refused(lungseg("train", "data=folder", "data.root=x${", "hydra.run.dir=run"), "x${ is not a folder")
    assert not Path("run").exists()  # a run that cannot begin leaves nothing


def test_a_root_must_be_given() -> None:
    assert_refused(lungseg("train", "data=folder"), "data.root is needed")


def test_a_run_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert_refused(lungseg("train", *PHANTOMS, f"hydra.run.dir={tmp_path / 'file' / 'run'}"), "file")


def test_every_setting_can_be_shown() -> None:
    done = lungseg("train", "data=folder", "--cfg", "job")
    assert done.code == 0
    assert "patient_regex: null" in done.out
