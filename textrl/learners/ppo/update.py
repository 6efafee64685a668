"""The update: minibatches of decisions through the losses that PPO-ptx trains with, one optimizer."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import NamedTuple

import torch
from torch import Tensor

from textrl.errors import UserError
from textrl.learners.ppo.networks import ActorCritic
from textrl.learners.ppo.segments import Experience
from textrl.learners.ppo.settings import PPOSettings
from textrl.mdp.losses import explained_variance, moments, policy_loss, value_loss, whiten
from textrl.mdp.order import keyed_order

#: Of Adam, as in Stable-Baselines3's PPO; torch's own is 1e-8.
ADAM_EPSILON = 1e-5


class Losses(NamedTuple):
    """Means over a minibatch, (): what is minimised, and its parts as they are logged."""

    total: Tensor
    policy: Tensor
    value: Tensor
    entropy: Tensor
    approx_kl: Tensor
    clip_fraction: Tensor


class Updater:
    """Owns the optimizer."""

    def __init__(self, network: ActorCritic, settings: PPOSettings) -> None:
        """Make the optimizer; nothing is trained yet."""
        self.network, self.settings = network, settings
        self.parameters = list(network.parameters())
        # Fused: twelve small tensors cost a loop in Python as much as their gradients do.
        self.optimizer = torch.optim.Adam(
            self.parameters, lr=settings.learning_rate, eps=ADAM_EPSILON, fused=True
        )

    def update(self, experience: Experience, iteration: int, remaining: float) -> dict[str, float]:
        """Take the optimizer steps of one iteration.

        Args:
            experience: N decisions.
            iteration: Its number; keys the order of the data.
            remaining: Share of the training that lies ahead, in [0, 1]; linear schedules follow it.

        Returns:
            Figures to log, means over the minibatches.

        Raises:
            UserError: When a loss or a gradient is not finite; the step that it belongs to is not taken.
        """
        settings = self.settings
        rate = scheduled(settings.learning_rate, settings.learning_rate_schedule, remaining)
        clip = scheduled(settings.clip_range, settings.clip_range_schedule, remaining)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        totals: dict[str, float] = defaultdict(float)
        taken = judged = 0
        for rows in self._minibatches(len(experience.actions), iteration):
            losses = minibatch_losses(self.network, experience, rows, settings, clip)
            judged += 1
            for name in ("policy", "value", "entropy", "approx_kl", "clip_fraction"):
                totals[name] += float(getattr(losses, name).detach())
            limit = settings.target_kl
            if limit is not None and float(losses.approx_kl) > 1.5 * limit:
                break
            totals["grad_norm"] += self._step(losses)
            taken += 1
        variance = explained_variance(experience.values, experience.returns)
        figures = {
            "train/policy_loss": totals["policy"] / judged,
            "train/value_loss": totals["value"] / judged,
            "train/entropy": totals["entropy"] / judged,
            "train/approx_kl": totals["approx_kl"] / judged,
            "train/clip_fraction": totals["clip_fraction"] / judged,
            "train/grad_norm": totals["grad_norm"] / max(taken, 1),
            "train/optimizer_steps": float(taken),
            "train/learning_rate": rate,
            "train/clip_range": clip,
        }
        return figures | ({} if math.isnan(variance) else {"train/explained_variance": variance})

    def _minibatches(self, count: int, iteration: int) -> list[Tensor]:
        """Return the rows of every minibatch of all epochs, in an order keyed by iteration and epoch."""
        settings = self.settings
        every: list[Tensor] = []
        for epoch in range(settings.n_epochs):
            order = keyed_order((settings.seed, 13, iteration, epoch), count)
            every += torch.split(torch.from_numpy(order.copy()), settings.batch_size)
        return every

    def _step(self, losses: Losses) -> float:
        """Step once; returns the norm of the gradient before the clip."""
        if not math.isfinite(float(losses.total.detach())):
            parts = {name: getattr(losses, name).detach() for name in ("policy", "value", "entropy")}
            wrong = [name for name, part in parts.items() if not math.isfinite(float(part))]
            raise UserError(
                f"The {' and the '.join(wrong) or 'total'} loss is not finite; no step was taken. Lower "
                "learning_rate."
            )
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(losses.total)
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.max_grad_norm))
        if not math.isfinite(norm):
            raise UserError("The gradient is not finite; no step was taken. Lower learning_rate.")
        self.optimizer.step()
        return norm


def minibatch_losses(
    network: ActorCritic, experience: Experience, rows: Tensor, settings: PPOSettings, clip: float
) -> Losses:
    """Return the losses of a minibatch.

    total = policy - ent_coef entropy + vf_coef mean((V - return)^2)

    Args:
        network: Being trained.
        experience: N decisions.
        rows: Which of them.
        settings: Of the learner.
        clip: Half-width of the ratio's interval now.
    """
    observations, count = experience.observations[rows], len(rows)
    every = network.policy(observations)
    logprobs = every.gather(1, experience.actions[rows, None]).squeeze(1)
    advantages = experience.advantages[rows]
    if settings.normalize_advantage:
        advantages = normalised(advantages)
    policy = policy_loss(logprobs, experience.logprobs[rows], advantages, clip)
    value = value_loss(
        network.values(observations),
        experience.values[rows],
        experience.returns[rows],
        settings.clip_range_vf,
    )
    entropy = -(every.exp() * every).sum(-1).mean()
    # `value_loss` is half the squared error, and SB3's coefficient stands before the whole one.
    squared = 2.0 * value.total / count
    return Losses(
        total=policy.total / count - settings.ent_coef * entropy + settings.vf_coef * squared,
        policy=policy.total / count,
        value=squared,
        entropy=entropy,
        approx_kl=policy.approx_kl / count,
        clip_fraction=policy.clipped / count,
    )


def normalised(advantages: Tensor) -> Tensor:
    """Return (N,) advantages with mean 0 and, as in SB3, *unbiased* variance 1; `whiten` has the biased."""
    count = len(advantages)
    if count < 2:
        return advantages
    return whiten(advantages, moments(advantages)) * math.sqrt((count - 1) / count)


def scheduled(value: float, schedule: str, remaining: float) -> float:
    """Return a scheduled setting where `remaining` of the training, in [0, 1], lies ahead."""
    return value * remaining if schedule == "linear" else value
