"""Perplexity of a causal language model on ordinary text, and how much it changed.

Token-weighted: exp(total negative log-likelihood / number of predicted tokens), so a long text weighs
more than a short one, and neither batch size nor padding changes the figure. Shapes: ``B`` texts,
``L`` tokens, ``N`` predicted tokens, ``M`` models.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from textrl.errors import UserError
from textrl.evaluation.statistics import Floats, Interval
from textrl.mdp.logprobs import token_logprobs
from textrl.models.stack import Trunk, final_hidden, shared_depth

# Attributes by which some architectures change the logits after the output embedding.
_LOGIT_CHANGES = ("final_logit_softcapping", "logit_scale", "logits_scaling", "output_multiplier_scale")


@dataclass(frozen=True)
class Perplexity:
    """Perplexity, and what it is made of.

    Attributes:
        value: exp(nll / tokens).
        nll: Total negative log-likelihood, nats.
        tokens: Predicted tokens.
        nll_per_text: (B,) nats, for a bootstrap over texts.
        tokens_per_text: (B,) predicted tokens.
    """

    value: float
    nll: float
    tokens: int
    nll_per_text: Floats
    tokens_per_text: Floats


def perplexity(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    max_tokens: int = 128,
    batch_size: int = 16,
    bos: bool = False,
    chunk: int = 256,
) -> Perplexity:
    """Measure one causal language model on texts; see `perplexities`."""
    return perplexities(
        [model], tokenizer, texts, max_tokens=max_tokens, batch_size=batch_size, bos=bos, chunk=chunk
    )[0]


@torch.inference_mode()
def perplexities(
    models: Sequence[Any],
    tokenizer: Any,
    texts: Sequence[str],
    *,
    max_tokens: int = 128,
    batch_size: int = 16,
    bos: bool = False,
    chunk: int = 256,
) -> list[Perplexity]:
    """Measure causal language models with one tokenizer on the same texts.

    Blocks that the models share, frozen (`requires_grad` off) and equal, run once for all of them.

    Args:
        models: Hugging Face causal language models; each is put into eval mode and back.
        tokenizer: Their tokenizer.
        texts: B texts; a text's context begins with the text.
        max_tokens: Longer texts are cut, as they are at the models' own limit.
        batch_size: Texts computed together; texts of like length share a batch.
        bos: Put the tokenizer's BOS first and predict the first token too. False takes the first token
            as given, which suits models whose BOS opens a chat turn.
        chunk: Rows of logits that exist at the same time.

    Raises:
        UserError: When no text has a token to predict, or `bos` is asked for and there is none.
    """
    limits = [getattr(model.config, "max_position_embeddings", None) or max_tokens for model in models]
    ids = _token_ids(tokenizer, texts, max_tokens, min(limits), bos)
    counts = np.array([max(len(row) - 1, 0) for row in ids], dtype=np.float64)
    if counts.sum() == 0:
        raise UserError("Perplexity needs a text of at least two tokens; the texts given have none.")
    order = [index for index in sorted(range(len(ids)), key=lambda i: len(ids[i])) if counts[index]]
    nll = np.zeros((len(models), len(ids)))
    were_training = [model.training for model in models]
    for model in models:
        model.eval()
    try:
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            nll[:, rows] = _batch_nll(models, [ids[row] for row in rows], chunk)
    finally:
        for model, was_training in zip(models, were_training, strict=True):
            model.train(was_training)
    return [_perplexity(row, counts) for row in nll]


def _perplexity(nll: Floats, counts: Floats) -> Perplexity:
    total, tokens = float(nll.sum()), int(counts.sum())
    value = math.exp(total / tokens) if total / tokens < 700 else math.inf
    return Perplexity(value, total, tokens, nll, counts)


def _token_ids(
    tokenizer: Any, texts: Sequence[str], max_tokens: int, limit: int, bos: bool
) -> list[list[int]]:
    """Return the ids of every text, after BOS if asked for, none longer than a model can take."""
    if bos and tokenizer.bos_token_id is None:
        raise UserError(
            "Perplexity after BOS was asked for, but the tokenizer has no BOS token; set bos: false."
        )
    if not texts:
        return []
    first = [int(tokenizer.bos_token_id)] if bos else []
    rows = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return [(first + list(row))[: min(max_tokens + len(first), limit)] for row in rows]


def _batch_nll(models: Sequence[Any], ids: list[list[int]], chunk: int) -> Floats:
    """Return the (M, B) summed negative log-likelihoods of rows of ids under M models."""
    device = next(models[0].parameters()).device
    longest = max(map(len, ids))
    mask = torch.tensor([[True] * len(row) + [False] * (longest - len(row)) for row in ids], device=device)
    # What stands on padding is masked, so any id will do; 0 exists in every vocabulary.
    padded = torch.tensor([row + [0] * (longest - len(row)) for row in ids], device=device)
    trunk = None
    if len(models) > 1:
        depths = {shared_depth(models[0], model) for model in models[1:]} - {0}
        trunk = Trunk(models[0], padded, mask, tuple(sorted(depths)))
    predicted = mask[:, 1:]  # (B, L - 1); a position predicts the next one
    found = []
    for model in models:
        rows = torch.zeros(predicted.shape, dtype=torch.float64, device=device)
        rows[predicted] = _logprobs(model, padded, mask, trunk, chunk).double()
        found.append(-rows.sum(dim=1).cpu().numpy())
    return np.asarray(found, dtype=np.float64)


def _logprobs(model: Any, ids: Tensor, mask: Tensor, trunk: Trunk | None, chunk: int) -> Tensor:
    """Return the (N,) log-probabilities of all tokens but the first of each row."""
    predicted = mask[:, 1:]
    targets = ids[:, 1:][predicted]
    head = model.get_output_embeddings()
    config = model.config.get_text_config()
    changed = any(getattr(config, name, None) not in (None, 1, 1.0) for name in _LOGIT_CHANGES)
    if head is None or changed:
        logits: Tensor = model(input_ids=ids, attention_mask=mask.long()).logits[:, :-1][predicted]
        return logits.float().log_softmax(-1).gather(1, targets[:, None])[:, 0]
    # Only the rows that predict a real token meet the output embedding, a chunk at a time.
    if trunk is None:
        hidden = model.base_model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    else:
        hidden = final_hidden(model, ids, mask, trunk)
    rows = hidden[:, :-1][predicted]
    return token_logprobs(rows, head.weight, targets, bias=getattr(head, "bias", None), chunk=chunk)


def perplexity_change(
    before: Perplexity, after: Perplexity, *, seed: int = 0, resamples: int = 10_000
) -> Interval:
    """Relative change of perplexity, e.g. 0.05 for 5 % worse, with a 95 % bootstrap over texts.

    Both must have been measured on the same texts, so that the texts' own difficulty cancels.

    Raises:
        ValueError: When they were not.
    """
    if not np.array_equal(before.tokens_per_text, after.tokens_per_text):
        raise ValueError("a change of perplexity needs both models measured on the same tokens")
    gap, tokens = after.nll_per_text - before.nll_per_text, after.tokens_per_text
    rng = np.random.default_rng(seed)
    changes = np.empty(resamples)
    for start in range(0, resamples, 500):
        size = min(500, resamples - start)
        drawn = rng.integers(len(gap), size=(size, len(gap)))
        weight = np.maximum(tokens[drawn].sum(axis=1), 1.0)
        changes[start : start + size] = np.expm1(gap[drawn].sum(axis=1) / weight)
    lo, hi = np.quantile(changes, [0.025, 0.975])
    return Interval(float(np.expm1(gap.sum() / tokens.sum())), float(lo), float(hi))
