"""`textrl bench startup` measures real processes."""

from __future__ import annotations

import json

import pytest

from textrl.cli import main


def test_startup_figures_are_ordered(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "startup", "--runs", "2", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)["figures"]
    assert figures["textrl plugins"]["min"] > figures["python alone"]["min"] > 0
    assert main(["bench", "startup", "--runs", "1"]) == 0
    assert "import textrl" in capsys.readouterr().out
