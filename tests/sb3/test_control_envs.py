"""The papers' two tasks: start states, rewards, noise and limits are RL-Library's, checked one by one."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import textrl_control
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from gymnasium.envs.classic_control.mountain_car import MountainCarEnv
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import SyncVectorEnv
from stable_baselines3.common.env_checker import check_env as check_env_sb3
from textrl_control.cart_pole import CartPoleRLLibrary
from textrl_control.mountain_car import MountainCarRLLibrary

from textrl.discovery import Plugin
from textrl.errors import UserError
from textrl.registry import Registry
from textrl.specs import EnvSpec

SPECS = list(textrl_control.textrl_envs())
CAR, POLE = (spec.name for spec in SPECS)


@pytest.fixture(autouse=True)
def registered() -> None:
    offers = tuple(("env", spec) for spec in SPECS)
    Registry(
        [Plugin(name="control", package="here", distribution="", status="ok", offers=offers)]
    ).register_envs()


@pytest.mark.parametrize("name", [CAR, POLE])
def test_both_checkers_pass_without_a_warning(name: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        env = gymnasium.make(name, disable_env_checker=True)
        check_env(env.unwrapped)
        check_env_sb3(env)
    assert [str(warning.message) for warning in caught] == []


def test_a_records_time_limit_reaches_gymnasium() -> None:
    assert gymnasium.spec(CAR).max_episode_steps == 500
    assert gymnasium.spec(POLE).max_episode_steps == 300
    assert EnvSpec(name="E-v0", target="a:b", summary="s").max_episode_steps is None
    assert gymnasium.make(CAR, max_episode_steps=7).spec.max_episode_steps == 7  # type: ignore[union-attr]


@pytest.mark.parametrize("cls", [MountainCarRLLibrary, CartPoleRLLibrary])
def test_the_class_docstrings_have_gymnasiums_headings(cls: type[Any]) -> None:
    lines = [line.strip() for line in (cls.__doc__ or "").splitlines()]
    assert [line[3:] for line in lines if line.startswith("## ")] == [
        "Description",
        "Action Space",
        "Observation Space",
        "Rewards",
        "Starting State",
        "Episode End",
        "Arguments",
        "Vectorized environment",
        "Version History",
    ]


def starts(name: str, count: int = 1500) -> np.ndarray[Any, Any]:
    env = gymnasium.make(name).unwrapped
    return np.array([env.reset(seed=0 if i == 0 else None)[0] for i in range(count)])


def assert_uniform(values: np.ndarray[Any, Any], low: float, high: float) -> None:
    """Kolmogorov and Smirnov's statistic stays below its 1e-6 quantile, 2.7 / sqrt(n)."""
    unit = np.sort((values - low) / (high - low))
    assert unit[0] >= 0
    assert unit[-1] <= 1
    grid = np.arange(1, len(unit) + 1) / len(unit)
    assert np.abs(unit - grid).max() < 2.7 / np.sqrt(len(unit))


def test_mountain_car_starts_at_rest_and_uniformly_in_the_wider_region() -> None:
    seen = starts(CAR)
    assert_uniform(seen[:, 0], -0.7, -0.3)
    assert (seen[:, 1] == 0).all()


def test_mountain_car_takes_gymnasiums_reset_bounds() -> None:
    env = gymnasium.make(CAR)
    assert env.reset(seed=0, options={"low": 0.1, "high": 0.1})[0] == pytest.approx([0.1, 0])


def test_mountain_car_is_gymnasiums_but_for_the_last_reward() -> None:
    ours, theirs = MountainCarRLLibrary(), MountainCarEnv()
    ours.reset(seed=0)
    theirs.reset(seed=0)
    theirs.state = np.array(ours.state)
    rewards = []
    for _ in range(2000):
        action = 2 if ours.state[1] >= 0 else 0  # push with the velocity
        mine, reward, terminated, truncated, _ = ours.step(action)
        other, paid, over, _, _ = theirs.step(action)
        assert (mine == other).all()
        assert (terminated, truncated, paid) == (over, False, -1.0)
        rewards.append(reward)
        if terminated:
            break
    assert len(rewards) < 200
    assert mine[0] >= 0.5
    assert rewards == [-1.0] * (len(rewards) - 1) + [0.0]


def test_mountain_car_is_cut_off_after_500_steps() -> None:
    env = gymnasium.make(CAR)
    env.reset(seed=0)
    ends = [env.step(1)[1:4] for _ in range(500)]
    assert ends[:-1] == [(-1.0, False, False)] * 499
    assert ends[-1] == (-1.0, False, True)


def test_cart_pole_starts_uniformly_in_four_ranges() -> None:
    seen = starts(POLE)
    for column, width in enumerate([0.5, 0.5, 1 / 16, 1 / 16]):
        assert_uniform(seen[:, column], -width, width)
    assert np.abs(np.corrcoef(seen.T) - np.eye(4)).max() < 0.15


def forces(action: int, count: int = 1500) -> np.ndarray[Any, Any]:
    """Return the forces in N that acted, from the cart's acceleration at an upright pole at rest."""
    env = CartPoleRLLibrary()
    env.reset(seed=1)
    found = []
    for _ in range(count):
        env.state = np.zeros(4)
        env.step(action)
        found.append(env.state[1] / env.tau)
    # At rest: F / m = x'' + (m_p l / m) theta'' with theta'' = -(F / m) / (l (4/3 - m_p / m)).
    m, m_p, length = 1.1, 0.1, 0.5
    per_newton = (1 + m_p * length / m / (length * (4 / 3 - m_p / m))) / m
    return np.array(found) / per_newton


