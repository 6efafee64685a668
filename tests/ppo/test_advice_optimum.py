"""With H in the choice of tokens what acts is trained and reaches the optimum; the policy within does not."""

from __future__ import annotations

import numpy as np
from advised_world import brute, entries, guided

from textrl.evaluation.optimum import Optimum
from textrl.learners.ppo_ptx import PPOPTX

BETA_KL = 0.5


def distance(learner: PPOPTX, optimum: Optimum, what: str) -> float:
    """Return the largest total variation from pi*, over the prompts, of ``mu`` or ``pi``."""
    found = []
    for place, prompt in enumerate(learner.task.prompts):
        off = 0.0
        for row in range(len(optimum.ids)):
            response = entries(optimum.ids[row], optimum.mask[row])
            steps = getattr(brute(learner, prompt.ids, response), what)
            probability = float(np.prod(steps[np.arange(len(response)), response]))
            off += abs(probability - float(optimum.log_best[place, row].exp())) / 2
        found.append(off)
    return max(found)


def test_the_biased_policy_reaches_the_optimum_and_the_one_inside_makes_room_for_the_bias() -> None:
    learner = guided(
        "action_biasing", beta=1.0, scale=1.5, kl=BETA_KL, tokens=2, episodes_per_iteration=256, epochs=3,
        micro_batch_size=256, lam=1.0, value_clip=None, whiten_advantages=False, learning_rate=4e-3,
        value_learning_rate=4e-3, decay_iterations=45,
    )  # fmt: skip
    optimum = Optimum.of(learner.task, learner.networks.reference, BETA_KL)
    assert distance(learner, optimum, "mu") > 0.3
    learner.learn(iterations=45)
    assert distance(learner, optimum, "mu") < 0.04
    assert distance(learner, optimum, "pi") > 0.3
