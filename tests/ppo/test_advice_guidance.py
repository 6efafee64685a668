"""Guidance over a run: where it acts, how it fades, what a checkpoint keeps, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from advised_world import brute, guided, lived, rows_of

from textrl.advice.text import TextEligibilitySettings, TextGuidance, TextGuidanceSettings
from textrl.errors import UserError
from textrl.learners.ppo_ptx import PPOPTX
from textrl.learners.ppo_ptx.beside import Beside


def test_eligibility_lets_advice_act_only_where_somebody_trained() -> None:
    advice = {"eligibility": TextEligibilitySettings(centroids=2, width=0.01)}
    learner = guided(beta=1.0, scale=2.0, advice=advice, tokens=1)
    guidance = learner.beside.guidance
    assert guidance is not None
    assert learner.beside.advice() is None, "no context is known yet"
    experience = lived(learner)
    assert experience.ref_hidden is not None
    guidance.observe_states(experience.ref_hidden)
    states = {prompt: experience.ref_hidden[row : row + 1] for prompt, _, row in rows_of(learner, experience)}
    taught, other = states[(2,)], states[(3, 4)]
    for _ in range(100):
        guidance.shown(taught, np.ones(len(taught), dtype=bool))
    current = learner.beside.advice()
    assert current is not None
    assert float(current.weights(taught)) > 0.9
    assert float(current.weights(other)) < 1e-6
    first = lived(learner)
    for prompt, response, row in rows_of(learner, first)[:6]:
        plain = brute(guided(beta=0.0), prompt, response).pi[0, response[0]]
        biased = brute(learner, prompt, response).mu[0, response[0]]
        ours = float(first.logprobs[row][first.actions[row]].exp()[0])
        assert ours == pytest.approx(
            plain if prompt == (3, 4) else biased, rel=0.1 if prompt == (2,) else 1e-4
        )


def test_a_checkpoint_with_eligibility_goes_on_bit_for_bit(tmp_path: Any) -> None:
    advice = {"anneal": 0.9, "eligibility": TextEligibilitySettings(centroids=3)}

    def make() -> PPOPTX:
        return guided(beta=1.0, advice=advice)

    def teach(learner: PPOPTX) -> None:
        guidance = learner.beside.guidance
        assert guidance is not None
        guidance.source.head.learn(np.ones(16, np.float32) / 4, 2, 1.0)
        guidance.shown(torch.ones(4, 16), np.ones(4, dtype=bool))

    whole, half = make(), make()
    whole.learn(iterations=1)
    teach(whole)
    whole.learn(iterations=3)
    half.learn(iterations=1)
    teach(half)
    half.save(tmp_path / "c")
    resumed = make().restore(tmp_path / "c")
    resumed.learn(iterations=3)
    for name, p in whole.networks.trained()["policy"].items():
        assert torch.equal(p, resumed.networks.trained()["policy"][name])
    assert resumed.beside.guidance.beta == whole.beside.guidance.beta == pytest.approx(0.9**3)  # type: ignore[union-attr]


def test_prediction_with_and_without_advice() -> None:
    learner = guided("control_sharing", beta=1.0, scale=3.0, advice={"top_k": 6})
    observation = {"input_ids": np.array([2]), "attention_mask": np.array([1])}
    known = brute(learner, (2,), [0])
    assert learner.predict(observation, deterministic=True)[0] == known.favourite[0]
    plain = learner.predict(observation, deterministic=True, advised=False)[0]
    assert plain == known.pi[0].argmax()


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"beta": -1.0}, "beta is -1.0"),
        ({"cap_nats": 0.0}, "cap_nats is 0.0"),
        ({"top_k": 0}, "top_k is 0"),
        ({"anneal": 1.5}, "anneal is 1.5"),
        (
            {"technique": "reward_shaping", "eligibility": TextEligibilitySettings()},
            "eligibility does not go",
        ),
        ({"form": "potential"}, "form is 'potential'"),
        ({"technique": "q_augmentation", "trained": "policy"}, "trained is 'policy'"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        TextGuidanceSettings(**({"technique": "action_biasing", "source": "h", "beta": 1.0} | changes))


def test_a_person_cannot_teach_several_processes() -> None:
    networks = guided().networks
    with pytest.raises(UserError, match="this run has 2"):
        Beside(None, object(), networks, processes=2)  # type: ignore[arg-type]


def test_a_source_that_rates_no_tokens_is_refused() -> None:
    how = TextGuidanceSettings(technique="action_biasing", source="h", beta=1.0)
    with pytest.raises(UserError, match="does not rate tokens"):
        TextGuidance(how, object())
