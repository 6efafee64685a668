"""What the figures say, in sentences: for the page, and for a terminal.

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
        *_contradictions(found),
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
        out.append(_chance(found))
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


def _chance(found: Found) -> Finding:
    """Say that the interval of the accuracy holds one half, and whether that is the model's fault."""
    accuracy, best = found["accuracy"], found["reachable"]["accuracy"]
    said = f"The interval of the accuracy, {share(accuracy)}, holds 50 %"
    if _at_best(found) or (is_contradicted(found) and best["lo"] <= 0.5):
        settle = ", or settle where they contradict each other" if is_contradicted(found) else ""
        return Finding(
            "look",
            "The data cannot tell it from chance",
            f"{said}, and so would that of the best scores there could be, {share(best)}. That says nothing "
            f"about the model; ask people about more prompts{settle}.",
            "the intervals of the accuracy and of the best accuracy in reach both hold 50 %",
        )
    limit = f", while the best scores would have {share(best)}" if is_contradicted(found) else ""
    return Finding(
        "alarm",
        "No better than chance",
        f"{said}{limit}.",
        "the interval's lower end is at most 50 %, unless people contradict each other so much that the best "
        "accuracy in reach has that too",
    )


def is_contradicted(found: Found) -> bool:
    """Whether no scores can have every pair right because of what people said."""
    return bool(found["reachable"]["contradicted_pairs"])


def _at_best(found: Found) -> bool:
    """Whether no scores would have more pairs right than the model has."""
    return bool(found["accuracy"]["value"] >= found["reachable"]["accuracy"]["value"] - 1e-9)


def _contradictions(found: Found) -> list[Finding]:
    if not is_contradicted(found):
        return []
    return [
        Finding(
            "look",
            "People contradict each other",
            f"{contradicted(found)} No scores can have more than {_most(found)} of all pairs right, so hold "
            "the accuracy against that and not against 100 %. Contradictions of one annotator are mistakes: "
            "'textrl data check' on the file finds them.",
            "there is any such pair",
        )
    ]


def contradicted(found: Found) -> str:
    """Say how many verdicts others speak against."""
    counts = found["reachable"]
    return (
        f"Other verdicts speak against {counts['contradicted_pairs']:,} of {found['data']['decided']:,} "
        f"decided pairs, in {counts['contradicted_prompts']:,} of {found['data']['prompts']:,} prompts: the "
        "same two texts are ranked the other way round, or in a circle (A over B over C over A)."
    )


def reach(found: Found) -> str:
    """Return the best accuracy that any scores could have."""
    return f"{'' if found['reachable']['exact'] else 'at most '}{_most(found)}"


def _most(found: Found) -> str:
    return percent(found["reachable"]["accuracy"]["value"], digits=1)


def _length(found: Found) -> list[Finding]:
    length, accuracy = found["length"], found["accuracy"]["value"]
    alone, balanced = length["length_alone"]["value"], length["balanced"]
    if alone is None:
        return []
    limit = found["reachable"]
    against, at_best = is_contradicted(found), _at_best(found)
    best, rule = max(alone, 1 - alone), "longer" if alone >= 0.5 else "shorter"
    out = []
    # Where people say both things equally often every rule has one half, and this one is nothing special.
    if best >= accuracy and not (against and limit["accuracy"]["value"] <= 0.5 + 1e-9):
        nothing = f" No scores order more than {_most(found)}." if against else ""
        out.append(
            Finding(
                "look" if against and at_best else "alarm",
                f"'{rule} is better' does as well",
                f"That rule alone orders {percent(best, digits=1)} of the pairs, the model "
                f"{percent(accuracy, digits=1)}.{nothing}",
                "length alone reaches the model's accuracy; an alarm where some scores would have more",
            )
        )
    cannot = against and (at_best or (limit["balanced"]["lo"] or 0.0) <= 0.5)
    if balanced["lo"] is not None and balanced["lo"] <= 0.5 and not cannot:
        out.append(
            Finding(
                "alarm",
                "Nothing left beside length",
                f"Where people prefer the longer and where they prefer the shorter text count the same, the "
                f"accuracy is {share(balanced)}; a model that goes by length alone has 50 %.",
                "the interval of the balanced accuracy holds 50 %, and people do not contradict each other "
                "so much that the best one in reach does too",
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
