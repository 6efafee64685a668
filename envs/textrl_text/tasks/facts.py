"""What is known about a task: how a random policy fares, how the best one does, and what it may cost.

Nothing here is a table: the figures follow from the task's own rules by dynamic programming, or, where a
language model is part of the task, by enumeration of all responses (`textrl.evaluation.optimum`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from textrl.errors import UserError
from textrl.evaluation.optimum import Optimum
from textrl.mdp.task import TokenTask
from textrl.models.loading import load_causal_lm
from textrl_text.tasks.rules import Rules, State


@dataclass(frozen=True)
class TaskFacts:
    """What is known about a task.

    Attributes:
        random: Mean return of the policy that draws every token (that a mask leaves) with equal probability;
            where a prior is part of the task, of the prior itself. None where it is not known.
        optimum: The best mean return; where a prior is part of the task, the best value of
            ``E[return] - beta KL(policy || prior)``, nats per episode. None where it is not known.
        how: ``computed``, or None where the two are not known.
        prior: Model that the policy is held to, a registered name or a folder; None without one.
        beta: Weight of the KL divergence, with a prior.
        budget: Tokens that a learner may sample.
    """

    random: float | None
    optimum: float | None
    how: str | None
    prior: str | None
    beta: float | None
    budget: int

    def normalised(self, value: float) -> float:
        """Return 0 for the random policy and 1 for the best one.

        Args:
            value: A mean return, or the KL-regularised objective where a prior is part of the task.

        Raises:
            UserError: When the optimum is not known.
        """
        if self.random is None or self.optimum is None:
            raise UserError("The optimum of this task is not known, so no score can be normalised.")
        return (value - self.random) / (self.optimum - self.random)


def rule_values(task: TokenTask, rules: Rules, masks: bool = False) -> tuple[float, float]:
    """Return the mean returns of the uniform and of the best policy, over the prompts.

    With left = tokens that may still be written, W the uniform and V the best policy's value,

        W(state) = mean over tokens of (pay + W(next)),    V(state) = max over tokens of (pay + V(next)),

    where the value after a token that ends the episode is 0.

    Args:
        task: Its vocabulary, prompts and episode ends.
        rules: Its rewards.
        masks: Whether only what the rules allow is written.
    """
    known: dict[tuple[State, int], tuple[float, float]] = {}
    every = range(task.vocab_size)

    def values(state: State, length: int) -> tuple[float, float]:
        if (state, length) not in known:
            tokens = rules.allowed(state) if masks else None
            found = [after(state, token, length + 1) for token in (every if tokens is None else tokens)]
            known[state, length] = fmean(uniform for uniform, _ in found), max(best for _, best in found)
        return known[state, length]

    def after(state: State, token: int, length: int) -> tuple[float, float]:
        following, pay = rules.step(state, token)
        if task.finish_reason(token, length) is not None:
            return pay, pay
        uniform, best = values(following, length)
        return pay + uniform, pay + best

    return _means([values(rules.start(prompt.ids), 0) for prompt in task.prompts])


def prior_values(task: TokenTask, prior: str, beta: float) -> tuple[float, float]:
    """Return E[return] of the prior and beta log Z, means over the prompts; see `Optimum`.

    Args:
        task: Small enough to write down all responses.
        prior: Registered name or folder.
        beta: Weight of the KL divergence, above 0.
    """
    optimum = Optimum.of(task, load_causal_lm(prior, attn="eager")[0], beta)
    means = (optimum.log_ref.exp() * optimum.rewards).sum(1)
    return float(means.mean()), optimum.best_objective


def _means(values: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return fmean(uniform for uniform, _ in values), fmean(best for _, best in values)
