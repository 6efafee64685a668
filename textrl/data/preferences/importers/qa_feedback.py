"""QA-Feedback (Wu et al. 2023, arXiv 2306.01693): long answers to a question, judged in pairs.

    {"question": "Why?", "passages": [["Title", "Sentence.", ...], ...], "prediction 1": "So.", ...,
     "prediction 4": "No.", "preference": [1, 0, 2, 1, 1, 2]}

``preference`` goes through the pairs (1, 2), (1, 3), ... (3, 4): 1 where the first is better, 2 where the
second is, 0 where neither. The prompt is the passages, then the question, so that the question stands
next to the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

from textrl.data.preferences.dialogue import cut
from textrl.data.preferences.importers.base import Format, Notes, Options
from textrl.data.preferences.schema import COMMON, Form, Record
from textrl.errors import UserError

_UNREAD = {"gold": "reference answers left out", "feedback": "error spans and corrections left out"}
_FEWEST = 2


def fits(record: Mapping[str, Any]) -> bool:
    """Tell whether a record is a question with answers judged in pairs."""
    return {"question", "prediction 1", "preference"} <= record.keys()


def read(where: str, record: Mapping[str, Any], options: Options, notes: Notes) -> Iterator[Record]:
    """Yield a ranking by how many more comparisons an answer won than it lost.

    Raises:
        UserError: When a text is missing, or there is not one judgement for each pair.
    """
    question = record.get("question")
    if not isinstance(question, str) or not question.strip():
        raise UserError(f"{where}: 'question' is {cut(question)}; it must be a text.")
    texts: list[str] = []
    while f"prediction {len(texts) + 1}" in record:
        column = f"prediction {len(texts) + 1}"
        text = record[column]
        if not isinstance(text, str):
            raise UserError(f"{where}: '{column}' is {cut(text)}; it must be a text.")
        texts.append(text)
    if len(texts) < _FEWEST:
        raise UserError(f"{where}: one answer alone cannot be compared; give 'prediction 2' as well.")
    for column, said in _UNREAD.items():
        notes.count(said, bool(record.get(column)))
    ranks, apart = _ranks(where, record.get("preference"), len(texts))
    notes.count("comparisons changed: with the others of their question they fit no ranking", apart)
    prompt = "\n\n".join([*_passages(where, record.get("passages") or []), question])
    known = {"question", "passages", "preference", *_UNREAD}
    rest = {c: v for c, v in record.items() if c not in known and not c.startswith("prediction ")}
    yield {"prompt": prompt, "completions": texts, "ranks": ranks, **rest}


def _ranks(where: str, said: Any, k: int) -> tuple[list[int], int]:
    """Return the ranks from 1, and how many of the pairs they put otherwise than was said."""
    pairs = list(combinations(range(k), 2))
    sound = isinstance(said, list) and len(said) == len(pairs)
    if not sound or not all(type(one) is int and 0 <= one <= 2 for one in said):
        raise UserError(
            f"{where}: 'preference' is {cut(said)}; {k} answers need {len(pairs)} numbers, 1 where the first "
            "is better, 2 where the second is, 0 where neither."
        )
    won = [0] * k
    for (first, second), one in zip(pairs, said, strict=True):
        won[first] += (one == 1) - (one == 2)
        won[second] -= (one == 1) - (one == 2)
    order = sorted(set(won), reverse=True)
    ranks = [order.index(score) + 1 for score in won]
    return ranks, sum(one != _said(ranks[i], ranks[j]) for (i, j), one in zip(pairs, said, strict=True))


def _said(first: int, second: int) -> int:
    """Return what a pair of ranks is in `preference`."""
    return 0 if first == second else 1 if first < second else 2


def _passages(where: str, passages: Any) -> list[str]:
    """Return each passage's sentences as one text; its title, where the first sentence does not have it."""
    if not isinstance(passages, list | tuple):
        raise UserError(f"{where}: 'passages' is {cut(passages)}; it must be a list of lists of sentences.")
    found = []
    for passage in passages:
        if not isinstance(passage, list | tuple) or not all(isinstance(one, str) for one in passage):
            raise UserError(f"{where}: a passage is {cut(passage)}; it must be a title and its sentences.")
        title, text = passage[0] if passage else "", " ".join(passage[1:])
        found.append(text if text.startswith(title) else f"{title}\n\n{text}")
    return [text for text in found if text.strip()]


def write(form: Form, record: Record, options: Options, notes: Notes) -> Iterator[Record]:
    """Yield the question with its answers, all pairs judged by the ranks."""
    held = ("prompt", "completions", "chosen", "rejected", "ranks", "tie", *COMMON)
    notes.columns(record, held, "qa-feedback")
    if form == "pair":
        texts, ranks = [record["chosen"], record["rejected"]], [1, 1 if record.get("tie") else 2]
    else:
        texts, ranks = record["completions"], record["ranks"]
    yield {
        "question": record["prompt"],
        "passages": [],
        **{f"prediction {number}": text for number, text in enumerate(texts, start=1)},
        "preference": [_said(first, second) for first, second in combinations(ranks, 2)],
        **{column: record[column] for column in COMMON if column in record},
    }


FORMAT = Format(
    name="qa-feedback",
    summary="QA-Feedback: long answers to a question, judged in pairs",
    read=read,
    write=write,
    fits=fits,
    holds=("pair", "ranking"),
)
