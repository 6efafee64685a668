"""The update and the experience, in float64, against second implementations that share no code with them.

Plain loops over sequences and tokens, the full vocabulary's log-softmax, Python's own numbers for credit
and whitening, and finite differences of the surrogate through the whole network.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable

import pytest
import torch
from exact_world import TOKENS, assert_same, exact, experience, gradients, move, part, stream
from tiny_world import EOS
from torch import Tensor, nn

from textrl.learners.ppo_ptx import PPOPTX
from textrl.learners.ppo_ptx.experience import Experience
from textrl.registry import get_registry
from textrl.rewards import Source

ROWS = torch.arange(64)


def unpadded(collected: Experience, row: int) -> tuple[Tensor, Tensor, list[int]]:
    """The real ids of a row, the places of its actions among them, and their columns in the batch."""
    real = collected.mask[row]
    columns = collected.actions[row].nonzero().squeeze(1).tolist()
    return collected.ids[row][real], torch.tensor([int(real[:column].sum()) for column in columns]), columns


def each(model: Callable[[Tensor], Tensor], collected: Experience, rows: Tensor) -> dict[int, Tensor]:
    """Apply a function of unpadded (n, L) ids to each row: rows of equal length together, never padding."""
    lengths = collected.mask.sum(1)
    found: dict[int, Tensor] = {}
    for length in set(lengths[rows].tolist()):
        alike = [row for row in rows.tolist() if lengths[row] == length]
        outputs = model(torch.stack([unpadded(collected, row)[0] for row in alike]))
        found |= dict(zip(alike, outputs, strict=True))
    return found


def logprobs_of(
    model: nn.Module, collected: Experience, rows: Tensor, temperature: float
) -> dict[int, Tensor]:
    """Log-probabilities of each row's response, from the whole table of logits."""
    out = {}
    logits = each(
        lambda ids: model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits, collected, rows
    )
    for row, table in logits.items():
        ids, at, _ = unpadded(collected, row)
        out[row] = torch.log_softmax(table / temperature, -1)[at - 1, ids[at]]
    return out


def values_of(model: nn.Module, collected: Experience, rows: Tensor) -> dict[int, Tensor]:
    """Values of the states in which each row's tokens were chosen."""
    states = each(lambda ids: model.base_model(input_ids=ids).last_hidden_state, collected, rows)
    return {row: x[unpadded(collected, row)[1] - 1] @ model.score.weight[0] for row, x in states.items()}


def policy_loss(made: PPOPTX, collected: Experience, rows: Tensor) -> tuple[Tensor, float]:
    """The clipped surrogate as its definition reads, a token at a time, and the share of clipped ratios."""
    low, high = 1 - made.settings.clip, 1 + made.settings.clip
    losses, outside = [], 0
    new = logprobs_of(made.networks.policy, collected, rows, made.settings.temperature)
    for row in rows.tolist():
        for logprob, column in zip(new[row], unpadded(collected, row)[2], strict=True):
            ratio = (logprob - collected.logprobs[row, column]).exp()
            advantage = collected.advantages[row, column]
            inside = low <= ratio.item() <= high
            held = ratio if inside else torch.full_like(ratio, low if ratio.item() < 1 else high)
            losses.append(-min(ratio * advantage, held * advantage, key=Tensor.item))
            outside += not inside
    return torch.stack(losses).mean(), outside / len(losses)


def value_loss(made: PPOPTX, collected: Experience, rows: Tensor) -> tuple[Tensor, float]:
    """Half the worse of the two squared errors, and the share of tokens where the held value is worse."""
    clip = made.settings.value_clip
    assert clip is not None
    losses, worse = [], 0
    values = values_of(made.networks.value, collected, rows)
    for row in rows.tolist():
        for new, column in zip(values[row], unpadded(collected, row)[2], strict=True):
            old, target = collected.values[row, column], collected.returns[row, column]
            moved = (new - old).item()
            held = new if abs(moved) <= clip else old + (clip if moved > 0 else -clip)
            plain, kept = (new - target) ** 2, (held - target) ** 2
            losses.append(0.5 * max(plain, kept, key=Tensor.item))
            worse += kept.item() > plain.item()
    return torch.stack(losses).mean(), worse / len(losses)


