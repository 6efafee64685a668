"""The loop between person, clock and TAMER: schedule, pause, switches, counts, resume."""

import itertools
import threading
import time

import numpy as np
import pytest
from tamer_world import Scripted, corridor_tamer, fingerprint
from textrl_human.realtime import Realtime
from textrl_human.settings import RealtimeSettings

from textrl.errors import UserError
from textrl.protocols import Feedback, Signal
from textrl.settings import build
from textrl.tamer import Human, HumanSettings, VirtualClock, WallClock


def episode(human, steps=4):
    for i in range(steps):
        human.shown(i, i % 2)
        human.advance()
    human.end_episode()


def test_steps_and_pauses_take_their_time():
    feedback = Scripted()
    human = Human(feedback, corridor_tamer(), HumanSettings(step_s=0.5, pause_s=2.0))
    episode(human, 3)
    episode(human, 1)
    assert [shown for _, _, shown in feedback.watched] == [0.0, 0.5, 1.0, 3.5]
    assert human.clock.now_s == 6.0
    assert human.episodes == 2
    assert isinstance(feedback, Feedback)


def test_presses_reach_the_steps_they_speak_of():
    # At .5 s, .6 s after steps of .2 s began: thirds of what was on screen from -.3 to .3 s.
    human = Human(Scripted(Signal(value=1.0, time_s=0.5)), corridor_tamer(alpha=1.0))
    episode(human)
    rated = [human.tamer.rate(i)[i % 2] for i in range(4)]
    np.testing.assert_allclose(rated, [1 / 3, 1 / 6, 0, 0], atol=1e-12)


def test_the_last_actions_are_rated_in_the_pause_and_then_learnt():
    human = Human(Scripted(Signal(value=-1.0, time_s=1.3)), corridor_tamer(alpha=1.0))
    episode(human)  # ends at .8 s; the press speaks of .5 to 1.1 s
    assert human.tamer.rate(3)[1] == pytest.approx(-1 / 3)
    assert human.tamer.samples == 4
    assert len(human.tamer.credit) == 0


def test_a_schedule_switches_training_between_episodes():
    feedback = Scripted()
    human = Human(feedback, corridor_tamer(), HumanSettings(schedule=((1, 3), (4, 5))))
    seen = []
    for _ in range(6):
        seen.append(human.training)
        episode(human)
    assert seen == [False, True, True, False, True, False]
    # Only the steps of those episodes are worth watching.
    assert len(feedback.watched) == 12
    assert human.tamer.samples == 12


def test_no_schedule_trains_always_and_an_empty_one_waits_for_the_person():
    assert Human(Scripted(), corridor_tamer()).training
    switch = Signal(kind="training", value=1.0, time_s=0.3)
    human = Human(Scripted(switch), corridor_tamer(), HumanSettings(schedule=()))
    assert not human.training
    episode(human)
    assert human.training
    episode(human)
    assert human.training


def test_the_person_may_switch_within_the_schedule():
    off = Signal(kind="training", value=0.0, time_s=0.5)
    over = Signal(kind="training", value=0.0, time_s=4.0, payload={"toggle": True})
    human = Human(Scripted(off, over), corridor_tamer(), HumanSettings(schedule=((0, 4),)))
    seen = []
    for _ in range(5):
        seen.append(human.training)
        episode(human)  # 1.8 s each
    assert seen == [True, False, False, True, False]


def test_presses_are_counted_while_training_is_on():
    presses = [Signal(value=1.0, time_s=0.1 + 0.2 * i) for i in range(9)]
    human = Human(Scripted(*presses), corridor_tamer(), HumanSettings(schedule=((0, 1),)))
    episode(human)
    # Nine presses in 1.8 s.
    assert human.metrics() == {
        "human/signals_per_min": pytest.approx(300.0),
        "human/signals": 9.0,
        "human/training": 0.0,
    }
    human.feedback.signals = [Signal(value=1.0, time_s=2.0)]
    episode(human)
    assert human.metrics()["human/signals"] == 9.0
    assert human.metrics()["human/signals_per_min"] == 0.0


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"step_s": 0.0}, "step_s is 0.0"),
        ({"pause_s": -1.0}, "pause_s is -1.0"),
        ({"schedule": [[3, 3]]}, r"schedule holds \[3, 3\]"),
        ({"schedule": [[-1, 3]]}, r"schedule holds \[-1, 3\]"),
    ],
)
def test_settings_that_cannot_work_are_refused(section, message):
    with pytest.raises(UserError, match=message):
        build(HumanSettings, section, where=lambda key: f"here, {key}")


