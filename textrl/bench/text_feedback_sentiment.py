"""The part ``sentiment`` of `textrl bench text-feedback`: its agents, table, picture, and what holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from textrl.bench import drawing
from textrl.bench import text_feedback_language as language
from textrl.bench.jobs import Job
from textrl.bench.measures import Summary, mean_band, summarise
from textrl.bench.tables import NOTHING, Check, Table, figure, with_interval
from textrl.bench.text_feedback_rows import crossing

PART = "sentiment"
SEEDS = 3
PRESSES = 300
#: A point of a curve is the mean of so many iterations, of fewer at the beginning: 48 texts scatter by .06.
SMOOTH = 4
ITERATIONS, QUICK_ITERATIONS = 16, 2
#: CPU seconds of an iteration, for the time left.
_COST_S = 12.0
SETTINGS: Mapping[str, Any] = {
    "policy": "smollm2-135m",
    "precision": "fp32",
    "first_trainable": 24,
    "episodes_per_iteration": 48,
    "minibatches": 6,
    "micro_batch_size": 24,
    "learning_rate": 3e-4,
    "value_learning_rate": 3e-4,
    "warmup_iterations": 0,
    "ema_decay": 0.0,
}
ENV: Mapping[str, Any] = {"id": "TextRL/Sentiment-v0", "difficulty": "small"}
QUICK_ENV: Mapping[str, Any] = {"id": "TextRL/Sentiment-v0", "difficulty": "tiny"}
_QUICK = {
    "policy": "task-sentiment-tiny", "first_trainable": 0, "episodes_per_iteration": 8, "minibatches": 1,
    "micro_batch_size": 8,
}  # fmt: skip
BETA = 0.05
#: A clear word of VADER's changes the score of a short text by .3 to .5; what changes it less goes unsaid.
READER: Mapping[str, Any] = {
    "use": "simulated_text", "preset": "stoc", "truth": "classifier", "classifier": {"use": "sentiment"},
    "scale": 4.0, "dead_zone": 0.2,
}  # fmt: skip
#: These, `ADVICE` and the speed below were tried on seed 100 after ``importance``, half a second a word and 4
#: nats had been seen on seed 0; the two were not compared on equal seeds.
H: Mapping[str, Any] = {"use": "tamer_text", "alpha": 0.1, "loss": "window"}
STEP_S = 1.0
ADVICE: Mapping[str, Any] = {
    "technique": "action_biasing", "source": "h", "beta": 6.0, "eligibility": {},
}  # fmt: skip
_NOTE = (
    "True score: VADER's, from -1 to 1, of continuations of 16 tokens; mean of the run: of all that "
    "was written while training; end: 128 continuations afterwards, alone: without advice. KL: from SmolLM2, "
    "nats a continuation, in the last iteration. Steps to score: tokens until the moving mean of "
    f"{SMOOTH} iterations is what PPO-ptx alone ends with, divided by those that it needs itself (seed by "
    "seed)."
)


@dataclass(frozen=True)
class Arm:
    """One agent.

    Attributes:
        name: Unique in the part.
        label: In tables.
        spec: Of its trial, but for the seed and what all share.
    """

    name: str
    label: str
    spec: Mapping[str, Any] = field(default_factory=dict)

    def job(self, seed: int, quick: bool) -> Job:
        """Return the job of one seed."""
        iterations = QUICK_ITERATIONS if quick else ITERATIONS
        spec = {
            "seed": seed,
            "iterations": iterations,
            "episodes": 16 if quick else 128,
            "env": dict(QUICK_ENV if quick else ENV),
            "sources": {"kl": {"use": "kl"}, **self.spec.get("sources", {})},
            "rewards": {"kl": BETA},
            "settings": {**SETTINGS, **(_QUICK if quick else {})},
            "revision": language.REVISION,
            **{key: value for key, value in self.spec.items() if key != "sources"},
        }
        cost = 1.0 if quick else _COST_S * iterations
        return Job(f"{PART}/{self.name} seed {seed}", language.TARGET, spec, {}, cost)


def arms() -> tuple[Arm, ...]:
    """Return PPO-ptx alone and with a reader who teaches from the start."""
    session = {"step_s": STEP_S, "max_presses": PRESSES, "shown_per_iteration": 48}
    human = {"source": "h", "feedback": dict(READER), "session": session}
    taught = {"sources": {"h": dict(H)}, "advice": dict(ADVICE), "human": human}
    return (
        Arm("plain", "PPO-ptx alone"),
        Arm("sim-ab", f"action biasing, taught while training, {PRESSES} presses", taught),
    )


def smoothed(curve: Sequence[Mapping[str, float]]) -> list[float]:
    """Return the true score of each iteration as the mean of the last `SMOOTH` ones."""
    scores = [point["score"] for point in curve]
    return [float(np.mean(scores[max(0, at + 1 - SMOOTH) : at + 1])) for at in range(len(scores))]


def rows(found: Mapping[str, Mapping[int, Mapping[str, Any]]], seeds: int) -> list[dict[str, Any]]:
    """Return everything about the agents as plain data; its keys are those of results.json.

    Args:
        found: Name of an arm -> seed -> result.
        seeds: How many there are to be.
    """
    return [_row(arm, found.get(arm.name, {}), found.get("plain", {}), seeds) for arm in arms()]


def _row(
    arm: Arm, results: Mapping[int, Mapping[str, Any]], rivals: Mapping[int, Mapping[str, Any]], seeds: int
) -> dict[str, Any]:
    def over_seeds(values: list[float | None]) -> dict[str, Any] | None:
        known = [value for value in values if value is not None]
        return asdict(summarise(known)) if known else None

    ran = list(results.values())
    ratios = [_sooner(results[seed], rivals[seed]) for seed in results if seed in rivals]
    known = [ratio for ratio in ratios if ratio is not None]
    return {
        "part": PART,
        "name": arm.name,
        "key": f"{PART}/{arm.name}",
        "label": arm.label,
        "seeds": seeds,
        "finished": len(ran),
        "start": over_seeds([one["start"] for one in ran]),
        "mean": over_seeds([float(np.mean([point["score"] for point in one["curve"]])) for one in ran]),
        "end": over_seeds([one["end"] for one in ran]),
        "alone": over_seeds([one["alone"] for one in ran]),
        "kl": over_seeds([one["curve"][-1]["kl"] for one in ran]),
        "presses": over_seeds([one["presses"] for one in ran]),
        "texts": over_seeds([one["texts"] for one in ran]),
        "minutes": over_seeds([None if one["seconds"] is None else one["seconds"] / 60 for one in ran]),
        "steps": over_seeds([one["curve"][-1]["steps"] for one in ran]),
        "cpu_s": over_seeds([one["cpu_s"] for one in ran]),
        "to_score": {
            "reached": len(known),
            "compared": len(ratios),
            "ratio": asdict(summarise(known)) if known else None,
        },
        "favourites": [one["favourites"] for one in ran],
    }


def _sooner(result: Mapping[str, Any], rival: Mapping[str, Any]) -> float | None:
    """Return the share of a rival's steps after which the score is what the rival ends with, or None."""
    theirs, ours = smoothed(rival["curve"]), smoothed(result["curve"])
    level = theirs[-1]
    needed = crossing([point["steps"] for point in rival["curve"]], theirs, level)
    found = crossing([point["steps"] for point in result["curve"]], ours, level)
    return None if needed is None or found is None else found / needed


