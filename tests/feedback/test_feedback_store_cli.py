"""``textrl feedback sessions | replay | export | verify``, and what is done with their files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cyclopts import App
from rank_session import Ranking, made_items, rank_info
from store_events import made_event, made_session

from textrl.cli import feedback_store
from textrl.data.preferences.convert import convert
from textrl.data.preferences.rated import read_ratings
from textrl.data.rankings import read_rankings
from textrl.errors import UserError
from textrl.feedback.store import open_store


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a store in which ada and bob ranked three items, with a tie, a skip and an undo."""
    monkeypatch.chdir(tmp_path)
    store = open_store("sessions.sqlite")
    session = Ranking(rank_info(made_items(3), overlap=0))
    for name in ("ada", "bob"):
        session.join(name)
    session.send("ada", "ranked", {"item": "i0", "ranks": [1, 1, 2]})
    session.send("ada", "undone", {"uuid": session.log[-1].uuid})
    for item in ("i0", "i1"):
        for name in ("ada", "bob"):
            shown = session.machine.shown_order(name, item)
            ranks = [(1, 2, 2)[number] for number in shown]
            flags = [{"hallucination": number == 2} for number in shown]
            likert = [7 if number == 0 else None for number in shown]
            payload = {"item": item, "ranks": ranks, "likert": likert, "flags": flags, "seconds": 4.0}
            session.send(name, "ranked", payload)
    session.send("bob", "skipped", {"item": "i2"})
    store.create_session(session.info)
    store.append(session.log)
    store.create_session(made_session("c", "control"))
    store.append([made_event("c")])
    store.close()
    return tmp_path


def _run(*words: str) -> int:
    app = App(name="feedback", result_action="return_value")
    feedback_store.add_to(app)
    return int(app(list(words)))


def test_sessions_are_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("sessions") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].split()[:2] == ["r", "rank"]
    assert lines[1].endswith("9  ada, bob")
    assert _run("sessions", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["session"], row["events"], row["people"]) for row in rows] == [
        ("r", 9, ["ada", "bob"]),
        ("c", 1, []),
    ]


def test_rankings_are_exported_for_the_reward_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("export", "r", "--out", "rankings.jsonl") == 0
    assert capsys.readouterr().out == (
        "wrote     4 rankings of 2 people: rankings.jsonl\nnote      1 items were skipped\n"
    )
    groups = read_rankings("rankings.jsonl")
    assert {(group.prompt, group.annotator) for group in groups} == {
        (f"Prompt {n}?", name) for n in (0, 1) for name in ("ada", "bob")
    }
    for group in groups:
        number = group.prompt[7]
        assert group.completions == tuple(f"answer {number}.{letter}" for letter in "abc")
        assert group.ranks == (1, 2, 2)


def test_the_store_itself_can_be_converted(folder: Path) -> None:
    convert("sessions.sqlite", "pairs.parquet", to="trl")
    convert("sessions.sqlite", "converted.jsonl", to="textrl")
    ours = {(group.prompt, group.annotator, group.ranks) for group in read_rankings("converted.jsonl")}
    assert _run("export", "r", "--out", "rankings.jsonl") == 0
    assert ours == {(group.prompt, group.annotator, group.ranks) for group in read_rankings("rankings.jsonl")}


def test_ratings_and_events_are_exported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("export", "r", "--what", "ratings", "--out", "ratings.jsonl", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["written"], said["annotators"], said["what"]) == (12, 2, "ratings")
    lines = [json.loads(line) for line in Path("ratings.jsonl").read_text().splitlines()]
    assert {
        (line["completion"][-1], line.get("likert"), line["flags"]["hallucination"]) for line in lines
    } == {
        ("a", 7, False),
        ("b", None, False),
        ("c", None, True),
    }
    scored = [line for line in lines if "likert" in line]
    Path("scored.jsonl").write_text("".join(json.dumps(line) + "\n" for line in scored))
    assert {rating.ratings for rating in read_ratings("scored.jsonl")} == {(7.0,)}
    assert _run("export", "c") == 0  # all events of a session that ranks nothing
    (event,) = [json.loads(line) for line in Path("c.jsonl").read_text().splitlines()]
    assert (event["kind"], event["payload"], event["frame_id"]) == ("press", {"value": 1}, 3)
    assert _run("export", "r", "--what", "events", "--out", "log.jsonl") == 0
    convert("log.jsonl", "again.jsonl", to="textrl", origin="session")
    assert len(read_rankings("again.jsonl")) == 4


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("export", "R", "--out", "x.jsonl"), "holds no session 'R'. Known: c, empty, r."),
        (
            ("export", "c", "--what", "rankings", "--out", "x.jsonl"),
            "the mode control, which has no rankings",
        ),
        (("export", "r", "--out", "x.csv"), "x.csv: the format is not known by its name"),
        (("export", "empty", "--out", "x.jsonl"), "holds no rankings yet"),
        (("replay", "nobody"), "holds no session 'nobody'"),
        (("verify", "--store", "none.sqlite"), "none.sqlite: there is no such store"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_no_file(
    folder: Path, words: tuple[str, ...], sentence: str
) -> None:
    store = open_store("sessions.sqlite")
    info = rank_info(made_items(1))
    store.create_session(type(info)(**{**vars(info), "session": "empty"}))
    store.close()
    before = {path.name for path in folder.iterdir()}
    before |= {"sessions.sqlite-wal", "sessions.sqlite-shm"}  # SQLite's own, which a reader may leave
    with pytest.raises(UserError) as caught:
        _run(*words)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert {path.name for path in folder.iterdir()} <= before


def test_the_default_store_is_named_where_it_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no sessions\.sqlite in this folder; name the store with --store"):
        _run("sessions")


def test_a_session_is_replayed_and_verified(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("replay", "r") == 0
    out = capsys.readouterr().out
    assert "session   r: 9 events" in out
    assert "digests   none are in the log yet" in out
    assert _run("replay", "r", "--json") == 0
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (said["steps"], said["equal"], len(said["sha256"])) == (9, True, 64)
    store = open_store("sessions.sqlite")
    for sha256 in (said["sha256"], "f" * 64):
        payload = {"sha256": sha256, "steps": 9, "after": said["last_seq"]}
        store.append([made_event("r", kind="digest", annotator="server", payload=payload)])
    store.close()
    assert _run("replay", "r") == 1
    assert f"UNEQUAL   event 12: logged {'f' * 64}, replayed {said['sha256']}" in capsys.readouterr().out
    assert _run("verify", "r") == 0
    assert "11 events of 1 session: nothing wrong was found." in capsys.readouterr().out
    assert _run("verify", "r", "--replay") == 1
    assert "WRONG     session 'r', event 12: its digest is ffffffffffffffff..." in capsys.readouterr().out
    assert _run("verify", "r", "--replay", "--json") == 1
    assert json.loads(capsys.readouterr().out)["digests"] == 2


def test_verify_finds_a_press_on_what_was_never_shown(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("verify") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("WRONG     session 'c', event 10: it is a press on frame 3")
    assert lines[1].endswith("10 events of 2 sessions: 1 findings.")