def test_a_resume_between_episodes_goes_on_alike():
    def made():
        presses = [Signal(value=(-1.0) ** i, time_s=0.13 + 0.31 * i) for i in range(40)]
        return Human(Scripted(*presses), corridor_tamer(), HumanSettings(schedule=((0, 5),)))

    whole, first, second = made(), made(), made()
    for _ in range(6):
        episode(whole)
    for _ in range(3):
        episode(first)
    second.load_state_dict(first.state_dict())
    second.feedback.poll(first.clock.now_s)
    for _ in range(3):
        episode(second)
    assert fingerprint(second.tamer) == fingerprint(whole.tamer)
    assert second.metrics() == whole.metrics()
    assert second.clock.now_s == whole.clock.now_s
    assert second.episodes == 6


class TestClocks:
    def test_the_virtual_clock_is_there_at_once(self):
        clock = VirtualClock()
        assert clock.wait_until(0.2) == clock.now_s == 0.2
        assert clock.wait_until(0.1) == 0.2

    def test_the_wall_clock_waits(self):
        clock = WallClock()
        begin = clock.now_s
        assert clock.wait_until(begin + 0.05) >= begin + 0.05
        assert clock.wait_until(begin) < begin + 2.0

    def test_a_step_is_on_screen_for_its_time_however_late_it_came(self):
        human = Human(Scripted(), corridor_tamer(), HumanSettings(step_s=0.05, pause_s=0), clock=WallClock())
        time.sleep(0.1)
        human.shown(0, 0)
        begin = time.monotonic()
        time.sleep(0.03)  # the environment computes meanwhile
        human.advance()
        assert 0.049 <= time.monotonic() - begin < 2.0


class TestRealtime:
    def test_keys_give_values(self):
        feedback = Realtime(RealtimeSettings())
        assert [feedback.key(key) for key in "/z?Z q"] == [True, True, True, True, True, False]
        given = feedback.poll(time.monotonic())
        assert [(s.kind, s.value) for s in given] == [
            ("press", 1.0),
            ("press", -1.0),
            ("press", 10.0),
            ("press", -10.0),
            ("training", 0.0),
        ]
        assert given[-1].payload == {"toggle": True}

    def test_presses_are_stamped_when_they_happen(self):
        feedback = Realtime(RealtimeSettings())
        before = time.monotonic()
        feedback.press(0.5)
        between = time.monotonic()
        assert feedback.poll(before) == []
        (press,) = feedback.poll(between)
        assert before <= press.time_s <= between
        assert press.value == 0.5
        assert feedback.poll(time.monotonic()) == []

    def test_threads_lose_nothing_and_keep_the_order(self):
        feedback, heard, stop = Realtime(RealtimeSettings()), [], threading.Event()

        def listen():
            while not stop.is_set():
                heard.extend(feedback.poll(time.monotonic()))
                time.sleep(0)
            heard.extend(feedback.poll(time.monotonic()))

        def type_in(first):
            for number in range(500):
                feedback.press(float(first + number))

        listener = threading.Thread(target=listen)
        typists = [threading.Thread(target=type_in, args=(1000 * i,)) for i in range(4)]
        listener.start()
        for typist in typists:
            typist.start()
        for typist in typists:
            typist.join()
        stop.set()
        listener.join()
        assert sorted(s.value for s in heard) == sorted(
            float(1000 * i + n) for i in range(4) for n in range(500)
        )
        assert all(a.time_s <= b.time_s for a, b in itertools.pairwise(heard))

    def test_a_session_on_the_wall_clock(self, tmp_path):
        feedback = Realtime(RealtimeSettings())
        log = tmp_path / "session.jsonl"
        human = Human(feedback, corridor_tamer(), HumanSettings(step_s=0.02, pause_s=0.02), log=log)
        assert human.clock is feedback.clock
        human.shown(0, 1)
        feedback.key("/")
        human.advance()
        assert '"press"' in log.read_text()  # there at once, should the process die
        feedback.key(" ")
        human.end_episode()
        assert human.signals == 1
        assert not human.training

    @pytest.mark.parametrize(
        ("section", "message"),
        [({"punish": "/"}, "punish is '/', which is reward already"), ({"toggle": "ab"}, "single character")],
    )
    def test_keys_are_told_apart(self, section, message):
        with pytest.raises(UserError, match=message):
            build(RealtimeSettings, section, where=lambda key: f"here, {key}")
