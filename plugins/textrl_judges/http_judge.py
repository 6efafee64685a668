"""Scores from an HTTP endpoint: a judge in another process, on another machine, or behind somebody's API.

The endpoint is sent ``{"items": [{"prompt": ..., "response": ..., "record": {...}}, ...]}`` and answers
``{"scores": [...]}``, one finite number per item.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import torch
from torch import Tensor

from textrl.errors import UserError, did_you_mean
from textrl.protocols import Batch
from textrl_judges.http_cache import AnswerCache, content_key
from textrl_judges.http_client import JsonClient
from textrl_judges.settings import HttpJudgeSettings

Item = Mapping[str, Any]


class HttpJudgeReward:
    """Ask the endpoint for what is not in the cache.

    Attributes:
        asked: Items sent so far.
        known: Items that the cache answered so far.
    """

    def __init__(self, settings: HttpJudgeSettings) -> None:
        """Open the cache; nothing is sent yet.

        Raises:
            UserError: When the cache cannot be opened, or the token's variable is not set.
        """
        self.settings = settings
        token = None
        if settings.token_env is not None:
            token = os.environ.get(settings.token_env, "").strip()
            if not token:
                raise UserError(f"the environment variable {settings.token_env} (token_env) is not set.")
        self.client = JsonClient(settings, token)
        self.cache = AnswerCache(settings.cache)
        self.asked = self.known = 0

    def __call__(self, batch: Batch) -> Tensor:
        """Return (B,) float32.

        Raises:
            UserError: When the endpoint does not answer, or not as it should; names the address.
        """
        items = self._items(batch)
        keys = [content_key(self.settings.url, self.settings.version, item) for item in items]
        found = self.cache.get(list(dict.fromkeys(keys)))
        missing = {key: item for key, item in zip(keys, items, strict=True) if key not in found}
        self.known += sum(key in found for key in keys)
        self.asked += len(missing)
        found |= self._ask(missing)
        return torch.tensor([found[key] for key in keys], dtype=torch.float32)

    def metrics(self, batch: Batch) -> Mapping[str, float]:
        """Return the share of items that the cache answered, since the process began."""
        return {"cached": self.known / max(self.known + self.asked, 1)}

    def _items(self, batch: Batch) -> list[Item]:
        assert batch.prompt_text is not None
        assert batch.text is not None
        assert batch.records is not None  # in the record's needs
        rows = zip(batch.prompt_text, batch.text, batch.records, strict=True)
        return [self._item(*row) for row in rows]

    def _item(self, prompt: str, response: str, record: Mapping[str, Any]) -> Item:
        item: dict[str, Any] = {"prompt": prompt, "response": response}
        for column in self.settings.columns:
            if column not in record:
                hint = did_you_mean(column, map(str, record))
                raise UserError(f"a prompt's record has no column '{column}'.{hint}")
            item.setdefault("record", {})[column] = record[column]
        return item

    def _ask(self, missing: Mapping[bytes, Item]) -> dict[bytes, float]:
        """Send the items, some at a time; what is answered is kept even where a later request fails."""
        keys, size = list(missing), self.settings.batch_size
        parts = [keys[start : start + size] for start in range(0, len(keys), size)]
        found: dict[bytes, float] = {}
        stop = threading.Event()
        pool = ThreadPoolExecutor(self.settings.workers, thread_name_prefix="http_judge")
        try:
            futures = [pool.submit(self._request_unless_stopped, part, missing, stop) for part in parts]
            for future in as_completed(futures):
                scores = future.result()
                self.cache.put(scores)
                found |= scores
        finally:
            # On an error, and on Ctrl-C, nobody waits for what is still on its way.
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
        return found

    def _request_unless_stopped(
        self, part: Sequence[bytes], items: Mapping[bytes, Item], stop: threading.Event
    ) -> dict[bytes, float]:
        """Ask for one part; where one has failed, those that wait behind it are not sent any more."""
        if stop.is_set():
            return {}
        try:
            return self._request(part, items, stop)
        except Exception:
            if stop.is_set():
                return {}  # cut short by the failure of another part, which is the one to report
            # Here, and not where the error is noticed: this thread takes the next part before that.
            stop.set()
            raise

    def _request(
        self, part: Sequence[bytes], items: Mapping[bytes, Item], stop: threading.Event
    ) -> dict[bytes, float]:
        reply = self.client.post({"items": [items[key] for key in part]}, stop)
        scores = reply.get("scores") if isinstance(reply, dict) else None
        if not isinstance(scores, list) or len(scores) != len(part):
            had = f"{len(scores)} scores" if isinstance(scores, list) else f"{str(reply)[:60]!r}"
            raise UserError(
                f'{self.client.name} answered {had} for {len(part)} items; it must send {{"scores": [...]}}, '
                "one number each."
            )
        for score in scores:
            if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
                raise UserError(
                    f"{self.client.name} answered the score {score!r}, which is no finite number."
                )
        return dict(zip(part, map(float, scores), strict=True))
