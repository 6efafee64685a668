"""Learner, advice, trainer and H may share a seed: no two of them draw the same numbers."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from tamer_world import ONE_HOT, Corridor, corridor_tamer
from textrl_human.settings import SimulatedSettings
from textrl_human.simulated import SimulatedTrainer
from textrl_human.trainers import Trainer

from textrl import streams
from textrl.advice import Guidance, GuidanceSettings
from textrl.errors import UserError
from textrl.learners.sarsa import Sarsa, SarsaSettings
from textrl.settings import build
from textrl.tamer import Human

KEYS = {name: value for name, value in vars(streams).items() if name.isupper()}


def run(seed: int) -> tuple[Sarsa, SimulatedTrainer]:
    """SARSA in the corridor with a network for H, control sharing and a trainer, all with one seed."""
    trainer = SimulatedTrainer(SimulatedSettings(seed=seed, truth="builtins:print"))
    tamer = corridor_tamer(model="network", hidden=(4,), model_seed=seed)
    env = Corridor()
    chosen = GuidanceSettings(technique="control_sharing", source="h", beta=0.5)
    guidance = Guidance(chosen, tamer, env.observation_space, 2, seed=seed)
    settings = SarsaSettings(features=ONE_HOT, seed=seed)
    return Sarsa(env, settings, guidance=guidance, human=Human(trainer, tamer)), trainer


def generators(made: Sarsa, trainer: SimulatedTrainer) -> dict[str, np.random.Generator]:
    assert made.guidance is not None
    human: Any = made.human
    return {
        **made.generators(),
        "guidance": made.guidance._rng,
        "trainer": trainer._rng,
        "delays": trainer._delays,
        "replay": human.tamer.model.rng,
    }


@pytest.mark.parametrize("seed", [0, 1, 7, 10_000])
def test_no_two_parts_of_a_run_draw_the_same_numbers(seed: int) -> None:
    found = generators(*run(seed))
    assert len(found) == len(KEYS) == 7
    drawn = {name: tuple(rng.random(4)) for name, rng in found.items()}
    # What other code draws with that seed alone, and what Gymnasium gives an environment.
    drawn["seed"] = tuple(np.random.default_rng(seed).random(4))
    alike = {
        frozenset((one, two)) for one, two in itertools.combinations(drawn, 2) if drawn[one] == drawn[two]
    }
    assert alike == {frozenset(("seed", "actions"))}  # as `stream` says of NumPy
    later = {name: tuple(rng.random(4)) for name, rng in generators(*run(seed + 1)).items()}
    assert not set(later.values()) & set(drawn.values())


def test_streams_are_independent_of_each_other() -> None:
    """The trainer errs and attends as often where the learner explores as elsewhere."""
    explores, attends = (streams.stream(0, key).random(20_000) for key in (streams.ACTIONS, streams.TRAINER))
    assert abs(np.corrcoef(explores, attends)[0, 1]) < 0.03
    assert np.mean(attends[explores < 0.2] < 0.6) == pytest.approx(0.6, abs=0.03)


def test_keys_are_distinct_and_stay_what_they_are() -> None:
    assert len(set(KEYS.values())) == len(KEYS)
    # Figures in the documentation were made with these.
    assert KEYS == {
        "ACTIONS": 0, "STARTS": 1, "PREDICTIONS": 2, "GUIDANCE": 3, "TRAINER": 4, "TRAINER_DELAYS": 5,
        "H_REPLAY": 6,
    }  # fmt: skip


def test_a_trainer_begins_with_the_seed_that_everybody_has() -> None:
    assert SimulatedSettings().seed == Trainer().seed == SarsaSettings().seed == 0
    with pytest.raises(UserError, match="seed is -1; it must be 0 or more"):
        build(SimulatedSettings, {"seed": -1}, where=lambda key: f"here, {key}")
