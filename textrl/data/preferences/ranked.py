"""Who has ranked what: a rating of the same completion by the same person would count a judgement twice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from textrl.data.preferences.schema import Form

_Key = tuple[str, str, str]


class Ranked:
    """Takes in rankings and knows ratings that say less of the same.

    A session's people rank and score the same completions. Of the two the ranking says more. Whether two
    judgements without a name are one person's nobody knows, so those never are.
    """

    def __init__(self) -> None:
        self._keys: set[_Key] = set()

    def add(self, form: Form, given: Mapping[str, Any]) -> None:
        """Take in a canonical record; only pairs, rankings and their rows by a named person count."""
        if "annotator" not in given:
            return
        if form == "pair":
            self._keys |= {_key(given, given["chosen"]), _key(given, given["rejected"])}
        elif form == "ranking":
            self._keys |= {_key(given, text) for text in given["completions"]}
        elif form == "ranking_row":
            self._keys.add(_key(given, given["completion"]))

    def holds(self, given: Mapping[str, Any]) -> bool:
        """Tell whether a canonical rating is by somebody who ranked that completion."""
        return "annotator" in given and _key(given, given["completion"]) in self._keys


def _key(given: Mapping[str, Any], text: str) -> _Key:
    return str(given.get("group", given["prompt"])), str(given["annotator"]), text
