"""Several people's judgements of the same thing, collected from records of any form.

    comparison   a pair, or two completions of a ranking: first better (1), tie (0), second better (-1)
    rating       a number for a completion; Likert scores apart, as ``likert``
    label        true or false; each flag apart, as ``flag NAME``

An item is a prompt with its completion, or with its two. A judgement of an item by a person who judged it
before is counted and left out, for two opinions of one person say nothing about two people. Records that name
nobody are taken for different people's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from textrl.data.preferences.rated import rated
from textrl.data.preferences.reliability import Judgements
from textrl.data.preferences.schema import Form

COMPARISON = "comparison"
#: Stands for a person nobody knows.
UNKNOWN = -1


@dataclass
class Collected:
    """Judgements of one kind.

    Attributes:
        items: (prompt, completion, ...) -> the item's number.
        clusters: For each item the number of its prompt, or of the item itself where the prompt is empty.
        item: For each judgement its item,
        value: what was said,
        rater: and by whom; `UNKNOWN` where the record does not say.
        repeated: Judgements left out because the same person had judged the item.
        contradicted: Those of them that say something else than the first.
    """

    items: dict[tuple[str, ...], int] = field(default_factory=dict)
    clusters: list[int] = field(default_factory=list)
    item: list[int] = field(default_factory=list)
    value: list[float] = field(default_factory=list)
    rater: list[int] = field(default_factory=list)
    repeated: int = 0
    contradicted: int = 0
    _prompts: dict[str, int] = field(default_factory=dict)
    _said: dict[tuple[int, int], float] = field(default_factory=dict)

    def add(self, what: tuple[str, ...], value: float, rater: int) -> None:
        """Add what a person said of an item."""
        if what not in self.items:
            # Without a prompt nothing but the item itself says what belongs together.
            name = f"prompt {what[0]}" if what[0] else f"item {len(self.items)}"
            self.clusters.append(self._prompts.setdefault(name, len(self._prompts)))
            self.items[what] = len(self.items)
        item = self.items[what]
        if rater != UNKNOWN:
            before = self._said.get((item, rater))
            if before is not None:
                self.repeated += 1
                self.contradicted += before != value
                return
            self._said[item, rater] = value
        self.item.append(item)
        self.value.append(value)
        self.rater.append(rater)

    def judgements(self, both_ways: bool = False) -> Judgements:
        """Return the judgements as arrays.

        Args:
            both_ways: Add every item once more with all values negated. Which of two completions is
                called the first is arbitrary; so neither alpha nor kappa depends on it.
        """
        item, value = np.asarray(self.item, np.int64), np.asarray(self.value, np.float64)
        rater, cluster = np.asarray(self.rater, np.int64), np.asarray(self.clusters, np.int64)
        if both_ways:
            item, value = np.concatenate([item, item + len(cluster)]), np.concatenate([value, 0.0 - value])
            rater, cluster = np.tile(rater, 2), np.tile(cluster, 2)
        return Judgements(item, value, rater, cluster)


class Collector:
    """Takes records in their canonical form and gives judgements by kind.

    Attributes:
        kinds: Kind -> judgements.
        raters: Name -> number.
        anonymous: Judgements by nobody known.
        others: Records that judge nothing.
    """

    def __init__(self) -> None:
        self.kinds: dict[str, Collected] = {}
        self.raters: dict[str, int] = {}
        self.anonymous = 0
        self.others = 0
        self._rows: dict[tuple[str, str, str | None], list[tuple[str, float]]] = {}

    def take(self, form: Form, given: Mapping[str, Any], where: str) -> None:
        """Take a record that `textrl.data.preferences.schema.canonical` returned."""
        prompt = given.get("prompt", "")
        name = None if given.get("annotator") is None else str(given["annotator"])
        if form == "pair":
            ranks = (0.0, 0.0) if given.get("tie") else (0.0, 1.0)
            self._compare(prompt, [(given["chosen"], ranks[0]), (given["rejected"], ranks[1])], name)
        elif form == "ranking":
            self._compare(prompt, list(zip(given["completions"], given["ranks"], strict=True)), name)
        elif form == "ranking_row":
            key = (str(given["group"]), prompt, name)
            self._rows.setdefault(key, []).append((given["completion"], float(given["rank"])))
        elif form == "label":
            self._add("label", (prompt, given["completion"]), float(given["label"]), name)
        elif form == "rating":
            self._rating(given, where, name)
        else:
            self.others += 1

    def finish(self) -> dict[str, Collected]:
        """Join the lines of rankings, which may stand anywhere in a file, and return all judgements."""
        for (_, prompt, name), ranked in self._rows.items():
            self._compare(prompt, ranked, name)
        self._rows.clear()
        return self.kinds

    def _rating(self, given: Mapping[str, Any], where: str, name: str | None) -> None:
        what = (given["prompt"], given["completion"])
        if "rating" in given or "ratings" in given:
            several = rated({key: value for key, value in given.items() if key != "likert"}, where)
            names: Sequence[str | None] = several.annotators or [name] * len(several.ratings)
            if len(several.ratings) > 1 and not several.annotators:
                names = [None] * len(several.ratings)  # one annotator column cannot name several people
            for value, who in zip(several.ratings, names, strict=True):
                self._add("rating", what, value, who)
        if "likert" in given:
            self._add("likert", what, float(given["likert"]), name)
        for flag, ticked in given.get("flags", {}).items():
            self._add(f"flag {flag}", what, float(ticked), name)

    def _compare(self, prompt: str, ranked: Sequence[tuple[str, float]], name: str | None) -> None:
        for (one, rank), (two, other) in combinations(ranked, 2):
            if one == two:
                continue
            value = float(other > rank) - float(other < rank)
            if one < two:
                self._add(COMPARISON, (prompt, one, two), value, name)
            else:  # 0 - value, as -0.0 would be a value of its own in a table
                self._add(COMPARISON, (prompt, two, one), 0.0 - value, name)

    def _add(self, kind: str, what: tuple[str, ...], value: float, name: str | None) -> None:
        self.anonymous += name is None
        rater = UNKNOWN if name is None else self.raters.setdefault(name, len(self.raters))
        self.kinds.setdefault(kind, Collected()).add(what, value, rater)
