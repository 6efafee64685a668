"""Optimizer steps of one iteration, over minibatches that one of them may end."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable

from accelerate import Accelerator
from torch import Tensor

from textrl.learners.ppo_ptx.diagnostics import Ratios


class TooFar(Exception):
    """Internal: the policy moved beyond `target_kl`; the iteration ends here. Carries nothing."""


def take_steps(
    step: Callable[[Tensor], dict[str, float]],
    minibatches: Iterable[Tensor],
    ratios: Ratios,
    accelerator: Accelerator,
) -> dict[str, float]:
    """Step on one minibatch after the other, until one raises `TooFar`.

    Args:
        step: Takes (M,) rows of the experience; returns figures.
        minibatches: Rows.
        ratios: What the steps count about pi / pi_old.
        accelerator: Of the process group.

    Returns:
        The means of the figures over the steps that were taken, ``train/steps``, and the first step's
        ``train/approx_kl`` as ``train/approx_kl_first``.
    """
    totals: dict[str, float] = defaultdict(float)
    steps, first_kl = 0, math.nan
    for rows in minibatches:
        try:
            figures = step(rows)
        except TooFar:
            break
        first_kl = figures["train/approx_kl"] if steps == 0 else first_kl
        steps += 1
        for name, value in figures.items():
            totals[name] += value
    means = {name: value / steps for name, value in totals.items()} | ratios.figures(accelerator)
    if steps:
        means["train/approx_kl_first"] = first_kl
    return means | {"train/steps": float(steps)}


def rate_factor(iteration: int, warmup: int, decay: int) -> float:
    """Return the share of the peak learning rate at which an iteration (from 0) is trained.

    A tenth of the peak, rising in a straight line over `warmup` iterations (Ouyang et al. 2022, C.4), times
    what is left of a straight line to zero after `decay` iterations (lm-human-preferences); 0 is no line.

    Args:
        iteration: From 0.
        warmup: Iterations.
        decay: Iterations; the rate of the last of them is kept after it.
    """
    risen = 0.1 + 0.9 * min(1.0, iteration / warmup) if warmup else 1.0
    left = max(1.0 - iteration / decay, 1.0 / decay) if decay else 1.0
    return risen * left
