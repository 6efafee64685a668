"""The canonical forms of record: which form a record has, what is refused, and messages as text."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textrl.data.preferences.dialogue import (
    completion_messages,
    completion_text,
    messages_of,
    prompt_text,
    split_pair,
)
from textrl.data.preferences.schema import FORMS, canonical, kind_of, ranks_of
from textrl.errors import UserError

GOOD: dict[str, dict[str, Any]] = {
    "pair": {"prompt": "p", "chosen": "a", "rejected": "b", "margin": 0.5, "annotator": 3},
    "ranking": {"prompt": "p", "completions": ["a", "b", "c"], "ranks": [1, 2.5, 2.5], "user_id": "u"},
    "ranking_row": {"group": 7, "prompt": "p", "completion": "a", "rank": 1},
    "rating": {"prompt": "p", "completion": "a", "ratings": [1, -2.5], "annotators": ["x", 2], "likert": 7},
    "label": {"prompt": "p", "completion": "a", "label": False},
    "demonstration": {"prompt": "", "completion": "a", "source": "here"},
    "prompt": {"prompt": "p", "split": "train"},
    "dialogue": {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]},
}


def test_there_is_an_example_of_every_form() -> None:
    assert set(GOOD) == set(FORMS)


@pytest.mark.parametrize("form", FORMS)
def test_a_good_record_is_left_as_it_is_and_null_columns_go(form: str) -> None:
    record = GOOD[form]
    assert kind_of(record) == form
    given_with_nulls = {**record, "tie": None, "rank": record.get("rank"), "domain": "films"}
    assert canonical(given_with_nulls, "here") == (form, {**record, "domain": "films"})


PAIR = {"prompt": "p", "chosen": "a", "rejected": "b"}
RATING = {"prompt": "p", "completion": "a"}


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"prompt": "p", "completion": "a", "rank": 1}, "no 'group'"),
        ({**PAIR, "margin": -1}, "'margin' is -1"),
        ({**PAIR, "margin": 1, "tie": True}, "'margin' is 1"),
        ({**PAIR, "margin": "big"}, "finite number"),
        ({**PAIR, "user_id": 1.5}, "'user_id' is 1.5"),
        ({**PAIR, "split": 3}, "'split' is 3"),
        ({**PAIR, "chosen": "half \ud83d"}, r"half of a surrogate pair (\ud83d)"),
        ({**RATING, "rating": True}, "'rating' is True"),
        ({**RATING, "rating": float("inf")}, "'rating' is inf"),
        ({**RATING, "ratings": []}, "'ratings' is []"),
        ({**RATING, "ratings": [1], "annotators": ["a", "b"]}, "'annotators'"),
        ({**RATING, "likert": 8}, "'likert' is 8"),
        ({**RATING, "likert": 3.5}, "'likert' is 3.5"),
        ({**RATING, "flags": {"rude": 1}}, "'flags'"),
        ({**RATING, "label": "yes"}, "'label' is 'yes'; write true or false"),
        ({"prompt": "p", "completions": ["a", "b"]}, "'ranks' (or 'ratings')"),
        ({"prompt": "p", "completions": ["a", "b"], "ratings": [1]}, "1 ratings"),
        ({"prompt": [{"role": "tool", "content": "x"}]}, "the role 'tool'"),
        ({"prompt": [{"role": "user"}]}, "message 1"),
        ({"prompt": [{"role": "assistant", "content": "x"}]}, "a prompt ends before it"),
        ({"messages": []}, "the list of messages is empty"),
        ({"text": "a", "mean": 1}, "has the columns mean, text"),
        ({"prompt_text": "a", "complettion": "b"}, "Did you mean 'completion'?"),
        ({}, "(none)"),
    ],
)
def test_a_bad_record_is_refused_in_one_sentence_with_its_place(record: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as caught:
        canonical(record, "f.jsonl, line 2")
    assert str(caught.value).startswith("f.jsonl, line 2")
    assert says in str(caught.value)


def test_messages_become_a_dialogue() -> None:
    question = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    record = {
        "prompt": question,
        "chosen": [{"role": "assistant", "content": "So."}],
        "rejected": "No.",
    }
    assert canonical(record, "here")[1] == {
        "prompt": "\n\nSystem: Be brief.\n\nHuman: Why?\n\nAssistant:",
        "chosen": " So.",
        "rejected": "No.",
    }


def test_a_pair_of_conversations_without_a_prompt_is_parted_where_they_part() -> None:
    talk = [{"role": "user", "content": "Why?"}]
    record = {c: [*talk, {"role": "assistant", "content": c}] for c in ("chosen", "rejected")}
    wanted = {"prompt": "\n\nHuman: Why?\n\nAssistant:", "chosen": " chosen", "rejected": " rejected"}
    assert canonical(record, "here")[1] == wanted
    texts = {
        "chosen": "\n\nHuman: Why?\n\nAssistant: chosen",
        "rejected": "\n\nHuman: Why?\n\nAssistant: rejected",
    }
    assert canonical(texts, "here")[1] == wanted


def test_behind_a_plain_prompt_a_message_is_its_content() -> None:
    record = {"prompt": "2 + 2 =", "completion": [{"role": "assistant", "content": "4"}]}
    assert canonical(record, "here")[1] == {"prompt": "2 + 2 =", "completion": "4"}


def test_the_prompt_of_two_dialogues_ends_with_the_last_common_turn() -> None:
    start = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"
    assert split_pair(start + " yes", start + " yesterday") == (start, " yes", " yesterday")
    assert split_pair("\n\nHuman: a\n\nAssistant: b", "\n\nHuman: x\n\nAssistant: b") is None
    same = start + " yes"
    assert split_pair(same, same) == (start, " yes", " yes")


CONTENT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@given(st.text(max_size=30))
def test_any_text_is_some_messages_and_a_dialogue_comes_back(text: str) -> None:
    messages = messages_of(text)
    again = prompt_text(messages, "here")
    assert again == text or messages == [{"role": "user", "content": text}]


@given(st.lists(st.tuples(CONTENT, CONTENT), max_size=3), CONTENT, CONTENT)
def test_messages_to_text_and_back(turns: list[tuple[str, str]], question: str, answer: str) -> None:
    said = [entry for turn in turns for entry in turn]
    if any("\n\n" in text and ": " in text for text in (*said, question, answer)):
        return  # a content that holds a mark reads as a turn, as the module says
    messages = []
    for asked, replied in turns:
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": replied}]
    messages.append({"role": "user", "content": question})
    assert messages_of(prompt_text(messages, "here")) == messages
    reply = [{"role": "assistant", "content": answer}]
    assert completion_messages(completion_text(reply, "here")) == reply


@given(st.lists(st.floats(-4, 4), min_size=1))
def test_ranks_of_ratings_keep_their_order(ratings: list[float]) -> None:
    ranks = ranks_of(ratings)
    assert min(ranks) == 1
    for i, first in enumerate(ratings):
        for j, second in enumerate(ratings):
            assert (ranks[i] < ranks[j]) == (first > second)
