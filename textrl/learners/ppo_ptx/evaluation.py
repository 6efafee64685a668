"""What a policy earns, with advice and without: a policy that leaned on H may be nothing by itself."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from textrl.evaluation.statistics import bootstrap_mean
from textrl.learners.ppo_ptx.generation import sample
from textrl.learners.ppo_ptx.learner import PPOPTX

#: Evaluations are numbered from here, where no training comes: prompts and noise of their own.
FIRST_EPISODE = 1 << 40


@torch.no_grad()
def evaluate(learner: PPOPTX, episodes: int = 256, *, advised: bool = True) -> dict[str, float]:
    """Return what the environment pays for an episode, by source and in all.

    Args:
        learner: Whose policy writes; nothing about it changes.
        episodes: How many.
        advised: Let advice have its say where it acts.

    Returns:
        ``total``, its 95 % interval ``total_lo`` and ``total_hi``, and the weighted mean of each source.
    """
    task, device = learner.task, learner.networks.policy.device
    numbers = torch.arange(FIRST_EPISODE, FIRST_EPISODE + episodes, device=device)
    prompts = [task.prompt_for(int(number)) for number in numbers]
    advice = learner.beside.advice() if advised else None
    rollout = sample(learner.networks, task, prompts, numbers, learner.settings, advice=advice)
    paid = task.score(task.batch(prompts, rollout.response_ids, rollout.response_mask))
    totals = paid.total.sum(1).double().cpu().numpy()
    mean = bootstrap_mean(totals)
    figures = {"total": mean.value, "total_lo": mean.lo, "total_hi": mean.hi}
    return figures | {name: float(part.sum(1).double().mean()) for name, part in paid.components.items()}


def with_and_without(learner: PPOPTX, episodes: int = 256) -> Mapping[str, dict[str, float]]:
    """Return `evaluate` for both: ``with_advice`` and ``without_advice``, on the same prompts and noise."""
    return {
        "with_advice": evaluate(learner, episodes),
        "without_advice": evaluate(learner, episodes, advised=False),
    }
