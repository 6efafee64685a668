"""The machine of a ranking session: it gives out items, takes judgements in and shows how people agree.

A client sends a ranking in the order in which the responses stood on its screen, which is the annotator's
own. `RankMachine.admit` turns that into the canonical record, with the texts, before it is stored: what
stands in the log can be read without the session's config.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from textrl.errors import UserError
from textrl.feedback.events import FLAGS, BadEvent, Event, NewEvent, check_client_event
from textrl.feedback.machine import Message, config_of
from textrl.feedback.rank.desk import Desk, Judgement, canonical_ranks, unshuffled
from textrl.feedback.rank.items import Item, items_of, keyed
from textrl.feedback.rank.live import LiveAgreement
from textrl.feedback.store.base import SessionInfo

_JUDGED = frozenset({"ranked", "skipped"})


class RankMachine:
    """See `textrl.feedback.machine.Machine`."""

    mode = "rank"

    def __init__(self, info: SessionInfo) -> None:
        """Build it at the start of its session.

        Raises:
            UserError: When the session's config holds no items.
        """
        config = config_of(info)
        self._items = items_of(config)
        self._seed, self._overlap = int(config.get("seed", 0)), int(config.get("overlap", 1))
        self._instructions = str(config.get("instructions", ""))
        self._flags = list(config.get("flags", FLAGS))
        self._desk = Desk(self._items, self._seed, self._overlap)
        self._agreement = LiveAgreement()
        #: Whether anybody looks; while a log is fed in nobody does.
        self.live = True
        self._extra: list[tuple[str, str, Any]] = []  # ratings and labels, which belong to no item

    def admit(self, event: NewEvent) -> NewEvent:
        """Return an event as it is to be stored; before that, and from any thread.

        Raises:
            BadEvent: When it speaks of an item or of responses that this session does not have.
        """
        if event.kind not in ("ranked", "skipped", "opened"):
            return event
        item = self._item(event)
        return replace(event, payload=self._record(event, item)) if event.kind == "ranked" else event

    def apply(self, event: Event) -> Sequence[Message]:
        """Take in one stored event; see the protocol."""
        name = event.annotator
        if event.kind == "joined":
            person = self._desk.person(name)
            person.tabs.add(str(event.payload.get("client", "")))
            person.owner = person.owner or event.payload.get("role") == "owner"
            self._desk.open(name)
            return []
        if event.kind == "left":
            self._desk.person(name).tabs.discard(str(event.payload.get("client", "")))
            return []
        try:
            if event.kind in _JUDGED:
                return self._judged(event)
            if event.kind == "undone":
                return self._undone(event)
        except BadEvent as error:
            return [self._refused(event, str(error))]
        if event.kind in ("rated", "labelled"):
            self._extra.append((event.uuid, event.kind, dict(event.payload)))
        return []

    def view(self, annotator: str) -> Message:
        """Return what a page needs that connects; see the protocol."""
        person = self._desk.person(annotator)
        shown: Message = {
            "progress": {"type": "progress", **self._desk.progress(annotator)},
            "given": [judgement.uuid for judgement in person.given.values()],
            "instructions": self._instructions,
            "flags": self._flags,
            "items": len(self._items),
            "finished": person.open is None,
        }
        if person.open is not None:
            shown["item"] = self._shown(annotator)
        if person.owner:
            shown["agreement"] = self._agreement.message(self._desk.judgements())
        return shown

    def due(self) -> float | None:
        """Return None: nothing happens here by itself."""
        return None

    def digest(self) -> str:
        """Return the SHA-256 of all judgements that stand."""
        from textrl.feedback.digests import digest_of

        ranked = [
            [one.uuid, one.annotator, one.item, None if one.payload is None else dict(one.payload)]
            for one in self._desk.judgements()
        ]
        return digest_of({"ranked": ranked, "extra": self._extra})

    def save_h(self, path: Path) -> Mapping[str, Any]:
        """Refuse: rankings teach a reward model, not H."""
        raise UserError(
            "A ranking session teaches no H; write its rankings with textrl feedback export, and train a "
            "reward model on them."
        )

    def close(self) -> None:
        """Nothing is held."""

    def judgements(self) -> list[Judgement]:
        """Return the judgements that stand, skipped items included, in their order."""
        return list(self._desk.judgements())

    def shown_order(self, annotator: str, item: str) -> list[int]:
        """Return, for each place on an annotator's screen, the canonical number of the response there."""
        return keyed(len(self._items[item].completions), self._seed, "responses", annotator, item)

    def _judged(self, event: Event) -> list[Message]:
        item = self._item(event)
        payload = self._record(event, item) if event.kind == "ranked" else None
        judgement = Judgement(event.uuid, event.annotator, item.item, payload)
        if not self._desk.give(judgement):
            raise BadEvent(f"You judged the item '{item.item}' before; undo that first.")
        return self._next(event.annotator)

    def _undone(self, event: Event) -> list[Message]:
        uuid = str(event.payload.get("uuid", ""))
        for index, (extra, _, _) in enumerate(self._extra):
            if extra == uuid:
                del self._extra[index]
                return []
        if not self._desk.take_back(event.annotator, uuid):
            raise BadEvent("There is nothing of yours to take back under that uuid.")
        messages = self._next(event.annotator)
        for other, person in self._desk.people.items():
            # Who had nothing left to do may have something again.
            if other != event.annotator and person.tabs and person.open is None and self._desk.open(other):
                progress = self._desk.progress(other)
                messages += [{"type": "progress", "to": other, **progress}, self._shown(other)]
        return messages

    def _next(self, annotator: str) -> list[Message]:
        """Return what the annotator sees after a judgement, and what owners do."""
        opened = self._desk.open(annotator)
        if not self.live:
            return []
        messages: list[Message] = [{"type": "progress", "to": annotator, **self._desk.progress(annotator)}]
        messages.append({"type": "finished", "to": annotator} if opened is None else self._shown(annotator))
        owners = [name for name, person in self._desk.people.items() if person.owner and person.tabs]
        if owners and self._agreement.stale(self._desk.judgements()):
            agreement = self._agreement.message(self._desk.judgements())
            messages += [{**agreement, "to": owner} for owner in owners]
        return messages

    def _shown(self, annotator: str) -> Message:
        """Return the message with the item that an annotator has open."""
        person = self._desk.person(annotator)
        assert person.open is not None
        item, order = self._items[person.open], self.shown_order(annotator, person.open)
        progress = self._desk.progress(annotator)
        message: Message = {
            "type": "item",
            "to": annotator,
            "item": item.item,
            "prompt": item.prompt,
            "completions": [item.completions[number] for number in order],
            "position": progress["done"] + 1,
            "of": progress["of"],
            "instructions": self._instructions,
            "flags": self._flags,
        }
        draft = None if person.draft is None or person.open != person.draft.item else person.draft.payload
        if draft is not None:
            message["ranks"] = [draft["ranks"][number] for number in order]
            for column, name in (("likert", "likert"), ("flags", "ticked")):
                if draft.get(column) is not None:
                    message[name] = [draft[column][number] for number in order]
        return message

    def _item(self, event: NewEvent) -> Item:
        check_client_event(self.mode, event.kind, event.payload)
        item = self._items.get(str(event.payload["item"]))
        if item is None:
            raise BadEvent(f"This session has no item '{event.payload['item']}'.")
        return item

    def _record(self, event: NewEvent, item: Item) -> dict[str, Any]:
        """Return the canonical record of a ranking, whether it is as a client sent it or as it is stored."""
        payload, size = event.payload, len(item.completions)
        if len(payload["ranks"]) != size:
            ranks = len(payload["ranks"])
            raise BadEvent(f"The item '{item.item}' has {size} responses and the ranking {ranks} ranks.")
        shown = self.shown_order(event.annotator, item.item)
        if payload.get("completions") is not None:
            # Texts say by themselves in which order they stand.
            places = {text: number for number, text in enumerate(item.completions)}
            shown = [places.get(text, -1) for text in payload["completions"]]
            if sorted(shown) != list(range(size)):
                raise BadEvent(
                    f"The responses of the item '{item.item}' are others than those that were ranked."
                )
        record: dict[str, Any] = {
            "prompt": item.prompt,
            "completions": list(item.completions),
            "ranks": canonical_ranks(payload["ranks"], shown),
            "item": item.item,
        }
        for column in ("likert", "flags"):
            # Nothing given: no score, no flags offered. Flags that were offered and not ticked are answers.
            given = [value or None for value in payload.get(column) or ()]
            if any(value is not None for value in given):
                record[column] = unshuffled(given, shown)
        if payload.get("seconds") is not None:
            record["seconds"] = payload["seconds"]
        return record

    @staticmethod
    def _refused(event: Event, why: str) -> Message:
        return {
            "type": "error",
            "to": event.annotator,
            "code": "bad_event",
            "message": why,
            "uuid": event.uuid,
        }
