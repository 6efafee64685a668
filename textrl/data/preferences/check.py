"""What a file of judgements holds, and what is wrong with it, in one pass.

A record is bad where training could not read it. Everything else that a person should know of is a warning
with a count: nothing to compare, people who contradict themselves, preferences that run in a circle, texts
that are empty or stand twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from textrl.data.preferences.convert import NAMED, items_of, opened
from textrl.data.preferences.importers.base import Notes, Options
from textrl.data.preferences.orders import Orders
from textrl.data.preferences.schema import COLUMNS, COMMON, Form, Record
from textrl.errors import UserError

_QUANTILES = (0.0, 0.5, 0.95, 1.0)
#: Stands for the hashes of several completions.
_SEVERAL = -1


@dataclass(frozen=True)
class Remark:
    """Something that can be read and may still be a mistake.

    Attributes:
        name: For programs.
        count: How many.
        text: Of what, in words.
        first: Where the first one stands, where that is known.
    """

    name: str
    count: int
    text: str
    first: str = ""


@dataclass
class FileReport:
    """What `inspect_file` found; lengths are in characters.

    Attributes:
        path: The file.
        format: Its format, guessed from the content unless given.
        records: Read, bad ones included.
        bad: Records that cannot be used.
        bad_examples: What is wrong with the first few.
        forms: Canonical records by form.
        columns: How often each column was there; those without a meaning here are in `strangers`.
        strangers: Columns that textrl passes through and does not read.
        prompts: Distinct prompts.
        annotators: Judgements by annotator.
        users: Distinct writers of prompts.
        splits: Records by `split`.
        sizes: Rankings (pairs are K = 2) by number of completions.
        pairs: Pairs of completions in all rankings.
        tied_pairs: Those ranked equal.
        labels: Labels by value.
        ratings: (smallest, mean, largest) of all ratings.
        lengths: (least, median, 95 %, most) of prompts and of completions.
        left_out: What the format's reader left out, and how often.
        warnings: See `Remark`.
    """

    path: str
    format: str = ""
    records: int = 0
    bad: int = 0
    bad_examples: list[str] = field(default_factory=list)
    forms: Counter[str] = field(default_factory=Counter)
    columns: Counter[str] = field(default_factory=Counter)
    strangers: list[str] = field(default_factory=list)
    prompts: int = 0
    annotators: Counter[str] = field(default_factory=Counter)
    users: int = 0
    splits: Counter[str] = field(default_factory=Counter)
    sizes: Counter[int] = field(default_factory=Counter)
    pairs: int = 0
    tied_pairs: int = 0
    labels: Counter[bool] = field(default_factory=Counter)
    ratings: tuple[float, float, float] | None = None
    lengths: dict[str, tuple[int, ...]] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    warnings: list[Remark] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        found = {item.name: getattr(self, item.name) for item in fields(self)}
        # Not `asdict`: it makes a Counter of pairs out of a Counter.
        found = {name: dict(value) if isinstance(value, Counter) else value for name, value in found.items()}
        return found | {"warnings": [asdict(warning) for warning in self.warnings]}


def inspect_file(
    source: str | Path,
    *,
    origin: str | None = None,
    split: str = "train",
    options: Options | None = None,
    tick: Callable[[int], None] = lambda done: None,
) -> FileReport:
    """Read a file to its end and say what it holds.

    Args:
        source: A file or a dataset; see `textrl.data.preferences.sources`.
        origin: Its format; guessed by default.
        split: Which part of a dataset.
        options: What the file does not say about itself.
        tick: Told how many records have been read.

    Raises:
        UserError: When the file as a whole cannot be read, or no format fits it.
    """
    options = options or Options()
    report = FileReport(str(source))
    notes = Notes()
    observer = _Observer(report)
    made, _, records = opened(source, origin, options, split=split, bad=observer.bad)
    report.format = made.name

    def counted() -> Any:
        for where, record in records:
            report.records += 1
            if report.records % 1000 == 0:
                tick(report.records)
            yield where, record

    for where, form, record in items_of(made, counted(), options, notes, observer.bad_record):
        observer.see(where, form, record)
    report.left_out = notes.counts
    observer.conclude()
    return report


class _Observer:
    """Sees one record after the other and remembers as little of it as its report needs."""

    def __init__(self, report: FileReport) -> None:
        self._report = report
        # Hash of a prompt -> hash of its one rated or labelled completion, 0 without one, or `_SEVERAL`.
        self._prompts: dict[int, int] = {}
        self._users: set[int] = set()
        self._records: set[int] = set()
        self._lengths: dict[str, Counter[int]] = {"prompt": Counter(), "completion": Counter()}
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}
        self._shapes: Counter[tuple[Form, tuple[str, ...]]] = Counter()
        self._rated: list[float] = [0.0, 0, float("inf"), float("-inf")]
        self._orders = Orders()

    def bad(self, error: UserError) -> None:
        """Count a line that is no record, which nobody else counts as read."""
        self._report.records += 1
        self.bad_record(error)

    def bad_record(self, error: UserError) -> None:
        """Count a record that cannot be used."""
        self._report.bad += 1
        if len(self._report.bad_examples) < NAMED:
            self._report.bad_examples.append(str(error))

    def see(self, where: str, form: Form, record: Record) -> None:
        """Take in a record."""
        report = self._report
        report.forms[form] += 1
        self._shapes[form, tuple(record)] += 1
        if "split" in record:
            report.splits[record["split"]] += 1
        if "user_id" in record:
            self._users.add(hash(str(record["user_id"])))
        for name in record.get("annotators") or ((record["annotator"],) if "annotator" in record else ()):
            report.annotators[str(name)] += 1
        self._seen_before(where, record)
        prompt = record.get("prompt")
        if prompt is not None:
            self._text(where, "prompt", prompt)
        self._completions(where, form, record, hash(prompt))

    def _completions(self, where: str, form: Form, record: Record, prompt: int) -> None:
        texts: tuple[str, ...] = ()
        ranks: tuple[float, ...] = ()
        if form == "pair":
            texts = (record["chosen"], record["rejected"])
            ranks = (1, 1) if record.get("tie") else (1, 2)
        elif form == "ranking":
            texts, ranks = tuple(record["completions"]), tuple(record["ranks"])
        elif "completion" in record:
            texts = (record["completion"],)
        for text in texts:
            self._text(where, "completion", text)
        who = record.get("annotator")
        if ranks:
            self._orders.add(where, prompt, who, texts, ranks)
        elif form == "ranking_row":
            fault = self._orders.add_row(where, prompt, record)
            if fault is not None:
                self.bad_record(fault)
        elif form in ("rating", "label"):
            text_key = hash(record["completion"])
            if self._prompts.get(prompt, 0) not in (0, text_key):
                text_key = _SEVERAL
            self._prompts[prompt] = text_key
            self._values(record)

    def _values(self, record: Record) -> None:
        if "label" in record:
            self._report.labels[record["label"]] += 1
        rated = record.get("ratings") or [record[c] for c in ("rating", "likert") if c in record][:1]
        for value in rated:
            self._rated[0] += value
            self._rated[1] += 1
            self._rated[2] = min(self._rated[2], value)
            self._rated[3] = max(self._rated[3], value)

    def _text(self, where: str, column: str, text: str) -> None:
        self._lengths[column][len(text)] += 1
        if not text or text.isspace():
            self._note(f"empty_{column}", where)
        if column == "prompt":
            self._prompts.setdefault(hash(text), 0)

    def _seen_before(self, where: str, record: Record) -> None:
        # Python's own hash is salted anew in each process, and 64 bits of it are enough to count by.
        key = hash(tuple((column, str(value)) for column, value in record.items()))
        if key in self._records:
            self._note("duplicate", where)
        self._records.add(key)

    def _note(self, name: str, where: str) -> None:
        self._counts[name] += 1
        self._first.setdefault(name, where)

    def conclude(self) -> None:
        """Write the report."""
        report = self._report
        known = {column for form in COLUMNS for column in COLUMNS[form]}
        for (form, shape), times in self._shapes.items():
            for column in shape:
                report.columns[column] += times
            # A column of another form says that something else was meant, unlike one nobody knows.
            misplaced = known.intersection(shape).difference(COLUMNS[form])
            for column in misplaced:
                self._counts["misplaced"] += times
                self._first.setdefault("misplaced", f"'{column}' in a {form.replace('_', ' ')}")
        report.strangers = sorted(set(report.columns) - known.union(COMMON))
        report.prompts, report.users = len(self._prompts), len(self._users)
        report.lengths = {c: _quantiles(lengths) for c, lengths in self._lengths.items() if lengths}
        total, count, low, high = self._rated
        report.ratings = (low, total / count, high) if count else None
        for error in self._orders.close():
            self.bad_record(error)
        report.sizes, report.pairs = self._orders.sizes, self._orders.pairs
        report.tied_pairs = self._orders.tied_pairs
        self._warn(self._orders.found())

    def _warn(self, found: Mapping[str, tuple[int, str]]) -> None:
        report = self._report
        counts = dict(self._counts)
        counts["one_completion"] = sum(text not in (0, _SEVERAL) for text in self._prompts.values())
        judged = sum(report.forms[form] for form in ("pair", "ranking", "ranking_row", "label", "rating"))
        if report.annotators and judged:
            counts["no_annotator"] = judged - sum(
                times
                for (_, shape), times in self._shapes.items()
                if {"annotator", "annotators"} & set(shape)
            )
        counts |= {name: times for name, (times, _) in found.items()}
        first = self._first | {name: where for name, (_, where) in found.items()}
        rankings = sum(report.sizes.values())
        if rankings and report.tied_pairs == report.pairs:
            counts["only_ties"] = rankings
        report.warnings += [
            Remark(name, counts[name], words, first.get(name, ""))
            for name, words in WARNINGS.items()
            if counts.get(name)
        ]


#: Name -> what is counted; in the order they are shown.
WARNINGS: Mapping[str, str] = {
    "misplaced": "columns of another form, which are not read (--columns renames what is meant)",
    "all_tied": "rankings that tie throughout and say nothing about an order",
    "only_ties": "rankings, and all of them tie throughout: nothing can be learnt from this file",
    "contradictory": "pairs of completions ranked both ways by one annotator (or by unnamed ones)",
    "undecided": "pairs of completions ranked once and tied once by one annotator (or by unnamed ones)",
    "circular": "prompts for which preferences of one annotator (or of unnamed ones) run in a circle",
    "beaten_by_itself": "rankings of a completion against the same text",
    "repeated_completion": "rankings that hold a text twice, with one rank",
    "duplicate": "records that stand in the file before, word for word",
    "one_completion": "prompts with one rated or labelled completion and nothing to compare it with",
    "empty_prompt": "empty prompts",
    "empty_completion": "empty completions",
    "no_annotator": "judgements that do not say whose they are, where others do",
}


def _quantiles(lengths: Counter[int]) -> tuple[int, ...]:
    """Return the `_QUANTILES` of a distribution: of n values, the one at position floor(q * (n - 1))."""
    total, seen = sum(lengths.values()), 0
    found: list[int] = []
    wanted = [int(q * (total - 1)) for q in _QUANTILES]
    for length in sorted(lengths):
        seen += lengths[length]
        while len(found) < len(wanted) and wanted[len(found)] < seen:
            found.append(length)
    return tuple(found)
