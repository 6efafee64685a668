"""Settings of ``sentiment``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class SentimentSettings:
    """What of VADER's analysis is paid.

    Attributes:
        measure: "compound" is the signed summary (-1 to 1); "pos", "neg" and "neu" are the shares of
            the text that is positive, negative or neutral (0 to 1).
        scope: Rate the response alone, or the prompt and the response as one text.
    """

    measure: Literal["compound", "pos", "neg", "neu"] = "compound"
    scope: Literal["response", "prompt+response"] = "response"
