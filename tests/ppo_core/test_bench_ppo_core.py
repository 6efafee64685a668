"""`textrl bench ppo-core`: its trials are real, its verdict counts seeds, its files are there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from textrl.bench import jobs, ppo_core
from textrl.bench.running import Options
from textrl.cli import main


def result(final: float, reached: int | None = 30_000) -> dict[str, Any]:
    curve = [[1000, 20.0], [50_000, final / 2], [100_000, final]]
    return {
        "final": final,
        "reached": reached,
        "steps_per_s": 2000.0,
        "curve": curve,
        "settings": {"seed": 0},
    }


def rows(*finals: float, missing: int = 0) -> list[dict[str, Any]]:
    ours = [result(value) for value in finals]
    return [ppo_core.summary("ppo", ours, len(ours) + missing), ppo_core.summary("sb3/ppo", ours[:2], 2)]


def test_nine_of_ten_seeds_are_enough_and_eight_are_not() -> None:
    solved, failed = [475.0] + [500.0] * 8, [474.9]
    [check] = ppo_core.reached(rows(*solved, *failed))
    assert (check.holds, check.found) == (True, "9 of 10")
    [check] = ppo_core.reached(rows(*solved[1:], *failed, *failed))
    assert not check.holds
    assert ppo_core.reached(rows(*solved, missing=1)) == []


def test_the_table_says_how_many_and_how_bad() -> None:
    shown = ppo_core.table(rows(500.0, 400.0, missing=1), ["a note"])
    assert shown.rows[0] == (
        "ppo", "2/3", "450.0 [400.0, 500.0]", "400.0", "1 of 2", "2,000", "30,000 [30,000, 30,000] (2 of 2)",
    )  # fmt: skip
    nothing = ppo_core.summary("ppo", [], 2)
    assert ppo_core.table([nothing], []).rows[0][1:] == ("0/2", "-", "-", "0 of 0", "-", "never")


def test_both_learners_get_the_zoos_settings() -> None:
    specs = {name: ppo_core._jobs(name, Options("ppo-core"))[0].spec for name in ("ppo", "sb3/ppo")}
    assert specs["ppo"]["settings"] == specs["sb3/ppo"]["settings"]
    assert specs["ppo"]["settings"]["gae_lambda"] == 0.8
    assert specs["ppo"]["total_timesteps"] == specs["sb3/ppo"]["total_timesteps"] == 100_000
    assert len(ppo_core._jobs("ppo", Options("ppo-core"))) == 10


def test_a_run_of_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ppo_core, "QUICK_STEPS", 256)
    monkeypatch.setattr(ppo_core, "QUICK_EVALUATION", 2)
    folder = tmp_path / "jobs"
    folder.mkdir()
    for name in ("ppo", "sb3/ppo"):  # in this process, so that no worker has to start
        [job] = ppo_core._jobs(name, Options("ppo-core", seeds=1, quick=True, out=tmp_path))
        assert jobs.carry_out(job, folder, lambda share: None) == ("done", None)
    line = ["bench", "ppo-core", "--quick", "--seeds", "1", "--out", str(tmp_path), "--json"]
    assert main(line) == 0
    data = json.loads(capsys.readouterr().out)
    ours, theirs = data["rows"]
    assert (ours["learner"], theirs["learner"]) == ("ppo", "sb3/ppo")
    assert ours["final"]["mean"] >= 1
    for name in ("n_steps", "gamma", "gae_lambda", "n_epochs", "batch_size", "clip_range"):
        assert ours["settings"][name] == theirs["settings"][name]
    assert data["checks"] == []  # a quick run proves nothing
    picture = (tmp_path / "figures" / "ppo-core-CartPole-v1.svg").read_text()
    assert "sb3/ppo" in picture
    assert "QUICK" in (tmp_path / "tables.md").read_text()


def test_options_of_other_benchmarks_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "ppo-core", "--learners", "sarsa"]) == 2
    assert "--learners does nothing in 'textrl bench ppo-core'" in capsys.readouterr().err
