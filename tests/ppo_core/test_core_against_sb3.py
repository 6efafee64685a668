"""The core on Cart Pole against Stable-Baselines3: the same batch, the same weights, the same numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ppo_core_world import cart_pole, collected, fill, made, my_parameters, their_parameters, twin
from stable_baselines3 import PPO as SB3PPO

from textrl.learners.ppo import PPO
from textrl.learners.ppo.segments import Experience, Segments, judge
from textrl.learners.ppo.update import minibatch_losses

CLOSE = {"rtol": 2e-5, "atol": 2e-6}
#: Settings that switch a term of the loss on, or off.
CASES: dict[str, dict[str, Any]] = {
    "tuned": {},
    "entropy": {"ent_coef": 0.05, "vf_coef": 1.3},
    "raw advantages": {"normalize_advantage": False},
    "tight clip": {"clip_range": 0.005, "max_grad_norm": 0.05},
}


def pair(limit: int = 20, **changes: Any) -> tuple[PPO, SB3PPO, Segments, Experience]:
    """Return ours and SB3's with equal weights, our segments in SB3's buffer, and our experience."""
    learner = made(cart_pole(limit), **changes)
    segments = collected(learner)
    theirs = twin(learner)
    fill(theirs.rollout_buffer, theirs, segments)
    return learner, theirs, segments, judge(learner.network, segments, learner.settings)


def by_copy(array: np.ndarray[Any, Any]) -> torch.Tensor:
    """Return SB3's (T, B) as our (N,)."""
    return torch.from_numpy(array.T.copy()).flatten()


def test_the_batch_has_every_kind_of_end() -> None:
    _, _, segments, _ = pair()
    cut = segments.ends & ~segments.terminated
    assert segments.terminated.any()
    assert cut.any()
    assert not segments.ends[:, -1].all()  # some segment ends in the middle of an episode


def test_values_logprobs_advantages_and_returns_are_those_of_sb3s_buffer() -> None:
    _, theirs, _, mine = pair()
    buffer = theirs.rollout_buffer
    torch.testing.assert_close(mine.values, by_copy(buffer.values), **CLOSE)
    torch.testing.assert_close(mine.logprobs, by_copy(buffer.log_probs), **CLOSE)
    torch.testing.assert_close(mine.advantages, by_copy(buffer.advantages), **CLOSE)
    torch.testing.assert_close(mine.returns, by_copy(buffer.returns), **CLOSE)


def test_a_cut_episode_differs_where_it_is_taken_for_an_end() -> None:
    """The comparison above would notice a missing bootstrap."""
    learner, theirs, segments, _ = pair()
    wrong = Segments(**{**vars(segments), "terminated": segments.ends})
    advantages = judge(learner.network, wrong, learner.settings).advantages
    assert not torch.allclose(advantages, by_copy(theirs.rollout_buffer.advantages), **CLOSE)


class Spy:
    """Keeps the gradients that an optimizer steps with, after the clip."""

    def __init__(self, optimizer: Any, parameters: list[torch.nn.Parameter]) -> None:
        self.gradients: list[list[torch.Tensor]] = []
        step = optimizer.step

        def stepping(*args: Any, **kwargs: Any) -> Any:
            self.gradients.append([p.grad.clone() for p in parameters if p.grad is not None])
            return step(*args, **kwargs)

        optimizer.step = stepping


