"""Text environments: writing one token is one step. Hooks only; importing this costs next to nothing."""

from __future__ import annotations

from collections.abc import Iterable

from textrl.hookspecs import hookimpl
from textrl.specs import EnvSpec


@hookimpl
def textrl_envs() -> Iterable[EnvSpec]:
    """Yield the token environment."""
    yield EnvSpec(
        name="TextRL/Tokens-v0",
        target="textrl_text.scalar:TokenEnv",
        vector_target="textrl_text.vector:TokenVectorEnv",
        settings="textrl_text.settings:TokenEnvSettings",
        summary="Write text one token a step, from your prompts, for your rewards.",
    )
