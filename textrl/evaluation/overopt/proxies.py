"""Proxies: reward models of several sizes, trained on noisy comparisons that the gold judge draws.

The label of a pair follows Bradley and Terry: the first text is called better with probability
sigmoid(gold_1 - gold_2). On texts of the initial policy such a labeler agrees with the gold judge about as
often as two people with each other (InstructGPT: 73 %). Training takes the pairwise case of InstructGPT's
loss (`textrl.mdp.ranking.kwise_loss`), keeps a fifth of the pairs back and the weights of the epoch that does
best on them. Shapes: N pairs, B texts, P prompt tokens, T response tokens, V vocabulary.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from textrl.evaluation.overopt.world import Score, World, network, scores_of, word_counts
from textrl.mdp.ranking import kwise_loss
from textrl.models.loading import scorer_from_causal_lm
from textrl.models.stack import score_ids
from textrl.protocols import Batch
from textrl.rollout import Rollout
from textrl.specs import RewardSpec

#: Proxy sizes: (width, blocks) of a transformer, or None for a sum over words.
SIZES: dict[str, tuple[int, int] | None] = {"words": None, "narrow": (8, 1), "wide": (32, 2)}
_BATCH = 64
_MOST_STEPS = 1200
_PATIENCE = 4
_RATE = {"words": 3e-2, "narrow": 1e-2, "wide": 3e-3}
#: What the learner is told about a proxy.
SPEC = RewardSpec(
    name="proxy",
    target="textrl.evaluation.overopt.proxies:ScoreReward",
    summary="the score that a proxy gives to prompt and response",
)


class Pairs(NamedTuple):
    """N comparisons: (N, 2, P + T) ids and mask, (N, 2, T) response mask, (N, 2) ranks and gold scores."""

    ids: Tensor
    mask: Tensor
    response_mask: Tensor
    ranks: Tensor
    gold: Tensor


class ScoreReward:
    """Pays an episode its score."""

    def __init__(self, score: Score) -> None:
        """Keep the score."""
        self.score = score

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Tensor:
        """Return (B,) float32."""
        ids = torch.cat([batch.prompt_ids, batch.response_ids], dim=1)
        mask = torch.cat([batch.prompt_mask, batch.response_mask], dim=1)
        return self.score(ids, mask, batch.response_mask)


class WordSum(nn.Module):
    """Adds up a learnt value for every word said, however often: the reward model of a counting clerk."""

    def __init__(self, vocabulary: int) -> None:
        """Begin with all words worth nothing."""
        super().__init__()
        self.vocabulary = vocabulary
        self.values = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, ids: Tensor, mask: Tensor, response_mask: Tensor) -> Tensor:
        """Return (B,) scores; see `textrl.evaluation.overopt.world.Score`."""
        return word_counts(ids, response_mask, self.vocabulary) @ self.values


class Transformer(nn.Module):
    """A GPT-2 with a score head, read at the last word."""

    def __init__(self, vocabulary: int, width: int, layers: int, seed: int) -> None:
        """Draw its first weights; the head begins at 0."""
        super().__init__()
        self.scorer = scorer_from_causal_lm(network(vocabulary, width, layers, seed), layers=None)

    def forward(self, ids: Tensor, mask: Tensor, response_mask: Tensor) -> Tensor:
        """Return (B,) scores; see `textrl.evaluation.overopt.world.Score`."""
        return score_ids(self.scorer, ids, mask)


@dataclass(frozen=True)
class Trained:
    """A proxy and what is known about it.

    Attributes:
        score: Its scores, on a scale of its own.
        parameters: How many numbers were learnt.
        steps: Optimizer steps behind its weights.
        label_agreement: Share of the training labels that follow the gold judge.
    """

    score: Score
    parameters: int
    steps: int
    label_agreement: float


def draw_pairs(world: World, count: int, stream: int) -> Pairs:
    """Sample pairs of texts to one prompt each from the initial policy, and label them.

    Args:
        world: Whose.
        count: N; rounded up to a multiple of the number of prompts.
        stream: Keys texts and labels.
    """
    each = -(-count // len(world.prompts))
    texts = world.sample(world.policy, 2 * each, stream)
    gold = scores_of(world.gold, texts).reshape(-1, 2)
    chance = torch.sigmoid(gold[:, 0] - gold[:, 1])
    first = torch.rand(len(gold), generator=world.generator(stream)) < chance
    ranks = torch.stack([torch.where(first, 1.0, 2.0), torch.where(first, 2.0, 1.0)], dim=1)
    order = torch.randperm(len(gold), generator=world.generator(stream + 1))[:count]
    parts = (texts.ids, texts.mask, texts.response_mask)
    ids, mask, response_mask = (part.reshape(len(gold), 2, -1)[order] for part in parts)
    return Pairs(ids, mask, response_mask, ranks[order], gold[order])


def train_proxy(world: World, size: str, count: int) -> Trained:
    """Train a proxy on `count` labelled pairs.

    Args:
        world: Gives texts and labels.
        size: One of `SIZES`.
        count: Pairs, at least 10.
    """
    pairs = draw_pairs(world, count, stream=20)
    shape = SIZES[size]
    vocabulary = world.settings.vocabulary
    model: nn.Module = (
        WordSum(vocabulary) if shape is None else Transformer(vocabulary, *shape, seed=world.key(30))
    )
    held = max(len(pairs.ranks) // 5, 1)
    train, test = (Pairs(*(part[rows] for part in pairs)) for rows in (slice(held, None), slice(held)))
    steps = _fit(model, train, test, _RATE[size], world.generator(31))
    model.requires_grad_(False)
    agreed = (pairs.ranks[:, 0] < pairs.ranks[:, 1]) == (pairs.gold[:, 0] > pairs.gold[:, 1])
    learnt = vocabulary if shape is None else sum(p.numel() for p in model.parameters())
    return Trained(model, learnt, steps, float(agreed.float().mean()))


def _fit(model: nn.Module, train: Pairs, test: Pairs, rate: float, generator: torch.Generator) -> int:
    """Train until the held-out loss has not improved for some epochs; keep the best; return its steps."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    best, kept, best_step, step, stale = float("inf"), copy.deepcopy(model.state_dict()), 0, 0, 0
    while stale < _PATIENCE and step < _MOST_STEPS:
        for rows in torch.split(torch.randperm(len(train.ranks), generator=generator), _BATCH):
            optimizer.zero_grad()
            loss = _losses(model, Pairs(*(part[rows] for part in train))).mean()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
        with torch.no_grad():
            found = float(_losses(model, test).mean())
        stale += 1
        if found < best:
            best, kept, best_step, stale = found, copy.deepcopy(model.state_dict()), step, 0
    model.load_state_dict(kept)
    return best_step


def _losses(model: nn.Module, pairs: Pairs) -> Tensor:
    """Return the (N,) losses of pairs."""
    count = len(pairs.ranks)
    rows = (part.reshape(2 * count, -1) for part in (pairs.ids, pairs.mask, pairs.response_mask))
    scores = model(*rows).reshape(count, 2)
    return kwise_loss(scores, pairs.ranks, torch.ones_like(pairs.ranks, dtype=torch.bool))


@torch.no_grad()
def agreement(score: Score, texts: Rollout, gold: Tensor) -> float:
    """Return the share of pairs of texts that a score orders as the gold judge does; neighbours are pairs.

    Pairs that the gold judge calls equal (the same text twice) do not count; equal scores count half.

    Args:
        score: Of the proxy.
        texts: An even number of texts, two and two of one prompt.
        gold: (B,) their gold scores.
    """
    said, meant = scores_of(score, texts).reshape(-1, 2), gold.reshape(-1, 2)
    decided = meant[:, 0] != meant[:, 1]
    gap = ((said[:, 0] - said[:, 1]) * torch.sign(meant[:, 0] - meant[:, 1]))[decided]
    return float(((gap > 0).float() + 0.5 * (gap == 0).float()).mean())
