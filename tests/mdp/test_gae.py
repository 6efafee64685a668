"""GAE against a hand-computed case and a float64 brute force from the definition."""

from __future__ import annotations

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


def test_lambda_one_gamma_one_is_reward_to_go_minus_value() -> None:
    rewards = torch.tensor([[0.1, -0.2, 3.0]], dtype=torch.float64)
    values = torch.tensor([[0.5, 0.4, 0.3]], dtype=torch.float64)
    _, returns = episode_gae(rewards, values, torch.ones(1, 3, dtype=torch.bool), gamma=1.0, lam=1.0)
    assert returns[0].tolist() == pytest.approx([2.9, 2.8, 3.0])
