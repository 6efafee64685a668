"""RLOO and GRPO in `textrl bench optimum`: their settings, what else is asked of them, a table of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from textrl.bench.tables import NOTHING, Check, Table, figure

_SHARED: dict[str, Any] = {
    "precision": "fp32",
    "group_size": 8,
    "episodes_per_iteration": 256,
    "minibatches": 2,
    "epochs": 4,
    "micro_batch_size": 256,
    "learning_rate": 3e-3,
    "adam_beta2": 0.999,
    "warmup_iterations": 0,
    "ema_decay": 0.98,
}
#: Row -> registered learner and its settings, those of PPO-ptx as far as there are such.
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "rloo": ("rloo", _SHARED),
    # Divided by their deviation, advantages keep their size near pi*, so that only small steps settle there.
    "grpo": ("grpo", {**_SHARED, "learning_rate": 1.5e-3}),
    # Where k3 in the loss has an optimum that can be computed: each token weighs the same, and samples are
    # learnt from once, by the policy that drew them. Its gradient ref/pi has a long tail: no norm clips it.
    "grpo_k3": (
        "grpo",
        {
            **_SHARED,
            "kl": "loss",
            "scale_advantages": False,
            "aggregation": "constant",
            "episodes_per_iteration": 512,
            "minibatches": 1,
            "epochs": 1,
            "micro_batch_size": 512,
            "max_grad_norm": 1e6,
        },
    ),
}
#: The arm that takes one step an iteration instead of eight has so many times the others' iterations.
MORE_ITERATIONS = 3
#: Responses by which reward, KL and objective of a policy at the end are estimated, as an evaluation would.
EVALUATED = 1024
#: What is estimated so, the `textrl.evaluation.optimum.Standing`'s names.
SAMPLED = ("reward", "kl", "objective")
#: Standard errors on either side of an estimate: 95 % of a normal distribution.
WIDTH = 1.96


def job(arm: str, beta: float, iterations: int) -> dict[str, Any]:
    """Return what the spec of a job says about its learner.

    Args:
        arm: Key in `ARMS`.
        beta: Weight of the KL.
        iterations: Of the other learners.
    """
    learner, settings = ARMS[arm]
    if settings.get("kl") != "loss":
        return {"learner": learner, "settings": settings, "sampled": SAMPLED}
    more = MORE_ITERATIONS * iterations
    return {
        "learner": learner,
        "iterations": more,
        "settings": {**settings, "beta": beta},
        "sampled": SAMPLED,
    }


def figures(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what `textrl.bench.optimum_trial.of_groups` found, by name, one entry a seed."""
    names = ("sampled", "own", "apart")
    return {name: [r[name] for r in results] for name in names if all(name in r for r in results)}


def inside(one: Mapping[str, Any], name: str) -> list[bool]:
    """Say of each seed whether what pi* has of one of `SAMPLED` lies in the interval of its estimate."""
    found = [seed[name] for seed in one["sampled"]]
    return [abs(each["mean"] - each["best"]) <= WIDTH * each["error"] for each in found]


def reached(one: Mapping[str, Any]) -> list[Check]:
    """Hold a cell of these learners, run to the end, against what was to be reached beside the rest."""
    if one["finished"] < one["seeds"]:
        return []
    if "own" in one:
        nearer = [own < distance for own, distance in zip(one["own"], _distances(one), strict=True)]
        what = f"{one['name']}: nearer to the resting point of its own loss than to pi*"
        return [Check(what, f"{sum(nearer)} of {one['seeds']} seeds", all(nearer))]
    checks = []
    # Not of the objective: pi* earns the same with every response, so that near it the estimate's variance
    # comes from the few responses that are still off, and 1,024 draws seldom show enough of them. There
    # the KL's error is nearly the reward's, divided by beta, so that the two are little more than one test.
    for name, words in (("reward", "reward"), ("kl", "KL")):
        held = inside(one, name)
        # 95 % intervals: of twenty seeds one may miss.
        enough = sum(held) >= 0.8 * len(held)
        what = f"{one['name']}: pi*'s {words} in the 95 % interval of the sampled one"
        checks.append(Check(what, f"{sum(held)} of {one['seeds']} seeds", enough))
    return checks


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return what only these learners are asked, from rows of results.json."""
    columns = (
        "learner, rewards, beta", "reward, sampled", "of pi*", "in the interval", "KL, sampled", "of pi*",
        "in the interval", "objective in the interval", "distance from pi*", "from its own loss's optimum",
        "of that from pi*",
    )  # fmt: skip
    notes = (
        f"Sampled: mean over seeds of what {EVALUATED:,} responses of each seed's averaged policy give; in "
        "the interval: seeds with pi*'s exact value within 1.96 standard errors of their estimate.",
        "Objective: reward - beta KL. At pi* every response has the same, so that near it the estimate has "
        "hardly any variance, and its interval is too narrow.",
        "k3: the penalty as k3 in the loss, which rests at beta pi_ref / (lambda - Q) in each state.",
    )
    return Table("Learners on groups", columns, tuple(_cells(one) for one in rows), notes)


def _cells(one: Mapping[str, Any]) -> tuple[str, ...]:
    if not one["finished"] or "sampled" not in one:
        return (one["name"], *[NOTHING] * 10)
    held = {name: f"{sum(inside(one, name))} of {one['finished']}" for name in SAMPLED}
    own = "own" in one
    return (
        one["name"],
        *_estimate(one, "reward"),
        held["reward"],
        *_estimate(one, "kl"),
        held["kl"],
        held["objective"],
        figure(fmean(_distances(one)), 4),
        figure(fmean(one["own"]), 4) if own else NOTHING,
        figure(fmean(one["apart"]), 4) if own else NOTHING,
    )


def _estimate(one: Mapping[str, Any], name: str) -> tuple[str, str]:
    """Return the seeds' mean estimate and what pi* has, in words."""
    found = [seed[name] for seed in one["sampled"]]
    return figure(fmean(each["mean"] for each in found), 3), figure(fmean(each["best"] for each in found), 3)


def _distances(one: Mapping[str, Any]) -> list[float]:
    return [standing["total_variation"] for standing in one["averaged"]]
