"""What a reader of streamed text sees: tokens one by one, and with some of them a word that is whole now.

A word runs over letters and digits, with single apostrophes and hyphens inside; it is whole with the token
that shows its last letter. All of a response is written before it is shown, so it is known with "wonder"
whether "ful" will follow, as a reader knows it who sees the word at a glance.

In a session's log (`textrl.tamer.log`) every response begins with a ``tick`` that names model and prompt, and
a token that appears is an action of no observation, since the state before it is the model's to compute:

    {"kind": "tick", "time_s": 0.0, "model": "5f3c...", "prompt": "The film begins"}
    {"kind": "shown", "time_s": 1.0, "observation": null, "action": 318}
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from textrl.tamer.text.words import Pieces

#: A word, without the punctuation around it.
WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


@dataclass(frozen=True)
class WholeWord:
    """A word of a response.

    Attributes:
        text: As it is written, without the punctuation around it.
        before: The response up to where the word begins.
    """

    text: str
    before: str


@dataclass(frozen=True)
class TextShown:
    """What is on screen when a token has appeared.

    Attributes:
        prompt: What the response goes on from.
        record: All columns of the prompt's line in its file.
        ids: The response's tokens so far; the last one has just appeared.
        text: The response so far.
        words: Words that are whole with this token; seldom more than one.
        model: Fingerprint of the model that wrote it.
    """

    prompt: str
    ids: tuple[int, ...]
    text: str
    words: tuple[WholeWord, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)
    model: str = ""


def pieces_of(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Return the piece of text that each token of a response adds.

    Args:
        tokenizer: The model's; without one (None) the text of a token is its number.
        ids: The whole response.
    """
    if tokenizer is None:
        return [f" {token}" for token in ids]
    pieces, last = Pieces(tokenizer), len(ids) - 1
    return [pieces.add(int(token), last=place == last) for place, token in enumerate(ids)]


def whole_words(pieces: Sequence[str]) -> list[tuple[WholeWord, ...]]:
    """Return for each piece of a response the words that are whole with it."""
    text, ends = "".join(pieces), list(accumulate(len(piece) for piece in pieces))
    found: list[list[WholeWord]] = [[] for _ in pieces]
    for match in WORD.finditer(text):
        found[bisect_left(ends, match.end())].append(WholeWord(match[0], text[: match.start()]))
    return [tuple(words) for words in found]


def models_of(log: str | Path) -> frozenset[str]:
    """Return the fingerprints of the models that wrote a log's responses; none where it shows no text.

    Args:
        log: A file that `textrl.tamer.log.read_log` accepts.
    """
    lines = Path(log).read_text(encoding="utf-8").splitlines()
    events = (json.loads(line) for line in lines if '"model"' in line)
    return frozenset(str(event["model"]) for event in events if "model" in event)
