"""The four ways to combine a rating of actions H with a learner (Knox and Stone, AAMAS 2010 and 2012).

Plain functions on one state. Shapes: ``A`` actions. A weight `beta` is a number, or (A,) where it depends
on the action.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from textrl.errors import UserError, did_you_mean
from textrl.specs import LearnerSpec

Floats = NDArray[np.float64]
Technique = Literal["reward_shaping", "q_augmentation", "action_biasing", "control_sharing"]
#: What a technique needs a learner to take, as `LearnerSpec.accepts` names it.
NEEDS: dict[str, str] = {
    "reward_shaping": "reward",
    "q_augmentation": "target",
    "action_biasing": "action_scores",
    "control_sharing": "behaviour",
}


def shaped(reward: float, h: Floats, action: int, beta: float) -> float:
    """Reward shaping: R' = R + beta * H(s, a)."""
    return reward + beta * float(h[action])


def augmented(q: Floats, h: Floats, beta: float | Floats) -> Floats:
    """Q augmentation: Q' = Q + beta * H, (A,), in the choice of actions and in the TD update alike.

    Action biasing takes the same sum, for the choice of actions only.
    """
    return q + beta * h


def shares(rng: np.random.Generator, beta: float) -> bool:
    """Control sharing: whether H acts this time, with probability min(beta, 1)."""
    return float(rng.random()) < beta


def greedy(scores: Floats, rng: np.random.Generator) -> int:
    """Return the index of the largest score; equal ones are drawn from uniformly.

    The generator is used only where there is something to draw.
    """
    listed = scores.tolist()  # plain numbers: numpy's calls cost more than a few actions do
    best = max(listed)
    if listed.count(best) == 1:
        return int(listed.index(best))
    ties = [index for index, score in enumerate(listed) if score == best]
    return ties[int(rng.integers(len(ties)))]


def check_accepts(spec: LearnerSpec, technique: str) -> None:
    """Refuse a technique that a learner cannot take.

    Raises:
        UserError: Names the learner, the technique and what the learner can take.
    """
    if technique not in NEEDS:
        raise UserError(
            f"There is no technique '{technique}' to combine advice with.{did_you_mean(technique, NEEDS)}"
        )
    if NEEDS[technique] in spec.accepts:
        return
    can = [name for name in get_args(Technique) if NEEDS[name] in spec.accepts]
    takes = f"it takes {', '.join(can)}" if can else "it takes no advice"
    raise UserError(f"The learner '{spec.name}' cannot take advice by {technique}: {takes}.")
