"""A ranking session of textrl's own: Likert scores and flags come along, and agreement reads the store."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from preference_world import imported, read, refused, write

from textrl.cli import main
from textrl.data.preferences.agreement import agreement_of
from textrl.data.preferences.check import inspect_file
from textrl.data.preferences.convert import convert

RANKED = {"prompt": "p", "completions": ["a", "b", "c"], "ranks": [1, 2, 2], "item": "4", "seconds": 2.5}


def event(who: str, kind: str = "ranked", **payload: Any) -> dict[str, Any]:
    return {"uuid": f"{who} {kind}", "session": "s", "annotator": who, "kind": kind, "payload": payload}


def store(path: Path, *events: dict[str, Any]) -> Path:
    connection = sqlite3.connect(path)
    connection.execute(
        "CREATE TABLE events (seq INTEGER PRIMARY KEY, uuid TEXT UNIQUE, session TEXT, annotator TEXT, "
        "kind TEXT, payload TEXT)"
    )
    for one in events:
        values = (one["uuid"], one["session"], one["annotator"], one["kind"], json.dumps(one["payload"]))
        connection.execute(
            "INSERT INTO events (uuid, session, annotator, kind, payload) VALUES (?, ?, ?, ?, ?)", values
        )
    connection.commit()
    connection.close()
    return path


SCORED = {
    **RANKED,
    "likert": [7, None, None],
    "flags": [{"harmful": False}, {"harmful": True, "other": None}, {}],
}


def test_likert_and_flags_of_a_ranking_become_ratings(tmp_path: Path) -> None:
    shared = {"prompt": "p", "annotator": "ann", "group": "s/4"}
    found, _ = imported(tmp_path, [event("ann", **SCORED, user_id="u")])
    assert found == [
        {**RANKED, "user_id": "u", "annotator": "ann", "group": "s/4"},
        {**shared, "user_id": "u", "completion": "a", "likert": 7, "flags": {"harmful": False}},
        {**shared, "user_id": "u", "completion": "b", "flags": {"harmful": True}},
    ]


def test_a_ranking_without_scores_is_one_record(tmp_path: Path) -> None:
    plain = {"prompt": "p", "completions": ["a", "b"], "ranks": [1, 2]}
    found, _ = imported(tmp_path, [event("ann", **plain, likert=None, flags=[None, {}])])
    assert found == [{**plain, "annotator": "ann"}]


@pytest.mark.parametrize("wrong", [[7], 7])
def test_scores_that_fit_no_completion_are_refused(tmp_path: Path, wrong: Any) -> None:
    said = refused(tmp_path, [event("ann", **RANKED, likert=wrong)])
    assert f"line 1: 'likert' is {wrong}; it must be a list with one entry for each" in said


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_what_a_store_held_survives_the_way_to_events_and_back(tmp_path: Path, ending: str) -> None:
    source = store(tmp_path / "s.sqlite", event("ann", **SCORED), event("bob", **SCORED))
    convert(source, tmp_path / "one.jsonl", to="textrl")
    convert(tmp_path / "one.jsonl", tmp_path / f"two{ending}", to="session")
    convert(tmp_path / f"two{ending}", tmp_path / "three.jsonl", to="textrl")
    once = read(tmp_path / "one.jsonl")
    assert len(once) == 6
    assert [dict(sorted(one.items())) for one in read(tmp_path / "three.jsonl")] == [
        dict(sorted(one.items())) for one in once
    ]


def test_a_store_is_checked_and_made_into_ratings(tmp_path: Path) -> None:
    scored = {**RANKED, "likert": [7, 4, 4]}
    source = store(tmp_path / "s.sqlite", event("ann", **scored), event("ann", "opened", item="4"))
    report = inspect_file(source)
    assert report.forms == {"ranking": 1, "rating": 3}
    assert report.warnings == []
    convert(source, tmp_path / "ratings.jsonl", to="textrl", form="rating")
    assert [(one["completion"], one["likert"]) for one in read(tmp_path / "ratings.jsonl")] == [
        ("a", 7),
        ("b", 4),
        ("c", 4),
    ]


def test_agreement_reads_a_store(tmp_path: Path) -> None:
    other = {**SCORED, "ranks": [1, 2, 3], "likert": [6, None, None]}
    source = store(tmp_path / "s.sqlite", event("ann", **SCORED), event("bob", **other), event("x", "joined"))
    report = agreement_of(source, resamples=5)
    values = {kind: one.agreement and one.agreement["value"] for kind, one in report.kinds.items()}
    assert values == {"comparison": pytest.approx(2 / 3), "likert": 0.0, "flag harmful": 1.0}
    assert report.format == "session"
    assert report.plain()["left_out"] == {
        "events of the kind 'joined' left out: they are no judgement of texts": 1
    }


def test_agreement_reads_other_tools_files_or_names_what_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ranks = [
        {"prompt": "p", "completions": ["a", "b"], "ranks": [1, 2], "annotator": who} for who in ("x", "y")
    ]
    start = write(tmp_path / "start.jsonl", ranks)
    convert(start, tmp_path / "ls.json", to="label-studio")
    assert agreement_of(tmp_path / "ls.json", resamples=5).format == "label-studio"
    tasks = read(tmp_path / "ls.json")
    tasks[0]["annotations"][0]["result"][0]["value"]["ranker"] = {"good": ["1"], "bad": ["2"]}
    for records in (tasks, [{"a": 1}]):
        assert main(["data", "agreement", str(write(tmp_path / "x.jsonl", records))]) == 2
        assert "`textrl data convert`" in capsys.readouterr().err
