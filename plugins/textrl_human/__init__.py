"""Plugin: people, simulated people and recorded people as feedback."""

from __future__ import annotations

from collections.abc import Iterable

from textrl.hookspecs import hookimpl
from textrl.specs import FeedbackSpec


@hookimpl
def textrl_feedback() -> Iterable[FeedbackSpec]:
    """Offer ``simulated``, ``simulated_text``, ``replay`` and ``realtime``."""
    yield FeedbackSpec(
        name="simulated",
        target="textrl_human.simulated:SimulatedTrainer",
        settings="textrl_human.settings:SimulatedSettings",
        summary="a seeded trainer with human delays, errors and moods, on a virtual clock",
    )
    yield FeedbackSpec(
        name="simulated_text",
        target="textrl_human.text_simulated:SimulatedReader",
        settings="textrl_human.text_settings:SimulatedTextSettings",
        summary="a seeded reader of streamed text, with a lexicon, a rule or a classifier as hidden taste",
    )
    yield FeedbackSpec(
        name="replay",
        target="textrl_human.replay:Replay",
        settings="textrl_human.settings:ReplaySettings",
        summary="the presses of a recorded session",
    )
    yield FeedbackSpec(
        name="realtime",
        target="textrl_human.realtime:Realtime",
        settings="textrl_human.settings:RealtimeSettings",
        summary="a person at a keyboard, stamped by the wall's clock",
    )
