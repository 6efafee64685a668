"""What a file of judgements holds, and what is wrong with it, in one pass.

A record is bad where training could not read it. Everything else that a person should know of is a warning
with a count: nothing to compare, people who contradict themselves, preferences that run in a circle, texts
that are empty or stand twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from textrl.data.preferences.convert import NAMED, items_of, opened
from textrl.data.preferences.importers.base import Notes, Options
from textrl.data.preferences.leaks import Leaks
from textrl.data.preferences.orders import Orders
from textrl.data.preferences.places import Places
from textrl.data.preferences.remarks import WARNINGS, Remark, Shapes
from textrl.data.preferences.schema import KNOWN, Form, Record
from textrl.errors import UserError

_QUANTILES = (0.0, 0.5, 0.95, 1.0)
#: Stands for the hashes of several completions.
_SEVERAL = -1
_JUDGED = ("pair", "ranking", "ranking_row", "label", "rating")


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
        # Hash of a prompt with one such completion -> where that was rated first.
        self._alone: dict[int, int] = {}
        self._places = Places()
        self._users: set[int] = set()
        self._records: set[int] = set()
        self._lengths: dict[str, Counter[int]] = {"prompt": Counter(), "completion": Counter()}
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}
        self._shapes = Shapes()
        self._rated: list[float] = [0.0, 0, float("inf"), float("-inf")]
        self._orders, self._leaks = Orders(), Leaks()

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
        self._shapes.see(where, form, tuple(record))
        self._leaks.see(where, record)
        if form in _JUDGED and not ("annotator" in record or "annotators" in record):
            self._note("no_annotator", where)
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
        if ranks:
            self._compared(prompt)
            self._orders.add(where, prompt, record.get("annotator"), texts, ranks)
        elif form == "ranking_row":
            self._compared(prompt)
            fault = self._orders.add_row(where, prompt, record)
            if fault is not None:
                self.bad_record(fault)
        elif form in ("rating", "label"):
            before, text_key = self._prompts.get(prompt, 0), hash(record["completion"])
            if before == 0:
                self._prompts[prompt], self._alone[prompt] = text_key, self._places.code(where)
            elif before != text_key:
                self._compared(prompt)
            self._values(record)

    def _compared(self, prompt: int) -> None:
        """Remember that a prompt has several completions to compare; a ranked one has them at once."""
        self._prompts[prompt] = _SEVERAL
        self._alone.pop(prompt, None)

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
        for (_, shape), times in self._shapes.times.items():
            for column in shape:
                report.columns[column] += times
        report.strangers = sorted(set(report.columns) - KNOWN)
        report.prompts, report.users = len(self._prompts), len(self._users)
        report.lengths = {c: _quantiles(lengths) for c, lengths in self._lengths.items() if lengths}
        total, count, low, high = self._rated
        report.ratings = (low, total / count, high) if count else None
        for error in self._orders.close():
            self.bad_record(error)
        report.sizes, report.pairs = self._orders.sizes, self._orders.pairs
        report.tied_pairs = self._orders.tied_pairs
        self._warn()

    def _warn(self) -> None:
        report = self._report
        found: dict[str, tuple[int, str]] = {
            **{name: (count, self._first[name]) for name, count in self._counts.items()},
            **self._orders.found(),
            **self._leaks.found(),
            "misplaced": self._shapes.misplaced(),
        }
        if self._alone:
            # Places are in the order of the file, and so is what was put into the dict.
            found["one_completion"] = (len(self._alone), self._places.place(next(iter(self._alone.values()))))
        if not report.annotators:
            found.pop("no_annotator", None)
        rankings = sum(report.sizes.values())
        if rankings and report.tied_pairs == report.pairs:
            found["only_ties"] = (rankings, "")
        report.warnings += self._shapes.mistyped()
        report.warnings += [
            Remark(name, found[name][0], words, found[name][1])
            for name, words in WARNINGS.items()
            if found.get(name, (0, ""))[0]
        ]


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
