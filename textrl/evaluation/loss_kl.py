"""The policy that a learner approaches which has k3 in its loss instead of k1 in its reward.

k3 = exp(log ref - log pi) - 1 + log pi - log ref has the mean KL(pi || ref) on samples of pi, but its
gradient at these samples is (1 - ref/pi) times that of log pi, on average that of KL(ref || pi) in the state
where the token was chosen. With softmax policies a token's logit therefore rests where

    pi(a|s) (Q(s, a) - V(s) - beta) + beta ref(a|s) = 0,

so that pi(a|s) = beta ref(a|s) / (lambda(s) - Q(s, a)), lambda(s) = V(s) + beta, where Q and V are those of
the plain rewards under pi itself: what later tokens will cost in k3 is in no reward. Going back from the ends
of the episodes gives Q; sum over a of pi(a|s) = 1 gives lambda(s).

This is the resting point where all decisions weigh the same (`aggregation: constant` or ``token``) and
advantages are not divided by a standard deviation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from textrl.evaluation.optimum import Optimum

#: Halvings of the interval that holds lambda; it is then narrower than float64 can tell.
_HALVINGS = 200


def k3_loss_optimum(optimum: Optimum, beta: float) -> Tensor:
    """Return the log-probabilities of the policy at rest: (X, R) float64, laid out as `optimum.log_best`.

    Args:
        optimum: Holds the responses, their rewards and the reference.
        beta: Weight of k3 against the advantages. Where advantages are rewards minus the mean of all K of a
            group, the own one included, they are (K - 1)/K of what they should be: give beta K / (K - 1).
    """
    responses = [tuple(row[real].tolist()) for row, real in zip(optimum.ids, optimum.mask, strict=True)]
    rows = zip(optimum.rewards, optimum.log_ref, strict=True)
    return torch.stack([_of_prompt(responses, rewards, ref, beta) for rewards, ref in rows])


def _of_prompt(responses: list[tuple[int, ...]], rewards: Tensor, log_ref: Tensor, beta: float) -> Tensor:
    """Return (R,) log-probabilities for one prompt; `rewards` and `log_ref` are (R,)."""
    values = dict(zip(responses, rewards.tolist(), strict=True))
    shares = dict(zip(responses, log_ref.exp().tolist(), strict=True))
    chosen: dict[tuple[int, ...], float] = {}  # state and token -> log pi
    for length in range(max(map(len, responses)), 0, -1):
        states: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
        for taken in values:
            if len(taken) == length:
                states.setdefault(taken[:-1], []).append(taken)
        for state, following in states.items():
            q = torch.tensor([values[one] for one in following], dtype=torch.float64)
            held = torch.tensor([shares[one] for one in following], dtype=torch.float64)
            pi = at_rest(held / held.sum(), q, beta)
            values[state], shares[state] = float((pi * q).sum()), float(held.sum())
            chosen |= dict(zip(following, pi.log().tolist(), strict=True))
    return torch.tensor(
        [sum(chosen[response[: t + 1]] for t in range(len(response))) for response in responses],
        dtype=torch.float64,
    )


def at_rest(ref: Tensor, q: Tensor, beta: float) -> Tensor:
    """Return pi = beta ref / (lambda - q) with lambda such that pi sums to 1.

    Args:
        ref: (A,) float64, sums to 1.
        q: (A,) float64 values of the actions.
        beta: Above 0.
    """
    low, high = q.max(), q.max() + beta  # the sum is infinite at one end and at most 1 at the other
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if float((beta * ref / (middle - q)).sum()) > 1:
            low = middle
        else:
            high = middle
    pi = beta * ref / (high - q)
    return pi / pi.sum()
