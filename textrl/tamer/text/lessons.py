"""What H learns at once, and which of it H learns again.

A reader gives few samples, and one gradient step on each leaves most of them half learnt. What H has learnt
is therefore kept, up to a capacity, and with each new lesson some earlier ones, drawn with replacement, are
learnt again, as in Deep TAMER (Warnell, Waytowich, Lawhern and Stone 2018).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Key of the draws (compare `textrl.streams`); the third number is that of the lesson.
_DRAWS = 0x7E88
#: A sum of credits up to this is 1, but for rounding.
_ROUNDING = 1 + 1e-6


@dataclass(frozen=True)
class Lesson:
    """What H learns at once: a label for each of some tokens, or one for their credited sum.

    Attributes:
        numbers: The tokens, as `textrl.tamer.text.teaching.Teaching` counts them.
        shares: Weight of each token's squared error; in a window its part of the sum, all parts
            together 1 at most.
        label: What H should be there.
        window: Whether the label is that of the sum.
    """

    numbers: tuple[int, ...]
    shares: tuple[float, ...]
    label: float
    window: bool = False


@dataclass(frozen=True)
class Replay:
    """How often H learns an earlier lesson again.

    Attributes:
        count: With each new one; 0 never.
        capacity: Lessons that are kept; a new one takes the place of the oldest.
        seed: Of the draws.
    """

    count: int = 0
    capacity: int = 2000
    seed: int = 0


class Lessons:
    """The lessons that H may learn again.

    Attributes:
        kept: The latest ones, in no order.
        learnt: New lessons so far.
    """

    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self.kept: list[Lesson] = []
        self.learnt = 0

    def drawn(self) -> list[Lesson]:
        """Return the earlier lessons to learn with the one that comes."""
        if not self._replay.count or not self.kept:
            return []
        # A generator of its own for each lesson: what is drawn depends on nothing but its number.
        draws = np.random.default_rng([self._replay.seed, _DRAWS, self.learnt])
        return [self.kept[place] for place in draws.integers(len(self.kept), size=self._replay.count)]

    def keep(self, lesson: Lesson) -> None:
        """Remember a lesson, in place of the oldest where there is no room."""
        if not self._replay.count:
            return
        if len(self.kept) < self._replay.capacity:
            self.kept.append(lesson)
        else:
            self.kept[self.learnt % self._replay.capacity] = lesson
        self.learnt += 1

    def state_dict(self, new: Mapping[int, int]) -> dict[str, Any]:
        """Return JSON data; `new` numbers the tokens anew."""
        kept = [
            [[new[number] for number in one.numbers], list(one.shares), one.label, one.window]
            for one in self.kept
        ]
        return {"learnt": self.learnt, "kept": kept}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], replay: Replay) -> Lessons:
        """Return what `state_dict` described; what is beyond the capacity now is dropped."""
        made = cls(replay)
        made.learnt = int(state["learnt"])
        made.kept = [
            Lesson(tuple(numbers), _parts(shares, window=window), float(label), bool(window))
            for numbers, shares, label, window in state["kept"][: replay.capacity if replay.count else 0]
        ]
        return made


def _parts(shares: list[float], *, window: bool) -> tuple[float, ...]:
    """Return a saved lesson's shares; those of a window scaled where they add up to more than 1.

    States that were saved when each token of a word had the whole of its credit hold such shares, which H
    could not learn again without diverging.
    """
    total = sum(shares) if window else 0.0
    return tuple(share / total for share in shares) if total > _ROUNDING else tuple(shares)
