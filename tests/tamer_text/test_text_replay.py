"""Replay of earlier lessons, the state of what was taught, and undo with both."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tamer_text_world as world
from hypothesis import given, settings
from hypothesis import strategies as st

from textrl.tamer.credit import Loss
from textrl.tamer.text.head import unit
from textrl.tamer.text.lessons import Lesson, Lessons, Replay
from textrl.tamer.text.teaching import Teaching, Token

LOSSES: tuple[Loss, ...] = ("importance", "aggregate", "aggregate_rewarded_only", "window")
#: ("show" a token after so long, perhaps as a part of the word), ("press" the value, and whether it is
#: taken back later), ...
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("show"), st.floats(0.01, 1), st.booleans()),
        st.tuples(st.just("press"), st.sampled_from([1.0, -1.0, 10.0]), st.booleans()),
        st.tuples(st.just("span"), st.integers(1, 4), st.booleans()),
        st.tuples(st.just("tick")),
        st.tuples(st.just("end")),
        st.tuples(st.just("training"), st.booleans()),
        st.tuples(st.just("delay"), st.floats(0.3, 2.0)),
    ),
    max_size=30,
)
STATES = [unit(row) for row in np.random.default_rng(3).standard_normal((40, world.WIDTH))]


class Player:
    """Plays operations, so that two may go the same way."""

    def __init__(self, teaching: Teaching) -> None:
        self.teaching = teaching
        self.now_s, self.shown, self.done = 0.0, 0, 0

    def play(self, operations: list[tuple[Any, ...]], *, skip: bool = False) -> None:
        """Take each in turn; `skip` leaves out what is to be taken back."""
        for operation in operations:
            self.done += 1
            if not (skip and operation[0] in ("press", "span") and operation[-1]):
                self._take(operation)

    def _take(self, operation: tuple[Any, ...]) -> None:
        name, teaching = operation[0], self.teaching
        if name == "show":
            self.now_s += operation[1]
            teaching.tokens.append(Token(STATES[self.shown % 40], self.shown % world.VOCABULARY))
            self.shown += 1
            teaching.show(len(teaching.tokens), self.now_s, joins=operation[2])
        elif name == "press":
            teaching.press(f"u{self.done}", operation[1], self.now_s + 0.3)
        elif name == "span":
            last = len(teaching.tokens)
            teaching.span(f"u{self.done}", last - operation[1] + 1, last, 1.0)
        elif name == "tick":
            teaching.tick(self.now_s)
        elif name == "end":
            teaching.end(self.now_s + 1.0)
        elif name == "training":
            teaching.training(operation[1], self.now_s)
        else:
            teaching.calibrate(world.DelaySettings(low=0.1, high=operation[1]))


def player(loss: Loss, count: int, capacity: int = 3) -> Player:
    return Player(Teaching(world.head(), world.DELAY, loss, Replay(count, capacity, seed=5)))


def same(one: Teaching, other: Teaching) -> None:
    assert np.array_equal(one.head.w, other.head.w)
    assert np.array_equal(one.head.b, other.head.b)
    assert (one.samples, one.head.learnt) == (other.samples, other.head.learnt)
    assert one.state_dict()["credit"] == other.state_dict()["credit"]


@pytest.mark.parametrize("loss", LOSSES)
@settings(max_examples=15, deadline=None)
@given(operations=OPERATIONS)
def test_without_replay_nothing_is_kept_and_nothing_changes(
    loss: Loss, operations: list[tuple[Any, ...]]
) -> None:
    off, plain = player(loss, 0), Player(Teaching(world.head(), world.DELAY, loss))
    for one in (off, plain):
        one.play(operations)
    same(off.teaching, plain.teaching)
    assert off.teaching.state_dict()["lessons"] == {"learnt": 0, "kept": []}


@pytest.mark.parametrize("loss", LOSSES)
@settings(max_examples=15, deadline=None)
@given(operations=OPERATIONS, backwards=st.booleans())
def test_with_replay_what_is_undone_was_never_there(
    loss: Loss, operations: list[tuple[Any, ...]], backwards: bool
) -> None:
    taught, clean = player(loss, 2), player(loss, 2)
    taught.play(operations)
    undone = [f"u{i}" for i, one in enumerate(operations, 1) if one[0] in ("press", "span") and one[-1]]
    for uuid in reversed(undone) if backwards else undone:
        assert taught.teaching.undo(uuid) is not None
    clean.play(operations, skip=True)
    same(taught.teaching, clean.teaching)


@pytest.mark.parametrize("loss", LOSSES)
@settings(max_examples=15, deadline=None)
@given(before=OPERATIONS, after=OPERATIONS)
def test_a_state_goes_on_bit_for_bit_and_undo_stops_there(
    loss: Loss, before: list[tuple[Any, ...]], after: list[tuple[Any, ...]]
) -> None:
    old, new, settled = player(loss, 2), player(loss, 2), player(loss, 2)
    old.play(before)
    settled.play(before)
    settled.teaching.settle()
    new.teaching.load_state_dict(old.teaching.state_dict())
    new.now_s, new.shown, new.done = old.now_s, old.shown, old.done
    for one in (old, new, settled):
        one.play(after)
    same(old.teaching, new.teaching)
    same(old.teaching, settled.teaching)
    pressed = [
        (f"u{i}", i > len(before))
        for i, one in enumerate([*before, *after], 1)
        if one[0] in ("press", "span")
    ]
    for uuid, later in pressed:
        old.teaching.undo(uuid) if later else None
        assert (new.teaching.undo(uuid) is not None) == later
    same(old.teaching, new.teaching)


def test_a_head_that_was_taught_before_survives_an_undo() -> None:
    head = world.head()
    head.learn(STATES[0], 3, 1.0)
    before = head.state_dict()
    teaching = Teaching(head, world.DELAY, "importance")
    teaching.tokens.append(Token(STATES[1], 4))
    teaching.span("one", 1, 1, -1.0)
    assert not np.array_equal(before["w"], head.w)
    assert teaching.undo("one") == [1]
    assert np.array_equal(before["w"], head.w)
    assert head.learnt == 1


def test_the_latest_lessons_are_kept_and_drawn_by_their_number() -> None:
    lessons = Lessons(Replay(count=4, capacity=3, seed=0))
    made = [Lesson((i,), (1.0,), float(i)) for i in range(5)]
    assert lessons.drawn() == []
    for one in made:
        lessons.keep(one)
    assert sorted(one.label for one in lessons.kept) == [2.0, 3.0, 4.0]
    assert lessons.drawn() == lessons.drawn()
    assert len(lessons.drawn()) == 4
    again = Lessons.from_state(lessons.state_dict({i: i for i in range(5)}), Replay(count=4, capacity=3))
    assert again.drawn() == lessons.drawn()
    drawn = {one.label for _ in range(60) for one in lessons.drawn() if lessons.keep(made[4]) is None}
    assert drawn == {2.0, 3.0, 4.0}


def error(count: int, presses: int, seed: int) -> float:
    """Return the mean squared error of H on fresh pairs, after labels by a truth that H can express."""
    rng = np.random.default_rng(seed)
    truth = world.head(seed=2)
    truth.w[:] = rng.standard_normal(truth.w.shape)
    teaching = Teaching(world.head(seed=2), world.DELAY, "importance", Replay(count, 500, seed))
    for number in range(1, presses + 1):
        state, token = unit(rng.standard_normal(world.WIDTH)), int(rng.integers(world.VOCABULARY))
        teaching.tokens.append(Token(state, token))
        teaching.span(f"{number}", number, number, truth.value(state, token))
    pairs = [
        (unit(rng.standard_normal(world.WIDTH)), int(rng.integers(world.VOCABULARY))) for _ in range(200)
    ]
    return float(np.mean([(truth.value(s, a) - teaching.head.value(s, a)) ** 2 for s, a in pairs]))


def test_replay_comes_nearer_to_a_known_truth_from_the_same_labels() -> None:
    nothing = error(0, 0, 0)
    without = [error(0, 60, seed) for seed in range(5)]
    replayed = [error(4, 60, seed) for seed in range(5)]
    assert all(again < once for again, once in zip(replayed, without, strict=True))
    assert np.mean(replayed) < 0.8 * np.mean(without) < 0.8 * nothing
    # The truth is linear in H's own features, so that the least error is 0.
    assert error(4, 800, 0) < 0.02 * nothing
