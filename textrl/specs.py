"""The frozen records that plugins yield.

A record names its implementation by a string (``"package.module:Attribute"``) that is imported on
first use, so listing plugins costs milliseconds and a clash can name both owners. Every field is
keyword-only. `API_VERSION` grows only when a record's meaning changes.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Any, Literal

from textrl.errors import PluginError

API_VERSION = 1

Granularity = Literal["token", "episode"]
Side = Literal["env", "learner"]
#: Optional inputs a reward may ask for through `RewardSpec.needs`.
NEEDS = frozenset({"text", "records", "logprobs", "ref_logprobs", "times", "ref_hidden"})


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What every record carries.

    Attributes:
        name: Unique among the records of its kind, across all plugins.
        target: ``"module:attribute"`` of the implementation.
        summary: One line for the listings.
        settings: ``"module:Dataclass"`` of the frozen settings class the target is built from, or None.
        api_version: The record format the plugin was written for.
    """

    name: str
    target: str
    summary: str
    settings: str | None = None
    api_version: int = API_VERSION

    def load(self) -> Any:
        """Import and return the target."""
        return resolve(self.target, self.name)

    def load_settings(self) -> type | None:
        """Import and return the settings dataclass, or None when the target takes none."""
        if self.settings is None:
            return None
        loaded: type = resolve(self.settings, self.name)
        return loaded


@dataclass(frozen=True, kw_only=True)
class RewardSpec(Spec):
    """A source of reward; the target is called as ``target(settings)`` and gives a `Reward`.

    Attributes:
        granularity: ``"token"`` for (B, T) values, ``"episode"`` for (B,).
        causal: Per token only: ``r[:, t]`` depends on ``response_ids[:, :t + 1]`` alone.
        side: ``"learner"`` where the source needs the learner's log-probs; environments refuse those.
        needs: Subset of `NEEDS`: what the batch must carry beyond ids and masks.
        advises: The target is also an `Advice`.
    """

    granularity: Granularity = "episode"
    causal: bool = False
    side: Side = "env"
    needs: frozenset[str] = field(default_factory=frozenset)
    advises: bool = False


@dataclass(frozen=True, kw_only=True)
class EnvSpec(Spec):
    """An environment; `name` is the Gymnasium id, `target` the env class.

    Attributes:
        vector_target: ``"module:attribute"`` of the vector environment, or None.
        kwargs: Default keyword arguments for the constructor.
        max_episode_steps: Length at which Gymnasium's outer time limit truncates an episode, or None.
    """

    vector_target: str | None = None
    kwargs: tuple[tuple[str, Any], ...] = ()
    max_episode_steps: int | None = None


@dataclass(frozen=True, kw_only=True)
class LearnerSpec(Spec):
    """A learner; the target is called as ``target(env, settings)`` and gives a `Learner`.

    Attributes:
        accepts: Which advice it can take: of ``reward``, ``target``, ``action_scores``, ``behaviour``. It is
            called with ``guidance`` then; where its class says ``advised_on_text = True`` that is a
            `textrl.advice.text.TextGuidance`, else it is advised in control environments only.
    """

    accepts: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True, kw_only=True)
class FeedbackSpec(Spec):
    """A source of human or simulated signals; ``target(settings)`` gives a `Feedback`."""


@dataclass(frozen=True, kw_only=True)
class ModelSpec(Spec):
    """A named model; ``target()`` returns the local folder that transformers can load."""


@dataclass(frozen=True, kw_only=True)
class CommandSpec(Spec):
    """A command; the target is a function that becomes ``textrl NAME``."""


def resolve(target: str, owner: str) -> Any:
    """Import ``"module:attribute"``.

    Raises:
        PluginError: When the string is malformed or does not import; names the record.
    """
    module_name, _, attribute = target.partition(":")
    if not attribute:
        raise PluginError(f"'{owner}' has the target '{target}'; write it as 'module:attribute'.")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise PluginError(
            f"'{owner}' cannot be loaded: importing {module_name} raised {type(error).__name__}: {error}."
        ) from error
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        raise PluginError(
            f"'{owner}' cannot be loaded: {module_name} has no attribute '{attribute}'."
        ) from error
