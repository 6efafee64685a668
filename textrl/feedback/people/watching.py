"""People who watch and press keys: an environment's steps, or words as they appear."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from textrl.errors import UserError
from textrl.feedback.people.line import Line
from textrl.protocols import Feedback
from textrl.registry import get_registry
from textrl.settings import build

#: Seconds between looks at the clock, about a frame of a screen.
LOOK_S = 0.016
#: Seconds between batches of display stamps, as of the page.
BATCH_S = 0.1
#: Stamps of one batch at most.
BATCH = 60


class Watcher(Feedback, Protocol):
    """A simulated trainer that sees steps; `textrl_human.simulated.SimulatedTrainer` is one."""

    def watch(self, observation: Any, action: int, shown_s: float) -> None:
        """See a step."""
        ...


class Presser:
    """A person at the keyboard of a control or a text session.

    Attributes:
        line: The connection.
        presses: Keys pressed so far.
    """

    def __init__(
        self,
        link: str,
        name: str,
        preset: str,
        *,
        seed: int = 0,
        truth: str | None = None,
        rate: float | None = None,
        keep_frames: bool = True,
    ) -> None:
        """Prepare; the trainer is made when the session says what it shows.

        Args:
            link: What the server prints.
            name: The person's.
            preset: Of a simulated trainer.
            seed: Draws everything that the person leaves to chance.
            truth: What the person knows; by default what fits the session.
            rate: Keys a second, for as long as everything is judged; None leaves it to the preset.
            keep_frames: See `Line`.
        """
        self.line = Line(link, name, self._take, keep_frames=keep_frames)
        self._settings = {"preset": preset, "seed": seed}
        self._truth, self._rate = truth, rate
        # Before the connection: importing a plugin takes longer than a frame lives.
        _plugin()
        _lexicon()
        self._trainer: Watcher | None = None
        self._words = Words()
        self._shown: deque[list[float]] = deque()  # [frame_id, t]
        self._seen: deque[tuple[float, int]] = deque(maxlen=256)  # (t, frame_id)
        self.presses = 0
        self.finished = False

    async def live(self) -> None:
        """Watch and press until the session is finished or fails, or this is cancelled."""
        connected = asyncio.create_task(self.line.run())
        batch_s = 0.0
        try:
            while not (self.finished or self.line.failed or connected.done()):
                await asyncio.sleep(LOOK_S)
                now_s = self.line.now_s
                self._press(now_s)
                if now_s - batch_s >= BATCH_S:
                    batch_s = now_s
                    self._flush(now_s)
        finally:
            if not connected.done():
                await self.line.settled()
            connected.cancel()
            outcome = await asyncio.gather(connected, return_exceptions=True)
        if isinstance(outcome[0], Exception):
            raise outcome[0]

    def _take(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "welcome" and self._trainer is None:
            self._trainer = self._make(message)
        elif kind == "frame":
            self._look(message["frame_id"])
            if message["action"] is not None:
                self._judge(message["state"], message["action"])
        elif kind == "token":
            self._look(message["frame_id"])
            for word in self._words.add(message["sample"], message["text"], bool(message.get("end"))):
                self._judge(word, 0)
        elif kind == "finished":
            self.finished = True

    def _look(self, frame_id: int) -> None:
        now_s = self.line.now_s
        self._shown.append([frame_id, now_s])
        self._seen.append((now_s, frame_id))

    def _judge(self, observation: Any, action: int) -> None:
        if self._trainer is not None:
            self._trainer.watch(observation, action, self._seen[-1][0])

    def _press(self, now_s: float) -> None:
        if self._trainer is None:
            return
        for signal in self._trainer.poll(now_s):
            # Display first, then the key, each as it happened: the log has them in this order too.
            self._flush(signal.time_s)
            frame = next((number for at, number in reversed(self._seen) if at <= signal.time_s), None)
            self.line.send("press", {"value": int(signal.value)}, t=signal.time_s, frame_id=frame)
            self.presses += 1

    def _flush(self, until_s: float) -> None:
        while self._shown and self._shown[0][1] <= until_s:
            frames: list[list[float]] = []
            while self._shown and self._shown[0][1] <= until_s and len(frames) < BATCH:
                frames.append(self._shown.popleft())
            self.line.send("shown", {"frames": frames}, t=frames[-1][1])

    def _make(self, welcome: dict[str, Any]) -> Watcher:
        view, given = welcome["view"], dict(self._settings)
        panel = view.get("panel", {})
        if self._rate is not None and "speed" in panel:
            # Keys a judged step: one with a probability, or one and perhaps more.
            each = self._rate * float(panel["speed"])
            given["p_press"], given["multi_press"] = min(1.0, each), max(0.0, 1.0 - 1.0 / max(each, 1e-9))
        return trainer_for(welcome["mode"], str(view.get("env", "")), self._truth, given)


def trainer_for(mode: str, env: str, truth: str | None, given: Mapping[str, Any]) -> Watcher:
    """Return a simulated trainer for a session.

    Args:
        mode: ``control`` or ``text``.
        env: The environment of a control session.
        truth: What the trainer knows; None takes what fits the session.
        given: Its settings, ``preset`` among them.

    Raises:
        UserError: When there is no such preset or truth, or none for the environment.
    """
    settings = dict(given)
    if mode == "control":
        truth = truth or _truth_of(env, str(given["preset"]))
    if truth is not None:
        settings["truth"] = truth
    return make_trainer(settings, _likes if mode == "text" and truth is None else None)


def make_trainer(given: dict[str, Any], truth: Callable[[Any, int], float] | None = None) -> Watcher:
    """Return a simulated trainer of the plugin `simulated`.

    Args:
        given: Its settings.
        truth: What it knows, instead of its settings' truth.

    Raises:
        UserError: When the plugin is not there or refuses the settings.
    """
    cls, make = _plugin()
    settings: Any = build(cls, given, where=lambda key: "--simulate")
    trainer: Any = settings.trainer()
    if truth is not None:
        trainer = replace(trainer, truth=truth)
    made: Watcher = make(trainer)
    return made


def _plugin() -> tuple[Any, Any]:
    """Return the settings and the trainer of the plugin `simulated`."""
    spec = get_registry().find("feedback", "simulated")
    return spec.load_settings(), spec.load()


def _truth_of(env: str, preset: str) -> str | None:
    """Return what to know about an environment; None leaves it to the preset."""
    if "MountainCar" in env:
        return None
    if "CartPole" in env:
        return "pole_rule"
    raise UserError(
        f"Simulated people know Mountain Car and Cart Pole, not '{env}'; give --truth module:function."
    )


class Words:
    """Puts tokens together to words, of which each is judged once, when it is complete."""

    def __init__(self) -> None:
        """Begin with nothing read."""
        self._sample: Any = None
        self._word = ""

    def add(self, sample: Any, text: str, end: bool) -> list[str]:
        """Read a token; return the words that are complete now, without their punctuation."""
        if sample != self._sample:
            self._sample, self._word = sample, ""
        done = []
        if text[:1].isspace() or not text[:1].isalpha():
            done, self._word = [self._word], ""
        self._word += text.strip().lower()
        if end:
            done, self._word = [*done, self._word], ""
        bare = (word.strip("\"'.,;:!?()-") for word in done)
        return [word for word in bare if word]


def _likes(word: Any, action: int) -> float:
    """Return a word's valence in VADER's lexicon, 0 for most words."""
    return float(_lexicon().get(str(word), 0.0))


_LEXICON: dict[str, float] = {}


def _lexicon() -> dict[str, float]:
    if not _LEXICON:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

        _LEXICON.update(SentimentIntensityAnalyzer().lexicon)
    return _LEXICON
