"""Stable-Baselines3's and sb3-contrib's algorithms behind textrl's registry, settings and checkpoints.

Data flow: `records` (names) -> `settings` filled in by `tuned` -> `environments` (copies, normalisation,
what a resume needs of an episode) -> `algorithms` on `learner` (SB3's surface) -> `state` (folders of
tensors). Advice enters through `advice` (rewards, observations) and `policies` (the choice of actions).
"""
