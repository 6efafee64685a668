"""A recorded session as feedback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from textrl.errors import UserError
from textrl.protocols import Signal
from textrl.tamer.log import read_log
from textrl.tamer.text.reading import TextShown, models_of
from textrl_human.settings import ReplaySettings
from textrl_human.tamerproject import is_tamerproject_log, read_tamerproject_log


class Replay:
    """Gives what a person did in a recorded session, at the times at which they did it.

    Played beside the same learner, environment and seeds it teaches the same H bit for bit. To replay what
    was shown as well, without an environment, hand `events` to ``Tamer.observe``.

    On text, what appears must be what the log says appeared: presses at the same times would otherwise
    speak of other words.

    Attributes:
        events: The whole log.
    """

    def __init__(self, settings: ReplaySettings) -> None:
        """Read the log.

        Raises:
            UserError: When it cannot be read, or a line is wrong; names file and line.
        """
        self._path = path = Path(settings.path)
        old = is_tamerproject_log(path)
        self.events = read_tamerproject_log(path) if old else read_log(path)
        self._models = frozenset() if old else models_of(path)
        # What the schedule did is not the person's: the session in which this is replayed has its own.
        self._given = [
            signal
            for signal in self.events
            if signal.kind in ("press", "training") and signal.payload.get("by") != "schedule"
        ]
        self._next = 0
        shown = [signal for signal in self.events if signal.kind == "shown"] if self._models else []
        self._tokens = {signal.time_s: signal.payload["action"] for signal in shown}
        self._end_s = shown[-1].time_s if shown else float("-inf")

    def watch(self, observation: Any, action: int, shown_s: float) -> None:
        """Compare what appears with the log, which ends before the session or with it.

        Raises:
            UserError: When the log is of another model, of other tokens, or of another kind of session.
        """
        on_text = isinstance(observation, TextShown)
        if on_text != bool(self._models):
            raise UserError(
                f"The log {self._path} records {'a text' if self._models else 'an environment'}, but this "
                f"session shows {'a text' if on_text else 'an environment'}; give a log of its own kind."
            )
        if not isinstance(observation, TextShown):
            return
        if observation.model not in self._models:
            recorded = ", ".join(f"{model[:12]}..." for model in sorted(self._models))
            raise UserError(
                f"The log {self._path} was recorded with another model (fingerprint {recorded}; this one's "
                f"is {observation.model[:12]}...), so its tokens are not this model's; give the model of "
                "that session."
            )
        if shown_s <= self._end_s and self._tokens.get(shown_s) != action:
            raise UserError(
                f"The log {self._path} has {self._said(shown_s)} at {shown_s:g} s, where this session shows "
                f"token {action}; replay it with the model, prompts, seed and settings of that session."
            )

    def poll(self, now_s: float) -> Sequence[Signal]:
        """Return presses and switches up to `now_s` that were not returned before, oldest first."""
        begin = self._next
        while self._next < len(self._given) and self._given[self._next].time_s <= now_s:
            self._next += 1
        return self._given[begin : self._next]

    def state_dict(self) -> dict[str, Any]:
        """Return how far the replay is."""
        return {"next": self._next}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self._next = int(state["next"])

    def _said(self, shown_s: float) -> str:
        return f"token {self._tokens[shown_s]}" if shown_s in self._tokens else "no token"
