"""Texts with reference summaries, in TRL's columns: {"prompt": "... TL;DR:", "completion": " a summary"}.

A set comes from a JSONL or parquet file or a `datasets` id, from a small grammar, or from the Python
installation: the documentation strings of the standard library, whose first line is by convention (PEP 257) a
summary of the rest. Nothing of the library is imported, and nothing is downloaded.
"""

from __future__ import annotations

import ast
import functools
import os
import random
import re
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textrl.data.prompts import check_text
from textrl.data.records import read_records
from textrl.errors import UserError

#: Ends a prompt, as in the TL;DR set.
TRAILER = "\n\nTL;DR:"
#: Where the text begins in a prompt that has fields before it, as the TL;DR set does.
_BODY = re.compile(r"(?:^|\n)\s*(?:POST|TEXT|ARTICLE|DOCUMENT):\s*")
_WORD_RANGE, _SUMMARY_RANGE = (12, 28), (4, 16)
#: What begins the second clause of a sentence of the small grammar.
_CLAUSE = re.compile(r" (?:and|but|yet also)\b")
_LIBRARY, _MADE = "stdlib", "made"
#: Folders of the library with tests, tables, or what is installed by others.
_NOT_READ = {"test", "tests", "site-packages", "idlelib", "lib2to3", "distutils", "encodings", "pydoc_data"}


@dataclass(frozen=True)
class Summary:
    """A text and its reference summary.

    Attributes:
        prompt: What a policy is given, up to and with its last "TL;DR:".
        completion: The reference summary, beginning with a space.
    """

    prompt: str
    completion: str

    @property
    def text(self) -> str:
        """The text alone, without the prompt's fields and trailer."""
        body = self.prompt.removesuffix(TRAILER.strip()).rstrip()
        found = _BODY.search(body)
        return (body[found.end() :] if found else body).strip()


@dataclass(frozen=True)
class SummarySizes:
    """Texts of each part; no text is in two of them.

    Attributes:
        sft: Texts whose summaries the policy learns from.
        rm: Texts whose candidates are ranked.
        rm_test: The same, held out.
        test: Texts for the evaluation.
    """

    sft: int = 1000
    rm: int = 300
    rm_test: int = 60
    test: int = 128

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 2:
                raise ValueError(f"{name} is {value}; every part needs at least 2 texts")


def read_summaries(source: str, *, split: str = "train", count: int = 1000, seed: int = 0) -> list[Summary]:
    """Read a set of texts and summaries.

    Args:
        source: ``made``, ``stdlib``, a ``.jsonl(.gz)`` or ``.parquet`` file, or what `datasets` loads.
        split: Which part of a dataset.
        count: How many are made where the source is ``made``.
        seed: Of what is made.

    Raises:
        UserError: On a file or a record that cannot be used; names the file and the line.
    """
    if source == _LIBRARY:
        return library_summaries()
    if source == _MADE:
        return made_summaries(count, seed)
    found = []
    for where, record in read_records(source, split=split):
        prompt, completion = (_column(record, name, where) for name in ("prompt", "completion"))
        found.append(Summary(prompt, " " + completion.strip()))
    return found


def deal(summaries: Sequence[Summary], sizes: SummarySizes, seed: int) -> dict[str, list[Summary]]:
    """Deal texts into parts, in a shuffled order; a text that stands twice goes to one part only.

    Args:
        summaries: The set.
        sizes: Texts of each part.
        seed: Of the shuffle.

    Raises:
        UserError: When there are not enough different texts.
    """
    different = list({" ".join(one.text.split()).lower(): one for one in summaries}.values())
    wanted = sum(vars(sizes).values())
    if len(different) < wanted:
        raise UserError(
            f"The set has {len(different)} different texts, and the parts need {wanted}; lower data.sizes."
        )
    random.Random(seed).shuffle(different)
    parts, start = {}, 0
    for name, size in vars(sizes).items():
        parts[name] = different[start : start + size]
        start += size
    return parts


def lead(text: str, words: int) -> str:
    """Return the first words of a text: the baseline that is hard to beat on news and easy elsewhere."""
    return " ".join(text.split()[:words])


def made_summaries(count: int, seed: int) -> list[Summary]:
    """Return pairs of sentences from a small grammar; the summary is the clause with the stronger feeling.

    VADER's rules say which sentence that is (see `textrl.data.made`). A model made on the spot learns to
    write such summaries in a minute, which it does not with real prose.

    Args:
        count: How many, all different.
        seed: Of the grammar's choices.
    """
    from textrl.data.made import made_reviews

    rated = made_reviews(2 * count, seed)
    found = []
    for first, second in zip(rated[::2], rated[1::2], strict=True):
        stronger = first if abs(first.mean) >= abs(second.mean) else second
        clause = _CLAUSE.split(stronger.text, maxsplit=1)[0]
        found.append(Summary(f"{first.text} {second.text}{TRAILER}", f" {clause}."))
    return found


def library_summaries(folder: Path | None = None) -> list[Summary]:
    """Return the standard library's documentation strings, first sentence and rest, in alphabetical order.

    Args:
        folder: Python source files; None takes this installation's standard library, without its tests.

    Returns:
        Those with a summary of 4 to 16 words and 12 words of prose or more after it, of which 28 are kept.
    """
    return list(_of_folder(Path(sysconfig.get_paths()["stdlib"]) if folder is None else folder))


@functools.cache
def _of_folder(root: Path) -> tuple[Summary, ...]:
    """Read each folder once in a process: parsing the whole library takes some five seconds."""
    found: dict[Summary, None] = {}
    for here, folders, files in os.walk(root):
        folders[:] = sorted(set(folders) - _NOT_READ)
        for name in sorted(files):
            if name.endswith(".py"):
                split = map(_split_docstring, _docstrings(Path(here) / name))
                found |= {one: None for one in split if one is not None}
    return tuple(found)


def _docstrings(path: Path) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError):  # a few files of the library are broken on purpose
        return
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, kinds):
            found = ast.get_docstring(node)
            if found:
                yield found


def _split_docstring(docstring: str) -> Summary | None:
    """Cut a documentation string into its first line and the prose below; None where it has none."""
    first, _, rest = docstring.partition("\n\n")
    first = " ".join(first.split())
    paragraphs = [
        " ".join(paragraph.split())
        for paragraph in rest.split("\n\n")
        # Indented lines, lists, doctests and headings are no prose.
        if not re.match(r"\s|[*+|\[\d:@-]|>>>|\.\. ", paragraph) and paragraph.rstrip().endswith(".")
    ]
    words = " ".join(paragraphs).split()[: _WORD_RANGE[1]]
    if not (_SUMMARY_RANGE[0] <= len(first.split()) <= _SUMMARY_RANGE[1] and len(words) >= _WORD_RANGE[0]):
        return None
    if not first.endswith(".") or re.search(r"[^\x20-\x7e]", first + " ".join(words)):
        return None
    return Summary(" ".join(words) + TRAILER, " " + first)


def _column(record: Any, name: str, where: str) -> str:
    value = record.get(name)
    if not isinstance(value, str) or not value.strip():
        raise UserError(
            f"{where}: '{name}' is {value!r:.60}; a summary's record has text in 'prompt' and 'completion'."
        )
    check_text(where, value)
    return value
