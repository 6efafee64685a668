"""GAE against a hand-computed case and float64 brute force from two definitions."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from textrl.mdp.gae import episode_gae, gae


def test_hand_computed_episode() -> None:
    # gamma .9, lambda .5. Deltas: 1 + .9 * 2 - 1 = 1.8, 2 + 0 - 2 = 0 (the last step ends the episode).
    advantages, returns = episode_gae(
        torch.tensor([[1.0, 2.0, 99.0]]),
        torch.tensor([[1.0, 2.0, 99.0]]),
        torch.tensor([[True, True, False]]),
        gamma=0.9,
        lam=0.5,
    )
    assert advantages[0].tolist() == pytest.approx([1.8, 0.0, 0.0])
    assert returns[0].tolist() == pytest.approx([2.8, 2.0, 0.0])


def test_truncation_bootstraps_and_termination_does_not() -> None:
    args = (torch.tensor([[0.0]]), torch.tensor([[1.0]]), torch.tensor([[10.0]]), torch.tensor([[True]]))
    end = torch.tensor([[True]])
    cut, _ = gae(*args, terminated=~end, ends=end, gamma=0.5, lam=1.0)
    over, _ = gae(*args, terminated=end, ends=end, gamma=0.5, lam=1.0)
    assert cut.item() == pytest.approx(0 + 0.5 * 10 - 1)
    assert over.item() == pytest.approx(0 - 1)


def brute_force(
    rewards: list[float], values: list[float], following: list[float], terminated: list[bool],
    ends: list[bool], gamma: float, lam: float,
) -> list[float]:  # fmt: skip
    """A_t = sum over k of (gamma lambda)^k delta_{t+k}, up to the end of the segment."""
    out = []
    for t in range(len(rewards)):
        total, weight = 0.0, 1.0
        for k in range(t, len(rewards)):
            after = 0.0 if terminated[k] else following[k]
            total += weight * (rewards[k] + gamma * after - values[k])
            weight *= gamma * lam
            if ends[k]:
                break
        out.append(total)
    return out


floats = st.floats(-5, 5, allow_nan=False)


@settings(max_examples=50, deadline=None)
@given(
    steps=st.lists(st.tuples(floats, floats, floats, st.sampled_from("gtx")), min_size=1, max_size=8),
    gamma=st.sampled_from([1.0, 0.9]),
    lam=st.sampled_from([0.0, 0.95, 1.0]),
    padding=st.integers(0, 3),
)
def test_matches_the_definition_with_padding_full_of_nan(
    steps: list[tuple[float, float, float, str]], gamma: float, lam: float, padding: int
) -> None:
    rewards, values, following, kinds = (list(column) for column in zip(*steps, strict=True))
    terminated = [kind == "t" for kind in kinds]
    ends = [kind in "tx" for kind in kinds]
    nan = [float("nan")] * padding
    row = lambda x: torch.tensor([[*x, *nan]], dtype=torch.float64)  # noqa: E731
    flag = lambda x: torch.tensor([[*x, *[False] * padding]])  # noqa: E731
    advantages, returns = gae(
        row(rewards), row(values), row(following), flag([True] * len(steps)),
        terminated=flag(terminated), ends=flag(ends), gamma=gamma, lam=lam,
    )  # fmt: skip
    wanted = brute_force(rewards, values, following, terminated, ends, gamma, lam)
    assert advantages[0].tolist() == pytest.approx([*wanted, *[0.0] * padding], abs=1e-9)
    targets = [a + v for a, v in zip(wanted, values, strict=True)]
    assert returns[0].tolist() == pytest.approx([*targets, *[0.0] * padding], abs=1e-9)


def mean_of_returns(
    rewards: list[float], values: list[float], following: list[float], kinds: str, gamma: float, lam: float
) -> list[float]:  # fmt: skip
    """The same from the other side: equation 16's lambda-weighted mean of all n-step advantages.

    `kinds` says of each step whether the episode goes on (g), was terminated (t) or truncated (x). A
    segment that stops with g is bootstrapped like a truncated one.
    """
    out = []
    for t in range(len(rewards)):
        steps = []
        for end in range(t, len(rewards)):
            paid = sum(gamma ** (k - t) * rewards[k] for k in range(t, end + 1))
            after = 0.0 if kinds[end] == "t" else gamma ** (end + 1 - t) * following[end]
            steps.append(paid + after - values[t])
            if kinds[end] != "g":
                break
        weights = [(1 - lam) * lam**k for k in range(len(steps) - 1)]
        out.append(sum(w * a for w, a in zip([*weights, 1 - sum(weights)], steps, strict=True)))
    return out


@st.composite
def segments(draw: st.DrawFn) -> tuple[list[float], list[float], list[float], str, int]:
    """Rewards, values, values that follow, kinds and the column in which the row begins.

    Inside an episode the value that follows is the next state's own, as it must be for the two
    definitions to agree; where an episode ends it is anything.
    """
    count = draw(st.integers(1, 7))
    numbers = st.lists(floats, min_size=count, max_size=count)
    rewards, values, following = draw(numbers), draw(numbers), draw(numbers)
    kinds = "".join(draw(st.lists(st.sampled_from("gggtx"), min_size=count, max_size=count)))
    for t in range(count - 1):
        following[t] = values[t + 1] if kinds[t] == "g" else following[t]
    return rewards, values, following, kinds, draw(st.integers(0, 3))


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(segments(), min_size=1, max_size=5),
    gamma=st.floats(0.5, 1.0),
    lam=st.floats(0.0, 1.0),
    garbage=st.sampled_from([math.nan, math.inf, -1e30]),
)
def test_rows_of_different_lengths_and_places_do_not_meet(
    rows: list[tuple[list[float], list[float], list[float], str, int]],
    gamma: float,
    lam: float,
    garbage: float,
) -> None:
    shape = (len(rows), 12)
    rewards, values, following = (torch.full(shape, garbage, dtype=torch.float64) for _ in range(3))
    mask = torch.zeros(shape, dtype=torch.bool)
    terminated, ends = torch.ones(shape, dtype=torch.bool), torch.ones(shape, dtype=torch.bool)
    for row, (r, v, f, kinds, at) in enumerate(rows):
        place = slice(at, at + len(r))
        for tensor, numbers in ((rewards, r), (values, v), (following, f)):
            tensor[row, place] = torch.tensor(numbers, dtype=torch.float64)
        mask[row, place] = True
        terminated[row, place] = torch.tensor([kind == "t" for kind in kinds])
        ends[row, place] = torch.tensor([kind in "tx" for kind in kinds])
    advantages, returns = gae(
        rewards, values, following, mask, terminated=terminated, ends=ends, gamma=gamma, lam=lam
    )
    for row, (r, v, f, kinds, at) in enumerate(rows):
        wanted = mean_of_returns(r, v, f, kinds, gamma, lam)
        place = slice(at, at + len(r))
        assert advantages[row, place].tolist() == pytest.approx(wanted, rel=1e-9, abs=1e-9)
        targets = [a + b for a, b in zip(wanted, v, strict=True)]
        assert returns[row, place].tolist() == pytest.approx(targets, rel=1e-9, abs=1e-9)
    assert not advantages[~mask].any()
    assert not returns[~mask].any()


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(st.lists(st.tuples(floats, floats), min_size=1, max_size=6), min_size=1, max_size=5),
    gamma=st.floats(0.5, 1.0),
    lam=st.floats(0.0, 1.0),
)
def test_whole_episodes_terminate_on_their_last_action(
    rows: list[list[tuple[float, float]]], gamma: float, lam: float
) -> None:
    width = max(len(row) for row in rows) + 1
    rewards, values = (torch.full((len(rows), width), math.nan, dtype=torch.float64) for _ in range(2))
    mask = torch.zeros((len(rows), width), dtype=torch.bool)
    for index, row in enumerate(rows):
        pairs = torch.tensor(row, dtype=torch.float64)
        rewards[index, : len(row)], values[index, : len(row)] = pairs.T
        mask[index, : len(row)] = True
    advantages, _ = episode_gae(rewards, values, mask, gamma=gamma, lam=lam)
    for index, row in enumerate(rows):
        paid, known = (list(column) for column in zip(*row, strict=True))
        kinds = "g" * (len(row) - 1) + "t"
        wanted = mean_of_returns(paid, known, [*known[1:], math.nan], kinds, gamma, lam)
        assert advantages[index, : len(row)].tolist() == pytest.approx(wanted, rel=1e-9, abs=1e-9)


def test_the_widest_type_is_kept() -> None:
    """Rewards are float32 by contract; they must not round float64 values."""
    fine = torch.tensor([[1.0 + 1e-12, 2.0]], dtype=torch.float64)
    real = torch.ones(1, 2, dtype=torch.bool)
    for rewards, values in ((torch.zeros(1, 2), fine), (fine, torch.zeros(1, 2))):
        advantages, returns = episode_gae(rewards, values, real, gamma=1.0, lam=0.0)
        assert advantages.dtype == returns.dtype == torch.float64
        assert advantages[0, 0].item() != round(advantages[0, 0].item(), 9)
    assert (
        episode_gae(torch.zeros(1, 2), torch.zeros(1, 2), real, gamma=1.0, lam=1.0)[0].dtype == torch.float32
    )


def test_lambda_one_gamma_one_is_reward_to_go_minus_value() -> None:
    rewards = torch.tensor([[0.1, -0.2, 3.0]], dtype=torch.float64)
    values = torch.tensor([[0.5, 0.4, 0.3]], dtype=torch.float64)
    _, returns = episode_gae(rewards, values, torch.ones(1, 3, dtype=torch.bool), gamma=1.0, lam=1.0)
    assert returns[0].tolist() == pytest.approx([2.9, 2.8, 3.0])
