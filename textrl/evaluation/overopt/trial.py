"""One proxy in one world: its training, best-of-n by it, and PPO against it, both judged by the gold judge.

A job's spec (see `textrl.bench.jobs`):

    seed         draws the world and everything in it
    world        of `WorldSettings`
    size         of the proxy, a key of `SIZES`; "gold" optimises the gold judge itself
    pairs        labelled comparisons that the proxy learns from
    kl_weight    weight of the KL penalty in PPO
    samples      per prompt, for best-of-n
    iterations   of PPO
    every        iterations between two measurements
    measured     texts of each prompt per measurement
    settings     of the learner
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import gymnasium
import torch
from torch import Tensor

from textrl.bench.jobs import Tell
from textrl.bench.trial import machine
from textrl.evaluation.overopt.best_of_n import best_of_n, kl_of_best_of_n, sizes_up_to
from textrl.evaluation.overopt.proxies import SPEC, ScoreReward, Trained, agreement, train_proxy
from textrl.evaluation.overopt.world import Score, World, WorldSettings, by_prompt, scores_of, standardised
from textrl.learners.ppo_ptx import PPOPTX
from textrl.learners.ppo_ptx.networks import Networks
from textrl.learners.ppo_ptx.settings import PPOPTXSettings
from textrl.mdp.logprobs import token_logprobs
from textrl.models.loading import scorer_from_causal_lm
from textrl.models.stack import final_hidden
from textrl.registry import get_registry
from textrl.rewards import RewardSum, Source
from textrl.rollout import Rollout, head_of
from textrl.settings import build
from textrl.specs import RewardSpec

TARGET = "textrl.evaluation.overopt.trial:run_trial"
#: Streams of random numbers: the texts of best-of-n, those that measure agreement, those of PPO's points.
_BEST, _HELD_OUT, _POINTS = 40, 41, 50


def run_trial(spec: Mapping[str, Any], local: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    """Train a proxy and optimise it in both ways.

    Args:
        spec: See the module.
        local: Nothing.
        tell: Told how far it is.

    Returns:
        ``best_of_n`` and ``ppo``, curves of points with ``kl`` (nats per sequence), ``proxy`` and ``gold``
        (gains over the initial policy in its standard deviations), and what is known of the proxy.
    """
    torch.set_num_threads(1)
    started_s = time.process_time()
    world = World(WorldSettings(**spec["world"]), spec["seed"])
    trained = None if spec["size"] == "gold" else train_proxy(world, spec["size"], spec["pairs"])
    texts = world.sample(world.policy, spec["samples"], _BEST)
    raw: Score = world.gold if trained is None else trained.score
    score = standardised(raw, texts)
    tell(0.1)
    result: dict[str, Any] = {
        "proxy": _describe(world, score, trained),
        "best_of_n": _best_of_n(world, score, texts),
    }
    tell(0.2)
    learner = make_learner(world, score, spec)
    points = _train(learner, world, score, spec, tell)
    return {**result, "ppo": points, "cpu_s": time.process_time() - started_s, "machine": machine()}


def _describe(world: World, score: Score, trained: Trained | None) -> dict[str, Any]:
    """Return agreement with the gold judge on fresh texts of the initial policy, and how it was trained."""
    fresh = world.sample(world.policy, 1024, _HELD_OUT)
    found = {"agreement": agreement(score, fresh, scores_of(world.gold, fresh))}
    if trained is None:
        return found
    return {
        **found,
        "parameters": trained.parameters,
        "steps": trained.steps,
        "label_agreement": trained.label_agreement,
    }


def _best_of_n(world: World, score: Score, texts: Rollout) -> list[dict[str, float]]:
    """Return a point for each n up to a quarter of the samples: beyond, few subsets carry the estimate."""
    proxy = by_prompt(scores_of(score, texts), world.prompts).double().numpy()
    gold = by_prompt(scores_of(world.gold, texts), world.prompts).double().numpy()
    sizes = sizes_up_to(max(proxy.shape[1] // 4, 1))
    by_proxy, by_gold = (best_of_n(proxy, values, sizes).mean(0) for values in (proxy, gold))
    return [
        {"n": n, "kl": kl_of_best_of_n(n), "proxy": float(p - by_proxy[0]), "gold": float(g - by_gold[0])}
        for n, p, g in zip(sizes, by_proxy, by_gold, strict=True)
    ]


def make_learner(world: World, score: Score, spec: Mapping[str, Any]) -> PPOPTX:
    """Return the real PPO-ptx learner on the world's task, paid by a score."""
    registry = get_registry()
    registry.register_envs()
    own = {**spec["settings"], "policy": "made by the study", "seed": world.key(60) % 2**31}
    settings = build(PPOPTXSettings, own, where=lambda key: "the study's settings")
    task = world.task(RewardSum([Source(name="proxy", spec=SPEC, reward=ScoreReward(score))]))
    penalties = []
    if spec["kl_weight"]:
        record = registry.find("reward", "kl")
        assert isinstance(record, RewardSpec)  # the registry keeps records by kind
        settings_class = record.load_settings()
        assert settings_class is not None
        reward = record.load()(settings_class())
        penalties.append(Source(name="kl", spec=record, reward=reward, weight=spec["kl_weight"]))
    policy = copy.deepcopy(world.policy)
    networks = Networks(policy, scorer_from_causal_lm(policy, layers=None), None, settings)
    env = gymnasium.make("TextRL/Tokens-v0", task=task)
    return PPOPTX(env, settings, rewards=RewardSum(penalties), networks=networks)


