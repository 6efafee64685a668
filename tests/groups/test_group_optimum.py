"""Both learners find their own optimum: pi* with k1 in the reward, another with k3 in the loss."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from textrl.bench import optimum as bench
from textrl.bench import optimum_groups
from textrl.bench.jobs import Job, Outcome
from textrl.bench.optimum import Cell, reached, row
from textrl.bench.optimum_trial import make_learner, run_world, slow_down
from textrl.bench.running import Options
from textrl.bench.tables import NOTHING
from textrl.cli import main
from textrl.evaluation.loss_kl import k3_loss_optimum
from textrl.evaluation.optimum import total_variation
from textrl.learners.grpo import GRPOSettings


def spec(learner: str, rewards: str, beta: float, **changes: Any) -> dict[str, Any]:
    made = Cell(rewards, beta, quick=True, learner=learner).spec(0)
    return {**made, "vocabulary": 4, "iterations": 40, **changes}


@pytest.mark.parametrize(("learner", "rewards", "beta"), [("rloo", "episode", 0.5), ("grpo", "token", 0.5)])
def test_with_k1_in_the_reward_it_is_pi_star(learner: str, rewards: str, beta: float) -> None:
    result = run_world(spec(learner, rewards, beta), {}, lambda share: None)
    start, end = result["start"], result["averaged"]
    assert start["total_variation"] > 0.15
    assert end["total_variation"] <= 0.02
    assert end["gap_closed"] >= 0.99
    # The logged KL is the exact one, within standard errors that are exact too.
    z = torch.tensor(result["z"])
    assert float(z.abs().max()) < 4.5
    assert abs(float(z.mean())) * len(z) ** 0.5 < 4
    for name, found in result["sampled"].items():
        assert abs(found["mean"] - end[name]) < 4 * found["error"] + 1e-9
        # What pi* has is not what the policy has, and near it.
        assert 0 < abs(found["best"] - end[name]) < 0.05
    assert "own" not in result


def test_with_k3_in_the_loss_it_is_another_policy() -> None:
    """Groups of two: advantages are half of what they should be, so that beta counts double."""
    beta, iterations = 0.4, 60
    settings = GRPOSettings(
        policy="made here", precision="fp32", group_size=2, episodes_per_iteration=512, epochs=2,
        micro_batch_size=512, learning_rate=5e-3, adam_beta2=0.999, warmup_iterations=0, ema_decay=0.95,
        kl="loss", beta=beta, scale_advantages=False, aggregation="constant",
    )  # fmt: skip
    learner, optimum = make_learner("token", beta, 4, 2, 1, settings, "grpo")
    assert learner.rewards.sources == ()
    learner.learn(
        iterations=iterations,
        callback=lambda made: slow_down(made, max((1 - made.iteration / iterations) ** 2, 0.01)),
    )
    with learner.updater.averaged():
        reached_policy = optimum.logprobs(learner.networks.policy)
    own, single = (k3_loss_optimum(optimum, weight) for weight in (2 * beta, beta))

    def distance(other: torch.Tensor) -> float:
        return float(total_variation(reached_policy, other).mean())

    assert distance(own) < 0.04
    assert distance(optimum.log_best) > 0.1
    assert distance(single) > 0.1  # and not at the optimum of an undoubled beta


def result(distance: float, reward: float, kl: float = 0.5, **more: float) -> dict[str, Any]:
    """Return what a run gives; pi* earns 1 at a KL of .5, and estimates have an error of .01."""
    standing = {"total_variation": distance, "gap_closed": 0.995, "kl": 0.5}
    curve = [{"episodes": 0, **standing}]
    return {
        "start": standing, "last": standing, "averaged": standing, "best": 1.0, "responses": 30,
        "episodes": 100, "z": [1.0, -1.0], "cpu_s": 2.0, "curve": curve,
        "sampled": {
            "reward": {"mean": reward, "error": 0.01, "best": 1.0},
            "kl": {"mean": kl, "error": 0.01, "best": 0.5},
            "objective": {"mean": reward - kl / 2, "error": 0.001, "best": 0.75},
        },
        **more,
    }  # fmt: skip


def test_verdicts_follow_from_the_figures() -> None:
    cell = Cell("token", 0.5, learner="rloo")
    assert cell.name == "rloo, token, beta 0.5"
    assert cell.spec(1)["learner"] == "rloo"
    assert "beta" not in cell.spec(1)["settings"]
    near, far = result(0.01, 1.01), result(0.01, 0.97)
    assert [(c.found, c.holds) for c in reached(row(cell, [near] * 10, 10))[-2:]] == [
        ("10 of 10 seeds", True)
    ] * 2
    low = [c.holds for c in reached(row(cell, [near] * 7 + [far] * 3, 10))[-2:]]
    assert low == [False, True]
    apart = [c.holds for c in reached(row(cell, [near] * 7 + [result(0.01, 1.01, kl=0.53)] * 3, 10))[-2:]]
    assert apart == [True, False]
    other = Cell("token", 0.5, learner="grpo_k3")
    assert other.spec(1)["settings"]["beta"] == 0.5
    assert other.spec(1)["iterations"] == 3 * cell.spec(1)["iterations"]
    (check,) = reached(row(other, [result(0.2, 0.9, own=0.02, apart=0.2)] * 2, 2))
    assert check.holds
    (check,) = reached(row(other, [result(0.2, 0.9, own=0.3, apart=0.2)] * 2, 2))
    assert not check.holds
    assert reached(row(other, [result(0.2, 0.9, own=0.3, apart=0.2)], 2)) == []
    cells = optimum_groups.table([row(cell, [near, far], 2), row(other, [], 2)]).rows
    assert cells[0][1:] == (
        "0.990", "1.000", "1 of 2", "0.500", "0.500", "2 of 2", "0 of 2", "0.0100", NOTHING, NOTHING
    )  # fmt: skip
    assert len(cells[1]) == 11


def in_this_process(options: Options, jobs: Sequence[Job], title: str) -> Outcome:
    """Do what the grid's worker processes do, without starting any."""
    found = {job.name: run_world(job.spec, {}, lambda share: None) for job in jobs}
    return Outcome(results=found, failures={})


def test_the_command_takes_the_learners(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "QUICK", {"vocabulary": 4, "horizon": 2, "iterations": 2, "measured": 2})
    monkeypatch.setattr(bench, "BETAS", (1.0,))
    monkeypatch.setattr(bench, "carry_out", in_this_process)
    command = ["bench", "optimum", "--quick", "--only", "token", "--seeds", "1", "--out", str(tmp_path)]
    assert main([*command, "--learners", "rloo", "grpo_k3", "--json"]) == 0
    cells = json.loads(capsys.readouterr().out)["cells"]
    assert [(cell["learner"], cell["finished"]) for cell in cells] == [("rloo", 1), ("grpo_k3", 1)]
    assert "Learners on groups" in (tmp_path / "tables.md").read_text(encoding="utf-8")
    assert main(["bench", "optimum", "--learners", "rlo"]) == 2
    assert "Did you mean 'rloo'" in capsys.readouterr().err