@pytest.mark.parametrize(("action", "own"), [(0, -10.0), (1, 10.0)])
def test_cart_poles_force_has_uniform_noise_of_ten_newtons(action: int, own: float) -> None:
    assert_uniform(forces(action) - own, -10.0, 10.0)


def test_cart_pole_is_gymnasiums_with_the_noise_added_to_the_force() -> None:
    ours, theirs = CartPoleRLLibrary(), CartPoleEnv()
    ours.reset(seed=3)
    theirs.reset(seed=3)
    noise = np.random.default_rng()
    noise.bit_generator.state = ours.np_random.bit_generator.state
    for action in [0, 1, 1, 0, 1]:
        theirs.state = np.array(ours.state)
        force = (10.0 if action else -10.0) + noise.uniform(-10.0, 10.0)
        theirs.force_mag = abs(force)
        other = theirs.step(int(force > 0))[0]
        assert ours.step(action)[0] == pytest.approx(other, abs=1e-7)
    assert ours.force_mag == 10.0


def test_cart_pole_pays_for_every_step_and_fines_the_fall() -> None:
    env = gymnasium.make(POLE)
    env.reset(seed=0)
    paid = []
    over = False
    while not over:
        observation, reward, over, truncated, _ = env.step(0)
        paid.append(reward)
    assert not truncated
    assert abs(observation[2]) > np.radians(12)
    assert len(paid) > 3
    assert paid == [1.0] * (len(paid) - 1) + [-1.0]


def test_cart_pole_is_cut_off_after_300_steps() -> None:
    env = gymnasium.make(POLE)
    env.reset(seed=0)
    ends = []
    for _ in range(300):
        env.unwrapped.state = np.zeros(4)  # type: ignore[attr-defined]
        ends.append(env.step(0)[1:4])
    assert ends[:-1] == [(1.0, False, False)] * 299
    assert ends[-1] == (1.0, False, True)


def test_cart_poles_bounds_hold_whatever_is_done() -> None:
    """Even with twice the agent's force on top of the noise, which is more than an episode can meet."""
    env = CartPoleRLLibrary()
    policies = [
        lambda state, rng: int(rng.integers(2)),
        lambda state, rng: int(state[2] + 0.2 * state[3] > 0),  # keeps the pole up
        lambda state, rng: int(state[2] + 0.2 * state[3] + 0.1 > 0),  # keeps it leaning, and so runs away
        lambda state, rng: int(state[2] < 0),  # tips it over
    ]
    rng = np.random.default_rng(0)
    fastest = np.zeros(4)
    for episode in range(120):
        env.reset(seed=episode)
        env.force_mag = 20.0
        for _ in range(300):
            observation, _, terminated, _, _ = env.step(policies[episode % 4](env.state, rng))
            assert env.observation_space.contains(observation)
            fastest = np.maximum(fastest, np.abs(observation))
            if terminated:
                break
    # The policies do move it: the bounds are not met because nothing happens.
    assert fastest[1] > 3
    assert fastest[3] > 3


def test_a_seed_repeats_an_episode_noise_included() -> None:
    env = gymnasium.make(POLE)
    twice = []
    for _ in range(2):
        first, _ = env.reset(seed=5)
        twice.append([first, *(env.step(i % 2)[0] for i in range(6))])
    assert (np.array(twice[0]) == np.array(twice[1])).all()
    other = env.reset(seed=6)[0]
    assert (twice[0][0] != other).all()


def test_cart_pole_refuses_reset_options() -> None:
    with pytest.raises(UserError, match=r"reset\(\) of CartPoleRLLibrary has no option 'low'; it takes none"):
        gymnasium.make(POLE).reset(options={"low": -1.0})


@pytest.mark.parametrize("name", [CAR, POLE])
def test_copies_are_stepped_by_gymnasiums_own_vector_environment(name: str) -> None:
    envs = gymnasium.make_vec(name, num_envs=3)
    assert isinstance(envs, SyncVectorEnv)
    observations, _ = envs.reset(seed=0)
    assert len(np.unique(observations[:, 0])) == 3
    observations, rewards, *_ = envs.step(np.zeros(3, dtype=np.int64))
    assert observations in envs.observation_space
    assert rewards.shape == (3,)
    envs.close()


def test_episodes_can_be_watched_as_text() -> None:
    car = gymnasium.make(CAR, render_mode="ansi")
    car.reset(seed=0, options={"low": -0.5, "high": -0.5})
    line = str(car.render())
    assert "position -0.500 m" in line
    assert line.index("o") < line.index("F")
    pole = gymnasium.make(POLE, render_mode="ansi")
    pole.reset(seed=0)
    pole.unwrapped.state = np.array([2.4, 0, np.radians(10), 0])  # type: ignore[attr-defined]
    assert str(pole.render()).startswith("-" * 60 + "/  cart +2.40 m, pole +10.0 degrees")


def test_pictures_are_offered_where_they_can_be_drawn() -> None:
    drawn = {"human", "rgb_array"} <= set(MountainCarRLLibrary.metadata["render_modes"])
    assert drawn == bool(importlib.util.find_spec("pygame"))


def test_listing_the_environments_imports_nothing_heavy() -> None:
    folder = Path(textrl_control.__file__).parents[1]
    code = (
        f"import sys; sys.path.append({str(folder)!r}); import textrl_control; "
        "list(textrl_control.textrl_envs()); "
        "print(*{'torch', 'gymnasium', 'numpy', 'stable_baselines3'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
