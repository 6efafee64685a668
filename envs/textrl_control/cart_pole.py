"""`CartPoleRLLibrary`: Gymnasium's Cart Pole with the noise, start states and rewards of the papers."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from numpy.typing import NDArray

from textrl.errors import UserError
from textrl_control.rendering import metadata, track

#: Half-widths of the uniform start: x in m, its velocity in m/s, theta in rad, its velocity in rad/s.
START = np.array([0.5, 0.5, 1 / 16, 1 / 16])
#: Largest absolute force noise in N.
NOISE_N = 10.0
#: Velocities are finite so that the space is one to normalise; no episode comes near these (see the tests).
MAX_SPEED, MAX_TURN = 15.0, 10.0  # m/s, rad/s


class CartPoleRLLibrary(CartPoleEnv):
    """Balance a pole on a cart that is shaken, with RL-Library's start states and rewards.

    ## Description
    Gymnasium's Cart Pole, whose dynamics are those of RL-Library: masses 1 and 0.1 kg, a pole of 1 m,
    steps of 0.02 s (Euler). In the version that the papers on TAMER and TAMER+RL ran, a random force acts
    beside the agent's own, which may cancel or double it.

    ## Action Space
    `Discrete(2)`: 0 pushes left with 10 N, 1 pushes right with 10 N. In every step a force that is
    uniform in [-10, 10] N is added, drawn from the environment's generator.

    ## Observation Space
    `Box([-4.8, -15, -0.418, -10], [4.8, 15, 0.418, 10], (4,), float32)`: position of the cart in m, its
    velocity in m/s, angle of the pole in rad, its angular velocity in rad/s. Gymnasium leaves the
    velocities unbounded; these bounds are wider than what an episode can reach. RL-Library names the
    ranges 2.4 m, 6 m/s, 12 degrees and 6 rad/s, which suit features better.

    ## Rewards
    +1 for every step that leaves the pole up, -1 for the step in which it falls or the cart leaves the
    track. These are the numbers in the RL-Library code that the papers' author publishes
    (`CartPoleState.getReward` in bradknox/tamerproject). With 0 instead of +1, all that tells an early
    fall from a late one would be the discount. The papers discount with gamma 0.999.

    ## Starting State
    Uniform: position in [-0.5, 0.5] m, its velocity in [-0.5, 0.5] m/s, angle in [-1/16, 1/16] rad, its
    velocity in [-1/16, 1/16] rad/s (Gymnasium: all in [-0.05, 0.05]).

    ## Episode End
    `terminated` when the position leaves [-2.4, 2.4] m or the angle leaves [-12, 12] degrees. `truncated`
    after 300 steps by the outer time limit that `gymnasium.make` adds; another `max_episode_steps` can be
    given there.

    ## Arguments
    `render_mode`: `"ansi"` renders the track as a line of text; `"human"` and `"rgb_array"` are
    Gymnasium's pictures and exist where pygame is installed. `reset` takes no options.

    ## Vectorized environment
    `gymnasium.make_vec` steps copies one after the other (`SyncVectorEnv`). Gymnasium's own vector Cart
    Pole knows neither the noise nor these start states.

    ## Version History
    * v0: Initial version.
    """

    metadata = metadata(frames_per_second=50)

    def __init__(self, render_mode: str | None = None) -> None:
        """Build the environment."""
        super().__init__(render_mode=render_mode)
        high = np.array([2 * self.x_threshold, MAX_SPEED, 2 * self.theta_threshold_radians, MAX_TURN])
        self.observation_space = gymnasium.spaces.Box(
            -high.astype(np.float32), high.astype(np.float32), dtype=np.float32
        )

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Push, with a random force on top, and pay for a pole that stays up."""
        noise = self.np_random.uniform(-NOISE_N, NOISE_N)
        agent = self.force_mag
        # The parent pushes with -force_mag or +force_mag; either way this adds `noise` to the force.
        self.force_mag = agent + (noise if action == 1 else -noise)
        try:
            observation, _, terminated, truncated, info = super().step(action)  # type: ignore[no-untyped-call]
        finally:
            self.force_mag = agent
        return observation, -1.0 if terminated else 1.0, terminated, truncated, info

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Put the cart near the middle of the track and the pole near the vertical.

        Raises:
            UserError: When options are given: Gymnasium's `low` and `high` do not fit four ranges.
        """
        for name in options or {}:
            raise UserError(f"reset() of {type(self).__name__} has no option '{name}'; it takes none.")
        gymnasium.Env.reset(self, seed=seed)
        self.state = self.np_random.uniform(-START, START)
        self.steps_beyond_terminated = None
        if self.render_mode == "human":
            self.render()
        return self.state.astype(np.float32), {}

    def render(self) -> Any:
        """Return the track as text, or what Gymnasium draws."""
        if self.render_mode != "ansi":
            return super().render()  # type: ignore[no-untyped-call]
        assert self.state is not None, "render() shows the state that reset() makes"
        x, _, theta, _ = self.state
        lean = "|" if abs(theta) < self.theta_threshold_radians / 4 else "/" if theta > 0 else "\\"
        line = track(x, -self.x_threshold, self.x_threshold, lean)
        return f"{line}  cart {x:+.2f} m, pole {np.degrees(theta):+.1f} degrees"
