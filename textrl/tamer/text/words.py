"""The text of tokens as they come, and which of them continue a word.

A token of a byte-level vocabulary may end in the middle of a character; its text is held back until the
character is whole.
"""

from __future__ import annotations

from typing import Any

_HALF = "�"  # what decoders write for bytes that are no character yet
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
        self.text = ""

    def add(self, token: int, *, last: bool = False) -> str:
        """Return the text that a token adds, "" while a character is incomplete.

        Args:
            token: Its id.
            last: Whether nothing follows: what is held back then comes as it is.
        """
        self._ids.append(token)
        whole = self._decode(self._ids[self._start :])
        if whole.endswith(_HALF) and not last:
            return ""
        piece = whole[len(self._told) :]
        self.text += piece
        self._told = whole
        if len(self._ids) - self._start > 2 * _BEHIND:
            self._start = len(self._ids) - _BEHIND
            self._told = self._decode(self._ids[self._start :])
        return piece

    def flush(self) -> str:
        """Return what is held back, as it is: the text is over."""
        piece = self._decode(self._ids[self._start :])[len(self._told) :] if self._ids else ""
        self.text += piece
        self._told += piece
        return piece

    def _decode(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text


def continues(before: str, piece: str) -> bool:
    """Return whether a piece goes on with the word that the text before it ends in.

    Letters, digits, apostrophes and hyphens make words; everything else stands alone.
    """
    return bool(before and piece) and _inner(before[-1]) and _inner(piece[0])


def _inner(letter: str) -> bool:
    return letter.isalnum() or letter in "'’-"
