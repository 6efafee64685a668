"""The text of tokens as they come, and which of them make up a word.

A token of a byte-level vocabulary, or a byte that a vocabulary falls back to, may end in the middle of a
character; its text is held back until the character is whole. Tokens that wait for it appear together with
the one that completes it. A token without a text of its own, such as the end of a text, shows nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: What decoders write for bytes that are no character yet.
HALF = "�"
#: Tokens decoded together with a new one, so that a space or half a character before it counts.
_BEHIND = 8


class Pieces:
    """Turns the tokens of one text into pieces of text, one for each.

    Attributes:
        text: All pieces so far.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer, self._ids = tokenizer, list[int]()
        self._start = 0  # the first of the tokens that are decoded together
        self._told = ""  # what their pieces were
        self._whole: list[int] = []  # numbers of tokens, from there on, at which no character was incomplete
        self.text = ""

    def add(self, token: int, *, last: bool = False) -> str:
        """Return the text that a token adds, "" while a character is incomplete.

        Args:
            token: Its id.
            last: Whether nothing follows: what is held back then comes as it is.
        """
        self._ids.append(token)
        whole = self._decode(self._ids[self._start :])
        if whole.endswith(HALF) and not last:
            return ""
        piece = whole[len(self._told) :]
        self.text += piece
        self._told = whole
        self._whole.append(len(self._ids))
        if len(self._ids) - self._start > 2 * _BEHIND:
            self._move()
        return piece

    def flush(self) -> str:
        """Return what is held back, as it is: the text is over."""
        piece = self._decode(self._ids[self._start :])[len(self._told) :] if self._ids else ""
        self.text += piece
        self._told += piece
        return piece

    def _move(self) -> None:
        """Leave tokens behind, up to the end of a character.

        A decoder that falls back to bytes writes a row of them as no character at all where the row begins
        in the middle of one.
        """
        ends = [end for end in self._whole if end <= len(self._ids) - _BEHIND]
        if ends and ends[-1] > self._start:
            self._start = ends[-1]
            self._whole = self._whole[len(ends) :]
            self._told = self._decode(self._ids[self._start :])

    def _decode(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text


@dataclass(frozen=True)
class Appearance:
    """What a token brings to the screen.

    Attributes:
        piece: The text that appears with it: its own, and that of the tokens that waited; "" where nothing
            appears yet.
        joins: Whether the piece goes on with the word before it.
        own: Whether the token has text of its own, now or later.
    """

    piece: str
    joins: bool
    own: bool


class Words:
    """Says of the tokens of one text, as they come, which appear together and which go on with a word."""

    def __init__(self, tokenizer: Any) -> None:
        """Begin before the first token.

        Args:
            tokenizer: The model's.
        """
        self._tokenizer, self._pieces = tokenizer, Pieces(tokenizer)

    @property
    def text(self) -> str:
        """All that has appeared so far."""
        return self._pieces.text

    def add(self, token: int, *, last: bool = False, silent: bool | None = None) -> Appearance:
        """Take the next token.

        Args:
            token: Its id.
            last: Whether nothing follows: what is held back then appears as it is.
            silent: Whether it has no text of its own; null asks the tokenizer.
        """
        if silent is None:
            silent = is_silent(self._tokenizer, token)
        before = self.text
        if silent and not last:
            return Appearance("", joins=False, own=False)
        piece = self._pieces.flush() if silent else self._pieces.add(token, last=last)
        return Appearance(piece, joins=continues(before, piece), own=not silent)


def is_silent(tokenizer: Any, token: int) -> bool:
    """Return whether a token is special and never shown, such as the end of a text."""
    # Some tokens have no text alone and are not special: a space that a decoder strips at the beginning.
    return not tokenizer.decode([token], skip_special_tokens=True) and bool(
        tokenizer.decode([token], skip_special_tokens=False)
    )


def continues(before: str, piece: str) -> bool:
    """Return whether a piece goes on with the word that the text before it ends in.

    Letters, digits, apostrophes and hyphens make words; everything else stands alone. Half a character, with
    which a text breaks off, belongs to the word that it follows.
    """
    if not before or not piece:
        return False
    return _inner(before[-1]) and (_inner(piece[0]) or not piece.strip(HALF))


def _inner(letter: str) -> bool:
    return letter.isalnum() or letter in "'’-"
