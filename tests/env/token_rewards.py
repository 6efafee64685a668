"""Small real rewards and tasks over a vocabulary of 8 numbers, whose values can be told by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from textrl.mdp.task import Prompt, TokenTask
from textrl.protocols import Batch
from textrl.rewards import RewardSum, Source
from textrl.specs import RewardSpec

PAD, EOS, VOCAB = 0, 1, 8


class Count:
    """Per episode: how often a token was written."""

    def __init__(self, token: int) -> None:
        self.token = token
        self.calls: list[int] = []

    def __call__(self, batch: Batch) -> Tensor:
        self.calls.append(len(batch.response_ids))
        return ((batch.response_ids == self.token) & batch.response_mask).sum(1).float()


class Ascending:
    """Per token, causal: 1 where the token is one more than the token before it."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, batch: Batch) -> Tensor:
        self.calls.append(len(batch.response_ids))
        whole = torch.cat([batch.prompt_ids[:, -1:], batch.response_ids], dim=1)
        return ((whole[:, 1:] == whole[:, :-1] + 1) & batch.response_mask).float()


class Echo:
    """Per token, causal: 1 where the token is the prompt's last."""

    def __call__(self, batch: Batch) -> Tensor:
        return ((batch.response_ids == batch.prompt_ids[:, -1:]) & batch.response_mask).float()


class ToGo:
    """Per token, not causal: how many tokens follow."""

    def __call__(self, batch: Batch) -> Tensor:
        real = batch.response_mask.float()
        return (real.flip(1).cumsum(1).flip(1) - 1) * real


class TextLength:
    """Per episode, from the text: characters of prompt and response."""

    def __call__(self, batch: Batch) -> Tensor:
        assert batch.text is not None
        assert batch.prompt_text is not None
        return torch.tensor(
            [len(a) + 100 * len(b) for a, b in zip(batch.text, batch.prompt_text, strict=True)]
        ).float()


class FromRecord:
    """Per episode, from the prompt's record."""

    def __call__(self, batch: Batch) -> Tensor:
        assert batch.records is not None
        return torch.tensor([float(record["worth"]) for record in batch.records])


def source(name: str, reward: object, weight: float = 1.0, **record: object) -> Source:
    spec = RewardSpec(name=name, target="token_rewards:x", summary="For tests.", **record)  # type: ignore[arg-type]
    return Source(name=name, spec=spec, reward=reward, weight=weight)  # type: ignore[arg-type]


def count(token: int = 3, weight: float = 1.0) -> Source:
    return source("count", Count(token), weight)


def ascending(weight: float = 1.0) -> Source:
    return source("ascending", Ascending(), weight, granularity="token", causal=True)


def echo(weight: float = 1.0) -> Source:
    return source("echo", Echo(), weight, granularity="token", causal=True)


def to_go(weight: float = 1.0, causal: bool = False) -> Source:
    return source("to_go", ToGo(), weight, granularity="token", causal=causal)


def text_length(weight: float = 1.0) -> Source:
    return source("text_length", TextLength(), weight, needs=frozenset({"text"}))


def from_record(weight: float = 1.0) -> Source:
    return source("from_record", FromRecord(), weight, needs=frozenset({"records"}))


def all_sources() -> list[Source]:
    return [count(3, 0.7), ascending(-1.3), to_go(0.11), text_length(0.05), from_record(2.0)]


def prompt(*ids: int) -> Prompt:
    return Prompt(ids=ids, text=" ".join(map(str, ids)), record={"worth": sum(ids) / 4})


def number_task(
    sources: Sequence[Source] = (),
    *,
    prompts: Sequence[Prompt] = (prompt(2), prompt(4, 5, 6), prompt(7, 2)),
    max_new_tokens: int = 5,
    **options: object,
) -> TokenTask:
    return TokenTask(
        prompts=prompts,
        tokenizer=None,
        vocab_size=VOCAB,
        eos_ids=frozenset({EOS}),
        pad_id=PAD,
        max_new_tokens=max_new_tokens,
        rewards=RewardSum(sources) if sources else None,
        **options,  # type: ignore[arg-type]
    )


def letters_only(prompt: Prompt, response: Sequence[int]) -> np.ndarray:
    """Forbid padding always, and EOS as the first token."""
    mask = np.ones(VOCAB, dtype=np.bool_)
    mask[PAD] = False
    mask[EOS] = len(response) > 0
    return mask
