"""Settings of the rules."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Unit = Literal["tokens", "words", "characters"]


@dataclass(frozen=True, kw_only=True)
class LengthSettings:
    """Which lengths are wanted; give `target`, or `min`, `max` or both.

    Attributes:
        unit: What is counted: tokens (EOS is one of them), words between white space, or characters.
        target: The one length wanted.
        min: Shortest length that costs nothing.
        max: Longest length that costs nothing.
        scale: How many units too many or too few cost 1; the wanted length itself by default.
    """

    unit: Unit = "tokens"
    target: int | None = None
    min: int | None = None
    max: int | None = None
    scale: float | None = None

    def __post_init__(self) -> None:
        if self.target is None and self.min is None and self.max is None:
            raise ValueError("target, min and max are all missing; give target, or min, max or both")
        if self.target is not None and (self.min is not None or self.max is not None):
            raise ValueError("target is given together with min or max; give one or the other")
        for name in ("target", "min", "max"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name} is {value}; a length is 0 or more")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min is {self.min}, above max, which is {self.max}")
        if self.scale is not None and not self.scale > 0:
            raise ValueError(f"scale is {self.scale}; it must be above 0")


@dataclass(frozen=True, kw_only=True)
class RepetitionSettings:
    """What counts as a repetition.

    Attributes:
        n: Length of the n-grams.
        unit: Of what the n-grams are made.
    """

    n: int = 3
    unit: Unit = "words"

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n is {self.n}; an n-gram has at least 1 element")


@dataclass(frozen=True, kw_only=True)
class KeywordSettings:
    """What is looked for in the response; give `words` or `pattern`.

    Attributes:
        words: Words or phrases, taken literally.
        pattern: A regular expression (Python's `re`).
        mode: "presence" pays 1 if there is a match; "count" pays 1 per match.
        most: Largest count that is paid under "count"; no limit by default.
        whole_words: A word must not be part of a longer one; concerns `words` only.
        case_sensitive: Whether capitals matter.
    """

    words: tuple[str, ...] = ()
    pattern: str | None = None
    mode: Literal["presence", "count"] = "presence"
    most: int | None = None
    whole_words: bool = True
    case_sensitive: bool = False

    def __post_init__(self) -> None:
        if bool(self.words) == (self.pattern is not None):
            raise ValueError("words and pattern: give exactly one of the two")
        if any(not word.strip() for word in self.words):
            raise ValueError("words has an empty entry; remove it")
        if self.most is not None and self.most < 1:
            raise ValueError(f"most is {self.most}; it must be at least 1")
        if self.pattern is not None:
            try:
                re.compile(self.pattern)
            except re.error as error:
                raise ValueError(f"pattern {self.pattern!r} is not a regular expression: {error}") from error


@dataclass(frozen=True, kw_only=True)
class ExactAnswerSettings:
    """How a response is compared with the answer of its prompt.

    Attributes:
        column: Column of the prompt's record with the answer, or a list of accepted answers.
        extract: A regular expression that finds the answer in the response: its first group, or the
            whole match; the last match counts. Without it the whole response is the answer.
        ignore_case: "Paris" equals "paris".
        ignore_space: White space at the ends is dropped, and runs of it count as one space.
        ignore_punctuation: Punctuation is dropped, except inside numbers.
        numbers: Texts that are numbers are compared as numbers: "1,000.0" equals "1000".
        correct: Paid for a right answer.
        wrong: Paid for a wrong one, or for none.
    """

    column: str = "answer"
    extract: str | None = None
    ignore_case: bool = True
    ignore_space: bool = True
    ignore_punctuation: bool = False
    numbers: bool = True
    correct: float = 1.0
    wrong: float = 0.0

    def __post_init__(self) -> None:
        if self.extract is not None:
            try:
                re.compile(self.extract)
            except re.error as error:
                raise ValueError(f"extract {self.extract!r} is not a regular expression: {error}") from error


@dataclass(frozen=True, kw_only=True)
class CallableSettings:
    """Which function gives the reward.

    Attributes:
        function: "module:function", or "path/to/file.py:function"; called as
            ``function(prompt, response, record)`` with two strings and the prompt's record.
    """

    function: str

    def __post_init__(self) -> None:
        place, _, name = self.function.rpartition(":")
        if not place or not name.replace(".", "_").isidentifier():
            raise ValueError(f"function is {self.function!r}; write 'module:function' or 'file.py:function'")
