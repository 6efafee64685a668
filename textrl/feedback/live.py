"""What control and text sessions share: one trainer, one clock, frames with stamps, pause, speed, end.

The trainer is the annotator who joined first; others watch. All times are seconds on the trainer's own
clock: presses and display stamps are made by the page, and a tick carries the time that the server took
for that clock's. Events of one page arrive in the order in which they were made, so once something stamped
t has arrived, everything the person did before t has: that is how far H may learn, since a press that
came later could no longer reach a step that is finished. Where nothing arrives, a second is waited.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from textrl.errors import UserError
from textrl.feedback.events import CLIENT_KINDS, Event
from textrl.feedback.machine import Message
from textrl.feedback.screen import PATIENCE_S, Screen, Seen
from textrl.feedback.store.base import SessionInfo

T = TypeVar("T")
#: Bounds of the seconds that a step stays on screen; the page's slider may ask for anything.
FASTEST_S, SLOWEST_S = 0.02, 10.0
_NEVER = -float("inf")


class LiveMachine(ABC, Generic[T]):
    """The part of a session that somebody watches and trains.

    Attributes:
        mode: ``control`` or ``text``.
        info: The session.
        live: Whether messages are wanted: while a log is fed in nobody looks, and nothing need be drawn.
            What is learnt never depends on it.
        trainer: Whose presses count; None before anybody joined.
        now_s: Time of the last tick, seconds on the trainer's clock.
        paused: Whether the trainer has paused.
        finished: Whether the session is over.
        training: Whether presses are learnt from; the trainer's switch.
        step_s: Seconds that a step, or a token, stays on screen.
        screen: Frames that wait for their stamps.
        presses: Presses, and passages that were rated, while training was on.
    """

    mode: str
    noun: str = "environment"

    def __init__(self, info: SessionInfo, *, step_s: float) -> None:
        self.info, self.step_s = info, step_s
        self.live = True
        self.trainer: str | None = None
        self.now_s = self._told_s = _NEVER
        self.paused = self.finished = False
        self.training = True
        self.screen: Screen[T] = Screen()
        self.presses = 0
        self._failure: str | None = None
        # Unknown kinds are passed over: a log may be of a later version, or hold notes.
        self._handlers: dict[str, Callable[[Event], list[Message]]] = {
            "joined": self._joined,
            "tick": self._ticked,
            "shown": self._shown,
            "press": self._pressed,
            "control": self._controlled,
            "undone": self._undone,
            "finished": self._finished,
        }

    def apply(self, event: Event) -> Sequence[Message]:
        """Take in one stored event.

        Raises:
            UserError: The environment or the model failed, now or before.
        """
        if self._failure is not None:
            raise UserError(self._failure)
        try:
            return self._apply(event)
        except UserError as error:
            self._failure = str(error)
            raise
        except Exception as error:
            # Somebody else's code: whatever it raises must end the session with a sentence, not the server.
            said = " ".join(str(error).split())[:200]
            what = f"{type(error).__name__}: {said}" if said else type(error).__name__
            self._failure = (
                f"The {self.noun} of session '{self.info.session}' failed at event {event.seq} ({what}); "
                "what was given so far is stored, but the session cannot go on."
            )
            raise UserError(self._failure) from error

    def due(self) -> float | None:
        """Return the seconds until the next tick, or None: paused, finished or failed."""
        if self.paused or self.finished or self._failure is not None:
            return None
        return self.wait_s()

    def close(self) -> None:
        """Let go of what the machine holds."""
        return

    @abstractmethod
    def wait_s(self) -> float:
        """Return how long what is on screen now stays there, seconds."""

    @abstractmethod
    def on_tick(self) -> list[Message]:
        """Go on by one step."""

    @abstractmethod
    def on_seen(self, seen: Seen[T]) -> list[Message]:
        """A frame appeared on the screen, or is known never to have."""

    @abstractmethod
    def on_press(self, event: Event, at_s: float) -> list[Message]:
        """The trainer pressed a key."""

    @abstractmethod
    def on_training(self, on: bool, at_s: float) -> None:
        """The trainer switched training on or off."""

    @abstractmethod
    def on_skip(self, *, count: bool) -> list[Message]:
        """The trainer wants to leave the episode or sample: to begin it again, or (`count`) the next."""

    @abstractmethod
    def on_undo(self, event: Event, uuid: str) -> list[Message]:
        """The trainer takes an event back."""

    @abstractmethod
    def panel(self) -> Message:
        """Return what the panel shows."""

    def heard_s(self) -> float:
        """Return up to when everything that the trainer did is known."""
        return max(min(self._told_s, self.now_s), self.now_s - PATIENCE_S)

    def time_of(self, event: Event) -> float:
        """Return an event's time on the trainer's clock; the last tick's where it has none."""
        return self.now_s if event.t_client is None else event.t_client

    def _apply(self, event: Event) -> list[Message]:
        handler = self._handlers.get(event.kind)
        if handler is None:
            return []
        if event.kind in CLIENT_KINDS[self.mode]:  # type: ignore[index]
            if self.trainer is None:
                self.trainer = event.annotator
            if event.annotator != self.trainer:
                return []
            self._told_s = max(self._told_s, self.time_of(event))
        return handler(event)

    def _joined(self, event: Event) -> list[Message]:
        if self.trainer is None:
            self.trainer = event.annotator
        return [self.panel()]

    def _ticked(self, event: Event) -> list[Message]:
        self.now_s = max(self.now_s, float(event.payload["now"]))
        if self.paused or self.finished:  # on its way when the trainer paused
            return []
        return self._go_on()

    def _go_on(self) -> list[Message]:
        messages = []
        for seen in self.screen.give_up(self.now_s):
            messages += self.on_seen(seen)
        return messages + self.on_tick()

    def _shown(self, event: Event) -> list[Message]:
        messages = []
        latest_s = self.time_of(event)
        for number, at_s in event.payload["frames"]:
            # A page cannot tell of the future: a stamp is at most the time of its message.
            for seen in self.screen.stamp(int(number), min(float(at_s), latest_s)):
                messages += self.on_seen(seen)
        return messages

    def _pressed(self, event: Event) -> list[Message]:
        at_s = self.time_of(event)
        messages = []
        for seen in self.screen.pressed(event.frame_id, at_s):
            messages += self.on_seen(seen)
        if self.training:
            self.presses += 1
        return messages + self.on_press(event, at_s)

    def _controlled(self, event: Event) -> list[Message]:
        do, value, at_s = event.payload["do"], event.payload.get("value"), self.time_of(event)
        messages: list[Message] = []
        if self.finished:
            return messages
        if do in ("pause", "resume"):
            self.paused = do == "pause"
        elif do == "step":
            self.paused = True
            self.now_s = max(self.now_s, at_s)
            messages += self._go_on()
        elif do == "speed" and value is not None:
            self.step_s = min(max(float(value), FASTEST_S), SLOWEST_S)
        elif do == "training":
            self.training = (not self.training) if value is None else bool(value)
            self.on_training(self.training, max(at_s, self.heard_s()))
        elif do in ("reset", "next_episode"):
            self.now_s = max(self.now_s, at_s)
            messages += self.on_skip(count=do == "next_episode")
        return [*messages, self.panel()]

    def _undone(self, event: Event) -> list[Message]:
        return self.on_undo(event, str(event.payload["uuid"]))

    def _finished(self, event: Event) -> list[Message]:
        self.finished = True
        return [self.panel()]

    def state(self) -> dict[str, Any]:
        """Return what every panel shows."""
        return {
            "type": "panel",
            "training": self.training,
            "paused": self.paused,
            "finished": self.finished,
            "speed": self.step_s,
            "presses": self.presses,
            "unseen": self.screen.unseen,
            "trainer": self.trainer,
        }
