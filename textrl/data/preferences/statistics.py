"""`textrl data stats`: kinds of prompts, lengths of texts, and who wrote and judged them.

Kinds follow InstructGPT's three, with two more that its data did not have. The first rule that fits decides:

    given       the record has a ``prompt_kind``: that
    empty       no prompt
    few-shot    two finished examples or more of one form: see `few_shot`
    dialogue    messages, or text with speakers' marks, with an answer of the assistant before the last turn
    user-based  the record has a ``user_id``: somebody's own use of the model
    plain       everything else
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from textrl.data.preferences.dialogue import is_messages
from textrl.data.preferences.schema import kind_of
from textrl.data.preferences.sources import open_source, records_expected
from textrl.data.preferences.texts import completions_of, normalise, prompt_of
from textrl.errors import UserError

#: A label that begins a line: "Q:", "Input 3:", "Label -".
_LABEL = re.compile(r"^[ \t]*([A-Za-z][A-Za-z ]{0,24}?)[ \t]*\d{0,3}[ \t]*[:\-][ \t]*(\S?)", re.M)
#: A line that shows an answer behind an arrow.
_ARROW = re.compile(r"^.*\S[ \t]*(?:->|=>|-->|\u2192)[ \t]*\S.*$", re.M)
_TURN = re.compile(r"(?:^|\n)\s*(?:Assistant|AI|Bot)\s*:\s*\S")
_ASKED = re.compile(r"(?:^|\n)\s*(?:Human|User)\s*:\s*\S")
_EXAMPLES = 2
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


@dataclass(frozen=True)
class Lengths:
    """Lengths of texts, in words (runs of what is not white space) and characters.

    Attributes:
        texts: How many.
        empty: How many have no word.
        words: mean, p05, p25, p50, p75, p95, p99 and max.
        characters: The same.
    """

    texts: int
    empty: int
    words: dict[str, float]
    characters: dict[str, float]


@dataclass(frozen=True)
class StatisticsReport:
    """What a file holds.

    Attributes:
        records: In the file.
        forms: Form of record -> how many; ``none`` is no known form.
        prompts: Different normalised ones.
        kinds: Kind of prompt -> different prompts of the kind, with how many records and the lengths.
        completions: Column -> lengths of what answers the prompt.
        longer_chosen: Of the pairs that are no tie and differ in length: share in which the chosen one is
            longer in words. Far from a half, length alone is a good guess, and a model may learn it.
        pairs_compared: How many such pairs there are.
        people: ``user_id`` and ``annotator``: how many there are, records of the busiest and share of it.
        splits: Records by their column ``split``.
    """

    records: int
    forms: dict[str, int]
    prompts: int
    kinds: dict[str, dict[str, Any]]
    completions: dict[str, Lengths]
    longer_chosen: float | None
    pairs_compared: int
    people: dict[str, dict[str, Any]]
    splits: dict[str, int]

    def plain(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return asdict(self)


@dataclass
class _Counts:
    words: array[int] = field(default_factory=lambda: array("I"))
    characters: array[int] = field(default_factory=lambda: array("I"))

    def add(self, text: str) -> int:
        count = len(text.split())
        self.words.append(count)
        self.characters.append(len(text))
        return count

    def lengths(self) -> Lengths:
        words = np.asarray(self.words)
        return Lengths(
            len(words), int((words == 0).sum()), _spread(words), _spread(np.asarray(self.characters))
        )


@dataclass
class _Tally:
    """Everything that is counted while the records pass."""

    records: int = 0
    forms: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    people: dict[str, Counter[str]] = field(
        default_factory=lambda: {"user_id": Counter(), "annotator": Counter()}
    )
    seen: set[int] = field(default_factory=set)
    kind_prompts: dict[str, _Counts] = field(default_factory=dict)
    kind_records: Counter[str] = field(default_factory=Counter)
    completions: dict[str, _Counts] = field(default_factory=dict)
    longer: int = 0
    compared: int = 0

    def add(self, record: Mapping[str, Any]) -> None:
        self.records += 1
        self.forms[kind_of(record) or "none"] += 1
        if record.get("split") is not None:
            self.splits[str(record["split"])] += 1
        for column, names in self.people.items():
            if record.get(column) is not None:
                names[str(record[column])] += 1
        prompt = prompt_of(record)
        kind = prompt_kind(record, prompt)
        self.kind_records[kind] += 1
        key = hash(normalise(prompt))
        if key not in self.seen:
            self.seen.add(key)
            self.kind_prompts.setdefault(kind, _Counts()).add(prompt)
        words: dict[str, int] = {}
        for column, text in completions_of(record):
            words[column] = self.completions.setdefault(column, _Counts()).add(text)
        if not record.get("tie") and words.get("chosen") != words.get("rejected"):
            self.compared += 1
            self.longer += words.get("chosen", 0) > words.get("rejected", 0)


def statistics_of(source: str | Path, *, split: str = "train") -> StatisticsReport:
    """Count what a file or a dataset holds.

    Args:
        source: What `textrl.data.preferences.sources` reads.
        split: Which part of a dataset.

    Raises:
        UserError: When it cannot be read; names the place.
    """
    from textrl.data.preferences.results import bar

    tally = _Tally()
    with bar("Counting", records_expected(source) or 0) as tick:
        for _, record in open_source(source, split=split):
            tally.add(record)
            if tally.records % 4096 == 0:
                tick(tally.records)
    if tally.records == 0:
        raise UserError(f"{source}: there are no records to count.")
    kinds = {
        kind: {
            "prompts": len(tally.kind_prompts[kind].words) if kind in tally.kind_prompts else 0,
            "records": count,
            "lengths": asdict(tally.kind_prompts[kind].lengths()) if kind in tally.kind_prompts else None,
        }
        for kind, count in tally.kind_records.most_common()
    }
    return StatisticsReport(
        records=tally.records,
        forms=dict(tally.forms.most_common()),
        prompts=len(tally.seen),
        kinds=kinds,
        completions={column: counts.lengths() for column, counts in tally.completions.items()},
        longer_chosen=tally.longer / tally.compared if tally.compared else None,
        pairs_compared=tally.compared,
        people={column: _people(names) for column, names in tally.people.items() if names},
        splits=dict(tally.splits.most_common()),
    )


def prompt_kind(record: Mapping[str, Any], prompt: str) -> str:
    """Return the kind of a record's prompt; the rules stand at the head of this module.

    Args:
        record: For its columns.
        prompt: Its prompt as text.
    """
    given = record.get("prompt_kind")
    if isinstance(given, str) and given:
        return given
    if not prompt.strip():
        return "empty"
    if few_shot(prompt):
        return "few-shot"
    if _talked(record, prompt):
        return "dialogue"
    return "user-based" if record.get("user_id") is not None else "plain"


def few_shot(prompt: str) -> bool:
    """Tell whether a prompt shows finished examples before it asks.

    Either two lines or more show an answer behind an arrow, or two different labels that begin a line
    (``Q:`` and ``A:``) occur both twice or more with something behind them. Speakers' names are no such
    labels: a dialogue is no list of examples.
    """
    if len(_ARROW.findall(prompt)) >= _EXAMPLES:
        return True
    finished = Counter(label.lower() for label, behind in _LABEL.findall(prompt) if behind)
    often = [label for label, count in finished.items() if count >= _EXAMPLES and label not in _SPEAKERS]
    return len(often) >= 2


_SPEAKERS = frozenset({"human", "user", "assistant", "system", "ai", "bot"})


def _talked(record: Mapping[str, Any], prompt: str) -> bool:
    """Tell whether the assistant has answered within the prompt."""
    for column in ("prompt", "messages"):
        messages: Any = record.get(column)
        if is_messages(messages):
            before = messages[:-1]
            return any(isinstance(item, Mapping) and item.get("role") == "assistant" for item in before)
    return bool(_TURN.search(prompt) and _ASKED.search(prompt))


def _people(names: Counter[str]) -> dict[str, Any]:
    count, total = max(names.values()), names.total()
    return {"people": len(names), "records": total, "busiest": count, "busiest_share": count / total}


def _spread(values: Any) -> dict[str, float]:
    if not len(values):
        return {}
    found = dict(
        zip((f"p{round(100 * q):02d}" for q in QUANTILES), np.quantile(values, QUANTILES), strict=True)
    )
    return {
        "mean": float(values.mean()),
        **{name: float(v) for name, v in found.items()},
        "max": float(values.max()),
    }
