"""A recorded session teaches the same H bit for bit; a log that is wrong is refused with its line."""

import json

import numpy as np
import pytest
from tamer_world import Corridor, corridor_tamer, corridor_truth, fingerprint
from textrl_human.replay import Replay
from textrl_human.settings import ReplaySettings
from textrl_human.simulated import SimulatedTrainer
from textrl_human.tamerproject import read_tamerproject_log
from textrl_human.trainers import ReactionSettings, Trainer

from textrl.errors import UserError
from textrl.learners.tamer import TamerLearner, TamerLearnerSettings
from textrl.protocols import Signal
from textrl.tamer import DelaySettings, Human, HumanSettings
from textrl.tamer.log import EventLog, read_log

TRAINER = Trainer(
    seed=3,
    truth=corridor_truth,
    p_press=0.7,
    p_error=0.1,
    multi_press=0.2,
    delay=ReactionSettings(kind="gamma"),
)


def session(feedback, log=None, episodes=12, **tamer):
    """Train in the corridor; returns the learner."""
    given = {"delay": DelaySettings(kind="gamma"), **tamer}
    human = Human(feedback, corridor_tamer(**given), HumanSettings(schedule=((0, 5), (7, 11))), log=log)
    learner = TamerLearner(Corridor(), TamerLearnerSettings(seed=1), human=human)
    return learner.learn(episodes=episodes)


@pytest.mark.parametrize("loss", ["aggregate", "aggregate_rewarded_only", "window", "importance"])
def test_a_replay_teaches_the_same_h_bit_for_bit(tmp_path, loss):
    log = tmp_path / "logs" / "session.jsonl"
    recorded = session(SimulatedTrainer(TRAINER), log, loss=loss)
    assert np.abs(recorded.tamer.model.weights).sum() > 0

    # Beside the same learner, through the same interface.
    again = session(Replay(ReplaySettings(path=str(log))), loss=loss)
    assert fingerprint(again.tamer) == fingerprint(recorded.tamer)
    assert again.episode_returns == recorded.episode_returns

    # Without an environment, from what the log says was shown.
    alone = corridor_tamer(loss=loss, delay=DelaySettings(kind="gamma"))
    alone.observe(Replay(ReplaySettings(path=str(log))).events)
    assert fingerprint(alone) == fingerprint(recorded.tamer)
    assert alone.samples == recorded.tamer.samples


def test_another_delay_makes_another_h_of_the_same_session(tmp_path):
    log = tmp_path / "session.jsonl"
    recorded = session(SimulatedTrainer(TRAINER), log)
    other = corridor_tamer(delay=DelaySettings(low=0.2, high=0.9))
    other.observe(read_log(log))
    assert fingerprint(other) != fingerprint(recorded.tamer)


def test_a_resumed_session_has_one_log(tmp_path):
    def begin(log):
        human = Human(
            SimulatedTrainer(TRAINER), corridor_tamer(), HumanSettings(schedule=((0, 5), (7, 11))), log=log
        )
        return TamerLearner(Corridor(), TamerLearnerSettings(seed=1), human=human)

    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    begin(whole).learn(episodes=10)
    first = begin(cut).learn(episodes=6)
    first.save(tmp_path / "checkpoint")
    first.learn(episodes=8)  # lost: the process dies before its next checkpoint
    second = begin(cut).restore(tmp_path / "checkpoint").learn(episodes=10)
    assert cut.read_text() == whole.read_text()
    alone = corridor_tamer()
    alone.observe(read_log(cut))
    assert fingerprint(alone) == fingerprint(second.tamer)


