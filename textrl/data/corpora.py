"""Ordinary text: the pretraining stream, and another corpus on which forgetting is measured.

Everything comes from the archive of human ratings (reviews, editorials, tweets) or from the Python
installation itself, so a run needs no model hub and no further download. A pretraining stream hides
forgetting on its own corpus by adapting to it; forgetting is therefore measured on a corpus that
the stream does not hold.
"""

from __future__ import annotations

import ast
import re
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from textrl.data.ratings import Domain, clean_text, load_ratings
from textrl.errors import UserError, did_you_mean

#: What each corpus is, in words for a report.
CORPORA: Mapping[str, str] = {
    "amazon": "customer reviews of five products, sentences joined per review",
    "nyt": "newspaper editorials, sentences joined per article",
    "tweets": "short messages, eight to a document",
    "pydoc": "the Python language reference, paragraphs of prose",
    "stdlib": "documentation strings of Python's standard library, paragraphs of prose",
}
_TWEETS_PER_DOCUMENT = 8
_STDLIB_MODULES = (
    "argparse asyncio/base_events asyncio/events codecs collections/__init__ "
    "concurrent/futures/_base configparser contextlib csv decimal difflib doctest email/message enum "
    "fractions functools heapq imaplib inspect ipaddress locale logging/__init__ mailbox "
    "multiprocessing/managers optparse os pathlib pdb pickle pickletools platform random shutil "
    "smtplib socket socketserver statistics string subprocess tarfile tempfile textwrap threading "
    "tkinter/__init__ trace turtle typing unittest/case unittest/mock urllib/request uuid weakref "
    "zipfile"
)


def documents(name: str, folder: Path | None = None) -> list[str]:
    """Return the documents of a corpus, in its own order.

    Args:
        name: One of `CORPORA`.
        folder: Rating tables made by `textrl.data.ratings.extract_ratings`; None fetches them.

    Raises:
        UserError: When there is no such corpus, or its archive cannot be had.
    """
    if name not in CORPORA:
        raise UserError(f"There is no corpus named '{name}'.{did_you_mean(name, CORPORA)}")
    rated: Mapping[str, Callable[[Path | None], list[str]]] = {
        "amazon": lambda where: [_sentence_case(text) for text in _joined("amazon", where)],
        "nyt": lambda where: _joined("nyt", where),
        "tweets": _tweets,
    }
    if name in rated:
        return rated[name](folder)
    return _pydoc() if name == "pydoc" else _stdlib()


def ptx_documents(names: Sequence[str], *, seed: int = 0, folder: Path | None = None) -> list[str]:
    """Return the documents of several corpora in one shuffled order, for the pretraining stream.

    Args:
        names: Of `CORPORA`; each is taken whole, so a corpus weighs as much as it is long.
        seed: Seeds the order.
        folder: As in `documents`.

    Raises:
        UserError: When no corpus is named, or one is unknown or named twice.
    """
    if not names or len(set(names)) < len(names):
        raise UserError(f"The pretraining stream needs distinct corpora, got {list(names)}; name each once.")
    joined = [document for name in names for document in documents(name, folder)]
    return [joined[index] for index in np.random.default_rng(seed).permutation(len(joined))]


def ordinary_passages(
    name: str,
    tokenizer: Any,
    *,
    tokens: int = 12_000,
    shortest: int = 64,
    longest: int = 128,
    seed: int = 0,
    not_in: Sequence[str] = (),
    folder: Path | None = None,
) -> list[str]:
    """Return passages of one corpus for measuring perplexity; whole sentences of one document each.

    Args:
        name: One of `CORPORA`.
        tokenizer: A Hugging Face tokenizer, which counts the tokens.
        tokens: Passages are drawn until they have this many tokens together (or all are drawn).
        shortest: Sentences are joined until a passage has this many tokens; what is shorter is left out.
        longest: Passages that would be longer are left out, so that perplexity sees all of each.
        seed: Seeds the draw.
        not_in: Corpora of the pretraining stream.
        folder: As in `documents`.

    Raises:
        UserError: When the corpus is part of the pretraining stream, or gives no passage.
    """
    if name in not_in:
        raise UserError(
            f"The corpus '{name}' is part of the pretraining stream ({', '.join(not_in)}), where "
            "forgetting cannot be seen; measure perplexity on another one."
        )
    found = [
        passage
        for document in documents(name, folder)
        for passage in _passages(document, tokenizer, shortest, longest)
    ]
    if not found:
        raise UserError(
            f"The corpus '{name}' has no passage of {shortest} to {longest} tokens; widen the range."
        )
    drawn, total = [], 0
    for index in np.random.default_rng(seed).permutation(len(found)):
        text, size = found[index]
        drawn.append(text)
        total += size
        if total >= tokens:
            break
    return drawn


