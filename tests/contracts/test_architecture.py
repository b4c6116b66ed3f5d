"""The ground plan: a room imports only from floors below it, and within itself."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "lungseg"

# room -> floor; a file at the top of the package is a room of its own
FLOORS = {
    "__init__": 6,
    "cli": 6,
    "__main__": 6,
    "commands": 5,
    "config": 5,
    "origins": 5,
    "training": 4,
    "inference": 4,
    "evaluation": 4,
    "data": 3,
    "checkpoint": 2,
    "postprocess": 2,
    "preprocess": 2,
    "html": 2,
    "nets": 1,
    "losses": 1,
    "metrics": 1,
    "imaging": 1,
    "errors": 0,
    "labels": 0,
    "log": 0,
    "files": 0,
    "signatures": 0,
}
ONE_ROOM = [
    {"__init__", "__main__", "cli"},
    {"commands", "config", "origins"},
    {"checkpoint", "html", "preprocess"},
    {"errors", "files", "labels", "log", "signatures"},
]
MODULES = sorted(SOURCE.rglob("*.py"))


def room(parts: tuple[str, ...]) -> str:
    return parts[0] if parts else "__init__"


def imported(tree: ast.AST) -> set[tuple[str, ...]]:
    """Modules of this package that a file imports, as parts below ``lungseg``."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            module = node.module or ""
            # `from lungseg import checkpoint` names a module, `from lungseg import Segmenter` a thing in the package.
            names |= {f"lungseg.{a.name}" if module == "lungseg" and a.name in FLOORS else module for a in node.names}
    return {tuple(name.split("."))[1:] for name in names if name.split(".")[0] == "lungseg"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_a_room_imports_only_from_floors_below(path: Path) -> None:
    own = room(path.relative_to(SOURCE).with_suffix("").parts)
    assert own in FLOORS, f"{own} has no floor in the ground plan"
    for parts in imported(ast.parse(path.read_text(encoding="utf-8"))):
        other = room(parts)
        same = other == own or any({own, other} <= rooms for rooms in ONE_ROOM)
        assert same or FLOORS[other] < FLOORS[own], f"{own} (floor {FLOORS[own]}) imports {other} (floor {FLOORS[other]})"


def test_package_files_inside_rooms_are_empty() -> None:
    filled = [path for path in SOURCE.rglob("__init__.py") if path.parent != SOURCE and path.read_text(encoding="utf-8").strip()]
    assert not filled


def test_no_imports_in_a_circle() -> None:
    edges: dict[str, set[str]] = {}
    for path in MODULES:
        name = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        edges[name] = {".".join(parts) for parts in imported(ast.parse(path.read_text(encoding="utf-8")))}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"circle: {' -> '.join([*trail, name])}"
        if name in done or name not in edges:
            return
        for other in edges[name]:
            visit(other, (*trail, name))
        done.add(name)

    for name in edges:
        visit(name, ())
