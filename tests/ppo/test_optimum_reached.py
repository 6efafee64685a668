"""The real learner finds the optimum that is known, and logs the KL that is known. One world of each kind."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from textrl.bench.optimum import Cell
from textrl.bench.optimum_trial import make_learner, run_world
from textrl.bench.optimum_world import EOS, PAD, make_task, reference
from textrl.evaluation.optimum import Optimum, kl_moments, total_variation
from textrl.learners.ppo_ptx.experience import collect
from textrl.learners.ppo_ptx.settings import PPOPTXSettings
from textrl.protocols import Batch

WORLDS = [("episode", 0.5), ("token", 1.0)]


@pytest.mark.parametrize(("rewards", "beta"), WORLDS)
def test_the_learner_finds_the_optimum(rewards: str, beta: float) -> None:
    spec = Cell(rewards, beta, quick=True).spec(0)
    told: list[float] = []
    result = run_world(spec, {}, told.append)
    assert told[-1] == 1
    start, end = result["start"], result["averaged"]
    assert start["total_variation"] > 0.2
    assert start["gap_closed"] == pytest.approx(0, abs=1e-9)
    assert end["total_variation"] <= 0.02
    assert end["gap_closed"] >= 0.99
    assert end["objective"] <= result["best"]
    assert result["curve"][0]["total_variation"] == pytest.approx(start["total_variation"])
    # Standard errors are exact, so these are draws of a standard normal variable.
    z = torch.tensor(result["z"])
    assert len(z) == spec["iterations"] - 1
    assert float(z.abs().max()) < 4.5
    assert abs(float(z.mean())) * math.sqrt(len(z)) < 4
    # Another beta's optimum is further away than what counts as reached: the test could tell them apart.
    policy = reference(spec["vocabulary"], 0)
    task = make_task(rewards, spec["vocabulary"], spec["horizon"], 0, policy)
    one, other = (Optimum.of(task, policy, b).log_best for b in (beta, 1.5 * beta))
    assert float(total_variation(one, other).mean()) > 0.04


def test_the_exact_kl_is_the_mean_of_k1() -> None:
    settings = PPOPTXSettings(
        policy="made here", episodes_per_iteration=256, minibatches=2, micro_batch_size=256,
        learning_rate=3e-3, value_learning_rate=3e-3, warmup_iterations=0, precision="fp32",
    )  # fmt: skip
    learner, optimum = make_learner("both", 0.5, 5, 3, 1, settings)
    learner.learn(iterations=8)
    log_policy = optimum.logprobs(learner.networks.policy)
    mean, variance = kl_moments(log_policy, optimum.log_ref)
    many = replace(settings, episodes_per_iteration=8192, micro_batch_size=4096)
    experience = collect(
        learner.networks, learner.task, learner.rewards, many, learner.accelerator, 1_000_000
    )
    error = math.sqrt(float(variance.mean()) / many.episodes_per_iteration)
    assert float(mean.mean()) > 15 * error
    assert abs(experience.metrics["train/kl_ref"] - float(mean.mean())) < 4 * error
    # What is trained on is what is logged: beta times k1, with the environment's reward.
    p = log_policy.exp()
    reward = (p * optimum.rewards).sum(1, keepdim=True)
    variance = (p * (optimum.rewards - reward) ** 2).sum(1)
    error = math.sqrt(float(variance.mean()) / many.episodes_per_iteration)
    metrics = experience.metrics
    assert abs(metrics["reward/score"] + metrics["reward/pairs"] - float(reward.mean())) < 4 * error
    assert metrics["reward/kl"] == pytest.approx(-0.5 * metrics["train/kl_ref"], rel=1e-5)


def test_the_worlds_pay_what_they_say() -> None:
    policy = reference(5, 3)
    with torch.no_grad():
        for kind, granularity in (("episode", "episode"), ("token", "token")):
            task = make_task(kind, 5, 3, 3, policy)
            assert task.rewards is not None
            (source,) = task.rewards.sources
            assert source.spec.granularity == granularity
            optimum = Optimum.of(task, policy, 1.0)
            p = optimum.log_ref.exp()
            middle = (p * optimum.rewards).sum(1, keepdim=True)
            assert float((p * (optimum.rewards - middle) ** 2).sum(1).mean()) == pytest.approx(1, rel=1e-4)
    pay = make_task("token", 5, 3, 3, policy).rewards
    assert pay is not None
    batch = Batch(
        prompt_ids=torch.tensor([[PAD, 2], [3, 2]]),
        prompt_mask=torch.tensor([[False, True], [True, True]]),
        response_ids=torch.tensor([[3, EOS, PAD], [4, 4, 2]]),
        response_mask=torch.tensor([[True, True, False], [True, True, True]]),
    )
    (source,) = pay.sources
    table = source.reward.table  # type: ignore[attr-defined]
    expected = [[table[2, 3], table[3, EOS], 0.0], [table[2, 4], table[4, 4], table[4, 2]]]
    assert torch.allclose(source.reward(batch), torch.tensor(expected))
