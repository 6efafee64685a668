"""A text session's machine: tokens, credit by display time, spans, undo, calibration, faults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from machine_play import Play, of_type, only

from textrl.errors import UserError
from textrl.feedback.machine import resolve_config
from textrl.models.loading import load_causal_lm, tiny_gpt2
from textrl.rollout import generate

DELAY = {"kind": "uniform", "low": 0.2, "high": 0.8}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "small"
    return str(tiny_gpt2(folder=folder, vocab_size=300, width=24, layers=1, heads=2, context=128))


@pytest.fixture
def config(model: str) -> dict[str, Any]:
    return {
        "model": model,
        "prompts": ["The film", "A woman"],
        "max_new_tokens": 12,
        "step_s": 0.15,
        "delay": DELAY,
    }


def written(play: Play, texts: int = 1) -> list[dict[str, Any]]:
    """Let it write until so many texts are finished; returns their messages."""
    found: list[dict[str, Any]] = []
    while len(found) < texts:
        found += [one for one in of_type(play.tick(), "sample") if one["done"]]
        play.shown(0.0)
    return found


def test_without_feedback_the_text_is_the_models_own(config: dict[str, Any]) -> None:
    play = Play("text", config | {"seed": 5, "temperature": 0.7})
    (text,) = written(play)
    network, tokenizer = load_causal_lm(config["model"])
    ids = torch.tensor([tokenizer("The film")["input_ids"]])
    rollout = generate(
        network, ids, torch.ones_like(ids, dtype=torch.bool), max_new_tokens=12,
        eos_ids=[network.config.eos_token_id], pad_id=tokenizer.pad_token_id, seed=5,
        episodes=torch.tensor([1]), temperature=0.7,
    )  # fmt: skip
    alone = rollout.response_ids[0][rollout.response_mask[0]].tolist()
    assert [one.token for one in play.machine.teaching.tokens] == alone
    assert text["text"] == tokenizer.decode(alone, skip_special_tokens=True)
    assert "".join(one["text"] for one in play.frames) == text["text"]
    assert (text["mean_score"], text["kl_per_token"], text["changed"]) == (None, 0.0, 0)


def test_prompt_tokens_and_end_each_have_their_time(config: dict[str, Any]) -> None:
    play = Play("text", config | {"read_s": 1.5, "pause_s": 2.0})
    begun = only(play.tick(), "sample")
    assert (begun["prompt"], begun["done"], play.machine.due()) == ("The film", False, 1.5)
    play.tick()
    assert play.machine.due() == 0.15
    written(play)
    assert play.machine.due() == 2.0
    assert only(play.tick(), "sample")["prompt"] == "A woman"


def test_a_press_is_credited_to_the_words_that_were_on_screen(config: dict[str, Any]) -> None:
    """A word at s until e gets F(t - s) - F(t - e) of a press at t; delays are uniform in [0.2, 0.8] s."""
    play = Play("text", config | {"alpha": 0.5, "max_new_tokens": 30})
    while len(play.frames) < 20:
        play.tick()
        play.shown(0.0)
    shown_s = {}
    for event in play.events:
        if event.kind == "shown":
            shown_s |= dict(event.payload["frames"])
    at_s = play.now_s + 0.07
    rated = only(play.client("press", {"value": 1}, at_s=at_s), "rated")
    # A token's word lasts until the next word; with words of one token each this is the plain rule. A token
    # without text waits for a whole letter, and appears with it.
    waits = {one["frame_id"] for one in play.frames if not one["text"]}
    starts = sorted(t for number, t in shown_s.items() if number not in waits)
    reached = {
        number for number, t in shown_s.items() if number not in waits
        and at_s - next((s for s in starts if s > t), at_s) < 0.8 and at_s - t > 0.2
    }  # fmt: skip
    assert reached <= set(rated["frame_ids"])
    extra = set(rated["frame_ids"]) - reached
    joins = {one["frame_id"] for one in play.frames if one["text"][:1].isalnum()}
    # More only where sub-words share the credit of their word.
    assert all(n in joins or n + 1 in joins or n in waits for n in extra)
    assert rated["value"] == 1
    assert play.machine.writer.head.learnt >= len(rated["frame_ids"])


def test_a_span_moves_h_by_the_gradient_step(config: dict[str, Any]) -> None:
    play = Play("text", config | {"alpha": 0.3})
    written(play)
    head, tokens = play.machine.writer.head, play.machine.teaching.tokens
    rated = only(play.client("span", {"start_token": 3, "end_token": 3, "value": -1.0}), "rated")
    assert rated["frame_ids"] == [3]
    one = tokens[2]
    # h and p_a have length 1 and the bias is a feature of 1: alpha (1 + 1) of the error goes.
    assert head.value(one.state, one.token) == pytest.approx(-0.6, abs=1e-6)
    assert head.rate(one.state)[one.token] == pytest.approx(-0.6, abs=1e-5)
    others = np.delete(head.b, one.token)
    assert not others.any()


def test_spans_beyond_what_was_written_are_cut(config: dict[str, Any]) -> None:
    play = Play("text", config)
    play.tick()
    play.tick()
    nowhere = only(play.client("span", {"start_token": 50, "end_token": 60, "value": 1}), "rated")
    assert nowhere["frame_ids"] == [], "the page takes its own colours back by it"
    play.tick()
    rated = only(play.client("span", {"start_token": 0, "end_token": 9999, "value": 1}), "rated")
    assert rated["frame_ids"] == [1, 2]


def test_feedback_changes_the_next_texts_within_the_cap(config: dict[str, Any]) -> None:
    play = Play("text", config | {"cap_nats": 3.0, "beta": 8.0, "pause_s": 0.0, "read_s": 0.0})
    written(play)
    token = play.machine.teaching.tokens[0].token
    for _ in range(20):
        play.client("span", {"start_token": 1, "end_token": 1, "value": 1})
    later = written(play, 12)
    ids = [one.token for one in play.machine.teaching.tokens]
    before, after = ids[:12].count(token) / 12, ids[12:].count(token) / len(ids[12:])
    # 1 in 300 by itself; three nats make it twenty times as likely.
    assert after > 0.02
    assert after > before / 12
    assert sum(one["changed"] for one in later) > 0
    assert any("plain" in one for one in play.frames)
    assert all(0 < one["kl_per_token"] < 3 for one in later)
    head = play.machine.writer.head
    assert np.abs(play.machine.settings.beta * head.rate(play.machine.teaching.tokens[0].state)).max() > 3


def test_undo_makes_h_as_if_the_press_had_never_been(config: dict[str, Any]) -> None:
    def taught(*, wrong: bool) -> Any:
        play = Play("text", config)
        for i in range(14):
            play.tick()
            play.shown(0.0)
            if i == 8 and wrong:
                play.press(-10)
                press = play.events[-1].uuid
                play.client("span", {"start_token": 2, "end_token": 4, "value": -10})
                span = play.events[-1].uuid
                undone = only(play.client("undone", {"uuid": span}), "rated")
                assert (undone["frame_ids"], undone["value"]) == ([2, 3, 4], 0)
                assert only(play.client("undone", {"uuid": press}), "rated")["frame_ids"]
                assert play.client("undone", {"uuid": press}) == []
                assert play.client("undone", {"uuid": "never"}) == []
            if i in (6, 10):
                play.press(1)
        return play.machine

    wrong, right = taught(wrong=True), taught(wrong=False)
    assert np.array_equal(wrong.writer.head.w, right.writer.head.w)
    assert np.array_equal(wrong.writer.head.b, right.writer.head.b)
    assert wrong.digest() == right.digest()
    assert right.writer.head.learnt > 0


def test_training_off_means_that_nothing_is_learnt(config: dict[str, Any]) -> None:
    play = Play("text", config)
    written(play)
    play.control("training", False)
    play.press()
    play.client("span", {"start_token": 1, "end_token": 3, "value": 1})
    assert play.machine.writer.head.learnt == 0
    play.control("training", True)
    play.client("span", {"start_token": 1, "end_token": 3, "value": 1})
    assert play.machine.writer.head.learnt == 3


def test_a_calibration_is_fitted_and_used(config: dict[str, Any]) -> None:
    play = Play("text", config)
    rng = np.random.default_rng(0)
    delays = rng.normal(1.2, 0.1, 12)
    messages: list[Any] = []
    for i, delay_s in enumerate(delays):
        cue_s = play.now_s + 3.0 * i
        pressed_s = None if i == 4 else cue_s + float(delay_s)
        messages += play.client("delay_trial", {"cue_t": cue_s, "press_t": pressed_s})
    last = of_type(messages, "delay")[-1]
    assert last["trials"] == 11
    assert last["fitted_s"] == pytest.approx(1.2, abs=0.1)
    delay = play.machine.teaching.delay
    assert (delay.kind, round(delay.shape * delay.scale, 1)) == ("gamma", 1.2)
    assert play.machine.view("ada")["delay"] == last
    # A press now speaks of what was shown 1.2 s ago and not of what was shown 0.5 s ago.
    play.tick()
    numbers = []
    for _ in range(12):
        play.tick()
        numbers.append(play.frames[-1]["frame_id"])
        play.shown(0.0)
    head, tokens = play.machine.writer.head, play.machine.teaching.tokens
    before = head.b.copy()
    play.press(1, after_s=0.0)
    gained = {n: head.b[tokens[n - 1].token] - before[tokens[n - 1].token] for n in numbers}
    near = max(gained[n] for n in numbers[-3:])
    assert max(gained.values()) > 5 * max(near, 1e-6)


def test_the_trainers_own_prompt_comes_next(config: dict[str, Any]) -> None:
    play = Play("text", config)
    for _ in range(4):
        play.tick()
    cut = only(play.client("prompt", {"text": "Once more"}), "sample")
    assert (cut["done"], cut["cut"], play.machine.due()) == (True, True, 0.15)
    assert only(play.tick(), "sample")["prompt"] == "Once more"
    (refused,) = play.client("prompt", {"text": "far too long " * 60})
    assert (refused["type"], refused["code"], refused["to"]) == ("error", "bad_event", "ada")
    assert "fit into the context" in refused["message"]
    assert play.machine.due() is not None
    written(play)
    assert only(play.tick(), "sample")["prompt"] == "A woman"


def test_leaving_and_repeating_a_text(config: dict[str, Any]) -> None:
    play = Play("text", config)
    for _ in range(4):
        play.tick()
    play.control("reset")
    assert only(play.tick(), "sample")["prompt"] == "The film"
    play.tick()
    play.control("next_episode")
    assert only(play.tick(), "sample")["prompt"] == "A woman"


def test_a_model_that_fails_mid_stream_ends_the_session_with_a_sentence(config: dict[str, Any]) -> None:
    play = Play("text", config)
    for _ in range(5):
        play.tick()
    with torch.no_grad():
        play.machine.writer._model.transformer.wte.weight.fill_(float("nan"))
    with pytest.raises(UserError, match="gave numbers that are not finite at token") as failed:
        play.run(3)
    assert "\n" not in str(failed.value)
    with pytest.raises(UserError, match="not finite"):
        play.tick()
    assert play.machine.due() is None


def test_a_config_holds_its_prompts_and_knows_its_model(config: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in ("One day", "Never again")))
    full = resolve_config("text", {"model": config["model"], "prompts": str(file), "max_new_tokens": 5})
    file.unlink()
    assert full["prompts"] == ["One day", "Never again"]
    play = Play("text", full)
    assert only(play.tick(), "sample")["prompt"] == "One day"
    with pytest.raises(UserError, match="not those of the session"):
        Play("text", full | {"model_sha256": "0" * 64})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": "no-such-model"}, "There is no model 'no-such-model'"),
        ({"prompts": []}, "prompts is empty"),
        ({"prompts": ["far too long " * 60]}, "fit into the context"),
        ({"alpha": 1.5}, "alpha is 1.5"),
        ({"delay": {"kind": "previous_step"}}, "previous_step"),
        ({"temprature": 1.0}, "unknown key 'temprature'. Did you mean 'temperature'"),
    ],
)
def test_what_cannot_be_is_refused(config: dict[str, Any], change: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        Play("text", config | change)


def scripted(play: Play, monkeypatch: pytest.MonkeyPatch, ids: list[int]) -> None:
    """Let the model write these tokens, and show each as it comes."""
    writer, left = play.machine.writer, list(ids)
    monkeypatch.setattr(writer, "_sample", lambda logits: left.pop(0))
    play.tick()
    while left:
        play.tick()
        play.shown(0.0)


@pytest.mark.parametrize("ended", [False, True])
def test_the_end_of_a_text_is_no_word_and_letters_of_several_tokens_are_whole(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, ended: bool
) -> None:
    """The delay is U(.2, .8): a press .8 s after the last token speaks of what has been there since."""
    play = Play("text", config | {"alpha": 0.5})
    tokenizer, head = play.machine.writer.tokenizer, play.machine.writer.head
    ids = tokenizer("о, é")["input_ids"]
    end = [tokenizer.eos_token_id] if ended else []
    assert len(ids) == 2 + 1 + 1 + 2
    scripted(play, monkeypatch, [*ids, *end])
    assert [one["text"] for one in play.frames] == ["", "о", ",", " ", "", "é", *[""] * ended]
    last_s = play.now_s
    rated = only(play.client("press", {"value": 1}, at_s=last_s + 0.8), "rated")
    assert rated["frame_ids"] == [5, 6]
    # Both halves have all of the credit; the first is taught first: .5 of the error of 1.
    assert head.b[ids[4]] == pytest.approx(0.5)
    assert not head.b[end].any()
    assert play.machine.teaching.samples == 1


def test_a_text_of_its_end_alone_cannot_be_rated(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    play = Play("text", config)
    scripted(play, monkeypatch, [play.machine.writer.tokenizer.eos_token_id])
    assert only(play.client("press", {"value": 1}, at_s=play.now_s + 0.5), "rated")["frame_ids"] == []
    assert play.machine.writer.head.learnt == 0
