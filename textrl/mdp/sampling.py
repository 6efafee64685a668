"""Sampling whose noise is a function of (seed, episode, position) and of nothing else.

However the tokens are produced (stepping the scalar env, the vector env, or a whole batch at once, in
any order and with any neighbours) the same episode meets the same noise. The noise comes from a
counter: SplitMix64's finaliser (Steele, Lea & Flood 2014) over the mixed key, so nothing is stored and
every device gives the same bits.

Tokens are drawn by the Gumbel-max trick in two stages, first a block of the vocabulary by its
log-sum-exp, then a token inside the block. The two stages draw from exactly the softmax, need
``V / 256 + 256`` random numbers instead of ``V``, and, unlike inverting a cumulative sum, a rounding
difference of size d in the logits changes the choice with probability of order d only.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 256
_GOLDEN = 0x9E3779B97F4A7C15
_MIX1 = 0xBF58476D1CE4E5B9
_MIX2 = 0x94D049BB133111EB


def _signed(value: int) -> int:
    """Map an unsigned 64-bit constant to the int64 with the same bits."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >= 1 << 63 else value


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser on int64 bits; shifts are made logical by masking the sign's copies."""
    x = (x ^ ((x >> 30) & ((1 << 34) - 1))) * _signed(_MIX1)
    x = (x ^ ((x >> 27) & ((1 << 37) - 1))) * _signed(_MIX2)
    return x ^ ((x >> 31) & ((1 << 33) - 1))


def counter_uniform(seed: int, episodes: Tensor, positions: Tensor, count: int) -> Tensor:
    """Return (B, count) float64 uniforms in the open interval (0, 1).

    Args:
        seed: Of the run.
        episodes: (B,) int64 episode numbers.
        positions: (B,) int64 index of the response token.
        count: Numbers per row.
    """
    step = _signed(_GOLDEN)
    key = _mix(torch.full_like(episodes, _signed(seed)) + step)
    key = _mix((key ^ episodes) + step)
    key = _mix((key ^ positions) + step)
    index = torch.arange(1, count + 1, device=episodes.device, dtype=torch.int64)
    bits = _mix(key[:, None] + index * step)
    return (((bits >> 11) & ((1 << 53) - 1)).double() + 0.5) * 2.0**-53


def gumbel(seed: int, episodes: Tensor, positions: Tensor, count: int) -> Tensor:
    """Return (B, count) float32 standard Gumbel numbers for the given keys."""
    return (-torch.log(-torch.log(counter_uniform(seed, episodes, positions, count)))).float()


def sample(logits: Tensor, seed: int, episodes: Tensor, positions: Tensor) -> Tensor:
    """Draw one token per row from softmax(logits).

    Args:
        logits: (B, V) float32, already divided by the temperature; ``-inf`` forbids a token.
        seed: Of the run.
        episodes: (B,) int64.
        positions: (B,) int64.

    Returns:
        (B,) int64 token ids.
    """
    return sample_with_logprobs(logits, seed, episodes, positions)[0]


def sample_with_logprobs(
    logits: Tensor, seed: int, episodes: Tensor, positions: Tensor
) -> tuple[Tensor, Tensor]:
    """Like `sample`, and the log-probability of each token, (B,): the blocks' sums give the whole sum."""
    batch, vocab = logits.shape
    block = min(BLOCK, vocab)
    blocks = -(-vocab // block)
    missing = blocks * block - vocab
    padded = torch.nn.functional.pad(logits, (0, missing), value=float("-inf")) if missing else logits
    padded = padded.view(batch, blocks, block)
    noise = gumbel(seed, episodes, positions, blocks + block)
    sums = torch.logsumexp(padded, dim=-1)
    chosen = (sums + noise[:, :blocks]).argmax(-1)
    inside = padded.gather(1, chosen[:, None, None].expand(-1, 1, block)).squeeze(1)
    tokens = chosen * block + (inside + noise[:, blocks:]).argmax(-1)
    wanted = logits.gather(1, tokens[:, None]).squeeze(1)
    return tokens, wanted - torch.logsumexp(sums, dim=-1)


def chosen_logprobs(logits: Tensor, tokens: Tensor) -> Tensor:
    """Return (B,) the log-probabilities of given tokens under (B, V) logits."""
    return logits.gather(1, tokens[:, None]).squeeze(1) - torch.logsumexp(logits, dim=-1)


def greedy(logits: Tensor) -> Tensor:
    """Return (B,) the most probable token of each row; the lowest id wins a tie."""
    return logits.argmax(-1)
