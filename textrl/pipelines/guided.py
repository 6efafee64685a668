"""What a config puts beside a learner: a source that advises, how it is combined, a person who teaches it.

The sections are ``advice:`` (`GuidanceSettings`) and ``human:`` (`PersonSettings`). Both name a source of
``sources:``, which is built once and serves every role that refers to it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textrl.advice import Guidance, GuidanceSettings, check_accepts
from textrl.errors import UserError, at_place, at_setting, did_you_mean
from textrl.registry import Registry
from textrl.rewards import build_reward
from textrl.settings import build
from textrl.specs import LearnerSpec, RewardSpec
from textrl.tamer import Human, HumanSettings

Where = Callable[[str], str]


@dataclass(frozen=True)
class PersonSettings:
    """A person beside the learner.

    Attributes:
        source: Name of the source that learns from the person.
        feedback: ``use`` names the registered feedback; all other keys are its settings.
        session: How long a step is shown, and in which episodes training is on.
    """

    source: str
    feedback: Mapping[str, Any]
    session: HumanSettings = field(default_factory=HumanSettings)


@dataclass(frozen=True)
class Beside:
    """What a learner is given beside its environment, and the sources that have state of their own."""

    guidance: Guidance | None
    human: Human | None

    def arguments(self) -> dict[str, Any]:
        """Return the learner's keyword arguments; nothing where there is nothing."""
        given = {"guidance": self.guidance, "human": self.human}
        return {name: value for name, value in given.items() if value is not None}


def build_beside(
    spec: LearnerSpec,
    env: Any,
    *,
    sources: Mapping[str, Mapping[str, Any] | None],
    advice: Mapping[str, Any] | None,
    human: Mapping[str, Any] | None,
    registry: Registry,
    where: Where,
    seed: int,
    log: Path | None = None,
) -> Beside:
    """Build guidance and person from the sections of a config.

    Args:
        spec: The learner, which must be able to take the technique.
        env: One Gymnasium environment.
        sources: Section ``sources:``.
        advice: Section ``advice:``, or None.
        human: Section ``human:``, or None.
        registry: Where sources and feedback are looked up.
        where: Tells the place of a dotted key.
        seed: Of the guidance's own generator.
        log: Where the person's events are recorded for replay.

    Raises:
        UserError: When a section is wrong, a source is missing or gives no advice, or the learner cannot
            take the technique or a person.
    """
    if advice is None and human is None:
        return Beside(None, None)
    combined = None if advice is None else build(GuidanceSettings, advice, where=where, prefix="advice")
    person = None if human is None else build(PersonSettings, human, where=where, prefix="human")
    if combined is not None:
        with at_place(where, "advice.technique"):
            check_accepts(spec, combined.technique)
    if person is not None:
        with at_place(where, "human"):
            check_takes_person(spec)
    named = {} if combined is None else {combined.source: "advice.source"}
    named |= {} if person is None else {person.source: "human.source"}
    built = {name: find_source(name, sources, registry, where, key) for name, key in named.items()}
    for name, source in built.items():
        if not hasattr(source, "bind"):
            raise UserError(
                f"{where(f'sources.{name}')}: the source '{name}' rates no actions; use one such as 'tamer'."
            )
        with at_place(where, f"sources.{name}"), at_setting(f"sources.{name}"):
            source.bind(env)
    guidance = None
    if combined is not None:
        space, count = env.observation_space, int(env.action_space.n)
        check_can_act(combined, built[combined.source], human, where)
        with at_place(where, "advice"):
            guidance = Guidance(combined, built[combined.source], space, count, seed=seed)
    someone = None
    if person is not None:
        feedback = make_feedback(person.feedback, registry, where)
        if hasattr(feedback, "check"):
            with at_place(where, "human.feedback"), at_setting("human.feedback"):
                feedback.check(env)
        someone = Human(feedback, built[person.source].bind(env), person.session, log=log)
    return Beside(guidance, someone)


