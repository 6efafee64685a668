"""Worlds whose values are known, and advice that is a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class RandomWalk(gymnasium.Env[int, int]):
    """States 0..n-1, start in the middle, left or right by chance; 1 beyond the right end, 0 beyond the left.

    The value of state i is (i + 1) / (n + 1) whatever is done (Sutton and Barto 2018, example 6.2).
    """

    def __init__(self, n: int = 5) -> None:
        self.n = n
        self.observation_space, self.action_space = Discrete(n), Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self.state = self.n // 2
        return self.state, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        self.state += int(self.np_random.integers(2)) * 2 - 1
        over = not 0 <= self.state < self.n
        return min(max(self.state, 0), self.n - 1), float(self.state == self.n), over, False, {}


class Grid(gymnasium.Env[int, int]):
    """Rows x columns; moves are up, right, down, left, and cost 1; the goal is the last cell."""

    MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))

    def __init__(self, rows: int = 3, columns: int = 4) -> None:
        self.rows, self.columns = rows, columns
        self.goal = rows * columns - 1
        self.observation_space, self.action_space = Discrete(rows * columns), Discrete(4)

    def move(self, state: int, action: int) -> int:
        row, column = divmod(state, self.columns)
        down, right = self.MOVES[action]
        return min(max(row + down, 0), self.rows - 1) * self.columns + min(
            max(column + right, 0), self.columns - 1
        )

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self.state = int(self.np_random.integers(self.goal))
        return self.state, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        self.state = self.move(self.state, action)
        return self.state, -1.0, self.state == self.goal, False, {}


class OneState(gymnasium.Env[int, int]):
    """One state that pays 1, and that a terminal state or a clock ends after one step, or nothing ever."""

    def __init__(self, ends: Literal["terminated", "truncated"] | None = None) -> None:
        self.ends = ends
        self.observation_space, self.action_space = Discrete(1), Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        return 0, 1.0, self.ends == "terminated", self.ends == "truncated", {}


class Spaces(gymnasium.Env[Any, Any]):
    """An environment of which only the spaces matter."""

    def __init__(self, observations: Any, actions: Any) -> None:
        self.observation_space, self.action_space = observations, actions


def box(low: list[float], high: list[float]) -> Box:
    return Box(np.array(low, np.float32), np.array(high, np.float32), dtype=np.float32)


def mountain_car_space() -> Box:
    return box([-1.2, -0.07], [0.6, 0.07])


def mountain_car(limit: int = 200) -> gymnasium.Env[Any, Any]:
    return gymnasium.make("MountainCar-v0", max_episode_steps=limit)


class Rule:
    """Advice for Mountain Car: push with the velocity, (3,); `scale` is how far apart the ratings are."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale, self.asked = scale, 0

    def rate(self, observation: Any) -> Floats:
        self.asked += 1
        push = 2 if observation[1] >= 0 else 0
        h = np.full(3, -self.scale)
        h[push] = self.scale
        return h


class Person:
    """Follows the loop's calls, trains in the first episodes, and counts what it saw."""

    def __init__(self, training_episodes: int = 1) -> None:
        self.calls: list[str] = []
        self.until, self.episode, self.seen = training_episodes, 0, np.zeros(1)

    @property
    def training(self) -> bool:
        return self.episode < self.until

    def shown(self, observation: Any, action: int) -> None:
        self.calls.append(f"shown {observation} {action}")
        self.seen += 1

    def advance(self) -> None:
        self.calls.append("advance")

    def end_episode(self) -> None:
        self.calls.append("end")
        self.episode += 1

    def metrics(self) -> Mapping[str, float]:
        return {"human/signals_per_min": float(self.seen[0])}

    def state_dict(self) -> dict[str, Any]:
        return {"episode": self.episode, "seen": self.seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.episode, self.seen = state["episode"], state["seen"]
