"""Classic control as the TAMER papers had it. Hooks only; importing this costs next to nothing."""

from __future__ import annotations

from collections.abc import Iterable

from textrl.hookspecs import hookimpl
from textrl.specs import EnvSpec


@hookimpl
def textrl_envs() -> Iterable[EnvSpec]:
    """Yield the two tasks of RL-Library that the papers used."""
    yield EnvSpec(
        name="TextRL/MountainCarRLLibrary-v0",
        target="textrl_control.mountain_car:MountainCarRLLibrary",
        max_episode_steps=500,
        summary="Mountain Car with RL-Library's start states and rewards, cut off after 500 steps.",
    )
    yield EnvSpec(
        name="TextRL/CartPoleRLLibrary-v0",
        target="textrl_control.cart_pole:CartPoleRLLibrary",
        max_episode_steps=300,
        summary="Cart Pole with RL-Library's force noise, start states and rewards, cut off after 300 steps.",
    )
