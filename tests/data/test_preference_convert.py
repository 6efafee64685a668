"""Conversions that lose something say so with counts, and forms are made of other forms."""

from __future__ import annotations

from pathlib import Path

import pytest
from preference_world import imported, read, refused, write

from textrl.data.preferences.convert import convert
from textrl.errors import UserError


def test_hh_pairs_without_a_common_beginning_are_refused_or_passed_over(tmp_path: Path) -> None:
    good = {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}
    bad = {**good, "rejected": "\n\nHuman: x\n\nAssistant: c"}
    assert "line 2: 'chosen' and 'rejected' have no beginning in common" in refused(tmp_path, [good, bad])
    found, result = imported(tmp_path, [good, bad, good], skip_bad=True)
    assert (len(found), result.read, result.bad) == (2, 3, 1)
    assert "line 2" in result.bad_examples[0]


def test_what_a_format_cannot_hold_is_said_with_counts(tmp_path: Path) -> None:
    records = [
        {"prompt": "p", "completions": ["a", "b", "c"], "ranks": [1, 2, 2], "annotator": "ann"},
        {"prompt": "p", "chosen": "a", "rejected": "b", "margin": 2},
        {"prompt": "p", "completion": "a", "rating": 3},
    ]
    start = write(tmp_path / "in.jsonl", records)
    result = convert(start, tmp_path / "trl.jsonl", to="trl")
    assert result.written == 3
    assert result.notes == {
        "ties left out: trl has no ties": 1,
        "ratings left out: trl has no place for them": 1,
    }
    result = convert(start, tmp_path / "hh.jsonl", to="hh")
    assert result.notes == {
        "ties left out: hh has no ties": 1,
        "ratings left out: hh has no place for them": 1,
        "column 'annotator' left out: hh has no place for it": 2,
        "column 'margin' left out: hh has no place for it": 1,
        "prompts written as a turn of the user: they were plain text": 3,
    }
    assert read(tmp_path / "hh.jsonl")[0]["chosen"] == "\n\nHuman: p\n\nAssistant: a"
    with pytest.raises(UserError, match=r"nothing of it can be written as hh \(1 ratings left out"):
        convert(write(tmp_path / "r.jsonl", records[2:]), tmp_path / "none.jsonl", to="hh")
    assert not (tmp_path / "none.jsonl").exists()


def test_forms_made_of_other_forms(tmp_path: Path) -> None:
    ratings = [
        {"prompt": "p", "completion": text, "rating": value, "annotator": who}
        for who, values in (("ann", (3, 1, 3)), ("bob", (1, 2, 0)))
        for text, value in zip("abc", values, strict=True)
    ]
    start = write(tmp_path / "in.jsonl", ratings)
    convert(start, tmp_path / "rankings.jsonl", to="textrl", form="ranking")
    assert read(tmp_path / "rankings.jsonl") == [
        {"prompt": "p", "completions": ["a", "b", "c"], "ranks": [1, 2, 1], "annotator": "ann"},
        {"prompt": "p", "completions": ["a", "b", "c"], "ranks": [2, 1, 3], "annotator": "bob"},
    ]
    rated = {"prompt": "p", "completions": ["a", "b", "c"], "ratings": [0.5, 3, 0.5]}
    convert(write(tmp_path / "r.jsonl", [rated]), tmp_path / "pairs.jsonl", to="textrl", form="pair")
    assert read(tmp_path / "pairs.jsonl") == [
        {"prompt": "p", "chosen": "b", "rejected": "a", "margin": 2.5},
        {"prompt": "p", "chosen": "a", "rejected": "c", "tie": True},
        {"prompt": "p", "chosen": "b", "rejected": "c", "margin": 2.5},
    ]
    pair = [
        {"prompt": "p", "chosen": "a", "rejected": "b"},
        {"prompt": "p", "chosen": "a", "rejected": "b", "tie": True},
    ]
    result = convert(write(tmp_path / "p.jsonl", pair), tmp_path / "l.jsonl", to="textrl", form="label")
    assert [(r["completion"], r["label"]) for r in read(tmp_path / "l.jsonl")] == [("a", True), ("b", False)]
    assert result.notes == {"pairs left out that cannot become a label": 1}
    convert(tmp_path / "p.jsonl", tmp_path / "d.jsonl", to="textrl", form="demonstration")
    assert [r["completion"] for r in read(tmp_path / "d.jsonl")] == ["a", "a", "b"]
    convert(tmp_path / "p.jsonl", tmp_path / "q.jsonl", to="textrl", form="prompt")
    assert read(tmp_path / "q.jsonl") == [{"prompt": "p"}]
