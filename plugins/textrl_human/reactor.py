"""From a judgement to a press: the part that all simulated people share, whatever they watch."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from typing import Any

from textrl import streams
from textrl.errors import UserError
from textrl.protocols import Signal
from textrl_human.trainers import Reactions

#: Seconds between a press and its repetition.
REPEAT_S = 0.15


class Reactor:
    """Presses as `Reactions` say, on the clock that stamps what is shown.

    Attributes:
        steps: Things judged: steps of an environment, words of a text.
        presses: Presses decided on, delivered or not yet.
    """

    def __init__(self, reactions: Reactions) -> None:
        """Seed the generators."""
        self._reactions = reactions
        # Delays have a generator of their own: how many numbers one takes depends on its distribution.
        self._rng = streams.stream(reactions.seed, streams.TRAINER)
        self._delays = streams.stream(reactions.seed, streams.TRAINER_DELAYS)
        self.steps = self.presses = 0
        self._began_s: float | None = None
        self._waiting: list[tuple[float, int, float]] = []  # a heap of (time, number, value)

    def react(self, value: float, shown_s: float, what: str) -> None:
        """See something of a value, and decide whether and when to press.

        Args:
            value: How good it is; what a truth gave.
            shown_s: When it appeared.
            what: What to call it in messages.

        Raises:
            UserError: When the value is not finite.
        """
        reactions = self._reactions
        if self._began_s is None:
            self._began_s = shown_s
        self.steps += 1
        attends, lapses, either, errs, prefers = self._rng.random(5).tolist()
        judgement = value - reactions.strictness
        if not math.isfinite(judgement):
            raise UserError(f"The trainer's truth gave {judgement} for {what}; return finite numbers.")
        if lapses < reactions.lapse:
            good = either < 0.5
        elif abs(judgement) <= reactions.dead_zone:
            return
        else:
            good = self._prefers(judgement, prefers) != (errs < reactions.p_error)
        if reactions.silence_means == ("good" if good else "bad"):
            return
        tired = (1.0 - reactions.fatigue) ** ((shown_s - self._began_s) / 60)
        if attends >= reactions.p_press * tired:
            return
        self._press(shown_s + reactions.delay.draw(self._delays), 1.0 if good else -1.0)

    def poll(self, now_s: float) -> Sequence[Signal]:
        """Return the presses up to `now_s` that were not returned before, oldest first."""
        given = []
        while self._waiting and self._waiting[0][0] <= now_s:
            time_s, _, value = heapq.heappop(self._waiting)
            given.append(Signal(value=value, time_s=time_s))
        return given

    def state_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        return {
            "rng": dict(self._rng.bit_generator.state),
            "delays": dict(self._delays.bit_generator.state),
            "steps": self.steps,
            "presses": self.presses,
            "began_s": self._began_s,
            "waiting": [list(press) for press in self._waiting],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self._rng.bit_generator.state = dict(state["rng"])
        self._delays.bit_generator.state = dict(state["delays"])
        self.steps, self.presses, self._began_s = state["steps"], state["presses"], state["began_s"]
        self._waiting = [(float(t), int(number), float(value)) for t, number, value in state["waiting"]]

    def _prefers(self, judgement: float, drawn: float) -> bool:
        """Return whether the person takes the good key for a judgement."""
        if self._reactions.rationality is None:
            return judgement > 0
        # tanh does not overflow where exp would.
        return drawn < 0.5 * (1.0 + math.tanh(0.5 * self._reactions.rationality * judgement))

    def _press(self, at_s: float, value: float) -> None:
        """Press once, and perhaps again."""
        stop_after, more = self._reactions.stop_after, self._reactions.multi_press
        again = True
        while again and (stop_after is None or self.presses < stop_after):
            heapq.heappush(self._waiting, (at_s, self.presses, value))
            self.presses += 1
            at_s += REPEAT_S
            again = more > 0 and self._delays.random() < more
