"""Kinds of prompts and lengths, counted by hand; and the benchmark of the data commands on a few records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from textrl.bench.data import make_records, measure
from textrl.cli import main
from textrl.data.preferences.statistics import prompt_kind, statistics_of
from textrl.errors import UserError

FEW = "Translate.\nEnglish: dog\nFrench: chien\nEnglish: cat\nFrench: chat\nEnglish: cow\nFrench:"
ARROWS = "good -> bad\nhot -> cold\nbig ->"
TALK = "Human: Hi\nAssistant: Hello.\nHuman: Who are you?\nAssistant:"


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        ({"prompt": "Write a poem."}, "plain"),
        ({"prompt": "Write a poem.", "user_id": 3}, "user-based"),
        ({"prompt": FEW}, "few-shot"),
        ({"prompt": FEW, "user_id": 3}, "few-shot"),
        ({"prompt": ARROWS}, "few-shot"),
        ({"prompt": "Q: What is\nA:"}, "plain"),  # no finished example
        ({"prompt": "Note: one\nNote: two\nGo on."}, "plain"),  # one label alone
        ({"prompt": TALK}, "dialogue"),
        ({"prompt": "Human: Hi\nAssistant:"}, "plain"),  # nothing answered yet
        ({"messages": [{"role": "user", "content": "Hi"}]}, "plain"),
        (
            {"messages": [{"role": r, "content": "x"} for r in ("user", "assistant", "user", "assistant")]},
            "dialogue",
        ),
        ({"prompt": "  "}, "empty"),
        ({"prompt": "x", "prompt_kind": "use case"}, "use case"),
    ],
)
def test_kinds_of_prompts(record: dict[str, Any], kind: str) -> None:
    from textrl.data.preferences.texts import prompt_of

    assert prompt_kind(record, prompt_of(record)) == kind


def test_counts_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [
        {"prompt": "one two", "chosen": "a b c", "rejected": "a", "user_id": "u", "split": "train"},
        {"prompt": "One  two", "chosen": "a", "rejected": "a b", "user_id": "u", "split": "train"},
        {"prompt": "three", "chosen": "a b", "rejected": "a", "user_id": "v", "split": "test"},
        {"prompt": "four words in all", "chosen": "a b", "rejected": "a", "tie": True},
        {"prompt": "four words in all", "chosen": "a b", "rejected": "c d"},
    ]
    source = tmp_path / "a.jsonl"
    source.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    report = statistics_of(source)
    assert (report.records, report.prompts, report.forms) == (5, 3, {"pair": 5})
    assert {kind: (one["prompts"], one["records"]) for kind, one in report.kinds.items()} == {
        "user-based": (2, 3),
        "plain": (1, 2),
    }
    assert report.kinds["user-based"]["lengths"]["words"]["mean"] == 1.5
    assert report.completions["chosen"].words["mean"] == 2.0
    assert report.completions["chosen"].words["max"] == 3
    assert (report.longer_chosen, report.pairs_compared) == (pytest.approx(2 / 3), 3)
    assert report.people == {"user_id": {"people": 2, "records": 3, "busiest": 2, "busiest_share": 2 / 3}}
    assert report.splits == {"train": 2, "test": 1}
    assert main(["data", "stats", str(source)]) == 0
    assert "longer one in 66.7% of 3 pairs" in capsys.readouterr().out


def test_the_benchmark_measures_whole_processes(tmp_path: Path) -> None:
    source = tmp_path / "made.jsonl"
    make_records(source, 400)
    records = [json.loads(line) for line in source.read_text().splitlines()]
    assert len(records) == 400
    assert len({record["user_id"] for record in records}) > 50
    assert len({record["prompt"] for record in records}) < 400
    found = measure(["split", str(source), "--out", str(tmp_path / "parts")])
    assert (tmp_path / "parts" / "split.json").exists()
    assert found["peak_mb"] > 20
    assert found["cpu_s"] > 0
    with pytest.raises(UserError, match="already and is not empty"):
        measure(["split", str(source), "--out", str(tmp_path / "parts")])
