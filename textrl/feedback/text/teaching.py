"""What presses and spans teach H on text, and how any of them is taken back.

A word is credited as a whole, from the appearance of its first token to that of the next word: its tokens
share the word's credit. To take something back, H is made anew from everything else: all that reached H is
kept as a list of short operations, and the list is run again without what was undone. So an undo leaves
H bit for bit as if the press had never been.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from textrl.feedback.text.head import State, TokenHead
from textrl.tamer.credit import CreditAssigner, Loss, Sample, Windowed
from textrl.tamer.delays import make_delay
from textrl.tamer.settings import DelaySettings


@dataclass
class Word:
    """A word on screen.

    Attributes:
        tokens: Numbers of its tokens that have appeared so far.
    """

    tokens: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Token:
    """A token that was written.

    Attributes:
        state: (D,) unit hidden state before it.
        token: Its id.
    """

    state: State
    token: int


class Teaching:
    """H, the words that presses may still reach, and everything that reached H.

    Attributes:
        head: H.
        tokens: All tokens written in the session; number n is ``tokens[n - 1]``.
        delay: What credit assignment assumes now.
        samples: Labels that H has learnt.
    """

    def __init__(self, head: TokenHead, delay: DelaySettings, loss: Loss) -> None:
        self.head, self.tokens = head, list[Token]()
        self._first_delay, self._loss = delay, loss
        self._operations: list[tuple[str, str | None, tuple[Any, ...]]] = []
        self._undone: set[str] = set()
        self._begin()
        self._run: dict[str, Callable[..., list[int]]] = {
            "show": self._show,
            "join": self._join,
            "end": self._end,
            "tick": self._tick,
            "press": self._press,
            "span": self._span,
            "training": self._training,
            "delay": self._delay,
        }

    def show(self, number: int, at_s: float, *, joins: bool) -> None:
        """A token appeared; `joins` where it goes on with the word on screen."""
        if joins and self._word is not None:
            self._do("join", None, number)
        else:
            self._do("show", None, number, at_s)

    def end(self, at_s: float) -> None:
        """The text is over: its last word leaves the screen at `at_s`, which may be to come."""
        self._do("end", None, at_s)

    def tick(self, now_s: float) -> None:
        """Everything that the reader did up to now is known."""
        if len(self._credit):
            self._do("tick", None, now_s)

    def press(self, uuid: str, value: float, at_s: float) -> list[int]:
        """Credit a press; returns the numbers of the tokens that it speaks of."""
        return self._do("press", uuid, value, at_s)

    def span(self, uuid: str, first: int, last: int, value: float) -> list[int]:
        """Label the tokens from `first` to `last`, both included; returns those that exist."""
        # Cut now: when the list is run again, later tokens are there.
        return self._do("span", uuid, max(first, 1), min(last, len(self.tokens)), value)

    def training(self, on: bool, at_s: float) -> None:
        """Switch learning from presses on or off."""
        self._do("training", None, on, at_s)

    def calibrate(self, delay: DelaySettings) -> None:
        """Assume another delay from now on."""
        self._do("delay", None, delay)

    def undo(self, uuid: str) -> list[int] | None:
        """Take a press or a span back; returns its tokens, or None where there is nothing to take back."""
        known = any(one == uuid for _, one, _ in self._operations)
        if not known or uuid in self._undone:
            return None
        self._undone.add(uuid)
        self.head.clear()
        self._begin()
        spoken_of: list[int] = []
        for name, one, arguments in self._operations:
            if one is not None and one in self._undone:
                if one == uuid:
                    spoken_of = self._spoken_of(name, arguments)
                continue
            self._run[name](*arguments)
        return spoken_of

    def _do(self, name: str, uuid: str | None, *arguments: Any) -> list[int]:
        self._operations.append((name, uuid, arguments))
        return self._run[name](*arguments)

    def _begin(self) -> None:
        self.delay, self.samples = self._first_delay, 0
        self._credit: CreditAssigner[Word] = CreditAssigner(make_delay(self.delay), self._loss)
        self._word: Word | None = None

    def _show(self, number: int, at_s: float) -> list[int]:
        self._word = Word([number])
        self._credit.show(self._word, at_s)
        return []

    def _join(self, number: int) -> list[int]:
        assert self._word is not None  # `show` looks
        self._word.tokens.append(number)
        return []

    def _end(self, at_s: float) -> list[int]:
        self._credit.end_episode(at_s)
        self._word = None
        return []

    def _tick(self, now_s: float) -> list[int]:
        self._learn(self._credit.collect(now_s))
        return []

    def _press(self, value: float, at_s: float) -> list[int]:
        spoken_of = self._spoken_of("press", (value, at_s))
        self._learn(self._credit.press(value, at_s))
        return spoken_of

    def _span(self, first: int, last: int, value: float) -> list[int]:
        numbers = self._spoken_of("span", (first, last, value))
        for number in numbers:
            self._label(number, value, 1.0)
        return numbers

    def _training(self, on: bool, at_s: float) -> list[int]:
        if on:
            self._credit.start_training(at_s)
        else:
            self._learn(self._credit.stop_training(at_s))
        return []

    def _delay(self, delay: DelaySettings) -> list[int]:
        self.delay = delay
        self._credit.use(make_delay(delay))
        return []

    def _spoken_of(self, name: str, arguments: tuple[Any, ...]) -> list[int]:
        if name == "span":
            first, last = arguments[:2]
            return list(range(first, last + 1))
        return [number for word in self._credit.reached(arguments[1]) for number in word.tokens]

    def _learn(self, samples: Iterable[Sample[Word]]) -> None:
        for sample in samples:
            self.samples += 1
            if isinstance(sample, Windowed):
                self._label_sum(sample)
                continue
            for number in sample.step.tokens:
                self._label(number, sample.label, sample.weight)

    def _label_sum(self, sample: Windowed[Word]) -> None:
        words = zip(sample.steps, sample.credits, strict=True)
        pairs = [(self.tokens[number - 1], share) for word, share in words for number in word.tokens]
        states, ids = [one.state for one, _ in pairs], [one.token for one, _ in pairs]
        self.head.learn_window(states, ids, [share for _, share in pairs], sample.label)

    def _label(self, number: int, label: float, weight: float) -> None:
        one = self.tokens[number - 1]
        self.head.learn(one.state, one.token, label, weight)
