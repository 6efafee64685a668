"""Small settings for every learner, a corridor with action masks, and advice that is written down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from textrl.advice.guidance import Guidance, GuidanceSettings
from textrl.learners.sb3.learner import SB3Learner
from textrl.learners.sb3.records import sb3_learners

SPECS = {spec.name: spec for spec in sb3_learners()}
LEARNERS = list(SPECS)
CORRIDOR = "Tests/Corridor-v0"

_ON_POLICY = {"n_envs": 2, "n_steps": 32, "net_arch": [16], "tuned": False}
_OFF_POLICY = {
    "learning_starts": 20, "buffer_size": 300, "train_freq": 8, "gradient_steps": 2, "batch_size": 16,
    "target_update_interval": 32, "exploration_fraction": 0.5, "net_arch": [16], "tuned": False,
}  # fmt: skip
SMALL: dict[str, dict[str, Any]] = {
    "sb3/ppo": {**_ON_POLICY, "batch_size": 32, "n_epochs": 2},
    "sb3/a2c": {**_ON_POLICY, "n_steps": 8},
    "sb3/dqn": _OFF_POLICY,
    "contrib/qrdqn": {**_OFF_POLICY, "n_quantiles": 5},
    "contrib/trpo": {**_ON_POLICY, "batch_size": 32, "n_critic_updates": 2},
    "contrib/maskable_ppo": {**_ON_POLICY, "batch_size": 32, "n_epochs": 2},
    "contrib/recurrent_ppo": {**_ON_POLICY, "batch_size": 32, "n_epochs": 2, "lstm_hidden_size": 8},
    "contrib/ars": {"n_delta": 2, "tuned": False},
}


class Corridor(gymnasium.Env[NDArray[np.float32], np.int64]):
    """Walk from somewhere in [0, 9] to 9; action 2 is illegal below 5 and ends the episode with -10.

    The observation is (place / 9, steps / 20): advice and networks see what the time limit sees.
    """

    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (2,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(3)

    def _seen(self) -> NDArray[np.float32]:
        return np.array([self.place / 9, self.steps / 20], dtype=np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        self.place, self.steps = int(self.np_random.integers(0, 8)), 0
        return self._seen(), {}

    def action_masks(self) -> NDArray[np.bool_]:
        return np.array([True, True, self.place >= 5])

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        illegal = action == 2 and self.place < 5
        slips = self.np_random.random() < 0.1
        self.place = min(max(self.place + (0 if slips else int(action) * 2 - 1), 0), 9)
        self.steps += 1
        done = illegal or self.place == 9
        return self._seen(), -10.0 if illegal else -1.0, bool(done), False, {"illegal": bool(illegal)}


if CORRIDOR not in gymnasium.registry:
    gymnasium.register(CORRIDOR, entry_point=Corridor, max_episode_steps=20)


class Ratings:
    """Advice by a table of two rows: H(s, .) where the first number of the observation is above 0, or not."""

    def __init__(self, above: list[float], below: list[float]) -> None:
        self.above, self.below = np.array(above), np.array(below)
        self.asked = 0

    def rate(self, observation: Any) -> NDArray[np.float64]:
        self.asked += 1
        return self.above if observation[0] > 0 else self.below


POLE_RATINGS = ([1.0, -0.5], [-0.25, 2.0])


def ratings_of(batch: NDArray[Any]) -> NDArray[np.float64]:
    """Return H(s, .) of each Cart Pole observation, as `Ratings` has it."""
    above, below = (np.array(row) for row in POLE_RATINGS)
    rated: NDArray[np.float64] = np.where(batch[:, :1] > 0, above, below)
    return rated


def guidance(technique: str, beta: float, env_id: str = "CartPole-v1", **settings: Any) -> Guidance:
    env = gymnasium.make(env_id)
    count = int(env.action_space.n)  # type: ignore[attr-defined]
    ratings = Ratings(*([row + [0.25] * (count - 2) for row in POLE_RATINGS]))
    chosen = GuidanceSettings(technique=technique, source="here", beta=beta, **settings)  # type: ignore[arg-type]
    return Guidance(chosen, ratings, env.observation_space, count, seed=7)


def env_of(name: str) -> str:
    return CORRIDOR if name == "contrib/maskable_ppo" else "CartPole-v1"


def settings(name: str, **changes: Any) -> Any:
    from textrl.settings import build

    cls: Any = SPECS[name].load_settings()
    return build(cls, {**SMALL[name], **changes}, where=str)


def make(name: str, env: Any = None, **changes: Any) -> SB3Learner:
    """Return a small learner; `guidance` and `checkpoint_dir` are handed on, all else are settings."""
    parts = {key: changes.pop(key) for key in ("guidance", "checkpoint_dir") if key in changes}
    made: SB3Learner = SPECS[name].load()(env or env_of(name), settings(name, **changes), **parts)
    return made


def weights(learner: SB3Learner) -> dict[str, torch.Tensor]:
    """Return everything that is learnt, as copies."""
    found = {name: tensor.clone() for name, tensor in learner.policy.state_dict().items()}
    searched = getattr(learner.algorithm, "weights", None)
    return found if searched is None else found | {"searched": searched.clone()}


def same(mine: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor]) -> bool:
    return list(mine) == list(theirs) and all(torch.equal(mine[name], theirs[name]) for name in mine)


def observations(env_id: str, count: int = 6) -> NDArray[np.float32]:
    """Return (count, S) observations of a random walk."""
    env = gymnasium.make(env_id)
    env.action_space.seed(0)
    seen = [env.reset(seed=0)[0]]
    while len(seen) < count:
        observation, _, terminated, truncated, _ = env.step(env.action_space.sample())
        seen.append(env.reset()[0] if terminated or truncated else observation)
    return np.array(seen, dtype=np.float32)
