"""SARSA(lambda) with linear function approximation, alone or with advice (TAMER+RL).

`settings` holds every knob, `linear` the weights and traces, `learner` the algorithm behind the surface of
`textrl.learners.episodic`.
"""

from textrl.learners.sarsa.learner import Sarsa
from textrl.learners.sarsa.settings import SarsaSettings

__all__ = ["Sarsa", "SarsaSettings"]
