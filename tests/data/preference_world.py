"""Records of judgements to write, convert and read again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from textrl.data.preferences.convert import Conversion, convert
from textrl.errors import UserError

#: No surrogates, no NUL (JSON and tokenizers refuse them), no letters that could make a turn's mark.
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0:"), min_size=1, max_size=12)
NAMES = st.text("abcdef", min_size=1, max_size=4)


def write(path: Path, records: Iterable[Any]) -> Path:
    """Write JSON lines."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def read(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines or a JSON list."""
    text = path.read_text(encoding="utf-8")
    # Not splitlines: it also cuts at U+0085 and U+2028, which JSON leaves as they are.
    return json.loads(text) if path.suffix == ".json" else [json.loads(x) for x in text.split("\n") if x]


def imported(tmp_path: Path, records: list[Any], **more: Any) -> tuple[list[dict[str, Any]], Conversion]:
    """Convert to textrl's records."""
    result = convert(write(tmp_path / "in.jsonl", records), tmp_path / "out.jsonl", to="textrl", **more)
    return read(tmp_path / "out.jsonl"), result


def refused(tmp_path: Path, records: list[Any], **more: Any) -> str:
    """Convert and return the sentence that says why not; nothing is left behind."""
    with pytest.raises(UserError) as caught:
        imported(tmp_path, records, **more)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl"]
    return str(caught.value)


@st.composite
def dialogues(draw: st.DrawFn) -> str:
    """A prompt as hh-rlhf and Open-Assistant have it."""
    turns = draw(st.lists(TEXTS, min_size=1, max_size=3))
    text = f"\n\nHuman: {turns[0]}"
    for answer, question in zip(turns[1::2], turns[2::2], strict=False):
        text += f"\n\nAssistant: {answer}\n\nHuman: {question}"
    return text + "\n\nAssistant:"


@st.composite
def rankings(draw: st.DrawFn, ties: bool = True, spaced: bool = False) -> dict[str, Any]:
    """A pair, or a ranking with ranks 1, 2, ..., in TRL's plain text or as a dialogue."""
    record: dict[str, Any] = {"prompt": draw(dialogues() if spaced else st.one_of(TEXTS, dialogues()))}
    texts = draw(st.lists(TEXTS, min_size=2, max_size=5, unique=True))
    texts = [f" {text}" for text in texts] if spaced else texts
    for column in ("group", "user_id"):
        if draw(st.booleans()):
            record[column] = draw(NAMES)
    if len(texts) == 2 and draw(st.booleans()):
        record |= {"chosen": texts[0], "rejected": texts[1]}
        if ties and draw(st.booleans()):
            record["tie"] = True
        return record
    if ties:
        order = draw(st.lists(st.integers(1, 3), min_size=len(texts), max_size=len(texts)))
        dense = sorted(set(order))
        ranks = [dense.index(rank) + 1 for rank in order]
    else:
        ranks = draw(st.permutations(range(1, len(texts) + 1)))
    return record | {"completions": texts, "ranks": ranks}
