"""A ranking session without a server: events go through `admit`, get a number and are applied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textrl.feedback.events import Event, NewEvent, check_client_event
from textrl.feedback.rank import Item, RankMachine, rank_config
from textrl.feedback.store import SessionInfo


def made_items(count: int, k: int = 3) -> list[Item]:
    return [
        Item(f"i{n}", f"Prompt {n}?", tuple(f"answer {n}.{letter}" for letter in "abcdefghi"[:k]))
        for n in range(count)
    ]


def rank_info(items: Sequence[Item], **settings: Any) -> SessionInfo:
    config = rank_config(items, **settings)
    return SessionInfo(session="r", mode="rank", created=0.0, config=config, versions={})


class Ranking:
    """A session, and the log that it leaves."""

    def __init__(self, info: SessionInfo) -> None:
        self.info = info
        self.machine = RankMachine(info)
        self.log: list[Event] = []

    def send(
        self, annotator: str, kind: str, payload: dict[str, Any], uuid: str = ""
    ) -> list[dict[str, Any]]:
        """Do what the server does with an event; raises where it would refuse."""
        number = len(self.log) + 1
        event = NewEvent(
            uuid=uuid or f"u{number}",
            session="r",
            annotator=annotator,
            kind=kind,
            t_client=float(number),
            t_server=float(number),
            payload=payload,
        )
        if kind not in ("joined", "left"):
            check_client_event("rank", kind, payload)
        event = self.machine.admit(event)
        self.log.append(Event(**vars(event), seq=number))
        return [dict(message) for message in self.machine.apply(self.log[-1])]

    def join(self, annotator: str, role: str = "annotator") -> dict[str, Any]:
        self.send(annotator, "joined", {"client": f"tab-{annotator}", "role": role})
        return self.machine.view(annotator)

    def item(self, annotator: str) -> dict[str, Any] | None:
        """What stands on the annotator's screen."""
        return self.machine.view(annotator).get("item")

    def rank(self, annotator: str, best_first: Sequence[str] = (), **more: Any) -> list[dict[str, Any]]:
        """Rank what is on the screen by name of its texts, else by the alphabet."""
        item = self.item(annotator)
        assert item is not None
        order = list(best_first) or sorted(item["completions"])
        ranks = [order.index(text) + 1 for text in item["completions"]]
        return self.send(annotator, "ranked", {"item": item["item"], "ranks": ranks, **more})
