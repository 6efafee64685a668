"""Policies that see advice: in the distribution of a policy gradient, in the greedy choice of a Q network.

Observations are (B, S + A) where columns of advice stand beside them. Without advice (columns of 0) every
class here computes bit for bit what SB3's own does on (B, S), initialisation included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, MlpExtractor
from stable_baselines3.dqn.policies import DQNPolicy
from torch import Tensor


def biased(logits: Tensor, bias: Tensor) -> Tensor:
    """Action biasing: the logits of mu(a|s) ~ exp(logit(a|s) + beta H(s, a)). All (B, A)."""
    return logits + bias


def shared(logits: Tensor, share: Tensor) -> Tensor:
    """Control sharing: the logits of mu(a) = (1 - p) pi(a) + p [a = a*].

    Args:
        logits: (B, A) of pi.
        share: (B, A), p divided among H's favourite actions; rows sum to p in [0, 1].
    """
    p = share.sum(1, keepdim=True)
    if not bool(p.any()):
        return logits
    mixed = (1 - p) * logits.softmax(1) + share
    # The smallest normal number stands for 0, whose logarithm would make gradients of 0 times infinity.
    mixed = mixed.clamp_min(torch.finfo(mixed.dtype).tiny).log()
    return torch.where(p > 0, mixed, logits)


def split(observations: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return (own columns, `count` columns of advice).

    Copies: matrix products of strided views may round differently, and advice of weight 0 must not show.
    """
    return observations[:, :-count].contiguous(), observations[:, -count:].contiguous()


class OwnColumns(MlpExtractor):  # type: ignore[misc] # SB3 is not type-checked here
    """SB3's two networks on the observation proper; the advice is handed on to the actor's head.

    It stays apart from the latent: gradients through a sum or a slice of both would round differently.
    """

    def __init__(
        self, feature_dim: int, count: int, net_arch: Any, activation_fn: type[torch.nn.Module], device: Any
    ) -> None:
        super().__init__(feature_dim - count, net_arch, activation_fn, device)
        self.count = count

    def forward(self, features: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Return ((actor's latent, advice), critic's latent)."""
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, latent) and (B, A), which SB3 hands to the policy's head as they are."""
        own, advice = split(features, self.count)
        return super().forward_actor(own), advice

    def forward_critic(self, features: Tensor) -> Tensor:
        """Return (B, latent)."""
        latent: Tensor = super().forward_critic(split(features, self.count)[0])
        return latent


class WithAdvice:
    """Puts advice into the action distribution of an actor-critic policy; a mix-in before SB3's class."""

    combine: Callable[[Tensor, Tensor], Tensor]

    def _build_mlp_extractor(self: Any) -> None:
        self.mlp_extractor = OwnColumns(
            self.features_dim, int(self.action_space.n), self.net_arch, self.activation_fn, self.device
        )

    def _get_action_dist_from_latent(self: Any, latent_pi: tuple[Tensor, Tensor]) -> Any:
        latent, advice = latent_pi
        logits = type(self).combine(self.action_net(latent), advice)
        return self.action_dist.proba_distribution(action_logits=logits)


class BiasedPolicy(WithAdvice, ActorCriticPolicy):  # type: ignore[misc] # SB3 is not type-checked here
    """An actor-critic policy with action biasing."""

    combine = staticmethod(biased)


class SharedPolicy(WithAdvice, ActorCriticPolicy):  # type: ignore[misc] # SB3 is not type-checked here
    """An actor-critic policy with control sharing."""

    combine = staticmethod(shared)


class OwnFeatures(BaseFeaturesExtractor):  # type: ignore[misc] # SB3 is not type-checked here
    """Drops the columns of advice: (B, S + A) -> (B, S)."""

    def __init__(self, observation_space: Any, count: int) -> None:
        super().__init__(observation_space, observation_space.shape[0] - count)
        self.count = count

    def forward(self, observations: Tensor) -> Tensor:
        """Return the observation proper."""
        return split(observations, self.count)[0]


class ChoosesWithBias:
    """Adds a bias to the action values in the greedy choice alone; a mix-in before SB3's policy.

    The bias is lent for one choice: SB3's own code calls the policy with an observation only.
    """

    _bias: Tensor | None = None

    @contextmanager
    def biased(self: Any, bias: NDArray[np.float64]) -> Iterator[None]:
        """Choose with (B, A) added to the values of B observations."""
        self._bias = torch.as_tensor(bias, dtype=torch.float32, device=self.device)
        try:
            yield
        finally:
            self._bias = None

    def _predict(self: Any, obs: Tensor, deterministic: bool = True) -> Tensor:
        values = self.action_values(obs)
        if self._bias is not None:
            values = values + self._bias
        choice: Tensor = values.argmax(dim=1).reshape(-1)
        return choice


class GuidedDQNPolicy(ChoosesWithBias, DQNPolicy):  # type: ignore[misc] # SB3 is not type-checked here
    """DQN's policy, whose greedy choice can be biased."""

    def action_values(self, obs: Tensor) -> Tensor:
        """Return Q, (B, A)."""
        values: Tensor = self.q_net(obs)
        return values


def augment(network: torch.nn.Module, rank: int, beta: Callable[[], float]) -> None:
    """Let a Q network return Q + beta H, where H stands beside the observation.

    Args:
        network: Maps (B, S + A) to (B, A), or to quantiles (B, N, A); its features are `OwnFeatures`.
        rank: 2 or 3, of its output.
        beta: Asked at every pass, since it shrinks while old transitions are learnt from.
    """

    def add(module: torch.nn.Module, given: tuple[Tensor, ...], values: Tensor) -> Tensor:
        strength = beta()
        if not strength:
            return values
        ratings = split(given[0], values.shape[-1])[1].to(values.dtype)
        return values + strength * (ratings if rank == 2 else ratings[:, None, :])

    network.register_forward_hook(add)
