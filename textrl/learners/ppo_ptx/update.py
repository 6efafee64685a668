"""The update: PPO's and the pretraining gradient in one buffer, the policy's step, the value network's.

Losses are sums over decisions divided by the global count of the minibatch, so micro-batch size and
number of processes change nothing but memory and speed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from textrl.distributed import global_count, sum_metrics, sync_gradients
from textrl.learners.ppo_ptx.diagnostics import Ratios
from textrl.learners.ppo_ptx.experience import Experience
from textrl.learners.ppo_ptx.guards import require_finite_gradient, require_finite_losses
from textrl.learners.ppo_ptx.memory import BatchSizes
from textrl.learners.ppo_ptx.networks import Networks
from textrl.learners.ppo_ptx.ptx import Pretraining, PretrainingStream
from textrl.learners.ppo_ptx.settings import PPOPTXSettings
from textrl.learners.ppo_ptx.slices import Slice
from textrl.learners.ppo_ptx.steps import TooFar, rate_factor, take_steps
from textrl.mdp.losses import policy_loss
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
        self.policy_rate_factor = 1.0  # below 1 while the KL is above its limit
        self.sizes = BatchSizes.of(settings)
        self.ratios = Ratios()

    def set_rates(self, iteration: int) -> float:
        """Set the learning rates of an iteration (from 0) and return the policy's."""
        settings = self.settings
        factor = rate_factor(iteration, settings.warmup_iterations, settings.decay_iterations)
        policy_rate = settings.learning_rate * self.policy_rate_factor * factor
        for optimizer, rate in (
            (self.policy_optimizer, policy_rate),
            (self.value_optimizer, settings.value_learning_rate * factor),
        ):
            for group in optimizer.param_groups:
                group["lr"] = rate
        return policy_rate

    def update(self, experience: Experience, iteration: int) -> dict[str, float]:
        """Take the optimizer steps of one iteration and return the figures to log."""
        rate = self.set_rates(iteration)
        self.ratios = Ratios()
        batches = (
            rows
            for epoch in range(self.settings.epochs)
            for rows in self._minibatches(experience, iteration, epoch)
        )
        figures = take_steps(lambda rows: self.step(experience, rows), batches, self.ratios, self.accelerator)
        self._clear()  # who stopped before a step has left gradients, which nobody needs while collecting
        return figures | {
            "train/learning_rate": rate,
            "train/micro_batch_size": float(self.sizes.micro.size),
        }

    def step(self, experience: Experience, rows: Tensor) -> dict[str, float]:
        """Take one minibatch's step of the policy, then the value network's; return the figures to log.

        Two networks have their gradients one after the other: a network's worth of memory. A head has its
        gradient from the policy's pass, and both step once both are known to be sound.

        Raises:
            TooFar: When the policy is already further than `target_kl` allows; no step was taken.
            UserError: When a loss or a gradient is not finite; what it belongs to took no step.
        """
        self._clear()
        count = global_count(self.accelerator, int(experience.actions[rows].sum()))
        # Rows of like length together, so that little of a micro-batch is padding.
        rows = rows[experience.mask[rows].sum(1).argsort(stable=True)]
        examples = self._next_ptx() if self.stream is not None and self.settings.ptx_coef > 0 else None
        figures = self._policy_gradient(experience, rows, count, examples)
        figures["train/grad_norm"] = self._prepare("policy", self.policy_params)
        if not self.networks.value_is_head:
            _take(self.policy_optimizer)
            figures |= self._value_gradient(experience, rows, count)
        figures["train/value_grad_norm"] = self._prepare("value", self.value_params)
        if self.networks.value_is_head:
            _take(self.policy_optimizer)
        _take(self.value_optimizer)
        self._average()
        return figures

    def _policy_gradient(
        self, experience: Experience, rows: Tensor, count: int, examples: Tensor | None
    ) -> dict[str, float]:
        """Accumulate the policy's gradient, the examples' and a value head's with it."""
        ptx = Pretraining.of(examples, self.accelerator, self.settings.ptx_coef)

        def work(size: int) -> dict[str, float]:
            fits = len(rows) > 0 and len(ptx.ids) > 0 and len(rows) + len(ptx.ids) <= size
            together = ptx if fits and self.networks.packs else None
            names = ("policy", "clipped", "kl", "ptx", "value", "value_clipped")
            sums = dict.fromkeys(names, 0.0)
            for part in torch.split(rows, size) if len(rows) else ():
                _add(sums, self._backward(experience, part, count, together))
            for ids in torch.split(ptx.ids, size) if len(ptx.ids) and together is None else ():
                sums["ptx"] += self._backward_ptx(replace(ptx, ids=ids))
            return sums

        sums = self.sizes.micro.run(work, rows=len(rows), undo=self._clear)
        self.ratios.end_minibatch()
        totals = sum_metrics(self.accelerator, sums)
        losses = {"policy loss": totals["policy"]}
        figures = {
            "train/policy_loss": totals["policy"] / count,
            "train/clip_fraction": totals["clipped"] / count,
            "train/approx_kl": totals["kl"] / count,
        }
        if self.networks.value_is_head:
            figures |= _value_figures(totals, count)
            losses["value loss"] = totals["value"]
        if examples is not None:
            figures["train/ptx_loss"] = totals["ptx"] / (examples.shape[0] * (examples.shape[1] - 1))
            losses["pretraining loss (ptx)"] = totals["ptx"]
        require_finite_losses(losses)
        limit = self.settings.target_kl
        if limit is not None and figures["train/approx_kl"] > 1.5 * limit:
            raise TooFar
        return figures

    def _value_gradient(self, experience: Experience, rows: Tensor, count: int) -> dict[str, float]:
        """Accumulate the gradient of a value network of its own."""

        def work(size: int) -> dict[str, float]:
            sums = {"value": 0.0, "value_clipped": 0.0}
            for part in torch.split(rows, size) if len(rows) else ():
                _add(sums, self._backward_value(experience, part, count))
            return sums

        sums = self.sizes.micro.run(work, rows=len(rows), undo=self.value_optimizer.zero_grad)
        totals = sum_metrics(self.accelerator, sums)
        require_finite_losses({"value loss": totals["value"]})
        return _value_figures(totals, count)

    def _clear(self) -> None:
        """Forget the gradients and the figures of the minibatch that is being worked on."""
        for optimizer in (self.policy_optimizer, self.value_optimizer):
            optimizer.zero_grad(set_to_none=True)
        self.ratios.undo()

    def _backward(
        self, experience: Experience, rows: Tensor, count: int, ptx: Pretraining | None
    ) -> dict[str, float]:
        """Add one micro-batch's gradients of the policy and a head; nothing waits for other processes.

        Args:
            experience: Of the iteration.
            rows: Which sequences.
            count: Decisions of the minibatch, over all processes; the losses are sums over it.
            ptx: Examples to go through the policy in the same pass: larger products are faster.
        """
        networks, settings = self.networks, self.settings
        batch = Slice.of(experience, rows)
        old, weights = batch.logprobs, batch.advantages
        advised = None if experience.advised is None else experience.advised.part(rows, batch.columns)

        def loss(logprobs: Tensor, part: slice) -> Tensor:
            ours = max(0, len(old) - part.start)  # of this chunk; the rest are examples
            acted = logprobs[:ours] if advised is None else advised.logprobs(logprobs[:ours], part)
            total = policy_loss(acted, old[part], weights[part], settings.clip).total / count
            return total if ptx is None else total + ptx.loss(logprobs[ours:])

        texts = () if ptx is None else (networks.texts(ptx.ids.to(batch.ids.device)),)
        shift = advised.shift if advised is not None and advised.shifts else None
        total, logprobs, before = networks.policy_loss(loss, batch.rows, *texts, shift=shift)
        new = logprobs[: len(old)]
        if advised is not None:
            new = advised.logprobs(new, slice(None))
        policy = policy_loss(new, old, weights, settings.clip)
        figures: dict[str, float] = {}
        if networks.value_is_head:
            value, figures = batch.value_loss(networks.values_of(before[: len(old)]), settings.value_clip)
            total = total + value / count
        torch.autograd.backward(total)
        self.ratios.add(new - old)
        figures |= {
            "policy": float(policy.total.detach()),
            "clipped": float(policy.clipped),
            "kl": float(policy.approx_kl),
        }
        return figures if ptx is None else figures | {"ptx": -float(logprobs[len(old) :].sum())}

    def _backward_value(self, experience: Experience, rows: Tensor, count: int) -> dict[str, float]:
        """Add one micro-batch's gradient of the value network; like `_backward`."""
        batch = Slice.of(experience, rows)
        values = self.networks.values(batch.ids, batch.mask, batch.actions, batch.trunk)
        loss, figures = batch.value_loss(values, self.settings.value_clip)
        torch.autograd.backward(loss / count)
        return figures

    def _next_ptx(self) -> Tensor:
        """Return the pretraining examples of the next step, over all processes, (examples, length)."""
        assert self.stream is not None
        per_step = self.settings.episodes_per_iteration // self.settings.minibatches
        wanted = max(1, round(per_step * self.settings.ptx_per_episode))
        ids = self.stream.batch(self.ptx_seen, wanted)
        self.ptx_seen += wanted
        return ids

    def _backward_ptx(self, ptx: Pretraining) -> float:
        """Add gamma_ptx times the gradient of the examples' mean negative log-likelihood.

        Returns:
            This process's part of the sum over tokens.
        """
        rows = self.networks.texts(ptx.ids.to(self.networks.policy.device))
        loss, logprobs, _ = self.networks.policy_loss(lambda new, _: ptx.loss(new), rows)
        torch.autograd.backward(loss)
        return -float(logprobs.sum())

    def _prepare(self, name: str, params: list[nn.Parameter]) -> float:
        """Sum a gradient over processes, refuse it if it is not finite, clip it; return its norm before."""
        sync_gradients(self.accelerator, params)
        norm = torch.nn.utils.get_total_norm([p.grad for p in params if p.grad is not None])
        require_finite_gradient(name, float(norm), self.networks.trained()[name].items())
        torch.nn.utils.clip_grads_with_norm_(params, self.settings.max_grad_norm, norm)
        return float(norm)

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


def _take(optimizer: torch.optim.Optimizer) -> None:
    """Step, and give the gradient's memory to whoever comes next."""
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _add(sums: dict[str, float], figures: Mapping[str, float]) -> None:
    for name, value in figures.items():
        sums[name] += value


def _value_figures(totals: Mapping[str, float], count: int) -> dict[str, float]:
    return {
        "train/value_loss": totals["value"] / count,
        "train/value_clip_fraction": totals["value_clipped"] / count,
    }
