"""The update against independent computations, and what must never change it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_world import EOS, PAD, VOCAB, Env, kl_source, networks, small, tiny_gpt2, tiny_llama, tiny_task

from textrl.errors import UserError
from textrl.learners.ppo_ptx import PPOPTX, PPOPTXSettings
from textrl.learners.ppo_ptx.experience import Experience, collect
from textrl.learners.ppo_ptx.ptx import PretrainingStream
from textrl.learners.ppo_ptx.update import Updater
from textrl.models.stack import final_hidden
from textrl.rewards import RewardSum


def learner(**changes: object) -> PPOPTX:
    chosen = small(**changes)
    return PPOPTX(
        Env(tiny_task()), chosen, rewards=RewardSum([kl_source(0.3)]), networks=networks(chosen, tiny_llama())
    )


def experience(made: PPOPTX) -> Experience:
    return collect(made.networks, made.task, made.rewards, made.settings, made.accelerator, 0)


def gradients(made: PPOPTX, rows: torch.Tensor, collected: Experience) -> list[torch.Tensor]:
    """The accumulated gradients of one minibatch, without a step."""
    steps: list[torch.Tensor] = []

    def keep(name: str, params: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> float:
        steps.extend(p.grad.clone() for p in params if p.grad is not None)
        return 0.0

    made.updater._step_one = keep  # type: ignore[method-assign]
    made.updater.step(collected, rows)
    return steps


def test_first_minibatch_has_ratio_one_and_step_zero_has_no_kl() -> None:
    made = learner(temperature=0.8)
    made.learn(iterations=1)
    assert made.metrics["train/kl_ref"] == 0.0
    assert made.metrics["train/approx_kl_first"] < 1e-6
    assert made.metrics["train/logprob_gap"] < 1e-5
    first = learner(temperature=0.8, minibatches=1)
    collected = experience(first)
    new = first.networks.logprobs(
        first.networks.policy, collected.ids, collected.mask, collected.actions, collected.trunk
    )
    ratio = (new - collected.logprobs[collected.actions]).exp()
    assert bool(((ratio - 1).abs() <= 1e-6).all())


@settings(max_examples=6, deadline=None)
@given(micro=st.integers(1, 64), first_trainable=st.sampled_from([0, 2]))
def test_micro_batch_size_changes_nothing(micro: int, first_trainable: int) -> None:
    whole = learner(micro_batch_size=64, first_trainable=first_trainable)
    parts = learner(micro_batch_size=micro, first_trainable=first_trainable)
    rows = torch.arange(48)
    collected = experience(whole)
    for a, b in zip(
        gradients(whole, rows, collected), gradients(parts, rows, experience(parts)), strict=True
    ):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-6)


def test_row_order_changes_nothing() -> None:
    made, other = learner(), learner()
    collected = experience(made)
    forward = gradients(made, torch.arange(32), collected)
    backward = gradients(other, torch.arange(31, -1, -1), collected)
    for a, b in zip(forward, backward, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-6)


def test_padding_filled_with_garbage_changes_nothing() -> None:
    made, other = learner(), learner()
    clean = experience(made)
    off = ~clean.actions
    nan = {
        name: getattr(clean, name).masked_fill(off, math.nan)
        for name in ("logprobs", "values", "advantages", "returns")
    }
    garbage = torch.randint(VOCAB, clean.ids.shape)
    ids = torch.where(clean.mask, clean.ids, garbage)
    trunk = other.networks.trunk(ids, clean.mask)
    dirty = Experience(
        ids=ids, mask=clean.mask, actions=clean.actions, trunk=trunk, episodes=clean.episodes,
        metrics={}, stats={}, **nan,
    )  # fmt: skip
    rows = torch.arange(64)
    for a, b in zip(gradients(made, rows, clean), gradients(other, rows, dirty), strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-6)


def test_gradient_is_that_of_the_clipped_surrogate_written_out() -> None:
    """A second implementation: plain log-softmax over full logits, one sequence at a time."""
    made = learner()
    collected = experience(made)
    # Move away from the rollout policy so that ratios differ from 1 and some are clipped.
    torch.manual_seed(3)
    with torch.no_grad():
        for p in made.updater.policy_params:
            p.add_(0.05 * torch.randn_like(p))
    got = gradients(made, torch.arange(64), collected)
    policy = made.networks.policy
    policy.zero_grad()
    total, count, clipped = torch.zeros(()), 0, 0
    for row in range(64):
        real = collected.mask[row]
        ids = collected.ids[row][real][None]
        logits = torch.log_softmax(policy(input_ids=ids).logits[0].float(), -1)
        positions = collected.actions[row][real].nonzero().squeeze(1)
        for at in positions.tolist():
            column = int((real.cumsum(0) == at + 1).nonzero()[0])
            ratio = (logits[at - 1, ids[0, at]] - collected.logprobs[row, column]).exp()
            advantage = collected.advantages[row, column]
            total = total - torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
            clipped += int(abs(ratio.item() - 1) > 0.2)
            count += 1
    (total / count).backward()
    assert clipped > 0
    wanted = [p.grad for p in made.updater.policy_params]
    for a, b in zip(got[: len(wanted)], wanted, strict=True):
        assert b is not None
        assert torch.allclose(a, b, rtol=2e-3, atol=2e-5)


def stream() -> PretrainingStream:
    generator = torch.Generator().manual_seed(0)
    documents = [torch.randint(2, VOCAB, (30,), generator=generator).tolist() for _ in range(20)]
    return PretrainingStream(documents, 8, EOS, seed=0)


def with_ptx(coefficient: float) -> PPOPTX:
    made = learner()
    changed = {**vars(made.settings), "ptx_coef": coefficient, "ptx_data": "given below"}
    made.settings = PPOPTXSettings(**changed)
    made.updater = Updater(made.networks, made.settings, made.accelerator, stream())
    return made


def test_the_two_gradients_add_up_in_one_buffer() -> None:
    """g = g_ppo + gamma * g_ptx, to 1e-6."""
    plain, mixed = with_ptx(0.0), with_ptx(0.7)
    rows = torch.arange(64)
    collected = experience(plain)
    ppo = gradients(plain, rows, collected)
    both = gradients(mixed, rows, experience(mixed))
    ids = stream().batch(0, 32)
    policy = mixed.networks.policy
    policy.zero_grad()
    logits = torch.log_softmax(policy(input_ids=ids).logits[:, :-1].float(), -1)
    (-logits.gather(2, ids[:, 1:, None]).mean()).backward()
    for index, param in enumerate(mixed.updater.policy_params):
        assert param.grad is not None
        assert torch.allclose(both[index], ppo[index] + 0.7 * param.grad, atol=1e-6, rtol=1e-4)
    count = len(mixed.updater.policy_params)
    for a, b in zip(both[count:], ppo[count:], strict=True):
        assert torch.equal(a, b)


def test_pretraining_walk_visits_everything_once_an_epoch() -> None:
    walk = stream()
    count = len(walk.pieces)
    epoch = walk.batch(0, count)
    assert sorted(epoch.tolist()) == sorted(walk.pieces.tolist())
    assert not torch.equal(walk.batch(count, count), epoch)
    assert torch.equal(walk.batch(3, 4), epoch[3:7])
    with pytest.raises(UserError, match="fewer than one piece"):
        PretrainingStream([[2, 3]], 8, EOS, seed=0)


def test_values_are_read_before_the_action_and_scores_on_the_last_one() -> None:
    made = learner()
    collected = experience(made)
    hidden = final_hidden(made.networks.value, collected.ids, collected.mask)
    values = made.networks.value.score(hidden).squeeze(-1)
    row = 0
    for column in collected.actions[row].nonzero().squeeze(1).tolist():
        assert collected.values[row, column].item() == pytest.approx(values[row, column - 1].item(), abs=1e-5)


def test_a_frozen_part_is_stored_once_and_does_not_move() -> None:
    made = learner(first_trainable=2, learning_rate=0.1)
    policy, reference, value = (getattr(made.networks, name) for name in ("policy", "reference", "value"))
    frozen = policy.base_model.layers[0].mlp.up_proj.weight
    assert reference.base_model.layers[0].mlp.up_proj.weight.data_ptr() == frozen.data_ptr()
    assert value.base_model.layers[0].mlp.up_proj.weight.data_ptr() == frozen.data_ptr()
    before, top = frozen.clone(), policy.base_model.layers[2].mlp.up_proj.weight.clone()
    made.learn(iterations=1)
    assert torch.equal(frozen, before)
    assert not torch.equal(policy.base_model.layers[2].mlp.up_proj.weight, top)
    assert torch.equal(reference.base_model.layers[2].mlp.up_proj.weight, top)


def test_ema_follows_the_recursion() -> None:
    made = learner(ema_decay=0.5, minibatches=2)
    params = made.networks.trained()["policy"]
    name = next(iter(params))
    averaged = params[name].detach().clone()
    seen: list[torch.Tensor] = []
    average = made.updater._average
    made.updater._average = lambda: (seen.append(params[name].detach().clone()), average())[1]  # type: ignore[method-assign]
    made.learn(iterations=2)
    assert len(seen) == 4
    for weights in seen:
        averaged = 0.5 * averaged + 0.5 * weights
    assert torch.allclose(made.updater.ema[name], averaged, atol=1e-6)


def test_gpt2_trains_with_tied_head() -> None:
    chosen = small(learning_rate=1e-2)
    made = PPOPTX(Env(tiny_task()), chosen, rewards=None, networks=networks(chosen, tiny_gpt2()))
    made.learn(iterations=12)
    assert made.metrics["reward/count"] > 2.5
    assert made.task.pad_id == PAD
