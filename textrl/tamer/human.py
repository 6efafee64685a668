"""The loop between a person and TAMER: what is shown, what time it is, what was pressed.

A learner calls `shown` before an environment's step, `advance` after it and `end_episode` at the end. The
person is a `Feedback`: a simulated one, a recorded one, or somebody at a keyboard. Simulated time runs on
a virtual clock, as fast as the machine computes; for people the clock is the wall's, and `advance` waits
until the step has been on screen for its time.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from textrl.protocols import Feedback, Signal
from textrl.tamer.log import EventLog
from textrl.tamer.settings import HumanSettings
from textrl.tamer.tamer import Tamer, wanted


class Clock(Protocol):
    """The clock that stamps what is shown; presses are stamped on the same one."""

    @property
    def now_s(self) -> float:
        """Seconds."""
        ...

    def wait_until(self, time_s: float) -> float:
        """Let time pass up to `time_s` and return the new time; at once where it is that late already."""
        ...

    def stamp(self, kind: str) -> float:
        """Return when an event that happens now happens: `now_s`, but for a clock that follows a log.

        Args:
            kind: ``shown``, ``end_episode``, or ``training`` for a switch by the schedule.
        """
        ...

    def resume(self, now_s: float) -> None:
        """Let it be `now_s` now: the session goes on, as if no time had passed since it was saved."""
        ...


class VirtualClock:
    """Simulated time, from 0 s."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def wait_until(self, time_s: float) -> float:
        """Be there at once."""
        self.now_s = max(time_s, self.now_s)
        return self.now_s

    def stamp(self, kind: str) -> float:
        """Return `now_s`."""
        return self.now_s

    def resume(self, now_s: float) -> None:
        """Be there at once."""
        self.now_s = now_s


class WallClock:
    """`time.monotonic` until a session is resumed; then it goes on from the session's time.

    Every process has its own zero of `time.monotonic`, and a restarted machine begins anew, so what was
    stamped in another process means nothing on it.
    """

    def __init__(self) -> None:
        self._ahead_s = 0.0

    @property
    def now_s(self) -> float:
        """Seconds since some moment in the past."""
        return time.monotonic() + self._ahead_s

    def wait_until(self, time_s: float) -> float:
        """Sleep."""
        left_s = time_s - self.now_s
        if left_s > 0:
            time.sleep(left_s)
        return self.now_s

    def stamp(self, kind: str) -> float:
        """Return `now_s`."""
        return self.now_s

    def resume(self, now_s: float) -> None:
        """Let it be `now_s` now."""
        self._ahead_s = now_s - time.monotonic()


