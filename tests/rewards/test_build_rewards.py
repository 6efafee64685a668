"""From config sections to rewards: every wrong entry is one sentence with its place."""

import pytest
import torch

from textrl.errors import PluginError, UserError
from textrl.registry import get_registry
from textrl.rewards import build_reward, build_rewards
from textrl.specs import RewardSpec
from textrl.testing import make_batch, samples


def where(key):
    return f"run.yaml, {key}"


def built(sources, weights, registry=None):
    return build_rewards(sources, weights, registry or get_registry(), where)


def test_sources_are_built_weighted_and_told_apart():
    rewards = built(
        {"short": {"use": "length", "max": 4}, "long": {"use": "length", "min": 6}, "kl": None},
        {"long": 2, "kl": "5e-2", "short": 1.0},
    )
    assert rewards.weights == {"short": 1.0, "long": 2.0, "kl": 0.05}
    assert [source.spec.name for source in rewards.sources] == ["length", "length", "kl"]
    assert rewards.side("learner").needs == {"logprobs", "ref_logprobs"}
    assert "plugin 'rules' (textrl-mdp" in rewards.sources[0].plugin
    scored = rewards(make_batch(samples(), rewards.needs))
    assert set(scored.components) == {"short", "long", "kl"}
    # The first response has 6 tokens: 2 too many of 4 for the one, enough for the other.
    assert scored.raw["short"][0].sum() == -0.5
    assert scored.raw["long"][0].sum() == 0.0


@pytest.mark.parametrize(
    ("sources", "weights", "message"),
    [
        (
            {"kl": {}},
            {"k1": 1.0},
            r"^run.yaml, rewards.k1: there is no source called 'k1'. Did you mean 'kl'\?$",
        ),
        ({}, {"kl": 1.0}, "^run.yaml, rewards.kl: there is no source called 'kl'. None are registered.$"),
        (
            {"kl": {}, "sentiment": {}},
            {"kl": 1.0},
            "^run.yaml, sources.sentiment: the source 'sentiment' is never",
        ),
        (
            {"a": {"use": "sentimant"}},
            {"a": 1.0},
            "run.yaml, sources.a.use: There is no reward 'sentimant'. Did you",
        ),
        ({"praise": {}}, {"praise": 1.0}, "run.yaml, sources.praise: There is no reward 'praise'."),
        ({"kl": {"use": 3}}, {"kl": 1.0}, "^run.yaml, sources.kl.use: 'use' is 3"),
        ({"kl": "fast"}, {"kl": 1.0}, "^run.yaml, sources.kl: the source 'kl' is 'fast'; write a mapping"),
        ({"kl": {"tarhet": 1}}, {"kl": 1.0}, "^run.yaml, sources.kl.tarhet: .*'target'"),
        ({"kl": {"target": "six"}}, {"kl": 1.0}, "^run.yaml, sources.kl.target: .*number"),
        ({"kl": {"target": -1.0}}, {"kl": 1.0}, "^run.yaml, sources.kl.target: .*above 0"),
        ({"kl": {"coefficient": "fix"}}, {"kl": 1.0}, "^run.yaml, sources.kl.coefficient: .*'adaptive'"),
        ({"length": {}}, {"length": 1.0}, "^run.yaml, sources.length.*: target, min and max are all missing"),
        ({"kl": {}}, {"kl": "much"}, "^run.yaml, rewards.kl: the weight of 'kl' is 'much'"),
        ({"kl": {}}, {"kl": True}, "^run.yaml, rewards.kl: the weight of 'kl' is True"),
        ({"kl": {}}, {"kl": None}, "^run.yaml, rewards.kl: the weight of 'kl' is None"),
        ({"kl": {}}, {"kl": float("nan")}, "^run.yaml, rewards.kl: the weight of 'kl' is nan"),
        ({"kl": {}}, {"kl": {"start": 1}}, "^run.yaml, rewards.kl: the weight of 'kl' is"),
    ],
)
def test_a_wrong_section_is_one_sentence_with_its_place(sources, weights, message):
    with pytest.raises(UserError, match=message) as caught:
        built(sources, weights)
    assert "\n" not in str(caught.value)


def test_a_reward_without_settings_takes_none():
    record = RewardSpec(name="plain", target="faulty_rewards:Good", summary="plain")
    assert build_reward(record, {})(make_batch(samples())).shape == (6,)
    with pytest.raises(UserError, match="unknown key 'stars': the reward 'plain' takes no settings"):
        build_reward(record, {"stars": 3})


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("faulty_rewards:CannotBuild", "could not be built: RuntimeError: no weights"),
        ("faulty_rewards:Missing", "no attribute 'Missing'"),
        ("no_such_module:Reward", "importing no_such_module raised ModuleNotFoundError"),
        ("builtins:int", "built a int, which cannot be called"),
    ],
)
def test_a_reward_that_cannot_be_built_is_its_plugins_error(target, message):
    with pytest.raises(PluginError, match=message):
        build_reward(RewardSpec(name="plain", target=target, summary="plain"), {})


NAN_PLUGIN = """
import torch
from textrl.hookspecs import hookimpl
from textrl.specs import RewardSpec

@hookimpl
def textrl_rewards():
    yield RewardSpec(name="gone_nan", target="nan_plugin:Reward", summary="NaN in row 2")
    yield RewardSpec(name="gone_wide", target="nan_plugin:Wide", summary="too wide")
    yield RewardSpec(name="gone_wrong", target="nan_plugin:Raises", summary="raises")

class Reward:
    def __call__(self, batch):
        value = torch.zeros(len(batch.response_ids))
        value[2] = float("nan")
        return value

class Wide:
    def __call__(self, batch):
        return torch.zeros(3, 3)

class Raises:
    def __call__(self, batch):
        raise ZeroDivisionError("division by zero")
"""


@pytest.fixture(scope="module")
def nan_registry(tmp_path_factory):
    file = tmp_path_factory.mktemp("plugin") / "nan_plugin.py"
    file.write_text(NAN_PLUGIN)
    return get_registry(plugins=[str(file)])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone_nan", "returned nan for row 2"),
        ("gone_wide", r"returned the shape \(3, 3\)"),
        ("gone_wrong", "raised ZeroDivisionError: division by zero"),
    ],
)
def test_a_third_partys_failure_names_its_plugin(nan_registry, name, message):
    rewards = built({"theirs": {"use": name}}, {"theirs": 1.0}, nan_registry)
    with pytest.raises(
        PluginError, match=rf"The reward 'theirs' \({name}\) of plugin 'nan_plugin' .*{message}"
    ):
        rewards(make_batch(samples()))


def test_each_source_is_built_once_even_where_two_sides_use_it():
    rewards = built({"kl": {}, "sentiment": {}}, {"kl": 0.1, "sentiment": 1.0})
    env, learner = rewards.side("env"), rewards.side("learner")
    instances = {id(source.reward) for part in (rewards, env, learner) for source in part.sources}
    assert len(instances) == 2
    assert isinstance(env(make_batch(samples(), env.needs)).total, torch.Tensor)
