"""A text of a session while it is written, and its tokens on their way to the screen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from textrl.feedback.machine import Message
from textrl.tamer.text.words import Words


@dataclass
class Appearing:
    """A token on its way to the screen.

    Attributes:
        numbers: The tokens whose text appears with it: itself, and those that waited for a whole character.
            None where nothing appears.
        joins: Whether they go on with the word before them.
        last: Whether the text ends with it, or was left after it.
        settled: Whether it is known when it appeared, or that it never did.
    """

    numbers: tuple[int, ...]
    joins: bool
    last: bool
    settled: bool = False


@dataclass
class Text:
    """A text that is being written.

    Attributes:
        number: From 1, over the session.
        prompt: What it goes on from.
        words: Its text.
        messages: Of its tokens.
        waiting: Numbers of its tokens whose text is still to come.
        scores: H of each token, where H had learnt something.
        ratings: What was said of its tokens, by the uuid of the press or the span.
        kl: Sum of KL(mu || pi), nats.
        changed: Tokens that H changed.
        whole: Whether it is over.
    """

    number: int
    prompt: str
    words: Words
    messages: list[Message] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    ratings: dict[str, Message] = field(default_factory=dict)
    kl: float = 0.0
    changed: int = 0
    whole: bool = False

    def message(self, **more: Any) -> Message:
        """Return what the page is told of it."""
        tokens = len(self.messages)
        return {
            "type": "sample",
            "sample": self.number,
            "prompt": self.prompt,
            "text": self.words.text,
            "done": self.whole,
            "mean_score": sum(self.scores) / len(self.scores) if self.scores else None,
            "kl_per_token": self.kl / tokens if tokens else 0.0,
            "changed": self.changed,
        } | more
