"""The eight learners: which algorithm, which policy, and how each takes advice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium
import numpy as np
from numpy.typing import NDArray

from textrl import streams
from textrl.errors import UserError
from textrl.learners.sb3.advice import Columns, columns, weight
from textrl.learners.sb3.environments import Tape, innermost, monitored_outside
from textrl.learners.sb3.learner import SB3Learner
from textrl.learners.sb3.selection import replaced
from textrl.learners.sb3.settings import (
    A2CSettings,
    ARSSettings,
    DQNSettings,
    MaskablePPOSettings,
    PPOSettings,
    QRDQNSettings,
    RecurrentPPOSettings,
    SB3Settings,
    TRPOSettings,
)


def contrib(module: str, name: str, learner: str) -> Any:
    """Return an attribute of a module that needs sb3-contrib.

    Raises:
        UserError: When sb3-contrib is not installed.
    """
    import importlib

    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "sb3_contrib":
            raise
        raise UserError(
            f"The learner '{learner}' needs sb3-contrib, which is not installed; "
            "run pip install -e '.[contrib]' in the repository."
        ) from error


class ActorCriticLearner(SB3Learner):
    """Algorithms whose policy is a distribution; advice becomes part of it."""

    advice_columns: ClassVar[Mapping[str, Columns]] = {"action_biasing": "bias", "control_sharing": "share"}

    def _policy(self) -> Any:
        from textrl.learners.sb3.policies import BiasedPolicy, SharedPolicy

        chosen = {"bias": BiasedPolicy, "share": SharedPolicy}.get(self._columns_kind() or "")
        return super()._policy() if chosen is None else chosen


class PPOLearner(ActorCriticLearner):
    """SB3's PPO (Schulman and others, arXiv 1707.06347)."""

    label: ClassVar[str] = "sb3/ppo"
    settings_class: ClassVar[type[SB3Settings]] = PPOSettings

    def _class(self) -> type[Any]:
        from stable_baselines3 import PPO

        found: type[Any] = PPO
        return found


class A2CLearner(ActorCriticLearner):
    """SB3's A2C (Mnih and others, arXiv 1602.01783, without asynchrony)."""

    label: ClassVar[str] = "sb3/a2c"
    settings_class: ClassVar[type[SB3Settings]] = A2CSettings

    def _class(self) -> type[Any]:
        from stable_baselines3 import A2C

        found: type[Any] = A2C
        return found


class TRPOLearner(ActorCriticLearner):
    """sb3-contrib's TRPO (Schulman and others, arXiv 1502.05477)."""

    label: ClassVar[str] = "contrib/trpo"
    settings_class: ClassVar[type[SB3Settings]] = TRPOSettings

    def _class(self) -> type[Any]:
        found: type[Any] = contrib("sb3_contrib", "TRPO", self.label)
        return found


class MaskablePPOLearner(ActorCriticLearner):
    """sb3-contrib's PPO with action masks (Huang and Ontanon, arXiv 2006.14171).

    Evaluate it with ``sb3_contrib.common.maskable.evaluation.evaluate_policy``, which asks for the masks.
    """

    label: ClassVar[str] = "contrib/maskable_ppo"
    settings_class: ClassVar[type[SB3Settings]] = MaskablePPOSettings
    advice_columns: ClassVar[Mapping[str, Columns]] = {"action_biasing": "bias"}

    def _class(self) -> type[Any]:
        found: type[Any] = contrib("sb3_contrib", "MaskablePPO", self.label)
        return found

    def _policy(self) -> Any:
        if self._columns_kind() is None:
            return super()._policy()
        return contrib("textrl.learners.sb3.contrib", "BiasedMaskablePolicy", self.label)

    def _built(self, algorithm: type[Any]) -> Any:
        if not self.environments.vec.has_attr("action_masks"):
            raise UserError(
                f"The learner '{self.label}' needs an environment with action_masks(), which "
                f"{self.environments.id or type(innermost(self.environments.vec)).__name__} does not have; "
                "use 'sb3/ppo'."
            )
        return super()._built(algorithm)

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
        *,
        guided: bool = True,
        action_masks: NDArray[np.bool_] | None = None,
    ) -> tuple[Any, Any]:
        """Choose actions; see `SB3Learner.predict`.

        Args:
            observation: As there.
            state: Unused.
            episode_start: Unused.
            deterministic: As there.
            guided: As there.
            action_masks: (A,) or (B, A), which actions are legal; all where it is not given.
        """
        with self._own_random(draws=not deterministic):
            seen = self._with_columns(observation, guided)
            actions, state = self.algorithm.predict(
                seen, state, episode_start, deterministic, action_masks=action_masks
            )
        return actions, state


class RecurrentPPOLearner(SB3Learner):
    """sb3-contrib's PPO with an LSTM."""

    label: ClassVar[str] = "contrib/recurrent_ppo"
    settings_class: ClassVar[type[SB3Settings]] = RecurrentPPOSettings

    def _class(self) -> type[Any]:
        found: type[Any] = contrib("sb3_contrib", "RecurrentPPO", self.label)
        return found

    def _policy(self) -> Any:
        return super()._policy().replace("Policy", "LstmPolicy")

    def _policy_arguments(self) -> dict[str, Any]:
        names = ("lstm_hidden_size", "n_lstm_layers", "shared_lstm", "enable_critic_lstm")
        return super()._policy_arguments() | {name: getattr(self.settings, name) for name in names}


