"""How far the people of a session agree, while they work: for its owner.

The figures are those of `textrl data agreement`, of comparisons: each pair of responses of an item, which
somebody calls better, worse or equal.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from textrl.feedback.rank.desk import Judgement

#: Of the bootstrap. Enough for a figure that is looked at in passing; `textrl data agreement` takes 1,000.
RESAMPLES = 200
#: The figures are made again when the judgements have grown by this share: their cost grows with them.
GROWTH = 0.02


class LiveAgreement:
    """Measures again where enough has changed."""

    def __init__(self) -> None:
        self._measured = -1

    def stale(self, judgements: Iterable[Judgement]) -> bool:
        """Tell whether the figures should be made again."""
        count = sum(judgement.payload is not None for judgement in judgements)
        return abs(count - self._measured) > GROWTH * max(self._measured, 0)

    def message(self, judgements: Iterable[Judgement]) -> dict[str, Any]:
        """Return the message for the owner; its figures are None until two people judged one item."""
        from textrl.data.preferences.agreement import measure
        from textrl.data.preferences.judgements import COMPARISON, Collector

        collector, ranked = Collector(), 0
        items: dict[str, int] = {}
        for judgement in judgements:
            if judgement.payload is not None:
                record = {**judgement.payload, "annotator": judgement.annotator}
                collector.take("ranking", record, judgement.item)
                items[judgement.item] = items.get(judgement.item, 0) + 1
                ranked += 1
        self._measured = ranked
        found: dict[str, Any] = {
            "type": "agreement",
            "pairwise": None,
            "kappa": None,
            "alpha": None,
            "interval": None,
            "items": sum(count > 1 for count in items.values()),
            "judgements": ranked,
            "annotators": len(collector.raters),
        }
        kinds = collector.finish()
        if found["items"] == 0 or COMPARISON not in kinds:
            return found
        report = measure(COMPARISON, kinds[COMPARISON], list(collector.raters), RESAMPLES, 0)
        if report.agreement is not None:
            found["pairwise"] = report.agreement["value"]
            found["interval"] = [report.agreement["lo"], report.agreement["hi"]]
        alpha = report.alpha.get("nominal")
        found["alpha"] = None if alpha is None else alpha["value"]
        found["kappa"] = report.kappa_mean
        return found
