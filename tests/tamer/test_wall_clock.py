"""A session with a person that is resumed in another process, whose monotonic clock has another zero."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tamer_world import corridor_tamer, fingerprint
from textrl_human.realtime import Realtime
from textrl_human.replay import Replay
from textrl_human.settings import RealtimeSettings, ReplaySettings

from textrl.errors import UserError
from textrl.tamer import DelaySettings, Human, HumanSettings, VirtualClock, WallClock
from textrl.tamer.log import read_log


class Machine:
    """A machine's `time`: `monotonic` begins anywhere, and sleeping takes no time of the test's."""

    def __init__(self, monotonic_s: float) -> None:
        self.now_s = monotonic_s

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Any:
    def started(monotonic_s: float) -> Machine:
        machine = Machine(monotonic_s)
        monkeypatch.setattr("textrl.tamer.human.time", machine)
        return machine

    return started


def person(log: Path | None = None) -> tuple[Human, Realtime]:
    """Presses rate what was shown up to four seconds before, so that many steps wait for them."""
    feedback = Realtime(RealtimeSettings())
    tamer = corridor_tamer(alpha=0.5, delay=DelaySettings(low=0.2, high=4.0))
    return Human(feedback, tamer, HumanSettings(step_s=0.25, pause_s=0.5), log=log), feedback


def episode(human: Human, feedback: Realtime, machine: Machine, number: int, steps: int = 6) -> None:
    for step in range(steps):
        human.shown((number + step) % 5, step % 2)
        machine.now_s += 0.125  # the environment computes
        if (number + step) % 3 == 0:
            feedback.press(1.0 if step % 2 else -1.0)
        human.advance()
    human.end_episode()


@pytest.mark.parametrize("zero_s", [1 / 16, 1e6 + 0.5], ids=["restarted", "another"])
def test_a_resumed_session_is_the_session_that_was_not_interrupted(
    zero_s: float, start: Any, tmp_path: Path
) -> None:
    machine = start(5000.0)
    whole, keys = person(tmp_path / "whole.jsonl")
    for number in range(6):
        episode(whole, keys, machine, number)

    machine = start(5000.0)
    first, keys = person(tmp_path / "cut.jsonl")
    for number in range(3):
        episode(first, keys, machine, number)
    saved = first.state_dict()
    assert len(first.tamer.credit) > 5, "the case of interest: presses may still reach steps"

    machine = start(zero_s)
    second, keys = person(tmp_path / "cut.jsonl")
    machine.now_s += 7.0  # loading takes its time, and a key that is pressed meanwhile means nothing
    keys.press(-10.0)
    second.load_state_dict(saved)
    assert second.clock.now_s == saved["now_s"]
    for number in range(3, 6):
        episode(second, keys, machine, number)
    assert whole.signals == second.signals > 5
    assert second.metrics() == pytest.approx(whole.metrics())
    np.testing.assert_allclose(second.tamer.model.weights, whole.tamer.model.weights, atol=1e-9)
    assert np.abs(whole.tamer.model.weights).max() > 0.05
    assert second.tamer.samples == whole.tamer.samples

    # One log of one session: its times never fall, and it teaches the same H bit for bit.
    events = read_log(tmp_path / "cut.jsonl")
    assert [event.kind for event in events] == [event.kind for event in read_log(tmp_path / "whole.jsonl")]
    again = corridor_tamer(alpha=0.5, delay=DelaySettings(low=0.2, high=4.0))
    again.observe(events)
    assert fingerprint(again) == fingerprint(second.tamer)


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "resumed"])
def test_a_session_on_the_wall_s_clock_is_replayed_at_its_own_times(
    cut: bool, start: Any, tmp_path: Path
) -> None:
    machine, log = start(11_592.0), tmp_path / "session.jsonl"
    schedule = HumanSettings(step_s=0.25, pause_s=0.5, schedule=((0, 2), (3, 6)))
    delay = DelaySettings(low=0.2, high=4.0)
    keys = Realtime(RealtimeSettings())
    recorded = Human(keys, corridor_tamer(alpha=0.5, delay=delay), schedule, log=log)
    for number in range(6):
        episode(recorded, keys, machine, number)
    assert np.abs(recorded.tamer.model.weights).max() > 0.05

    def replayed() -> Human:
        tamer = corridor_tamer(alpha=0.5, delay=delay)
        return Human(Replay(ReplaySettings(path=str(log))), tamer, schedule, log=tmp_path / "again.jsonl")

    def play(human: Human, numbers: range) -> None:
        for number in numbers:
            for step in range(6):
                human.shown((number + step) % 5, step % 2)
                human.advance()  # nothing takes time here: the log says when things happened
            human.end_episode()

    again = replayed()
    play(again, range(3 if cut else 6))
    if cut:
        state, again = again.state_dict(), replayed()
        again.load_state_dict(state)
        play(again, range(3, 6))
    assert fingerprint(again.tamer) == fingerprint(recorded.tamer)
    assert again.signals == recorded.signals > 5
    assert (tmp_path / "again.jsonl").read_text() == log.read_text()


def test_a_log_of_other_steps_is_refused(start: Any, tmp_path: Path) -> None:
    machine, log = start(50.0), tmp_path / "session.jsonl"
    recorded, keys = person(log)
    episode(recorded, keys, machine, 0)
    human = Human(Replay(ReplaySettings(path=str(log))), corridor_tamer(), HumanSettings())
    human.shown(0, 0)
    human.advance()
    with pytest.raises(UserError, match="where this session has action 0 in the state 4; replay it with"):
        human.shown(4, 0)


def test_clocks_go_on_from_where_they_are_set(start: Any) -> None:
    machine = start(100.0)
    wall, virtual = WallClock(), VirtualClock()
    assert wall.now_s == 100.0
    for clock in (wall, virtual):
        clock.resume(3.0)
        assert clock.now_s == 3.0
        assert clock.wait_until(4.5) == 4.5
        assert clock.wait_until(4.0) == 4.5
    machine.now_s += 2.0
    assert (wall.now_s, virtual.now_s) == (6.5, 4.5)
