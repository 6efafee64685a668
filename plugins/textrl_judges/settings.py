"""Settings of ``classifier``, ``similarity`` and ``http_judge``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

Scope = Literal["response", "prompt+response"]


@dataclass(frozen=True, kw_only=True)
class ClassifierSettings:
    """Which model classifies, and what of its answer is paid.

    Attributes:
        model: Folder or hub id of any `AutoModelForSequenceClassification`, or a folder that
            ``textrl fit-judge`` wrote.
        label: Which of its labels is wanted, by name; needed where there are two and more.
        value: "probability" of the label (0 to 1), its "log_odds" in nats, or the "score" (logit or
            predicted rating) as it is; "auto" is the probability where there are labels, else the score.
        scope: Classify the response alone, or the prompt and the response as one text.
        max_tokens: Longest input in tokens; by default what model and tokenizer say. The beginning goes.
        micro_batch_size: Texts per forward pass; never changes the result.
    """

    model: str
    label: str | None = None
    value: Literal["auto", "probability", "log_odds", "score"] = "auto"
    scope: Scope = "prompt+response"
    max_tokens: int | None = None
    micro_batch_size: int = 32

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}; it must be at least 1")
        if self.micro_batch_size < 1:
            raise ValueError(f"micro_batch_size is {self.micro_batch_size}; it must be at least 1")


@dataclass(frozen=True, kw_only=True)
class SimilaritySettings:
    """What a response is compared with, and how; give `column` or `texts`.

    Attributes:
        column: Column of the prompt's record with a reference text or a list of them.
        texts: Reference texts that are the same for every prompt.
        encoder: "minilm" is all-MiniLM-L6-v2 from the package index; "lexical" compares words and letter
            groups and needs no model; else the folder or hub id of a BERT-like encoder.
        of: Of several references, pay the "max" or the "mean" similarity.
        scope: Compare the response alone, or the prompt and the response as one text.
        max_tokens: An encoder reads so many tokens of a text; the end goes.
    """

    column: str | None = None
    texts: tuple[str, ...] = ()
    encoder: str = "minilm"
    of: Literal["max", "mean"] = "max"
    scope: Scope = "response"
    max_tokens: int = 256

    def __post_init__(self) -> None:
        if (self.column is None) == (not self.texts):
            raise ValueError("column and texts: give one of the two, and not both")
        if any(not text.strip() for text in self.texts):
            raise ValueError("texts holds an empty text; remove it")
        if self.max_tokens < 2:
            raise ValueError(f"max_tokens is {self.max_tokens}; it must be at least 2")


@dataclass(frozen=True, kw_only=True)
class HttpJudgeSettings:
    """Where the scores come from, and how long that may take.

    Attributes:
        url: Where texts are posted, http or https.
        timeout_s: Seconds of silence, in connecting or in answering, after which an attempt has failed.
        retries: Further attempts after a time-out, a broken connection, or the status 408, 429 or 5xx.
        backoff_s: Seconds before the first further attempt; doubled for each one after it. Where the
            server says Retry-After, that is waited for, up to a minute.
        cache: SQLite file that keeps every answer by the content that was asked about; null keeps them
            only while the process lives.
        version: Part of the cache's key; change it when the judge behind the address changes.
        token_env: Environment variable with a bearer token; the token itself belongs in no config.
        batch_size: Texts per request.
        workers: Requests at a time.
        columns: Columns of the prompt's record that are sent along.
    """

    url: str
    timeout_s: float = 10.0
    retries: int = 3
    backoff_s: float = 0.5
    cache: Path | None = None
    version: str = ""
    token_env: str | None = None
    batch_size: int = 16
    workers: int = 4
    columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            good = False
        if not good or re.search(r"[\s\x00-\x1f]", self.url):
            raise ValueError(f"url is {self.url!r}; write http://host:port/path or https://...")
        if parts.username is not None or parts.password is not None:
            raise ValueError("url holds a user name or password; put a token into token_env's variable")
        if not self.timeout_s > 0:
            raise ValueError(f"timeout_s is {self.timeout_s}; it must be above 0")
        if self.retries < 0 or self.backoff_s < 0:
            name = "retries" if self.retries < 0 else "backoff_s"
            raise ValueError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        for name in ("batch_size", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
