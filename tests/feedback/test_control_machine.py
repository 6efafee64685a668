"""A control session's machine: steps, stamps, presses, switches, faults."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from machine_play import Play, of_type, only

from textrl.errors import UserError
from textrl.feedback.control.pictures import MOST_BYTES
from textrl.tamer.models import KNNH

SMALL = {"per_dimension": 6, "width": 0.13}


def car(**more: Any) -> dict[str, Any]:
    return {"env": "MountainCar-v0", "features": SMALL, "max_episode_steps": 12} | more


class Odd(gymnasium.Env[Any, Any]):
    """An environment with one thing about it that a session must survive or refuse."""

    def __init__(self, what: str = "plain", render_mode: str | None = None) -> None:
        self.what, self.render_mode, self._steps = what, render_mode, 0
        self.metadata = {"render_modes": [] if what in ("blind", "falls") else ["rgb_array"]}
        self.observation_space = Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = Box(-1.0, 1.0, (1,)) if what == "continuous" else Discrete(2, start=3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        if self.what == "falls" and self._steps == 5:
            raise ZeroDivisionError("the wheel\ncame off")
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), float(action), False, False, {}

    def render(self) -> Any:
        if self.what == "no display":
            raise RuntimeError("no display found")
        if self.what == "flat":
            return np.zeros(7)
        return self.np_random.integers(0, 256, (700, 900, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def odd() -> Iterator[None]:
    gymnasium.register(id="Odd-v0", entry_point=lambda **given: Odd(**given), disable_env_checker=True)
    yield
    gymnasium.registry.pop("Odd-v0")


def odd_config(what: str, **more: Any) -> dict[str, Any]:
    return {"env": "Odd-v0", "env_args": {"what": what}, "features": SMALL} | more


def test_labels_are_those_of_the_papers_example() -> None:
    """Steps of 0.15 s, +1 at 0.50 s and -1 at 0.95 s, delays uniform in [0.2, 0.8] s."""
    nearest = {"model": "knn", "features": {"kind": "polynomial", "degree": 1}}
    play = Play("control", car(learner="sarsa", tamer=nearest, step_s=0.15, max_episode_steps=50))
    start = play.now_s + 0.15
    presses = [(start + 0.50, 1), (start + 0.95, -1)]
    for _ in range(14):
        play.tick()
        stamp = [[play.unstamped.pop(), play.now_s]]
        play.client("shown", {"frames": stamp}, at_s=play.now_s)
        while presses and presses[0][0] < play.now_s + 0.15:
            at_s, value = presses.pop(0)
            play.client("press", {"value": value}, at_s=at_s)
    model = play.machine.learning.tamer.model
    assert isinstance(model, KNNH)
    labels = {
        tuple(row[:2].round(3)): row[-2]
        for rows in model.state_dict()["samples"] for row in rows
    }  # fmt: skip
    states = model.encoder.features.batch(np.array([frame["state"] for frame in play.frames[:6]]))
    found = [labels[tuple(state[:2].round(3))] for state in states]
    assert found == pytest.approx([0.25, 0, -0.25, -0.25, -0.25, 0], abs=1e-6)


def test_a_trainer_with_a_rule_teaches_the_car_to_climb() -> None:
    """+1 where the push goes with the velocity, -1 else: the rule that solves Mountain Car."""
    play = Play("control", {"env": "MountainCar-v0", "learner": "tamer"})
    while play.machine.learning.learner.episodes < 4:
        frame = only(play.tick(), "frame")
        play.shown()
        if frame["action"] is not None:
            push, velocity = frame["action"] - 1, frame["state"][1]
            play.press(1 if push * velocity > 0 else -1, after_s=0.15)
    returns = play.machine.learning.learner.episode_returns
    assert max(returns[1:]) > -170  # untaught, no episode of 200 steps ends on the hill
    assert play.machine.learning.tamer.samples > 100


def test_what_was_not_seen_is_not_learnt() -> None:
    play = Play("control", car(max_episode_steps=100))
    for i in range(30):
        play.tick()
        if i % 3:
            play.unstamped.clear()  # two frames in three get lost
        else:
            play.shown()
    tamer = play.machine.learning.tamer
    assert play.machine.screen.unseen == 18
    assert tamer.samples + len(tamer.credit) == 10


def test_only_the_trainer_trains() -> None:
    play = Play("control", car())
    play.server("joined", {}, annotator="bob")
    play.tick()
    before = play.machine.digest()
    assert play.press(annotator="bob", frame=1) == []
    assert play.shown(annotator="bob") == []
    assert play.client("control", {"do": "pause"}, annotator="bob") == []
    assert (play.machine.digest(), play.machine.trainer, play.machine.paused) == (before, "ada", False)
    assert len(play.machine.screen) == 1


def test_a_press_is_answered_with_what_it_speaks_of() -> None:
    play = Play("control", car())
    for _ in range(6):
        play.tick()
        play.shown(0.0)
    pressed = only(play.press(-10, after_s=0.05), "pressed")
    # Delays of 0.2 to 0.8 s reach back over the steps that were shown 0.25 to 1.05 s ago.
    assert (pressed["value"], pressed["credited"]) == (-10, 4)
    play.control("training", False)
    assert only(play.press(1), "pressed")["credited"] == 0
    assert play.machine.panel()["presses"] == 1


def test_a_press_that_names_its_frame_need_not_wait_for_the_stamp() -> None:
    play = Play("control", car())
    play.tick()
    pressed = only(play.press(1, after_s=0.5, frame=play.frames[-1]["frame_id"]), "pressed")
    assert pressed["credited"] == 1


def test_switches() -> None:
    play = Play("control", car(max_episode_steps=100, step_s=0.3))
    machine, learner = play.machine, play.machine.learning.learner
    assert machine.due() == 0.3
    play.tick()
    play.tick()
    assert learner.num_timesteps == 1
    panel = only(play.control("pause"), "panel")
    assert panel["paused"]
    assert machine.due() is None
    assert play.tick() == []  # a tick that was under way
    assert learner.num_timesteps == 1
    assert of_type(play.control("step"), "frame")
    assert (learner.num_timesteps, machine.due()) == (2, None)
    play.control("resume")
    play.control("speed", 0.05)
    assert machine.due() == 0.05
    play.control("speed", 1e-6)
    assert machine.due() == 0.02
    play.control("reset")
    assert learner.episodes == 0
    play.tick()
    play.tick()
    returns = only(play.control("next_episode"), "curve")
    assert (learner.episodes, returns["points"]) == (1, [[1.0, -1.0]])
    assert only(play.server("finished", {}), "panel")["finished"]
    assert machine.due() is None
    assert play.tick() == []


def test_an_episode_ends_with_a_pause_in_which_its_last_steps_can_be_rated() -> None:
    play = Play("control", car(max_episode_steps=3))
    for _ in range(4):
        messages = play.tick()
        play.shown()
    assert only(messages, "frame")["over"]
    assert only(messages, "curve")["points"] == [[1.0, -3.0]]
    assert play.machine.due() == 1.0
    assert only(play.press(1, after_s=0.5), "pressed")["credited"] > 0
    assert only(play.tick(), "frame")["over"] is False


def test_an_undone_press_that_was_not_learnt_yet_leaves_no_trace() -> None:
    def played(*, press: bool, undo: bool) -> Any:
        play = Play("control", car(max_episode_steps=100))
        for i in range(30):
            play.tick()
            play.shown()
            if i == 10 and press:
                play.press(10)
                if undo:
                    undone = play.client("undone", {"uuid": play.events[-1].uuid})
                    assert only(undone, "pressed")["credited"] > 0
                    assert play.client("undone", {"uuid": play.events[-2].uuid}) == []
        return play.machine.learning.tamer.model.weights

    plain = played(press=False, undo=False)
    assert np.abs(played(press=True, undo=False) - plain).max() > 0.1
    assert played(press=True, undo=True) == pytest.approx(plain, abs=1e-12)


@pytest.mark.parametrize("learner", ["tamer", "tamer+rl", "sarsa"])
def test_a_page_that_comes_back_sees_everything(learner: str) -> None:
    play = Play("control", car(learner=learner), pictures=True)
    for _ in range(20):
        play.tick()
        play.shown()
        play.press()
    view = play.machine.view("ada")
    frame = view["frame"] | {"image": None}
    assert frame == play.frames[-1] | {"image": None}
    assert view["actions"] == ["push left", "no push", "push right"]
    assert {one["what"] for one in view["maps"]} == {"h", "policy"}
    assert all(len(one["values"]) == np.prod(one["shape"]) for one in view["maps"])
    assert view["panel"]["presses"] == 20
    assert view["curves"]["return"] == [[1.0, -12.0]]
    assert (view["panel"]["beta"] > 0) == (learner == "tamer+rl")


@pytest.mark.parametrize("env", ["MountainCar-v0", "CartPole-v1", "Odd-v0"])
def test_frames_are_small_pictures_of_what_happens(env: str) -> None:
    from PIL import Image

    config = {"env": env, "features": {"kind": "polynomial"}, "width": 300, "learner": "tamer"}
    if env == "CartPole-v1":
        config["features"] = None
    play = Play("control", config, pictures=True)
    images = [only(play.tick(), "frame")["image"] for _ in range(6)]
    for image in images:
        head, _, data = image.partition(",")
        assert head == "data:image/jpeg;base64"
        raw = base64.b64decode(data)
        assert len(raw) <= MOST_BYTES
        assert Image.open(io.BytesIO(raw)).width <= 300
    assert len(set(images)) == 6


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (odd_config("blind"), "Odd-v0 cannot be shown: it has no render mode at all"),
        (odd_config("no display"), "cannot be drawn .no display found."),
        (odd_config("flat"), "an array of shape .7,.; use --no-frames"),
        (odd_config("continuous"), "The learner tamer needs a Discrete action space"),
        (odd_config("plain", env="MountainCr-v0"), "no environment 'MountainCr-v0'. Did you mean"),
        (odd_config("plain", env_args={"wheels": 3}), "cannot be built with these arguments"),
        (odd_config("plain", learner="tamr"), "'learner' must be one of"),
        (odd_config("plain", technique="reward_shaping", simultaneous=True), "simultaneous does not go with"),
        (odd_config("plain", speed=3), "unknown key 'speed'"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_sentence(config: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says) as refused:
        Play("control", config, pictures=True)
    assert "\n" not in str(refused.value)


def test_without_frames_nothing_need_be_drawn() -> None:
    play = Play("control", odd_config("blind", frames=False), pictures=True)
    frame = only(play.tick(), "frame")
    assert frame["image"] is None
    assert len(frame["state"]) == 2


def test_an_environment_that_fails_ends_the_session_with_a_sentence() -> None:
    play = Play("control", odd_config("falls", frames=False))
    with pytest.raises(UserError, match=r"\(ZeroDivisionError: the wheel came off\)") as first:
        play.run(20)
    assert "The environment of session 'play' failed at event" in str(first.value)
    with pytest.raises(UserError) as second:
        play.tick()
    assert str(second.value) == str(first.value)
    assert play.machine.due() is None


@pytest.mark.parametrize("learner", ["tamer", "tamer+rl", "sarsa"])
def test_the_maps_are_what_the_learner_would_do(learner: str) -> None:
    play = Play("control", car(learner=learner, max_episode_steps=60), pictures=True)
    for i in range(90):
        play.tick()
        play.shown()
        play.press((1, -1, 10)[i % 3])
    parts = play.machine.learning
    h, policy = play.machine.view("ada")["maps"]
    (low, high), (slow, fast) = ([axis["low"], axis["high"]] for axis in policy["axes"])
    rows, columns = policy["shape"]
    cells = [(r, c) for r in range(0, rows, 5) for c in range(0, columns, 5)]
    for row, column in cells:
        state = np.array(
            [low + (high - low) * column / (columns - 1), slow + (fast - slow) * row / (rows - 1)], np.float32
        )
        ratings = parts.tamer.model.predict(state)
        scores = ratings
        if learner != "tamer":
            scores = parts.learner.linear.q(parts.learner.features(state))
        if parts.guidance is not None:
            scores = parts.guidance.scores(scores, state, acting=False)
        index = row * columns + column
        assert h["values"][index] == pytest.approx(ratings.max(), abs=1e-4)
        if scores.max() - np.sort(scores)[-2] > 1e-9:
            assert policy["values"][index] == scores.argmax()
    assert len(set(h["values"])) > 10
