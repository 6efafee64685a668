"""Judgements of a session as the records that people's judgements come in elsewhere.

A ranking becomes one record of the form ``ranking``, which reward models are trained on; the Likert scores
and flags of each response become a record of the form ``rating``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from textrl.feedback.rank.desk import Judgement


def rankings(judgements: Sequence[Judgement], session: str) -> Iterator[dict[str, Any]]:
    """Yield a record for each ranking."""
    for judgement in judgements:
        if judgement.payload is not None:
            yield {
                "prompt": judgement.payload["prompt"],
                "completions": judgement.payload["completions"],
                "ranks": judgement.payload["ranks"],
                "annotator": judgement.annotator,
                "group": f"{session}/{judgement.item}",
                "item": judgement.item,
                "seconds": judgement.payload.get("seconds"),
            }


def ratings(judgements: Sequence[Judgement], session: str) -> Iterator[dict[str, Any]]:
    """Yield a record for each response that has a score or a flag."""
    for judgement in judgements:
        payload = judgement.payload
        if payload is None:
            continue
        size = len(payload["completions"])
        likert, flags = payload.get("likert") or [None] * size, payload.get("flags") or [None] * size
        for completion, score, ticked in zip(payload["completions"], likert, flags, strict=True):
            if score is not None or ticked:
                record = {
                    "prompt": payload["prompt"],
                    "completion": completion,
                    "likert": score,
                    "flags": ticked,
                    "annotator": judgement.annotator,
                    "group": f"{session}/{judgement.item}",
                }
                yield {column: value for column, value in record.items() if value is not None}
