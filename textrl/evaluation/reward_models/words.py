"""What the figures say, in sentences: for the page's head, and for a terminal.

Every finding states its threshold, so that a reader can disagree with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from textrl.report.text import num, percent

Found = Mapping[str, Any]


@dataclass(frozen=True)
class Finding:
    """Something that a reader should know before using the model.

    Attributes:
        level: ``alarm`` where the model should not be trusted as it is, ``look`` where it may be fine.
        title: In a few words.
        text: With its figures.
        threshold: When it is said.
    """

    level: Literal["alarm", "look"]
    title: str
    text: str
    threshold: str


def share(figure: Found | None, digits: int = 1) -> str:
    """Return ``70.5 % [67.8, 73.1]`` for a share, or a dash."""
    if figure is None or figure["value"] is None:
        return "\u2013"
    if figure["lo"] is None:
        return percent(figure["value"], digits=digits)
    low, high = (num(100 * figure[end], digits=digits) for end in ("lo", "hi"))
    return f"{percent(figure['value'], digits=digits)} [{low}, {high}]"


def points(figure: Found) -> str:
    """Return ``+3.2 [+0.5, +5.8] points`` for a difference of shares."""
    if figure["value"] is None:
        return "\u2013"
    value = num(100 * figure["value"], signed=True, digits=1)
    if figure["lo"] is None:
        return f"{value} points"
    ends = ", ".join(num(100 * figure[end], signed=True, digits=1) for end in ("lo", "hi"))
    return f"{value} [{ends}] points"


def headline(found: Found) -> str:
    """Return what came out, in one or two sentences."""
    data, people = found["data"], found["ceiling"]
    text = (
        f"{found['model']['name']} puts {share(found['accuracy'])} of {data['decided']:,} pairs in the order "
        f"that people gave them."
    )
    if people is not None and people["human"]["value"] is not None:
        text += f" One person agrees with the others on {share(people['human'])}."
    return text


def findings(found: Found) -> list[Finding]:
    """Return everything worth a warning, the worst first."""
    every = [
        *_accuracy(found),
        *_length(found),
        *_shortcuts(found["shortcuts"]),
        *_calibration(found["calibration"]),
        *_scores(found),
        *_groups(found["by"]),
        *_data(found),
    ]
    return sorted(every, key=lambda finding: finding.level != "alarm")


def _accuracy(found: Found) -> list[Finding]:
    accuracy, people = found["accuracy"], found["ceiling"]
    out = []
    if accuracy["lo"] is not None and accuracy["lo"] <= 0.5:
        out.append(
            Finding(
                "alarm",
                "No better than chance",
                f"The interval of the accuracy, {share(accuracy)}, holds 50 %.",
                "the interval's lower end is at most 50 %",
            )
        )
    human = people["human"] if people is not None else None
    if human is not None and human["lo"] is not None and people["model"]["lo"] > human["hi"]:
        out.append(
            Finding(
                "look",
                "Above a single person",
                f"{share(people['model'])} against {share(human)} for one person: scores average over "
                "people, so this is possible; check that the model has not seen these texts.",
                "the intervals of model and person do not meet, the model's above",
            )
        )
    return out


def _length(found: Found) -> list[Finding]:
    length, accuracy = found["length"], found["accuracy"]["value"]
    alone, balanced = length["length_alone"]["value"], length["balanced"]
    if alone is None:
        return []
    best, rule = max(alone, 1 - alone), "longer" if alone >= 0.5 else "shorter"
    out = []
    if best >= accuracy:
        out.append(
            Finding(
                "alarm",
                f"'{rule} is better' does as well",
                f"That rule alone orders {percent(best, digits=1)} of the pairs, the model "
                f"{percent(accuracy, digits=1)}.",
                "length alone reaches the model's accuracy",
            )
        )
    if balanced["lo"] is not None and balanced["lo"] <= 0.5:
        out.append(
            Finding(
                "alarm",
                "Nothing left beside length",
                f"Where people prefer the longer and where they prefer the shorter text count the same, the "
                f"accuracy is {share(balanced)}; a model that goes by length alone has 50 %.",
                "the interval of the balanced accuracy holds 50 %",
            )
        )
    return out


def _shortcuts(rows: Sequence[Found]) -> list[Finding]:
    out = []
    for row in rows:
        excess = row["excess"]
        if excess["lo"] is None or abs(excess["value"]) < 0.05 or excess["lo"] * excess["hi"] <= 0:
            continue
        often = "more" if excess["value"] > 0 else "less"
        what = "the text shown earlier" if row["measure"] == "shown earlier" else f"more {row['measure']}"
        out.append(
            Finding(
                "look",
                f"Prefers {what} {often} often than people do",
                f"In {share(row['model'])} of {row['model']['n']:,.0f} pairs; people in "
                f"{share(row['people'])}: {points(excess)}.",
                "the model's share differs from people's by 5 points and more, beyond its interval",
            )
        )
    return out


def _calibration(found: Found | None) -> list[Finding]:
    if found is None or found["ece"] <= max(0.02, found["ece_chance_high"]):
        return []
    over = found["confidence"] > found["accuracy"]
    return [
        Finding(
            "look",
            "Overconfident" if over else "Gaps too small for the accuracy",
            f"Read as P = sigmoid(gap), its gaps promise {percent(found['confidence'], digits=1)} and keep "
            f"{percent(found['accuracy'], digits=1)}; multiplied by {num(found['scale'])} they fit best. "
            "Only a model trained as Bradley-Terry promises anything; the order of texts does not change.",
            "the calibration error is above 2 points and above what chance gives independent pairs in 95 of "
            "100 cases",
        )
    ]


def _scores(found: Found) -> list[Finding]:
    texts, different = found["data"]["texts"], found["scores"]["different"]
    if different >= 0.5 * texts:
        return []
    return [
        Finding(
            "look",
            "Many equal scores",
            f"{texts:,} texts got {different:,} different scores; equal ones count as half right.",
            "fewer than half of the texts have a score of their own",
        )
    ]


def _groups(by: Mapping[str, Sequence[Found]]) -> list[Finding]:
    out = []
    for column, rows in by.items():
        known = [row for row in rows if row["accuracy"]["lo"] is not None]
        if len(known) < 2:
            continue
        worst = min(known, key=lambda row: float(row["accuracy"]["value"]))
        best = max(known, key=lambda row: float(row["accuracy"]["value"]))
        if worst["accuracy"]["hi"] < best["accuracy"]["lo"]:
            out.append(
                Finding(
                    "look",
                    f"Uneven by {column}",
                    f"{best['name']}: {share(best['accuracy'])}; "
                    f"{worst['name']}: {share(worst['accuracy'])}.",
                    "the intervals of the best and the worst group do not meet",
                )
            )
    return out


def _data(found: Found) -> list[Finding]:
    data, out = found["data"], []
    if data["same_text"]:
        out.append(
            Finding(
                "look",
                "The same text on both sides",
                f"{data['same_text']:,} pairs compare a text with itself and count as half right where "
                "people did not tie them; run 'textrl data check' on the file.",
                "there is any such pair",
            )
        )
    if found["accuracy"]["lo"] is None:
        out.append(
            Finding(
                "look",
                "No interval",
                "All pairs belong to one prompt, which says nothing about other prompts.",
                "there is one cluster",
            )
        )
    return out


def summary(found: Found) -> str:
    """Return what a terminal shows."""
    data, scores, lines = found["data"], found["scores"], [headline(found), ""]
    rows: list[tuple[str, str]] = [("accuracy", share(found["accuracy"]))]
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


def ties(data: Found) -> str:
    """Say what became of ties."""
    least = f" or lie less than {data['least_margin']:g} apart" if data["least_margin"] else ""
    return (
        f"{data['ties']:,} of {data['pairs']:,} pairs tie{least} and count in no accuracy; equal scores "
        "count as half right. Intervals: 95 %."
    )


def members_and_others(found: Found) -> list[Found]:
    """Return an ensemble's members and the scorers beside it."""
    return [*found["model"]["members"], *found["beside"]]


def margin_name(one: Found, kind: str | None) -> str:
    """Name a range of margins."""
    what = {"rating": "ratings apart by", "margin": "margin", "rank": "ranks apart by"}.get(
        str(kind), "margin"
    )
    if one["low"] == one["high"]:
        return f"{what} {one['low']:g}"
    return f"{what} {num(one['low'], digits=1)} to {num(one['high'], digits=1)}"
