"""What a client may send: every kind with every field wrong once, and nothing that makes the check fail."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textrl.feedback.events import (
    CLIENT_KINDS,
    FLAGS,
    MODES,
    SERVER_KINDS,
    BadEvent,
    check_client_event,
    check_name,
    check_time,
)

GOOD: dict[str, list[dict[str, Any]]] = {
    "press": [{"value": value} for value in (1, -1, 10, -10)],
    "shown": [{"frames": [[0, 1.5], [7, 1e9]]}, {"frames": [[n, 0] for n in range(60)]}],
    "control": [
        *({"do": do} for do in ("pause", "resume", "step", "reset", "next_episode")),
        {"do": "speed", "value": 0.05},
        {"do": "training", "value": False},
        {"do": "pause", "value": None},
    ],
    "undone": [{"uuid": "x"}],
    "note": [{"text": "a" * 2_000}],
    "span": [
        {"start_token": 0, "end_token": 0, "value": -1},
        {"start_token": 2, "end_token": 9, "value": 0.5},
    ],
    "delay_trial": [{"cue_t": 1.0, "press_t": 1.3}, {"cue_t": 1.0, "press_t": None}, {"cue_t": 1}],
    "prompt": [{"text": ""}, {"text": "<script>alert(1)</script>"}],
    "ranked": [
        {"item": "a", "ranks": [1, 1]},
        {"item": 4, "ranks": [9, 1, 2, 3, 4, 5, 6, 7, 8], "likert": [None, *[7] * 8]},
        {"item": "a", "ranks": [1, 2], "flags": [dict.fromkeys(FLAGS, True), None], "seconds": 0},
        {"item": "a", "ranks": [1, 2], "completions": ["x", ""], "prompt": ""},
    ],
    "skipped": [{"item": "a"}],
    "opened": [{"item": 3}],
    "rated": [{"prompt": "", "completion": "c", "likert": 3, "flags": {"sexual_content": False}}],
    "labelled": [{"prompt": "p", "completion": "c", "label": True}],
}
BAD: list[tuple[str, Any, str]] = [
    ("press", {}, "one of 1, -1, 10 or -10"),
    ("press", {"value": True}, "'value' of a press is True"),
    ("press", {"value": "1"}, "'value' of a press"),
    ("press", {"value": [1]}, "'value' of a press"),
    ("press", [1], "must be an object"),
    ("shown", {"frames": []}, "1 to 60 pairs"),
    ("shown", {"frames": [[0, 1.0]] * 61}, "1 to 60 pairs"),
    ("shown", {"frames": [[0]]}, "must be a pair"),
    ("shown", {"frames": [[-1, 1.0]]}, "frame_id of a display stamp"),
    ("shown", {"frames": [[1.5, 1.0]]}, "frame_id of a display stamp"),
    ("shown", {"frames": [[1, float("nan")]]}, "finite number of seconds"),
    ("shown", {"frames": [[1, True]]}, "finite number of seconds"),
    ("control", {"do": "resett"}, "Did you mean 'reset'"),
    ("control", {"do": ["pause"]}, "'do' is"),
    ("control", {"do": "speed"}, "'speed' is None"),
    ("control", {"do": "speed", "value": 0}, "must be over 0"),
    ("control", {"do": "speed", "value": 10**400}, "finite number"),
    ("control", {"do": "training", "value": 1}, "true or false"),
    ("control", {"do": "reset", "value": 3}, "takes no 'value'"),
    ("undone", {"uuid": "x" * 65}, "64 is the most"),
    ("undone", {}, "'uuid' is None"),
    ("note", {"text": "a" * 2_001}, "2,001 characters; 2,000 is the most"),
    ("note", {"text": "a\0"}, "NUL"),
    ("note", {"text": "\ud800"}, "surrogate"),
    ("prompt", {"text": 3}, "must be text"),
    ("span", {"start_token": 3, "end_token": 2, "value": 1}, "before its start"),
    ("span", {"start_token": True, "end_token": 2, "value": 1}, "whole number"),
    ("span", {"start_token": 0, "end_token": 2**60, "value": 1}, "whole number"),
    ("span", {"start_token": 0, "end_token": 1, "value": 0}, "not 0"),
    ("span", {"start_token": 0, "end_token": 1, "value": float("nan")}, "finite number"),
    ("delay_trial", {"press_t": 1.0}, "'cue_t' is None"),
    ("delay_trial", {"cue_t": 1.0, "press_t": "2"}, "'press_t' is 2"),
    ("ranked", {"ranks": [1, 2]}, "'item' is None"),
    ("ranked", {"item": True, "ranks": [1, 2]}, "'item' is True"),
    ("ranked", {"item": -1, "ranks": [1, 2]}, "'item' is -1"),
    ("ranked", {"item": "a", "ranks": [1]}, "2 to 9 numbers"),
    ("ranked", {"item": "a", "ranks": [1] * 10}, "2 to 9 numbers"),
    ("ranked", {"item": "a", "ranks": [0, 1]}, "from 1"),
    ("ranked", {"item": "a", "ranks": [1, None]}, "a rank is None"),
    ("ranked", {"item": "a", "ranks": [1, 2], "likert": [1]}, "one entry for each of the 2 ranks"),
    ("ranked", {"item": "a", "ranks": [1, 2], "likert": [8, 1]}, "from 1 to 7"),
    ("ranked", {"item": "a", "ranks": [1, 2], "likert": [1.0, 1]}, "from 1 to 7"),
    ("ranked", {"item": "a", "ranks": [1, 2], "flags": [{}, {"violent": True}]}, "no flag 'violent'"),
    ("ranked", {"item": "a", "ranks": [1, 2], "flags": [{}, {"sexual_content": 1}]}, "true or false"),
    ("ranked", {"item": "a", "ranks": [1, 2], "flags": [{}, [1]]}, "write {name: true or false}"),
    ("ranked", {"item": "a", "ranks": [1, 2], "completions": ["x", 3]}, "must be text"),
    ("ranked", {"item": "a", "ranks": [1, 2], "seconds": -1}, "must not be negative"),
    ("skipped", {"item": "x" * 65}, "64 is the most"),
    ("rated", {"prompt": "p", "completion": "c"}, "must hold a 'rating'"),
    ("rated", {"prompt": "p", "completion": "c", "likert": 9}, "from 1 to 7"),
    ("labelled", {"prompt": "p", "completion": "c", "label": "yes"}, "write true or false"),
]


def _modes(kind: str) -> list[str]:
    return [mode for mode in MODES if kind in CLIENT_KINDS[mode]]


@pytest.mark.parametrize("kind", sorted(set.union(*map(set, CLIENT_KINDS.values()))))
def test_good_payloads_pass_in_the_modes_that_know_them(kind: str) -> None:
    for payload in GOOD[kind]:
        for mode in MODES:
            if mode in _modes(kind):
                check_client_event(mode, kind, payload)
                check_client_event(mode, kind, {**payload, "more": "is let through"})
            else:
                with pytest.raises(BadEvent, match="cannot send") as caught:
                    check_client_event(mode, kind, payload)
                assert caught.value.code == "unknown_kind"


@pytest.mark.parametrize(("kind", "payload", "words"), BAD)
def test_bad_payloads_get_one_sentence(kind: str, payload: Any, words: str) -> None:
    for mode in _modes(kind):
        with pytest.raises(BadEvent) as caught:
            check_client_event(mode, kind, payload)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400
        assert caught.value.code == "bad_event"


@pytest.mark.parametrize("kind", sorted(SERVER_KINDS))
def test_no_client_speaks_for_the_server(kind: str) -> None:
    for mode in MODES:
        with pytest.raises(BadEvent, match="cannot send"):
            check_client_event(mode, kind, {"now": 1.0})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
FIELDS = sorted({field for payloads in GOOD.values() for payload in payloads for field in payload})


@given(
    st.sampled_from(MODES),
    st.sampled_from(sorted(GOOD)) | st.text(max_size=8),
    st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=5) | JSON,
)
def test_whatever_is_sent_is_taken_or_refused_and_never_crashes(mode: str, kind: str, payload: Any) -> None:
    try:
        check_client_event(mode, kind, payload)
    except BadEvent:
        return
    assert kind in CLIENT_KINDS[mode]  # type: ignore[index]
    assert isinstance(payload, dict)


@given(st.sampled_from(sorted(GOOD)), st.data())
def test_a_good_payload_with_one_field_spoilt_never_crashes(kind: str, data: st.DataObject) -> None:
    payload = json.loads(json.dumps(data.draw(st.sampled_from(GOOD[kind]))))
    if payload:
        payload[data.draw(st.sampled_from(sorted(payload)))] = data.draw(JSON)
    for mode in _modes(kind):
        said = ""
        try:
            check_client_event(mode, kind, payload)
        except BadEvent as error:
            said = str(error)
        assert said == "" or said.endswith((".", "?"))


def test_unknown_modes_and_times_and_names() -> None:
    with pytest.raises(BadEvent, match="Did you mean 'control'"):
        check_client_event("controll", "press", {"value": 1})
    assert check_time(3) == 3.0
    for t in (None, "3", float("inf"), True):
        with pytest.raises(BadEvent):
            check_time(t)
    assert check_name("  Ada Lovelace ", "annotator") == "Ada Lovelace"
    for name in ("", "  ", "a\nb", "x" * 65, None, 3):
        with pytest.raises(BadEvent, match="1 to 64 visible characters"):
            check_name(name, "annotator")


def test_events_and_stores_import_no_database_no_server_and_no_torch() -> None:
    code = (
        "import sys, textrl.feedback.events, textrl.feedback.store, textrl.cli.feedback_store\n"
        "print(sorted({'torch', 'sqlalchemy', 'psycopg', 'starlette', 'uvicorn', 'websockets', 'numpy',"
        " 'gymnasium'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (out.stdout, out.stderr) == ("[]\n", "")
