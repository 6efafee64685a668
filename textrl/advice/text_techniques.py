"""The four techniques on text, as plain functions of tensors (tamer.md, section 6).

    action biasing    mu(a|s) ~ exp(log pi(a|s) + clamp(beta H(s, a), -cap, cap)),  log pi at the temperature
    control sharing   mu(a|s) = (1 - p) pi(a|s) + p [a = a*],  a* = argmax of H over pi's top k
    Q augmentation    A'_t = A_t + beta [H(s_t, y_t) - E_{a ~ pi} H(s_t, a)], or the potential
                      Phi(s) = E_{a ~ pi} H(s, a):  r_t += beta [gamma Phi(s_{t+1}) - Phi(s_t)], Phi(end) = 0
    reward shaping    r_t += beta H(s_t, y_t)

Shapes: ``B`` sequences, ``T`` response tokens (right-padded), ``N`` real decisions, ``V`` vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from textrl.mdp.logprobs import CHUNK, logits_of
from textrl.models.products import head_operands

#: Given a slice of the N decisions, what is added to their logits or how their actions are rated: (M, V).
OfRows = Callable[[slice], Tensor]


def capped_bias(h: Tensor, beta: Tensor, cap: float) -> Tensor:
    """Return what action biasing adds to log pi, (N, V) nats, never more than `cap` either way.

    Args:
        h: (N, V) ratings.
        beta: (N,) weight in each state.
        cap: Above 0, nats.
    """
    return (beta[:, None] * h).clamp_(-cap, cap)


def favourite(h: Tensor, logits: Tensor, top_k: int) -> Tensor:
    """Return (N,) int64 a*, the token that H rates highest among the policy's `top_k` most probable.

    Args:
        h: (N, V) ratings.
        logits: (N, V) of the policy.
        top_k: At least 1; V or more is all tokens.
    """
    likely = logits.topk(min(top_k, logits.shape[1]), dim=1).indices
    return likely.gather(1, h.gather(1, likely).argmax(1, keepdim=True)).squeeze(1)


def shared_logits(logits: Tensor, p: Tensor, chosen: Tensor) -> Tensor:
    """Return (N, V) log-probabilities of (1 - p) pi + p [a = a*]; `logits` themselves where p is 0.

    Args:
        logits: (N, V) of the policy.
        p: (N,) in [0, 1].
        chosen: (N,) int64 a*.
    """
    mixed = torch.log_softmax(logits, dim=-1) + torch.log1p(-p)[:, None]
    mine = torch.logaddexp(mixed.gather(1, chosen[:, None]), p.log()[:, None])
    return torch.where(p[:, None] > 0, mixed.scatter(1, chosen[:, None], mine), logits)


def shared_logprobs(logprobs: Tensor, p: Tensor, is_favourite: Tensor) -> Tensor:
    """Return log[(1 - p) pi(a) + p [a = a*]], (N,), differentiable in `logprobs`; those themselves at p = 0.

    Args:
        logprobs: (N,) log pi(a).
        p: (N,) in [0, 1].
        is_favourite: (N,) bool, whether a is a*.
    """
    other = logprobs + torch.log1p(-p)
    added = torch.where(is_favourite & (p > 0), p.log(), -torch.inf)
    # At p = 1 both terms may be -inf, whose gradient is not a number; such a token cannot be drawn.
    return torch.where(is_favourite & (p > 0), torch.logaddexp(other, added), other)


def advantage_bonus(rating: Tensor, mean_rating: Tensor, beta: float) -> Tensor:
    """Return beta [H(s, y) - E_{a ~ pi} H(s, a)], whose mean under pi is 0 in every state."""
    return beta * (rating - mean_rating)


def potential_bonus(potential: Tensor, mask: Tensor, beta: float, gamma: float) -> Tensor:
    """Return beta [gamma Phi(s_{t+1}) - Phi(s_t)], (B, T), with Phi = 0 after the last token.

    Discounted over an episode it adds up to -beta Phi(s_0) whatever was written (Ng, Harada & Russell 1999).

    Args:
        potential: (B, T) Phi of the state before each token.
        mask: (B, T) bool, True on real tokens.
        beta: Weight.
        gamma: Discount per token.
    """
    phi = torch.where(mask, potential, 0.0)
    later = torch.cat([phi[:, 1:], torch.zeros_like(phi[:, :1])], dim=1)
    return torch.where(mask, beta * (gamma * later - phi), 0.0)


@dataclass(frozen=True)
class Statistics:
    """What is known of each decision before the update, without gradient; (N,) float32 each.

    Attributes:
        logprobs: log mu(y) of what was written.
        plain: log pi(y).
        entropy: Of mu, nats.
        kl: KL(mu || pi), nats.
        mean_rating: E_{a ~ pi} H(s, a); zeros where nobody asked.
    """

    logprobs: Tensor
    plain: Tensor
    entropy: Tensor
    kl: Tensor
    mean_rating: Tensor


@torch.no_grad()
def statistics(
    before: Tensor,
    weight: Tensor,
    targets: Tensor,
    behaviour: Callable[[Tensor, slice], Tensor],
    ratings: OfRows | None = None,
    *,
    bias: Tensor | None = None,
    temperature: float = 1.0,
    chunk: int = CHUNK,
) -> Statistics:
    """Measure the distributions at all decisions, a chunk of logits at a time.

    Args:
        before: (N, H) final hidden states of the policy before each target.
        weight: (V, H) output embedding.
        targets: (N,) int64 tokens that were written.
        behaviour: (M, V) logits of pi, and which of the N they are -> (M, V) logits of mu.
        ratings: H of all actions, where the mean rating is wanted.
        bias: (V,) or None.
        temperature: Divides the logits.
        chunk: Decisions whose logits exist at the same time.
    """
    before, weight = head_operands(before, weight)
    count = len(targets)
    out = Statistics(*torch.zeros(5, count, dtype=torch.float32, device=before.device).unbind())
    for start in range(0, count, chunk):
        rows = slice(start, start + chunk)
        logits = logits_of(before[rows], weight, bias, temperature)
        log_pi = torch.log_softmax(logits, dim=-1)
        log_mu = torch.log_softmax(behaviour(logits, rows), dim=-1)
        wanted = targets[rows, None]
        out.logprobs[rows] = log_mu.gather(1, wanted).squeeze(1)
        out.plain[rows] = log_pi.gather(1, wanted).squeeze(1)
        mu = log_mu.exp()
        # 0 * -inf is 0 here: an action that never happens neither surprises nor costs anything.
        out.entropy[rows] = torch.where(mu > 0, -mu * log_mu, 0.0).sum(1)
        out.kl[rows] = torch.where(mu > 0, mu * (log_mu - log_pi), 0.0).sum(1)
        if ratings is not None:
            out.mean_rating[rows] = (log_pi.exp() * ratings(rows)).sum(1)
    return out
