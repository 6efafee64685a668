"""KL estimators and the adaptive coefficient.

For samples from pi, with ``d = log pi - log ref`` (nats): k1 = d, k2 = d^2 / 2, and
k3 = exp(-d) - 1 + d (Schulman, "Approximating KL divergence", 2020). k1 and k3 have the mean
KL(pi || ref); k2 is biased. k1 is what the reward pays; k2 and k3 are for monitoring.
"""

from __future__ import annotations

from torch import Tensor


def k1(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Return log pi - log ref, nats, any shape. Unbiased; its mean can be negative by chance."""
    return logprobs - ref_logprobs


def k2(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Return (log pi - log ref)^2 / 2. Biased, low variance, never negative."""
    return 0.5 * (logprobs - ref_logprobs) ** 2


def k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Return exp(log ref - log pi) - 1 - (log ref - log pi). Unbiased, never negative."""
    log_ratio = ref_logprobs - logprobs
    return log_ratio.expm1() - log_ratio


def adapt(beta: float, kl: float, *, target: float, episodes: int, horizon: float) -> float:
    """Return the next KL coefficient (Ziegler et al. 2019, section 2.2).

    beta *= 1 + clip(kl / target - 1, -0.2, 0.2) * episodes / horizon

    Args:
        beta: Coefficient in force.
        kl: Measured KL, nats per sequence, averaged over the iteration and all processes.
        target: KL wanted, nats per sequence.
        episodes: Sequences of this iteration.
        horizon: Sequences over which a full error of 0.2 changes beta by 20 %.
    """
    error = min(max(kl / target - 1.0, -0.2), 0.2)
    return beta * (1.0 + error * episodes / horizon)
