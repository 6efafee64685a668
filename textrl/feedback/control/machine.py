"""A control session's machine: one tick is one step of the environment.

What is on screen is a state and the action that is done next; the tick lets the step pass, the learner
learn from its reward, and the next frame out. A frame's place in time is the stamp that the trainer's page
gave it, and presses are credited to frames by these stamps (`textrl.tamer.credit`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from textrl.feedback.control.learning import Learning, build_learning, make_env
from textrl.feedback.control.maps import Maps
from textrl.feedback.control.pictures import Pictures
from textrl.feedback.control.settings import control_settings
from textrl.feedback.digests import digest_of
from textrl.feedback.events import Event
from textrl.feedback.live import LiveMachine
from textrl.feedback.machine import Message, config_of
from textrl.feedback.screen import Seen
from textrl.feedback.store.base import SessionInfo
from textrl.settings import changed
from textrl.tamer.tamer import Shown

#: Seconds of session time between two sets of maps, and between two points of the curves of a step.
MAPS_S, CURVE_S = 3.0, 1.0
#: Points of a curve that a page which comes back is given.
MOST_POINTS = 2000
_NAMES = {
    "MountainCar": ("push left", "no push", "push right"),
    "CartPole": ("push left", "push right"),
    "Acrobot": ("torque -1", "torque 0", "torque +1"),
}


class ControlMachine(LiveMachine[Shown | None]):
    """An environment, a learner and H, driven by events.

    What it puts on screen is a step, or None for the end of an episode, after its last step.

    Attributes:
        settings: With every choice made.
    """

    mode = "control"

    def __init__(self, info: SessionInfo, *, pictures: bool = True) -> None:
        """Build everything; the first tick begins the first episode.

        Args:
            info: The session.
            pictures: Whether frames and maps are wanted.

        Raises:
            UserError: When the environment is unknown, cannot be shown, or its actions or observations do
                not fit the learner.
        """
        settings = control_settings(config_of(info), f"session '{info.session}'")
        env = make_env(settings, None)
        self._pictures: Pictures | None = None
        if pictures and settings.frames:
            self._pictures = Pictures(settings, env)
            # What cannot be drawn is refused before anybody comes, and what draws is loaded by then.
            trial = make_env(settings, self._pictures.render_mode)
            trial.reset(seed=settings.seed)
            self._pictures.take(trial, None)
            trial.close()
            if self._pictures.render_mode is not None:
                env.close()
                env = make_env(settings, self._pictures.render_mode)
        self.learning: Learning = build_learning(settings, env)
        self.settings = self.learning.settings
        super().__init__(info, step_s=self.settings.step_s)
        self._maps = Maps.over(self.learning) if pictures else None
        names = next((names for key, names in _NAMES.items() if key in settings.env), ())
        n = self.learning.learner.n_actions
        self.actions = list(names) if len(names) == n else [f"action {i}" for i in range(n)]
        self._between = True  # no step is on screen
        self._began = False
        self._observation: Any = None
        self._frame: Message | None = None
        self._given: dict[str, tuple[float, float]] = {}  # uuid -> value and time of a press
        self._curves: dict[str, list[list[float]]] = {"return": [], "presses": [], "beta": []}
        self._mapped_s = self._curved_s = -float("inf")

    def wait_s(self) -> float:
        """Return the step's time, or after an episode the pause."""
        if self._between and self._began:
            return max(self.settings.pause_s, self.step_s)
        return self.step_s

    def on_tick(self) -> list[Message]:
        """Take the step that is on screen, or begin an episode; let H learn what is known by now."""
        learner, tamer = self.learning.learner, self.learning.tamer
        tamer.tick(self.heard_s())
        messages: list[Message] = []
        if self._between:
            self._between, self._began = False, True
            learner.open_episode()
        elif (step := learner.take_step()).over:
            self._between, self._observation = True, step.after
            messages += [self._point("return", learner.episodes, learner.episode_returns[-1]), self.panel()]
        messages.append(self._emit())
        if self.now_s - self._curved_s >= CURVE_S:
            self._curved_s = self.now_s
            messages += self._slow_points()
        if self.live and self._maps is not None and self.now_s - self._mapped_s >= MAPS_S:
            self._mapped_s = self.now_s
            messages += self._maps.messages()
        return messages

    def on_seen(self, seen: Seen[Shown | None]) -> list[Message]:
        """Give the step its place in time; a step that nobody saw gets none."""
        if seen.content is None:
            self.learning.tamer.end_episode(seen.at_s)
        elif seen.seen:
            self.learning.tamer.show(seen.content.observation, seen.content.action, seen.at_s)
        return []

    def on_press(self, event: Event, at_s: float) -> list[Message]:
        """Credit a press."""
        value = float(event.payload["value"])
        credited = self._press(value, at_s)
        if self.training:
            self._given[event.uuid] = (value, at_s)
        return [
            {"type": "pressed", "value": event.payload["value"], "uuid": event.uuid, "credited": credited},
            self.panel(),
        ]

    def on_training(self, on: bool, at_s: float) -> None:
        """Switch H's learning on or off; the eligibility module follows it."""
        self.learning.tamer.training(on, at_s)

    def on_skip(self, *, count: bool) -> list[Message]:
        """Leave the episode; the next tick begins another."""
        learner = self.learning.learner
        if self._between:
            return []
        self._between = True
        self._began = False  # no pause: somebody is waiting
        learner.leave_episode(count=count)
        messages = [self._emit()]
        if count:
            messages.append(self._point("return", learner.episodes, learner.episode_returns[-1]))
        return messages

    def on_undo(self, event: Event, uuid: str) -> list[Message]:
        """Take a press back as far as H has not learnt it yet: the opposite press at the same time.

        What a finished step has taught stays, and so does what was done because of it: the environment
        cannot be turned back.
        """
        given = self._given.pop(uuid, None)
        if given is None:
            return []
        value, at_s = given
        credited = self._press(-value, at_s)
        message = {
            "type": "pressed",
            "value": -value,
            "uuid": event.uuid,
            "credited": credited,
            "undone": uuid,
        }
        return [message, self.panel()]

    def panel(self) -> Message:
        """Return what the panel shows: switches, counts, the last hundred returns."""
        learner = self.learning.learner
        return self.state() | {
            "beta": self._beta(),
            "episode": learner.episodes + 1,
            "returns": learner.episode_returns[-100:],
            "steps": learner.num_timesteps,
            "samples": self.learning.tamer.samples,
        }

    def view(self, annotator: str) -> Message:
        """Return the whole state; see `Machine.view`."""
        frame = self._frame
        if frame is not None and frame["image"] is None:
            # Fed from a log: the frame was made while nobody looked.
            frame = self._frame = frame | {"image": self._image(frame["action"])}
        return {
            "mode": self.mode,
            "env": self.settings.env,
            "learner": self.settings.learner,
            "trainer": self.trainer,
            "finished": self.finished,
            "actions": self.actions,
            "panel": self.panel(),
            "frame": frame,
            "curves": {name: points[-MOST_POINTS:] for name, points in self._curves.items()},
            "maps": [] if self._maps is None else self._maps.messages(),
        }

    def digest(self) -> str:
        """Return the SHA-256 of Q, H, the advice's weights, and how many steps and samples made them."""
        return digest_of(self.learning.parameters)

    def save_h(self, path: Path) -> Mapping[str, Any]:
        """Write a linear H as JSON; see `Machine.save_h`."""
        self.learning.tamer.save_weights(path)
        tamer = self.settings.tamer
        assert tamer is not None  # `completed` has filled it in
        return {"use": "tamer", **changed(tamer), "weights": str(path)}

    def close(self) -> None:
        """Close the environment."""
        self.learning.env.close()

    def _press(self, value: float, at_s: float) -> int:
        """Tell TAMER, and return how many steps the press speaks of."""
        tamer = self.learning.tamer
        if not self.training:
            return 0
        credited = len(tamer.credit.reached(at_s))
        tamer.press(value, at_s)
        return credited

    def _emit(self) -> Message:
        """Send out what is seen now, with the action that is done next."""
        learner = self.learning.learner
        content, action, episode, total = None, None, learner.episodes, 0.0
        if self._between:
            total = learner.episode_returns[-1] if learner.episode_returns else 0.0
        else:
            now = learner.open_episode()
            self._observation, action, total = now.observation, now.action, now.total
            content, episode = Shown(np.array(now.observation), action), learner.episodes + 1
        observation = self._observation
        number = self.screen.emit(content, self.now_s)
        self._frame = {
            "type": "frame",
            "frame_id": number,
            "env_step": learner.num_timesteps,
            "image": self._image(action),
            "state": np.asarray(observation, np.float64).reshape(-1).round(6).tolist(),
            "action": action,
            "episode": episode,
            "return": total,
            "over": self._between,
        }
        return self._frame

    def _image(self, action: int | None) -> str | None:
        if self._pictures is None or not self.live or not self.screen.newest:
            return None
        return self._pictures.take(self.learning.env, action)

    def _beta(self) -> float:
        """Return the weight of H where the learner is now, the mean over the actions."""
        guidance, now = self.learning.guidance, self._observation
        if guidance is None or now is None:
            return 0.0
        return float(np.mean(guidance.weight(now)))

    def _slow_points(self) -> list[Message]:
        step = self.learning.learner.num_timesteps
        messages = [self._point("presses", step, self.presses)]
        if self.learning.guidance is not None:
            messages.append(self._point("beta", step, self._beta()))
        return messages

    def _point(self, name: str, x: float, y: float) -> Message:
        point = [float(x), float(y)]
        self._curves[name].append(point)
        return {"type": "curve", "name": name, "points": [point]}


def resolved(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config with every choice made, so that a later version's defaults do not change a replay.

    Raises:
        UserError: When the config is wrong, or the environment unknown or not fit for it.
    """
    from textrl.settings import to_plain

    settings = control_settings(config, "the session's settings")
    env = make_env(settings, None)
    try:
        plain: dict[str, Any] = to_plain(build_learning(settings, env).settings)
    finally:
        env.close()
    return plain
