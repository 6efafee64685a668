"""From the spec of a job of the text benchmark to a learner; see `textrl.bench.text_trial`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium

from textrl.bench.text_beside import prior_source
from textrl.bench.text_play import Acting, OfChoice, OfDistribution, OfModel, OfRecurrent
from textrl.bench.text_scores import starting_model
from textrl.learners.groups.learner import GroupLearner
from textrl.learners.ppo_ptx import PPOPTX
from textrl.pipelines.guided_text import build_text_beside
from textrl.registry import get_registry
from textrl.rewards import RewardSum, Source
from textrl.settings import build, to_plain
from textrl.specs import LearnerSpec, RewardSpec

#: n of best-of-n.
BEST_OF = 16
#: Learners that sample with a language model.
MODELS = ("rloo", "grpo", "ppo_ptx")


def nothing_learnt() -> dict[str, Any]:
    """Return what training would have given."""
    return {
        "sampled": None, "curve": [], "reached": None, "tokens": 0, "tokens_per_s": None, "cpu_s": None,
        "presses": None, "settings": None, "without": None,
    }  # fmt: skip


def used_settings(learner: Any) -> dict[str, Any]:
    """Return a learner's settings as JSON data, without the place of the task's own model on this machine."""
    found: dict[str, Any] = to_plain(learner.settings)
    return {**found, "policy": "the task's"} if "policy" in found else found


def acting_of(learner: Any, vocabulary: int) -> Acting:
    """Return a learner's policy as it acts, with advice where that acts."""
    if isinstance(learner, PPOPTX):
        return OfModel(
            learner.networks.policy, reference=learner.networks.reference, advice=learner.beside.advice()
        )
    if isinstance(learner, GroupLearner):
        return OfModel(learner.networks.policy)
    policy = getattr(getattr(learner, "algorithm", None), "policy", None)
    if hasattr(policy, "lstm_actor"):
        return OfRecurrent(policy)
    return OfDistribution(policy) if hasattr(policy, "get_distribution") else OfChoice(learner, vocabulary)


def build_learner(spec: Mapping[str, Any], clean: Any) -> tuple[Any, Any, Any]:
    """Return the learner of a job, its settings, and its task.

    Args:
        spec: See the module.
        clean: The environment with the task's own reward alone.
    """

    def where(key: str) -> str:
        return "the benchmark's settings"

    registry = get_registry()
    record = registry.find("learner", spec["learner"])
    assert isinstance(record, LearnerSpec)  # the registry keeps records by kind
    model = spec["learner"] in MODELS
    own = {**spec["settings"], "seed": spec["seed"]}
    if model:
        own |= {"policy": str(clean.policy(spec["seed"])), "decay_iterations": _iterations(spec)}
    settings: Any = build(record.load_settings() or dict, own, where=where)
    facts = clean.facts()
    arguments = {"difficulty": spec["difficulty"], "seed": spec["seed"], **clean.sizes}
    if spec["masks"]:
        arguments["masks"] = True
    beta = facts.beta or spec["kl"]
    if facts.prior is not None and not model:
        arguments["rewards"] = RewardSum([prior_source(starting_model(clean, 0), facts.beta)])
    env = gymnasium.make(spec["env"], **arguments)
    beside: dict[str, Any] = {}
    if model and beta:
        beside["rewards"] = RewardSum([_penalty(beta)])
    if "human" in spec:
        human = {**spec["human"], "feedback": {**spec["human"]["feedback"], "seed": spec["seed"]}}
        beside |= build_text_beside(
            record, RewardSum([]), sources=spec["sources"], advice=spec["advice"], human=human,
            registry=registry, where=where, seed=spec["seed"],
        )  # fmt: skip
    task = env.unwrapped.task if spec["masks"] else clean.task  # type: ignore[attr-defined] # gymnasium
    return record.load()(env, settings, **beside), settings, task


def _iterations(spec: Mapping[str, Any]) -> int:
    """Return after how many iterations the budget is used up, if responses are as long as good ones."""
    episodes = spec["settings"].get("episodes_per_iteration", 256)
    return max(1, int(spec["budget"] // (episodes * spec["length"])))


def _penalty(beta: float) -> Source:
    """Return the KL to the starting policy as a source of a learner."""
    record = get_registry().find("reward", "kl")
    assert isinstance(record, RewardSpec)  # the registry keeps records by kind
    settings = record.load_settings()
    assert settings is not None
    return Source(name="kl", spec=record, reward=record.load()(settings()), weight=beta)
