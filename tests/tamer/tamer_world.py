"""A corridor of five cells, small enough to know the optimum, and a registry of one plugin."""

from __future__ import annotations

import hashlib
from typing import Any

import gymnasium
import numpy as np

from textrl.discovery import file_plugin, new_manager, read_plugin
from textrl.features import FeatureSettings
from textrl.protocols import Signal
from textrl.registry import Registry
from textrl.tamer import Tamer, TamerSettings

CELLS = 5
ONE_HOT = FeatureSettings(kind="one_hot")


class Corridor(gymnasium.Env[int, int]):
    """Left is 0, right is 1; -1 a step, over at the right end, cut after `limit` steps."""

    def __init__(self, limit: int = 12) -> None:
        self.observation_space = gymnasium.spaces.Discrete(CELLS)
        self.action_space = gymnasium.spaces.Discrete(2)
        self.limit = limit

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict]:
        super().reset(seed=seed)
        self.cell, self.steps = int(self.np_random.integers(CELLS - 1)), 0
        return self.cell, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict]:
        self.cell = int(np.clip(self.cell + (1 if action else -1), 0, CELLS - 1))
        self.steps += 1
        return self.cell, -1.0, self.cell == CELLS - 1, self.steps >= self.limit, {}


def corridor_truth(observation: Any, action: int) -> float:
    """Right is good."""
    return 1.0 if action == 1 else -1.0


def corridor_tamer(**settings: Any) -> Tamer:
    env = Corridor()
    return Tamer(TamerSettings(**{"features": ONE_HOT, **settings}), env.observation_space, 2)


def fingerprint(tamer: Tamer) -> str:
    """SHA-256 of a linear H's weights."""
    return hashlib.sha256(tamer.model.weights.tobytes()).hexdigest()


def plugin_registry(module: str) -> Registry:
    """A registry with one plugin, installed or not."""
    return Registry([read_plugin(file_plugin(module), new_manager())])


class Scripted:
    """Feedback that gives what it was told."""

    def __init__(self, *signals: Signal) -> None:
        self.signals = list(signals)
        self.watched: list[tuple[Any, int, float]] = []

    def watch(self, observation: Any, action: int, shown_s: float) -> None:
        self.watched.append((observation, action, shown_s))

    def poll(self, now_s: float) -> list[Signal]:
        given = [signal for signal in self.signals if signal.time_s <= now_s]
        self.signals = [signal for signal in self.signals if signal.time_s > now_s]
        return given
