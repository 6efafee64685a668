"""From the trials of `textrl bench text-feedback` to figures over seeds, tables, and what holds.

Scores are shown on a scale on which the prior has 0 and the best policy 1; above 1 a policy pleases more
than the best one does, and pays for it in KL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from textrl.bench.measures import Summary, summarise
from textrl.bench.tables import NOTHING, Check, Table, figure, with_interval
from textrl.bench.text_feedback_arms import PLAIN, Arm

Result = Mapping[str, Any]
#: "At the end" is the mean of so many points of the curve; a single one scatters.
END = 3
TITLES = {
    "techniques": "The techniques, 300 presses of the reader 'stoc'",
    "presses": "Fewer and more presses",
    "rewards": "With a reward model, and without a reward",
    "delays": "Readers who are later than assumed",
    "readers": "Other readers",
    "credit": "What H learns by itself: two losses, three reading speeds, nothing trained",
}
_NOTES = (
    "Score: true score of what is written, 0 for the prior, 1 for the best policy; mean of the run, end: "
    f"last {END} points, alone: end, without advice. Gap: share of the objective's (score - beta KL) gap "
    "between prior and best policy at the end. KL: from the prior, nats a text, at the end.",
    "Steps to score: environment steps until the true score first is what the same learner without a reader "
    "ends with, divided by those that it needs itself, in the same world (reached in how many "
    "worlds); to gap: the same for the objective. Brackets: 95 % bootstrap interval of the mean over seeds.",
    "H: correlation of its ratings with the hidden lexicon.",
)


def scaled(result: Result, key: str) -> list[float]:
    """Return a curve's true score on the scale from prior to best policy."""
    low, high = result["optimum"]["prior_score"], result["optimum"]["best_score"]
    return [(point[key] - low) / (high - low) for point in result["curve"]]


def at_end(values: Sequence[float]) -> float:
    """Return what a curve ends with."""
    return float(np.mean(values[-END:]))


def crossing(steps: Sequence[float], values: Sequence[float], level: float) -> float | None:
    """Return at which step a curve first reaches a level, on straight lines between its points.

    Returns:
        None where it never does; the first step where it begins there.
    """
    for place, value in enumerate(values):
        if value >= level:
            if place == 0:
                return float(steps[0])
            before = values[place - 1]
            share = (level - before) / (value - before)
            return float(steps[place - 1] + share * (steps[place] - steps[place - 1]))
    return None


def row(arm: Arm, results: Mapping[int, Result], rivals: Mapping[int, Result], seeds: int) -> dict[str, Any]:
    """Return everything about an arm as plain data; its keys are those of results.json.

    Args:
        arm: The agent.
        results: Of its finished seeds.
        rivals: Of the agent that it is held against.
        seeds: How many there are to be.
    """
    ran = list(results.values())

    def over_seeds(of: Callable[[Result], float | None]) -> dict[str, Any] | None:
        values = [value for result in ran if (value := of(result)) is not None]
        return asdict(summarise(values)) if values else None

    return {
        "part": arm.part,
        "name": arm.name,
        "key": arm.key,
        "label": arm.label,
        "mode": arm.mode,
        "technique": arm.technique,
        "asked": arm.presses,
        "seeds": seeds,
        "finished": len(ran),
        "mean": over_seeds(lambda one: float(np.mean(scaled(one, "score")))),
        "end": over_seeds(lambda one: at_end(scaled(one, "score"))),
        "alone": over_seeds(lambda one: at_end(scaled(one, "score_without"))),
        "closed": over_seeds(lambda one: at_end([point["closed"] for point in one["curve"]])),
        "closed_mean": over_seeds(lambda one: float(np.mean([point["closed"] for point in one["curve"]]))),
        "kl": over_seeds(lambda one: at_end([point["kl"] for point in one["curve"]])),
        "kl_policy": over_seeds(lambda one: float(np.mean([point["kl_policy"] for point in one["curve"]]))),
        "h": over_seeds(lambda one: None if one["h"] is None else one["h"]["correlation"]),
        "apart": over_seeds(lambda one: None if one["h"] is None else one["h"]["good"] - one["h"]["bad"]),
        "presses": over_seeds(lambda one: one["presses"]),
        "texts": over_seeds(lambda one: one["texts"]),
        "minutes": over_seeds(lambda one: None if one["seconds"] is None else one["seconds"] / 60),
        "agreement": over_seeds(lambda one: one["agreement"]),
        "cpu_s": over_seeds(lambda one: one["cpu_s"]),
        "to_score": _sooner(results, rivals, lambda one: scaled(one, "score")),
        "to_gap": _sooner(results, rivals, lambda one: [point["closed"] for point in one["curve"]]),
    }


def _sooner(
    results: Mapping[int, Result], rivals: Mapping[int, Result], of: Callable[[Result], list[float]]
) -> dict[str, Any]:
    """Return the share of a rival's steps that an agent needs to be where the rival ends.

    Returns:
        ``reached`` of ``compared`` worlds, and the ``ratio`` over those, or None.
    """
    ratios, compared = [], 0
    for seed, result in results.items():
        if seed not in rivals or len(result["curve"]) < 2:
            continue
        compared += 1
        rival = rivals[seed]
        level = at_end(of(rival))
        theirs = crossing([point["steps"] for point in rival["curve"]], of(rival), level)
        ours = crossing([point["steps"] for point in result["curve"]], of(result), level)
        if theirs and ours is not None:
            ratios.append(ours / theirs)
    ratio = asdict(summarise(ratios)) if ratios else None
    return {"reached": len(ratios), "compared": compared, "ratio": ratio}


