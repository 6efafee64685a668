"""Pictures of the study: maps of H and Q, learning curves, and how much the advice weighs over time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textrl.bench import drawing
from textrl.bench.measures import mean_band

Floats = NDArray[np.float64]
Rows = Sequence[Mapping[str, Any]]
Found = Mapping[str, Sequence[Mapping[str, Any]]]

_ACTIONS = ("left", "none", "right", "undecided")
#: An action is the best one where it leads by more than this share of the range of all values: where
#: nothing was learnt, rounding would decide.
_LEAD = 1e-3
#: Episodes that a point of a curve is the mean of.
_SMOOTH = 10
#: Arms whose curves are drawn, beside SARSA alone; all of them on one chart could not be told apart.
_DRAWN = (
    "action_biasing-100", "control_sharing-1", "q_augmentation-10", "reward_shaping-1", "reward_shaping-10",
    "reward_shaping-100",
)  # fmt: skip
_BOTH = ("action_biasing", "control_sharing")
#: Charts of the simultaneous part: techniques, and what is done with them.
_GROUPS = {
    "schedules": (_BOTH, ("early", "after")),
    "trainers": (_BOTH, ("early", "noisy", "adversarial")),
    "delays": (_BOTH[:1], ("early", "late", "later", "late_matched", "later_matched")),
}


def pictures(rows: Rows, found: Found) -> dict[str, str]:
    """Return file stem -> SVG; a stem begins with its part's name.

    Args:
        rows: Those of results.json.
        found: Arm's key -> results of its seeds.
    """
    drawn: dict[str, str] = {}
    maps = {key: results[0]["maps"] for key, results in found.items() if results and results[0]["maps"]}
    trained = [row for row in rows if row["part"] == "h-models"]
    for row in trained or [row for row in rows if row["name"] == "h_alone"]:
        name = row["h_model"] or row["name"]
        panels = _panels(maps.get(_key(row)), "h", f"H '{name}'")
        drawn[f"{row['part']}-h-{name}"] = _map(f"H model '{name}' over Mountain Car's states", panels)
    drawn |= dict(_q_maps(rows, maps)) | dict(_all_curves(rows, found))
    drawn["simultaneous-beta"] = _betas(rows, found)
    return {stem: picture for stem, picture in drawn.items() if picture}


def _key(row: Mapping[str, Any]) -> str:
    return f"{row['part']}/{row['name']}" + (f"/{row['h_model']}" if row["h_model"] else "")


def _map(title: str, panels: Sequence[drawing.Map]) -> str:
    return drawing.maps(title, panels, x_label="position, m", y_label="velocity, m/step")


def _panels(maps: Mapping[str, Any] | None, which: str, name: str) -> list[drawing.Map]:
    """Return the value of the best action, and which it is."""
    if maps is None or which not in maps:
        return []
    values = np.asarray(maps[which])
    x, y = tuple(maps["x"]), tuple(maps["y"])
    return [
        drawing.Map(f"{name}: max over actions", values.max(axis=-1).tolist(), x, y),
        drawing.Map(f"{name}: greedy action", best_actions(values).tolist(), x, y, _ACTIONS),
    ]


def best_actions(values: Floats) -> NDArray[np.int64]:
    """Return which of three actions is the best in each state, 3 where none is.

    Args:
        values: (..., 3).
    """
    ordered = np.sort(values, axis=-1)
    leads = ordered[..., -1] - ordered[..., -2] > _LEAD * (values.max() - values.min())
    chosen: NDArray[np.int64] = np.where(leads, values.argmax(axis=-1), 3)
    return chosen


def _q_maps(rows: Rows, maps: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield Q after training alone and with action biasing, seed 0, and H beside it where it was learnt."""
    for part, biased in (("sequential", "action_biasing-100"), ("simultaneous", "action_biasing-early")):
        panels: list[drawing.Map] = []
        chosen = [row for row in rows if row["part"] == part and row["name"] in ("alone", biased)]
        for row in chosen[:2]:
            what = "alone" if row["name"] == "alone" else "with action biasing"
            panels += _panels(maps.get(_key(row)), "q", f"Q, {what}")
            if part == "simultaneous" and row["name"] == biased:
                panels += _panels(maps.get(_key(row)), "h", "H, taught meanwhile")
        if panels:
            yield f"{part}-q", _map(f"Q after {part} training, seed 0", panels)


def _all_curves(rows: Rows, found: Found) -> Iterator[tuple[str, str]]:
    """Yield the learning curves."""
    sequential = [row for row in rows if row["part"] == "sequential" and row["name"] in ("alone", *_DRAWN)]
    for model in dict.fromkeys(row["h_model"] for row in sequential if row["h_model"]):
        chosen = [row for row in sequential if row["h_model"] in (None, model)]
        yield f"sequential-curves-{model}", _curves(f"Sequential, H model '{model}'", chosen, found)
    for group, (techniques, variants) in _GROUPS.items():
        names = {"alone"} | {f"{technique}-{variant}" for technique in techniques for variant in variants}
        chosen = [row for row in rows if row["part"] == "simultaneous" and row["name"] in names]
        yield f"simultaneous-curves-{group}", _curves(f"Simultaneous: {group}", chosen, found)
    chosen = [row for row in rows if row["part"] == "cart-pole"]
    yield "cart-pole-curves", _curves("Simultaneous, Cart Pole", chosen, found)


def _curves(title: str, rows: Rows, found: Found) -> str:
    lines = []
    for row in rows:
        runs = [np.asarray(result["curve"])[:, 1] for result in found[_key(row)] if result["curve"]]
        if runs:
            mean, low, high = mean_band(_smoothed(np.stack(runs)))
            at = list(range(1, len(mean) + 1))
            lines.append(drawing.Curve(row["label"], at, mean, low, high))
    return drawing.chart(title, lines, x_label="episode", y_label="return")


def _smoothed(returns: Floats) -> Floats:
    """Return (S, N) means of the last `_SMOOTH` episodes, of fewer at the beginning."""
    sums = np.concatenate([np.zeros((len(returns), 1)), np.cumsum(returns, axis=1)], axis=1)
    stops = np.arange(1, returns.shape[1] + 1)
    starts = np.maximum(stops - _SMOOTH, 0)
    means: Floats = (sums[:, stops] - sums[:, starts]) / (stops - starts)
    return means


def _betas(rows: Rows, found: Found) -> str:
    """Draw the mean weight that acted in each episode, as a share of its largest, beta or c_s."""
    lines = []
    shown = {"action_biasing-early", "action_biasing-after", "control_sharing-early", "action_biasing-100"}
    seen: set[str] = set()
    for row in rows:
        if row["name"] not in shown or row["name"] in seen:
            continue
        runs = [result["betas"] for result in found[_key(row)] if result["betas"]]
        if runs:
            seen.add(row["name"])  # the sequential weight is the same for all H models
            share = np.asarray(runs) / row["sections"]["advice"]["beta"]
            mean, low, high = mean_band(share)
            label = row["label"] if row["part"] == "simultaneous" else "sequential, beta x .98"
            lines.append(drawing.Curve(label, list(range(1, len(mean) + 1)), mean, low, high))
    return drawing.chart(
        "Weight of the advice over time", lines, x_label="episode", y_label="share of beta or c_s"
    )
