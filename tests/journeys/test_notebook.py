"""The notebook: what is committed is one whole, clean run, and a reader's run gives the same things."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import read_png, table, write_png
from nbclient import NotebookClient
from nbformat import NotebookNode, read
from nbformat.v4 import new_code_cell

from builders import chest

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "lung_segmentation.ipynb"
TINY = "TRAIN_SLICES, TEST_SLICES, EPOCHS = 12, 20, 2"
PICTURES = {
    "show-data": ["jpeg"],
    "show-curves": ["png"],
    "show-predictions": ["jpeg"],
    "show-shortcut": ["png"],
    "show-wrong": ["jpeg"],
    "show-common": ["png"],
    "show-own": ["jpeg"],
}
LARGEST = 1_500_000  # bytes of the file


@pytest.fixture(scope="module")
def committed() -> NotebookNode:
    return read(NOTEBOOK, as_version=4)


def code_cells(notebook: NotebookNode) -> dict[str, NotebookNode]:
    return {cell.id: cell for cell in notebook.cells if cell.cell_type == "code"}


def pictures(cell: NotebookNode) -> list[str]:
    """The kinds of the pictures below a cell."""
    kinds = [kind for output in cell.outputs for kind in output.get("data", {})]
    return [kind.removeprefix("image/") for kind in kinds if kind.startswith("image/")]


def printed(cell: NotebookNode) -> str:
    return "".join(output.text for output in cell.outputs if output.get("name") == "stdout")


def complaints(notebook: NotebookNode) -> str:
    """What is on stderr."""
    outputs = [output for cell in code_cells(notebook).values() for output in cell.outputs]
    return "".join(output.text for output in outputs if output.get("name") == "stderr")


def assert_whole(notebook: NotebookNode) -> None:
    """No error, and every picture in its cell."""
    outputs = [output for cell in code_cells(notebook).values() for output in cell.outputs]
    assert {output.output_type for output in outputs} <= {"stream", "display_data"}
    assert {name: pictures(cell) for name, cell in code_cells(notebook).items() if pictures(cell)} == PICTURES


def test_what_is_committed_is_one_clean_run(committed: NotebookNode) -> None:
    cells = code_cells(committed)
    assert [cell.execution_count for cell in cells.values()] == list(range(1, len(cells) + 1))
    assert_whole(committed)
    assert complaints(committed) == ""
    assert "Done in" in printed(cells["train"])
    assert "Data: lung in " in NOTEBOOK.read_text(encoding="utf-8")  # as a training begins now
    assert "Done in" in printed(cells["train-noshortcut"])
    assert NOTEBOOK.stat().st_size < LARGEST


def test_what_is_committed_names_no_place_of_a_machine(committed: NotebookNode) -> None:
    def texts(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [text for key, part in value.items() if not key.startswith("image/") for text in texts(part)]
        return [text for part in value for text in texts(part)] if isinstance(value, list) else [str(value)]

    said = "\n".join(texts(json.loads(NOTEBOOK.read_text(encoding="utf-8"))))
    assert "outputs/notebook" in said
    assert not re.findall(r"\S*(?:/home/|/root\b|/tmp\b|/Users/|/var/|[A-Z]:\\)\S*", said)


def test_the_first_code_cell_takes_parameters(committed: NotebookNode) -> None:
    first, *others = code_cells(committed).values()
    assert first.metadata.tags == ["parameters"]
    assert not any("parameters" in cell.metadata.get("tags", []) for cell in others)


@pytest.mark.slow
def test_a_reader_runs_it_and_then_segments_a_picture(
    committed: NotebookNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "jupyter"))  # nothing of the reader's own settings, and nothing into them
    here = tmp_path / "here"
    here.mkdir()
    picture = write_png(tmp_path / "elsewhere" / "my slice.png", np.clip((chest(72)[0] + 1000) / 6, 0, 255).astype(np.uint8)[:60])
    notebook = read(NOTEBOOK, as_version=4)
    names = [cell.id for cell in notebook.cells]
    notebook.cells.insert(names.index("parameters") + 1, new_code_cell(TINY, id="injected"))
    # As the notebook says: PICTURE is set, and the cell that segments is run again.
    again = new_code_cell(f"PICTURE = {str(picture)!r}\n{code_cells(notebook)['show-own'].source}", id="again")
    notebook.cells.append(again)

    NotebookClient(notebook, resources={"metadata": {"path": str(here)}}, timeout=300).execute()

    assert pictures(again) == ["jpeg"]
    notebook.cells.remove(again)
    assert_whole(notebook)
    # That so small a network sees no lungs may be said; a warning of Python's may not.
    assert not re.search(r"\w(Warning|Error):", complaints(notebook))
    assert sorted(path.name for path in here.iterdir()) == ["outputs"]
    output = here / "outputs" / "notebook"
    assert read_png(output / "slice.png").shape == (384, 384)  # what the notebook took while PICTURE was None
    mask = read_png(output / "mask.png")
    assert mask.shape == (60, 72)
    assert set(np.unique(mask)) <= {0, 255}
    for model in ("resunet_small", "resunet_noshortcut"):
        assert len(table(output / model / "history.csv")) == 2
    cells = code_cells(notebook)
    (mean,) = re.findall(r"Mean IoU of the \d+ test slices that have lung: (\S+)", printed(cells["show-predictions"]))
    stored = json.loads((output / "resunet_small" / "metrics.json").read_text(encoding="utf-8"))["test/iou"]
    assert math.isclose(float(mean), stored, abs_tol=0.0006)
    compared = re.findall(r"^mean test IoU +(\S+) +(\S+)$", printed(cells["show-shortcut"]), re.MULTILINE)
    assert np.isfinite(np.array(compared, dtype=float)).all()
    assert len(compared) == 1
    assert "nan" not in printed(cells["describe"])
