"""Which words a reader sees, and with which token each of them is whole."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from text_people_world import encode, tiny

from textrl.tamer.text.reading import WORD, pieces_of, whole_words
from textrl.tamer.text.words import continues


def seen(pieces: list[str]) -> list[list[str]]:
    return [[word.text for word in words] for words in whole_words(pieces)]


def test_a_word_is_whole_with_the_token_that_shows_its_last_letter() -> None:
    assert seen([" won", "der", "ful", ",", " Not", " bad", "."]) == [
        [],
        [],
        ["wonderful"],
        [],
        ["Not"],
        ["bad"],
        [],
    ]
    assert seen(["good", " ", "", "bad"]) == [["good"], [], [], ["bad"]]


def test_apostrophes_and_hyphens_inside_words() -> None:
    assert seen([" It", "'s", " 'fine", "' --", " well", "-", "made-"]) == [
        [],
        ["It's"],
        ["fine"],
        [],
        [],
        [],
        ["well-made"],
    ]


def test_one_token_may_bring_several_words() -> None:
    (words,) = whole_words(["so bad, so good"])
    assert [(word.text, word.before) for word in words] == [
        ("so", ""),
        ("bad", "so "),
        ("so", "so bad, "),
        ("good", "so bad, so "),
    ]


def test_a_text_that_breaks_off_ends_its_last_word() -> None:
    assert seen([" a", " won", "der"]) == [["a"], [], ["wonder"]]


def test_the_token_that_ends_a_text_shows_nothing() -> None:
    ids, tokenizer = encode(" a bad"), tiny()[1]
    pieces = pieces_of(tokenizer, [*ids, tokenizer.eos_token_id])
    assert pieces == [*pieces_of(tokenizer, ids), ""]
    assert seen(pieces)[-2:] == [["bad"], []]


def test_without_a_tokenizer_numbers_are_words() -> None:
    assert seen(pieces_of(None, [12, 3])) == [["12"], ["3"]]


@pytest.mark.parametrize(
    "text", ["A wonderful film, wasn't it?", "GREAT GREAT\n\nbad", "Größe – naïve café 良い"]
)
def test_the_words_of_a_byte_level_tokenizer(text: str) -> None:
    pieces = pieces_of(tiny()[1], encode(text))
    assert "".join(pieces) == text
    assert [word for words in seen(pieces) for word in words] == WORD.findall(text)


@settings(max_examples=30, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=30))
def test_every_word_is_met_once_where_its_last_letter_is(text: str) -> None:
    pieces = pieces_of(tiny()[1], encode(text)) if text else []
    whole = "".join(pieces)
    shown = ""
    for place, words in enumerate(whole_words(pieces)):
        before, shown = shown, shown + pieces[place]
        for word in words:
            end = len(word.before) + len(word.text)
            assert len(before) < end <= len(shown)
            assert whole.startswith(word.before + word.text)
            # Where the next token goes on with the word, the word was not whole.
            if end == len(shown) and place + 1 < len(pieces) and pieces[place + 1]:
                assert not (continues(shown, pieces[place + 1]) and pieces[place + 1][0].isalnum())
    assert [word.text for words in whole_words(pieces) for word in words] == WORD.findall(whole)