def table(shown: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> Table:
    """Return the table from rows of results.json."""
    columns = (
        "agent", "seeds", "tokens", "presses", "texts read", "true score, before", "mean of the run", "end",
        "alone", "KL", "steps to score",
    )  # fmt: skip
    title = "SmolLM2-135M goes on with a sentence (TextRL/Sentiment-v0)"
    return Table(title, columns, tuple(_cells(one) for one in shown), (*notes, _NOTE))


def _cells(one: Mapping[str, Any]) -> tuple[str, ...]:
    def of(key: str, digits: int, *, interval: bool = True) -> str:
        if one[key] is None:
            return NOTHING
        return with_interval(Summary(**one[key]), digits) if interval else figure(one[key]["mean"], digits)

    sooner = one["to_score"]
    reached = f"({sooner['reached']} of {sooner['compared']})"
    ratio = with_interval(Summary(**sooner["ratio"]), 2) if sooner["ratio"] else "never"
    return (
        one["label"],
        f"{one['finished']}/{one['seeds']}" if one["finished"] < one["seeds"] else str(one["seeds"]),
        of("steps", 0, interval=False),
        of("presses", 0, interval=False),
        of("texts", 0, interval=False),
        of("start", 2, interval=False),
        of("mean", 2),
        of("end", 2),
        of("alone", 2),
        of("kl", 1),
        f"{ratio} {reached}" if sooner["compared"] else NOTHING,
    )


def reached(shown: Sequence[Mapping[str, Any]]) -> list[Check]:
    """Return the figure to reach, where its arms were run to the end."""
    one = next((row for row in shown if row["name"] == "sim-ab"), None)
    if one is None or not one["finished"] or any(row["finished"] < row["seeds"] for row in shown):
        return []
    found = one["to_score"]
    every = found["reached"] == found["compared"] and found["ratio"] is not None
    claim = (
        "sentiment continuation, 300 presses of stoc: simultaneous action biasing reaches the true score of "
        "PPO-ptx alone with at most half of its environment steps"
    )
    return [Check(claim, _cells(one)[-1], bool(every and found["ratio"]["mean"] <= 0.5))]


def picture(found: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> str:
    """Return the true score against environment steps, an SVG, or nothing where nothing was run."""
    lines = []
    for arm in arms():
        ran = list(found.get(arm.name, {}).values())
        if not ran:
            continue
        steps = np.mean([[point["steps"] for point in one["curve"]] for one in ran], axis=0).tolist()
        lines.append(
            drawing.Curve(arm.label, steps, *mean_band(np.array([smoothed(one["curve"]) for one in ran])))
        )
    return drawing.chart(
        "Sentiment continuation with SmolLM2-135M", lines, x_label="environment steps (tokens)",
        y_label=f"true score, mean of {SMOOTH} iterations",
    )  # fmt: skip
