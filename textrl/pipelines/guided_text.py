"""What a config puts beside a learner of tokens: a source that rates them, a person who reads and presses.

The sections are ``advice:`` (`TextGuidanceSettings`) and ``human:`` (`ReaderSettings`). Both name a source of
``sources:``; one that also pays rewards is built once and serves all roles.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textrl.advice import check_accepts
from textrl.advice.text import TextGuidance, TextGuidanceSettings
from textrl.errors import UserError, at_place
from textrl.pipelines.guided import (
    Where,
    check_can_act,
    check_takes_person,
    find_source,
    make_feedback,
)
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
    for section in [name for name, value in (("advice", advice), ("human", human)) if value is not None]:
        with at_place(where, section):
            _check_reads_texts(spec, section)
    if advice is not None:
        combined = build(TextGuidanceSettings, advice, where=where, prefix="advice")
        with at_place(where, "advice.technique"):
            check_accepts(spec, combined.technique)
        source = rater(combined.source, "advice.source")
        given["guidance"] = TextGuidance(combined, source, seed=seed)
    if human is not None:
        person = build(ReaderSettings, human, where=where, prefix="human")
        with at_place(where, "human"):
            check_takes_person(spec)
        feedback = make_feedback(person.feedback, registry, where)
        source = rater(person.source, "human.source")
        given["human"] = TextHuman(feedback, source, person.session, log=log, name=person.source)
    if "guidance" in given:
        check_can_act(given["guidance"].settings, given["guidance"].source, human, where)
    return given


def _check_reads_texts(spec: LearnerSpec, section: str) -> None:
    """Refuse what rates tokens beside a learner that asks for ratings of an environment's few actions.

    A learner without any advice is told so by `check_accepts` and `check_takes_person`.

    Raises:
        UserError: Names the learner, what it takes, and the learner for texts.
    """
    learner = spec.load()
    taken = "guidance" if section == "advice" else "human"
    if taken not in inspect.signature(learner).parameters or getattr(learner, "advised_on_text", False):
        return
    if section == "human" and not getattr(learner, "takes_person", True):
        return
    what = "advice" if section == "advice" else "a person beside it"
    raise UserError(
        f"The learner '{spec.name}' takes {what} in control environments only, through a source such as "
        f"'tamer'; on text use 'ppo_ptx', or leave the section '{section}' out."
    )
