"""What a plugin can offer: six hooks, each yielding frozen records (see `textrl.specs`)."""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from textrl.specs import CommandSpec, EnvSpec, FeedbackSpec, LearnerSpec, ModelSpec, RewardSpec

PROJECT = "textrl"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def textrl_rewards() -> Iterable[RewardSpec]:
    """Sources of reward."""
    raise AssertionError("a hook specification is never called")


@hookspec
def textrl_envs() -> Iterable[EnvSpec]:
    """Gymnasium environments; textrl registers them under their names."""
    raise AssertionError("a hook specification is never called")


@hookspec
def textrl_learners() -> Iterable[LearnerSpec]:
    """Learners with Stable-Baselines3's surface."""
    raise AssertionError("a hook specification is never called")


@hookspec
def textrl_feedback() -> Iterable[FeedbackSpec]:
    """Sources of human or simulated signals."""
    raise AssertionError("a hook specification is never called")


@hookspec
def textrl_models() -> Iterable[ModelSpec]:
    """Models that can be loaded by a short name."""
    raise AssertionError("a hook specification is never called")


@hookspec
def textrl_commands() -> Iterable[CommandSpec]:
    """Commands below ``textrl``."""
    raise AssertionError("a hook specification is never called")
