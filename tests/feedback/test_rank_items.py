"""What is ranked: read from files, or written by a model before the session begins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from textrl.errors import UserError
from textrl.feedback.rank import Item, rank_config, read_items
from textrl.feedback.rank.items import items_of, keyed


def _file(tmp_path: Path, *records: Any) -> Path:
    path = tmp_path / "items.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_items_are_read_with_their_ids_or_their_numbers(tmp_path: Path) -> None:
    path = _file(
        tmp_path,
        {"prompt": "p", "completions": ["a", "b", "c"]},
        {"item": "x7", "completions": ["a", "b"]},
        {"prompt": "q", "chosen": "good", "rejected": "bad"},
        {"prompt": "r", "completions": list("abcdefghi"), "ranks": list(range(9))},
    )
    assert read_items(path) == [
        Item("1", "p", ("a", "b", "c")),
        Item("x7", "", ("a", "b")),
        Item("3", "q", ("good", "bad")),
        Item("4", "r", tuple("abcdefghi")),
    ]
    assert len(read_items(path, most=2)) == 2


def test_messages_become_text(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "Hello?"}]
    answers = [[{"role": "assistant", "content": text}] for text in ("Hi.", "No.")]
    (item,) = read_items(_file(tmp_path, {"prompt": talk, "completions": answers}))
    assert "Hello?" in item.prompt
    assert [text.strip() for text in item.completions] == ["Hi.", "No."]


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"prompt": "p"}, "line 2 has no 'completions'; give a list of 2 to 9"),
        ({"prompt": "p", "completions": ["a"]}, "line 2 has 1 completions"),
        ({"prompt": "p", "completions": list("abcdefghij")}, "line 2 has 10 completions"),
        ({"prompt": "p", "completions": ["a", "b", "a"]}, "completions 1 and 3 are the same"),
        ({"prompt": "p", "completions": ["a", 3]}, "'completions' is 3"),
        ({"prompt": "p", "completions": ["a", "b\0"]}, "NUL"),
        ({"prompt": 3, "completions": ["a", "b"]}, "'prompt' is 3"),
        ({"prompt": "p", "completions": ["a", "b"], "item": "1"}, "the id '1' is that of .*line 1"),
        ({"prompt": "p", "completions": ["a", "b"], "item": "x" * 65}, "'item' must be an id"),
    ],
)
def test_a_record_that_is_no_item_is_named(tmp_path: Path, record: Any, words: str) -> None:
    path = _file(tmp_path, {"prompt": "p", "completions": ["a", "b"]}, record)
    with pytest.raises(UserError, match=words) as caught:
        read_items(path)
    assert str(path) in str(caught.value)


def test_a_config_holds_the_items_and_gives_them_back() -> None:
    items = [Item("1", "p ☃", ("a", "b"), ({"model": "m", "temperature": 0.7},) * 2)]
    config = json.loads(json.dumps(rank_config(items, seed=4, source={"model": "m"})))
    assert list(items_of(config).values()) == items
    assert config["source"] == {"model": "m"}
    assert config["instructions"]
    with pytest.raises(UserError, match="holds no items"):
        items_of({})


def test_keyed_orders_are_orders_and_written_down_for_ever() -> None:
    assert keyed(6, 1, "a") == [2, 1, 0, 3, 4, 5]
    assert sorted(keyed(50, "x")) == list(range(50))
    assert keyed(50, "x") != keyed(50, "y")


@pytest.fixture(scope="module")  # one for all: making it takes longer than using it
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    from textrl.models.loading import tiny_gpt2

    folder = tmp_path_factory.mktemp("rank-model") / "gpt2"
    return str(tiny_gpt2(folder=folder, width=16, layers=1, heads=2, context=32, vocab_size=300))


def test_a_model_writes_different_responses_the_same_ones_each_time(model: str) -> None:
    from textrl.feedback.rank.generate import generate_items

    done: list[tuple[int, int]] = []
    prompts = [f"The film {n}" for n in range(9)]
    settings: dict[str, Any] = {"k": 4, "temperatures": (0.7, 1.3), "max_new_tokens": 6, "seed": 5}
    items = generate_items(model, prompts, **settings, tick=lambda *at: done.append(at))
    assert [item.prompt for item in items] == prompts
    for item in items:
        assert len(set(item.completions)) == len(item.completions) == 4
        assert sorted(one["temperature"] for one in item.made) == [0.7, 0.7, 1.3, 1.3]
    assert done[-1] == (9, 9)
    assert generate_items(model, prompts, **settings) == items
    # The noise is keyed by prompt and response: what stands beside a prompt in its batch changes nothing.
    assert generate_items(model, prompts, **settings, most=2) == items[:2]
    assert generate_items(model, prompts[:2], **{**settings, "seed": 6}) != items[:2]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"k": 1}, "--k is 1"),
        ({"k": 10}, "--k is 10"),
        ({"temperatures": (0.0,)}, "--temperature"),
        ({"temperatures": ()}, "--temperature"),
        ({"max_new_tokens": 0}, "--max-new-tokens is 0"),
        ({"max_new_tokens": 32}, "context has 32 tokens"),
        ({"max_new_tokens": 4, "temperatures": (1e-6,)}, "the same response to a prompt every time"),
    ],
)
def test_settings_that_give_no_items(model: str, settings: dict[str, Any], words: str) -> None:
    from textrl.feedback.rank.generate import generate_items

    with pytest.raises(UserError, match=words):
        generate_items(model, ["The film"], **settings)
