"""SARSA(lambda): traces by hand, values from dynamic programming, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from control_learners import Watched, car
from control_world import Floats, Grid, OneState, RandomWalk, Spaces, box, mountain_car
from gymnasium.spaces import Box, Discrete
from gymnasium.wrappers import TimeLimit
from hypothesis import given
from hypothesis import strategies as st

from textrl.config import build
from textrl.errors import UserError
from textrl.features import FeatureSettings
from textrl.learners.sarsa import Sarsa, SarsaSettings
from textrl.learners.sarsa.linear import LinearQ
from textrl.learners.sarsa.sparse import SparseQ

ONE_HOT = FeatureSettings(kind="one_hot")


def tabular(env: Any, **changes: Any) -> Sarsa:
    base: dict[str, Any] = {"features": ONE_HOT, "epsilon": 0.0, "epsilon_decay": 1.0}
    return Sarsa(env, SarsaSettings(**(base | changes)))


def test_traces_and_weights_by_hand() -> None:
    """Decay .5, two features. Visits: a=0 with (1, .5), a=0 with (.25, 1), a=1 with (1, 0).

    Replacing, row 0: (1, .5); max((.25, 1), (.5, .25)) = (.5, 1); (.25, .5).
    Accumulating, row 0: (1, .5); (.25, 1) + (.5, .25) = (.75, 1.25); (.375, .625).
    """
    for kind, row in (("replacing", [0.25, 0.5]), ("accumulating", [0.375, 0.625])):
        made = LinearQ(2, 2, decay=0.5, traces=kind, initial_weight=-1.0)  # type: ignore[arg-type]
        for phi, action in (([1.0, 0.5], 0), ([0.25, 1.0], 0), ([1.0, 0.0], 1)):
            made.visit(np.array(phi), action)
        assert made.traces.tolist() == [row, [1.0, 0.0]]
        made.update(2.0)
        assert made.weights.tolist() == [[2 * row[0] - 1, 2 * row[1] - 1], [1.0, -1.0]]
        assert made.q(np.array([1.0, 1.0])).tolist() == [sum(made.weights[0]), 0.0]
        assert made.value(np.array([1.0, 1.0]), 0) == sum(made.weights[0])
        made.forget()
        assert not made.traces.any()


@given(
    visits=st.lists(
        st.tuples(
            st.sets(st.integers(0, 6), min_size=1, max_size=4), st.integers(0, 2), st.floats(-2.0, 2.0)
        ),
        max_size=40,
    ),
    kind=st.sampled_from(["replacing", "accumulating"]),
    ends=st.sets(st.integers(0, 40)),
)
def test_a_sparse_table_has_the_numbers_of_a_dense_one(
    visits: list[tuple[set[int], int, float]], kind: Any, ends: set[int]
) -> None:
    dense, sparse = (made(3, 7, decay=0.8, traces=kind, initial_weight=0.5) for made in (LinearQ, SparseQ))
    for number, (indices, action, step) in enumerate(visits):
        phi = np.zeros(7)
        phi[list(indices)] = 1.0
        active = (np.array(sorted(indices)), np.ones(len(indices)))
        np.testing.assert_allclose(dense.q(phi), sparse.q(active), rtol=1e-12)
        assert dense.value(phi, action) == pytest.approx(sparse.value(active, action), rel=1e-12)
        dense.visit(phi, action)
        sparse.visit(active, action)
        np.testing.assert_allclose(dense.traces, sparse.traces, rtol=1e-12, atol=1e-30)
        dense.update(step)
        sparse.update(step)
        if number in ends:
            dense.forget()
            sparse.forget()
    np.testing.assert_allclose(dense.weights, sparse.weights, rtol=1e-12)


def test_a_long_episode_keeps_neither_tiny_nor_many_traces() -> None:
    dense = LinearQ(2, 3000, decay=0.8)
    sparse = SparseQ(2, 3000, decay=0.8)
    for place in range(3000):
        phi = np.zeros(3000)
        phi[place] = 1.0
        for table, seen in ((dense, phi), (sparse, (np.array([place]), np.ones(1)))):
            table.visit(seen, place % 2)  # type: ignore[attr-defined]
            table.update(0.01)  # type: ignore[attr-defined]
    seen = np.abs(dense.traces[dense.traces != 0])
    assert seen.min() > 1e-250  # far from subnormal
    assert 0 < np.count_nonzero(sparse.traces) < 600
    np.testing.assert_allclose(sparse.weights, dense.weights, rtol=1e-12)


def test_large_tables_of_tiles_are_sparse_and_learn_the_same() -> None:
    tiles = FeatureSettings(kind="tiles", tilings=4, tiles=6)
    dense = car(features=tiles, alpha=0.1).learn(episodes=3)
    sparse = car(features=tiles, alpha=0.1)
    sparse.linear = SparseQ(3, sparse.features.size, decay=0.84)
    sparse._seen = sparse.features.active  # type: ignore[attr-defined]
    sparse.learn(episodes=3)
    np.testing.assert_allclose(sparse.linear.weights, dense.linear.weights, atol=1e-9)
    large = FeatureSettings(kind="tiles", tilings=8, tiles=24)
    assert isinstance(dense.linear, LinearQ)
    assert isinstance(car(features=large).linear, SparseQ)


def naive(made: Sarsa, episodes: int) -> tuple[Floats, list[int]]:
    """SARSA(lambda) written plainly after the formulas, over the same random numbers."""
    settings, env, features = made.settings, made.env, made.features
    rng, starts = (np.random.default_rng([settings.seed, stream]) for stream in (0, 1))
    w = np.full((3, features.size), settings.initial_weight)
    taken = []
    for episode in range(episodes):
        epsilon = settings.epsilon * settings.epsilon_decay**episode

        def act(phi: Floats, epsilon: float = epsilon, w: Floats = w) -> int:
            if rng.random() < epsilon:
                return int(rng.integers(3))
            best = np.flatnonzero(w @ phi == (w @ phi).max())
            return int(best[rng.integers(len(best))] if len(best) > 1 else best[0])

        observation, _ = env.reset(seed=int(starts.integers(2**31)))
        phi, e, over = features(observation), np.zeros_like(w), False
        action = act(phi)
        while not over:
            taken.append(action)
            observation, reward, terminated, truncated, _ = env.step(action)
            over = terminated or truncated
            delta, e = reward - w[action] @ phi, e * settings.lam * settings.gamma
            e[action] = np.maximum(e[action], phi)
            if not terminated:
                phi = features(observation)
                action = act(phi)
                delta += settings.gamma * w[action] @ phi
            w += settings.alpha * delta * e
    return w, taken


def test_it_is_the_algorithm_as_written() -> None:
    made = car(epsilon=0.3, epsilon_decay=0.5, initial_weight=-1.0, gamma=0.95)
    expected, taken = naive(car(epsilon=0.3, epsilon_decay=0.5, initial_weight=-1.0, gamma=0.95), 3)
    watched = Watched(made)
    made.learn(episodes=3)
    assert watched.actions == taken
    np.testing.assert_allclose(made.linear.weights, expected, atol=1e-9)


@pytest.mark.parametrize("traces", ["replacing", "accumulating"])
def test_a_random_walk_has_its_known_values(traces: str) -> None:
    """Whatever is done, state i of 5 is worth (i + 1) / 6."""
    made = tabular(RandomWalk(), alpha=0.01, lam=0.7, traces=traces, epsilon=1.0, initial_weight=0.5).learn(
        episodes=6000
    )
    np.testing.assert_allclose(made.linear.weights.mean(0), np.arange(1, 6) / 6, atol=0.05)
    np.testing.assert_allclose(made.linear.weights, np.tile(np.arange(1, 6) / 6, (2, 1)), atol=0.1)


def soft_values(env: Grid, epsilon: float, gamma: float) -> Floats:
    """Return Q (states, 4) with Q = the value of the policy that is epsilon-greedy in Q, by iteration.

    Ties are shared evenly, as the learner shares them.
    """
    q = np.zeros((env.goal + 1, 4))
    for _ in range(400):
        greedy = np.isclose(q, q.max(1, keepdims=True), atol=1e-9)
        policy = epsilon / 4 + (1 - epsilon) * greedy / greedy.sum(1, keepdims=True)
        v = (policy * q).sum(1)
        v[env.goal] = 0.0
        q = np.array(
            [[-1.0 + gamma * v[env.move(state, a)] for a in range(4)] for state in range(env.goal + 1)]
        )
    q[env.goal] = 0.0
    return q


@pytest.mark.parametrize(
    ("lam", "traces", "epsilon"),
    [(0.0, "replacing", 0.5), (0.6, "replacing", 0.5), (0.4, "accumulating", 1.0), (0.6, "replacing", 1.0)],
)
def test_a_grid_converges_to_the_values_of_its_own_policy(lam: float, traces: str, epsilon: float) -> None:
    """On-policy control settles where Q is the value of the policy that is epsilon-greedy in Q.

    Moves are certain, so all noise comes from exploration, which is frequent so that every action is seen
    hundreds of times. Where two moves are equally good no learner keeps them exactly equal, but Q does not
    depend on the choice. A constant step size leaves noise, hence the average over the last steps.
    """
    env = Grid(2, 3)
    made = tabular(env, alpha=0.05, lam=lam, traces=traces, epsilon=epsilon, gamma=0.9, seed=1)
    made.learn(total_timesteps=8000)
    mean, count = np.zeros_like(made.linear.weights), 0
    while made.num_timesteps < 24000:
        made.learn(total_timesteps=made.num_timesteps + 40)
        mean += made.linear.weights
        count += 1
    expected, optimal = soft_values(env, epsilon, 0.9), soft_values(env, 0.0, 0.9)
    np.testing.assert_allclose((mean / count).T[: env.goal], expected[: env.goal], atol=0.25)
    assert np.abs(expected - optimal).max() > 1.0, "the test can tell SARSA from Q-learning"


@pytest.mark.parametrize(("ends", "value"), [("truncated", 2.0), ("terminated", 1.0)])
def test_it_bootstraps_on_truncation_and_not_on_termination(ends: Any, value: float) -> None:
    """One state, reward 1, gamma .5: worth 1 + .5 + .25 + ... = 2 if only a clock ended it, else 1."""
    made = tabular(OneState(ends), alpha=0.1, gamma=0.5, epsilon=0.5).learn(episodes=1500)
    np.testing.assert_allclose(made.linear.weights, value, atol=1e-6)


def test_a_time_limit_of_gymnasium_is_a_truncation() -> None:
    limited = tabular(TimeLimit(OneState(), 5), alpha=0.1, gamma=0.5, epsilon=0.5, lam=0.5).learn(
        episodes=300
    )
    assert set(limited.episode_lengths) == {5}
    np.testing.assert_allclose(limited.linear.weights, 2.0, atol=1e-6)


def test_learning_imports_neither_torch_nor_sb3() -> None:
    code = (
        "import sys, gymnasium\n"
        "from textrl.learners.sarsa import Sarsa, SarsaSettings\n"
        "Sarsa(gymnasium.make('MountainCar-v0'), SarsaSettings()).learn(total_timesteps=20)\n"
        "print({'torch', 'stable_baselines3'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_epsilon_decays_by_the_episode_down_to_its_floor() -> None:
    made = tabular(OneState("terminated"), epsilon=0.4, epsilon_decay=0.5, epsilon_min=0.15)
    seen: list[float] = []
    made.learn(episodes=4, callback=lambda made: seen.append(made.metrics["rollout/epsilon"]))
    assert seen == [0.4, 0.2, 0.15, 0.15]


def test_it_solves_mountain_car() -> None:
    """The features of the papers, 60 episodes; the mean of episodes 1-500 is -112, and -200 is a failure."""
    made = Sarsa(mountain_car(), SarsaSettings()).learn(episodes=60)
    assert np.mean(made.episode_returns[-20:]) > -150


@pytest.mark.parametrize(
    ("env", "changes", "message"),
    [
        (Spaces(box([0], [1]), box([-1], [1])), {}, r"learner sarsa needs a Discrete action space, not Box"),
        (Spaces(Box(-np.inf, np.inf, (2,)), Discrete(2)), {}, r"give the features' 'low' and 'high'"),
        (Spaces(Discrete(4), Discrete(2)), {}, r"use kind: one_hot"),
    ],
)
def test_an_environment_that_does_not_fit_is_one_sentence(env: Any, changes: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Sarsa(env, SarsaSettings(**changes))


def test_a_step_size_that_diverges_is_named() -> None:
    with pytest.raises(
        UserError, match=r"weights of SARSA are no longer finite in episode \d+ \(alpha is 500\)"
    ):
        car(alpha=500.0).learn(episodes=20)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"alpha": 0}, r"alpha is 0\.0; it must be above 0"),
        ({"lam": 1.2}, r"lam is 1\.2; it must be between 0 and 1"),
        ({"checkpoint_every": 0}, r"checkpoint_every is 0"),
        ({"seed": -1}, r"seed is -1"),
        ({"traces": "dutch"}, r"'traces' must be one of 'replacing', 'accumulating'"),
        ({"features": {"kind": "identity"}}, r"traces is replacing, which needs features of 0 or more"),
        ({"lambda": 0.9}, r"unknown key 'lambda'"),
    ],
)
def test_settings_refuse_what_cannot_work(data: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(SarsaSettings, data, where=lambda key: f"sarsa.yaml, {key}")
