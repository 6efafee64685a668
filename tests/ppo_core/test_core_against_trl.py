"""PPO-ptx against TRL 1.12.0's PPOTrainer: one update from the same weights and the same responses.

Where all responses have the full length the two agree in everything but conventions that are named here.
Where responses end with EOS, TRL trains on another decision process; the last test shows which one.
"""

from __future__ import annotations

import importlib.metadata
import math
import os
from typing import Any

import pytest
import torch
from torch import Tensor

from textrl.mdp.gae import episode_gae, gae
from textrl.mdp.losses import moments, whiten

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
try:
    _VERSION = importlib.metadata.version("trl")
except importlib.metadata.PackageNotFoundError:
    _VERSION = "none"
pytestmark = pytest.mark.skipif(
    _VERSION != "1.12.0", reason=f"compares with TRL 1.12.0 (extra 'dev'), and here is {_VERSION}"
)

from trl_world import BETA, LAM, WIDTH, Ours, Theirs, both, per_position  # noqa: E402


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ours, Theirs]:
    return both(tmp_path_factory.mktemp("full"), ends=False)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ours, Theirs]:
    return both(tmp_path_factory.mktemp("ended"), ends=True)


def rebuilt(mine: Ours) -> dict[str, Tensor]:
    """Return (B, T) parts of our batch's rewards and values, computed by transformers from the networks."""
    ids, mask = whole(mine)
    real = mine.batch.response_mask
    kl = logprobs(mine, mine.before["policy"]) - logprobs(mine, mine.before["reference"])
    return {
        "values": values(mine, mine.before["value"]),
        "kl": torch.where(real, kl, 0.0),
        "scores": per_position(mine.before["reward"], ids, mask)[:, WIDTH:],
        "last": real & ~torch.nn.functional.pad(real[:, 1:], (0, 1)),
    }


def whole(mine: Ours) -> tuple[Tensor, Tensor]:
    """Return (B, P + T) ids and mask."""
    batch = mine.batch
    return (
        torch.cat([batch.prompt_ids, batch.response_ids], 1),
        torch.cat([batch.prompt_mask, batch.response_mask], 1),
    )


def values(mine: Ours, model: Any) -> Tensor:
    """Return (B, T) values of the states before each token; behind an EOS, of what lies behind it."""
    return per_position(model, *whole(mine))[:, WIDTH - 1 : -1]


@torch.no_grad()
def logprobs(mine: Ours, model: Any) -> Tensor:
    """Return (B, T) log-probabilities of the tokens."""
    ids, mask = whole(mine)
    logits = model(input_ids=ids, attention_mask=mask.long()).logits[:, WIDTH - 1 : -1]
    every = torch.log_softmax(logits, -1)
    return every.gather(-1, mine.batch.response_ids[..., None]).squeeze(-1)


def our_advantages(mine: Ours) -> Tensor:
    parts = rebuilt(mine)
    rewards = -BETA * parts["kl"] + torch.where(parts["last"], parts["scores"], 0.0)
    return episode_gae(rewards, parts["values"], mine.batch.response_mask, gamma=1.0, lam=LAM)[0]


def with_one_more(real: Tensor) -> Tensor:
    """Return the (B, T) mask with one more position in each row, where there is room."""
    return torch.nn.functional.pad(real[:, :-1], (1, 0), value=True)


def told_of_one_more(mine: Ours) -> Tensor:
    """Return our advantages for TRL's process: the score is paid one position later, and ends it there."""
    parts, longer = rebuilt(mine), with_one_more(mine.batch.response_mask)
    last = longer & ~torch.nn.functional.pad(longer[:, 1:], (0, 1))
    score = torch.where(parts["last"], parts["scores"], 0.0).sum(1, keepdim=True)
    rewards = -BETA * parts["kl"] + torch.where(last, score, 0.0)
    follow = torch.nn.functional.pad(parts["values"][:, 1:], (0, 1))
    return gae(rewards, parts["values"], follow, longer, terminated=last, ends=last, gamma=1.0, lam=LAM)[0]


def test_full_length_responses_have_the_same_advantages_and_kl(full: tuple[Ours, Theirs]) -> None:
    mine, other = full
    assert mine.batch.response_mask.all()
    assert other.mask.all()
    torch.testing.assert_close(other.advantages, our_advantages(mine), rtol=1e-4, atol=1e-5)
    assert mine.metrics["train/kl_ref"] == pytest.approx(other.metrics["objective/kl"], rel=1e-4)
    assert abs(mine.metrics["train/kl_ref"]) > 0.01
    assert mine.metrics["reward/model"] == pytest.approx(other.metrics["objective/scores"], rel=1e-4)
    theirs = other.metrics["objective/rlhf_reward"]
    assert mine.metrics["rollout/ep_rew_mean"] == pytest.approx(theirs, rel=1e-4)