@pytest.mark.parametrize("case", CASES)
def test_an_update_of_four_epochs_is_sb3s(case: str) -> None:
    """Whole-batch minibatches, so that both walk the same way: losses, gradients and weights agree.

    From the second epoch on the ratio has left 1, so that the clip is at work. (Of the approximate KL SB3
    logs the last epoch's, and ours is the mean of all.)
    """
    learner, theirs, _, mine = pair(**CASES[case])
    my_spy = Spy(learner.updater.optimizer, my_parameters(learner))
    their_spy = Spy(theirs.policy.optimizer, their_parameters(theirs))
    figures = learner.updater.update(mine, 0, remaining=1.0)
    theirs.train()
    logged = theirs.logger.name_to_value
    for ours, name in (
        ("train/policy_loss", "train/policy_gradient_loss"),
        ("train/value_loss", "train/value_loss"),
        ("train/clip_fraction", "train/clip_fraction"),
        ("train/explained_variance", "train/explained_variance"),
    ):
        assert figures[ours] == pytest.approx(float(logged[name]), rel=1e-4, abs=1e-6), ours
    assert figures["train/entropy"] == pytest.approx(-float(logged["train/entropy_loss"]), rel=1e-5)
    assert len(my_spy.gradients) == len(their_spy.gradients) == 4
    for my_step, their_step in zip(my_spy.gradients, their_spy.gradients, strict=True):
        for my, their in zip(my_step, their_step, strict=True):
            torch.testing.assert_close(my, their, rtol=2e-3, atol=2e-5)
    for my, their in zip(my_parameters(learner), their_parameters(theirs), strict=True):
        torch.testing.assert_close(my, their, rtol=2e-4, atol=2e-5)
    if case == "tight clip":
        assert figures["train/clip_fraction"] > 0.05


def test_the_first_ratio_is_one() -> None:
    learner, _, _, mine = pair()
    rows = torch.arange(len(mine.actions))
    losses = minibatch_losses(learner.network, mine, rows, learner.settings, 0.2)
    assert float(losses.approx_kl) < 1e-9
    assert float(losses.clip_fraction) == 0.0


def test_normalised_advantages_have_sb3s_unbiased_variance() -> None:
    from textrl.learners.ppo.update import normalised

    advantages = torch.tensor([3.0, -1.0, 0.5, 7.0, 2.0])
    expected = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    torch.testing.assert_close(normalised(advantages), expected, rtol=1e-6, atol=0.0)
    assert float(normalised(advantages).var()) == pytest.approx(1.0, rel=1e-6)


def test_a_value_clip_is_where_we_differ_and_how() -> None:
    """SB3 minimises the error of the clipped value alone: a value far outside the interval, on the wrong
    side, gets no gradient back. Ours takes the worse of both errors, as lm-human-preferences does.
    """
    learner, theirs, _, mine = pair(clip_range_vf=0.1)
    with torch.no_grad():  # values move away from both the old ones and the returns
        learner.network.critic[-1].bias -= 1.0
        their_parameters(theirs)[-1].sub_(1.0)
    assert bool((mine.returns > mine.values).all())
    rows = torch.arange(len(mine.actions))
    losses = minibatch_losses(learner.network, mine, rows, learner.settings, 0.2)
    plain = torch.mean((learner.network.values(mine.observations) - mine.returns) ** 2)
    held = torch.mean((mine.values - 0.1 - mine.returns) ** 2)
    assert float(losses.value.detach()) == pytest.approx(float(plain.detach()), rel=1e-5)
    theirs.n_epochs = 1
    theirs.train()
    assert float(theirs.logger.name_to_value["train/value_loss"]) == pytest.approx(float(held), rel=1e-5)
    gradient = torch.autograd.grad(losses.value, learner.network.critic[-1].bias)[0]
    assert float(gradient.abs().sum()) > 1.0
    assert all(float(p.grad.abs().max()) == 0.0 for p in theirs.policy.value_net.parameters())


def test_the_log_probability_is_the_one_that_language_models_use() -> None:
    from textrl.mdp.logprobs import token_logprobs_and_entropy

    learner, _, _, mine = pair()
    head = learner.network.actor[-1]
    hidden = learner.network.actor[:-1](mine.observations)
    logprobs, entropy = token_logprobs_and_entropy(hidden, head.weight, mine.actions, bias=head.bias)
    torch.testing.assert_close(logprobs, mine.logprobs, rtol=1e-5, atol=1e-6)
    every = learner.network.policy(mine.observations)
    torch.testing.assert_close(entropy, -(every.exp() * every).sum(-1), rtol=1e-5, atol=1e-6)
