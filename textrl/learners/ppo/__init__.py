"""PPO on vectors: the core that trains language models, with a small network on classic control.

`segments` steps the copies of an environment, `update` holds the losses and the optimizer, both from the
functions of `textrl.mdp` that PPO-ptx trains with; `networks` the two networks, `settings` every knob, under
the names of Stable-Baselines3, and `learner` the loop.
"""

from textrl.learners.ppo.learner import PPO
from textrl.learners.ppo.settings import PPOSettings

__all__ = ["PPO", "PPOSettings"]
