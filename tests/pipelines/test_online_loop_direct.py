"""The baseline without a reward model: its gradient by brute force, and what it learns."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from textrl.data.prompts import read_prompts
from textrl.evaluation.statistics import Floats
from textrl.learners.ppo_ptx import PPOPTX, PPOPTXSettings
from textrl.learners.ppo_ptx.generation import sample
from textrl.mdp.task import TokenTask
from textrl.models.loading import load_causal_lm
from textrl.models.tiny import tiny_gpt2
from textrl.pipelines.loop.direct import Pay, ranking_advantages, step
from textrl.pipelines.loop.labelers import Candidates, ScoringLabeler
from textrl.registry import get_registry

PROMPTS = ["the film", "a story", "this scene", "an actor"]
K = 4


def letters(candidates: Sequence[Candidates]) -> list[Floats]:
    """A taste for small letters."""
    return [np.array([small(text) for text in one.responses]) for one in candidates]


def small(text: str) -> float:
    return float(sum(letter.islower() for letter in text))


@pytest.fixture
def learner(tmp_path: Path) -> PPOPTX:
    torch.set_num_threads(1)
    folder = str(
        tiny_gpt2(folder=tmp_path / "model", width=32, layers=1, heads=2, context=32, vocab_size=300)
    )
    _, tokenizer = load_causal_lm(folder)
    task = TokenTask(
        read_prompts(PROMPTS, tokenizer, max_prompt_tokens=16),
        tokenizer,
        len(tokenizer),
        {tokenizer.eos_token_id},
        tokenizer.pad_token_id,
        5,
        None,
    )
    get_registry().register_envs()
    settings = PPOPTXSettings(
        policy=folder, value_network="head", episodes_per_iteration=len(PROMPTS) * K, minibatches=1,
        micro_batch_size=6, learning_rate=3e-3, warmup_iterations=0, max_grad_norm=1e9, ema_decay=0.0,
        precision="fp32",
    )  # fmt: skip
    return PPOPTX(gymnasium.make("TextRL/Tokens-v0", task=task), settings)


def test_the_gradient_is_that_of_the_advantages_times_the_log_probabilities(learner: PPOPTX) -> None:
    before, prompts = copy.deepcopy(learner.networks.policy), list(learner.task.prompts)
    first = 7
    labeler = ScoringLabeler(letters)
    repeated = [prompt for prompt in prompts for _ in range(K)]
    episodes = torch.arange(first * K, first * K + len(repeated))
    rollout = sample(learner.networks, learner.task, repeated, episodes, learner.settings)
    found: dict[str, torch.Tensor] = {}

    def keep(*_: Any) -> None:
        params = learner.networks.policy.named_parameters()
        found.update({name: p.grad.clone() for name, p in params if p.grad is not None})

    learner.updater.policy_optimizer.register_step_pre_hook(keep)
    assert step(learner, labeler, prompts, first, Pay(K, 2.0, 0.1)) == len(prompts)
    texts = [learner.task.decode(row[real].tolist()) for row, real in
             zip(rollout.response_ids, rollout.response_mask, strict=True)]  # fmt: skip
    candidates = [Candidates(0, prompt, tuple(texts[i * K : i * K + K])) for i, prompt in enumerate(prompts)]
    ranks = torch.tensor(labeler.ranks(candidates))
    assert len(set(ranks.flatten().tolist())) > 1
    advantages = ranking_advantages(ranks, torch.zeros(len(prompts), K), scale=2.0, kl_coef=0.1).flatten()
    loss, count = torch.zeros(()), 0
    for row, advantage in enumerate(advantages):
        prompt = list(repeated[row].ids)
        response = rollout.response_ids[row][rollout.response_mask[row]].tolist()
        logits = before(torch.tensor([prompt + response])).logits[0].log_softmax(1)
        for position, token in enumerate(response):
            loss = loss - advantage * logits[len(prompt) + position - 1, token]
            count += 1
    (loss / count).backward()
    wanted = {name: p.grad for name, p in before.named_parameters() if p.grad is not None}
    assert wanted
    for name, gradient in wanted.items():
        assert torch.allclose(found[name], gradient, atol=1e-5, rtol=1e-3), name


def test_it_learns_what_is_ranked_best(learner: PPOPTX) -> None:
    labeler, prompts, pay = (
        ScoringLabeler(letters, temperature=0.3),
        list(learner.task.prompts),
        Pay(K, 1.0, 0.0),
    )

    def taste(first: int) -> float:
        repeated = prompts * 16
        rollout = sample(
            learner.networks, learner.task, repeated, torch.arange(first, first + 64), learner.settings
        )
        rows = zip(rollout.response_ids, rollout.response_mask, strict=True)
        return float(np.mean([small(learner.task.decode(row[real].tolist())) for row, real in rows]))

    start = taste(10**6)
    for number in range(40):
        step(learner, labeler, prompts, 100 * number, pay)
    assert taste(10**6) > start + 1.0
    assert learner.iteration == 40
    assert learner.metrics["train/kl_ref"] > 0
