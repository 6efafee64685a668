"""Advice: what somebody who can rate all actions does to a learner (TAMER+RL), written once.

`techniques` holds the four ways to combine as plain functions, `betas` how strongly, over episodes or
state by state, and `guidance` the object that a learner asks.
"""

from textrl.advice.betas import Annealed, Eligibility, EligibilitySettings
from textrl.advice.guidance import Guidance, GuidanceSettings
from textrl.advice.techniques import NEEDS, Technique, check_accepts

__all__ = [
    "NEEDS",
    "Annealed",
    "Eligibility",
    "EligibilitySettings",
    "Guidance",
    "GuidanceSettings",
    "Technique",
    "check_accepts",
]
