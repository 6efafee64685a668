"""Worlds small enough to write every response down, drawn from a seed.

A small random GPT-2 as the reference (and the initial policy), two prompts, and rewards of one or both kinds.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from textrl.evaluation.optimum import all_responses, episode_rewards, response_logprobs
from textrl.mdp.task import Prompt, TokenTask
from textrl.models.loading import scorer_from_causal_lm
from textrl.models.stack import score_ids
from textrl.protocols import Batch
from textrl.rewards import RewardSum, Source
from textrl.specs import RewardSpec

PAD, EOS = 0, 1
WIDTH, LAYERS, HEADS = 32, 1, 4
#: Far wider than a language model's .02, so that a random network prefers some responses to others.
_SPREAD = 0.1
#: Of the reference's final norm: sharper distributions than small weights alone give (3 instead of 5 nats).
_GAIN = 1.8
_SCORE = RewardSpec(
    name="score",
    target="textrl.bench.optimum_world:NetworkScore",
    summary="the score that a network gives to prompt and response",
)
_PAIRS = RewardSpec(
    name="pairs",
    target="textrl.bench.optimum_world:PairPay",
    summary="pays every token by what it is and what stands before it",
    granularity="token",
    causal=True,
)


class NetworkScore:
    """Pays an episode what a one-label classifier says about prompt and response: a reward model."""

    def __init__(self, scorer: PreTrainedModel) -> None:
        self.scorer = scorer

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Tensor:
        """Return (B,) float32."""
        ids = torch.cat([batch.prompt_ids, batch.response_ids], dim=1)
        mask = torch.cat([batch.prompt_mask, batch.response_mask], dim=1)
        return score_ids(self.scorer, ids, mask)


class PairPay:
    """Pays each token as it is written, by the token and its predecessor."""

    def __init__(self, table: Tensor) -> None:
        """Keep the pay: `table` is (V, V), predecessor by token."""
        self.table = table

    def __call__(self, batch: Batch) -> Tensor:
        """Return (B, T) float32, zero outside the mask."""
        before = torch.cat([batch.prompt_ids[:, -1:], batch.response_ids[:, :-1]], dim=1)
        return torch.where(batch.response_mask, self.table[before, batch.response_ids], 0.0)


def reference(vocabulary: int, seed: int, stream: int = 0) -> PreTrainedModel:
    """Return a random GPT-2 over a few tokens, without dropout.

    Args:
        vocabulary: V.
        seed: Of the world.
        stream: Which of the world's streams of random numbers the weights come from.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_key(seed, stream))
        # One GELU kernel instead of eight, and plain matrix attention: for a few tokens both are faster.
        config = GPT2Config(
            vocab_size=vocabulary, n_positions=16, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS,
            bos_token_id=EOS, eos_token_id=EOS, pad_token_id=PAD, initializer_range=_SPREAD,
            embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0,
            activation_function="gelu_pytorch_tanh", attn_implementation="eager",
        )  # fmt: skip
        model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        model.transformer.ln_f.weight.mul_(_GAIN)
    return model


def make_rewards(kind: str, vocabulary: int, seed: int) -> list[Source]:
    """Return the sources of a world.

    Args:
        kind: "episode": a random network's score of the whole episode, different for every prompt and
            response, as a reward model's is. "token": a random pay for each pair of neighbouring tokens, due
            as they are written. "both": the two together.
        vocabulary: V.
        seed: Of the world.
    """
    sources = []
    if kind in ("episode", "both"):
        scorer = scorer_from_causal_lm(reference(vocabulary, seed, stream=1), layers=None)
        head = torch.randn(scorer.score.weight.shape, generator=generator(seed, 2))
        with torch.no_grad():
            scorer.score.weight.copy_(head)
        sources.append(Source(name="score", spec=_SCORE, reward=NetworkScore(scorer.requires_grad_(False))))
    if kind in ("token", "both"):
        table = torch.randn(vocabulary, vocabulary, generator=generator(seed, 3))
        sources.append(Source(name="pairs", spec=_PAIRS, reward=PairPay(table)))
    return sources


def _key(seed: int, stream: int) -> int:
    """Return a key of its own for each stream of a world: equal keys would repeat each other's numbers."""
    return 1_000_003 * (stream + 1) + seed


def generator(seed: int, stream: int) -> torch.Generator:
    """Return a world's own source of random numbers: 0 to 3 draw the world, 4 is for what measures it."""
    return torch.Generator().manual_seed(_key(seed, stream))


def make_task(kind: str, vocabulary: int, horizon: int, seed: int, model: PreTrainedModel) -> TokenTask:
    """Return the task of a world; under the reference every source varies by 1 (standard deviation).

    Args:
        kind: See `make_rewards`.
        vocabulary: V, at least 4.
        horizon: Tokens at which a response is cut.
        seed: Of the world.
        model: The reference.
    """

    def task(sources: list[Source]) -> TokenTask:
        prompts = (Prompt(ids=(2,)), Prompt(ids=(3, 2)))
        return TokenTask(prompts, None, vocabulary, {EOS}, PAD, horizon, RewardSum(sources), seed)

    scaled = []
    for source in make_rewards(kind, vocabulary, seed):
        alone = task([source])
        ids, mask = all_responses(alone)
        variances = []
        for prompt in alone.prompts:
            paid = episode_rewards(alone, prompt, ids, mask)
            p = response_logprobs(model, alone, prompt, ids, mask).exp()
            variances.append(float((p * (paid - (p * paid).sum()) ** 2).sum()))
        scaled.append(replace(source, weight=math.sqrt(len(variances) / sum(variances))))
    return task(scaled)
