"""TAMER: learning from the presses of a person who watches (Knox and Stone, 2009 to 2012).

`delays` says how long a person takes, `credit` shares a press out among the steps that were on screen,
`models` and `network` are the regressions of H(s, a), `tamer` ties them together, `human` is the loop with
a person, simulated or real, and `log` records it for replay. Nothing here knows plugins or learners.
"""

from textrl.tamer.human import Human, VirtualClock, WallClock
from textrl.tamer.settings import DelaySettings, HumanSettings, TamerSettings
from textrl.tamer.tamer import Tamer, choose

__all__ = [
    "DelaySettings",
    "Human",
    "HumanSettings",
    "Tamer",
    "TamerSettings",
    "VirtualClock",
    "WallClock",
    "choose",
]
