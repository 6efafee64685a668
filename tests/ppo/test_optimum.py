"""The exact optimum: enumeration, Gibbs tilt, exact KL, and the identities that tie them together."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_world import EOS, PAD, PROMPTS, VOCAB, TokenCount, source, tiny_gpt2, tiny_task
from torch import Tensor

from textrl.errors import UserError
from textrl.evaluation.optimum import (
    Optimum,
    all_responses,
    episode_rewards,
    kl_moments,
    response_logprobs,
    tilt,
    total_variation,
)
from textrl.mdp.kl import k3
from textrl.mdp.task import Prompt, TokenTask
from textrl.registry import get_registry
from textrl.rewards import RewardSum, build_rewards


def written(ids: Tensor, mask: Tensor) -> list[tuple[int, ...]]:
    return [tuple(row[real].tolist()) for row, real in zip(ids, mask, strict=True)]


@pytest.mark.parametrize(("eos", "horizon"), [({EOS}, 1), ({EOS}, 4), (set(), 3), ({EOS, 3}, 3)])
def test_every_response_is_written_down_once(eos: set[int], horizon: int) -> None:
    task = TokenTask(PROMPTS, None, VOCAB, eos, PAD, horizon, None)
    ids, mask = all_responses(task)
    found = written(ids, mask)
    expected = set()
    for tokens in itertools.product(range(VOCAB), repeat=horizon):
        end = next((i for i, token in enumerate(tokens) if token in eos), horizon - 1)
        expected.add(tokens[: end + 1])
    assert len(found) == len(set(found))
    assert set(found) == expected
    assert bool((ids[~mask] == PAD).all())


def test_the_responses_hold_all_of_the_probability() -> None:
    model = tiny_gpt2()
    task = tiny_task(max_new_tokens=4)
    ids, mask = all_responses(task)
    assert len(ids) == 1 + 5 + 25 + 125 * 6
    for prompt in PROMPTS:
        assert float(response_logprobs(model, task, prompt, ids, mask).exp().sum()) == pytest.approx(
            1, abs=1e-5
        )


@torch.no_grad()
def test_log_probabilities_are_those_of_a_plain_forward_pass() -> None:
    model, task, temperature = tiny_gpt2(3), tiny_task(), 0.7
    ids, mask = all_responses(task)
    for prompt in PROMPTS:
        ours = response_logprobs(model, task, prompt, ids, mask, temperature)
        for row in range(0, len(ids), 17):
            response = ids[row][mask[row]]
            whole = torch.cat([torch.tensor(prompt.ids), response])
            logits = model(input_ids=whole[None]).logits[0].double() / temperature
            steps = torch.log_softmax(logits, -1)[len(prompt.ids) - 1 : -1]
            plain = float(steps.gather(1, response[:, None]).sum())
            assert float(ours[row]) == pytest.approx(plain, abs=2e-5)


def test_the_tilt_by_hand() -> None:
    log_ref = torch.tensor([[0.25, 0.75]], dtype=torch.float64).log()
    beta = 0.5
    rewards = torch.tensor([[beta * math.log(3), 0.0]], dtype=torch.float64)
    log_best, log_z = tilt(log_ref, rewards, beta)
    assert log_best.exp()[0].tolist() == pytest.approx([0.5, 0.5])
    assert float(log_z) == pytest.approx(math.log(1.5))
    assert float(total_variation(log_best, log_ref)) == pytest.approx(0.25)
    mean, variance = kl_moments(log_best, log_ref)
    first, second = math.log(2), math.log(2 / 3)
    assert float(mean) == pytest.approx((first + second) / 2)
    assert float(variance) == pytest.approx((first - second) ** 2 / 4)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10_000), beta=st.floats(0.05, 5.0))
def test_what_the_optimum_leaves_is_beta_times_the_kl_to_it(seed: int, beta: float) -> None:
    """J(pi*) - J(pi) = beta KL(pi || pi*) for every pi, so nothing lies above the optimum."""
    generator = torch.Generator().manual_seed(seed)
    log_ref, log_policy = torch.randn(2, 3, 11, generator=generator, dtype=torch.float64).log_softmax(-1)
    rewards = torch.randn(3, 11, generator=generator, dtype=torch.float64)
    log_best, log_z = tilt(log_ref, rewards, beta)
    assert log_best.exp().sum(1).tolist() == pytest.approx([1.0] * 3)
    objective = (log_policy.exp() * rewards).sum(1) - beta * kl_moments(log_policy, log_ref)[0]
    left = beta * kl_moments(log_policy, log_best)[0]
    assert (beta * log_z - objective).tolist() == pytest.approx(left.tolist(), rel=1e-9, abs=1e-12)


def test_the_reference_stands_at_zero_and_the_optimum_at_one() -> None:
    model = tiny_gpt2()
    optimum = Optimum.of(tiny_task(), model, 0.5)
    start = optimum.standing(model)
    assert start.gap_closed == pytest.approx(0, abs=1e-9)
    assert start.kl == pytest.approx(0, abs=1e-9)
    assert start.total_variation > 0.2
    assert start.worst_total_variation > start.total_variation
    best = optimum.standing_of(optimum.log_best)
    assert best.gap_closed == pytest.approx(1)
    assert best.total_variation == 0
    assert best.objective == pytest.approx(optimum.best_objective)
    other = optimum.standing(tiny_gpt2(1))
    assert other.gap_closed < 0
    assert other.objective == pytest.approx(other.reward - 0.5 * other.kl)


def test_rewards_are_those_that_the_task_pays() -> None:
    registry = get_registry()
    sources = {"keyword": {"pattern": r"\b2\b", "mode": "count"}, "length": {"target": 2}}
    rewards = build_rewards(sources, {"keyword": 1.0, "length": 0.5}, registry, where=str)
    task = TokenTask(PROMPTS, None, VOCAB, {EOS}, PAD, 3, rewards)
    ids, mask = all_responses(task)
    paid = dict(zip(written(ids, mask), episode_rewards(task, PROMPTS[1], ids, mask).tolist(), strict=True))
    assert paid[(EOS,)] == pytest.approx(-0.5 * 0.5)
    assert paid[(2, EOS)] == pytest.approx(1)
    assert paid[(2, 4, 2)] == pytest.approx(2 - 0.5 * 0.5)


class EachTokenPays:
    """Per token: the token's number over ten."""

    def __call__(self, batch: object) -> Tensor:
        return torch.where(batch.response_mask, batch.response_ids / 10, 0.0)  # type: ignore[attr-defined]