def _train(
    learner: PPOPTX, world: World, score: Score, spec: Mapping[str, Any], tell: Tell
) -> list[dict[str, float]]:
    """Train, and measure the policy on fresh texts every so many iterations."""
    points = [measure(learner, world, score, spec["measured"])]

    def after(current: PPOPTX) -> None:
        share = current.iteration / spec["iterations"]
        _slow_down(current, share)
        if current.iteration % spec["every"] == 0 or current.iteration == spec["iterations"]:
            points.append(measure(current, world, score, spec["measured"]))
        tell(0.2 + 0.8 * share)

    learner.learn(iterations=spec["iterations"], callback=after)
    first = points[0]
    return [
        {**point, "proxy": point["proxy"] - first["proxy"], "gold": point["gold"] - first["gold"]}
        for point in points
    ]


def _slow_down(learner: PPOPTX, share: float) -> None:
    """Let the learning rates fall linearly to a tenth: near the end the policy is almost one text."""
    peak, factor = learner.settings, 1 - 0.9 * share
    learner.updater.settings = replace(
        peak,
        learning_rate=peak.learning_rate * factor,
        value_learning_rate=peak.value_learning_rate * factor,
    )


def measure(learner: PPOPTX, world: World, score: Score, per_prompt: int) -> dict[str, float]:
    """Return one point: the policy's KL to the initial one and its scores, on texts it was not trained on.

    Every point has the same sampling noise, so that the difference of two points has little of it.
    """
    texts = world.sample(learner.networks.policy, per_prompt, _POINTS)
    kl = (texts.logprobs - sequence_logprobs(learner, texts)).double().sum(1).mean()
    return {
        "iteration": float(learner.iteration),
        # Sampling error may take the estimate below 0, where no KL is.
        "kl": max(float(kl), 0.0),
        "proxy": float(scores_of(score, texts).double().mean()),
        "gold": float(scores_of(world.gold, texts).double().mean()),
    }


@torch.no_grad()
def sequence_logprobs(learner: PPOPTX, texts: Rollout) -> Tensor:
    """Return (B, T) log-probabilities of texts under the initial policy, zero on padding."""
    model = learner.networks.reference
    ids, mask = texts.ids, texts.mask
    actions = torch.cat([torch.zeros_like(texts.prompt_mask), texts.response_mask], dim=1)
    weight, bias = head_of(model)
    hidden = final_hidden(model, ids, mask)
    flat = token_logprobs(hidden[:, :-1][actions[:, 1:]], weight, ids[actions], bias=bias)
    return torch.zeros(texts.response_ids.shape).masked_scatter(texts.response_mask, flat)
