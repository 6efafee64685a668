"""Networks that read tokens: an embedding in front of SB3's own, for observations of token environments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor

from textrl.errors import UserError
from textrl.features.tokens import is_token_space


class EmbeddedTokens(BaseFeaturesExtractor):  # type: ignore[misc] # SB3 is not type-checked here
    """Each token becomes a learnt vector plus one of its column; padding becomes zeros.

    SB3 feeds ids as numbers by default, though token 5 is not closer to 6 than to 50. A column is a position:
    responses begin in the same one whatever the length of the prompt, so the columns stay side by side and
    the layers behind can tell them apart.

    Attributes:
        tokens: (V, E) vectors.
        columns: (L, E) vectors.
    """

    def __init__(self, observation_space: Any, width: int) -> None:
        """Take the sizes from the space.

        Args:
            observation_space: Of a token environment, L columns of V tokens.
            width: E.
        """
        ids = observation_space["input_ids"]
        length, vocabulary = ids.shape[0], int(ids.high.max()) + 1
        super().__init__(observation_space, features_dim=length * width)
        self.tokens = torch.nn.Embedding(vocabulary, width)
        self.columns = torch.nn.Parameter(torch.zeros(length, width))

    def forward(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Return (B, L * E) float32 of ``input_ids`` and ``attention_mask``, (B, L)."""
        # SB3 hands everything on as float32, which holds whole numbers up to 16 million exactly.
        vectors: Tensor = self.tokens(observations["input_ids"].long()) + self.columns
        return (vectors * observations["attention_mask"].unsqueeze(-1).to(vectors.dtype)).flatten(1)


def token_arguments(space: Any, width: int) -> dict[str, Any]:
    """Return what a policy needs to read tokens; nothing where the observations are others."""
    if not is_token_space(space):
        return {}
    return {"features_extractor_class": EmbeddedTokens, "features_extractor_kwargs": {"width": width}}


def check_tokens(space: Any, label: str, *, normalize: bool, guided: bool) -> None:
    """Refuse what makes no sense where observations are tokens.

    Raises:
        UserError: Names the setting or the section.
    """
    if not is_token_space(space):
        return
    if normalize:
        raise UserError(
            f"normalize is on, but the observations of the learner '{label}' are tokens, which have no mean; "
            "leave it out."
        )
    if guided:
        raise UserError(
            f"The learner '{label}' takes no advice on token environments; use 'ppo_ptx', or leave the "
            "section advice out."
        )


def token_copies(env: Any, count: int) -> Any:
    """Return one `VecEnv` that writes `count` texts side by side, where the environment offers one, or None.

    Args:
        env: A Gymnasium environment; one with the method ``sb3_vec_env(count)`` and no wrapper that changes
            what is seen, done or paid offers it.
        count: Rows.
    """
    offers = getattr(getattr(env, "unwrapped", None), "sb3_vec_env", None)
    return offers(count) if callable(offers) and _plain(env) else None


def _plain(env: Any) -> bool:
    """Return whether all wrappers are those that `gymnasium.make` puts around an environment by itself."""
    from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker

    while env is not env.unwrapped:
        if not isinstance(env, OrderEnforcing | PassiveEnvChecker):
            return False
        env = env.env
    return True
