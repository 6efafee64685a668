"""From settings to SB3's constructor."""

from __future__ import annotations

import inspect
from typing import Any

from stable_baselines3.common.vec_env import VecEnv

from textrl.errors import UserError
from textrl.learners.sb3.settings import SB3Settings


class Linear:
    """A schedule of SB3's: from a value to 0 with the remaining part of the training."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __call__(self, remaining: float) -> float:
        """Return the value where `remaining` of the training, in [0, 1], lies ahead."""
        return remaining * self.value


def build_algorithm(
    algorithm: type[Any],
    policy: Any,
    policy_arguments: dict[str, Any],
    settings: SB3Settings,
    vec: VecEnv,
    label: str,
) -> Any:
    """Return the algorithm on its environments.

    Args:
        algorithm: Its class; takes the settings that its constructor has under the same names.
        policy: The name of a policy that the algorithm knows, or a class.
        policy_arguments: Of the policy.
        settings: Without open values.
        vec: The environments.
        label: How messages name the learner.

    Raises:
        UserError: When SB3 refuses the environments or the settings.
    """
    arguments = {
        name: getattr(settings, name)
        for name in inspect.signature(algorithm).parameters
        if name != "policy" and hasattr(settings, name)
    }
    for name in ("learning_rate", "clip_range"):
        if getattr(settings, f"{name}_schedule", None) == "linear":
            arguments[name] = Linear(arguments[name])
    try:
        return algorithm(policy, vec, policy_kwargs=policy_arguments, **arguments)
    except (AssertionError, ValueError) as error:
        # SB3 says so where the environment's spaces or the settings do not fit.
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise UserError(f"The learner '{label}' cannot be built: {reason}.") from error


def own_defaults(algorithm: type[Any]) -> dict[str, Any]:
    """Return the defaults of an algorithm's constructor."""
    parameters = inspect.signature(algorithm).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


def env_id(env: Any) -> str | None:
    """Return the Gymnasium id of an environment, if it has one."""
    if isinstance(env, str):
        return env.rpartition(":")[2]
    found: str | None = getattr(getattr(env, "spec", None), "id", None)
    return found
