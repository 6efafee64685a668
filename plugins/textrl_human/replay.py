"""A recorded session as feedback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.spaces import Box

from textrl.errors import UserError, at_setting
from textrl.protocols import Signal
from textrl.tamer.log import read_log
from textrl.tamer.text.reading import TextShown, models_of
from textrl_human.settings import ReplaySettings
from textrl_human.tamerproject import is_tamerproject_log, read_tamerproject_log


class LogClock:
    """The clock of a recorded session: what happened then happens now, at the times that the log gives.

    A person's session ran on the wall's clock, whose zero is anywhere and in which computing took time of
    its own. After the log's end time is virtual.

    Attributes:
        now_s: Time of the last event, s.
        position: Events that are behind.
    """

    def __init__(self, events: Sequence[Signal]) -> None:
        """Begin at the first event."""
        self._events = [
            (event.kind, event.time_s)
            for event in events
            if event.kind in ("shown", "tick", "end_episode") or event.payload.get("by") == "schedule"
        ]
        self.now_s = self._events[0][1] if self._events else 0.0
        self.position = 0

    def wait_until(self, time_s: float) -> float:
        """Be there at once, or where the log says that the wait ended."""
        if not self._reach("tick"):
            self.now_s = max(time_s, self.now_s)
        return self.now_s

    def stamp(self, kind: str) -> float:
        """Return the log's time of the next event, if it is of this kind, else the time of the last one."""
        self._reach(kind)
        return self.now_s

    def resume(self, now_s: float) -> None:
        """Be there at once."""
        self.now_s = now_s

    def _reach(self, kind: str) -> bool:
        """Go past the next event if it is of this kind; a switch by the schedule may lie before it."""
        for position in range(self.position, min(self.position + 2, len(self._events))):
            found, time_s = self._events[position]
            if found == kind:
                self.position, self.now_s = position + 1, time_s
                return True
            if found != "training":
                break
        return False


class Replay:
    """Gives what a person did in a recorded session, at the times at which they did it.

    Played beside the same learner, environment and seeds it teaches the same H bit for bit. To replay what
    was shown as well, without an environment, hand `events` to ``Tamer.observe``.

    What appears must be what the log says appeared: presses at the same times would otherwise speak of
    other steps or words.

    Attributes:
        events: The whole log.
        clock: That of the recorded session; None on text, whose words appear at times of their own.
    """

    def __init__(self, settings: ReplaySettings) -> None:
        """Read the log.

        Raises:
            UserError: When it cannot be read, or a line is wrong; names file and line.
        """
        self._path = path = Path(settings.path)
        old = is_tamerproject_log(path)
        with at_setting("path"):
            self.events = read_tamerproject_log(path) if old else read_log(path)
        self._models = frozenset() if old else models_of(path)
        # What the schedule did is not the person's: the session in which this is replayed has its own.
        self._given = [
            signal
            for signal in self.events
            if signal.kind in ("press", "training") and signal.payload.get("by") != "schedule"
        ]
        self._next = 0
        shown = [signal for signal in self.events if signal.kind == "shown"]
        self._shown = {signal.time_s: signal.payload for signal in shown}
        self._end_s = shown[-1].time_s if shown else float("-inf")
        self.clock = None if self._models else LogClock(self.events)

    def check(self, env: Any) -> None:
        """Refuse a log without events, of texts, or whose first observation this environment cannot make.

        Raises:
            UserError: Names the log, the observation and the environment's space.
        """
        self._check_kind(on_text=False)
        step = next(iter(self._shown.values()), None)
        if step is None or step["observation"] is None:
            return
        first, space = step["observation"], env.observation_space
        inside = np.shape(first) == space.shape and (
            not isinstance(space, Box) or space.contains(np.asarray(first, dtype=space.dtype))
        )
        if not inside:
            raise UserError(
                f"The log {self._path} begins with the observation {first}, which is none of this "
                f"environment's ({space}); give a log of this environment.",
                key="path",
            )

    def check_text(self, model: str) -> None:
        """Refuse a log without events, of an environment, or of texts of another model.

        Args:
            model: Fingerprint of the model that writes.

        Raises:
            UserError: Names the log and what it records.
        """
        self._check_kind(on_text=True)
        if model not in self._models:
            recorded = ", ".join(f"{found[:12]}..." for found in sorted(self._models))
            raise UserError(
                f"The log {self._path} was recorded with another model (fingerprint {recorded}; this one's "
                f"is {model[:12]}...), so its tokens are not this model's; give the model of that session.",
                key="path",
            )

    def _check_kind(self, *, on_text: bool) -> None:
        """Compare the kind of session with the log's."""
        if not self.events:
            raise UserError(
                f"The log {self._path} is empty: it records no session; give the session.jsonl of one.",
                key="path",
            )
        if on_text != bool(self._models):
            raise UserError(
                f"The log {self._path} records {'a text' if self._models else 'an environment'}, but this "
                f"session shows {'a text' if on_text else 'an environment'}; give a log of its own kind.",
                key="path",
            )

    def watch(self, observation: Any, action: int, shown_s: float) -> None:
        """Compare what appears with the log, which ends before the session or with it.

        Raises:
            UserError: When the log is of another model, of other tokens, or of another kind of session.
        """
        if not isinstance(observation, TextShown):
            self._check_kind(on_text=False)
            self._check_step(observation, action, shown_s)
            return
        self.check_text(observation.model)
        recorded_token = self._shown.get(shown_s, {}).get("action")
        if shown_s <= self._end_s and recorded_token != action:
            said = "no token" if recorded_token is None else f"token {recorded_token}"
            raise UserError(
                f"The log {self._path} has {said} at {shown_s:g} s, where this session shows "
                f"token {action}; replay it with the model, prompts, seed and settings of that session."
            )

    def _check_step(self, observation: Any, action: int, shown_s: float) -> None:
        """Compare a step of an environment with the log's."""
        if shown_s > self._end_s:
            return
        step = self._shown.get(shown_s)
        if (
            step is not None
            and step["action"] == action
            and (step["observation"] is None or np.array_equal(step["observation"], np.asarray(observation)))
        ):
            return
        said = "no step" if step is None else f"action {step['action']} in the state {step['observation']}"
        raise UserError(
            f"The log {self._path} has {said} at {shown_s:g} s, where this session has action {action} in "
            f"the state {observation}; replay it with the environment, learner, seed and settings of that "
            "session."
        )

    def poll(self, now_s: float) -> Sequence[Signal]:
        """Return presses and switches up to `now_s` that were not returned before, oldest first."""
        begin = self._next
        while self._next < len(self._given) and self._given[self._next].time_s <= now_s:
            self._next += 1
        return self._given[begin : self._next]

    def state_dict(self) -> dict[str, Any]:
        """Return how far the replay is."""
        return {"next": self._next, "position": 0 if self.clock is None else self.clock.position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self._next = int(state["next"])
        if self.clock is not None:
            self.clock.position = int(state["position"])
