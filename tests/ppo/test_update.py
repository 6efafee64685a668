"""What an update moves and what it leaves alone.

`test_brute_force` compares its numbers with second implementations, `test_invariances` shows what must
never change them.
"""

from __future__ import annotations

import pytest
import torch
from exact_world import exact, experience, stream
from tiny_world import EOS, PAD, Env, kl_source, networks, small, tiny_gpt2, tiny_llama, tiny_task

from textrl.errors import UserError
from textrl.learners.ppo_ptx import PPOPTX
from textrl.learners.ppo_ptx.ptx import PretrainingStream
from textrl.learners.ppo_ptx.steps import rate_factor
from textrl.rewards import RewardSum


def learner(**changes: object) -> PPOPTX:
    chosen = small(**changes)
    return PPOPTX(
        Env(tiny_task()), chosen, rewards=RewardSum([kl_source(0.3)]), networks=networks(chosen, tiny_llama())
    )


def test_rates_by_hand() -> None:
    """A tenth of the peak over the warm-up's first iteration; a straight line to zero at the end."""
    assert [rate_factor(i, 0, 0) for i in (0, 5)] == [1.0, 1.0]
    assert [rate_factor(i, 10, 0) for i in (0, 5, 10, 99)] == pytest.approx([0.1, 0.55, 1.0, 1.0])
    assert [rate_factor(i, 0, 4) for i in range(6)] == [1.0, 0.75, 0.5, 0.25, 0.25, 0.25]
    assert rate_factor(1, 2, 4) == pytest.approx(0.55 * 0.75)


def test_both_optimizers_follow_the_rates() -> None:
    made = learner(warmup_iterations=0, decay_iterations=4)
    seen = []
    made.learn(iterations=4, callback=lambda one: seen.append(one.metrics["train/learning_rate"]))
    assert seen == pytest.approx([3e-3, 2.25e-3, 1.5e-3, 0.75e-3])
    assert [g["lr"] for g in made.updater.value_optimizer.param_groups] == pytest.approx([0.75e-3])


def test_first_minibatch_has_ratio_one_and_step_zero_has_no_kl() -> None:
    made = learner(temperature=0.8)
    made.learn(iterations=1)
    assert made.metrics["train/kl_ref"] == 0.0
    assert made.metrics["train/approx_kl_first"] < 1e-6
    assert made.metrics["train/logprob_gap"] < 1e-5


def test_in_float64_the_first_ratio_is_one_to_the_last_digits() -> None:
    """One log-probability function for the policy that acted, the one that learns and the reference."""
    made = exact(temperature=0.8, micro_batch_size=7)
    collected = experience(made)
    where = (collected.ids, collected.mask, collected.actions, collected.trunk)
    for model in (made.networks.policy, made.networks.reference):
        with torch.no_grad():
            again = made.networks.logprobs(model, *where)
        assert again.dtype == collected.logprobs.dtype == torch.float64
        assert float(((again - collected.logprobs[collected.actions]).exp() - 1).abs().max()) < 1e-12


def test_pretraining_walk_visits_everything_once_an_epoch() -> None:
    walk = stream()
    count = len(walk.pieces)
    epoch = walk.batch(0, count)
    assert sorted(epoch.tolist()) == sorted(walk.pieces.tolist())
    assert not torch.equal(walk.batch(count, count), epoch)
    assert torch.equal(walk.batch(3, 4), epoch[3:7])
    with pytest.raises(UserError, match="fewer than one piece"):
        PretrainingStream([[2, 3]], 8, EOS, seed=0)


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