def test_full_length_responses_have_the_same_losses_over_four_epochs(full: tuple[Ours, Theirs]) -> None:
    """From the second epoch on the ratio has left 1 and the values have left the old ones.

    TRL scales advantages by their unbiased variance, we by the biased one, so its policy loss, which is
    linear in them, is sqrt((n-1)/n) of ours.
    """
    mine, other = full
    n = mine.batch.response_mask.sum().item()
    scale = math.sqrt((n - 1) / n)
    expected = mine.metrics["train/policy_loss"] * scale
    assert other.metrics["loss/policy_avg"] == pytest.approx(expected, rel=2e-3)
    assert abs(expected) > 1e-3
    assert other.metrics["loss/value_avg"] == pytest.approx(mine.metrics["train/value_loss"], rel=1e-4)
    # Theirs counts ratios whose clipped loss is the worse one, ours all outside the interval.
    assert 0 < other.metrics["policy/clipfrac_avg"] <= mine.metrics["train/clip_fraction"] + 1e-6
    assert other.metrics["val/clipfrac_avg"] == pytest.approx(
        mine.metrics["train/value_clip_fraction"], abs=1e-6
    )


def test_full_length_responses_leave_the_same_networks(full: tuple[Ours, Theirs]) -> None:
    """Adam does not see the factor between the policy's losses. TRL clips no gradient; here we do not.

    Compared is what the networks say, not their weights: the bias of an attention's keys changes nothing,
    its gradient is rounding, and Adam makes full steps of that.
    """
    mine, other = full
    networks = mine.learner.networks
    before, ours, theirs = (
        logprobs(mine, model) for model in (mine.before["policy"], networks.policy, other.policy)
    )
    assert float((ours - before).abs().mean()) > 0.02
    torch.testing.assert_close(theirs, ours, rtol=0.0, atol=1e-3)
    before, ours, theirs = (
        values(mine, model) for model in (mine.before["value"], networks.value, other.value)
    )
    assert float((ours - before).abs().mean()) > 0.02
    torch.testing.assert_close(theirs, ours, rtol=0.0, atol=1e-3)


def test_after_eos_trl_adds_a_step_that_nobody_took(ended: tuple[Ours, Theirs]) -> None:
    """A response that ends early is one decision longer in TRL: it pays the score one position after the
    EOS, bootstraps the EOS action from the value of the state behind it, and counts that position in the
    value loss. In the MDP the EOS action ends the episode: the score is its reward, nothing follows.

    Our GAE gives TRL's advantages exactly when it is told of that further step, and not otherwise.
    """
    mine, other = ended
    real, parts = mine.batch.response_mask, rebuilt(mine)
    assert torch.equal(other.mask, real)
    early = ~real[:, -1]
    assert 3 <= int(early.sum()) <= len(real) - 3
    honest = our_advantages(mine)
    torch.testing.assert_close(other.advantages[~early], honest[~early], rtol=1e-4, atol=1e-5)
    for row in torch.nonzero(early).flatten().tolist():
        assert not torch.allclose(other.advantages[row][real[row]], honest[row][real[row]], atol=1e-3)
    assert not torch.equal(with_one_more(real), real)
    told = torch.where(real, told_of_one_more(mine), 0.0)
    torch.testing.assert_close(told, other.advantages * real, rtol=1e-4, atol=1e-5)
    # What the last decision is told: the score itself here, a mix of value and lambda * score there.
    value = parts["values"]
    score = torch.where(parts["last"], parts["scores"], 0.0).sum(1)
    row = int(torch.nonzero(early)[0])
    t = int(real[row].sum()) - 1
    base = -BETA * parts["kl"][row, t] - value[row, t]
    assert float(honest[row, t]) == pytest.approx(float(base + score[row]), abs=1e-4)
    behind = value[row, t + 1]
    assert float(other.advantages[row, t]) == pytest.approx(
        float(base + behind + LAM * (score[row] - behind)), abs=1e-4
    )


def test_after_eos_the_losses_differ_by_that_step_alone(ended: tuple[Ours, Theirs]) -> None:
    """Other advantages over the same decisions; a value loss over more positions than were decided."""
    mine, other = ended
    real, longer = mine.batch.response_mask, with_one_more(mine.batch.response_mask)
    told, honest = told_of_one_more(mine), our_advantages(mine)
    assert not torch.allclose(
        whiten(honest[real], moments(honest[real])), whiten(told[real], moments(told[real])), atol=1e-2
    )
    # In the first epoch a value is off by its advantage.
    first = next(mean for count, mean in other.means if count == int(longer.sum()))
    assert first == pytest.approx(float((told[longer] ** 2).mean()), rel=1e-4)
    assert first != pytest.approx(float((honest[real] ** 2).mean()), rel=1e-3)
    # What does not depend on where the episode ends is the same.
    assert mine.metrics["train/kl_ref"] == pytest.approx(other.metrics["objective/kl"], rel=1e-4)
    assert mine.metrics["reward/model"] == pytest.approx(other.metrics["objective/scores"], rel=1e-4)
