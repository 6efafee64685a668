"""The two networks of PPO on vectors: as Stable-Baselines3 builds them, so that results can be compared.

Shapes: ``N`` decisions, ``S`` numbers of an observation, ``A`` actions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ActorCritic(nn.Module):
    """A policy and a value network, tanh between the layers, sharing nothing.

    Attributes:
        actor: (N, S) -> (N, A) logits.
        critic: (N, S) -> (N, 1) values.
    """

    def __init__(self, observed: int, actions: int, widths: Sequence[int], seed: int) -> None:
        """Initialise orthogonally: hidden layers by sqrt(2), the policy's head by 0.01, the value's by 1.

        So small a head begins with almost equal probabilities. The global generator is not drawn from.
        """
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        self.actor = _layers([observed, *widths, actions], 0.01, random)
        self.critic = _layers([observed, *widths, 1], 1.0, random)

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and inputs."""
        return next(self.parameters()).dtype

    def policy(self, observations: Tensor) -> Tensor:
        """Return (N, A) log-probabilities of all actions."""
        return torch.log_softmax(self.actor(observations), dim=-1)

    def values(self, observations: Tensor) -> Tensor:
        """Return (N,) values."""
        values: Tensor = self.critic(observations)
        return values.squeeze(-1)


def _layers(widths: Sequence[int], head: float, random: torch.Generator) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, (before, after) in enumerate(itertools.pairwise(widths)):
        # Made without numbers: the usual initialisation would draw from the global generator.
        linear = nn.Linear(before, after, device="meta").to_empty(device="cpu")
        last = i == len(widths) - 2
        nn.init.orthogonal_(linear.weight, gain=head if last else math.sqrt(2.0), generator=random)
        nn.init.zeros_(linear.bias)
        layers += [linear] if last else [linear, nn.Tanh()]
    return nn.Sequential(*layers)