def table(part: str, rows: Sequence[Mapping[str, Any]], notes: Sequence[str] = ()) -> Table:
    """Return the table of one part from rows of results.json."""
    if part == "credit":
        columns: tuple[str, ...] = ("loss, speed", "seeds", "presses", "minutes", "H", "good - bad", "score")
        cells = [_credit_cells(one) for one in rows]
    else:
        columns = (
            "agent", "seeds", "presses", "H", "score, mean of the run", "score, end", "alone", "KL", "gap",
            "steps to score", "steps to gap",
        )  # fmt: skip
        cells = [_cells(one) for one in rows]
    own: tuple[str, ...] = _NOTES if part == "techniques" else ()
    agreement = next((one["agreement"] for one in rows if "model-plain" in one["name"]), None)
    if agreement is not None:
        own = (
            f"Correlation of the reward model with the truth, on texts of the prior: {_of(agreement, 2)}.",
        )
    return Table(TITLES[part], columns, tuple(cells), (*notes, *own))


def _cells(one: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        one["label"],
        _seeds(one),
        NOTHING if one["presses"] is None else figure(one["presses"]["mean"], 0),
        _mean(one["h"], 2),
        _of(one["mean"], 2),
        _of(one["end"], 2),
        _mean(one["alone"], 2),
        _mean(one["kl"], 1),
        _of(one["closed"], 2),
        _ratio(one["to_score"]),
        _ratio(one["to_gap"]),
    )


def _credit_cells(one: Mapping[str, Any]) -> tuple[str, ...]:
    presses = NOTHING if one["presses"] is None else figure(one["presses"]["mean"], 0)
    return (
        one["label"], _seeds(one), presses, _mean(one["minutes"], 1), _of(one["h"], 2), _of(one["apart"], 2),
        _of(one["end"], 2),
    )  # fmt: skip


def _seeds(one: Mapping[str, Any]) -> str:
    return str(one["seeds"]) if one["finished"] == one["seeds"] else f"{one['finished']}/{one['seeds']}"


def _of(found: Mapping[str, Any] | None, digits: int) -> str:
    return with_interval(None if found is None else Summary(**found), digits)


def _mean(found: Mapping[str, Any] | None, digits: int) -> str:
    return NOTHING if found is None else figure(found["mean"], digits)


def _ratio(found: Mapping[str, Any]) -> str:
    if not found["compared"]:
        return NOTHING
    reached = f"({found['reached']} of {found['compared']})"
    return f"{_of(found['ratio'], 2)} {reached}" if found["ratio"] else f"never {reached}"


def reached(rows: Sequence[Mapping[str, Any]]) -> list[Check]:
    """Return every claim whose arms were run to the end."""
    done = {one["key"]: one for one in rows if one["finished"] == one["seeds"]}
    return [*_half(done), *_better(done)]


def _half(done: Mapping[str, Mapping[str, Any]]) -> Iterator[Check]:
    """The figure to reach, in these worlds."""
    claim = (
        "simultaneous action biasing{}, 300 presses of stoc: the true score of PPO-ptx alone with at most "
        "half of its environment steps"
    )
    for key, how in (
        ("sim-ab", ""),
        ("sim-ab-everywhere", " with one weight"),
        ("sim-ab-window", " (loss 'window')"),
        ("sim-ab-window-everywhere", " (loss 'window', one weight)"),
    ):
        one = done.get(f"techniques/{key}")
        if one is None or PLAIN not in done:
            continue
        found = one["to_score"]
        every = found["reached"] == found["compared"] and found["ratio"] is not None
        yield Check(claim.format(how), _ratio(found), bool(every and found["ratio"]["mean"] <= 0.5))


def _better(done: Mapping[str, Mapping[str, Any]]) -> Iterator[Check]:
    """Order of two arms by the mean true score of the run, or by what H knows."""
    claims = (
        ("simultaneous action biasing beats PPO-ptx alone", "techniques/sim-ab", PLAIN, "mean"),
        ("action biasing learns faster than control sharing (simultaneous)",
         "techniques/sim-ab", "techniques/sim-cs", "mean"),
        ("taught before the training, action biasing beats reward shaping",
         "techniques/seq-ab", "techniques/seq-rs", "mean"),
        ("more presses help: 1000 against 100 (action biasing, simultaneous)",
         "presses/sim-ab-1000", "presses/sim-ab-100", "mean"),
        ("with a reward model action biasing helps too",
         "rewards/sim-ab-model", "rewards/model-plain", "mean"),
        ("a right delay model beats a wrong one (reader 1 s later): what H knows",
         "delays/seq-ab-later-told", "delays/seq-ab-later", "h"),
        ("an adversarial reader costs: PPO-ptx alone is better", PLAIN, "readers/sim-ab-adversarial", "mean"),
    )  # fmt: skip
    for claim, better, worse, key in claims:
        if better in done and worse in done:
            high, low = done[better][key]["mean"], done[worse][key]["mean"]
            yield Check(claim, f"{high:.2f} and {low:.2f}", high > low)
