"""Settings of the papers' agents, as sections of a config, for the benchmarks that compare with them.

TAMER+RL's Mountain Car (Knox and Stone, AAMAS 2010) and Cart Pole; tile coding as in Sutton and Barto
(2018), example 10.1. Cart Pole's velocities have no bounds in Gymnasium, so its features use the ranges
that RL-Library names: 2.4 m, 6 m/s, 12 degrees, 6 rad/s.
"""

from __future__ import annotations

from typing import Any

_POLE_RANGES: dict[str, Any] = {
    "low": [-2.4, -6.0, -0.20943951, -6.0],
    "high": [2.4, 6.0, 0.20943951, 6.0],
}
_POLE_RBF: dict[str, Any] = {"kind": "rbf", "per_dimension": 8, "span": "unit", **_POLE_RANGES}
#: Features of Q and H on Cart Pole, and those of the eligibility module.
POLE_FEATURES: dict[str, Any] = {**_POLE_RBF, "width": 0.13}
POLE_ELIGIBILITY: dict[str, Any] = {**_POLE_RBF, "width": 0.08}

#: SARSA(lambda) on Mountain Car; the features are the default ones.
MOUNTAIN_CAR_OPTIMISTIC: dict[str, Any] = {
    "alpha": 0.15, "lam": 0.84, "traces": "replacing", "epsilon": 0.00625, "epsilon_decay": 0.99,
    "initial_weight": 0.0, "gamma": 1.0,
}  # fmt: skip
MOUNTAIN_CAR_PESSIMISTIC: dict[str, Any] = {**MOUNTAIN_CAR_OPTIMISTIC, "initial_weight": -10.0}
#: SARSA(lambda) on Cart Pole. Every step pays +1, so weights of 0 are pessimistic there.
CART_POLE: dict[str, Any] = {
    "alpha": 0.05, "lam": 0.86, "traces": "replacing", "epsilon": 0.085, "epsilon_decay": 0.9995,
    "initial_weight": 0.0, "gamma": 0.999, "features": POLE_FEATURES,
}  # fmt: skip

#: 8 tilings, alpha .5 over 8. On Mountain Car optimistic weights explore enough, as in the book.
MOUNTAIN_CAR_TILES: dict[str, Any] = {
    "alpha": 0.0625, "lam": 0.9, "traces": "replacing", "epsilon": 0.0, "initial_weight": 0.0, "gamma": 1.0,
    "features": {"kind": "tiles", "tilings": 8, "tiles": 8},
}  # fmt: skip
CART_POLE_TILES: dict[str, Any] = {
    **CART_POLE, "alpha": 0.0625, "lam": 0.9,
    "features": {"kind": "tiles", "tilings": 8, "tiles": 8, **_POLE_RANGES},
}  # fmt: skip
#: Over six dimensions 8 tiles would make 4 million features; with 4 there are 125,000.
ACROBOT_TILES: dict[str, Any] = {
    **MOUNTAIN_CAR_TILES, "features": {"kind": "tiles", "tilings": 8, "tiles": 4},
}  # fmt: skip

#: The reference trainer: presses on 60 % of the steps, after .2 to .8 s, and is always right.
CAR_TRAINER: dict[str, Any] = {"use": "simulated", "preset": "reference"}
POLE_TRAINER: dict[str, Any] = {**CAR_TRAINER, "truth": "pole_rule"}
CAR_H: dict[str, Any] = {"use": "tamer", "alpha": 0.05}
POLE_H: dict[str, Any] = {**CAR_H, "features": POLE_FEATURES}
#: Decay of eligibilities per step and per episode.
POLE_DECAY: dict[str, Any] = {"features": POLE_ELIGIBILITY, "decay": 0.99996, "episode_decay": 0.98}


def taught(trainer: dict[str, Any], *stretches: tuple[int, int]) -> dict[str, Any]:
    """Return a section ``human:`` in which the trainer is present in some stretches of episodes.

    Args:
        trainer: Section ``feedback:``.
        stretches: (first, one past the last) episode, counted from 0.
    """
    session = {"step_s": 0.2, "schedule": [list(stretch) for stretch in stretches]}
    return {"source": "h", "feedback": trainer, "session": session}
