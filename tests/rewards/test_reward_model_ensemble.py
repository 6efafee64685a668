from __future__ import annotations

from pathlib import Path

import pytest
import torch
from textrl_reward_model.conformance import tiny_scorer
from textrl_reward_model.reward import combine
from textrl_reward_model.settings import RewardModelRewardSettings

from textrl.errors import UserError
from textrl.registry import get_registry
from textrl.rewards import build_reward
from textrl.testing import make_batch, samples
from textrl.testing.batches import EOS

NEEDS = {"text"}


def build(model, **settings):
    return build_reward(get_registry().find("reward", "reward_model"), {"model": str(model), **settings})


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Three members with offsets of their own, as a pipeline writes them."""
    folder = tmp_path_factory.mktemp("ensemble")
    for number, offset in ((1, 0.25), (2, -1.0), (3, 2.0)):
        tiny_scorer(folder / f"member-{number}", seed=number, offset=offset)
    return folder


@pytest.fixture(scope="module")
def alone(folder):
    """(3, B) scores of the members by themselves."""
    made = make_batch(samples(), NEEDS)
    return torch.stack([build(folder / f"member-{number}")(made) for number in (1, 2, 3)])


@pytest.mark.parametrize("ids", ["retokenise", "shared"])
def test_a_folder_of_members_gives_their_mean(folder, ids):
    made = make_batch(samples(), NEEDS)
    members = [build(folder / f"member-{number}", ids=ids)(made) for number in (1, 2, 3)]
    reward = build(folder, ids=ids)
    torch.testing.assert_close(reward(made), torch.stack(members).mean(0))
    assert [member.offset for member in reward.members] == [0.25, -1.0, 2.0]


def test_members_may_be_named(folder, alone):
    names = [str(folder / f"member-{number}") for number in (2, 3)]
    reward = build(folder / "member-1", members=names)
    torch.testing.assert_close(reward(make_batch(samples(), NEEDS)), alone.mean(0))


def test_the_lowest_and_the_pessimistic_score(folder, alone):
    made = make_batch(samples(), NEEDS)
    torch.testing.assert_close(build(folder, ensemble="minimum")(made), alone.min(0).values)
    for pessimism in (0.0, 0.5, 2.0):
        reward = build(folder, ensemble="pessimistic", pessimism=pessimism)
        torch.testing.assert_close(reward(made), alone.mean(0) - pessimism * alone.std(0))


def test_combining_by_hand():
    scores = torch.tensor([[1.0, 4.0], [3.0, 4.0]])
    settings = {"model": "x", "pessimism": 2.0}
    found = {
        name: combine(scores, RewardModelRewardSettings(ensemble=name, **settings)).tolist()
        for name in ("mean", "minimum", "pessimistic")
    }
    # The standard deviation of 1 and 3 as a sample is sqrt(2).
    assert found["mean"] == [2.0, 4.0]
    assert found["minimum"] == [1.0, 4.0]
    assert found["pessimistic"] == pytest.approx([2 - 2 * 2**0.5, 4.0])


def test_disagreement_is_logged(folder, alone):
    made = make_batch(samples(), NEEDS)
    reward = build(folder)
    reward(made)
    assert reward.metrics(made)["ensemble_std"] == pytest.approx(float(alone.std(0).mean()), rel=1e-5)
    single = build(folder / "member-1")
    single(made)
    assert single.metrics(made) == {}


def test_one_model_has_nothing_to_be_pessimistic_about(folder):
    with pytest.raises(UserError, match="is one reward model; name more"):
        build(folder / "member-1", ensemble="minimum")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"members": [""]}, "members has an empty name"),
        ({"pessimism": -1.0}, "pessimism is -1.0"),
        ({"ensemble": "max"}, "'pessimistic'"),
    ],
)
def test_settings_that_cannot_be_are_refused(folder, settings, message):
    with pytest.raises(UserError, match=message):
        build(folder, **settings)


def test_a_model_that_pads_with_eos_is_warned_of(tmp_path):
    tiny_scorer(tmp_path / "model", pad=EOS)
    with pytest.warns(UserWarning, match="pads with its EOS token '<eos>'.*one token earlier"):
        build(tmp_path / "model")
