"""The gold judge is what its text says, proxies learn it, and PPO against one of them over-optimises it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from textrl.evaluation.overopt import study
from textrl.evaluation.overopt.proxies import ScoreReward, WordSum, agreement, draw_pairs, train_proxy
from textrl.evaluation.overopt.trial import make_learner, measure, run_trial, sequence_logprobs
from textrl.evaluation.overopt.world import (
    EOS,
    PAD,
    World,
    WorldSettings,
    scores_of,
    standardised,
    word_counts,
)
from textrl.mdp.task import Prompt
from textrl.protocols import Batch

SMALL: dict[str, Any] = {**study.WORLD, "prompts": 2, "normalise": 1024}


@pytest.fixture(scope="module")
def world() -> World:
    return World(WorldSettings(**SMALL), seed=0)


def spec(**changes: Any) -> dict[str, Any]:
    base = {
        "seed": 0, "world": SMALL, "size": "words", "pairs": 300, "kl_weight": 0.0, "samples": 128,
        "iterations": 16, "every": 2, "measured": 32,
        "settings": {**study.SETTINGS, "learning_rate": 5e-3, "episodes_per_iteration": 128},
    }  # fmt: skip
    return {**base, **changes}


def test_words_are_counted_without_pad_and_eos() -> None:
    ids = torch.tensor([[5, 3, 4, 3, EOS, PAD]])
    mask = torch.tensor([[True, True, True, True, False]])
    assert word_counts(ids, mask, 6).tolist() == [[0, 0, 0, 2, 1, 0]]


def test_gold_pays_words_and_takes_for_repetition() -> None:
    world = World(WorldSettings(**{**SMALL, "taste": 0.0}), seed=1)
    prompt, response = [2, 3], [4, 5, 4, 4]
    ids = torch.tensor([prompt + response])
    mask, real = torch.ones_like(ids, dtype=torch.bool), torch.ones(1, 4, dtype=torch.bool)
    worth = 3 * float(world.values[4]) + float(world.values[5]) - 0.5 * 3  # three pairs of equal words
    zero = torch.zeros(1, 4, dtype=torch.bool)
    nothing = float(world.gold(ids[:, :2].repeat(1, 3), mask, zero))  # no word said
    unit = 1.0 / (world._sd)
    assert float(world.gold(ids, mask, real)) - nothing == pytest.approx(worth * unit, rel=1e-4)


def test_gold_and_scores_have_mean_0_and_variance_1_at_the_beginning(world: World) -> None:
    texts = world.sample(world.policy, 512, stream=5)
    gold = scores_of(world.gold, texts)
    assert float(gold.mean()) == pytest.approx(0.0, abs=0.02)
    assert float(gold.std()) == pytest.approx(1.0, abs=0.02)
    scaled = scores_of(standardised(lambda *parts: 3 + 2 * world.gold(*parts), texts), texts)
    assert torch.allclose(scaled, (gold - gold.mean()) / gold.std(), atol=1e-4)


def test_a_world_is_a_function_of_its_seed(world: World) -> None:
    same, other = (World(WorldSettings(**SMALL), seed=seed) for seed in (0, 1))
    texts = world.sample(world.policy, 32, stream=9)
    assert torch.equal(
        scores_of(world.gold, texts), scores_of(same.gold, same.sample(same.policy, 32, stream=9))
    )
    assert not torch.equal(world.values, other.values)
    assert {len(prompt.ids) for prompt in world.prompts} == {2}


def test_labels_are_drawn_by_bradley_and_terry(world: World) -> None:
    pairs = draw_pairs(world, 2000, stream=11)
    assert len(pairs.ranks) == 2000
    first = (pairs.ranks[:, 0] < pairs.ranks[:, 1]).double()
    chance = torch.sigmoid(pairs.gold[:, 0] - pairs.gold[:, 1]).double()
    error = math.sqrt(float((chance * (1 - chance)).sum()))
    assert abs(float((first - chance).sum())) < 4 * error
    # Both texts of a pair answer one prompt.
    assert torch.equal(pairs.ids[:, 0, :2], pairs.ids[:, 1, :2])


def test_proxies_learn_from_noisy_labels(world: World) -> None:
    fresh = world.sample(world.policy, 500, stream=12)
    gold = scores_of(world.gold, fresh)
    assert agreement(world.gold, fresh, gold) == 1.0
    assert agreement(lambda ids, *_: torch.zeros(len(ids)), fresh, gold) == 0.5
    trained = train_proxy(world, "words", 600)
    assert 0.6 < trained.label_agreement < 0.85  # as often as two people
    assert agreement(trained.score, fresh, gold) > 0.7
    assert trained.parameters == SMALL["vocabulary"]
    network = train_proxy(world, "narrow", 300)
    assert agreement(network.score, fresh, gold) > 0.6


def test_a_reward_reads_prompt_and_response() -> None:
    words = WordSum(8)
    with torch.no_grad():
        words.values.copy_(torch.arange(8.0))
    batch = Batch(
        prompt_ids=torch.tensor([[6, 7]]),
        prompt_mask=torch.ones(1, 2, dtype=torch.bool),
        response_ids=torch.tensor([[3, 3, EOS]]),
        response_mask=torch.tensor([[True, True, True]]),
    )
    assert ScoreReward(words)(batch).tolist() == [6.0]


def test_the_measured_kl_is_that_of_the_task_by_enumeration() -> None:
    """A world of few short texts: the mean of log-ratios against the exact KL."""
    from textrl.evaluation.optimum import all_responses, kl_moments, response_logprobs

    world = World(WorldSettings(**{**SMALL, "vocabulary": 8, "length": 3, "normalise": 256}), seed=2)
    learner = make_learner(world, world.gold, spec(samples=16))
    start = measure(learner, world, world.gold, 64)
    assert start["kl"] == pytest.approx(0.0, abs=1e-5)
    learner.learn(iterations=6)
    task = world.task()
    ids, mask = all_responses(task)

    def logs(model: Any, prompt: Prompt) -> torch.Tensor:
        return response_logprobs(model, task, prompt, ids, mask)[None]

    exact = [
        kl_moments(logs(learner.networks.policy, prompt), logs(world.policy, prompt))
        for prompt in task.prompts
    ]
    mean = sum(float(one[0]) for one in exact) / len(exact)
    error = math.sqrt(sum(float(one[1]) for one in exact) / len(exact) / (2 * 1024))
    assert mean > 0.1
    assert measure(learner, world, world.gold, 1024)["kl"] == pytest.approx(mean, abs=4 * error)
    texts = world.sample(learner.networks.policy, 8, stream=3)
    assert (sequence_logprobs(learner, texts)[~texts.response_mask] == 0).all()


def test_the_proxy_rises_while_the_gold_score_falls() -> None:
    """The lesson, small: a sum over words learns that a good word is good, and PPO says nothing else."""
    told: list[float] = []
    result = run_trial(spec(), {}, told.append)
    ppo = result["ppo"]
    top = max(ppo, key=lambda point: point["gold"])
    assert top["gold"] > 0.3
    assert ppo[-1]["proxy"] > top["proxy"] + 0.2
    assert ppo[-1]["gold"] < top["gold"] - 0.5
    assert told[-1] == pytest.approx(1.0)
    best = result["best_of_n"]
    assert (best[0]["kl"], best[0]["gold"]) == (0.0, 0.0)
    assert best[-1]["proxy"] > best[1]["proxy"] > 0


def test_nothing_falls_where_the_gold_judge_is_optimised() -> None:
    ppo = run_trial(spec(size="gold", iterations=8), {}, lambda share: None)["ppo"]
    assert all(point["gold"] == pytest.approx(point["proxy"], abs=0.35) for point in ppo)  # but for its scale
    assert ppo[-1]["gold"] > max(point["gold"] for point in ppo) - 0.15
    assert ppo[-1]["gold"] > 1.0