LOSSES = {"policy": policy_loss, "value": value_loss}


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_losses_and_gradients_are_those_of_the_written_out_definitions(temperature: float) -> None:
    made = exact(temperature=temperature, micro_batch_size=7, minibatches=1, moved=0.02)
    collected = experience(made)
    move(made, 0.02, seed=4)
    got = gradients(made, collected, ROWS)
    figures = made.updater.step(collected, ROWS)
    logged = {"policy": "train/clip_fraction", "value": "train/value_clip_fraction"}
    for network, params in made.networks.trained().items():
        loss, share = LOSSES[network](made, collected, ROWS)
        wanted = torch.autograd.grad(loss, list(params.values()))
        assert_same(part(got, network), dict(zip(params, wanted, strict=True)))
        assert figures[f"train/{network}_loss"] == pytest.approx(loss.item(), rel=1e-6)
        assert 0.05 < share < 0.95  # both sides of the branch are met
        assert figures[logged[network]] == pytest.approx(share)


def slope(loss: Callable[[], float], param: nn.Parameter, direction: Tensor, h: float = 5e-6) -> float:
    """The derivative along a direction, by central differences; the parameter is put back."""
    start = param.detach().clone()

    def at(step: float) -> float:
        with torch.no_grad():
            param.copy_(start + step * direction)
            return loss()

    found = (at(h) - at(-h)) / (2 * h)
    with torch.no_grad():
        param.copy_(start)
    return found


def test_gradients_are_the_slopes_of_the_surrogate_through_the_network() -> None:
    """Every parameter tensor, along a direction of its own: only forward passes on the other side."""
    made = exact(minibatches=1, micro_batch_size=5)
    rows = torch.arange(12)
    collected = experience(made)
    move(made, 0.02)
    got = gradients(made, collected, rows)
    generator = torch.Generator().manual_seed(5)
    for network, params in made.networks.trained().items():
        own = part(got, network)
        largest = max(float(gradient.norm()) for gradient in own.values())
        for name, param in params.items():
            direction = torch.randn(param.shape, generator=generator, dtype=torch.float64)
            direction /= direction.norm()
            found = slope(lambda n=network: LOSSES[n](made, collected, rows)[0].item(), param, direction)
            limit = 1e-6 * max(float(own[name].norm()), 1e-3 * largest)
            assert abs(float((own[name] * direction).sum()) - found) <= limit, name


def test_the_two_gradients_add_up_in_one_buffer() -> None:
    """g = g_ppo + gamma_ptx * g_ptx, to 1e-6, whatever the micro-batches; the value network's is g_ppo."""
    coefficient = 27.8
    plain = exact(minibatches=2)
    mixed = exact(minibatches=2, ptx=coefficient, micro_batch_size=5)
    rows = torch.arange(32)
    ppo = gradients(plain, experience(plain), rows)
    both = gradients(mixed, experience(mixed), rows)
    ids = stream().batch(0, 32)
    policy = mixed.networks.policy
    tables = torch.log_softmax(policy(input_ids=ids).logits, -1)
    losses = [
        -table[at - 1, piece[at]] for table, piece in zip(tables, ids, strict=True) for at in range(1, 8)
    ]
    params = mixed.networks.trained()["policy"]
    ptx = torch.autograd.grad(torch.stack(losses).mean(), list(params.values()))
    alone = part(ppo, "policy")
    wanted = {name: alone[name] + coefficient * x for name, x in zip(params, ptx, strict=True)}
    assert_same(part(both, "policy"), wanted)
    assert_same(part(both, "value"), part(ppo, "value"))
    # The pretraining part is neither lost in the sum nor all of it.
    norms = [float(sum((x**2).sum() for x in found)) for found in (alone.values(), wanted.values())]
    assert norms[1] > 1.5 * norms[0] > 0


