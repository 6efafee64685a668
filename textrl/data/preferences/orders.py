"""Whether rankings agree with themselves: contradictions, circles, ties and texts that stand twice.

Rankings are kept as hashes (64 bits a text) and looked at together at the end, those of one prompt and one
annotator at a time. Records that do not name an annotator count as one person's.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

from textrl.data.preferences.places import Places
from textrl.errors import UserError

#: Name -> how many, and where the first stands.
Found = Mapping[str, tuple[int, str]]


class Orders:
    """Takes in rankings and says what is odd about them.

    Attributes:
        sizes: Rankings by number of completions.
        pairs: Pairs of completions within rankings.
        tied_pairs: Those ranked equal.
    """

    def __init__(self) -> None:
        self.sizes: Counter[int] = Counter()
        self.pairs = 0
        self.tied_pairs = 0
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}
        # What is found at the end -> the places of the first: two that differ, or one twice.
        self._earliest: dict[str, tuple[int, int]] = {}
        self._places = Places()
        # Of all rankings, one after the other: who judged what prompt, where, and the texts with their ranks.
        self._keys, self._starts, self._at = array("q"), array("q", [0]), array("q")
        self._texts, self._ranks = array("q"), array("d")
        self._rows: dict[tuple[str, str], tuple[str, int, Any, list[int], list[float]]] = {}

    def add(
        self, where: str, prompt: int, who: Any, texts: Sequence[Hashable], ranks: Sequence[float]
    ) -> None:
        """Take in a ranking.

        Args:
            where: Its place.
            prompt: Hash of the prompt.
            who: The annotator, or None.
            texts: K completions, or hashes of them.
            ranks: K numbers; smaller is better.
        """
        k = len(texts)
        self.sizes[k] += 1
        pairs = k * (k - 1) // 2
        tied = pairs if len(set(ranks)) == 1 else sum(n * (n - 1) // 2 for n in Counter(ranks).values())
        self.pairs += pairs
        self.tied_pairs += tied
        if tied == pairs:
            self._note("all_tied", where)
        if len(set(texts)) < k:
            kept = dict(zip(texts, ranks, strict=True))
            other = any(kept[text] != rank for text, rank in zip(texts, ranks, strict=True))
            self._note("beaten_by_itself" if other else "repeated_completion", where)
        self._keys.append(hash((prompt, None if who is None else str(who))))
        self._at.append(self._places.code(where))
        self._texts.extend(map(hash, texts))
        self._ranks.extend(ranks)
        self._starts.append(len(self._texts))

    def add_row(self, where: str, prompt: int, record: Mapping[str, Any]) -> UserError | None:
        """Take in one completion of a ranking; return what is wrong with it, if anything is."""
        key = (str(record["group"]), str(record.get("annotator")))
        who = record.get("annotator")
        start, known, _, texts, ranks = self._rows.setdefault(key, (where, prompt, who, [], []))
        if known != prompt:
            return UserError(
                f"{where}: the group '{record['group']}' has another prompt here than at {start}; give each "
                "prompt a group of its own."
            )
        texts.append(hash(record["completion"]))
        ranks.append(record["rank"])
        return None

    def close(self) -> Iterator[UserError]:
        """Put the rows together; yield what is wrong with a group."""
        for (group, _), (where, prompt, who, texts, ranks) in self._rows.items():
            if len(texts) < 2:
                yield UserError(f"{where}: the group '{group}' has only one completion; a ranking needs two.")
            else:
                self.add(where, prompt, who, texts, ranks)
        self._rows.clear()

    def found(self) -> Found:
        """Return how many there are of each oddity, and where the first stands.

        Where one ranking speaks against another, that is the place of the later one and then the earlier.
        """
        import numpy as np  # here: a tenth of a second that listing the commands need not pay

        keys = np.frombuffer(self._keys, dtype=np.int64) if self._keys else np.zeros(0, np.int64)
        order = np.argsort(keys, kind="stable")
        borders = np.flatnonzero(np.diff(keys[order])) + 1
        for together in np.split(order, borders):
            # One ranking cannot contradict itself: its ranks are numbers.
            if len(together) > 1:
                self._compare([int(index) for index in together])
        first = dict(self._first)
        for name, (later, earlier) in self._earliest.items():
            place = self._places
            first[name] = place.place(later) if later == earlier else place.both(later, earlier)
        return {name: (times, first.get(name, "")) for name, times in self._counts.items()}

    def _compare(self, rankings: Sequence[int]) -> None:
        """Hold the rankings of one prompt by one person against each other."""
        better: dict[int, list[int]] = {}
        at: dict[tuple[int, int], int] = {}
        for (a, b), said in self._verdicts(rankings).items():
            if len(said) > 1:
                both_ways = {1, -1} <= said.keys()
                earlier, later = sorted((said[1], said[-1]) if both_ways else said.values())
                self._late("contradictory" if both_ways else "undecided", later, earlier)
            # A pair ranked both ways is a circle of two, counted already; a longer one must do without it.
            elif 0 not in said:
                first, second = (a, b) if -1 in said else (b, a)
                better.setdefault(first, []).append(second)
                at[first, second] = next(iter(said.values()))
        if runs_in_a_circle(better):
            texts = _in_circles(better)
            place = min(place for (a, b), place in at.items() if a in texts and b in texts)
            self._late("circular", place, place)

    def _verdicts(self, rankings: Sequence[int]) -> dict[tuple[int, int], dict[int, int]]:
        """Return, for each two texts, what was said of them and the place where it was said first."""
        verdicts: dict[tuple[int, int], dict[int, int]] = {}
        for index in rankings:
            start, end = self._starts[index], self._starts[index + 1]
            for i in range(start, end):
                for j in range(i + 1, end):
                    a, b = self._texts[i], self._texts[j]
                    if a == b:
                        continue
                    sign = (self._ranks[i] > self._ranks[j]) - (self._ranks[i] < self._ranks[j])
                    pair, said = ((a, b), sign) if a < b else ((b, a), -sign)
                    verdicts.setdefault(pair, {}).setdefault(said, self._at[index])
        return verdicts

    def _late(self, name: str, later: int, earlier: int) -> None:
        """Count what is found at the end, where rankings come by prompt and not in the order of the file."""
        self._counts[name] += 1
        self._earliest[name] = min(self._earliest.get(name, (later, earlier)), (later, earlier))

    def _note(self, name: str, where: str) -> None:
        self._counts[name] += 1
        self._first.setdefault(name, where)


def runs_in_a_circle(better: Mapping[int, Sequence[int]]) -> bool:
    """Tell whether a graph of "better than" has a cycle.

    Completions nothing is better than are taken away until none is left (Kahn 1962); what cannot be taken
    away is on a cycle or behind one.
    """
    return bool(_peeled(better))


def _in_circles(better: Mapping[int, Sequence[int]]) -> set[int]:
    """Return the texts that are on a circle, or between two of them."""
    left = _peeled(better)
    worse: dict[int, list[int]] = {}
    for text in left:
        for other in better.get(text, ()):
            worse.setdefault(other, []).append(text)
    return _peeled(worse)


def _peeled(better: Mapping[int, Sequence[int]]) -> set[int]:
    """Take away what nothing is better than, again and again, and return the rest."""
    above: Counter[int] = Counter(text for worse in better.values() for text in worse)
    free = [text for text in better if not above[text]]
    left = better.keys() | above.keys()
    while free:
        text = free.pop()
        left.discard(text)
        for worse in better.get(text, ()):
            above[worse] -= 1
            if not above[worse]:
                free.append(worse)
    return left
