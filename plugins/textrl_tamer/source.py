"""TAMER's H as a source: advice for control, a reward per token for text.

On control, `advise` and `rate` give H(s, .) for all actions. On text, H is one number per token, whatever
came before it (`textrl_tamer.text_source` has an H that sees the context); calling the source pays each token
what it is worth. Both start at 0, so that a source without feedback changes nothing, and both learn from the
same stream of signals (`observe`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from textrl.errors import UserError, at_setting
from textrl.protocols import AdviceState, Batch, Signal
from textrl.tamer import Tamer
from textrl.tamer.models import TableH
from textrl_tamer.settings import TamerSourceSettings
from textrl_tamer.states import arrays, tensors

Array = NDArray[np.float64]


class TAMER:
    """One instance serves both roles: reward and advice.

    Attributes:
        settings: As given.
        tamer: H over an environment's actions; None until the environment is known.
        tokens: H over tokens, whose actions are token ids.
    """

    def __init__(self, settings: TamerSourceSettings) -> None:
        """Begin with H = 0, or with the weights of the settings.

        Raises:
            UserError: When the environment does not exist or has no discrete actions, or the weights do
                not fit it.
        """
        self.settings = settings
        self.tamer: Tamer | None = None
        self.tokens = Tamer(settings.core(), None, 0, model=TableH(settings.alpha))
        if settings.environment is not None:
            self._bind_id(settings.environment)

    @property
    def taught(self) -> bool:
        """Whether H over actions began with what was learnt before."""
        return self.settings.weights is not None

    def bind(self, env: Any) -> Tamer:
        """Build H over an environment's spaces, where that has not been done, and return it.

        Raises:
            UserError: When the actions are not discrete, or not as many as in the environment before.
        """
        from gymnasium.spaces import Discrete

        space = env.action_space
        if not isinstance(space, Discrete):
            raise UserError(f"The source 'tamer' rates Discrete actions, not {space}.")
        if self.tamer is None:
            self.tamer = Tamer(self.settings.core(), env.observation_space, int(space.n))
            if self.settings.weights is not None:
                with at_setting("weights"):
                    self.tamer.load_weights(self.settings.weights)
        elif self.tamer.n_actions != space.n:
            raise UserError(
                f"The source 'tamer' rates {self.tamer.n_actions} actions, but {env} has {space.n}; set its "
                "'environment' to the one that is trained in."
            )
        return self.tamer

    def __call__(self, batch: Batch) -> Tensor:
        """Return (B, T) float32: H of each token, 0 outside the mask."""
        ids, rated = batch.response_ids, self.tokens.rate(None)
        if not len(rated):
            return torch.zeros(ids.shape, dtype=torch.float32, device=ids.device)
        values = torch.tensor(rated, dtype=torch.float32, device=ids.device)
        known = batch.response_mask & (ids >= 0) & (ids < len(values))
        return torch.where(known, values[ids.clamp(0, len(values) - 1)], 0.0)

    def advise(self, state: AdviceState) -> Tensor:
        """Return H(s, .), (B, A) float64.

        Raises:
            UserError: When the environment is not known yet.
        """
        observations = state.observation.detach().cpu().numpy()
        rated = self._bound().acting.predict_batch(observations)
        return torch.from_numpy(np.ascontiguousarray(rated)).to(state.observation.device)

    def rate(self, observation: Any) -> Array:
        """Return H(s, .), (A,) float64, of one observation, without torch.

        Raises:
            UserError: When the environment is not known yet.
        """
        return self._bound().rate(observation)

    def observe(self, signals: Iterable[Signal]) -> None:
        """Learn from a stream of ``shown``, ``press``, ``training``, ``end_episode`` and ``tick`` signals.

        What was ``shown`` has ``observation`` and ``action`` in its payload, or ``token``, an id. All
        others concern both.

        Raises:
            UserError: When a step is shown before the environment is known.
        """
        for signal in signals:
            if signal.kind != "shown":
                self.tokens.observe([signal])
                if self.tamer is not None:
                    self.tamer.observe([signal])
            elif "token" in signal.payload:
                self.tokens.show(None, int(signal.payload["token"]), signal.time_s)
            else:
                self._bound().observe([signal])

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and JSON data."""
        state = {"tokens": tensors(self.tokens.state_dict())}
        if self.tamer is not None:
            state["tamer"] = tensors(self.tamer.state_dict())
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`.

        Raises:
            UserError: When the state has an H over actions and this source knows no environment yet.
        """
        self.tokens.load_state_dict(arrays(state["tokens"]))
        if "tamer" in state:
            self._bound().load_state_dict(arrays(state["tamer"]))

    def _bind_id(self, name: str) -> None:
        import gymnasium

        from textrl.registry import get_registry

        get_registry().register_envs()
        try:
            env = gymnasium.make(name)
        except gymnasium.error.Error as error:
            raise UserError(
                f"The source 'tamer' has the environment '{name}': {error}", key="environment"
            ) from error
        try:
            self.bind(env)
        finally:
            env.close()

    def _bound(self) -> Tamer:
        if self.tamer is None:
            raise UserError(
                "The source 'tamer' does not know whose actions to rate; set its 'environment' to a "
                "Gymnasium id."
            )
        return self.tamer