def check_can_act(advice: Any, source: Any, human: Mapping[str, Any] | None, where: Where) -> None:
    """Refuse advice of which it is clear beforehand that it never does anything.

    Args:
        advice: The section's settings: `GuidanceSettings`, or those on text.
        source: Rates the actions; it may say whether it was ``taught`` before.
        human: Section ``human:``, or None.
        where: Tells the place of a dotted key.

    Raises:
        UserError: When its weight follows a person who is not there, or nobody teaches its source.
    """
    name = advice.source
    if human is None and advice.eligibility is not None:
        raise UserError(
            f"{where('advice.eligibility')}: 'advice.eligibility' lets advice act where a person trains, and "
            "there is no section 'human', so it would never act; add one, or leave eligibility out."
        )
    if not getattr(source, "taught", True) and (human or {}).get("source") != name:
        given = getattr(getattr(source, "settings", None), "weights", None) is not None
        lacks = "its 'weights' hold nothing that was taught" if given else "it has no 'weights'"
        raise UserError(
            f"{where('advice.source')}: nobody teaches the source '{name}' and {lacks}, so its "
            f"advice would be 0 everywhere; add a section 'human' with source: {name}, or give "
            f"sources.{name}.weights a head that was taught."
        )


def check_takes_person(spec: LearnerSpec) -> None:
    """Refuse a person beside a learner that has no place for one.

    Raises:
        UserError: Names the learner and those that do.
    """
    learner = spec.load()
    takes = "human" in inspect.signature(learner).parameters
    if not takes or not getattr(learner, "takes_person", True):
        raise UserError(
            f"The learner '{spec.name}' has no person beside it; use 'sarsa' or 'tamer', on text 'ppo_ptx', "
            "or give it a source that was taught before."
        )


def find_source(
    name: str,
    sources: Mapping[str, Mapping[str, Any] | None],
    registry: Registry,
    where: Where,
    key: str,
) -> Any:
    """Build a source that rates actions from its section.

    Raises:
        UserError: When there is no such source, or it gives no advice.
    """
    if name not in sources:
        raise UserError(f"{where(key)}: there is no source called '{name}'.{did_you_mean(name, sources)}")
    settings = dict(sources[name] or {})
    use = str(settings.pop("use", name))
    with at_place(where, f"sources.{name}.use"):
        spec = registry.find("reward", use)
    assert isinstance(spec, RewardSpec)  # the registry keeps records by kind
    if not spec.advises:
        raise UserError(f"{where(key)}: the source '{name}' ({use}) gives no advice; name one that does.")
    owner = registry.owner("reward", use)
    return build_reward(spec, settings, plugin=owner, where=where, prefix=f"sources.{name}")


def make_feedback(feedback: Mapping[str, Any], registry: Registry, where: Where) -> Any:
    """Build a registered feedback from its section: ``use``, and its settings.

    Raises:
        UserError: When ``use`` is missing or unknown, a setting is wrong, or somebody would have to press.
    """
    settings = dict(feedback)
    use = settings.pop("use", None)
    if not isinstance(use, str):
        known = ", ".join(registry.specs("feedback"))
        raise UserError(f"{where('human.feedback')}: name the kind of feedback with 'use' ({known}).")
    with at_place(where, "human.feedback.use"):
        spec = registry.find("feedback", use)
    cls = spec.load_settings()
    arguments = () if cls is None else (build(cls, settings, where=where, prefix="human.feedback"),)
    with at_place(where, "human.feedback"), at_setting("human.feedback"):
        feedback_source = spec.load()(*arguments)
    if getattr(feedback_source, "live", False):
        raise UserError(
            f"{where('human.feedback')}: nobody can press keys in 'textrl run', so '{use}' would give "
            "nothing; teach with 'textrl feedback control', or use 'simulated' or 'replay'."
        )
    return feedback_source