def _passages(document: str, tokenizer: Any, shortest: int, longest: int) -> list[tuple[str, int]]:
    """Cut a document into runs of sentences with `shortest` to `longest` tokens, with their sizes."""
    sentences = re.split(r"(?<=[.!?])\s+(?=[\"'(]?[A-Z0-9])|\n+", document)
    sizes = [len(ids) for ids in tokenizer(sentences, add_special_tokens=False)["input_ids"]]
    found: list[tuple[str, int]] = []
    run: list[str] = []
    estimate = 0
    for sentence, size in zip(sentences, sizes, strict=True):
        run.append(sentence)
        estimate += size
        if estimate < shortest:
            continue
        text = " ".join(run)
        exact = len(tokenizer(text, add_special_tokens=False)["input_ids"])
        if shortest <= exact <= longest:
            found.append((text, exact))
        run, estimate = [], 0
    return found


def _joined(domain: Domain, folder: Path | None) -> list[str]:
    """Join the sentences of each article or review, in the order in which they were written."""
    found: dict[str, list[tuple[int, str]]] = {}
    for one in load_ratings(domain, folder):
        place = one.id.partition("_")[2]
        found.setdefault(one.document, []).append((int(place) if place.isdigit() else 0, one.text))
    return [" ".join(text for _, text in sorted(parts, key=lambda part: part[0])) for parts in found.values()]


def _sentence_case(text: str) -> str:
    """Give lower-cased text its capitals at the beginning of sentences and in the word I.

    The reviews were lower-cased before they were published; a policy that rehearses them as they are
    would learn to write in lower case.
    """
    text = re.sub(r"\bi\b(?=['\s,])", "I", text)
    return re.sub(r"(^|[.!?]\s+)([a-z])", lambda found: found[1] + found[2].upper(), text)


def _tweets(folder: Path | None) -> list[str]:
    """Join messages, without the stand-ins for names and links that the archive put into them."""
    texts = []
    for one in load_ratings("tweets", folder):
        text = re.sub(r"(\bRT\s+)?@anonymous:?|https?://url_removed", " ", one.text)
        text = clean_text(text, keep_emoticons=True)
        if len(text.split()) >= 4:
            texts.append(text)
    texts = list(dict.fromkeys(texts))
    size = _TWEETS_PER_DOCUMENT
    return ["\n".join(texts[start : start + size]) for start in range(0, len(texts), size)]


def _pydoc() -> list[str]:
    """Return the topics of the language reference, prose only."""
    from pydoc_data.topics import topics

    return [text for text in map(_prose, topics.values()) if text]


def _stdlib() -> list[str]:
    """Return the prose of documentation strings, one document a module; nothing is imported."""
    root = Path(sysconfig.get_paths()["stdlib"])
    found = []
    for module in _STDLIB_MODULES.split():
        path = root / f"{module}.py"
        if not path.is_file():  # modules come and go between Python versions
            continue
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        nodes = (node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, kinds))
        strings = (ast.get_docstring(node) for node in nodes)
        text = _prose("\n\n".join(string for string in strings if string))
        if text:
            found.append(text)
    return found


def _prose(text: str, *, fewest_words: int = 15) -> str:
    """Keep the paragraphs that are sentences: no code, lists, tables, headings or signatures."""
    kept = []
    for paragraph in text.split("\n\n"):
        if re.match(r"\s|[*+|\[\d]|>>>|\.\. |-- ", paragraph):
            continue
        flat = re.sub(r"\*(\w[\w .]*)\*", r"\1", " ".join(paragraph.split()))
        flat = re.sub(r"``?([^`]+)``?", r'"\1"', flat).translate(str.maketrans("\u201c\u201d\u2019", '""\''))
        strange = len(re.findall(r"[{}<>|\\=_~]|::|\*\*", flat))
        if len(flat.split()) >= fewest_words and flat.endswith(".") and strange <= len(flat.split()) / 15:
            kept.append(flat)
    return "\n".join(dict.fromkeys(kept))
