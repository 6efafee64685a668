"""What presses and spans teach H on text, and how any of them is taken back.

A word is credited as a whole, from the appearance of its first token to that of the next word. Each of its
tokens is taught with the word's credit; in a window, which is a sum over words, its tokens divide the credit,
so that H of a word is the mean over them. To take something back, H is made anew from everything else: all
that reached H is kept as a list of short operations, and the list is run again without what was undone. So an
undo leaves H bit for bit as if the press had never been.

With replay, some earlier lessons are learnt again with each new one; see `textrl.tamer.text.lessons`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from textrl.settings import build, to_plain
from textrl.tamer.credit import CreditAssigner, Loss, Sample, Windowed
from textrl.tamer.delays import make_delay
from textrl.tamer.settings import DelaySettings
from textrl.tamer.text.head import State, TokenHead
from textrl.tamer.text.lessons import Lesson, Lessons, Replay


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
        tokens: The tokens written in the session; number n is ``tokens[n - 1]``.
        waiting: Numbers of the tokens whose text is still to come: they belong to no word yet, and the
            state keeps them.
        delay: What credit assignment assumes now.
        samples: Labels that H has learnt.
    """

    def __init__(
        self, head: TokenHead, delay: DelaySettings, loss: Loss, replay: Replay | None = None
    ) -> None:
        """Begin with H as it is.

        Args:
            head: H; it is cleared where something is taken back, or set to what `load_state_dict` gave.
            delay: What credit assignment assumes first.
            loss: As in TAMER.
            replay: None replays nothing.
        """
        self.head, self.tokens = head, list[Token]()
        self.waiting: list[int] = []
        self._first_delay, self._loss, self._replay = delay, loss, replay or Replay()
        self._floor: Mapping[str, Any] | None = None  # the state that the list of operations begins at
        self._operations: list[tuple[str, str | None, tuple[Any, ...]]] = []
        self._undone: set[str] = set()
        self._word: Word | None = None
        self._start()
        if head.learnt:
            self._floor = self.state_dict()
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

    @property
    def is_training(self) -> bool:
        """Whether presses count."""
        return self._credit.training

    def show(self, number: int, at_s: float, *, joins: bool, waited: Sequence[int] = ()) -> None:
        """A token appeared.

        Args:
            number: Its number.
            at_s: When, seconds.
            joins: Whether it goes on with the word on screen.
            waited: Numbers of earlier tokens whose text appeared with it.
        """
        if joins and self._word is not None:
            self._do("join", None, (*waited, number))
        else:
            self._do("show", None, (*waited, number), at_s)

    def end(self, at_s: float) -> None:
        """The text is over: its last word leaves the screen at `at_s`, which may be to come."""
        self.waiting.clear()  # their text never appeared
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
        self._begin()
        spoken_of: list[int] = []
        for name, one, arguments in self._operations:
            if one is not None and one in self._undone:
                if one == uuid:
                    spoken_of = self._spoken_of(name, arguments)
                continue
            self._run[name](*arguments)
        return spoken_of

    def settle(self) -> None:
        """Forget how H came to be: nothing up to now can be taken back, and tokens out of reach are dropped.

        The tokens that are left have new numbers.
        """
        self.load_state_dict(self.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """Return numpy arrays and JSON data: H, the words within reach, and the lessons that are kept.

        Tokens that none of these refers to are left out, and the others are numbered anew.
        """
        words: list[Word] = []
        self._credit.state_dict(words.append)
        on_screen = [] if self._word is None else self._word.tokens
        of_words = [number for word in words for number in word.tokens]
        of_lessons = [number for lesson in self._lessons.kept for number in lesson.numbers]
        needed = sorted({*of_words, *of_lessons, *on_screen, *self.waiting})
        new = {number: place for place, number in enumerate(needed, 1)}
        states = [self.tokens[number - 1].state for number in needed]
        return {
            "head": self.head.state_dict(),
            "states": np.stack(states) if states else np.zeros((0, self.head.width), np.float32),
            "tokens": [int(self.tokens[number - 1].token) for number in needed],
            "credit": self._credit.state_dict(lambda word: [new[number] for number in word.tokens]),
            "on_screen": [new[number] for number in on_screen],
            "waiting": [new[number] for number in self.waiting],
            "delay": to_plain(self.delay),
            "samples": self.samples,
            "lessons": self._lessons.state_dict(new),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`; what came before it cannot be taken back.

        Raises:
            UserError: When its H was learnt on another model; nothing has changed then.
        """
        self._restore(state)
        rows = zip(np.array(state["states"], np.float32), state["tokens"], strict=True)
        self.tokens[:] = [Token(row, int(token)) for row, token in rows]
        # Older states know of none.
        self.waiting[:] = [int(number) for number in state.get("waiting", ())]
        self._floor = {**state, "head": self.head.state_dict()}
        self._operations.clear()
        self._undone.clear()

    def _restore(self, state: Mapping[str, Any]) -> None:
        """Be as in a state, but for the tokens."""
        self.head.load_state_dict(state["head"])
        self.delay = build(DelaySettings, state["delay"], where=lambda key: "The saved delay")
        self._credit = self._assigner()
        words: dict[tuple[int, ...], Word] = {}

        def word_of(numbers: list[int]) -> Word:
            return words.setdefault(tuple(numbers), Word(list(numbers)))

        self._credit.load_state_dict(state["credit"], word_of)
        # A word on screen may be out of reach, where training was switched off meanwhile.
        self._word = word_of(state["on_screen"]) if state["on_screen"] else None
        self.samples = int(state["samples"])
        self._lessons = Lessons.from_state(state["lessons"], self._replay)

    def _do(self, name: str, uuid: str | None, *arguments: Any) -> list[int]:
        self._operations.append((name, uuid, arguments))
        return self._run[name](*arguments)

    def _begin(self) -> None:
        """Be as before the first operation."""
        self._start()
        if self._floor is None:
            self.head.clear()
        else:
            self._restore(self._floor)

    def _start(self) -> None:
        self.delay, self.samples = self._first_delay, 0
        self._credit, self._word = self._assigner(), None
        self._lessons = Lessons(self._replay)

    def _assigner(self) -> CreditAssigner[Word]:
        return CreditAssigner(make_delay(self.delay), self._loss)

    def _show(self, numbers: tuple[int, ...], at_s: float) -> list[int]:
        self._word = Word(list(numbers))
        self._credit.show(self._word, at_s)
        return []

    def _join(self, numbers: tuple[int, ...]) -> list[int]:
        assert self._word is not None  # `show` looks
        self._word.tokens += numbers
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
        if numbers:
            self._study(Lesson(tuple(numbers), (1.0,) * len(numbers), value))
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
                credited = zip(sample.steps, sample.credits, strict=True)
                # Divided, the parts of the sum add up to 1 at most, however many tokens there are: its
                # gradient is then no longer than a single token's, and no step size below 1 overshoots.
                words = [(word.tokens, share / len(word.tokens)) for word, share in credited]
                pairs = [(number, part) for tokens, part in words for number in tokens]
                numbers, shares = zip(*pairs, strict=True)
                self._study(Lesson(numbers, shares, sample.label, window=True))
            else:
                numbers = tuple(sample.step.tokens)
                self._study(Lesson(numbers, (sample.weight,) * len(numbers), sample.label))

    def _study(self, lesson: Lesson) -> None:
        """Learn a new lesson, and some of the earlier ones again."""
        self._teach(lesson)
        for earlier in self._lessons.drawn():
            self._teach(earlier)
        self._lessons.keep(lesson)

    def _teach(self, lesson: Lesson) -> None:
        tokens = [self.tokens[number - 1] for number in lesson.numbers]
        if lesson.window:
            states, ids = [one.state for one in tokens], [one.token for one in tokens]
            self.head.learn_window(states, ids, lesson.shares, lesson.label)
            return
        for one, share in zip(tokens, lesson.shares, strict=True):
            self.head.learn(one.state, one.token, lesson.label, share)
