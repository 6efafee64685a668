"""`textrl bench text`: every kind of learner runs, the grid has no gaps, the tables say what was found."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch
from bench_kit import strings, timeless
from text_bench_kit import job_of

from textrl.bench import text, text_grid, text_tables, text_trial
from textrl.bench.jobs import Job
from textrl.bench.measures import summarise
from textrl.bench.text_building import build_learner
from textrl.bench.text_grid import ROWS, TASKS, Cell, grid, select, why_not
from textrl.bench.text_trial import run_text
from textrl.bench.text_unknown import run_unknown
from textrl.cli import main
from textrl.registry import get_registry

#: Row and a task on which it differs from the row before.
KINDS = [
    ("random", "copy"), ("random", "keyword"), ("greedy", "keyword"), ("best-of-16", "copy"),
    ("best-of-16", "keyword"), ("sarsa", "copy"), ("sarsa", "keyword"), ("sb3/dqn", "copy"),
    ("sb3/a2c", "copy"), ("sb3/ppo", "keyword"), ("contrib/maskable_ppo", "copy"),
    ("contrib/maskable_ppo+masks", "brackets"), ("contrib/recurrent_ppo", "copy"), ("rloo", "copy"),
    ("grpo", "keyword"), ("ppo_ptx", "copy"), ("ppo_ptx", "keyword"), ("ppo_ptx+h", "copy"),
    ("ppo_ptx+h", "sentiment"),
]  # fmt: skip


def run(spec: Mapping[str, Any]) -> dict[str, Any]:
    return run_text(spec, {}, lambda share: None)


# Jobs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("row", "task"), KINDS, ids=lambda one: str(one))
def test_each_kind_of_learner_really_runs(row: str, task: str) -> None:
    found = run(job_of(row, task))
    json.dumps(found, allow_nan=False)
    assert found["score"] <= 1 + 1e-6
    assert found["scale"]["how"] == "computed"
    assert (found["kl"] is None) == (task == "copy" or task == "brackets")
    assert not any(text.startswith("/") for text in strings(found["settings"]))
    if ROWS[row].learner is None:
        assert (found["tokens"], found["curve"], found["settings"]) == (0, [], None)
        return
    assert 0 < found["tokens"] <= 96  # never more than the budget
    assert found["curve"][-1] == [found["tokens"], found["score"]]
    assert found["curve"][0][0] >= 48
    assert found["tokens_per_s"] > 0
    # What learns values has no other policy than the greedy one; a prior's tasks are judged as it samples.
    assert (found["sampled"] is None) == (found["kl"] is not None or row in ("sarsa", "sb3/dqn"))
    assert (found["presses"] is not None) == row.endswith("+h")
    assert (found["without"] is not None) == row.endswith("+h")
    if row.endswith("+masks"):
        # The rules leave right brackets open only.
        assert (found["score"], found["sampled"]) == pytest.approx((1.0, 1.0))
    if row == "random" and task == "keyword":
        assert found["score"] == pytest.approx(0.0, abs=1e-5)


def test_a_job_is_decided_by_its_seed() -> None:
    spec = job_of("ppo_ptx+h", "copy")
    first, second = run(spec), run(spec)
    assert timeless(first) == timeless(second)
    assert first["presses"] > 0
    other = run(spec | {"seed": 4})
    assert other["settings"]["seed"] == 4
    assert other["sampled"] != first["sampled"]


def test_measuring_does_not_disturb_the_training() -> None:
    """A curve of one point or of many: the same learner at the end."""
    for row in ("ppo_ptx", "contrib/recurrent_ppo", "sarsa"):
        few, many = (run(job_of(row, "keyword", points=points)) for points in (1, 6))
        assert len(few["curve"]) < len(many["curve"])
        assert (few["score"], few["tokens"]) == (many["score"], many["tokens"])


def test_language_models_learn_under_the_penalty_and_others_are_paid_it() -> None:
    get_registry().register_envs()
    clean = gymnasium.make(TASKS["keyword"].env, difficulty="tiny").unwrapped
    model, _, _ = build_learner(job_of("rloo", "keyword"), clean)
    assert model.rewards.weights == {"kl": 0.2}  # the task's beta
    assert model.task.rewards.weights == {"task": 1.0}
    network, settings, _ = build_learner(job_of("contrib/maskable_ppo", "keyword"), clean)
    assert network.env.unwrapped.task.rewards.weights == {"task": 1.0, "prior": 0.2}
    assert (settings.ent_coef, settings.normalize_advantage) == (0.2, False)
    other = gymnasium.make(TASKS["copy"].env, difficulty="tiny").unwrapped
    free, _, _ = build_learner(job_of("ppo_ptx", "copy"), other)
    assert free.rewards.weights == {"kl": TASKS["copy"].kl}


@pytest.mark.parametrize("row", ["random", "greedy", "best-of-16", "grpo", "ppo_ptx+h"])
def test_where_the_optimum_is_not_known_the_objective_is_estimated(row: str) -> None:
    get_registry().register_envs()
    env: Any = gymnasium.make(TASKS["sentiment"].env, model="tiny-gpt2", length=4).unwrapped
    spec = job_of(row, "sentiment", budget=160, episodes=32, difficulty="small")
    found = run_unknown(spec, env, lambda share: None)
    assert (found["score"], found["scale"]["optimum"]) == (None, None)
    assert found["value"] == pytest.approx(found["reward"] - 0.05 * found["kl"])
    if row == "random":
        assert found["kl"] == pytest.approx(0.0, abs=1e-4)  # the prior itself
    elif row == "greedy":
        assert found["kl"] > 0  # minus the log-probability of the one response
    elif row == "best-of-16":
        assert found["kl"] == pytest.approx(1.835089)  # log 16 - 15 / 16
    else:
        assert 0 < found["tokens"] <= 160
        assert len(found["curve"]) >= 1
    json.dumps(found, allow_nan=False)


# The grid ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("difficulty", text_grid.DIFFICULTIES)
def test_every_row_is_on_every_task_or_it_is_said_why_not(difficulty: str) -> None:
    cells = {(cell.row, cell.task) for cell in grid(difficulty, False)}
    for row in ROWS:
        for task in TASKS:
            assert ((row, task) in cells) == (why_not(row, task, difficulty) is None)
    assert {("ppo_ptx", task) for task in TASKS} <= cells  # of every task something is found


def test_budgets_and_sizes_are_the_tasks_own_and_quick_ones_small() -> None:
    for cell in grid("small", False):
        recipe = get_registry().find("env", TASKS[cell.task].env).load().recipe
        assert cell.budget == recipe.budgets["small"]
        assert cell.spec(10)["sizes"] == asdict(recipe.sizes["small"])
    quick = grid("tiny", True)
    assert max(cell.budget for cell in quick) <= text_grid.QUICK_TOKENS
    assert sum(cell.cost() for cell in quick) < 2 * 180 + 60


def test_results_of_other_sizes_or_revisions_are_not_taken_for_these(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = grid("tiny", False)[3]

    def key(one: Cell) -> str:
        return Job("one", text_grid.TARGET, one.spec(10)).key

    before = key(cell)
    assert key(cell) == before
    other = Cell(cell.row, cell.task, cell.difficulty, cell.budget, {**cell.sizes, "length": 5})
    assert key(other) != before
    read = next(one for one in grid("tiny", False) if one.row == "ppo_ptx+h")
    alone, taught = key(cell), key(read)
    monkeypatch.setattr(text_trial, "READ", text_trial.READ + 1)
    assert (key(cell) == alone, key(read) == taught) == (True, False)
    monkeypatch.setattr(text_trial, "REVISION", text_trial.REVISION + 1)
    assert key(cell) != before


def test_names_select_rows_and_tasks() -> None:
    cells = grid("small", False)
    chosen = select(cells, ["contrib/maskable_ppo"], ["TextRL/Brackets-v0", "copy"])
    assert [(cell.row, cell.task) for cell in chosen] == [
        ("contrib/maskable_ppo", "copy"), ("contrib/maskable_ppo", "brackets"),
        ("contrib/maskable_ppo+masks", "brackets"),
    ]  # fmt: skip
    assert [cell.row for cell in select(cells, ["ppo_ptx"], ["copy"])] == ["ppo_ptx", "ppo_ptx+h"]


# Tables ------------------------------------------------------------------------------------------------


def result(score: float, **more: Any) -> dict[str, Any]:
    return {
        "score": score, "value": score, "reward": score, "kl": None, "sampled": score - 0.01, "without": None,
        "reached": 800 if score >= 0.95 else None, "tokens": 1000, "tokens_per_s": 500.0, "cpu_s": 2.0,
        "wall_s": 3.0, "presses": None, "curve": [[500, score / 2], [1000, score]], "settings": {"seed": 1},
        "scale": {"random": 0.0, "optimum": 1.0, "how": "computed", "beta": None},
    } | more  # fmt: skip


def rows_of(found: Mapping[tuple[str, str], Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [
        text.row(Cell(row, task, "small", 1000, {}), results, 3) for (row, task), results in found.items()
    ]


def test_the_overview_by_hand() -> None:
    unknown = result(0.0) | {
        "score": None,
        "value": 0.25,
        "kl": 1.0,
        "sampled": None,
        "scale": {"optimum": None},
    }
    rows = rows_of({
        ("ppo_ptx", "copy"): [result(0.98), result(0.96), result(0.97)],
        ("contrib/maskable_ppo", "copy"): [result(0.5), result(0.5)],
        ("ppo_ptx", "keyword"): [result(0.9, sampled=None)] * 3,
        ("rloo", "sentiment"): [unknown] * 3,
    })  # fmt: skip
    scores, sampled, costs, estimates = text_tables.overview(rows, ["a note"])
    assert scores.columns == ("", "copy", "keyword")
    assert scores.rows == (
        ("budget, tokens", "1,000", "1,000"),
        ("contrib/maskable_ppo", "0.500 [0.500, 0.500] (2 of 3 seeds)", "-"),
        ("rloo", "-", "-"),
        ("ppo_ptx", "0.970 [0.960, 0.980]", "0.900 [0.900, 0.900]"),
    )
    assert scores.notes == ("a note",)
    assert [line[:2] for line in sampled.rows] == [
        ("contrib/maskable_ppo", "0.490 [0.490, 0.490]"), ("ppo_ptx", "0.960 [0.950, 0.970]"),
    ]  # fmt: skip
    assert costs.rows[0] == ("contrib/maskable_ppo", "500; 2", "-")
    assert estimates.rows[0][:3] == ("rloo, sentiment", "3", "0.250 [0.250, 0.250]")
    detail = text_tables.detail("copy", rows[:2])
    assert [line[6] for line in detail.rows] == ["800 [800, 800]", "never (0 of 2)"]


def test_what_was_to_be_reached_by_hand() -> None:
    ours = [result(0.98), result(0.96), result(0.97)]
    rows = rows_of({
        ("ppo_ptx", "copy"): ours, ("contrib/maskable_ppo", "copy"): [result(0.99)] * 3,
        ("ppo_ptx", "reverse"): ours, ("contrib/maskable_ppo", "reverse"): [result(0.98)] * 3,
        ("ppo_ptx", "length"): [result(0.94)] * 3, ("contrib/maskable_ppo", "length"): [result(0.5)] * 3,
        ("ppo_ptx", "keyword"): ours[:2],
    })  # fmt: skip
    found = {check.claim: check.holds for check in text_tables.checks(rows)}
    assert found == {
        "ppo_ptx, copy: score at least 0.95": True,
        # -.01, -.03, -.02: worse in every resample.
        "ppo_ptx, copy: at least as good as contrib/maskable_ppo": False,
        "ppo_ptx, reverse: score at least 0.95": True,
        # 0, -.02, -.01: the three lowest resamples of 27 reach 0 in one.
        "ppo_ptx, reverse: at least as good as contrib/maskable_ppo": True,
        "ppo_ptx, length: score at least 0.95": False,
        "ppo_ptx, length: at least as good as contrib/maskable_ppo": True,
    }


def test_curves_are_drawn_and_the_short_results_are_short() -> None:
    assert "ppo_ptx" in text_tables.curves("copy", [("ppo_ptx", [result(0.5), result(0.7)])])
    assert text_tables.curves("copy", [("random", [result(0.0, curve=[])])]) == ""
    rows = rows_of({("ppo_ptx", "copy"): [result(0.123456789)] * 3})
    kept = text.short({"what": "text", "cells": rows})["cells"][0]
    assert "settings" not in kept
    assert kept["score"]["values"] == [0.12346] * 3
    assert summarise([0.1, 0.2]).mean == pytest.approx(0.15)


# The command -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--learners ppo_ptxx", "There is no learner 'ppo_ptxx' in this benchmark. Did you mean 'ppo_ptx'?"),
        ("--envs copyy", "There is no task 'copyy' in this benchmark. Did you mean 'copy'?"),
        ("--difficulty smal", "There is no difficulty 'smal' in this benchmark. Did you mean 'small'?"),
        ("--learners sarsa --envs sentiment", "Nothing is left to run: sarsa on sentiment: a vocabulary of"),
        ("--seeds 0", "--seeds is 0; it must be at least 1."),
        ("--only token", "--only does nothing in 'textrl bench text'"),
    ],
)
def test_bad_names_are_refused(
    line: str, says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["bench", "text", *line.split(), "--out", str(tmp_path / "out")]) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_the_command_goes_on_where_it_was(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    carried_out: list[str] = []

    def here(missing: Any, folder: Path, workers: int, title: str, found: Any, outcome: Any) -> None:
        """Carry the jobs out in this process: a worker would import everything again."""
        from textrl.bench import jobs

        for job in missing:
            carried_out.append(job.name)
            assert jobs.carry_out(job, folder, lambda share: None) == ("done", None)
            found[job.name] = jobs.read_result(job, folder)

    monkeypatch.setattr("textrl.bench.jobs._carry_out_all", here)
    line = ["bench", "text", "--quick", "--learners", "random", "greedy", "--envs", "copy", "--out",
            str(tmp_path)]  # fmt: skip
    assert main(line) == 0
    assert carried_out == ["random copy tiny seed 10", "greedy copy tiny seed 10"]
    shown = capsys.readouterr().out
    assert "Score, tiny" in shown
    data = json.loads((tmp_path / "results.json").read_text())
    assert [cell["row"] for cell in data["cells"]] == ["random", "greedy"]
    assert (data["checks"], data["failures"]) == ([], {})
    assert abs(data["cells"][0]["score"]["mean"]) < 0.15
    for name in ("tables.txt", "tables.md", "report.html", "short.json"):
        assert (tmp_path / name).stat().st_size > 500
    assert main([*line, "--seeds", "2", "--json"]) == 0
    assert carried_out[2:] == ["random copy tiny seed 11", "greedy copy tiny seed 11"]
    assert json.loads(capsys.readouterr().out)["cells"][0]["seeds"] == 2


def test_jobs_use_one_thread() -> None:
    torch.set_num_threads(2)
    try:
        run(job_of("random", "copy"))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(1)
