"""What a config puts beside a learner of tokens: a source that rates them, a person who reads and presses.

The sections are ``advice:`` (`TextGuidanceSettings`) and ``human:`` (`ReaderSettings`). Both name a source of
``sources:``; one that also pays rewards is built once and serves all roles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textrl.advice import check_accepts
from textrl.advice.text import TextGuidance, TextGuidanceSettings
from textrl.errors import UserError
from textrl.pipelines.guided import Where, check_takes_person, find_source, make_feedback
from textrl.registry import Registry
from textrl.rewards import RewardSum
from textrl.settings import build
from textrl.specs import LearnerSpec
from textrl.tamer.text.human import TextHuman, TextHumanSettings


@dataclass(frozen=True)
class ReaderSettings:
    """A person who reads what a learner of tokens writes.

    Attributes:
        source: Name of the source that learns from the person.
        feedback: ``use`` names the registered feedback; all other keys are its settings.
        session: How texts appear on the screen, how many of them, and in which iterations training is on.
    """

    source: str
    feedback: Mapping[str, Any]
    session: TextHumanSettings = field(default_factory=TextHumanSettings)


def build_text_beside(
    spec: LearnerSpec,
    rewards: RewardSum,
    *,
    sources: Mapping[str, Mapping[str, Any] | None],
    advice: Mapping[str, Any] | None,
    human: Mapping[str, Any] | None,
    registry: Registry,
    where: Where,
    seed: int,
    log: Path | None = None,
) -> dict[str, Any]:
    """Build guidance and person from the sections of a config.

    Args:
        spec: The learner, which must be able to take the technique.
        rewards: Sources that pay, which are built already.
        sources: Section ``sources:``.
        advice: Section ``advice:``, or None.
        human: Section ``human:``, or None.
        registry: Where sources and feedback are looked up.
        where: Tells the place of a dotted key.
        seed: Of the guidance.
        log: Where the person's events are recorded for replay.

    Returns:
        The learner's keyword arguments ``guidance`` and ``human``, where they exist.

    Raises:
        UserError: When a section is wrong, a source is missing or rates no tokens, or the learner cannot
            take the technique or a person.
    """
    paying: dict[str, Any] = {source.name: source.reward for source in rewards.sources}

    def rater(name: str, key: str) -> Any:
        if name not in paying:
            paying[name] = find_source(name, sources, registry, where, key)
        if not hasattr(paying[name], "bind_text"):
            raise UserError(
                f"{where(key)}: the source '{name}' rates no tokens; name one such as 'tamer_text'."
            )
        return paying[name]

    given: dict[str, Any] = {}
    if advice is not None:
        combined = build(TextGuidanceSettings, advice, where=where, prefix="advice")
        check_accepts(spec, combined.technique)
        source = rater(combined.source, "advice.source")
        given["guidance"] = TextGuidance(combined, source, seed=seed)
    if human is not None:
        person = build(ReaderSettings, human, where=where, prefix="human")
        check_takes_person(spec)
        feedback = make_feedback(person.feedback, registry, where)
        source = rater(person.source, "human.source")
        given["human"] = TextHuman(feedback, source, person.session, log=log)
    return given
