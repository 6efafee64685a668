"""People who rank responses: by what VADER's rules say, with noise, ties and skipped items."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import numpy as np

from textrl.errors import UserError, did_you_mean
from textrl.feedback.people.line import Line


@dataclass(frozen=True, kw_only=True)
class Labeler:
    """What a labeler is like.

    Attributes:
        noise: Standard deviation of what is added to each response's score, on VADER's scale of -1 to 1.
        tie: Scores that differ by this or less are called equal.
        p_random: Probability that an item is ranked without being read.
        p_skip: Probability that an item is skipped.
        sign: -1 prefers what others like least.
    """

    noise: float = 0.2
    tie: float = 0.05
    p_random: float = 0.0
    p_skip: float = 0.0
    sign: float = 1.0


LABELERS = {
    "reference": Labeler(),
    "oracle": Labeler(noise=0.0, tie=0.0),
    "mistake10": Labeler(p_random=0.1),
    "skip10": Labeler(p_skip=0.1),
    "adversarial": Labeler(sign=-1.0),
}


def labeler(preset: str) -> Labeler:
    """Return a simulated labeler.

    Raises:
        UserError: When there is none of that name.
    """
    if preset not in LABELERS:
        raise UserError(f"There is no simulated labeler '{preset}'.{did_you_mean(preset, LABELERS)}")
    return LABELERS[preset]


class Ranker:
    """A person in a ranking session.

    Attributes:
        line: The connection.
        judged: Items ranked or skipped.
    """

    def __init__(
        self, link: str, name: str, preset: str, *, seed: int = 0, rate: float | None = None
    ) -> None:
        """Prepare.

        Args:
            link: What the server prints.
            name: The person's.
            preset: One of `LABELERS`.
            seed: Draws noise and mistakes.
            rate: Items a second; None takes 1.

        Raises:
            UserError: When there is no such preset.
        """
        self.labeler, self.line = labeler(preset), Line(link, name, self._take)
        self._rng = np.random.default_rng([seed, *name.encode()])
        self._pause_s = 1.0 / (rate or 1.0)
        self._items: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.judged = 0
        self.finished = asyncio.Event()

    async def live(self) -> None:
        """Rank until there is nothing left, or this is cancelled."""
        connected = asyncio.create_task(self.line.run())
        done = asyncio.create_task(self.finished.wait())
        working = asyncio.create_task(self._work())
        try:
            await asyncio.wait({connected, done, working}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not connected.done():
                await self.line.settled()
            for task in (connected, done, working):
                task.cancel()
            outcomes = await asyncio.gather(connected, done, working, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    def _take(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "welcome":
            item = message["view"].get("item")
            if isinstance(item, dict):
                self._items.put_nowait(item)
            if message["view"].get("finished"):
                self.finished.set()
        elif kind == "item":
            self._items.put_nowait(message)
        elif kind == "finished":
            self.finished.set()

    async def _work(self) -> None:
        judged: set[Any] = set()
        while True:
            item = await self._items.get()
            if item["item"] in judged:  # shown again after a reconnect, while the answer is on its way
                continue
            began_s = self.line.now_s
            self.line.send("opened", {"item": item["item"]})
            await asyncio.sleep(self._pause_s)
            judged.add(item["item"])
            if self._rng.random() < self.labeler.p_skip:
                self.line.send("skipped", {"item": item["item"]})
            else:
                self.line.send("ranked", self.judge(item) | {"seconds": self.line.now_s - began_s})
            self.judged += 1

    def judge(self, item: dict[str, Any]) -> dict[str, Any]:
        """Return the ranking of an item, its scores from 1 to 7, and no flags."""
        texts = item["completions"]
        known = np.array([_score(text) for text in texts])
        scores = self.labeler.sign * known + self.labeler.noise * self._rng.standard_normal(len(texts))
        if self._rng.random() < self.labeler.p_random:
            scores = self._rng.random(len(texts))
        order = np.argsort(-scores, kind="stable")
        ranks = np.zeros(len(texts), dtype=int)
        rank = 1
        for place, one in enumerate(order):
            if place and scores[order[place - 1]] - scores[one] > self.labeler.tie:
                rank = place + 1
            ranks[one] = rank
        likert = np.clip(np.rint(4 + 3 * np.clip(scores, -1, 1)), 1, 7).astype(int)
        return {
            "item": item["item"],
            "ranks": ranks.tolist(),
            "likert": likert.tolist(),
            "flags": [{} for _ in texts],
        }


def _score(text: str) -> float:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    global _ANALYSER
    if _ANALYSER is None:
        _ANALYSER = SentimentIntensityAnalyzer()
    return float(_ANALYSER.polarity_scores(text)["compound"])


_ANALYSER: Any = None
