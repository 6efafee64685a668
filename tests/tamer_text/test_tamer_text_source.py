"""The source ``tamer_text``: binding, reward and advice from one H, signals, saved state, bad input."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import tamer_text_world as world
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from textrl_tamer.conformance import conformance_settings
from textrl_tamer.text_source import TamerText

from textrl.errors import UserError
from textrl.protocols import Advice, AdviceState, Batch, Reward, Signal
from textrl.registry import get_registry
from textrl.rewards import build_rewards
from textrl.tamer.text.head import unit
from textrl.testing import make_batch, reward_cases, samples
from textrl.testing.batches import WORDS

TEXT = " the kindness made the film no slow kindness"
HIDDEN = np.random.default_rng(7).standard_normal((64, 16)).astype(np.float32) * 3


def ids() -> list[int]:
    return list(world.language_model()[1](TEXT)["input_ids"])


def press(value: float, at_s: float) -> Signal:
    return Signal(value=value, time_s=at_s)


def read(source: TamerText, *, first: int = 0, press_every: int = 3, begin_s: float = 0.0) -> TamerText:
    """Show the text, a token every quarter of a second, with presses in between."""
    for place, token in enumerate(ids()):
        at_s = begin_s + 0.25 * place
        source.observe([Signal(kind="tick", value=0.0, time_s=at_s)])
        source.show(HIDDEN[(first + place) % 64], token, at_s)
        if place % press_every == 0:
            source.observe([press((-1.0) ** place, at_s + 0.1)])
    source.end(at_s + 1.0)
    source.observe([Signal(kind="tick", value=0.0, time_s=at_s + 3.0)])
    return source


def batch(rows: int = 3, length: int = 9, *, seed: int = 0, extra: int = 0) -> Batch:
    draws = np.random.default_rng(seed)
    lengths = draws.integers(1, length + 1, rows)
    mask = torch.arange(length + extra)[None] < torch.from_numpy(lengths)[:, None]
    tokens, hidden = torch.zeros(mask.shape, dtype=torch.int64), torch.full((*mask.shape, 16), torch.nan)
    tokens[:, :length] = torch.from_numpy(draws.integers(0, 290, (rows, length)))
    hidden[:, :length] = torch.from_numpy(draws.standard_normal((rows, length, 16))).float()
    return Batch(
        prompt_ids=torch.zeros(rows, 1, dtype=torch.int64),
        prompt_mask=torch.ones(rows, 1, dtype=torch.bool),
        response_ids=tokens,
        response_mask=mask,
        ref_hidden=hidden.masked_fill(~mask[..., None], float("nan")),
    )


@pytest.fixture(scope="module")
def stated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return dict(conformance_settings(tmp_path_factory.mktemp("stated"))["tamer_text"])


@pytest.mark.parametrize("number", range(len(reward_cases("tamer_text"))))
def test_it_conforms_with_an_h_and_without_a_model(number: int, stated: dict[str, Any]) -> None:
    for given_settings in (stated, {}):
        reward_cases("tamer_text", given_settings)[number]()


def test_the_stated_h_is_not_0(stated: dict[str, Any]) -> None:
    built = build_rewards({"tamer_text": stated}, {"tamer_text": 1.0}, get_registry(), str)
    made = make_batch(samples(), built.needs)
    assert (built(made).total[made.response_mask] != 0).all()


def test_it_is_reward_and_advice_and_without_presses_exactly_0() -> None:
    source = world.source()
    assert isinstance(source, Reward)
    assert isinstance(source, Advice)
    assert source(batch()).tolist() == [[0.0] * 9] * 3
    assert not source.advise(AdviceState(observation=torch.zeros(3), ref_hidden=torch.randn(3, 16))).any()


def test_pay_and_advice_are_h() -> None:
    source, asked = read(world.source()), batch()
    paid = source(asked)
    assert paid.dtype == torch.float32
    assert asked.ref_hidden is not None
    for row, place in np.argwhere(asked.response_mask.numpy()):
        state = asked.ref_hidden[row, place]
        token = int(asked.response_ids[row, place])
        length = float(torch.linalg.vector_norm(state))
        h = source.head.value((state / length).numpy(), token)
        assert float(paid[row, place]) == pytest.approx(h, abs=2e-6)
        rated = source.advise(AdviceState(observation=torch.zeros(1), ref_hidden=state[None]))
        assert rated.shape == (1, 290)
        assert float(rated[0, token]) == pytest.approx(h, abs=2e-6)
    assert not paid[~asked.response_mask].any()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 99), rows=st.integers(1, 5), length=st.integers(1, 12), extra=st.integers(0, 4))
def test_what_else_is_in_a_batch_does_not_matter(seed: int, rows: int, length: int, extra: int) -> None:
    source = SHARED
    whole, padded = batch(rows, length, seed=seed), batch(rows, length, seed=seed, extra=extra)
    together = source(whole)
    torch.testing.assert_close(source(padded)[:, :length], together, atol=1e-6, rtol=0)
    assert not source(padded)[:, length:].any()
    backwards = dataclasses.replace(
        whole,
        response_ids=whole.response_ids.flip(0),
        response_mask=whole.response_mask.flip(0),
        ref_hidden=whole.ref_hidden.flip(0) if whole.ref_hidden is not None else None,
    )
    torch.testing.assert_close(source(backwards).flip(0), together, atol=1e-6, rtol=0)
    for row in range(rows):
        alone = dataclasses.replace(
            whole,
            response_ids=whole.response_ids[row : row + 1],
            response_mask=whole.response_mask[row : row + 1],
            ref_hidden=whole.ref_hidden[row : row + 1] if whole.ref_hidden is not None else None,
        )
        torch.testing.assert_close(source(alone)[0], together[row], atol=1e-6, rtol=0)


SHARED = read(world.source())


def test_words_are_found_by_the_tokenizer() -> None:
    """The tokens of "kindness" share its credit; with share_words: false each has its own."""
    word = world.language_model()[1]("kindness")["input_ids"]
    assert len(word) > 3
    taught = {}
    for share in (True, False):
        source = world.source(share_words=share, delay={"low": 0.2, "high": 0.5})
        for place, token in enumerate(word):
            source.show(HIDDEN[place], token, 0.02 * place)
        # Soon enough to speak of the word's first token alone, where each has its own time.
        source.observe([press(1.0, 0.21)])
        taught[share] = [source.head.value(unit(HIDDEN[i]), token) > 0.01 for i, token in enumerate(word)]
    assert taught[True] == [True] * len(word)
    assert taught[False][0]
    assert not any(taught[False][1:])


def test_the_same_model_may_be_bound_again_and_another_may_not() -> None:
    source = read(world.source())
    head = source.head
    source.bind_text(*world.language_model())
    source.bind_text(world.language_model()[0].bfloat16(), world.language_model()[1])
    world.language_model.cache_clear()
    assert source.head is head
    with pytest.raises(UserError, match=r"rates the tokens of another model \(SHA-256 .*; use one source"):
        source.bind_text(*world.language_model(seed=1))
    with pytest.raises(UserError, match=r"needs the model's tokenizer to find words; give it, or set"):
        world.source(bound=False).bind_text(world.language_model()[0], None)
    assert world.source(bound=False, share_words=False).bind_text(world.language_model()[0], None) is None


def test_the_settings_may_name_the_model(stated: dict[str, Any]) -> None:
    source = world.source(bound=False, **stated)
    assert (source.head.vocabulary, source.head.width, source.head.rank) == (len(WORDS), HIDDEN.shape[1], 4)
    with pytest.raises(UserError, match="rates the tokens of another model"):
        source.bind_text(*world.language_model())


def test_before_the_model_is_known_nothing_can_be_shown_or_rated() -> None:
    source = world.source(bound=False)
    source.observe([press(1.0, 1.0), Signal(kind="tick", value=0.0, time_s=2.0)])
    assert not source(batch()).any()
    assert source.presses == 0
    for ask in (
        lambda: source.head,
        lambda: source.teaching,
        lambda: source.show(HIDDEN[0], 3, 0.0),
        lambda: source.advise(AdviceState(observation=torch.zeros(1), ref_hidden=torch.zeros(1, 16))),
    ):
        with pytest.raises(UserError, match="does not know whose tokens to rate; set its 'model'"):
            ask()


@pytest.mark.parametrize("loss", ["importance", "aggregate", "aggregate_rewarded_only", "window"])
@pytest.mark.parametrize("cut", [0, 3, 7])
def test_a_saved_source_goes_on_bit_for_bit_in_the_middle_of_a_word(loss: str, cut: int) -> None:
    def part(source: TamerText, places: range) -> None:
        for place in places:
            source.show(HIDDEN[place], ids()[place], 0.25 * place)
            source.observe([press(1.0 - place % 3, 0.25 * place + 0.1)])
            source.observe([Signal(kind="tick", value=0.0, time_s=0.25 * place + 0.1)])

    old = world.source(loss=loss)
    early, late = world.source(loss=loss), world.source(loss=loss, bound=False)
    part(old, range(cut))
    for new in (early, late):
        new.load_state_dict(world.through_files(old.state_dict()))
    late.bind_text(*world.language_model())
    for source in (old, early, late):
        part(source, range(cut, len(ids())))
        read(source, first=20, begin_s=30.0)
    for new in (early, late):
        assert np.array_equal(new.head.w, old.head.w)
        assert np.array_equal(new.head.b, old.head.b)
        assert (new.presses, new.teaching.samples) == (old.presses, old.teaching.samples)
        assert torch.equal(new(batch()), old(batch()))
    assert old.head.learnt > 0


def test_a_state_waits_for_its_model_and_is_refused_by_another() -> None:
    state = world.through_files(read(world.source()).state_dict())
    unbound = world.source(bound=False)
    unbound.load_state_dict(state)
    again = world.source(bound=False)
    again.load_state_dict(world.through_files(unbound.state_dict()))
    with pytest.raises(
        UserError, match=r"^The saved head was learnt on another model, of 290 tokens and width"
    ):
        again.bind_text(*world.language_model(width=8))
    again.bind_text(*world.language_model())
    assert torch.equal(again(batch()), SHARED(batch()))


def test_long_reading_drops_tokens_out_of_reach_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    patient = world.source(capacity=5)
    monkeypatch.setattr("textrl_tamer.text_source._ROOM", 4)
    tidy = world.source(capacity=5)
    tidy._room = 4
    for source in (patient, tidy):
        for text in range(6):
            read(source, first=text, begin_s=30.0 * text)
    assert len(tidy.teaching.tokens) < 3 * len(ids()) < len(patient.teaching.tokens)
    assert np.array_equal(tidy.head.w, patient.head.w)
    assert np.array_equal(tidy.head.b, patient.head.b)


def test_a_head_is_saved_and_begun_with(tmp_path: Any) -> None:
    folder = SHARED.save_head(tmp_path / "head")
    again = world.source(weights=str(folder))
    assert torch.equal(again(batch()), SHARED(batch()))
    with pytest.raises(UserError, match=r"head was learnt with rank 64, but rank is 8 here; set rank: 64"):
        world.source(weights=str(folder), rank=8)
    with pytest.raises(UserError, match=r"There is no head of tamer_text .*nowhere") as missing:
        world.source(weights=str(tmp_path / "nowhere"))
    assert missing.value.key == "weights"


def test_what_was_taught_is_never_paid_as_silent_zeros(tmp_path: Any) -> None:
    """Without a model there is no H yet; of a source that nobody taught zeros are the truth."""
    taught = world.source(bound=False, weights=str(SHARED.save_head(tmp_path / "head")))
    with pytest.raises(UserError, match="does not know whose tokens to rate"):
        taught(batch())
    late = world.source(bound=False)
    late.load_state_dict(SHARED.state_dict())
    with pytest.raises(UserError, match="does not know whose tokens to rate"):
        late(batch())
    assert taught.taught
    assert late.taught
    fresh = world.source(bound=False)
    assert not fresh.taught
    assert not fresh(batch()).any()


def test_presses_count_while_training_is_on() -> None:
    source = world.source()
    assert source.is_training
    source.observe([Signal(kind="training", value=0.0, time_s=0.0)])
    assert not source.is_training
    source.show(HIDDEN[0], 5, 0.0)
    source.observe([press(1.0, 1.0)])
    assert (source.presses, source.head.learnt) == (0, 0)
    source.observe([Signal(kind="training", value=1.0, time_s=3.0)])
    source.show(HIDDEN[0], 5, 4.0)
    source.observe([press(1.0, 5.0)])
    assert source.presses == 1
    assert source.head.learnt > 0
    assert source.metrics(batch()) == {"presses": 1.0, "samples": 1.0}


def shown(place: int, **more: Any) -> Signal:
    payload = {"token": ids()[place], "hidden": HIDDEN[place].tolist(), **more}
    return Signal(kind="shown", value=0.0, time_s=0.25 * place, payload=payload)


def test_a_stream_of_signals_teaches_what_the_calls_teach() -> None:
    called, told = world.source(), world.source()
    pieces = world.Pieces(world.language_model()[1])
    for place, token in enumerate(ids()):
        called.show(HIDDEN[place], token, 0.25 * place)
        told.observe([shown(place, text=pieces.add(token))])
        for source in (called, told):
            source.observe([press(1.0, 0.25 * place + 0.2)])
    called.end(4.0)
    told.observe([Signal(kind="end_episode", value=0.0, time_s=4.0)])
    for source in (called, told):
        source.observe([press(-1.0, 4.5), Signal(kind="tick", value=0.0, time_s=9.0)])
    assert called.head.learnt > 0
    assert np.array_equal(called.head.w, told.head.w)


@pytest.mark.parametrize(
    ("signal", "message"),
    [
        (shown(0, token=290), r"was shown token 290, but its model has 290 tokens; give what .* wrote\.$"),
        (shown(0, text=" film"), r"^Token \d+ at 0.0 s is ' film' in the log, but '.*' in this model's voc"),
        (shown(0, hidden=[1.0] * 8), r"hidden state of the shape \(8,\); give 16 finite numbers"),
        (shown(0, hidden=[float("nan")] * 16), r"give 16 finite numbers"),
        (Signal(kind="shown", value=0.0, time_s=1.0, payload={"token": 3}), r"without its 'hidden'; give"),
        (press(float("inf"), 1.0), r"A press has the value inf; give a finite number"),
    ],
)  # fmt: skip
def test_a_log_of_another_model_is_refused(signal: Signal, message: str) -> None:
    with pytest.raises(UserError, match=message):
        world.source().observe([signal])


def test_hidden_states_and_tokens_of_another_model_are_refused() -> None:
    asked = batch()
    assert asked.ref_hidden is not None
    for hidden, found in ((None, "none"), (asked.ref_hidden[..., :8], "some of width 8")):
        with pytest.raises(
            UserError, match=f"hidden states of width 16, and was given {found}; set its 'model'"
        ):
            SHARED(dataclasses.replace(asked, ref_hidden=hidden))
    with pytest.raises(UserError, match=r"is to pay token 999, but its model has 290 tokens"):
        SHARED(
            dataclasses.replace(asked, response_ids=asked.response_ids.masked_fill(asked.response_mask, 999))
        )
    with pytest.raises(UserError, match="was given none"):
        SHARED.advise(AdviceState(observation=torch.zeros(1)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rank": 0}, "rank is 0; it must be at least 1"),
        ({"alpha": 1.5}, "alpha is 1.5; it must be between 0 and 1"),
        ({"replay": -1}, "replay is -1; it must be at least 0"),
        ({"seed": -1}, "seed is -1"),
        ({"delay": {"kind": "previous_step"}}, "delay is previous_step; on text give uniform"),
        ({"loss": "windw"}, "loss"),
    ],
)
def test_settings_that_cannot_work_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        world.source(bound=False, **given)
