"""Where a setting came from: the command line, or which file."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lungseg.errors import UserError


def located(error: UserError, overrides: Sequence[str], config_name: str = "config") -> UserError:
    """The same sentence with where the setting came from in front; unchanged where it is about no setting that was made.

    To be called while Hydra is at work, because only Hydra knows which files it read.

    Args:
        error: a sentence about a setting begins with its dotted key.
        overrides: what the command line says, as Hydra takes it; of a sweep, what one job takes.
        config_name: the file that all others are composed into.
    """
    key = re.match(r"[^\s=:]+", str(error))
    origin = _origin(key.group(), overrides, config_name) if key else None
    return UserError(f"{origin}: {error}") if origin else error


def _origin(key: str, overrides: Sequence[str], config_name: str) -> str | None:
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.types import RunMode

    loader = GlobalHydra.instance().config_loader()
    composed = loader.load_configuration(config_name, list(overrides), RunMode.RUN)
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        name = override.key_or_group
        if name in composed.hydra.runtime.choices:  # loss=dice names a file, and sets nothing itself
            continue
        if key == name or (key.startswith(f"{name}.") and _holds(override.value(), key.removeprefix(f"{name}."))):
            return "the command line"
    folders = [Path(source.path) for source in composed.hydra.runtime.config_sources if source.schema == "file"]
    defaults = loader.compute_defaults_list(config_name, list(overrides), RunMode.RUN).defaults
    for default in reversed(defaults):  # a later file wins over an earlier one
        package = f"{default.package}." if default.package else ""
        path = _file(folders, default.config_path)
        if path and (key == default.package or (key.startswith(package) and _holds(_content(path), key.removeprefix(package)))):
            return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
    return None


def _file(folders: Sequence[Path], name: str) -> Path | None:
    """The file of a config: in the first folder that has it, as Hydra searches; Hydra's own configs are no files of ours."""
    paths = ((folder / f"{name.removesuffix('.yaml')}.yaml").absolute() for folder in folders)
    return next((path for path in paths if path.is_file()), None)


def _content(path: Path) -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.to_container(OmegaConf.load(path), resolve=False)


def _holds(content: Any, key: str) -> bool:
    """Whether nested plain values set a dotted key; ``???`` only asks for it."""
    for part in key.split("."):
        if not isinstance(content, Mapping) or part not in content:
            return False
        content = content[part]
    return bool(content != "???")
