"""What judges share: the text that is judged, and a memory of what has been judged."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from textrl.protocols import Batch
from textrl_judges.settings import Scope

Value = TypeVar("Value")


def judged(batch: Batch, scope: Scope) -> list[str]:
    """Return B texts: the responses, or prompt and response as one text."""
    assert batch.text is not None
    assert batch.prompt_text is not None  # in the records' needs
    if scope == "response":
        return list(batch.text)
    return [prompt + text for prompt, text in zip(batch.prompt_text, batch.text, strict=True)]


class Memory(Generic[Value]):
    """Answers by key, the least recently used forgotten first.

    A judge costs a forward pass or a request for each text, and texts come back: references with every
    batch, short responses by chance. Equal texts also get equal scores, whatever batch they stand in.
    """

    def __init__(self, most: int = 20_000) -> None:
        """Keep at most `most` answers."""
        self._most = most
        self._kept: OrderedDict[str, Value] = OrderedDict()

    def look_up(self, keys: Sequence[str], compute: Callable[[list[str]], Sequence[Value]]) -> list[Value]:
        """Return one answer per key; `compute` is asked once, for the distinct keys that are not known.

        Nothing is kept where `compute` raises.
        """
        missing = [key for key in dict.fromkeys(keys) if key not in self._kept]
        fresh = dict(zip(missing, compute(missing), strict=True)) if missing else {}
        found = [fresh[key] if key in fresh else self._kept[key] for key in keys]
        for key in dict.fromkeys(keys):
            if key in fresh:
                self._kept[key] = fresh[key]
            self._kept.move_to_end(key)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return found
