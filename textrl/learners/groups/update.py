"""The update: one optimizer for the policy, steps that do not depend on the size of a micro-batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from accelerate import Accelerator
from torch import Tensor

from textrl.distributed import global_count, sum_metrics, sync_gradients
from textrl.learners.groups.experience import Experience
from textrl.learners.groups.loss import Aggregation, group_loss, weights
from textrl.learners.groups.settings import GroupSettings
from textrl.learners.ppo_ptx.diagnostics import Ratios
from textrl.learners.ppo_ptx.guards import require_finite_gradient, require_finite_losses
from textrl.learners.ppo_ptx.memory import BatchSizes
from textrl.learners.ppo_ptx.networks import Networks, Rows
from textrl.learners.ppo_ptx.steps import TooFar, rate_factor, take_steps
from textrl.mdp.order import keyed_order


class GroupUpdater:
    """Owns the optimizer and the averaged weights of one run.

    Attributes:
        settings: Of the learner; another object may be put here between two iterations.
        policy_rate_factor: Below 1 while the KL is above its limit.
    """

    def __init__(
        self,
        networks: Networks,
        settings: GroupSettings,
        accelerator: Accelerator,
        *,
        aggregation: Aggregation,
        beta: float,
        longest: int,
    ) -> None:
        """Make the optimizer; nothing is trained yet.

        Args:
            networks: Policy and reference.
            settings: Of the learner.
            accelerator: Of the process group.
            aggregation: What a decision weighs in the loss.
            beta: Weight of k3 in the loss; 0 leaves it out.
            longest: The most tokens of a response.
        """
        self.networks, self.settings, self.accelerator = networks, settings, accelerator
        self.aggregation, self.beta, self.longest = aggregation, beta, longest
        self.trained = networks.trained()["policy"]
        self.policy_params = list(self.trained.values())
        self.optimizer = torch.optim.AdamW(
            self.policy_params,
            lr=settings.learning_rate,
            betas=(settings.adam_beta1, settings.adam_beta2),
            weight_decay=settings.weight_decay,
            fused=True,
        )
        keep = settings.ema_decay > 0
        self.ema = {name: p.detach().clone() for name, p in self.trained.items()} if keep else {}
        self.policy_rate_factor = 1.0
        self.sizes = BatchSizes.of(settings.engine())
        self.ratios = Ratios()

    def update(self, experience: Experience, iteration: int) -> dict[str, float]:
        """Take the optimizer steps of one iteration and return the figures to log."""
        settings = self.settings
        factor = rate_factor(iteration, settings.warmup_iterations, settings.decay_iterations)
        rate = settings.learning_rate * self.policy_rate_factor * factor
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.ratios = Ratios()
        figures = take_steps(
            lambda rows: self.step(experience, rows),
            self._minibatches(experience, iteration),
            self.ratios,
            self.accelerator,
        )
        self._clear()  # nobody needs the gradients while the next iteration is collected
        return figures | {
            "train/learning_rate": rate,
            "train/micro_batch_size": float(self.sizes.micro.size),
        }

    def step(self, experience: Experience, rows: Tensor) -> dict[str, float]:
        """Accumulate the gradient of one minibatch, take the step, return the figures to log.

        Args:
            experience: Of the iteration.
            rows: (M,) int64, which sequences; whole groups.

        Raises:
            TooFar: When the policy is already further than `target_kl` allows; no step was taken.
            UserError: When the loss or the gradient is not finite; no step was taken.
        """
        settings = self.settings
        self._clear()
        lengths = experience.actions[rows].sum(1)
        tokens = global_count(self.accelerator, int(lengths.sum()))
        sequences = settings.episodes_per_iteration // settings.minibatches
        sums = self.sizes.micro.run(
            lambda size: self._accumulate(experience, rows, tokens, sequences, size),
            rows=len(rows),
            undo=self._clear,
        )
        self.ratios.end_minibatch()
        totals = sum_metrics(self.accelerator, sums)
        figures = {
            "train/policy_loss": totals["loss"],
            "train/clip_fraction": totals["clipped"] / tokens,
            "train/approx_kl": totals["kl"] / tokens,
        }
        if self.beta:
            figures["train/kl_loss"] = totals["kl_loss"]
        require_finite_losses({"policy loss": totals["loss"]})
        if settings.target_kl is not None and figures["train/approx_kl"] > 1.5 * settings.target_kl:
            raise TooFar
        sync_gradients(self.accelerator, self.policy_params)
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.policy_params if p.grad is not None])
        require_finite_gradient("policy", float(norm), self.trained.items())
        torch.nn.utils.clip_grads_with_norm_(self.policy_params, settings.max_grad_norm, norm)
        self.optimizer.step()
        self._average()
        return figures | {"train/grad_norm": float(norm)}

    def _clear(self) -> None:
        """Forget the gradient and the figures of the minibatch that is being worked on."""
        self.optimizer.zero_grad(set_to_none=True)
        self.ratios.undo()

    def _accumulate(
        self, experience: Experience, rows: Tensor, tokens: int, sequences: int, size: int
    ) -> dict[str, float]:
        """Add the gradient of a minibatch, `size` rows at a time; nothing here waits for other processes."""
        sums = dict.fromkeys(("loss", "kl_loss", "clipped", "kl"), 0.0)
        # Rows of like length together, so that little of a micro-batch is padding.
        rows = rows[experience.mask[rows].sum(1).argsort(stable=True)]
        for part in torch.split(rows, size):
            for name, value in self._backward(experience, part, tokens, sequences).items():
                sums[name] += value
        return sums

    def _backward(
        self, experience: Experience, rows: Tensor, tokens: int, sequences: int
    ) -> dict[str, float]:
        """Add one micro-batch's gradient: `tokens` and `sequences` count the whole minibatch."""
        columns = _columns(experience.mask[rows])
        ids, mask, actions, olds, refs = (
            tensor[rows, columns]
            for tensor in (
                experience.ids, experience.mask, experience.actions, experience.logprobs,
                experience.ref_logprobs,
            )
        )  # fmt: skip
        lengths = actions.sum(1)
        each = weights(
            lengths, self.aggregation, sequences=sequences, tokens=tokens, longest=self.longest
        ).to(olds.dtype)
        old, ref = olds[actions], refs[actions]
        advantages, weight = (x.repeat_interleave(lengths) for x in (experience.advantages[rows], each))
        judged = partial(group_loss, clip=self.settings.clip, beta=self.beta)

        def loss(logprobs: Tensor, part: slice) -> Tensor:
            return judged(logprobs, old[part], ref[part], advantages[part], weight[part]).total

        trunk = experience.trunk.rows(rows, columns)
        total, new, _ = self.networks.policy_loss(loss, Rows(ids, mask, actions, trunk))
        torch.autograd.backward(total)
        self.ratios.add(new - old)
        found = judged(new, old, ref, advantages, weight)
        return {
            "loss": float(found.total),
            "kl_loss": float(found.kl_loss),
            "clipped": float(found.clipped),
            "kl": float(found.approx_kl),
        }

    @torch.no_grad()
    def _average(self) -> None:
        for name, param in self.trained.items() if self.ema else ():
            self.ema[name].lerp_(param, 1 - self.settings.ema_decay)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Let the policy have its averaged weights, where an average is kept, inside a ``with``."""
        last = {name: p.detach().clone() for name, p in self.trained.items() if name in self.ema}
        try:
            self._copy(self.ema)
            yield
        finally:
            self._copy(last)

    @torch.no_grad()
    def _copy(self, source: dict[str, Tensor]) -> None:
        for name, tensor in source.items():
            self.trained[name].copy_(tensor)

    def _minibatches(self, experience: Experience, iteration: int) -> Iterator[Tensor]:
        """Yield this process's rows of each global minibatch, in an order keyed by iteration and epoch."""
        settings, size = self.settings, self.settings.group_size
        total = settings.groups_per_iteration
        row_of = {int(group) - iteration * total: at for at, group in enumerate(experience.groups)}
        inside = torch.arange(size, device=experience.ids.device)
        for epoch in range(settings.epochs):
            order = torch.from_numpy(keyed_order((settings.seed, 12, iteration, epoch), total).copy())
            for chunk in order.view(settings.minibatches, -1).tolist():
                first = [row_of[group] * size for group in chunk if group in row_of]
                starts = torch.tensor(first, dtype=torch.int64, device=inside.device)
                yield (starts[:, None] + inside).flatten()


def _columns(mask: Tensor) -> slice:
    """Return the columns between which all real tokens of a (B, L) mask lie."""
    used = mask.any(0).nonzero().squeeze(1).tolist()
    return slice(used[0], used[-1] + 1) if used else slice(None)