def credit(rewards: list[float], values: list[float], gamma: float, lam: float) -> list[float]:
    """GAE as the lambda-weighted mean of all n-step advantages (Schulman et al. 2016, equation 16)."""
    count = len(rewards)
    out = []
    for t in range(count):
        steps = []
        for n in range(1, count - t + 1):
            paid = sum(gamma**k * rewards[t + k] for k in range(n))
            after = gamma**n * values[t + n] if t + n < count else 0.0
            steps.append(paid + after - values[t])
        weights = [(1 - lam) * lam**k for k in range(len(steps) - 1)]
        out.append(sum(w * a for w, a in zip([*weights, 1 - sum(weights)], steps, strict=True)))
    return out


@pytest.mark.parametrize(
    "changes", [{}, {"whiten_rewards": True, "gamma": 0.9, "lam": 0.5, "temperature": 0.7}]
)
def test_experience_is_that_of_plain_loops(changes: dict[str, object]) -> None:
    """Scores on the last action, -beta * k1 on every one, credit, whitening: from rollout to advantages."""
    made = exact(moved=0.05, micro_batch_size=10, **changes)
    collected = experience(made)
    temperature = made.settings.temperature
    with torch.no_grad():
        new = logprobs_of(made.networks.policy, collected, ROWS, temperature)
        ref = logprobs_of(made.networks.reference, collected, ROWS, temperature)
        values = values_of(made.networks.value, collected, ROWS)
    paid, known, places = [], [], []
    for row in ROWS.tolist():
        ids, at, columns = unpadded(collected, row)
        written = ids[at].tolist()
        assert EOS not in written[:-1]
        assert written[-1] == EOS or len(written) == TOKENS
        rewards = [-0.3 * k1 for k1 in (new[row] - ref[row]).tolist()]
        rewards[-1] += written.count(2) + 0.5 * (EOS in written)
        paid.append(rewards)
        known.append(values[row].tolist())
        places.append(columns)
        assert collected.logprobs[row, columns].tolist() == pytest.approx(new[row].tolist(), abs=1e-12)
        assert collected.values[row, columns].tolist() == pytest.approx(known[-1], rel=1e-6, abs=1e-7)
    flat = list(itertools.chain.from_iterable(paid))
    assert made.settings.whiten_rewards == ("whiten_rewards" in changes)
    scale = statistics.pstdev(flat) if made.settings.whiten_rewards else 1.0
    mean = statistics.fmean(flat) if made.settings.whiten_rewards else 0.0
    paid = [[(r - mean) / scale + mean for r in row] for row in paid]
    advantages = [
        credit(r, v, made.settings.gamma, made.settings.lam) for r, v in zip(paid, known, strict=True)
    ]
    flat = list(itertools.chain.from_iterable(advantages))
    middle, spread = statistics.fmean(flat), statistics.pstdev(flat)
    for row, columns in enumerate(places):
        wanted = [(a - middle) / spread for a in advantages[row]]
        assert collected.advantages[row, columns].tolist() == pytest.approx(wanted, rel=1e-6, abs=2e-6)
        targets = [a + v for a, v in zip(advantages[row], known[row], strict=True)]
        assert collected.returns[row, columns].tolist() == pytest.approx(targets, rel=1e-6, abs=2e-6)
    assert collected.advantages.dtype == collected.returns.dtype == torch.float64
    assert not collected.advantages[~collected.actions].any()


def test_beta_follows_its_recursion_on_the_kl_that_was_trained_on() -> None:
    spec = get_registry().find("reward", "kl")
    chosen = spec.load_settings()(coefficient="adaptive", target=0.05, horizon=200)
    source = Source(name="kl", spec=spec, reward=spec.load()(chosen), weight=0.4)
    made = exact(kl=source, learning_rate=0.02, moved=0.05)
    seen: list[dict[str, float]] = []
    made.learn(iterations=6, callback=lambda learner: seen.append(dict(learner.metrics)))
    beta = 0.4
    for metrics in seen:
        assert metrics["source/kl/weight"] == pytest.approx(beta, rel=1e-12)
        assert metrics["reward/kl"] == pytest.approx(-beta * metrics["train/kl_ref"], rel=1e-6)
        error = metrics["train/kl_ref"] / 0.05 - 1
        beta *= 1 + max(-0.2, min(0.2, error)) * 64 / 200
    assert made.rewards is not None
    assert made.rewards.weights["kl"] == pytest.approx(beta, rel=1e-12)
    assert beta != pytest.approx(0.4)
