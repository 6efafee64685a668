"""Sessions in which people rank responses: items, who gets which, and what was said of them.

`items` reads or writes what is to be ranked, `machine` gives it out and takes judgements in, `live` measures
how far people agree, `records` makes of judgements what a reward model is trained on.
"""

from __future__ import annotations

from textrl.feedback.rank.items import Item, rank_config, read_items
from textrl.feedback.rank.machine import RankMachine

__all__ = ["Item", "RankMachine", "rank_config", "read_items"]
