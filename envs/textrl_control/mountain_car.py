"""`MountainCarRLLibrary`: Gymnasium's Mountain Car with the start states and rewards of the papers."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.envs.classic_control.mountain_car import MountainCarEnv
from numpy.typing import NDArray

from textrl_control.rendering import metadata, track

#: Bounds of the start position in metres.
START_LOW, START_HIGH = -0.7, -0.3


class MountainCarRLLibrary(MountainCarEnv):
    """Drive an under-powered car up a hill, from RL-Library's start states and for its rewards.

    ## Description
    Gymnasium's Mountain Car, whose dynamics are those of RL-Library: force 0.001, gravity 0.0025, walls
    that stop the car. The papers on TAMER and TAMER+RL ran RL-Library's version; it starts in a wider
    region, pays nothing for the last step, and lets an episode last 500 steps.

    ## Action Space
    `Discrete(3)`: 0 pushes left, 1 does not push, 2 pushes right.

    ## Observation Space
    `Box([-1.2, -0.07], [0.6, 0.07], (2,), float32)`: position in metres, velocity in metres per step.

    ## Rewards
    -1 for every step, 0 for the step that reaches the goal. A return is therefore one higher than
    Gymnasium's for the same trajectory. The papers do not discount (gamma 1).

    ## Starting State
    The position is uniform in [-0.7, -0.3] (Gymnasium: [-0.6, -0.4]), the velocity 0. As in Gymnasium,
    `reset(options={"low": a, "high": b})` draws it from [a, b] instead.

    ## Episode End
    `terminated` at a position of 0.5 or more. `truncated` after 500 steps by the outer time limit that
    `gymnasium.make` adds; another `max_episode_steps` can be given there. RL-Library calls the cut-off a
    terminal state; here it is a truncation, from which a learner bootstraps.

    ## Arguments
    `render_mode`: `"ansi"` renders the track as a line of text; `"human"` and `"rgb_array"` are
    Gymnasium's pictures and exist where pygame is installed. `goal_velocity` (0): as in Gymnasium.

    ## Vectorized environment
    `gymnasium.make_vec` steps copies one after the other (`SyncVectorEnv`); there is no own one.

    ## Version History
    * v0: Initial version.
    """

    metadata = metadata(frames_per_second=30)

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Push, and pay for the time it took unless the goal is reached."""
        observation, _, terminated, truncated, info = super().step(action)
        return observation, 0.0 if terminated else -1.0, terminated, truncated, info

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Put the car somewhere in the valley, at rest."""
        bounds = {"low": START_LOW, "high": START_HIGH} | (options or {})
        observation, info = super().reset(seed=seed, options=bounds)
        return observation, info

    def render(self) -> Any:
        """Return the track as text, or what Gymnasium draws."""
        if self.render_mode != "ansi":
            return super().render()  # type: ignore[no-untyped-call]
        position, velocity = self.state
        line = track(position, self.min_position, self.max_position, "o", goal=self.goal_position)
        return f"{line}  position {position:+.3f} m, velocity {velocity:+.4f} m/step"
