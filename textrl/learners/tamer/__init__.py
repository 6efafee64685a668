"""TAMER alone: act greedily on H, what a person is expected to give, and on nothing else.

`settings` holds the knobs, `learner` the learner; H itself and the loop with the person are in
`textrl.tamer`.
"""

from textrl.learners.tamer.learner import TamerLearner
from textrl.learners.tamer.settings import TamerLearnerSettings

__all__ = ["TamerLearner", "TamerLearnerSettings"]
