"""Small batches with known text, for tests of rewards.

The vocabulary has 64 words, so that ids, masks, text and log-probs of a batch belong together whatever
the padding: a reward that reads text and one that reads ids are tested on the same episodes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from textrl.protocols import Batch

PAD, EOS = 0, 1
_TEXT = """
<pad> <eos> the a film plot actor scene was is not very good great bad awful love hate happy sad fun dull
brilliant boring and but of in it this that one two three 4 42 1,000 3.5 yes no maybe answer paris london
red blue green fast slow hot cold new old first last big small ! ? . , ; :
"""
WORDS = tuple(_TEXT.split())
VOCAB_SIZE = len(WORDS)
#: Width of the hidden states.
HIDDEN = 16


@dataclass(frozen=True)
class Sample:
    """One episode without padding.

    Attributes:
        prompt: P token ids.
        response: T token ids, with the EOS action where there was one.
        logprobs: T log-probabilities of the acting policy.
        ref_logprobs: T log-probabilities of the reference.
        record: The prompt's record.
    """

    prompt: tuple[int, ...]
    response: tuple[int, ...]
    logprobs: tuple[float, ...]
    ref_logprobs: tuple[float, ...]
    record: Mapping[str, Any] = field(default_factory=dict)

    def cut(self, length: int) -> Sample:
        """Return the episode as it was after `length` actions."""
        return replace(
            self,
            response=self.response[:length],
            logprobs=self.logprobs[:length],
            ref_logprobs=self.ref_logprobs[:length],
        )


def samples(record: Mapping[str, Any] | None = None, *, seed: int = 0) -> list[Sample]:
    """Return six episodes of one to nine tokens, ended by EOS or by length, with at least one word each.

    Args:
        record: Columns that are added to every prompt's record.
        seed: Keys the words and the log-probabilities.
    """
    generator = torch.Generator().manual_seed(seed)
    shapes = [(3, 5, True), (1, 9, False), (6, 1, False), (2, 3, False), (4, 7, True), (5, 2, False)]
    made = []
    for prompt_length, words, ends in shapes:
        prompt = _words(prompt_length, generator)
        response = _words(words, generator) + ((EOS,) if ends else ())
        made.append(_sample(prompt, response, record, generator))
    return made


def eos_alone(record: Mapping[str, Any] | None = None, *, rows: int = 2) -> list[Sample]:
    """Return episodes whose only action is EOS."""
    generator = torch.Generator().manual_seed(1)
    return [_sample(_words(2 + row, generator), (EOS,), record, generator) for row in range(rows)]


def make_batch(
    episodes: Sequence[Sample],
    needs: Collection[str] = (),
    *,
    extra_left: int = 0,
    extra_right: int = 0,
    garbage: int | None = None,
) -> Batch:
    """Pad episodes into a batch that carries what is needed and no more.

    Args:
        episodes: B episodes.
        needs: As in `textrl.specs.RewardSpec`.
        extra_left: More columns of padding on the left of the prompts.
        extra_right: More columns of padding on the right of the responses.
        garbage: A seed: fill what the masks hide with random ids and with NaN; else with pad and 0.
    """
    width = max(len(e.prompt) for e in episodes) + extra_left
    length = max(len(e.response) for e in episodes) + extra_right
    prompt_ids, prompt_mask = _padded([e.prompt for e in episodes], width, PAD, left=True)
    response_ids, response_mask = _padded([e.response for e in episodes], length, PAD)
    floats = {
        "logprobs": _padded([e.logprobs for e in episodes], length, 0.0)[0],
        "ref_logprobs": _padded([e.ref_logprobs for e in episodes], length, 0.0)[0],
        # Words appear four times a second.
        "times": (torch.arange(length) * 0.25).expand(len(episodes), length) * response_mask,
    }
    if garbage is not None:
        generator = torch.Generator().manual_seed(garbage)
        for ids, mask in ((prompt_ids, prompt_mask), (response_ids, response_mask)):
            noise = torch.randint(0, VOCAB_SIZE, ids.shape, generator=generator)
            ids[~mask] = noise[~mask]
        floats = {name: value.masked_fill(~response_mask, float("nan")) for name, value in floats.items()}
    hidden = _hidden(episodes, length)
    if garbage is not None:
        hidden = hidden.masked_fill(~response_mask[..., None], float("nan"))
    text = "text" in needs
    return Batch(
        prompt_ids=prompt_ids,
        prompt_mask=prompt_mask,
        response_ids=response_ids,
        response_mask=response_mask,
        prompt_text=[decode(e.prompt) for e in episodes] if text else None,
        # As with byte-level tokenizers, the space before a word belongs to it.
        text=[" " * (e.response[0] != EOS) + decode(e.response) for e in episodes] if text else None,
        records=[dict(e.record) for e in episodes] if "records" in needs else None,
        logprobs=floats["logprobs"] if "logprobs" in needs else None,
        ref_logprobs=floats["ref_logprobs"] if "ref_logprobs" in needs else None,
        times=floats["times"] if "times" in needs else None,
        ref_hidden=hidden if "ref_hidden" in needs else None,
    )


def decode(ids: Sequence[int]) -> str:
    """Return the words of `ids` without special tokens."""
    return " ".join(WORDS[token] for token in ids if token not in (PAD, EOS))


def _hidden(episodes: Sequence[Sample], length: int) -> Tensor:
    """Return (B, T, H): the mean of fixed random directions of all tokens before each one; 0 on padding."""
    directions = torch.randn(VOCAB_SIZE, HIDDEN, generator=torch.Generator().manual_seed(2))
    states = torch.zeros(len(episodes), length, HIDDEN)
    for row, episode in enumerate(episodes):
        read = directions[list(episode.prompt + episode.response[:-1])]
        counts = torch.arange(1, len(read) + 1)[:, None]
        states[row, : len(episode.response)] = (read.cumsum(0) / counts)[len(episode.prompt) - 1 :]
    return states


def _words(count: int, generator: torch.Generator) -> tuple[int, ...]:
    return tuple(torch.randint(2, VOCAB_SIZE, (count,), generator=generator).tolist())


def _sample(
    prompt: tuple[int, ...],
    response: tuple[int, ...],
    record: Mapping[str, Any] | None,
    generator: torch.Generator,
) -> Sample:
    def log_probabilities() -> tuple[float, ...]:
        return tuple((-3.0 * torch.rand(len(response), generator=generator) - 0.1).tolist())

    base = {"prompt": decode(prompt), "answer": "42", "label": True}
    columns = {**base, **(record or {})}
    return Sample(prompt, response, log_probabilities(), log_probabilities(), columns)


def _padded(
    rows: Sequence[Sequence[float]], width: int, filler: float, *, left: bool = False
) -> tuple[Tensor, Tensor]:
    """Return (B, width) values and their mask."""
    dtype = torch.int64 if isinstance(filler, int) else torch.float32
    values = torch.full((len(rows), width), filler, dtype=dtype)
    mask = torch.zeros((len(rows), width), dtype=torch.bool)
    for index, row in enumerate(rows):
        place = slice(width - len(row), width) if left else slice(0, len(row))
        values[index, place] = torch.tensor(row, dtype=dtype)
        mask[index, place] = True
    return values, mask
