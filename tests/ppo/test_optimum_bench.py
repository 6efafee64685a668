"""`textrl bench optimum`: the command, its files, and verdicts that follow from the figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from textrl.bench import optimum
from textrl.bench.optimum import BETAS, SIZES, Cell, reached, row, table
from textrl.cli import main


def result(distance: float, closed: float, z: list[float]) -> dict[str, Any]:
    standing = {"total_variation": distance, "gap_closed": closed, "kl": 0.5}
    start = {"total_variation": 0.5, "gap_closed": 0.0, "kl": 0.0}
    return {
        "start": start,
        "last": standing,
        "averaged": standing,
        "best": 1.0,
        "responses": 30,
        "episodes": 100,
        "z": z,
        "cpu_s": 2.0,
        "curve": [{"episodes": 0, **start}, {"episodes": 100, **standing}],
    }


def test_a_single_seed_that_misses_is_a_miss() -> None:
    cell = Cell("token", 2.0)
    near, far, short = result(0.019, 0.995, [1.0]), result(0.021, 0.995, [-1.0]), result(0.01, 0.98, [0.0])
    good = reached(row(cell, [near] * 10, 10))
    assert [check.holds for check in good] == [True, True, False]  # ten times +1 is far from mean 0
    distant = reached(row(cell, [near] * 9 + [far], 10))
    assert (distant[0].found, distant[0].holds) == ("9 of 10 seeds", False)
    open_gap = reached(row(cell, [near] * 9 + [short], 10))
    assert (open_gap[1].found, open_gap[1].holds) == ("9 of 10 seeds", False)
    assert reached(row(cell, [near, far], 2))[2].holds
    assert reached(row(cell, [near] * 9, 10)) == []


def test_the_table_shows_the_worst_seed_and_what_is_missing() -> None:
    whole = row(Cell("episode", 1.0), [result(0.01, 0.999, [0.5]), result(0.03, 0.97, [-0.5])], 2)
    none = row(Cell("episode", 2.0), [], 2)
    cells = table([whole, none], ["note"]).rows
    assert cells[0][3:8] == ("0.500", "0.0200", "0.0300", "98.45", "97.00")
    assert cells[1][2] == "0/2"


def test_the_worlds_have_what_was_asked_for() -> None:
    specs = [Cell(kind, beta).spec(3) for kind in SIZES for beta in BETAS]
    assert {spec["rewards"] for spec in specs} == {"episode", "token"}
    assert max(spec["vocabulary"] for spec in specs) == 6
    assert max(spec["horizon"] for spec in specs) == 4
    assert len({spec["beta"] for spec in specs}) == 2
    assert all(spec["seed"] == 3 for spec in specs)
    assert Cell("token", 1.0, quick=True).spec(3)["iterations"] < specs[0]["iterations"]


def test_the_command_writes_tables_pictures_and_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {"vocabulary": 5, "horizon": 2, "iterations": 3, "measured": 3}
    monkeypatch.setattr(optimum, "QUICK", small)
    monkeypatch.setattr(optimum, "BETAS", (1.0,))
    out = tmp_path / "bench"
    command = [
        "bench",
        "optimum",
        "--quick",
        "--only",
        "token",
        "--seeds",
        "1",
        "--jobs",
        "1",
        "--out",
        str(out),
    ]
    assert main([*command, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data == json.loads((out / "results.json").read_text(encoding="utf-8"))
    (cell,) = data["cells"]
    assert (cell["finished"], cell["responses"]) == (1, 1 + 4 * 5)
    assert not all(check["holds"] for check in data["checks"])  # three iterations reach nothing
    for stem in ("optimum-distance", "optimum-gap"):
        ElementTree.parse(out / "figures" / f"{stem}.svg")
    assert main(command) == 0  # from the finished job
    assert "NO" in capsys.readouterr().out


def test_an_unknown_kind_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "optimum", "--only", "tokens"]) == 2
    assert "Did you mean 'token'" in capsys.readouterr().err
