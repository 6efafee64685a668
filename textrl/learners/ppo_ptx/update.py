"""The update: PPO's and the pretraining gradient in one buffer, then one optimizer step.

Losses are sums over decisions divided by the global count of the minibatch, so micro-batch size and
number of processes change nothing but memory and speed.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from textrl.distributed import global_count, sum_metrics, sync_gradients
from textrl.errors import UserError
from textrl.learners.ppo_ptx.experience import Experience
from textrl.learners.ppo_ptx.networks import Networks
from textrl.learners.ppo_ptx.ptx import PretrainingStream
from textrl.learners.ppo_ptx.settings import PPOPTXSettings
from textrl.mdp.losses import policy_loss, value_loss
from textrl.mdp.order import keyed_order


class Updater:
    """Owns the optimizers and the averaged weights of one run."""

    def __init__(
        self,
        networks: Networks,
        settings: PPOPTXSettings,
        accelerator: Accelerator,
        stream: PretrainingStream | None,
    ) -> None:
        """Make the two optimizers; nothing is trained yet."""
        self.networks, self.settings = networks, settings
        self.accelerator, self.stream = accelerator, stream
        trained = networks.trained()
        self.policy_params = list(trained["policy"].values())
        self.value_params = list(trained["value"].values())
        betas = (settings.adam_beta1, settings.adam_beta2)
        decay = settings.weight_decay
        # Fused: one walk through memory per step where the plain loop takes a dozen.
        self.policy_optimizer = torch.optim.AdamW(
            self.policy_params, lr=settings.learning_rate, betas=betas, weight_decay=decay, fused=True
        )
        self.value_optimizer = torch.optim.AdamW(
            self.value_params, lr=settings.value_learning_rate, betas=betas, weight_decay=decay, fused=True
        )
        keep = settings.ema_decay > 0
        self.ema = {n: p.detach().clone() for n, p in trained["policy"].items()} if keep else {}
        self.ptx_seen = 0

    def warm_up(self, iteration: int) -> float:
        """Set the learning rates of an iteration (from 0): a tenth of the peak, rising linearly."""
        settings = self.settings
        done = min(1.0, iteration / settings.warmup_iterations) if settings.warmup_iterations else 1.0
        factor = 0.1 + 0.9 * done
        for optimizer, peak in (
            (self.policy_optimizer, settings.learning_rate),
            (self.value_optimizer, settings.value_learning_rate),
        ):
            for group in optimizer.param_groups:
                group["lr"] = peak * factor
        return settings.learning_rate * factor

    def update(self, experience: Experience, iteration: int) -> dict[str, float]:
        """Take all optimizer steps of one iteration and return the figures to log."""
        settings = self.settings
        rate = self.warm_up(iteration)
        totals: dict[str, float] = defaultdict(float)
        steps = 0
        first_kl = math.nan
        for epoch in range(settings.epochs):
            for rows in self._minibatches(experience, iteration, epoch):
                step = self.step(experience, rows)
                first_kl = step["train/approx_kl"] if steps == 0 else first_kl
                steps += 1
                for name, value in step.items():
                    totals[name] += value
        figures = {name: value / steps for name, value in totals.items()}
        return figures | {"train/learning_rate": rate, "train/approx_kl_first": first_kl}

    def step(self, experience: Experience, rows: Tensor) -> dict[str, float]:
        """Accumulate the gradients of one minibatch and step both optimizers."""
        settings = self.settings
        for optimizer in (self.policy_optimizer, self.value_optimizer):
            optimizer.zero_grad(set_to_none=True)
        count = global_count(self.accelerator, int(experience.actions[rows].sum()))
        sums = {"policy": 0.0, "value": 0.0, "clipped": 0.0, "kl": 0.0, "value_clipped": 0.0}
        for start in range(0, len(rows), settings.micro_batch_size):
            part = rows[start : start + settings.micro_batch_size]
            for name, value in self._backward(experience, part, count).items():
                sums[name] += value
        ptx = self._backward_ptx() if self.stream is not None and settings.ptx_coef > 0 else {}
        totals = sum_metrics(self.accelerator, sums)
        figures = {
            "train/policy_loss": totals["policy"] / count,
            "train/value_loss": totals["value"] / count,
            "train/clip_fraction": totals["clipped"] / count,
            "train/approx_kl": totals["kl"] / count,
            "train/value_clip_fraction": totals["value_clipped"] / count,
        } | ptx
        figures["train/grad_norm"] = self._step_one("policy", self.policy_params, self.policy_optimizer)
        figures["train/value_grad_norm"] = self._step_one("value", self.value_params, self.value_optimizer)
        self._average()
        return figures

    def _backward(self, experience: Experience, rows: Tensor, count: int) -> dict[str, float]:
        """Add one micro-batch's gradients; the losses are sums over the global token count."""
        networks, settings = self.networks, self.settings
        ids, mask, actions = experience.ids[rows], experience.mask[rows], experience.actions[rows]
        trunk = experience.trunk.rows(rows)
        new = networks.logprobs(networks.policy, ids, mask, actions, trunk)
        policy = policy_loss(
            new, experience.logprobs[rows][actions], experience.advantages[rows][actions], settings.clip
        )
        torch.autograd.backward(policy.total / count)
        value = value_loss(
            networks.values(ids, mask, actions, trunk),
            experience.values[rows][actions],
            experience.returns[rows][actions],
            settings.value_clip,
        )
        torch.autograd.backward(value.total / count)
        return {
            "policy": float(policy.total.detach()),
            "value": float(value.total.detach()),
            "clipped": float(policy.clipped),
            "kl": float(policy.approx_kl),
            "value_clipped": float(value.clipped),
        }

    def _backward_ptx(self) -> dict[str, float]:
        """Add gamma_ptx times the gradient of the mean negative log-likelihood of the next examples."""
        assert self.stream is not None
        networks, settings = self.networks, self.settings
        per_step = settings.episodes_per_iteration // settings.minibatches
        examples = max(1, round(per_step * settings.ptx_per_episode))
        ids = self.stream.batch(self.ptx_seen, examples)
        self.ptx_seen += examples
        count = examples * (ids.shape[1] - 1)
        ids = ids[self.accelerator.process_index :: self.accelerator.num_processes].to(networks.policy.device)
        total = 0.0
        for part in torch.split(ids, settings.micro_batch_size):
            mask = torch.ones_like(part, dtype=torch.bool)
            actions = mask.clone()
            actions[:, 0] = False
            logprobs = networks.logprobs(networks.policy, part, mask, actions, None)
            loss = -logprobs.sum()
            torch.autograd.backward(settings.ptx_coef * loss / count)
            total += float(loss.detach())
        return {"train/ptx_loss": sum_metrics(self.accelerator, {"loss": total})["loss"] / count}

    def _step_one(self, name: str, params: list[nn.Parameter], optimizer: torch.optim.Optimizer) -> float:
        """Sum over processes, refuse a non-finite gradient, clip, step; return the norm before the clip."""
        sync_gradients(self.accelerator, params)
        norm = float(torch.nn.utils.clip_grad_norm_(params, self.settings.max_grad_norm))
        if not math.isfinite(norm):
            raise UserError(
                f"The {name} gradient is not finite; no step was taken. Lower the learning rate, or look "
                "at the rewards of this iteration in metrics.jsonl."
            )
        optimizer.step()
        return norm

    @torch.no_grad()
    def _average(self) -> None:
        decay = self.settings.ema_decay
        for name, param in self.networks.trained()["policy"].items() if self.ema else ():
            self.ema[name].lerp_(param, 1 - decay)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Let the policy have its averaged weights, where an average is kept, inside a ``with``."""
        params = {name: p for name, p in self.networks.trained()["policy"].items() if name in self.ema}
        last = {name: p.detach().clone() for name, p in params.items()}
        try:
            _copy(self.ema, params)
            yield
        finally:
            _copy(last, params)

    def _minibatches(self, experience: Experience, iteration: int, epoch: int) -> Iterable[Tensor]:
        """Yield this process's rows of each global minibatch, in an order keyed by the step."""
        settings = self.settings
        total = settings.episodes_per_iteration
        order = torch.from_numpy(keyed_order((settings.seed, 11, iteration, epoch), total).copy())
        first = int(iteration) * total
        local = (experience.episodes.cpu() - first).tolist()
        row_of = {number: row for row, number in enumerate(local)}
        for chunk in order.view(settings.minibatches, -1).tolist():
            rows = [row_of[number] for number in chunk if number in row_of]
            yield torch.tensor(rows, dtype=torch.int64, device=experience.ids.device)


@torch.no_grad()
def _copy(source: Mapping[str, Tensor], target: Mapping[str, nn.Parameter]) -> None:
    for name, param in target.items():
        param.copy_(source[name])
