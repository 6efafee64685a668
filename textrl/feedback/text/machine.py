"""A text session's machine: one tick is one token.

The prompt stands for a moment, tokens follow at reading speed, the finished text stays until its last words
can no longer be rated, and the next prompt comes. What presses and spans teach moves the choice of the very
next token; a token that H changed says what the same noise would have chosen without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textrl.errors import UserError
from textrl.feedback.delays import DelayFit, fit_delay
from textrl.feedback.digests import digest_of
from textrl.feedback.events import Event
from textrl.feedback.live import LiveMachine
from textrl.feedback.machine import Message, config_of
from textrl.feedback.screen import Seen
from textrl.feedback.store.base import SessionInfo
from textrl.feedback.text.settings import TextSettings, text_settings
from textrl.feedback.text.texts import Appearing, Text
from textrl.feedback.text.writer import Draw, Writer
from textrl.settings import to_plain
from textrl.tamer.text.saved import save_head
from textrl.tamer.text.teaching import Teaching, Token
from textrl.tamer.text.words import Words

#: The last word of a text counts as on screen for so long, as the last step of TAMER's episodes. Seconds.
LAST_WORD_S = 1.0
#: Finished texts that a page which comes back is given.
KEPT = 20


class TextMachine(LiveMachine[Appearing]):
    """A language model and H, driven by events.

    Attributes:
        settings: As in the session's config.
        writer: The model.
        teaching: H and what it was taught.
    """

    mode = "text"
    noun = "model"

    def __init__(self, info: SessionInfo) -> None:
        """Load the model; the first tick begins the first text.

        Raises:
            UserError: When the model cannot be had, or a prompt does not fit.
        """
        self.settings: TextSettings = text_settings(config_of(info), f"session '{info.session}'")
        super().__init__(info, step_s=self.settings.step_s)
        self.writer = Writer(self.settings)
        for prompt in self.settings.prompts:
            self.writer.encode(prompt)
        self.teaching = Teaching(self.writer.head, self.settings.delay, self.settings.loss)
        self._text: Text | None = None
        self._finished_texts: list[Message] = []
        self._count = self._turn = 0
        self._asked: str | None = None  # the trainer's own prompt, for the next text
        self._latest: Appearing | None = None
        self._trials: list[float] = []
        self._fit: DelayFit | None = None
        self._curves: dict[str, list[list[float]]] = {"score": [], "kl": [], "changed": []}
        self._handlers |= {"span": self._spanned, "delay_trial": self._tried, "prompt": self._prompted}

    def wait_s(self) -> float:
        """Return a token's time; a new prompt and a finished text stay longer."""
        if self._text is None or self._asked is not None:
            return self.step_s
        if self._text.whole:
            return max(self.settings.pause_s, self.step_s)
        return self.step_s if self._text.messages else max(self.settings.read_s, self.step_s)

    def on_tick(self) -> list[Message]:
        """Write a token, or begin a text."""
        self.teaching.tick(self.heard_s())
        if self._text is None or self._text.whole:
            return self._begin()
        draw = self.writer.draw()
        return self._written(self._text, draw)

    def on_seen(self, seen: Seen[Appearing]) -> list[Message]:
        """Give a token its place in time; one that nobody saw gets none."""
        content = seen.content
        content.settled = True
        if seen.seen and content.numbers:
            *waited, number = content.numbers
            self.teaching.show(number, seen.at_s, joins=content.joins, waited=waited)
        if content.last:
            self.teaching.end(seen.at_s + LAST_WORD_S)
        return []

    def on_press(self, event: Event, at_s: float) -> list[Message]:
        """Credit a press by the times at which words appeared."""
        value, numbers = event.payload["value"], list[int]()
        if self.training:
            numbers = self.teaching.press(event.uuid, float(value), at_s)
        pressed = {"type": "pressed", "value": value, "uuid": event.uuid, "credited": len(numbers)}
        return [pressed, self._rated(numbers, value, event.uuid), self.panel()]

    def on_training(self, on: bool, at_s: float) -> None:
        """Switch learning on or off."""
        self.teaching.training(on, at_s)

    def on_skip(self, *, count: bool) -> list[Message]:
        """Leave the text; the next tick begins it again with other noise, or goes on to the next prompt."""
        text = self._text
        if text is None or text.whole:
            return []
        if not count:
            self._turn -= 1
        return self._over(text, cut=True)

    def on_undo(self, event: Event, uuid: str) -> list[Message]:
        """Make H anew without a press or a span."""
        numbers = self.teaching.undo(uuid)
        if numbers is None:
            return []
        if self._text is not None:
            self._text.ratings.pop(uuid, None)
        undone = {"type": "rated", "frame_ids": numbers, "value": 0, "uuid": uuid, "undone": True}
        return [undone, self.panel()]

    def panel(self) -> Message:
        """Return what the panel shows: switches, counts, H's weight."""
        return self.state() | {
            "beta": self.settings.beta,
            "cap_nats": self.settings.cap_nats,
            "episode": self._count,
            "samples": self.teaching.samples,
            "learnt": self.writer.head.learnt,
            "returns": [y for _, y in self._curves["score"][-100:]],
        }

    def view(self, annotator: str) -> Message:
        """Return the whole state; see `Machine.view`."""
        text = self._text
        return {
            "mode": self.mode,
            "model": self.settings.model,
            "trainer": self.trainer,
            "finished": self.finished,
            "panel": self.panel(),
            "sample": None if text is None else text.message(),
            "tokens": [] if text is None else list(text.messages),
            "ratings": [] if text is None else list(text.ratings.values()),
            "samples": list(self._finished_texts),
            "delay": None if self._fit is None else self._delay_message(self._fit),
            "curves": self._curves,
        }

    def digest(self) -> str:
        """Return the SHA-256 of H, of the delay that was fitted, and of the tokens that were written."""
        teaching = self.teaching
        return digest_of(
            {
                "h": self.writer.head.parameters(),
                "delay": to_plain(teaching.delay),
                "samples": teaching.samples,
                "written": [one.token for one in teaching.tokens],
            }
        )

    def save_h(self, path: Path) -> Mapping[str, Any]:
        """Write the head as a folder; see `Machine.save_h`."""
        save_head(self.writer.head, path)
        settings = self.settings
        section = {"use": "tamer_text", "model": settings.model, "rank": settings.rank, "seed": settings.seed}
        return section | {"weights": str(path)}

    def close(self) -> None:
        """Let go of the text that is being written."""
        self.writer.close()

    def _begin(self) -> list[Message]:
        """Begin the next text: on the trainer's prompt, or on the next of the session's."""
        if self._asked is not None:
            prompt, self._asked = self._asked, None
        else:
            prompt = self.settings.prompts[self._turn % len(self.settings.prompts)]
            self._turn += 1
        self._count += 1
        self._text = Text(self._count, prompt, Words(self.writer.tokenizer))
        self.writer.begin(self.writer.encode(prompt), self._count)
        return [self._text.message(), self.panel()]

    def _written(self, text: Text, draw: Draw) -> list[Message]:
        """Send a token out."""
        silent = True if self.writer.is_end(draw.token) else None
        new = text.words.add(draw.token, last=draw.last, silent=silent)
        self.teaching.tokens.append(Token(draw.state, draw.token))
        if new.own:
            text.waiting.append(len(self.teaching.tokens))
        numbers = tuple(text.waiting) if new.piece else ()
        if numbers:
            text.waiting.clear()
        self._latest = Appearing(numbers, joins=new.joins, last=draw.last)
        message: Message = {
            "type": "token",
            "frame_id": self.screen.emit(self._latest, self.now_s),
            "sample": text.number,
            "text": new.piece,
            "end": draw.last,
            "score": draw.score,
        }
        if draw.plain != draw.token:
            message["plain"] = self.writer.tokenizer.decode([draw.plain])
            text.changed += 1
        text.messages.append(message)
        text.kl += draw.kl
        if draw.score is not None:
            text.scores.append(draw.score)
        return [message, *(self._over(text) if draw.last else [])]

    def _over(self, text: Text, *, cut: bool = False) -> list[Message]:
        """Close a text, at its end or because the trainer leaves it."""
        text.whole = True
        if cut:
            if self._latest is not None and not self._latest.settled:
                self._latest.last = True
            elif text.messages:
                self.teaching.end(self.now_s)
        self.writer.close()
        message = text.message(**({"cut": True} if cut else {}))
        self._finished_texts = [*self._finished_texts, message][-KEPT:]
        tokens = max(len(text.messages), 1)
        points = {"score": message["mean_score"], "kl": text.kl / tokens, "changed": text.changed / tokens}
        messages = [message]
        for name, y in points.items():
            if y is not None and not cut:
                self._curves[name].append([float(text.number), float(y)])
                messages.append({"type": "curve", "name": name, "points": self._curves[name][-1:]})
        return [*messages, self.panel()]

    def _spanned(self, event: Event) -> list[Message]:
        """Label a span's tokens with its value."""
        given, numbers = event.payload, list[int]()
        if self.training:
            self.presses += 1
            first, last, value = int(given["start_token"]), int(given["end_token"]), float(given["value"])
            numbers = self.teaching.span(event.uuid, first, last, value)
        return [self._rated(numbers, given["value"], event.uuid), self.panel()]

    def _tried(self, event: Event) -> list[Message]:
        """Take in a trial of the calibration, and credit by what all of them say."""
        pressed_s = event.payload.get("press_t")
        if pressed_s is None:  # a cue that was missed
            return []
        self._trials.append(float(pressed_s) - float(event.payload["cue_t"]))
        fit = fit_delay(self._trials)
        if fit is None:
            return []
        self._fit = fit
        self.teaching.calibrate(fit.settings)
        return [self._delay_message(fit)]

    def _prompted(self, event: Event) -> list[Message]:
        """Go on from the trainer's own prompt, as soon as the next tick."""
        prompt = str(event.payload["text"])
        try:
            self.writer.encode(prompt)
        except UserError as error:
            refusal = {"type": "error", "code": "bad_event", "message": str(error), "uuid": event.uuid}
            return [refusal | {"to": event.annotator}]
        self._asked = prompt
        text = self._text
        return [] if text is None or text.whole else self._over(text, cut=True)

    def _rated(self, numbers: list[int], value: Any, uuid: str) -> Message:
        """Tell which tokens a rating counts for: none while training is off."""
        rated: Message = {"type": "rated", "frame_ids": numbers, "value": value, "uuid": uuid}
        if numbers and self._text is not None:
            self._text.ratings[uuid] = rated
        return rated

    def _delay_message(self, fit: DelayFit) -> Message:
        return {
            "type": "delay",
            "fitted_s": fit.median_s,
            "sd_s": fit.sd_s,
            "trials": fit.trials,
            "dropped": fit.dropped,
        }


def resolved(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config with its prompts read and its model's digest: a replay needs no file of prompts.

    Args:
        config: Settings; ``prompts`` may be the path of a file instead of a list.

    Raises:
        UserError: When the config is wrong, or the model or the prompts cannot be had.
    """
    from textrl.data.prompts import read_prompts

    given = dict(config)
    prompts = given.get("prompts")
    if isinstance(prompts, str):
        del given["prompts"]  # read below: that needs the model's tokenizer
    settings = text_settings(given, "the session's settings")
    writer = Writer(settings)
    plain: dict[str, Any] = to_plain(settings)
    if isinstance(prompts, str):
        found = read_prompts(prompts, writer.tokenizer, max_prompt_tokens=writer.longest_prompt)
        plain["prompts"] = [prompt.text for prompt in found]
    for prompt in plain["prompts"]:
        writer.encode(prompt)
    return plain | {"model_sha256": writer.sha256()}
