"""Advice on tokens: the distributions that act are exactly the stated ones, and training them is sound."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from advised_world import brute, guided, lived, rows_of
from exact_world import gradients, part, stream
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_world import Env, kl_source, networks, small, tiny_gpt2, tiny_llama, tiny_task
from torch import Tensor

from textrl.advice.text_techniques import (
    advantage_bonus,
    potential_bonus,
    shared_logits,
    shared_logprobs,
    statistics,
)
from textrl.learners.ppo_ptx import PPOPTX
from textrl.learners.ppo_ptx.update import Updater
from textrl.mdp.losses import policy_loss
from textrl.models.stack import blocks
from textrl.rewards import RewardSum

ACTING = ("action_biasing", "control_sharing")


@pytest.mark.parametrize("make", [tiny_gpt2, tiny_llama])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize(
    ("technique", "beta", "advice"),
    [
        ("action_biasing", 0.8, {}),
        ("action_biasing", 5.0, {"cap_nats": 1.5}),
        ("control_sharing", 0.4, {"top_k": 3}),
    ],
)
def test_what_acts_is_the_stated_distribution(
    make: Any, temperature: float, technique: str, beta: float, advice: dict[str, Any]
) -> None:
    learner = guided(technique, beta=beta, advice=advice, model=make(), temperature=temperature)
    for p in learner.networks.trained()["policy"].values():  # away from the reference
        p.data.add_(0.03 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    experience = lived(learner)
    kl, entropy, count = 0.0, 0.0, 0
    for prompt, response, row in rows_of(learner, experience):
        known = brute(learner, prompt, response)
        ours = experience.logprobs[row][experience.actions[row]].double().numpy()
        wanted = np.log(known.mu[np.arange(len(response)), response])
        np.testing.assert_allclose(ours, wanted, atol=2e-5)
        kl += float((known.mu * np.log(known.mu / known.pi)).sum())
        entropy -= float((known.mu * np.log(known.mu)).sum())
        count += len(response)
    assert experience.metrics["advice/kl_policy"] == pytest.approx(kl / count, rel=1e-4)
    assert experience.metrics["train/entropy"] == pytest.approx(entropy / count, rel=1e-4)
    assert experience.metrics["train/logprob_gap"] < 2e-5, "what sampled and what scores are one"


@pytest.mark.parametrize("technique", ACTING)
def test_tokens_are_drawn_as_often_as_stated(technique: str) -> None:
    learner = guided(technique, beta=0.6, scale=2.0, tokens=1, episodes_per_iteration=8000, minibatches=1)
    experience = lived(learner)
    for prompt in {prompt for prompt, _, _ in rows_of(learner, experience)}:
        drawn = [response[0] for own, response, _ in rows_of(learner, experience) if own == prompt]
        mu = brute(learner, prompt, drawn[:1]).mu[0]
        found = np.bincount(drawn, minlength=6) / len(drawn)
        # Four standard errors of a share among 4,000.
        assert np.abs(found - mu).max() < 4 * np.sqrt(0.25 / len(drawn))


@pytest.mark.parametrize("technique", ACTING)
def test_the_first_ratio_is_one_and_later_ones_are_not(technique: str) -> None:
    learner = guided(technique, beta=0.5, minibatches=1, epochs=2, learning_rate=1e-2)
    figures = learner.updater.update(lived(learner), 0)
    assert figures["train/ratio_first_min"] == pytest.approx(1, abs=2e-5)
    assert figures["train/ratio_first_max"] == pytest.approx(1, abs=2e-5)
    assert figures["train/ratio_later_max"] > 1.001


@pytest.mark.parametrize("technique", ACTING)
@pytest.mark.parametrize("trained", ["behaviour", "policy"])
def test_the_gradient_is_that_of_the_stated_loss(technique: str, trained: str) -> None:
    learner = guided(
        technique,
        beta=0.5,
        advice={"trained": trained},
        minibatches=1,
        max_grad_norm=1e9,
        micro_batch_size=64,
    )
    experience = lived(learner)
    ours = part(gradients(learner, experience, torch.arange(len(experience.ids))), "policy")
    policy = guided(technique, beta=0.5).networks.policy
    logs, old, weights = [], [], []
    for prompt, response, row in rows_of(learner, experience):
        known = brute(guided(technique, beta=0.5), prompt, response)
        ids = torch.tensor([[*prompt, *response]])
        logits = policy(input_ids=ids).logits[0, len(prompt) - 1 : -1]
        at = (torch.arange(len(response)), torch.tensor(response))
        log_pi = torch.log_softmax(logits, -1)[at]
        if trained == "policy":
            logs.append(log_pi)
        elif technique == "action_biasing":
            tilt = torch.from_numpy(np.clip(0.5 * known.h, -3, 3)).float()
            logs.append(torch.log_softmax(logits + tilt, -1)[at])
        else:
            mine = torch.from_numpy(known.favourite == np.array(response))
            logs.append((0.5 * log_pi.exp() + 0.5 * mine).log())
        old.append(experience.logprobs[row][experience.actions[row]])
        weights.append(experience.advantages[row][experience.actions[row]])
    total = policy_loss(torch.cat(logs), torch.cat(old), torch.cat(weights), 0.2).total
    (total / sum(len(one) for one in logs)).backward()
    for name, p in policy.named_parameters():
        torch.testing.assert_close(ours[name], p.grad, rtol=1e-3, atol=2e-6)


def test_a_policy_that_is_trained_off_policy_is_paid_for_its_own_kl() -> None:
    learner = guided(beta=1.0, scale=2.0, advice={"trained": "policy"})
    experience = lived(learner)
    # The policy is the reference still, so its own penalty is 0; that of the one that acts is not.
    assert experience.metrics["reward/kl"] == pytest.approx(0, abs=1e-4)
    assert abs(lived(guided(beta=1.0, scale=2.0)).metrics["reward/kl"]) > 0.01
    assert experience.advised is None


@pytest.mark.parametrize("technique", [*ACTING, "reward_shaping", "q_augmentation"])
@pytest.mark.parametrize("nothing", [{"beta": 0.0}, {"scale": 0.0}])
def test_advice_of_no_weight_changes_not_a_bit(technique: str, nothing: dict[str, float]) -> None:
    advised = guided(technique, **nothing)  # type: ignore[arg-type]
    chosen = small()
    plain = PPOPTX(Env(tiny_task()), chosen, rewards=RewardSum([kl_source(0.3)]), networks=networks(chosen))
    for learner in (advised, plain):
        learner.learn(iterations=2)
    for network in ("policy", "value"):
        theirs = plain.networks.trained()[network]
        for name, p in advised.networks.trained()[network].items():
            assert torch.equal(p, theirs[name]), f"{network} {name}"


def test_reward_shaping_pays_the_rating_of_what_was_written() -> None:
    learner = guided("reward_shaping", beta=0.7)
    experience = lived(learner)
    total = sum(
        0.7 * brute(learner, prompt, response).h[np.arange(len(response)), response].sum()
        for prompt, response, _ in rows_of(learner, experience)
    )
    assert experience.metrics["reward/advice"] == pytest.approx(total / len(experience.ids), abs=1e-5)


def test_the_advantage_form_is_centred_in_every_state() -> None:
    learner = guided("q_augmentation", beta=0.7, whiten_advantages=False)
    plain = guided("q_augmentation", beta=0.0, whiten_advantages=False)
    experience, without = lived(learner), lived(plain)
    for prompt, response, row in rows_of(learner, experience):
        known = brute(learner, prompt, response)
        mean = (known.pi * known.h).sum(1)
        bonus = 0.7 * (known.h - mean[:, None])
        np.testing.assert_allclose((known.pi * bonus).sum(1), 0, atol=1e-12)
        at = experience.actions[row]
        added = (experience.advantages[row] - without.advantages[row])[at].double().numpy()
        np.testing.assert_allclose(added, bonus[np.arange(len(response)), response], atol=2e-5)
    torch.testing.assert_close(experience.returns, without.returns, msg="the critic is not advised")


def test_the_potential_form_telescopes() -> None:
    learner = guided("q_augmentation", beta=0.7, advice={"form": "potential"})
    experience = lived(learner)
    total = 0.0
    for prompt, response, _ in rows_of(learner, experience):
        known = brute(learner, prompt, response)
        total -= 0.7 * float((known.pi[0] * known.h[0]).sum())
    assert experience.metrics["reward/advice"] == pytest.approx(total / len(experience.ids), abs=1e-5)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.integers(1, 4), st.integers(1, 6), st.floats(0.1, 1.0), st.integers(0, 1000))
def test_a_potential_adds_up_to_what_the_first_state_owes(
    rows: int, steps: int, gamma: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    phi = torch.randn(rows, steps, generator=generator, dtype=torch.float64)
    lengths = torch.randint(1, steps + 1, (rows, 1), generator=generator)
    mask = torch.arange(steps)[None] < lengths
    paid = potential_bonus(phi, mask, 0.7, gamma)
    discounted = (paid * gamma ** torch.arange(steps, dtype=torch.float64)).sum(1)
    torch.testing.assert_close(discounted, -0.7 * phi[:, 0])
    assert bool((paid[~mask] == 0).all())


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.integers(0, 1000), st.floats(0.0, 1.0))
def test_sharing_is_a_distribution_and_its_two_forms_agree(seed: int, p: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    chosen = torch.randint(0, 5, (3,), generator=generator)
    share = torch.full((3,), p, dtype=torch.float64)
    mu = torch.softmax(shared_logits(logits, share, chosen), -1)
    wanted = (1 - p) * torch.softmax(logits, -1)
    wanted[torch.arange(3), chosen] += p
    torch.testing.assert_close(mu, wanted)
    for action in range(5):
        taken = torch.full((3,), action)
        log_pi = torch.log_softmax(logits, -1)[:, action]
        ours = shared_logprobs(log_pi, share, taken == chosen)
        torch.testing.assert_close(ours.exp(), wanted[:, action])


def test_statistics_do_not_depend_on_the_chunk() -> None:
    generator = torch.Generator().manual_seed(0)
    before, weight = torch.randn(7, 4, generator=generator), torch.randn(9, 4, generator=generator)
    tilt, targets = torch.randn(7, 9, generator=generator), torch.randint(0, 9, (7,), generator=generator)

    def measured(chunk: int) -> tuple[Tensor, ...]:
        found = statistics(
            before,
            weight,
            targets,
            lambda logits, rows: logits + tilt[rows],
            lambda rows: tilt[rows],
            chunk=chunk,
        )
        return dataclasses.astuple(found)

    for whole, parts in zip(measured(256), measured(2), strict=True):
        torch.testing.assert_close(whole, parts)


@pytest.mark.parametrize("technique", [*ACTING, "q_augmentation"])
def test_micro_batches_change_nothing(technique: str) -> None:
    found = []
    for size in (64, 5):
        # Gradients, not weights: Adam makes steps of full length out of the rounding of a gradient that is 0.
        learner = guided(technique, beta=0.5, micro_batch_size=size, rollout_batch_size=size)
        experience = lived(learner)
        found.append(part(gradients(learner, experience, torch.arange(40)), "policy"))
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], rtol=1e-3, atol=2e-6)


@pytest.mark.parametrize("make", [tiny_gpt2, tiny_llama])
def test_blocks_that_all_share_run_once(make: Any) -> None:
    shared, apart = (guided(model=make(), first_trainable=1), guided(model=make()))
    found = lived(shared)
    runs = [0, 0]
    for index, block in enumerate(list(blocks(shared.networks.reference))[:2]):

        def count(*_: Any, index: int = index) -> None:
            runs[index] += 1

        for module in block.modules():
            if "norm" in type(module).__name__.lower():
                module.register_forward_hook(count)
                break
    again = lived(shared)
    assert runs[0] == 0, "the frozen block is lent by the policy"
    assert runs[1] > 0
    other = lived(apart)
    assert torch.equal(found.ids, again.ids)
    assert torch.equal(found.ids, other.ids), "lending changes no token"
    torch.testing.assert_close(found.logprobs, other.logprobs, atol=2e-5, rtol=1e-4)


def test_bonus_by_hand() -> None:
    bonus = advantage_bonus(torch.tensor([1.0, 0.0]), torch.tensor([0.25, 0.5]), 2.0)
    assert bonus.tolist() == [1.5, -1.0]


def test_the_pretraining_term_is_about_the_policy_without_advice() -> None:
    """Texts go through the policy in the same pass as the episodes, and no bias may touch them."""
    found = []
    for coefficient in (0.0, 0.8):
        learner = guided("action_biasing", beta=1.0, scale=2.0, micro_batch_size=128, max_grad_norm=1e9)
        experience = lived(learner)
        if coefficient:
            chosen = dataclasses.replace(learner.settings, ptx_coef=coefficient, ptx_data="the stream")
            learner.updater = Updater(learner.networks, chosen, learner.accelerator, stream())
        found.append(part(gradients(learner, experience, torch.arange(32)), "policy"))
    policy, texts = guided(beta=1.0).networks.policy, stream().batch(0, 32)
    policy(input_ids=texts, labels=texts).loss.mul(0.8).backward()
    for name, p in policy.named_parameters():
        torch.testing.assert_close(found[1][name] - found[0][name], p.grad, rtol=1e-3, atol=3e-6)
