"""Surface measures of generated text, on which a collapse into a few praising phrases shows.

Words are runs of letters and digits in lower case; punctuation does not count.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")


def words(text: str) -> list[str]:
    """Return the words of a text in lower case."""
    return _WORD.findall(text.lower())


def _ngrams(tokens: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1)]


def distinct_n(texts: Iterable[str], n: int) -> float:
    """Share of n-grams of words, over all texts together, that are different from each other.

    It falls as more text is counted, so two sets compare only at the same number of texts. 0 where
    there is no n-gram. Source: Li et al., "A Diversity-Promoting Objective Function for Neural
    Conversation Models", NAACL 2016.
    """
    grams = [gram for text in texts for gram in _ngrams(words(text), n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def repetition(texts: Sequence[str], n: int = 2) -> float:
    """Mean share of a text's n-grams that occurred earlier in the same text.

    Texts shorter than n words count as 0. 0 where there is no text.
    """
    shares = []
    for text in texts:
        grams = _ngrams(words(text), n)
        shares.append(1 - len(set(grams)) / len(grams) if grams else 0.0)
    return sum(shares) / len(shares) if shares else 0.0


def mean_words(texts: Sequence[str]) -> float:
    """Mean number of words."""
    return sum(len(words(text)) for text in texts) / len(texts) if texts else 0.0


def mean_tokens(texts: Sequence[str], tokenizer: Any) -> float:
    """Mean number of the tokenizer's tokens, without special ones."""
    if not texts:
        return 0.0
    rows = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return sum(map(len, rows)) / len(rows)


def common_phrases(texts: Sequence[str], *, n: int = 3, top: int = 5) -> list[tuple[str, float]]:
    """Return the phrases of `n` words that stand in most texts, with the share of texts they stand in.

    Ties are ordered by the alphabet, so the answer is the same every time.
    """
    counts: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        counts.update(set(_ngrams(words(text), n)))
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:top]
    return [(" ".join(gram), count / len(texts)) for gram, count in ranked]
