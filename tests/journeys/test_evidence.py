"""Journeys of ``benchmarks/evidence.py``: what its steps leave behind."""

from pathlib import Path

import pytest
from helpers import files

from evidence import reported
from sweeps import Made, write_sweep


def test_a_step_ends_with_its_report(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "screening", [Made(["seed=0"])])
    assert reported(sweep) == 0
    assert {"report.html", "report.md"} <= files(sweep / "report")


def test_a_step_that_cannot_be_reported_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reported(tmp_path) == 2
    assert "holds no sweep.json" in capsys.readouterr().err