class Human:
    """A person beside a learner.

    Attributes:
        feedback: What the person does.
        tamer: What learns from it.
        settings: As given.
        clock: Stamps what is shown.
        episodes: Episodes that have ended.
        signals: Presses heard while training was on.
    """

    def __init__(
        self,
        feedback: Feedback,
        tamer: Tamer,
        settings: HumanSettings | None = None,
        *,
        clock: Clock | None = None,
        log: Path | None = None,
    ) -> None:
        """Begin the first episode.

        Args:
            feedback: A person, a simulated person, or a recorded log. Its optional ``watch(observation,
                action, shown_s)`` is told each step that is shown while training is on, and its optional
                ``clock`` is used unless one is given here.
            tamer: Learns H.
            settings: Step, pause and schedule.
            clock: By default the feedback's own, else a virtual one.
            log: Where events are recorded for replay; None records none.
        """
        self.feedback, self.tamer, self.settings = feedback, tamer, settings or HumanSettings()
        self.clock: Clock = clock or getattr(feedback, "clock", None) or VirtualClock()
        self.episodes = self.signals = 0
        self._log = EventLog(log) if log is not None else None
        self._watch = getattr(feedback, "watch", None)
        # What happened since the last episode ended: when that was, presses, seconds of training.
        self._since_s, self._heard, self._rate = self.clock.now_s, 0, 0.0
        self._shown_s = self.clock.now_s
        self._train(self.settings.trains(0), self.clock.stamp("training"), by="schedule")

    @property
    def training(self) -> bool:
        """Whether the person is training now."""
        return self.tamer.is_training

    def shown(self, observation: Any, action: int) -> None:
        """A step begins: the person sees the observation and the action, 0 .. A-1."""
        now_s = self._shown_s = self.clock.stamp("shown")
        self._hear(now_s)
        self.tamer.show(observation, action, now_s)
        if self._log is not None:
            self._log.add("shown", now_s, observation=observation, action=int(action))
        if self._watch is not None and self.training:
            self._watch(observation, int(action), now_s)

    def advance(self) -> None:
        """The step was on screen for its time: move the clock and deliver what the person did."""
        self._wait(self._shown_s + self.settings.step_s)

    def end_episode(self) -> None:
        """The last step is over: pause, deliver, and follow the schedule."""
        now_s = self.clock.stamp("end_episode")
        self._hear(now_s)
        self.tamer.end_episode(now_s)
        if self._log is not None:
            self._log.add("end_episode", now_s)
        self._wait(now_s + self.settings.pause_s)
        now_s = self.clock.now_s
        minutes = (now_s - self._since_s) / 60
        self._rate = self._heard / minutes if minutes > 0 else 0.0
        self._since_s, self._heard = now_s, 0
        self.episodes += 1
        wanted = self.settings.trains(self.episodes)
        # Between two stretches of the schedule the person's own switch counts.
        if wanted != self.settings.trains(self.episodes - 1):
            self._train(wanted, self.clock.stamp("training"), by="schedule")
        if self._log is not None:
            self._log.flush()

    def metrics(self) -> dict[str, float]:
        """Return presses per minute of the last episode, presses in all, and whether training is on."""
        return {
            "human/signals_per_min": self._rate,
            "human/signals": float(self.signals),
            "human/training": float(self.training),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resume between episodes needs, TAMER included."""
        state: dict[str, Any] = {
            "tamer": self.tamer.state_dict(),
            "now_s": self.clock.now_s,
            "since_s": self._since_s,
            "episodes": self.episodes,
            "signals": self.signals,
            "rate": self._rate,
        }
        if hasattr(self.feedback, "state_dict"):
            state["feedback"] = self.feedback.state_dict()
        if self._log is not None:
            self._log.flush()
            state["log"] = self._log.written
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`, and set the clock to the time at which that was made.

        So the steps that presses may still reach keep their distance to now, and times in the log never
        fall, whatever clock the process before had.
        """
        self.tamer.load_state_dict(state["tamer"])
        self.clock.resume(state["now_s"])
        self._shown_s, self._since_s = state["now_s"], state["since_s"]
        self.episodes, self.signals, self._rate = state["episodes"], state["signals"], state["rate"]
        if hasattr(self.feedback, "load_state_dict") and "feedback" in state:
            self.feedback.load_state_dict(state["feedback"])
        if self._log is not None:
            self._log = EventLog(self._log.path)
            self._log.written = state.get("log", 0)

    def _wait(self, until_s: float) -> None:
        """Let time pass and deliver what the person did in it."""
        now_s = self.clock.wait_until(until_s)
        self._hear(now_s)
        self.tamer.tick(now_s)
        if self._log is not None:
            self._log.add("tick", now_s)
            if isinstance(self.clock, WallClock):  # what a person gave is not lost with the process
                self._log.flush()

    def _hear(self, now_s: float) -> None:
        """Deliver what the person did up to now.

        On the wall's clock a slow update lies between two steps; a press from that time must reach TAMER
        before TAMER is told what time it is.
        """
        for signal in self.feedback.poll(now_s):
            self._deliver(signal)

    def _deliver(self, signal: Signal) -> None:
        if signal.kind == "training":
            self._train(wanted(signal, self.training), signal.time_s, by="person")
        elif signal.kind == "press":
            if self._log is not None:
                self._log.add("press", signal.time_s, value=signal.value)
            if self.training:
                self.signals += 1
                self._heard += 1
            self.tamer.press(signal.value, signal.time_s)

    def _train(self, on: bool, now_s: float, by: str) -> None:
        self.tamer.training(on, now_s)
        if self._log is not None:
            self._log.add("training", now_s, value=float(on), by=by)
