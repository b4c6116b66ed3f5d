"""Hydra's part of a command: composes the config and calls a task with it; what it refuses becomes a sentence."""

import itertools
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from lungseg.commands.exits import REFUSED
from lungseg.commands.folders import from_here
from lungseg.config import config_folder, quoted
from lungseg.errors import UserError, printable
from lungseg.signatures import nearest

SWEEP_FLAGS = ("-m", "--multirun")
LISTED_PATHS = ("data.root", "data.manifest", "init_ckpt")
VALUED_FLAGS = ("-c", "--cfg", "-p", "--package", "-cp", "--config-path", "-cn", "--config-name", "-cd", "--config-dir")
FLAGS = (
    *VALUED_FLAGS,
    *SWEEP_FLAGS,
    "-i",
    "--info",
    "-r",
    "--run",
    "--resolve",
    "--hydra-help",
    "--version",
    "-sc",
    "--shell-completion",
)
SHOW_FLAGS = ("-c", "--cfg", "-i", "--info")  # which show something and run nothing


def through_hydra(words: Sequence[str], task: Callable[[DictConfig], Any]) -> int:
    """Calls the task with the config that the words compose, or with each of a sweep's; Hydra's own flags work as elsewhere.

    A task keeps what it raises to itself: Hydra would print it as its own, and in a sweep go on.

    Raises:
        UserError: the config cannot be composed, or the run's folder not be made.
    """
    import hydra
    from hydra.errors import HydraException

    task.__module__ = "lungseg.train"  # names the job "train"
    typed, sys.argv = sys.argv, [sys.argv[0], *_in_hydras_order(words)]
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # it raises, for us to say in a sentence, instead of printing and ending the process
    try:
        hydra.main(version_base="1.3", config_path=str(config_folder()), config_name="config")(task)()
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(sentence(error, words)) from error
    except yaml.YAMLError as error:
        said = getattr(error, "problem", None) or getattr(error, "reason", None) or error
        raise UserError(f"{_place(error)} is no YAML: {printable(said)}.") from error
    except RecursionError as error:
        raise UserError("the settings hold themselves: a YAML alias (*name) stands inside what it names.") from error
    except ValueError as error:
        raise UserError(f"the settings cannot be composed: {printable(error)}.") from error
    except OSError as error:
        raise UserError(
            f"{error.filename} cannot be written ({error.strerror}); choose a folder with hydra.run.dir=..., in a sweep "
            "hydra.sweep.dir=..."
        ) from error
    except SystemExit as stop:  # of its argument parser, which has said what was wrong
        return REFUSED if stop.code else 0
    finally:
        sys.argv = typed
        os.environ.pop("HYDRA_FULL_ERROR")
        if before is not None:
            os.environ["HYDRA_FULL_ERROR"] = before
    return 0


def asks_for_a_sweep(words: Sequence[str]) -> bool:
    """Whether these words ask for several jobs: by the flag, or by an experiment whose own file says ``hydra.mode: MULTIRUN``.

    Of the file no more is read than this: Hydra composes it, and says what is wrong with it.
    """
    if any(word in SWEEP_FLAGS for word in words):
        return True
    given = dict(word.lstrip("+").split("=", 1) for word in words if "=" in word)
    if "experiment" not in given or "hydra.mode" in given:
        return False
    flags = [(flag, value) for flag, value in itertools.pairwise(words)] + list(given.items())
    folders = [Path(value) for flag, value in flags if flag in ("-cd", "--config-dir")] + [config_folder()]
    files = [folder / "experiment" / f"{given['experiment'].removesuffix('.yaml')}.yaml" for folder in folders]
    try:
        content = yaml.safe_load(next(file for file in files if file.is_file()).read_text(encoding="utf-8"))
        return str(content["hydra"]["mode"]) == "MULTIRUN"
    except (StopIteration, OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, RecursionError):
        return False


def plain(config: DictConfig) -> dict[str, Any]:
    """A config as plain values, every interpolation resolved.

    Raises:
        UserError: an interpolation leads nowhere.
    """
    try:
        return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key} cannot be resolved: {str(error).splitlines()[0]}") from error


def sentence(error: Exception, words: Sequence[str]) -> str:
    """What Hydra could not compose of these words: the wrong one and those that would do."""
    from hydra.errors import MissingConfigException, OverrideParseException

    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        place = "the command line: " if f"{group}={option}" in words else ""
        return f"{place}{group}={option} is unknown: {nearest(option, error.options, '')}"
    if isinstance(error, OverrideParseException):
        return f"{error.override} cannot be read: settings are written key=value; quote what holds spaces, commas or brackets."
    several = re.match(r"Ambiguous value for argument '(.*?)'", str(error))
    shows = next((word for word in words if word.partition("=")[0] in SHOW_FLAGS), None)
    if several and shows:
        return f"{several[1]} names several values, and {shows} shows one job: give one of them."
    if several:
        return f"{several[1]} names several values: add --multirun to try one after the other, or write a list in brackets."
    cause = error.__cause__
    if isinstance(cause, (ConfigAttributeError, ConfigKeyError)) and cause.full_key:
        where, _, key = cause.full_key.rpartition(".")
        elsewhere = [f"{name}.{key}" for name, section in _sections(cause.parent_node) if key in section] if not where else []
        if elsewhere:
            return f"the command line: {key} is unknown: did you mean {' or '.join(elsewhere)}?"
        meant = nearest(key, [str(known) for known in cause.parent_node or ()], where)
        return f"the command line: {cause.full_key} is unknown: {meant}"
    return printable("\n".join(line for line in str(error).splitlines() if not line.startswith("See http")), most=1000)


def _in_hydras_order(words: Sequence[str]) -> list[str]:
    """Flags before overrides: Hydra's parser does not take them in between."""
    flags: list[str] = []
    overrides: list[str] = []
    rest = iter(words)
    for word in rest:
        if flags[-1:] == ["--info=all"] and "=" not in word:
            flags[-1] = f"--info={word}"
        elif not word.startswith("-"):
            overrides.append(word)
        elif word.partition("=")[0] not in FLAGS:
            raise UserError(f"{word} is no option: settings are written key=value, such as trainer.max_epochs=3; see --help.")
        elif word in VALUED_FLAGS:
            flags += [word, *itertools.islice(rest, 1)]
        else:
            flags.append("--info=all" if word in ("-i", "--info") else word)
    listed = any(flag in SWEEP_FLAGS for flag in flags)
    return [*flags, *(_listed(word) if listed else quoted(word) for word in overrides)]


def _place(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.reader.ReaderError):  # of bytes that are no text
        return f"{from_here(Path(str(error.name)))}, character {error.position},"
    mark = getattr(error, "problem_mark", None)
    return "a config file" if mark is None else f"{from_here(Path(mark.name))}, line {mark.line + 1},"


def _sections(config: Any) -> list[tuple[str, Any]]:
    return [(str(key), section) for key, section in (config or {}).items() if isinstance(section, DictConfig)]


def _listed(word: str) -> str:
    """An override of a sweep: there a comma between paths means one after the other, unless they are quoted."""
    key, _, value = word.partition("=")
    if key not in LISTED_PATHS or value[:1] in ("'", '"'):
        return quoted(word)
    return f"{key}={','.join(quoted(f'{key}={one}').partition('=')[2] for one in value.split(','))}"
