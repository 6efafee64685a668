"""A learner, the advice that it takes, and the reader who stands beside it, on a small real model."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from text_people_world import Scripted, source

import textrl.envs  # noqa: F401  registers the environments
from textrl.advice.text import TextEligibilitySettings, TextGuidance, TextGuidanceSettings
from textrl.learners.ppo_ptx import PPOPTX
from textrl.learners.ppo_ptx.evaluation import evaluate, with_and_without
from textrl.learners.ppo_ptx.experience import Experience, collect
from textrl.learners.ppo_ptx.settings import PPOPTXSettings
from textrl.protocols import Signal
from textrl.tamer.text.human import TextHuman, TextHumanSettings

GROWTH, DECAY, ITERATION_DECAY, TOKENS = 0.3, 0.9, 0.5, 6


def learner(*signals: Signal, shown: int = 2, beta: float = 3.0, **advice: Any) -> PPOPTX:
    """A learner whose reader does what the signals say."""
    h = source()
    how = TextGuidanceSettings(technique="action_biasing", source="h", beta=beta, **advice)
    env = gymnasium.make(
        "TextRL/Tokens-v0", prompts=["May I come in", "The film"], tokenizer="tiny-gpt2",
        max_new_tokens=TOKENS, rewards={"length": {"target": 3}},
    )  # fmt: skip
    chosen = PPOPTXSettings(
        policy="tiny-gpt2", precision="fp32", episodes_per_iteration=8, minibatches=1, micro_batch_size=8,
        ema_decay=0.0, warmup_iterations=0,
    )  # fmt: skip
    human = TextHuman(Scripted(*signals), h, TextHumanSettings(shown_per_iteration=shown))
    return PPOPTX(env, chosen, guidance=TextGuidance(how, h), human=human)


def eligibility(**changes: Any) -> dict[str, Any]:
    settings = {"centroids": 3, "growth": GROWTH, "decay": DECAY, "iteration_decay": ITERATION_DECAY}
    return {"eligibility": TextEligibilitySettings(**{**settings, **changes})}


def live(made: PPOPTX) -> Experience:
    return collect(
        made.networks, made.task, made.rewards, made.settings, made.accelerator, 0,
        advice=made.beside.advice(), keep_hidden=True,
    )  # fmt: skip


def switch(at_s: float, on: float = 0.0) -> Signal:
    return Signal(kind="training", value=on, time_s=at_s)


@pytest.mark.parametrize(
    ("signals", "shown", "on"),
    [
        ((), 2, None),
        # The first token appears after a second of reading, each of the others a quarter later.
        ((switch(1.6),), 2, 3),
        ((switch(0.2),), 2, 0),
    ],
    ids=["on", "stopped in a text", "stopped before"],
)
def test_the_eligibility_module_grows_by_tokens_shown_while_the_reader_trains(
    signals: tuple[Signal, ...], shown: int, on: int | None
) -> None:
    made = learner(*signals, shown=shown, **eligibility())
    guidance = made.beside.guidance
    assert guidance is not None
    experience = live(made)
    made.beside.after(experience, made.task)
    found = guidance.state_dict()
    module, centroids = found["eligibility"], guidance._centroids
    assert centroids is not None
    assert experience.ref_hidden is not None
    # By hand: what was active grows while training is on, and everything fades with every token shown.
    e, seen = np.zeros(3), 0
    states = experience.ref_hidden.split(experience.actions.sum(1).tolist())
    for row in range(shown):
        for state in states[row].numpy():
            if on is None or seen < on:
                e = np.minimum(1.0, e + GROWTH * np.asarray(centroids(state)))
            e *= DECAY
            seen += 1
    e *= ITERATION_DECAY
    np.testing.assert_allclose(module["e"].numpy()[0], e, rtol=1e-6, atol=1e-9)
    assert bool((e > 0).any()) == (on != 0)


def test_the_reader_tells_when_training_was_on() -> None:
    made = learner(switch(1.6), switch(2.1, 1.0), shown=1)
    human = made.beside.human
    assert human is not None
    experience = live(made)
    made.beside.after(experience, made.task)
    count = int(experience.actions[0].sum())
    # Tokens at 1, 1.25, 1.5, ...: off from 1.6 to 2.1, which is before the sixth.
    assert [one.tolist() for one in human.trained] == [[True, True, True, False, False, True][:count]]


def test_an_evaluation_without_advice_asks_the_policy_alone() -> None:
    made, plain = learner(), learner(beta=0.0)
    end = int(made.networks.tokenizer.eos_token_id)
    for one in (made, plain):
        assert one.beside.human is not None
        head = one.beside.human.source.head  # type: ignore[attr-defined]
        head.b[end], head.learnt = 2.0, 1  # the reader likes endings
    found = with_and_without(made, episodes=32)
    assert found["without_advice"] == evaluate(plain, episodes=32)
    assert found["with_advice"] == evaluate(made, episodes=32)
    assert found["with_advice"]["total"] != found["without_advice"]["total"]