def test_rewards_paid_token_by_token_add_up() -> None:
    paying = source(EachTokenPays(), 2.0, granularity="token", causal=True)
    task = TokenTask(PROMPTS, None, VOCAB, {EOS}, PAD, 3, RewardSum([paying]))
    ids, mask = all_responses(task)
    paid = dict(zip(written(ids, mask), episode_rewards(task, PROMPTS[0], ids, mask).tolist(), strict=True))
    assert paid[(5, 4, EOS)] == pytest.approx(2.0)
    assert paid[(3, 3, 3)] == pytest.approx(1.8)
    assert paid[(EOS,)] == pytest.approx(0.2)


def test_temperature_is_part_of_both_policies() -> None:
    model, task = tiny_gpt2(), tiny_task()
    warm = Optimum.of(task, model, 1.0, temperature=2.0)
    plain = Optimum.of(task, model, 1.0)
    assert float(total_variation(warm.log_ref, plain.log_ref).min()) > 0.05
    assert warm.standing(model).kl == pytest.approx(0, abs=1e-9)


def test_what_cannot_be_enumerated_is_refused() -> None:
    model = tiny_gpt2()
    with pytest.raises(UserError, match="beta is 0"):
        Optimum.of(tiny_task(), model, 0.0)
    with pytest.raises(UserError, match="max_new_tokens 12"):
        Optimum.of(tiny_task(max_new_tokens=12), model, 1.0)
    masked = tiny_task()
    masked.allowed = lambda prompt, response: torch.ones(VOCAB, dtype=torch.bool).numpy()
    with pytest.raises(UserError, match="action mask"):
        Optimum.of(masked, model, 1.0)
    fewer = TokenTask((Prompt(ids=(2,)),), None, VOCAB - 1, {EOS}, PAD, 3, RewardSum([source(TokenCount())]))
    with pytest.raises(UserError, match="prompt 0 hold"):
        Optimum.of(fewer, model, 1.0)


def test_k3_as_a_loss_has_another_optimum() -> None:
    """On samples of pi, k3's own gradient is that of KL(ref || pi), which has its optimum elsewhere."""
    log_ref = torch.tensor([0.55, 0.25, 0.15, 0.05], dtype=torch.float64).log()
    rewards = torch.tensor([0.0, 1.0, 0.3, 2.0], dtype=torch.float64)
    beta = 1.0
    logits = log_ref.clone().requires_grad_(True)
    for _ in range(3000):
        logprobs = torch.log_softmax(logits, 0)
        sampled = logprobs.detach().exp()
        loss = (sampled * (beta * k3(logprobs, log_ref) - rewards * logprobs)).sum()
        (gradient,) = torch.autograd.grad(loss, logits)
        logits = (logits - 0.5 * gradient).detach().requires_grad_(True)
    reached = torch.log_softmax(logits, 0).detach()
    # The optimum of E r - beta KL(ref || pi): pi = beta ref / (lambda - r), lambda such that pi sums to 1.
    low, high = float(rewards.max()) + 1e-9, float(rewards.max()) + beta
    for _ in range(100):
        middle = (low + high) / 2
        total = float((beta * log_ref.exp() / (middle - rewards)).sum())
        low, high = (middle, high) if total > 1 else (low, middle)
    own = (beta * log_ref.exp() / (low - rewards)).log()
    best, _ = tilt(log_ref[None], rewards[None], beta)
    assert float(total_variation(reached[None], own[None])) < 1e-6
    assert float(total_variation(reached[None], best)) > 0.05


def test_the_standing_is_the_mean_over_the_prompts() -> None:
    model = tiny_gpt2()
    both = Optimum.of(tiny_task(), model, 1.0)
    alone = []
    for prompt in PROMPTS:
        task = TokenTask((prompt,), None, VOCAB, {EOS}, PAD, 3, both.task.rewards)
        alone.append(Optimum.of(task, model, 1.0).standing(tiny_gpt2(1)))
    together = both.standing(tiny_gpt2(1))
    distances = [one.total_variation for one in alone]
    assert together.total_variation == pytest.approx(sum(distances) / 2)
    assert together.worst_total_variation == pytest.approx(max(distances))
    assert together.kl == pytest.approx(sum(one.kl for one in alone) / 2)
    assert together == replace(together, objective=together.reward - together.kl)
