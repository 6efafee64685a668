"""Pictures of `textrl bench text-feedback`: true score and objective against steps, and against presses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from textrl.bench import drawing
from textrl.bench.measures import mean_band
from textrl.bench.text_feedback_arms import PLAIN, PLAIN_MODEL
from textrl.bench.text_feedback_rows import Result, scaled

Rows = Sequence[Mapping[str, Any]]
Found = Mapping[str, Sequence[Result]]

_SCORE, _GAP = "true score (0: prior, 1: best policy)", "share of the objective's gap closed"
#: Chart -> the arms that it shows.
_CHARTS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "simultaneous": (
        "Taught while training, 300 presses",
        (PLAIN, "techniques/sim-ab", "techniques/sim-ab-everywhere", "techniques/sim-ab-fading",
         "techniques/sim-ab-window-everywhere", "techniques/sim-cs", "techniques/sim-qa",
         "techniques/sim-rs"),
    ),
    "sequential": (
        "Taught before the training, 300 presses",
        (PLAIN, "techniques/seq-ab", "techniques/seq-cs", "techniques/seq-qa", "techniques/seq-qp",
         "techniques/seq-rs"),
    ),
    "rewards": (
        "Paid by a reward model, or by nothing",
        (PLAIN_MODEL, "rewards/sim-ab-model", "rewards/seq-ab-model", "rewards/seq-qa-model",
         "rewards/seq-rs-model", "rewards/sim-ab-none", "rewards/seq-rs-none"),
    ),
    "delays": (
        "Delays: right and wrong (action biasing, taught while training)",
        (PLAIN, "techniques/sim-ab", "delays/sim-ab-late", "delays/sim-ab-later",
         "delays/sim-ab-later-told"),
    ),
    "readers": (
        "Readers (action biasing, taught while training)",
        (PLAIN, "techniques/sim-ab", "readers/sim-ab-reference", "readers/sim-ab-mistake10",
         "readers/sim-ab-late", "readers/sim-ab-adversarial"),
    ),
}  # fmt: skip
_SHORT = {
    "ab": "action biasing", "cs": "control sharing", "qa": "Q augmentation, advantage",
    "qp": "Q augmentation, potential", "rs": "reward shaping",
}  # fmt: skip
#: Who was taught when -> chart against presses.
_PRESSES = {"sim": "presses-simultaneous", "seq": "presses-sequential"}


def pictures(rows: Rows, found: Found) -> dict[str, str]:
    """Return file stem -> SVG.

    Args:
        rows: Those of results.json.
        found: Arm's key -> results of its seeds.
    """
    labels = {one["key"]: one["label"] for one in rows}
    drawn: dict[str, str] = {}
    for stem, (title, keys) in _CHARTS.items():
        chosen = [key for key in keys if found.get(key)]
        own = keys[-1].partition("/")[0] + "/"  # the others are there for comparison
        if any(key.startswith(own) and key != PLAIN for key in chosen):
            drawn[f"text-feedback-{stem}"] = _curves(title, _SCORE, chosen, labels, found, _scores)
    for stem in ("simultaneous", "sequential"):
        if f"text-feedback-{stem}" in drawn:
            title, keys = _CHARTS[stem]
            chosen = [key for key in keys if found.get(key)]
            drawn[f"text-feedback-{stem}-gap"] = _curves(title, _GAP, chosen, labels, found, _gaps)
    for mode, stem in _PRESSES.items():
        for key, more, label in (("mean", "", _SCORE), ("closed_mean", "-gap", _GAP)):
            drawn[f"text-feedback-{stem}{more}"] = _against_presses(
                rows, mode, key, f"{label}, mean of the run"
            )
    return {stem: picture for stem, picture in drawn.items() if picture}


def _scores(result: Result) -> list[float]:
    return scaled(result, "score")


def _gaps(result: Result) -> list[float]:
    return [point["closed"] for point in result["curve"]]


def _curves(
    title: str,
    y_label: str,
    keys: Sequence[str],
    labels: Mapping[str, str],
    found: Found,
    of: Callable[[Result], list[float]],
) -> str:
    lines = []
    for key in keys:
        steps = [point["steps"] for point in found[key][0]["curve"]]
        mean, low, high = mean_band(np.array([of(result) for result in found[key]]))
        lines.append(drawing.Curve(labels[key], steps, mean, low, high))
    return drawing.chart(title, lines, x_label="environment steps (words)", y_label=y_label)


def _against_presses(rows: Rows, mode: str, key: str, y_label: str) -> str:
    """Draw a figure of the run against the presses that were given."""
    lines = []
    for technique, name in _SHORT.items():
        usual = f"techniques/{mode}-{technique}"
        chosen = [
            one
            for one in rows
            if (one["mode"], one["technique"]) == (mode, technique) and one[key] is not None
            if one["part"] == "presses" or one["key"] == usual
        ]
        if len(chosen) < 2:
            continue
        chosen.sort(key=lambda one: float(one["presses"]["mean"]))
        lines.append(_line(name, chosen, key))
    plain = next((one for one in rows if one["key"] == PLAIN and one[key] is not None), None)
    if not lines or plain is None:
        return ""
    ends = [min(min(line.x) for line in lines), max(max(line.x) for line in lines)]
    lines.insert(0, drawing.Curve(plain["label"], ends, [plain[key]["mean"]] * 2))
    when = "while training" if mode == "sim" else "before the training"
    return drawing.chart(
        f"What presses are worth, given {when}", lines, x_label="presses", y_label=y_label,
        log_x=ends[1] > 50 * ends[0],
    )  # fmt: skip


def _line(label: str, rows: Rows, key: str) -> drawing.Curve:
    edges = [(one[key]["lo"], one[key]["hi"]) for one in rows]
    known = all(low is not None for low, _ in edges)
    return drawing.Curve(
        label,
        [one["presses"]["mean"] for one in rows],
        [one[key]["mean"] for one in rows],
        [low for low, _ in edges] if known else (),
        [high for _, high in edges] if known else (),
    )
