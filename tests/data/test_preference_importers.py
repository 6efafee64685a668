"""Exports as the other tools write them, read by hand-made examples; and what is said to be left out."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from preference_world import imported, read, refused, write

from textrl.data.preferences.convert import convert
from textrl.data.preferences.importers.base import Options
from textrl.data.preferences.schema import canonical
from textrl.errors import UserError


def message(text: str, role: str, *replies: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"message_id": f"m-{text}", "text": text, "role": role, "replies": list(replies), **more}


def test_open_assistant_trees_are_ranked_at_every_depth(tmp_path: Path) -> None:
    follow_up = message(
        "And?",
        "prompter",
        message("More.", "assistant", rank=1, labels={"quality": {"value": 0.7, "count": 3}}),
        message("Less.", "assistant", rank=0),
        message("Gone.", "assistant", rank=2, deleted=True),
        message("Late.", "assistant"),
    )
    tree = {
        "message_tree_id": "t",
        "tree_state": "ready_for_export",
        "prompt": message(
            "Why?",
            "prompter",
            message("So.", "assistant", follow_up, rank=0),
            message("No.", "assistant", message("Oh", "prompter", message("Yes", "assistant")), rank=1),
            user_id="u1",
            lang="en",
            events={"ranking": [{"user_id": "u2", "ranked_message_ids": ["m-So.", "m-No."]}]},
        ),
    }
    found, result = imported(tmp_path, [tree])
    assert found == [
        {
            "prompt": "\n\nHuman: Why?\n\nAssistant:",
            "completions": [" So.", " No."],
            "ranks": [1, 2],
            "group": "m-Why?",
            "user_id": "u1",
            "lang": "en",
        },
        {
            "prompt": "\n\nHuman: Why?\n\nAssistant: So.\n\nHuman: And?\n\nAssistant:",
            "completions": [" More.", " Less."],
            "ranks": [2, 1],
            "group": "m-And?",
            "user_id": "u1",
        },
    ]
    assert result.notes == {
        "deleted replies left out": 1,
        "replies without a rank left out": 1,
        "replies left out: no second one with a rank to compare with": 1,
        "messages whose quality labels were left out": 1,
        "messages whose rankings by single people were left out": 1,
    }


def test_open_assistant_messages_one_by_one_are_put_together(tmp_path: Path) -> None:
    def flat(key: str, parent: str | None, role: str, rank: int | None) -> dict[str, Any]:
        return {
            "message_id": key,
            "parent_id": parent,
            "text": key,
            "role": role,
            "rank": rank,
            "user_id": key,
        }

    found, result = imported(
        tmp_path,
        [
            flat("worse", "root", "assistant", 1),
            flat("root", None, "prompter", None),
            flat("better", "root", "assistant", 0),
            flat("lost", "nowhere", "assistant", 0),
        ],
    )
    (ranking,) = found
    assert (ranking["completions"], ranking["ranks"]) == ([" worse", " better"], [2, 1])
    assert ranking["user_id"] == "root"
    assert result.notes == {"messages left out: the one they answer is not in the file": 1}


def task(data: Mapping[str, Any], *annotations: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": 1, "data": dict(data), "annotations": list(annotations), "predictions": []}


def by(who: Any, kind: str, value: Any, to: str = "x", name: str = "n") -> dict[str, Any]:
    result = {"id": "r", "from_name": name, "to_name": to, "type": kind, "value": value}
    return {"id": 5, "completed_by": who, "was_cancelled": False, "result": [result]}


ITEMS = {
    "prompt": "p",
    "items": [{"id": 1, "title": "t", "body": "a"}, {"id": 2, "body": "b"}, {"id": 3, "body": "c"}],
}


def test_label_studio_comparisons_and_rankers(tmp_path: Path) -> None:
    two = {"prompt": "p", "text1": "a", "text2": "b", "model": "m7", "user_id": "u"}
    cancelled = {**by(1, "pairwise", {"selected": "left"}), "was_cancelled": True}
    found, result = imported(
        tmp_path,
        [
            task(two, by(7, "pairwise", {"selected": "right"}, "text1,text2"), cancelled),
            task(ITEMS, by({"id": 2, "email": "a@b.c"}, "ranker", {"ranker": {"rank": ["3", "1"]}}, "items")),
            task(
                ITEMS, by(3, "ranker", {"ranker": ["2", "3", "1"]}, "rank"), {"completed_by": 4, "result": []}
            ),
            task(ITEMS, by(3, "rectangle", {"x": 1})),
            task(ITEMS),
        ],
    )
    assert found == [
        {"prompt": "p", "user_id": "u", "annotator": 7, "chosen": "b", "rejected": "a"},
        {"prompt": "p", "annotator": "a@b.c", "completions": ["c", "a"], "ranks": [1, 2]},
        {"prompt": "p", "annotator": 3, "completions": ["b", "c", "a"], "ranks": [1, 2, 3]},
    ]
    assert result.notes == {
        "cancelled annotations left out": 1,
        "data 'model' left out": 1,
        "items left out that were not ranked": 1,
        "annotations without a result left out": 1,
        "results of the type 'rectangle' left out": 1,
        "tasks without an annotation left out": 1,
    }


def test_label_studio_tables_have_nulls_where_tasks_have_nothing(tmp_path: Path) -> None:
    given = [
        {"prompt": "p", "completions": ["a", "b"], "ranks": [1, 2], "annotator": "ann"},
        {"prompt": "p", "completions": ["a", "b", "c"], "ranks": [1, 1, 2]},
        {"prompt": "p", "chosen": "a", "rejected": "b", "margin": 1.5},
        {"prompt": "p", "completion": "a", "rating": 3},
        {"prompt": "p", "completion": "a", "likert": 6, "flags": {"harm": True}},
        {"prompt": "p", "completion": "a", "label": False},
    ]
    table, out = tmp_path / "table.parquet", tmp_path / "out.jsonl"
    convert(write(tmp_path / "in.jsonl", given), table, to="label-studio")
    assert convert(table, out, to="textrl").origin == "label-studio"
    assert [canonical(one, "")[1] for one in read(out)] == given


def test_label_studio_buckets_need_an_order(tmp_path: Path) -> None:
    buckets = {"bad": ["2"], "good": ["1", "3"], "_": []}
    records = [task(ITEMS, by(1, "ranker", {"ranker": buckets}, "items"))]
    assert "--buckets bad,good" in refused(tmp_path, records)
    found, _ = imported(tmp_path, records, options=Options(buckets=("good", "bad")))
    assert (found[0]["completions"], found[0]["ranks"]) == (["a", "c", "b"], [1, 1, 2])
    (tmp_path / "out.jsonl").unlink()
    assert "'bad' is not among" in refused(tmp_path, records, options=Options(buckets=("good", "worst")))


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (task({"question_": "p"}, by(1, "pairwise", {"selected": "left"})), "no prompt; name it"),
        (task({"prompt": "p", "u": "a"}, by(1, "pairwise", {"selected": "left"})), "--columns left=NAME"),
        (
            task({"prompt": "p", "left": "a", "right": "b"}, by(1, "pairwise", {"selected": 3})),
            "'selected' is 3",
        ),
        (task(ITEMS, by(1, "ranker", {"ranker": {"rank": ["1", "9"]}})), "'9' is ranked and is no id"),
        (task({"prompt": "p"}, by(1, "rating", {"rating": 3})), "--columns completion=NAME"),
    ],
)
def test_label_studio_tasks_that_cannot_be_read_say_what_to_do(
    tmp_path: Path, record: dict[str, Any], says: str
) -> None:
    said = refused(tmp_path, [record])
    assert says in said
    assert f"{tmp_path / 'in.jsonl'}, line 1" in said


def test_label_studio_columns_by_other_names(tmp_path: Path) -> None:
    data = {"q": "p", "u": "a", "v": "b"}
    options = Options(rename={"prompt": "q", "left": "u", "right": "v"})
    found, _ = imported(tmp_path, [task(data, by(1, "pairwise", {"selected": "left"}))], options=options)
    assert found == [{"prompt": "p", "annotator": 1, "chosen": "a", "rejected": "b"}]


FIELDS = {"instruction": "p", "response-1": "a", "response-2": "b"}
RANKED = {"prompt": "p", "completions": ["b", "a"], "ranks": [1, 2], "annotator": "ann"}


@pytest.mark.parametrize(
    "record",
    [
        {
            "fields": FIELDS,
            "responses": {"rank": [{"value": ["response-2", "response-1"], "user_id": "ann"}]},
        },
        {
            "fields": FIELDS,
            "responses": [
                {
                    "user_id": "ann",
                    "status": "submitted",
                    "values": {
                        "rank": {
                            "value": [{"rank": 1, "value": "response-2"}, {"rank": 2, "value": "response-1"}]
                        }
                    },
                },
                {"user_id": "bob", "status": "discarded", "values": {"rank": {"value": ["response-1"]}}},
            ],
        },
        {
            **FIELDS,
            "id": "i",
            "rank.responses": [["response-2", "response-1"]],
            "rank.responses.users": ["ann"],
            "rank.responses.status": ["submitted"],
        },
        {
            **FIELDS,
            "external_id": None,
            "rank": [
                {
                    "user_id": "ann",
                    "status": "submitted",
                    "value": {"rank": [1, 2], "value": ["response-2", "response-1"]},
                }
            ],
        },
    ],
    ids=["version 2", "version 1", "flat", "hub"],
)
def test_argilla_rankings_in_all_their_shapes(tmp_path: Path, record: dict[str, Any]) -> None:
    found, result = imported(tmp_path, [record])
    assert result.origin == "argilla"
    assert found == [RANKED]


def test_argilla_choices_numbers_and_words(tmp_path: Path) -> None:
    def answered(fields: Mapping[str, Any], **answers: Any) -> dict[str, Any]:
        given = {name: [{"value": value, "user_id": "ann"}] for name, value in answers.items()}
        return {"fields": dict(fields), "metadata": {"group": "g"}, "responses": given}

    one = {"prompt": "p", "text": "a"}
    found, result = imported(
        tmp_path,
        [
            answered(FIELDS, better="response-2"),
            answered(FIELDS, better="tie"),
            answered(one, helpful=4, issues=["rude"]),
            answered(one, ok="no"),
            answered(one, why="because of this"),
        ],
    )
    common = {"prompt": "p", "group": "g", "annotator": "ann"}
    assert found == [
        {**common, "chosen": "b", "rejected": "a"},
        {**common, "chosen": "a", "rejected": "b", "tie": True},
        {**common, "completion": "a", "rating": 4, "flags": {"rude": True}},
        {**common, "completion": "a", "label": False},
    ]
    assert result.notes == {"answers to 'why' left out: no ranking, rating, label or flags": 1}
    (tmp_path / "out.jsonl").unlink()
    two = [answered(one, helpful=4, honest=2)]
    assert "--columns rating=" in refused(tmp_path, two)
    found, result = imported(tmp_path, two, options=Options(rename={"rating": "honest"}))
    assert found[0]["rating"] == 2
    assert result.notes["answers to 'helpful' left out: no ranking, rating, label or flags"] == 1


def test_a_session_store_is_read_in_order_without_what_was_taken_back(tmp_path: Path) -> None:
    store = tmp_path / "session.sqlite"
    connection = sqlite3.connect(store)
    connection.execute(
        "CREATE TABLE events (seq INTEGER PRIMARY KEY, uuid TEXT UNIQUE, session TEXT, annotator TEXT, "
        "t_client REAL, t_server REAL, env_step INTEGER, frame_id INTEGER, kind TEXT, "
        "payload TEXT CHECK (json_valid(payload)))"
    )
    ranking = {"prompt": "p", "completions": ["a", "b", "c"], "ranks": [2, 1, 2]}
    events = [
        ("u1", "ann", "ranked", ranking),
        ("u2", "ann", "ranked", {**ranking, "ranks": [1, 2, 3]}),
        ("u3", "ann", "pressed", {"key": "+"}),
        ("u4", "ann", "undone", {"uuid": "u2"}),
        ("u5", "bob", "rated", {"prompt": "p", "completion": "a", "likert": 6}),
    ]
    for uuid, who, kind, payload in events:
        connection.execute(
            "INSERT INTO events (uuid, annotator, kind, payload) VALUES (?, ?, ?, ?)",
            (uuid, who, kind, json.dumps(payload)),
        )
    connection.commit()
    connection.close()
    result = convert(store, tmp_path / "out.jsonl", to="textrl")
    assert read(tmp_path / "out.jsonl") == [
        {**ranking, "annotator": "ann"},
        {"prompt": "p", "completion": "a", "likert": 6, "annotator": "bob"},
    ]
    assert result.notes == {
        "events left out: they were taken back": 1,
        "events of the kind 'pressed' left out: they are no judgement of texts": 1,
    }
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE t (x)").connection.commit()
    with pytest.raises(UserError, match="no session store"):
        convert(tmp_path / "other.db", tmp_path / "o.jsonl", to="textrl")
