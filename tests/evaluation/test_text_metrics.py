from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerFast

from textrl.evaluation.text_metrics import (
    common_phrases,
    distinct_n,
    mean_tokens,
    mean_words,
    repetition,
    words,
)


def test_words_are_lower_case_without_punctuation() -> None:
    assert words("It's a *Fine* café -- re-run, 2 times!") == [
        *("it's", "a", "fine", "café"),
        *("re", "run", "2", "times"),
    ]


def test_distinct_counts_over_all_texts_by_hand() -> None:
    # "a b a b": 4 words, 2 different; pairs ab, ba, ab. "a b": pair ab.
    assert distinct_n(["a b a b", "a b"], 1) == pytest.approx(2 / 6)
    assert distinct_n(["a b a b", "a b"], 2) == pytest.approx(2 / 4)
    assert distinct_n(["a", ""], 2) == 0.0


def test_pairs_do_not_cross_from_one_text_to_the_next() -> None:
    assert distinct_n(["a b", "c d"], 2) == 1.0
    assert distinct_n(["a", "b"], 2) == 0.0


def test_repetition_is_a_mean_over_texts_by_hand() -> None:
    # Pairs of "so so so so": three, one different -> 2/3. "a b c": none repeated. "a": no pair.
    assert repetition(["so so so so", "a b c", "a"]) == pytest.approx((2 / 3) / 3)
    assert repetition(["a b c a b c"], n=3) == pytest.approx(1 / 4)
    assert repetition([]) == 0.0


def test_a_collapse_into_one_phrase_shows_in_distinct_and_phrases() -> None:
    varied = [f"film {i} has plot {i} and mood {i}" for i in range(20)]
    collapsed = ["a truly great film"] * 20
    assert distinct_n(collapsed, 2) < 0.1 < distinct_n(varied, 2)
    assert common_phrases(collapsed, top=1) == [("a truly great", 1.0)]


def test_phrases_count_texts_and_break_ties_by_the_alphabet() -> None:
    texts = ["b c d b c d", "b c d", "a b c"]
    assert common_phrases(texts, top=2) == [("b c d", pytest.approx(2 / 3)), ("a b c", pytest.approx(1 / 3))]
    assert common_phrases(["a b"], n=3) == []


def test_lengths(letters: PreTrainedTokenizerFast) -> None:
    assert mean_words(["one two", "three", ""]) == 1.0
    assert mean_tokens(["abc", "a"], letters) == 2.0
    assert mean_words([]) == mean_tokens([], letters) == 0.0
