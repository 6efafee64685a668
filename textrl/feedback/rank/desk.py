"""Who has which item, who judged what: the bookkeeping of a ranking session, a function of its events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from textrl.feedback.rank.items import Item, keyed


@dataclass(frozen=True)
class Judgement:
    """What one person said of one item.

    Attributes:
        uuid: Of its event, by which it can be taken back.
        annotator: Who.
        item: Of which item.
        payload: A canonical ranking record; None where the person skipped the item.
    """

    uuid: str
    annotator: str
    item: str
    payload: Mapping[str, Any] | None


@dataclass
class Person:
    """One annotator.

    Attributes:
        order: Items in the order of this person's own.
        given: Item -> judgement, in the order in which they were given.
        open: The item on the screen.
        tabs: Pages that are there.
        owner: Whether one of them came with the owner's token.
        draft: A judgement that was taken back and stands on the screen again.
    """

    order: list[str]
    given: dict[str, Judgement] = field(default_factory=dict)
    open: str | None = None
    tabs: set[str] = field(default_factory=set)
    owner: bool = False
    draft: Judgement | None = None


class Desk:
    """Gives items out and takes judgements in.

    An item goes to `overlap` people: to who is free first. An item that is open on somebody's screen counts
    as given while that person is there; when nothing else is left, it goes to a second one, since people
    leave without a word.

    Attributes:
        people: Name -> person.
    """

    def __init__(self, items: Mapping[str, Item], seed: int, overlap: int) -> None:
        """Start with nothing judged.

        Args:
            items: By id.
            seed: Keys everybody's order.
            overlap: How many people rank an item; 0 for everybody.
        """
        self.people: dict[str, Person] = {}
        self._names = list(items)
        self._seed, self._overlap = seed, overlap
        self._ranked = dict.fromkeys(items, 0)
        # Apart from `people`, whose order depends on who was looked at and not on the log alone.
        self._standing: dict[str, Judgement] = {}

    def person(self, name: str) -> Person:
        """Return a person, who may be new."""
        if name not in self.people:
            order = keyed(len(self._names), self._seed, "items", name)
            self.people[name] = Person([self._names[index] for index in order])
        return self.people[name]

    def judgements(self) -> Iterator[Judgement]:
        """Return what stands, in the order in which it was given."""
        return iter(self._standing.values())

    def open(self, name: str) -> str | None:
        """Return the item on a person's screen, after giving one out where there is none."""
        person = self.person(name)
        if person.open is None:
            held = self._held(name)
            # The first of the own order that nobody else has open; else the first.
            free = next((item for item in self._left(name) if self._room(item, held)), None)
            person.open = free or next(self._left(name), None)
        return person.open

    def give(self, judgement: Judgement) -> bool:
        """Take a judgement in; False where this person judged the item before."""
        person = self.person(judgement.annotator)
        if judgement.item in person.given:
            return False
        person.given[judgement.item] = self._standing[judgement.uuid] = judgement
        self._ranked[judgement.item] += judgement.payload is not None
        if person.open == judgement.item:
            person.open = person.draft = None
        return True

    def take_back(self, name: str, uuid: str) -> bool:
        """Take a judgement back and open its item again; False where this person has none of that uuid."""
        person = self.person(name)
        judgement = next((one for one in person.given.values() if one.uuid == uuid), None)
        if judgement is None:
            return False
        del person.given[judgement.item], self._standing[uuid]
        self._ranked[judgement.item] -= judgement.payload is not None
        person.open, person.draft = judgement.item, judgement
        return True

    def progress(self, name: str) -> dict[str, Any]:
        """Return how many items a person did, of how many, and the median seconds."""
        person = self.person(name)
        left = sum(1 for _ in self._left(name))
        if person.open is not None and self._full(person.open):
            left += 1  # somebody else was quicker; what is on the screen may be finished
        seconds = [
            one.payload["seconds"]
            for one in person.given.values()
            if one.payload is not None and one.payload.get("seconds") is not None
        ]
        return {
            "done": len(person.given),
            "of": len(person.given) + left,
            "seconds_median": median(seconds) if seconds else None,
            "skipped": sum(one.payload is None for one in person.given.values()),
        }

    def _left(self, name: str) -> Iterator[str]:
        """Yield the items that a person can still get, in the person's order."""
        person = self.person(name)
        return (item for item in person.order if item not in person.given and not self._full(item))

    def _full(self, item: str) -> bool:
        return bool(self._overlap) and self._ranked[item] >= self._overlap

    def _held(self, name: str) -> dict[str, int]:
        """Return how many others, who are there, have an item on their screen."""
        held: dict[str, int] = {}
        for other, person in self.people.items():
            if other != name and person.tabs and person.open is not None:
                held[person.open] = held.get(person.open, 0) + 1
        return held

    def _room(self, item: str, held: Mapping[str, int]) -> bool:
        return not self._overlap or self._ranked[item] + held.get(item, 0) < self._overlap


def canonical_ranks(ranks: Sequence[float], shown: Sequence[int]) -> list[int]:
    """Return ranks without gaps, 1 for the best, in the canonical order of the responses.

    Args:
        ranks: As given, in the order on the screen; equal ones tie.
        shown: For each place on the screen the response's canonical number.
    """
    levels = sorted(set(ranks))
    return unshuffled([levels.index(rank) + 1 for rank in ranks], shown)


def unshuffled(values: Sequence[Any], shown: Sequence[int]) -> list[Any]:
    """Return values that stand in the order on the screen in the canonical order."""
    canonical: list[Any] = [None] * len(shown)
    for value, number in zip(values, shown, strict=True):
        canonical[number] = value
    return canonical
