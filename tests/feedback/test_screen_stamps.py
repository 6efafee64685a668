"""Which frames were seen, and when."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from textrl.feedback.screen import PATIENCE_S, Screen


def test_a_stamp_settles_its_frame_and_those_that_it_overtook() -> None:
    screen: Screen[str] = Screen()
    for name, now_s in (("a", 0.0), ("b", 0.2), ("c", 0.4)):
        screen.emit(name, now_s)
    settled = screen.stamp(2, 0.25)
    assert [(one.number, one.content, one.at_s, one.seen) for one in settled] == [
        (1, "a", 0.25, False),
        (2, "b", 0.25, True),
    ]
    assert (len(screen), screen.unseen, screen.newest) == (1, 1, 3)


def test_a_stamp_that_comes_twice_or_names_nothing_changes_nothing() -> None:
    screen: Screen[str] = Screen()
    screen.emit("a", 0.0)
    assert len(screen.stamp(1, 0.1)) == 1
    assert screen.stamp(1, 0.2) == []
    assert screen.stamp(7, 0.2) == []


def test_a_press_on_a_frame_stands_in_for_its_stamp() -> None:
    screen: Screen[str] = Screen()
    screen.emit("a", 1.0)
    (seen,) = screen.pressed(1, 1.5)
    assert (seen.at_s, seen.seen) == (1.0, True)
    assert screen.stamp(1, 1.05) == []  # the stamp itself comes too late to move it
    assert screen.pressed(None, 2.0) == []


def test_waiting_ends_after_a_second_except_for_the_newest() -> None:
    screen: Screen[int] = Screen()
    for i in range(4):
        screen.emit(i, i * 0.5)
    assert [one.content for one in screen.give_up(1.0 + PATIENCE_S)] == [0, 1]
    assert [one.content for one in screen.give_up(100.0)] == [2]
    assert len(screen) == 1
    assert screen.unseen == 3


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("emit"), st.floats(0, 3)),
            st.tuples(st.just("stamp"), st.integers(1, 12), st.floats(0, 50)),
            st.tuples(st.just("give up"), st.floats(0, 3)),
        ),
        max_size=40,
    )
)
def test_every_frame_is_settled_once_in_order_and_times_never_fall(actions: list[tuple]) -> None:
    screen: Screen[int] = Screen()
    now_s, settled = 0.0, []
    for action in actions:
        if action[0] == "emit":
            now_s += action[1]
            screen.emit(screen.newest + 1, now_s)
        elif action[0] == "stamp":
            settled += screen.stamp(action[1], action[2])
        else:
            now_s += action[1]
            settled += screen.give_up(now_s)
    assert [one.number for one in settled] == list(range(1, len(settled) + 1))
    assert len(settled) + len(screen) == screen.newest
    assert screen.unseen == sum(not one.seen for one in settled)
    seen_s = [one.at_s for one in settled if one.seen]
    assert seen_s == sorted(seen_s)
