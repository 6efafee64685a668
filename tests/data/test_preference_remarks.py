"""What `textrl data check` warns of, with the place of the first: misspelt columns, contradictions, leaks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from preference_world import write

from textrl.cli import main
from textrl.data.preferences.check import FileReport, inspect_file
from textrl.data.preferences.columns import meant
from textrl.data.preferences.places import Places
from textrl.data.preferences.schema import KNOWN

P = {"prompt": "p", "annotator": "ann"}
PAIR = {"prompt": "p", "chosen": "a", "rejected": "b"}


def checked(tmp_path: Path, *records: Any) -> FileReport:
    return inspect_file(write(tmp_path / "file.jsonl", records))


def first(report: FileReport, folder: Path) -> dict[str, str]:
    return {one.name: one.first.replace(f"{folder}/file.jsonl, ", "") for one in report.warnings}


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("anotator", "annotator"),
        ("anottator", "annotator"),
        ("margn", "margin"),
        ("ratng", "rating"),
        ("promtp", "prompt"),
        ("rnaks", "ranks"),
        ("UserID", "user_id"),
        ("Prompt", "prompt"),
    ],
)
def test_a_slip_of_the_pen_is_told(name: str, column: str) -> None:
    assert meant(name, KNOWN) == column


@pytest.mark.parametrize(
    "name",
    [
        "domain",
        "time",
        "title",
        "item",
        "seconds",
        "id",
        "model",
        "text",
        "score",
        "language",
        "annotator_id",
        "annotation",
        "prompt_kind",
        "prompt_id",
        "data_source",
        "resource",
        "group_id",
        "tags",
        "role",
    ],
)
def test_columns_of_somebodys_own_are_left_in_peace(name: str) -> None:
    assert meant(name, KNOWN) is None


def test_misspelt_columns_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [
        {**PAIR, "domain": "x", "annotator": "ann", "anotator": "a column beside the one it resembles"},
        {**PAIR, "chosen": "c", "anotator": "ann", "margn": 1},
        {**PAIR, "chosen": "d", "margn": None, "anotator": "bob"},
        {"prompt": "p", "completion": "a", "ratng": 3},
    ]
    report = checked(tmp_path, *records)
    found = [one for one in report.warnings if one.name == "mistyped"]
    assert [(one.count, one.first.rpartition(", ")[2]) for one in found] == [
        (2, "line 2"),
        (1, "line 2"),
        (1, "line 4"),
    ]
    assert "'ratng', which is not read (did you mean 'rating'?)" in found[2].text
    assert main(["data", "check", str(tmp_path / "file.jsonl"), "--fail-on-warnings"]) == 1
    assert "(did you mean 'annotator'?); the first:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"promt": "p", "chosen": "a", "rejected": "b"}, "has no 'prompt'; add it. 'promt': Did you mean"),
        ({"prompt": "p", "chosen": "a", "rejectd": "b"}, "'rejectd': Did you mean 'rejected'?"),
        ({"prompt": "p", "completions": ["a", "b"], "rnaks": [1, 2]}, "'rnaks': Did you mean 'ranks'?"),
        ({"prompt": "p", "completion": "a", "rank": 1, "gruop": 2}, "'gruop': Did you mean 'group'?"),
    ],
)
def test_a_bad_record_points_at_the_column_that_was_meant(
    tmp_path: Path, record: dict[str, Any], said: str
) -> None:
    assert said in checked(tmp_path, record).bad_examples[0]


def test_a_missing_column_without_a_likely_one_is_said_as_before(tmp_path: Path) -> None:
    report = checked(tmp_path, {"prompt": "p", "chosen": "a", "domain": "b"})
    assert report.bad_examples[0].endswith("line 1 has no 'rejected'; add it.")


def test_what_speaks_against_itself_names_both_places(tmp_path: Path) -> None:
    fine = [{**P, "prompt": f"q{number}", "chosen": "a", "rejected": "b"} for number in range(50)]
    report = checked(
        tmp_path,
        *fine,
        {**P, "chosen": "a", "rejected": "b"},
        {**P, "chosen": "a", "rejected": "b", "tie": True, "prompt": "q7"},
        {**P, "chosen": "b", "rejected": "a"},
        *({**fine[number], "chosen": "b", "rejected": "a"} for number in (30, 20, 10)),
        *({**P, "prompt": "r", "chosen": x, "rejected": y} for x, y in ("xa", "ab", "bc", "ca", "cy")),
    )
    assert first(report, tmp_path) == {
        "contradictory": "line 53 against line 51",
        "undecided": "line 52 against line 8",
        "circular": "line 58",
        "all_tied": "line 52",
    }


def test_prompts_with_one_completion_and_unnamed_judgements_have_a_place(tmp_path: Path) -> None:
    report = checked(
        tmp_path,
        {"prompt": "p", "annotator": "ann"},
        {**P, "completion": "a", "rating": 1},
        {**P, "completion": "b", "rating": 2},
        {**P, "prompt": "q", "completions": ["a", "b"], "ranks": [1, 2]},
        {**P, "prompt": "q", "completion": "a", "rating": 1},  # compared by the ranking
        {**P, "prompt": "r", "completion": "a", "rating": 1},
        {"prompt": "s", "completion": "a", "label": True},
        {"prompt": "t", "completion": "a", "label": True},
    )
    assert first(report, tmp_path) == {"one_completion": "line 6", "no_annotator": "line 7"}
    assert {one.name: one.count for one in report.warnings} == {"one_completion": 3, "no_annotator": 2}


def test_a_column_of_another_form_has_a_place(tmp_path: Path) -> None:
    report = checked(tmp_path, PAIR, {"prompt": "p", "responses": ["a", "b"], "ranks": [1, 2]})
    assert first(report, tmp_path) == {"misplaced": "line 2: 'ranks' in a prompt"}


def test_who_stands_in_two_splits_is_warned_of(tmp_path: Path) -> None:
    train, test = {"split": "train"}, {"split": "test"}
    report = checked(
        tmp_path,
        {**PAIR, **train, "annotator": "ann", "user_id": 7},
        {**PAIR, **train, "prompt": "q", "annotator": "bob", "user_id": 8},
        {**PAIR, **test, "prompt": " P", "annotator": "cyd", "user_id": "9"},
        {"prompt": "r", "completion": "a", "ratings": [1, 2], "annotators": ["bob", "ann"], **test},
        {**PAIR, **test, "prompt": "s", "user_id": "7", "annotator": "ann"},
        {**PAIR, "prompt": "q", "user_id": "8", "annotator": "cyd"},
        {"prompt": "r", "completion": "b", "rating": 1, "annotator": "eve", **test},
    )
    assert first(report, tmp_path) == {
        "split_prompt": "line 3: 'p' in test, before in train",
        "split_user_id": "line 5: '7' in test, before in train",
        "split_annotator": "line 4: 'bob' in test, before in train",
    }
    assert [one.count for one in report.warnings] == [1, 1, 2]


def test_a_file_of_ties_is_not_said_to_teach_nothing(tmp_path: Path) -> None:
    (_, only) = checked(tmp_path, {**PAIR, "tie": True}, {**PAIR, "prompt": "q", "tie": True}).warnings
    assert (only.name, only.count) == ("only_ties", 2)
    assert "only rao_kupper learns from ties" in only.text
    assert "nothing can be learnt" not in only.text


def test_places_are_numbers_that_can_be_read_again() -> None:
    places = Places()
    for where in (
        "a b.jsonl, line 7",
        "x, tree 007",
        "x, tree q 3f",
        "",
        "4",
        f"n {'9' * 12}",
        "n 9999999999999",
    ):
        assert places.place(places.code(where)) == where
    seven, three = places.code("f.jsonl, line 7"), places.code("f.jsonl, line 3")
    assert three < seven
    assert places.both(seven, three) == "f.jsonl, line 7 against line 3"
    assert places.both(seven, places.code("g.jsonl, line 3")) == "f.jsonl, line 7 against g.jsonl, line 3"
