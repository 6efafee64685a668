"""The loop between a reader and H on text: which responses are shown, what time it is, what was pressed.

A learner writes a batch and hands it over; the reader sees some of its responses, token by token at reading
speed. The clock is the screen's: simulated readers read on a virtual one, as fast as the machine computes,
however long the model took to write. The reader's own delay is a setting of the `Feedback`, the delay that
credit assumes is one of the source, and neither knows the other.

Shapes: ``B`` responses, ``T`` tokens (right-padded), ``D`` width of the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from textrl.protocols import Feedback, Signal
from textrl.tamer.human import Clock, VirtualClock, WallClock
from textrl.tamer.log import EventLog
from textrl.tamer.tamer import wanted
from textrl.tamer.text.reading import TextShown, pieces_of, whole_words

if TYPE_CHECKING:  # a session without a learner needs no torch for its loop
    from torch import Tensor

    from textrl.mdp.task import Prompt


class TextSource(Protocol):
    """What learns H from what is shown and pressed: the source ``tamer_text``, bound to a model."""

    def show(self, state: NDArray[Any], token: int, at_s: float, *, last: bool = False) -> None:
        """A token appears, after the (D,) hidden state; `last` says that the response ends with it."""
        ...

    def end(self, at_s: float) -> None:
        """The last word of a response leaves the screen."""
        ...

    def observe(self, signals: Iterable[Signal]) -> None:
        """Take ``press``, ``training`` and ``tick`` signals."""


@dataclass(frozen=True, kw_only=True)
class TextHumanSettings:
    """Settings of a reader's session.

    Attributes:
        step_s: Seconds from one token to the next.
        read_s: Seconds in which the prompt can be read before the first token.
        pause_s: Seconds for which the last word stays when the response is over (at least `step_s`); a
            token that ends a response and shows nothing has a step of its own before them.
        shown_per_iteration: Responses of a learner's iteration that are shown, its first ones.
        schedule: Iterations in which the reader is there, as (first, one past the last); null is always,
            an empty list never.
        max_presses: After so many presses the reader is thanked and leaves; null keeps them.
    """

    step_s: float = 0.25
    read_s: float = 1.0
    pause_s: float = 1.0
    shown_per_iteration: int = 4
    schedule: tuple[tuple[int, int], ...] | None = None
    max_presses: int | None = None

    def __post_init__(self) -> None:
        """Refuse values that cannot work.

        Raises:
            ValueError: Names the setting, its value and the fix.
        """
        if not 0 < self.step_s < float("inf"):
            raise ValueError(f"step_s is {self.step_s}; it must be above 0 seconds")
        for name in ("read_s", "pause_s"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 0 seconds or more")
        if self.shown_per_iteration < 1:
            raise ValueError(f"shown_per_iteration is {self.shown_per_iteration}; it must be at least 1")
        if self.max_presses is not None and self.max_presses < 0:
            raise ValueError(f"max_presses is {self.max_presses}; it must be 0 or more, or null")
        for first, last in self.schedule or ():
            if not 0 <= first < last:
                raise ValueError(
                    f"schedule holds [{first}, {last}]; write [first, one past the last] iteration"
                )

    def trains(self, iteration: int) -> bool:
        """Return whether the reader is there in an iteration, counted from 0."""
        return self.schedule is None or any(first <= iteration < last for first, last in self.schedule)


class TextHuman:
    """A reader beside a learner of text.

    Attributes:
        feedback: What the reader does.
        source: What learns H from it.
        settings: As given.
        name: Of the source, for errors.
        clock: The screen's.
        training: Whether presses count; by the schedule, and within it by the reader's own switch.
        iterations: Batches of the learner so far, shown or not.
        texts: Responses that were shown.
        presses: Presses heard while training was on.
        trained: Of each response shown of the last batch, (T,) whether training was on at its tokens.
    """

    def __init__(
        self,
        feedback: Feedback,
        source: TextSource,
        settings: TextHumanSettings | None = None,
        *,
        clock: Clock | None = None,
        log: Path | None = None,
        tokenizer: Any = None,
        name: str = "h",
    ) -> None:
        """Begin before the first iteration.

        Args:
            feedback: A person, a simulated person, or a recorded log. Its optional ``watch(observation,
                token, shown_s)`` is told each token that appears while training is on, with a `TextShown`
                as observation, and its optional ``clock`` is used unless one is given here.
            source: Learns H; it has a model (`bind_text`) by the time at which something is shown.
            settings: Times, share and schedule.
            clock: By default the feedback's own, else a virtual one.
            log: Where events are recorded for replay; None records none.
            tokenizer: Of the model that writes; by default the source's.
            name: Of the source in the config, for errors.
        """
        self.name = name
        self.feedback, self.source, self.settings = feedback, source, settings or TextHumanSettings()
        self.clock: Clock = clock or getattr(feedback, "clock", None) or VirtualClock()
        self.iterations = self.texts = self.presses = 0
        self.trained: list[NDArray[np.bool_]] = []
        self._tokenizer = tokenizer
        self._log = EventLog(log) if log is not None else None
        self._watch = getattr(feedback, "watch", None)
        # Since the last iteration ended: presses and seconds, on the screen's clock.
        self._since_s, self._heard, self._rate = self.clock.now_s, 0, 0.0
        self._told = True  # a source begins with training on
        self._train(self.present, self.clock.now_s, by="schedule")

    def check(self) -> None:
        """Refuse feedback that cannot be about texts of the source's model, before anything is written.

        Raises:
            UserError: See `textrl.protocols.Feedback`, ``check_text``.
        """
        if hasattr(self.feedback, "check_text"):
            self.feedback.check_text(self._fingerprint())

    @property
    def finished(self) -> bool:
        """Whether the reader has given all the presses that were asked for."""
        limit = self.settings.max_presses
        return limit is not None and self.presses >= limit

    @property
    def present(self) -> bool:
        """Whether the reader looks at this iteration's responses."""
        return self.settings.trains(self.iterations) and not self.finished

    def show_batch(
        self,
        prompts: Sequence[Prompt],
        ids: Tensor | NDArray[np.int64],
        mask: Tensor | NDArray[np.bool_],
        hidden: Tensor | NDArray[Any],
    ) -> int:
        """Show the first responses of a learner's iteration, and end the iteration.

        Args:
            prompts: B, where the responses go on from.
            ids: (B, T) tokens.
            mask: (B, T), True on real tokens.
            hidden: (B, T, D) last hidden states of the frozen reference before each token; on any device.

        Returns:
            Presses heard.
        """
        before, self.trained = self.presses, []
        for row, prompt in enumerate(prompts[: self.settings.shown_per_iteration]):
            if not self.present:
                break
            real = _array(mask[row]).astype(bool)
            tokens, states = _array(ids[row])[real], _array(hidden[row])[real]
            self.show(prompt.text, prompt.record, tokens.tolist(), states)
        self._end_iteration()
        return self.presses - before

    def show(
        self, prompt_text: str, record: Mapping[str, Any], ids: Sequence[int], hidden: NDArray[Any]
    ) -> int:
        """Show one response: the prompt, the tokens one by one, the whole for a pause.

        Args:
            prompt_text: What the response goes on from.
            record: All columns of the prompt's line in its file.
            ids: T tokens; a response of none is not shown.
            hidden: (T, D) raw last hidden states of the frozen reference before each token.

        Returns:
            Presses heard.
        """
        before, model = self.presses, self._fingerprint()
        self.trained.append(np.zeros(len(ids), dtype=np.bool_))
        if not ids:
            return 0
        pieces = pieces_of(self._tokenizer_of_text(), ids)
        self.texts += 1
        self._note("tick", self.clock.now_s, model=model, prompt=prompt_text)
        self._tell(self.clock.now_s)
        self._wait(self.clock.now_s + self.settings.read_s)
        text, shown_s = "", self.clock.now_s
        steps = zip(ids, pieces, whole_words(pieces), hidden, strict=True)
        for place, (token, piece, words, state) in enumerate(steps):
            text += piece
            if place:
                self._wait(shown_s + self.settings.step_s)
            shown_s = self.clock.now_s
            self._hear(shown_s)
            self.trained[-1][place] = self.training
            self.source.show(state, int(token), shown_s, last=place == len(ids) - 1)
            self._note("shown", shown_s, observation=None, action=int(token))
            if self._watch is not None and self.training:
                seen = TextShown(prompt_text, tuple(ids[: place + 1]), text, words, record, model)
                self._watch(seen, int(token), shown_s)
        self._wait(shown_s + max(self.settings.pause_s, self.settings.step_s))
        self.source.end(self.clock.now_s)
        self._note("end_episode", self.clock.now_s)
        return self.presses - before

    def metrics(self) -> dict[str, float]:
        """Return presses in all, presses per minute of the last iteration, responses shown, training."""
        return {
            "human/presses": float(self.presses),
            "human/presses_per_min": self._rate,
            "human/texts": float(self.texts),
            "human/seconds": self.clock.now_s,
            "human/training": float(self.training),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return JSON data for a resume between iterations; the source's state is saved by its owner."""
        state: dict[str, Any] = {
            "now_s": self.clock.now_s,
            "since_s": self._since_s,
            "iterations": self.iterations,
            "texts": self.texts,
            "presses": self.presses,
            "rate": self._rate,
            "training": self.training,
            "told": self._told,
        }
        if hasattr(self.feedback, "state_dict"):
            state["feedback"] = self.feedback.state_dict()
        if self._log is not None:
            self._log.flush()
            state["log"] = self._log.written
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`, at the time on the clock at which that was made."""
        self.clock.resume(state["now_s"])
        self._since_s, self._heard, self._rate = state["since_s"], 0, state["rate"]
        self.iterations, self.texts, self.presses = state["iterations"], state["texts"], state["presses"]
        self.training, self._told = state["training"], state["told"]
        if hasattr(self.feedback, "load_state_dict") and "feedback" in state:
            self.feedback.load_state_dict(state["feedback"])
        if self._log is not None:
            self._log = EventLog(self._log.path)
            self._log.written = state.get("log", 0)

    def _end_iteration(self) -> None:
        """Count the iteration, follow the schedule, and write the log."""
        now_s = self.clock.now_s
        minutes = (now_s - self._since_s) / 60
        self._rate = self._heard / minutes if minutes > 0 else 0.0
        self._since_s, self._heard = now_s, 0
        before = self.settings.trains(self.iterations)
        self.iterations += 1
        # Between two stretches of the schedule the reader's own switch counts.
        if self.settings.trains(self.iterations) != before:
            self._train(self.present, now_s, by="schedule")
        if self._log is not None:
            self._log.flush()

    def _wait(self, until_s: float) -> None:
        """Let time pass and deliver what the reader did in it."""
        now_s = self.clock.wait_until(until_s)
        self._hear(now_s)
        self.source.observe([Signal(kind="tick", value=0.0, time_s=now_s)])
        self._note("tick", now_s)
        if self._log is not None and isinstance(self.clock, WallClock):
            self._log.flush()  # what a person gave is not lost with the process

    def _hear(self, now_s: float) -> None:
        for signal in self.feedback.poll(now_s):
            if signal.kind == "training":
                on = wanted(signal, self.training)
                self._train(on and not self.finished, signal.time_s, by="person")
            elif signal.kind == "press":
                self._press(signal)

    def _press(self, signal: Signal) -> None:
        self._note("press", signal.time_s, value=signal.value)
        if not self.training:
            return
        self.presses += 1
        self._heard += 1
        self.source.observe([signal])
        if self.finished:
            self._train(False, signal.time_s, by="schedule")

    def _train(self, on: bool, at_s: float, by: str) -> None:
        self.training = on
        self._note("training", at_s, value=float(on), by=by)
        if self.texts:  # before the first one the source may have no model yet
            self._tell(at_s)

    def _tell(self, at_s: float) -> None:
        """Tell the source whether training is on, where it does not know: twice on is a new beginning."""
        if self.training != self._told:
            self._told = self.training
            self.source.observe([Signal(kind="training", value=float(self.training), time_s=at_s)])

    def _note(self, kind: str, time_s: float, **fields: Any) -> None:
        if self._log is not None:
            self._log.add(kind, time_s, **fields)

    def _tokenizer_of_text(self) -> Any:
        return self._tokenizer if self._tokenizer is not None else getattr(self.source, "tokenizer", None)

    def _fingerprint(self) -> str:
        head = getattr(self.source, "head", None)
        return str(getattr(head, "fingerprint", ""))


def _array(values: Any) -> NDArray[Any]:
    """Return a tensor or an array as an array; a device's half precision becomes float32."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        return np.asarray((values.float() if values.is_floating_point() else values).numpy())
    return np.asarray(values)
