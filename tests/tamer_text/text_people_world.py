"""A reader, a small real model with its byte-level tokenizer, and what writes down what a source is told."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from textrl_human.text_settings import SimulatedTextSettings
from textrl_human.text_simulated import SimulatedReader
from textrl_human.text_truths import WordTruth
from textrl_human.trainers import ReactionSettings
from textrl_tamer.settings import TamerTextSettings
from textrl_tamer.text_source import TamerText

from textrl.mdp.task import Prompt
from textrl.models.loading import load_causal_lm
from textrl.protocols import Signal
from textrl.tamer.text.reading import TextShown, pieces_of, whole_words

TASTE = {"good": 1.0, "bad": -1.0}
TEXTS = (" A good end, a bad day", " bad ideas", " It was good and wonderful", " a good good film")
#: Half a second, as good as exactly.
EXACT = ReactionSettings(low=0.5, high=0.5 + 1e-9)


@functools.cache
def tiny() -> tuple[Any, Any]:
    """The model `tiny-gpt2` and its tokenizer."""
    return load_causal_lm("tiny-gpt2")


def encode(text: str) -> list[int]:
    return list(tiny()[1](text)["input_ids"])


@torch.no_grad()
def hidden_states(prompt: str, ids: list[int]) -> NDArray[np.float32]:
    """(T, D): the last hidden state before each token of a response."""
    model, _ = tiny()
    before = encode(prompt)
    states = model.transformer(torch.tensor([before + ids])).last_hidden_state[0]
    return np.asarray(states[len(before) - 1 : -1].numpy())


def reader(judge: WordTruth | None = None, **settings: Any) -> SimulatedReader:
    return SimulatedReader(SimulatedTextSettings(**settings), judge)


def read(
    person: SimulatedReader, text: str, begin_s: float = 0.0, step_s: float = 0.25, **shown: Any
) -> float:
    """Show a text token by token; returns the time of the step after the last."""
    ids = encode(text)
    pieces = pieces_of(tiny()[1], ids)
    for place, words in enumerate(whole_words(pieces)):
        seen = TextShown("", tuple(ids[: place + 1]), "".join(pieces[: place + 1]), words, **shown)
        person.watch(seen, ids[place], begin_s + step_s * place)
    return begin_s + step_s * len(ids)


def values(person: SimulatedReader) -> list[float]:
    """What was pressed, oldest first."""
    return [signal.value for signal in person.poll(float("inf"))]


class Notes:
    """A source that writes down what it is told; its tokenizer is the model's."""

    def __init__(self, tokenizer: Any = None) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.tokenizer = tokenizer

    def show(self, state: NDArray[Any], token: int, at_s: float, *, last: bool = False) -> None:
        self.told.append(("show", token, at_s))

    def end(self, at_s: float) -> None:
        self.told.append(("end", at_s))

    def observe(self, signals: Iterable[Signal]) -> None:
        self.told += [(signal.kind, signal.value, signal.time_s) for signal in signals]

    def of(self, *kinds: str) -> list[tuple[Any, ...]]:
        return [event for event in self.told if event[0] in kinds]


def source(**settings: Any) -> TamerText:
    """A real source on the small model."""
    made = TamerText(TamerTextSettings(**{"seed": 5, **settings}))
    made.bind_text(*tiny())
    return made


def batch(texts: tuple[str, ...] = TEXTS, prompt: str = "The film") -> tuple[Any, ...]:
    """What a learner hands over: prompts, ids, mask, hidden states."""
    rows = [encode(text) for text in texts]
    width = max(len(row) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.int64)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    hidden = torch.zeros(len(rows), width, tiny()[0].config.n_embd)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row)
        mask[place, : len(row)] = True
        hidden[place, : len(row)] = torch.from_numpy(hidden_states(prompt, row))
    prompts = [Prompt(tuple(encode(prompt)), prompt, {"number": place}) for place in range(len(rows))]
    return prompts, ids, mask, hidden


class Scripted:
    """Feedback that gives what it was told."""

    def __init__(self, *signals: Signal) -> None:
        self.signals, self.watched = list(signals), list[Any]()

    def watch(self, observation: Any, token: int, shown_s: float) -> None:
        self.watched.append((observation, token, shown_s))

    def poll(self, now_s: float) -> list[Signal]:
        given = [signal for signal in self.signals if signal.time_s <= now_s]
        self.signals = [signal for signal in self.signals if signal.time_s > now_s]
        return given
