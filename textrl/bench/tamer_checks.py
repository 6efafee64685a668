"""What was to be reached in the study of TAMER+RL, and what the papers found, held against the rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from textrl.bench.tables import Check

#: The four techniques in the papers' order, with the weights of the study.
_ORDER = ("action_biasing-100", "control_sharing-1", "q_augmentation-10", "reward_shaping-10")


def reached(rows: Sequence[Mapping[str, Any]]) -> list[Check]:
    """Return every claim whose arms were run to the end.

    Args:
        rows: Those of results.json.
    """
    means = {
        (row["part"], row["name"], row["h_model"]): row["mean"]["mean"]
        for row in rows
        if row["mean"] is not None and row["finished"] == row["seeds"]
    }
    people = {row["h_model"]: row["h_person"] for row in rows if row["h_model"]}
    return [*_sequential(means, people), *_simultaneous(means)]


def _sequential(
    means: Mapping[tuple[str, str, str | None], float], people: Mapping[str, str | None]
) -> Iterator[Check]:
    for model, person in people.items():
        own = {name: mean for (part, name, h), mean in means.items() if part == "sequential" and h == model}
        greedy = {"H1": -106.7, "H2": -106.2}.get(person or "")
        if greedy is not None and "h_alone" in own:
            yield Check(
                f"{person} alone, greedy, within 3 of {greedy}",
                f"{own['h_alone']:.1f}",
                abs(own["h_alone"] - greedy) <= 3,
            )
        if person == "H2" and _ORDER[0] in own:
            yield Check(
                "action biasing 100 with H2 at least -109", f"{own[_ORDER[0]]:.1f}", own[_ORDER[0]] >= -109
            )
        if all(name in own for name in _ORDER):
            ab, cs, qa, rs = (own[name] for name in _ORDER)
            yield Check(
                f"AB(100) >= CS(1) > QA(10) > RS(10) with H model '{model}'",
                f"{ab:.1f}, {cs:.1f}, {qa:.1f}, {rs:.1f}",
                ab >= cs > qa > rs,
            )


def _simultaneous(means: Mapping[tuple[str, str, str | None], float]) -> Iterator[Check]:
    own = {name: mean for (part, name, _), mean in means.items() if part == "simultaneous"}
    if "action_biasing-early" in own:
        found = own["action_biasing-early"]
        yield Check("simultaneous action biasing at least -114", f"{found:.1f}", found >= -114)
    claims = (
        ("teaching from the start beats teaching after 20 episodes (action biasing)",
         "action_biasing-early", "action_biasing-after"),
        ("action biasing beats control sharing, both taught from the start",
         "action_biasing-early", "control_sharing-early"),
        ("action biasing with the noisy trainer beats SARSA alone", "action_biasing-noisy", "alone"),
        ("SARSA alone beats control sharing with the noisy trainer", "alone", "control_sharing-noisy"),
        ("a right delay model beats a wrong one (action biasing, presses .4 s later)",
         "action_biasing-late_matched", "action_biasing-late"),
        ("a right delay model beats a wrong one (action biasing, presses .6 s later)",
         "action_biasing-later_matched", "action_biasing-later"),
        ("a right delay model beats a wrong one (control sharing, presses .4 s later)",
         "control_sharing-late_matched", "control_sharing-late"),
        ("a right delay model beats a wrong one (control sharing, presses .6 s later)",
         "control_sharing-later_matched", "control_sharing-later"),
    )  # fmt: skip
    for claim, better, worse in claims:
        if better in own and worse in own:
            yield Check(claim, f"{own[better]:.1f} and {own[worse]:.1f}", own[better] > own[worse])