def test_a_log_reads_back_exactly(tmp_path):
    log = EventLog(tmp_path / "log.jsonl")
    observation = np.array([0.1, -1 / 3], np.float32)
    log.add("shown", 0.1 + 0.2, observation=observation, action=2)
    log.flush()
    log.add("press", 1e-9, value=-10.0)
    log.flush()
    shown, press = read_log(log.path)
    assert (shown.kind, shown.time_s, shown.payload["action"]) == ("shown", 0.1 + 0.2, 2)
    np.testing.assert_array_equal(shown.payload["observation"], observation.astype(np.float64))
    assert press == Signal(kind="press", value=-10.0, time_s=1e-9)
    assert log.written == len(log.path.read_bytes())


def test_a_new_session_replaces_an_old_log(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text("something longer than the new log will be, for sure\n" * 9)
    log = EventLog(path)
    log.add("tick", 1.0)
    log.flush()
    assert [signal.kind for signal in read_log(path)] == ["tick"]


def line(**fields):
    return json.dumps(fields)


GOOD = line(kind="press", time_s=1.0, value=1.0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (line(kind="press", time_s=0.9, value=1.0), "time_s is 0.9, earlier than 1.0 before it"),
        ("{", "this is not JSON"),
        ("[1]", "this is no event"),
        (line(kind="pres", time_s=1.0, value=1.0), "no event of kind 'pres'. Did you mean 'press'"),
        (line(time_s=1.0), "no event of kind None"),
        (line(kind="press", time_s=2.0), "the event 'press' has no 'value'; add it"),
        (line(kind="press", value=2.0), "the event 'press' has no 'time_s'"),
        (line(kind="shown", time_s=2.0, action=1), "has no 'observation'"),
        (line(kind="shown", time_s=2.0, observation=[1.0]), "has no 'action'"),
        (line(kind="shown", time_s=2.0, observation=[1.0], action=1.5), "action is 1.5"),
        (line(kind="shown", time_s=2.0, observation=[1.0], action=-1), "action is -1"),
        (line(kind="shown", time_s=2.0, observation=["a"], action=0), "observation is"),
        (line(kind="shown", time_s=2.0, observation=[[1], [1, 2]], action=0), "observation is"),
        (line(kind="press", time_s="2", value=1.0), "time_s is '2'"),
        (line(kind="press", time_s=2.0, value=True), "value is True"),
        ('{"kind": "press", "time_s": 2.0, "value": NaN}', "value is nan"),
        ("", "this is not JSON"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, wrong, message):
    path = tmp_path / "broken.jsonl"
    path.write_text(f"{GOOD}\n{wrong}\n{GOOD}\n")
    with pytest.raises(UserError, match=rf"broken\.jsonl, line 2: .*{message}"):
        Replay(ReplaySettings(path=str(path)))


def test_what_was_shown_has_times_of_its_own(tmp_path):
    path = tmp_path / "log.jsonl"
    shown = [line(kind="shown", time_s=t, observation=0, action=0) for t in (0.0, 0.2)]
    path.write_text("\n".join([shown[0], line(kind="press", time_s=0.1, value=1.0), shown[1]]))
    assert len(read_log(path)) == 3
    path.write_text("\n".join(reversed(shown)))
    with pytest.raises(UserError, match=r"line 2: time_s is 0\.0, earlier than 0\.2"):
        read_log(path)


@pytest.mark.parametrize("read", [read_log, read_tamerproject_log])
def test_a_missing_or_binary_log_is_refused(tmp_path, read):
    with pytest.raises(UserError, match=r"none\.jsonl cannot be read \(No such file"):
        read(tmp_path / "none.jsonl")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"binary cannot be read \(it is not text\)"):
        read(tmp_path / "binary")


def test_polling_gives_each_signal_once_and_resumes(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(line(kind="press", time_s=float(t), value=float(t)) for t in range(6)))
    feedback = Replay(ReplaySettings(path=str(path)))
    assert [s.value for s in feedback.poll(1.5)] == [0.0, 1.0]
    assert feedback.poll(1.5) == []
    other = Replay(ReplaySettings(path=str(path)))
    other.load_state_dict(feedback.state_dict())
    assert [s.value for s in other.poll(3.0)] == [2.0, 3.0]


#: In the format of the author's logs, with what occurs in them: presses before the first step of an
#: episode, a press written twice at an episode's end, several presses in a step, a switch.
TAMERPROJECT = """(;featClass=None;distClass=uniform;creditDelay=0.2;windowSize=0.6)
[4, 0]:[]:[1]:[]:0.0:[]:true:100.0
[3, 0]:[0.5]:[2]:[]:-1.0:[{1.0 @ 100.4}, {-1.0 @ 100.6}]:true:100.8
[2, 0]:[]:[0]:[]:-1.0:[{-10.0 @ 101.2}]:false:101.6
[]:[]:[]:[]:0.0:[{-10.0 @ 101.2}]:false:102.4

[4, 0]:[]:[3]:[]:0.0:[{1.0 @ 103.0}]:true:107.0
[]:[]:[]:[]:0.0:[]:true:108.0

finished
"""


def test_the_authors_logs_are_read(tmp_path):
    path = tmp_path / "session.log"
    path.write_text(TAMERPROJECT)
    events = Replay(ReplaySettings(path=str(path))).events
    assert [(e.kind, e.value, e.time_s) for e in events] == [
        ("shown", 0.0, 100.0),
        ("press", 1.0, 100.4),
        ("press", -1.0, 100.6),
        ("shown", 0.0, 100.8),
        ("training", 0.0, 101.6),
        ("press", -10.0, 101.2),
        ("shown", 0.0, 101.6),
        ("end_episode", 0.0, 102.4),
        ("training", 1.0, 107.0),
        ("press", 1.0, 103.0),
        ("shown", 0.0, 107.0),
        ("end_episode", 0.0, 108.0),
    ]
    assert events[3].payload["observation"].tolist() == [3.0, 0.0, 0.5]
    assert events[3].payload["action"] == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("[4, 0]:[]:[1]:[]:0.0:[]:true", "no step of a tamerproject log"),
        ("[4, x]:[]:[1]:[]:0.0:[]:true:101.0", "an entry is 'x'"),
        ("[4, 0]:[]:[1]:[]:0.0:[]:true:99.0", "the time 99.0 is earlier than 100.0"),
        ("[4, 0]:[]:[1]:[]:0.0:[]:true:nan", "the time is 'nan'"),
        ("[4, 0]:[]:[1]:[]:0.0:[{1.0 at 100.5}]:true:101.0", "not of the form {value @ time}"),
        ("[4, 0]:[]:[1]:[]:0.0:[{1 @ 100.5}, {1 @ 100.4}]:true:101.0", "a press at 100.4 is earlier"),
    ],
)
def test_a_wrong_line_of_the_authors_logs_is_named(tmp_path, wrong, message):
    path = tmp_path / "session.log"
    path.write_text("\n".join([*TAMERPROJECT.splitlines()[:2], wrong]))
    with pytest.raises(UserError, match=rf"session\.log, line 3: .*{message}"):
        Replay(ReplaySettings(path=str(path)))


def in_the_corridor(event):
    """Let the first coordinate be the cell, and two actions stand for four."""
    payload = dict(event.payload)
    if event.kind == "shown":
        payload = {"observation": np.array(int(payload["observation"][0])), "action": payload["action"] % 2}
    return Signal(kind=event.kind, value=event.value, time_s=event.time_s, payload=payload)


def test_an_authors_log_teaches(tmp_path):
    path = tmp_path / "session.log"
    path.write_text(TAMERPROJECT)
    tamer = corridor_tamer(alpha=1.0)
    tamer.observe(in_the_corridor(event) for event in read_tamerproject_log(path))
    # The press at 100.4 speaks of 99.6 to 100.2: a third of that is the step shown at 100.0; the one at
    # 100.6 of 99.8 to 100.4: two thirds. The switch at 101.6 finds all credit of the step used.
    assert tamer.model.weights[1, 4] == pytest.approx(1 / 3 - 2 / 3)
