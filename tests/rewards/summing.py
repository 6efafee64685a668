"""Batches and sources for the tests of the weighted sum."""

from __future__ import annotations

import torch
from faulty_rewards import Good, spec

from textrl.protocols import Batch
from textrl.rewards import RewardSum, Source


def batch(lengths=(3, 1), width=4, **fields):
    """Rows of ids 1, 2, 3, ... of the given lengths, padded with 0."""
    mask = torch.arange(width) < torch.tensor(lengths)[:, None]
    ids = torch.arange(1, width + 1).repeat(len(lengths), 1) * mask
    prompt = torch.ones(len(lengths), 2, dtype=torch.int64)
    return Batch(
        prompt_ids=prompt,
        prompt_mask=prompt.bool(),
        response_ids=ids,
        response_mask=mask,
        **fields,
    )


def source(reward, weight=1.0, name=None, **fields):
    record = spec(type(reward).__name__, **fields)
    return Source(name=name or record.name, spec=record, reward=reward, weight=weight)


class Fixed:
    """Returns what it was given."""

    def __init__(self, value):
        self.value = value

    def __call__(self, batch):
        return self.value


class Controlled(Good):
    """Halves its weight where the KL is high."""

    def adapt_weight(self, weight, stats):
        return weight / 2 if stats["kl_per_sequence"] > 1 else weight

    def metrics(self, batch):
        return {"mean": torch.tensor(3.0), "train/own": 4}


def both_sides():
    return RewardSum(
        [
            source(Good(), 1.0, "text", needs=frozenset({"text"})),
            source(Controlled(), 0.4, "kl", side="learner", needs=frozenset({"logprobs"})),
        ]
    )
