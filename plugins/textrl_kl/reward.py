"""The per-token KL penalty of InstructGPT's objective (Ouyang et al. 2022, section 3.5).

r_t = -(log pi(a_t | s_t) - log ref(a_t | s_t)) = -k1, whose sum over a response has the mean
-KL(pi || ref). k2 and k3 (Schulman 2020) are logged, not paid: as rewards they have other optima.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from textrl.errors import UserError
from textrl.mdp.kl import adapt, k1, k2, k3
from textrl.protocols import Batch
from textrl_kl.settings import KLSettings


class KLReward:
    """Pay -k1 per token; the coefficient beta is the weight of the source."""

    def __init__(self, settings: KLSettings) -> None:
        """Keep the settings."""
        self.settings = settings

    def __call__(self, batch: Batch) -> Tensor:
        """Return (B, T) float32, nats, zero on padding."""
        return -_masked(k1, batch)

    def metrics(self, batch: Batch) -> Mapping[str, float]:
        """Return the three estimates in nats per sequence: sums over tokens, mean over sequences."""
        named = {"train/kl_ref": k1, "train/kl_ref_k2": k2, "train/kl_ref_k3": k3}
        return {name: float(_masked(k, batch).sum(-1).mean()) for name, k in named.items()}

    def adapt_weight(self, weight: float, stats: Mapping[str, float]) -> float:
        """Return the next beta: the same one, or one moved by Ziegler et al.'s proportional controller.

        Args:
            weight: Beta in force.
            stats: ``kl_per_sequence`` (nats, mean of the iteration) and ``episodes`` (of the iteration).

        Raises:
            UserError: When beta is not above 0, so that it could never change its size.
        """
        if self.settings.coefficient == "fixed":
            return weight
        if weight <= 0:
            raise UserError(f"the weight is {weight}, which the controller multiplies; start above 0.")
        return adapt(
            weight,
            stats["kl_per_sequence"],
            target=self.settings.target,
            episodes=int(stats["episodes"]),
            horizon=self.settings.horizon,
        )


def _masked(estimator: Callable[[Tensor, Tensor], Tensor], batch: Batch) -> Tensor:
    """Apply an estimator to (B, T) log-probs; zero on padding, whatever stands there."""
    assert batch.logprobs is not None
    assert batch.ref_logprobs is not None  # both are in the record's needs
    values = estimator(batch.logprobs.float(), batch.ref_logprobs.float())
    return torch.where(batch.response_mask, values, torch.zeros_like(values))
