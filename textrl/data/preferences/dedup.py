"""`textrl data dedup`: which records repeat others, and a file without them.

*Identical records* go first: same prompt, same texts, same verdict, same annotator (two people with one
opinion are two records; two users with one prompt are one prompt). Then, among the prompts that are
different, those that share a long prefix with an earlier one (InstructGPT's rule, by sorted neighbours),
and those that resemble an earlier one (MinHash). A record stays if its prompt stays: several completions or
rankings of one prompt are data, not duplicates.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textrl.data.preferences.lines import RecordFile
from textrl.data.preferences.near import Similar, by_minhash, by_prefix
from textrl.data.preferences.results import bar, new_file
from textrl.data.preferences.texts import completions_of, normalise, prompt_of
from textrl.errors import UserError, did_you_mean

METHODS = ("prefix", "minhash")
#: What a record says about its texts; with them it makes records identical or not.
_VERDICTS = (
    "rank",
    "ranks",
    "rating",
    "ratings",
    "label",
    "likert",
    "flags",
    "tie",
    "margin",
    "annotator",
    "annotators",
)
#: Pairs shown for judging by eye.
EXAMPLES = 5


@dataclass(frozen=True)
class DedupSettings:
    """How to deduplicate.

    Attributes:
        methods: ``prefix``, ``minhash`` or both.
        on: ``prompt``, or ``text`` for prompt and completions as one text.
        prefix: Characters in common at the beginning that make two prompts duplicates.
        threshold: Jaccard similarity of shingles that makes two prompts duplicates.
    """

    methods: tuple[str, ...] = ("prefix",)
    on: str = "prompt"
    prefix: int = 200
    threshold: float = 0.8

    def __post_init__(self) -> None:
        """Refuse what cannot work.

        Raises:
            UserError: Names the option.
        """
        for method in self.methods:
            if method not in METHODS:
                raise UserError(f"--method {method}: there is no such method.{did_you_mean(method, METHODS)}")
        if self.on not in ("prompt", "text"):
            raise UserError(f"--on is {self.on}; write prompt or text.")
        if self.prefix < 1:
            raise UserError(f"--prefix is {self.prefix}; it must be at least one character.")
        if not 0 < self.threshold <= 1:
            raise UserError(f"--threshold is {self.threshold}; give a similarity above 0 and at most 1.")


@dataclass
class Contents:
    """What is compared of every record: N records, M different texts.

    Attributes:
        text: (N,) number of the record's text.
        identity: (N,) hash of what makes a record identical to another; 0 where it never is.
        texts: (M,) different normalised texts.
        first: (M,) the first record with that text.
    """

    text: list[int] = field(default_factory=list)
    identity: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    first: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Removed:
    """A record that repeats another.

    Attributes:
        row: The record, from 0.
        kept: The record that stays.
        by: ``identical``, ``prefix`` or ``minhash``.
        similarity: Characters in common, or the Jaccard similarity; 1 for identical ones.
    """

    row: int
    kept: int
    by: str
    similarity: float


@dataclass(frozen=True)
class DedupReport:
    """What deduplication found.

    Attributes:
        settings: As given.
        records: In the file.
        kept: That stay.
        removed: Method -> records that go.
        prompts: Different ones before.
        prompts_kept: Different ones after.
        largest: Method -> prompts in the largest class of duplicates.
        examples: Method -> pairs of texts to judge by eye.
        warnings: Sentences.
    """

    settings: dict[str, Any]
    records: int
    kept: int
    removed: dict[str, int]
    prompts: int
    prompts_kept: int
    largest: dict[str, int]
    examples: dict[str, list[dict[str, Any]]]
    warnings: list[str]

    def plain(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return asdict(self)


def dedup_file(
    source: str | Path, settings: DedupSettings, out: Path | None = None, pairs: Path | None = None
) -> DedupReport:
    """Find the duplicates of a file and write it without them.

    Args:
        source: A ``.jsonl(.gz)`` or ``.parquet`` file.
        settings: How.
        out: The file to write, which ends as the source does; None only reports.
        pairs: JSONL to write: for each record that goes, which one stays for it, counted from 1.

    Raises:
        UserError: On a file that cannot be read or written.
    """
    file = RecordFile(source)
    if out is not None and not out.name.lower().endswith(file.suffix):
        raise UserError(
            f"--out {out}: records are copied as they are, so the name must end in {file.suffix}."
        )
    with bar(f"Reading {file.path.name}", file.size) as tick:
        contents = read_contents(file.records(tick), settings.on)
    similar = compare(contents.texts, settings)
    removed = removals(contents, similar)
    report = describe(contents, similar, removed, settings)
    if pairs is not None:
        with new_file(pairs) as temporary:
            rows = (asdict(item) | {"row": item.row + 1, "kept": item.kept + 1} for item in removed)
            temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    if out is not None:
        part = np.zeros(len(contents.text), np.int8)
        part[[item.row for item in removed]] = -1
        with new_file(out) as temporary, bar(f"Writing {out.name}", file.size) as tick:
            file.copy(part.tolist(), [temporary], tick)
    return report


def read_contents(records: Iterable[Mapping[str, Any]], on: str) -> Contents:
    """Collect what is compared.

    Args:
        records: Of a file, in order.
        on: ``prompt`` or ``text``.
    """
    contents = Contents()
    known: dict[bytes, int] = {}
    for row, record in enumerate(records):
        prompt = normalise(prompt_of(record))
        answers = [(column, normalise(text)) for column, text in completions_of(record)]
        text = "\n".join([prompt, *(answer for _, answer in answers)]) if on == "text" else prompt
        key = _digest(text)
        if key not in known:
            known[key] = len(contents.texts)
            contents.texts.append(text)
            contents.first.append(row)
        contents.text.append(known[key])
        contents.identity.append(_identity(record, prompt, answers))
    return contents


def compare(texts: Sequence[str], settings: DedupSettings) -> dict[str, Similar]:
    """Find near-duplicates, each method among the texts that those before it keep."""
    similar = {}
    alive = np.arange(len(texts))
    for method in dict.fromkeys(settings.methods):
        left = [texts[index] for index in alive.tolist()]
        with bar(f"Comparing by {method}", len(left)) as tick:
            found = (
                by_prefix(left, settings.prefix)
                if method == "prefix"
                else by_minhash(left, settings.threshold, tick)
            )
        keeper, similarity = np.arange(len(texts)), np.zeros(len(texts))
        keeper[alive], similarity[alive] = alive[found.keeper], found.similarity
        similar[method] = Similar(keeper, similarity)
        alive = alive[found.keeper == np.arange(len(alive))]
    return similar


def removals(contents: Contents, similar: Mapping[str, Similar]) -> list[Removed]:
    """Return the records that go, each with the one that stays, in the order of the file.

    Where the text that stood for another goes by a later method, the one that stays for both is named.
    """
    verdict: dict[int, tuple[str, float]] = {}
    stands_for = np.arange(len(contents.texts))
    for method, found in similar.items():
        for text in np.flatnonzero(found.keeper != np.arange(len(stands_for))).tolist():
            verdict[text] = (method, float(found.similarity[text]))
            stands_for[text] = found.keeper[text]
    first_of: dict[int, int] = {}
    removed = []
    for row, (text, identity) in enumerate(zip(contents.text, contents.identity, strict=True)):
        if text in verdict:
            kept = _end(stands_for, text)
            removed.append(Removed(row, contents.first[kept], *verdict[text]))
        elif identity and first_of.setdefault(identity, row) != row:
            removed.append(Removed(row, first_of[identity], "identical", 1.0))
    return removed


def describe(
    contents: Contents, similar: Mapping[str, Similar], removed: Sequence[Removed], settings: DedupSettings
) -> DedupReport:
    """Count, and pick pairs to look at."""
    total = len(contents.text)
    counts = dict.fromkeys(("identical", *similar), 0)
    examples: dict[str, list[dict[str, Any]]] = {method: [] for method in similar}
    gone = set()
    for item in removed:
        counts[item.by] += 1
        text = contents.text[item.row]
        if item.by == "identical" or text in gone:
            continue
        gone.add(text)
        if len(examples[item.by]) < EXAMPLES:
            kept = contents.texts[contents.text[item.kept]]
            shown = {"removed": _shown(contents.texts[text]), "kept": _shown(kept)}
            examples[item.by].append({**shown, "similarity": round(item.similarity, 4)})
    largest = {method: found.largest() for method, found in similar.items()}
    warnings = []
    for method, size in largest.items():
        if size > max(10, 0.05 * len(contents.texts)):
            option = "--prefix" if method == "prefix" else "--threshold"
            warnings.append(
                f"{size:,} of {len(contents.texts):,} different prompts count as one by {method}: "
                f"they may share a header or a template; look at the pairs and raise {option} if so."
            )
    return DedupReport(
        settings=asdict(settings),
        records=total,
        kept=total - len(removed),
        removed=counts,
        prompts=len(contents.texts),
        prompts_kept=len(contents.texts) - len(gone),
        largest=largest,
        examples=examples,
        warnings=warnings,
    )


def _identity(record: Mapping[str, Any], prompt: str, answers: Sequence[tuple[str, str]]) -> int:
    """Hash what a record says. Lines of one ranking are never identical: a copy may be one of its K."""
    if record.get("rank") is not None:
        return 0
    verdicts = [(name, record[name]) for name in _VERDICTS if record.get(name) is not None]
    content = json.dumps([prompt, answers, verdicts], sort_keys=True, default=str)
    return int.from_bytes(_digest(content)[:8], "big") or 1


def _digest(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _end(stands_for: NDArray[np.int64], text: int) -> int:
    """Follow who stands for whom to the text that stays."""
    while stands_for[text] != text:
        text = int(stands_for[text])
    return text


def _shown(text: str, limit: int = 160) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."
