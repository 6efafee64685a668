"""Rewards for what a response says: keywords, patterns, exact answers."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import torch
from torch import Tensor

from textrl.errors import UserError, did_you_mean
from textrl.protocols import Batch
from textrl_rules.settings import ExactAnswerSettings, KeywordSettings

# Digits around a full stop or a comma make it part of a number: 3.5, 1,000.
_PUNCTUATION = re.compile(
    rf"(?<!\d)[{re.escape(string.punctuation)}]|[{re.escape(string.punctuation)}](?!\d)"
)
_GROUPED = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?")


class KeywordReward:
    """Pay for words, or for matches of a regular expression."""

    def __init__(self, settings: KeywordSettings) -> None:
        """Compile one expression for all words."""
        self.settings = settings
        self.pattern = re.compile(_expression(settings), 0 if settings.case_sensitive else re.IGNORECASE)

    def __call__(self, batch: Batch) -> Tensor:
        """Return (B,) float32: 0 or 1 under "presence", the number of matches under "count"."""
        assert batch.text is not None  # in the record's needs
        return torch.tensor([self._pay(text) for text in batch.text], dtype=torch.float32)

    def _pay(self, text: str) -> float:
        if self.settings.mode == "presence":
            return float(self.pattern.search(text) is not None)
        count = sum(1 for _ in self.pattern.finditer(text))
        return float(count if self.settings.most is None else min(count, self.settings.most))


def _expression(settings: KeywordSettings) -> str:
    if settings.pattern is not None:
        return settings.pattern
    # Longest first: of two words that begin alike, the longer one is the match.
    words = sorted(settings.words, key=len, reverse=True)
    either = "|".join(re.escape(word) for word in words)
    # Look-arounds instead of \b, which fails beside a word that ends in punctuation ("C++").
    return rf"(?<!\w)(?:{either})(?!\w)" if settings.whole_words else f"(?:{either})"


class ExactAnswerReward:
    """Pay for the answer that the prompt's record holds."""

    def __init__(self, settings: ExactAnswerSettings) -> None:
        """Compile the expression that finds an answer."""
        self.settings = settings
        self.extract = None if settings.extract is None else re.compile(settings.extract)

    def __call__(self, batch: Batch) -> Tensor:
        """Return (B,) float32: `correct` or `wrong`.

        Raises:
            UserError: When a record has no such column, or no answer in it.
        """
        assert batch.text is not None
        assert batch.records is not None  # in the record's needs
        rows = zip(batch.text, batch.records, strict=True)
        right = [self._is_right(text, record) for text, record in rows]
        pay = self.settings
        return torch.tensor([pay.correct if ok else pay.wrong for ok in right], dtype=torch.float32)

    def _is_right(self, text: str, record: Mapping[str, Any]) -> bool:
        accepted = self._accepted(record)
        found = self._found(text)
        return found is not None and normalise(found, self.settings) in accepted

    def _found(self, text: str) -> str | None:
        if self.extract is None:
            return text
        matches = list(self.extract.finditer(text))
        if not matches:
            return None
        last = matches[-1]
        return last.group(1) if self.extract.groups else last.group(0)

    def _accepted(self, record: Mapping[str, Any]) -> set[str | Decimal]:
        column = self.settings.column
        if column not in record:
            raise UserError(
                f"a prompt's record has no column '{column}'.{did_you_mean(column, map(str, record))}"
            )
        value = record[column]
        values = value if isinstance(value, list | tuple) else [value]
        if not values or any(not isinstance(item, str | int | float) for item in values):
            raise UserError(
                f"the column '{column}' holds {value!r}; it must hold a text, a number or a list of them."
            )
        return {normalise(str(item), self.settings) for item in values}


def normalise(text: str, settings: ExactAnswerSettings) -> str | Decimal:
    """Return what of `text` is compared: a number where it is one, else the text simplified."""
    if settings.numbers:
        number = _number(text.strip().rstrip(".") if settings.ignore_punctuation else text.strip())
        if number is not None:
            return number
    if settings.ignore_case:
        text = text.casefold()
    if settings.ignore_punctuation:
        text = _PUNCTUATION.sub(" ", text)
    if settings.ignore_space:
        text = " ".join(text.split())
    return text


def _number(text: str) -> Decimal | None:
    if _GROUPED.fullmatch(text):
        text = text.replace(",", "")
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    # "Infinity" and "nan" are words here; Decimal would also take underscores between digits.
    return number if number.is_finite() and "_" not in text else None
