"""Text environments: writing one token is one step. Hooks only; importing this costs next to nothing."""

from __future__ import annotations

from collections.abc import Iterable

from textrl.hookspecs import hookimpl
from textrl.specs import EnvSpec, ModelSpec
from textrl_text.catalog import TASKS, policy_name


@hookimpl
def textrl_envs() -> Iterable[EnvSpec]:
    """Yield the token environment, and the tasks that are made with it."""
    yield EnvSpec(
        name="TextRL/Tokens-v0",
        target="textrl_text.scalar:TokenEnv",
        vector_target="textrl_text.vector:TokenVectorEnv",
        settings="textrl_text.settings:TokenEnvSettings",
        summary="Write text one token a step, from your prompts, for your rewards.",
    )
    for entry in TASKS.values():
        yield EnvSpec(
            name=entry.env_id,
            target=entry.target,
            vector_target=entry.vector_target,
            settings=f"textrl_text.settings:{entry.title}Settings",
            summary=entry.summary,
        )


@hookimpl
def textrl_models() -> Iterable[ModelSpec]:
    """Yield the small language model of each task."""
    for name, entry in TASKS.items():
        for difficulty in entry.policies:
            yield ModelSpec(
                name=policy_name(name, difficulty),
                target=f"textrl_text.tasks.policies:{name}_{difficulty}",
                summary=f"A small GPT-2 over the words of {entry.env_id}, {difficulty}; made on the spot.",
            )