class DQNLearner(SB3Learner):
    """SB3's DQN (Mnih and others, Nature 518, 2015)."""

    label: ClassVar[str] = "sb3/dqn"
    settings_class: ClassVar[type[SB3Settings]] = DQNSettings
    advice_columns: ClassVar[Mapping[str, Columns]] = {"q_augmentation": "ratings"}
    #: Shape of a network's output: (B, A).
    _rank: ClassVar[int] = 2

    def _class(self) -> type[Any]:
        from textrl.learners.sb3.selection import GuidedDQN

        return GuidedDQN

    def _guided_policy(self) -> Any:
        from textrl.learners.sb3.policies import GuidedDQNPolicy

        return GuidedDQNPolicy

    def _networks(self, algorithm: Any) -> list[Any]:
        return [algorithm.q_net, algorithm.q_net_target]

    def _policy(self) -> Any:
        biased = self._technique() == "action_biasing"
        return self._guided_policy() if biased else super()._policy()

    def _policy_arguments(self) -> dict[str, Any]:
        arguments = super()._policy_arguments()
        if self._columns_kind() is not None:
            from textrl.learners.sb3.policies import OwnFeatures

            arguments |= {
                "features_extractor_class": OwnFeatures,
                "features_extractor_kwargs": {"count": self._count},
            }
        return arguments

    def _built(self, algorithm: type[Any]) -> Any:
        from textrl.learners.sb3.policies import augment

        built = super()._built(algorithm)
        guidance, technique = self.guidance, self._technique()
        # Of predictions with control sharing; the training's is in the guidance.
        self._sharing = streams.stream(self.settings.seed, streams.PREDICTIONS)
        if guidance is not None and technique == "q_augmentation":
            for network in self._networks(built):
                augment(network, self._rank, lambda: weight(guidance))
        elif technique in ("action_biasing", "control_sharing"):
            built.guidance = guidance
        return built

    def _predicted(
        self, observation: Any, state: Any, episode_start: Any, deterministic: bool, guided: bool
    ) -> tuple[Any, Any]:
        guidance, technique = self.guidance, self._technique()
        if guidance is None or not guided or technique not in ("action_biasing", "control_sharing"):
            return super()._predicted(observation, state, episode_start, deterministic, guided)
        given = np.asarray(observation)
        single = given.ndim == len(self.algorithm.observation_space.shape)
        batch = given[None] if single else given
        own = self.environments.original(batch)
        if technique == "action_biasing":
            bias = columns(guidance, "bias", own, int(self.algorithm.action_space.n))
            with self.algorithm.policy.biased(bias):
                actions, state = self.algorithm.predict(batch, state, episode_start, deterministic)
        else:
            actions, state = self.algorithm.predict(batch, state, episode_start, deterministic)
            others = [guidance.evaluate(o, self._sharing, deterministic=deterministic) for o in own]
            actions = replaced(actions, others)
        return (actions[0] if single else actions), state


class QRDQNLearner(DQNLearner):
    """sb3-contrib's QR-DQN (Dabney and others, arXiv 1710.10044)."""

    label: ClassVar[str] = "contrib/qrdqn"
    settings_class: ClassVar[type[SB3Settings]] = QRDQNSettings
    _rank: ClassVar[int] = 3

    def _class(self) -> type[Any]:
        found: type[Any] = contrib("textrl.learners.sb3.contrib", "GuidedQRDQN", self.label)
        return found

    def _guided_policy(self) -> Any:
        return contrib("textrl.learners.sb3.contrib", "GuidedQRDQNPolicy", self.label)

    def _networks(self, algorithm: Any) -> list[Any]:
        return [algorithm.quantile_net, algorithm.quantile_net_target]

    def _policy_arguments(self) -> dict[str, Any]:
        return super()._policy_arguments() | {"n_quantiles": getattr(self.settings, "n_quantiles", None)}


class ARSLearner(SB3Learner):
    """sb3-contrib's ARS (Mania and others, arXiv 1803.07055)."""

    label: ClassVar[str] = "contrib/ars"
    settings_class: ClassVar[type[SB3Settings]] = ARSSettings
    _normalises_rewards: ClassVar[bool] = False

    def _class(self) -> type[Any]:
        found: type[Any] = contrib("textrl.learners.sb3.contrib", "StoppableARS", self.label)
        return found

    def _policy(self) -> Any:
        return getattr(self.settings, "policy", None)

    def _policy_arguments(self) -> dict[str, Any]:
        # A linear policy has no hidden layers to give a width.
        return super()._policy_arguments() if self._policy() == "MlpPolicy" else {}

    def _wrap(self, tape: Tape) -> gymnasium.Env[Any, Any]:
        """Put a second Monitor around the advice: ARS compares the returns that a Monitor reports."""
        guided = super()._wrap(tape)
        return guided if guided is tape else monitored_outside(guided)

    def _built(self, algorithm: type[Any]) -> Any:
        built = super()._built(algorithm)
        built.after_update = self._update_ended
        return built

    def rollout_starts(self) -> None:
        """Wait for the end of the update: its directions are drawn before the rollout starts."""
        self._between_rollouts = False
        self._log_guidance()
