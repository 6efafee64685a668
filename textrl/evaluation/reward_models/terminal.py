"""What a terminal shows of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from textrl.evaluation.reward_models.words import (
    findings,
    headline,
    is_contradicted,
    margin_name,
    members_and_others,
    reach,
    share,
    ties,
)
from textrl.report.text import num, percent


def summary(found: Mapping[str, Any]) -> str:
    """Return what a terminal shows."""
    data, scores, lines = found["data"], found["scores"], [headline(found), ""]
    rows: list[tuple[str, str]] = [("accuracy", share(found["accuracy"]))]
    if is_contradicted(found):
        rows.append(("  the most that any scores could have", reach(found)))
    people = found["ceiling"]
    if people is not None:
        rows += [
            ("one person against the others", share(people["human"])),
            ("  the model on the same pairs", share(people["model"])),
            ("two persons against each other", share(people["between"])),
        ]
    kwise = found["kwise"]
    if kwise is not None:
        tau = kwise["tau_b"]
        ends = "" if tau["lo"] is None else f" [{num(tau['lo'], digits=2)}, {num(tau['hi'], digits=2)}]"
        rows += [
            ("Kendall's tau-b", f"{num(tau['value'], digits=2)}{ends}"),
            ("top 1", f"{share(kwise['top_1'])}, by chance {percent(kwise['top_1_by_chance'], digits=1)}"),
        ]
    for column, groups in found["by"].items():
        rows += [(f"{column} {one['name']}"[:44], share(one["accuracy"])) for one in groups]
    rows += [(margin_name(one, data["margin"]), share(one["accuracy"])) for one in found["margins"]]
    calibrated = found["calibration"]
    if calibrated is not None:
        noise = num(100 * calibrated["ece_chance"], digits=1)
        rows.append(("calibration error", f"{percent(calibrated['ece'], digits=1)}, by chance {noise}"))
    length = found["length"]
    rows += [
        ("longer text, alone", share(length["length_alone"])),
        ("accuracy, length balanced", share(length["balanced"])),
        ("accuracy, lengths alike", share(length["alike"])),
    ]
    rows += [(f"{one['name']}"[:44], share(one["accuracy"])) for one in members_and_others(found)]
    rows.append(("scores", f"mean {num(scores['all']['mean'])}, sd {num(scores['all']['sd'])}"))
    width = max(len(name) for name, _ in rows)
    lines += [f"{name:<{width}}  {value}" for name, value in rows]
    warned = findings(found)
    lines += ["", *(f"{one.level.upper()}: {one.title}. {one.text}" for one in warned)] if warned else []
    return "\n".join([*lines, "", *data["notes"], ties(data)])
