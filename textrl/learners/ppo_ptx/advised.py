"""Advice at every decision of an iteration: what scoring and the update need to know of it.

The distribution that acted, mu, depends on the policy's weights, on the iteration's snapshot of H and on the
weight beta_t and, in control sharing, the token a*_t that were in force when each token was drawn. The last
two are kept from the rollout; log mu is computed again from them whenever the policy has moved.

Shapes: ``B`` sequences, ``T`` response tokens, ``L`` positions, ``N`` decisions in row order, ``D`` width of
the reference, ``V`` vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn.functional import pad

from textrl.advice.text import TextAdvice
from textrl.advice.text_techniques import (
    Statistics,
    advantage_bonus,
    potential_bonus,
    shared_logprobs,
    statistics,
)
from textrl.advice.text_writing import Companion, open_companion
from textrl.distributed import sum_metrics
from textrl.learners.ppo_ptx.networks import Networks
from textrl.models.packed import packable
from textrl.models.stack import Trunk, shared_depth
from textrl.rewards import RewardBreakdown, add
from textrl.rollout import Rollout

#: Under which name rewards and logs show what advice pays.
COMPONENT = "advice"


@dataclass(frozen=True, eq=False)
class AdvisedRows:
    """The advice of N decisions.

    Attributes:
        advice: Of the iteration.
        hidden: (N, D) of the reference, before each decision.
        targets: (N,) int64 tokens that were written.
        beta: (N,) weights as they acted, or None where nothing acts.
        favourite: (N,) int64 a*, in control sharing.
    """

    advice: TextAdvice
    hidden: Tensor
    targets: Tensor
    beta: Tensor | None
    favourite: Tensor | None

    def behaviour(self, logits: Tensor, rows: slice) -> Tensor:
        """Return (M, V) logits of what acted from those of the policy, for some of the decisions."""
        if self.beta is None:
            return logits
        chosen = None if self.favourite is None else self.favourite[rows]
        return self.advice.behaviour(logits, self.hidden[rows], self.beta[rows], chosen)

    def ratings(self, rows: slice) -> Tensor:
        """Return (M, V) H of all actions, for some of the decisions."""
        return self.advice.head.rate(self.hidden[rows])

    @property
    def shifts(self) -> bool:
        """Whether what acts is the policy with a sum on its logits, as in action biasing."""
        return self.beta is not None and self.favourite is None

    def shift(self, rows: slice) -> Tensor:
        """Return that sum for some of the decisions, (M, V); M is 0 where the slice begins after them."""
        assert self.beta is not None  # `shifts`
        return self.advice.bias(self.hidden[rows], self.beta[rows])

    def logprobs(self, logprobs: Tensor, rows: slice) -> Tensor:
        """Return log mu of what was written, (M,), from what the loss computes: log pi, shifted if it is."""
        if self.favourite is None or self.beta is None:
            return logprobs
        mine = self.favourite[rows] == self.targets[rows]
        return shared_logprobs(logprobs, self.beta[rows].to(logprobs.dtype), mine)


@dataclass(frozen=True, eq=False)
class Advised:
    """The advice of an iteration.

    Attributes:
        advice: As it stood for the rollout.
        ids: (B, L) int64.
        actions: (B, L) bool with N entries True.
        number: (B, L) int64, each decision's place among all.
        beta: (B, L) weights as they acted, or None where nothing acts.
        favourite: (B, L) int64 a*, in control sharing.
        hidden: (N, D) of the reference; empty before scoring, as the next two.
        rating: (N,) H(s_t, y_t).
        mean_rating: (N,) E_{a ~ pi} H(s_t, a), in Q augmentation.
    """

    advice: TextAdvice
    ids: Tensor
    actions: Tensor
    number: Tensor
    beta: Tensor | None
    favourite: Tensor | None
    hidden: Tensor
    rating: Tensor
    mean_rating: Tensor

    @classmethod
    def of(cls, advice: TextAdvice, rollout: Rollout, actions: Tensor) -> Advised:
        """Take what the rollout kept."""
        width = rollout.prompt_ids.shape[1]
        kept = {name: pad(values, (width, 0)) for name, values in rollout.advice.items()}
        number = (actions.reshape(-1).long().cumsum(0) - 1).view(actions.shape)
        nothing = torch.zeros(0, device=actions.device)
        beta, chosen = kept.get("beta"), kept.get("favourite")
        return cls(advice, rollout.ids, actions, number, beta, chosen, nothing, nothing, nothing)

    def part(self, rows: Tensor, columns: slice, hidden: Tensor | None = None) -> AdvisedRows:
        """Return the advice of some rows' decisions.

        Args:
            rows: (b,) int64.
            columns: That hold all their tokens.
            hidden: Of exactly these decisions, where they are not kept yet.
        """
        actions = self.actions[rows, columns]

        def flat(x: Tensor) -> Tensor:
            return x[rows, columns][actions]

        if hidden is None:
            hidden = self.hidden[flat(self.number)]
        beta = None if self.beta is None else flat(self.beta)
        chosen = None if self.favourite is None else flat(self.favourite)
        return AdvisedRows(self.advice, hidden, flat(self.ids), beta, chosen)

    def measure(
        self, networks: Networks, rows: Tensor, mask: Tensor, trunk: Trunk, hidden: Tensor
    ) -> dict[str, Tensor]:
        """Return what `experience.score` says of the decisions of some rows, (n,) each.

        Args:
            networks: Whose policy and value are asked.
            rows: (b,) int64.
            mask: (b, L) bool.
            trunk: Of these rows; lends the outputs of frozen blocks.
            hidden: (n, D) of the reference before these decisions.
        """
        part = self.part(rows, slice(None), hidden)
        wanted = part.ratings if self.advice.settings.technique == "q_augmentation" else None

        def function(before: Tensor, weight: Tensor, targets: Tensor, **others: Any) -> Statistics:
            return statistics(before, weight, targets, part.behaviour, wanted, **others)

        found, values = networks.measure(function, self.ids[rows], mask, self.actions[rows], trunk)
        return {
            "logprobs": found.logprobs,
            "entropy": found.entropy,
            "values": values,
            "policy_logprobs": found.plain,
            "kl_policy": found.kl,
            "mean_rating": found.mean_rating,
        }

    def scored(self, hidden: Tensor, mean_rating: Tensor) -> Advised:
        """Keep what scoring found: (N, D) states of the reference, and (B, L) mean ratings."""
        rating = self.advice.head.values(hidden, self.ids[self.actions])
        return replace(self, hidden=hidden, rating=rating, mean_rating=mean_rating[self.actions])

    def paid(self, breakdown: RewardBreakdown, mask: Tensor, gamma: float) -> RewardBreakdown:
        """Add what advice pays to the rewards, as a component of its own.

        Args:
            breakdown: What everybody else pays.
            mask: (B, T) bool, the responses.
            gamma: Discount per token.
        """
        settings = self.advice.settings
        if settings.technique == "reward_shaping":
            raw = self._spread(self.rating, mask)
        elif settings.technique == "q_augmentation" and settings.form == "potential":
            raw = potential_bonus(self._spread(self.mean_rating, mask), mask, 1.0, gamma)
        else:
            return breakdown
        weighted = self.advice.beta * raw
        return add(breakdown, RewardBreakdown(weighted, {COMPONENT: weighted}, {COMPONENT: raw}))

    def advantages(self, advantages: Tensor, mask: Tensor) -> Tensor:
        """Return the (B, T) advantages with what that form of Q augmentation adds to them."""
        settings = self.advice.settings
        if settings.technique != "q_augmentation" or settings.form != "advantage":
            return advantages
        bonus = advantage_bonus(self.rating, self.mean_rating, self.advice.beta)
        return advantages + self._spread(bonus, mask)

    def figures(self, kl_policy: Tensor, accelerator: Accelerator) -> dict[str, float]:
        """Return what to log of an iteration's advice, means over the tokens of all processes.

        Args:
            kl_policy: (B, L) KL(mu || pi) of each decision, nats.
            accelerator: Of the process group.
        """
        sums = {
            "advice/rating": float(self.rating.double().sum()),
            "advice/rating_size": float(self.rating.double().abs().sum()),
            "advice/kl_policy": float(kl_policy[self.actions].double().sum()),
            "advice/beta": float(self.advice.beta * len(self.rating)),
        }
        if self.beta is not None:
            sums["advice/beta"] = float(self.beta[self.actions].double().sum())
        if self.favourite is not None:
            mine = (self.favourite == self.ids)[self.actions]
            sums["advice/favourites"] = float(mine.sum())
        totals = sum_metrics(accelerator, sums | {"tokens": float(len(self.rating))})
        return {name: totals[name] / totals["tokens"] for name in sums}

    @property
    def for_update(self) -> Advised | None:
        """What the update needs: nothing where the policy without H is trained, or acts."""
        return self if self.beta is not None and self.advice.settings.trained == "behaviour" else None

    def _spread(self, flat: Tensor, mask: Tensor) -> Tensor:
        """Put (N,) onto the (B, T) decisions that they belong to, float32."""
        out = torch.zeros(mask.shape, device=flat.device)
        return out.masked_scatter(mask, flat.float())


@contextmanager
def companion(
    networks: Networks, advice: TextAdvice | None, *, rows: int, prompt: int, steps: int
) -> Iterator[Companion | None]:
    """Yield the adviser of one call of `generate`, or None where nobody has a say in the choice of tokens."""
    if advice is None or not advice.acts:
        yield None
        return
    both = packable(networks.policy) and packable(networks.reference)
    lent = shared_depth(networks.policy, networks.reference) if both else 0
    with open_companion(
        advice, networks.reference, rows=rows, prompt=prompt, steps=steps, lent=lent
    ) as adviser:
        yield adviser
