"""A log makes the same weights again, whatever happened in it, and a restart changes nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machine_play import Play, new

from textrl.errors import UserError
from textrl.feedback.digests import digest_of
from textrl.feedback.replay import rebuild, replay
from textrl.feedback.store import open_store
from textrl.models.loading import tiny_gpt2

CONTROL = {"env": "MountainCar-v0", "max_episode_steps": 8, "features": {"per_dimension": 5, "width": 0.13}}

_ticks = st.tuples(st.just("tick"), st.one_of(st.none(), st.floats(0, 4)))
_acts = st.one_of(
    _ticks,
    _ticks,
    st.tuples(st.just("shown"), st.floats(-1, 1)),
    st.tuples(st.just("lost")),
    st.tuples(st.just("press"), st.sampled_from([1, -1, 10, -10]), st.floats(-2, 2), st.integers(0, 30)),
    st.tuples(st.just("control"), st.sampled_from(["pause", "resume", "step", "reset", "next_episode"])),
    st.tuples(st.just("speed"), st.floats(0.01, 20)),
    st.tuples(st.just("training"), st.booleans()),
    st.tuples(st.just("undo"), st.integers(0, 40)),
    st.tuples(st.just("bob"), st.integers(0, 30)),
)
_text_acts = st.one_of(
    _acts,
    st.tuples(st.just("span"), st.integers(0, 40), st.integers(0, 5), st.sampled_from([1.0, -1.0, 10.0])),
    st.tuples(st.just("prompt"), st.sampled_from(["", "once", "a much too long prompt " * 40])),
    st.tuples(st.just("trial"), st.floats(0, 5)),
)


def perform(play: Play, acts: list[tuple[Any, ...]]) -> None:
    for act in acts:
        match act:
            case "tick", wait_s:
                play.tick(wait_s)
            case "shown", after_s:
                play.shown(after_s)
            case ("lost",):
                play.unstamped.clear()
            case "press", value, after_s, frame:
                play.press(value, after_s, frame=frame)
            case "control", do:
                play.control(do)
            case ("speed" | "training") as do, value:
                play.control(do, value)
            case "undo", number:
                play.client("undone", {"uuid": f"u{number}"})
            case "bob", frame:
                play.press(frame=frame, annotator="bob")
            case "span", first, more, value:
                play.client("span", {"start_token": first, "end_token": first + more, "value": value})
            case "prompt", text:
                play.client("prompt", {"text": text})
            case "trial", delay_s:
                play.client("delay_trial", {"cue_t": play.now_s, "press_t": play.now_s + delay_s})


@pytest.mark.parametrize("learner", ["tamer", "tamer+rl", "sarsa"])
@settings(max_examples=8, deadline=None)
@given(acts=st.lists(_acts, max_size=60))
def test_a_control_session_is_repeated_by_its_log(learner: str, acts: list[tuple[Any, ...]]) -> None:
    play = Play("control", CONTROL | {"learner": learner}, pictures=True)
    perform(play, acts)
    assert play.again().digest() == play.machine.digest()


@settings(max_examples=8, deadline=None)
@given(acts=st.lists(_acts, max_size=50), at=st.integers(0, 60))
def test_a_restart_in_the_middle_is_no_restart(acts: list[tuple[Any, ...]], at: int) -> None:
    play = Play("control", CONTROL | {"learner": "tamer+rl"})
    perform(play, acts)
    cut = min(at, len(play.events))
    machine = play.again(play.events[:cut])
    for event in play.events[cut:]:
        machine.apply(event)
    assert machine.digest() == play.machine.digest()
    assert machine.view("ada") == play.machine.view("ada")
    assert machine.due() == play.machine.due()


@pytest.fixture(scope="module")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "small"
    return str(tiny_gpt2(folder=folder, vocab_size=300, width=24, layers=1, heads=2, context=128))


@pytest.mark.parametrize("loss", ["importance", "aggregate", "window"])
@settings(max_examples=6, deadline=None)
@given(acts=st.lists(_text_acts, max_size=50))
def test_a_text_session_is_repeated_by_its_log(
    small_model: str, loss: str, acts: list[tuple[Any, ...]]
) -> None:
    play = Play("text", {"model": small_model, "prompts": ["one", "two"], "max_new_tokens": 6, "loss": loss})
    perform(play, acts)
    again = play.again()
    assert again.digest() == play.machine.digest()
    assert again.view("ada") == play.machine.view("ada")


def played(learner: str = "tamer+rl", ticks: int = 40) -> Play:
    play = Play("control", CONTROL | {"learner": learner})
    for i in range(ticks):
        play.tick()
        play.shown()
        if i % 2:
            play.press((1, -1)[i % 3 == 0])
    return play


def test_replay_finds_the_digests_that_were_logged(tmp_path: Path) -> None:
    play = played()
    half = len(play.events) // 2
    middle, last = play.again(play.events[:half]).digest(), play.machine.digest()
    store = open_store(tmp_path / "s.sqlite")
    store.create_session(play.info)
    written = store.append([new(event) for event in play.events])
    # The server logs a digest a little later than what it covers.
    for sha256, index in ((middle, half - 1), (last, -1), ("0" * 64, -1)):
        covered = written[index].seq
        payload = {"sha256": sha256, "steps": 0, "after": covered}
        store.append([replace(new(play.events[0]), uuid=f"d{sha256[:20]}", kind="digest", payload=payload)])
    result = replay(store, "play")
    assert (result.sha256, result.failure, result.steps) == (last, None, len(play.events) + 3)
    assert [digest.equal for digest in result.digests] == [True, True, False]
    assert not result.equal
    assert replay(store, "play", upto=written[half - 1].seq).sha256 == middle
    told = []
    machine = rebuild(store, store.session("play"), each=told.append)
    assert machine.digest() == last
    assert len(told) == result.steps
    assert machine.live
    store.close()


def test_one_press_or_one_hundredth_of_a_second_makes_another_digest() -> None:
    play = played()
    pressed = play.events[30]
    assert pressed.kind == "press"
    other = replace(pressed, payload={"value": -pressed.payload["value"]})
    changed = [other if event is pressed else event for event in play.events]
    assert play.again(changed).digest() != play.machine.digest()
    later = [replace(e, t_client=e.t_client + 0.01) if e.kind == "press" else e for e in play.events]
    assert play.again(later).digest() != play.machine.digest()


def test_a_session_that_failed_fails_again_at_the_same_event(tmp_path: Path) -> None:
    diverges = {"learner": "sarsa", "sarsa": {"alpha": 1e300, "features": CONTROL["features"]}}
    play = Play("control", CONTROL | diverges)
    with pytest.raises(UserError, match="no longer finite") as failed:
        play.run(200)
    store = open_store(tmp_path / "s.sqlite")
    play.store(store)
    result = replay(store, "play")
    assert result.failure == str(failed.value)
    assert result.steps == len(play.events) - 1
    with pytest.raises(UserError, match="no longer finite"):
        rebuild(store, store.session("play"))
    store.close()


@settings(deadline=None)
@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
        ),
        max_leaves=8,
    )
)
def test_a_digest_depends_on_content_and_not_on_order(state: Any) -> None:
    def turned(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: turned(value[key]) for key in reversed(list(value))}
        return [turned(one) for one in value] if isinstance(value, list) else value

    assert digest_of(state) == digest_of(turned(state))
    assert digest_of([state]) != digest_of(state)
    assert digest_of({"a": state, "b": 1}) != digest_of({"a": state, "b": 2})


def test_a_digest_sees_every_bit_of_an_array() -> None:
    array = np.arange(6.0).reshape(2, 3)
    assert digest_of(array) == digest_of(np.asfortranarray(array))
    assert digest_of(array) == digest_of(array.astype(">f8"))
    assert digest_of(array) != digest_of(array.reshape(3, 2))
    assert digest_of(array) != digest_of(array.astype(np.float32))
    moved = array.copy()
    moved[1, 2] = np.nextafter(moved[1, 2], 9)
    assert digest_of(array) != digest_of(moved)
    with pytest.raises(TypeError):
        digest_of({"x": object()})
