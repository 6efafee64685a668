"""The baseline without a reward model: a ranking trains the policy at once, and is then forgotten.

A response is paid for the rivals of its own ranking that it beats, less those that it loses to, and for
staying near the SFT model; its advantage is what it is paid beyond the mean of its rivals (the leave-one-out
baseline of Kool et al. 2019). The objective that this ascends has the KL penalty of PPO-ptx, the pretraining
term too, and the same optimizer; what it lacks is a model of the labeler, so that a label says something
about K texts once, and nothing about any other text.

Shapes: ``G`` prompts of a step, ``K`` responses of each, ``B`` = G * K, ``L`` = prompt and response.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from rich.progress import track
from torch import Tensor

from textrl.learners.ppo_ptx import PPOPTX, PPOPTXSettings
from textrl.learners.ppo_ptx.diagnostics import Ratios
from textrl.learners.ppo_ptx.experience import Experience, score
from textrl.learners.ppo_ptx.generation import sample
from textrl.mdp.kl import k1
from textrl.mdp.task import Prompt
from textrl.models.sources import build_once
from textrl.pipelines.loop.collect import AT_ONCE, key
from textrl.pipelines.loop.labelers import Candidates, Labeler
from textrl.pipelines.loop.train import token_env
from textrl.pipelines.loop.world import DIRECT, World, deal_prompts, make_labeler


def direct(world: World, number: int) -> dict[str, Any]:
    """Spend a round's rankings on the baseline's policy; goes on from the round before, bit for bit."""
    context, stage = world.context, f"direct_{number}"
    texts, _ = deal_prompts(context.material.prompts, world.settings, context.settings.ppo.seed, number)
    learner = make_learner(world)
    saved = context.checkpoints / "direct"
    if number > 1:
        learner.restore(saved / f"round_{number - 1}")
    context.run.rewind(stage, 0)
    learner.set_logger(context.run.logger(stage))
    by_text = {prompt.text: prompt for prompt in learner.task.prompts}
    prompts = [by_text[text] for text in texts]
    labeler, size = make_labeler(world, number), world.settings.direct.prompts_per_step
    pay = Pay(world.settings.labels.k, world.settings.direct.scale, kl_coef(world))
    rankings = 0
    for start in track(range(0, len(prompts), size), description=f"train on rankings, round {number}"):
        rankings += step(learner, labeler, prompts[start : start + size], key(number, AT_ONCE, start), pay)
    learner.save(saved / f"round_{number}")
    build_once(
        world.policy(number, DIRECT), lambda path: learner.export(path, averaged=bool(learner.updater.ema))
    )
    return {"rankings": rankings, "steps": learner.iteration}


def make_learner(world: World) -> PPOPTX:
    """Return PPO-ptx's networks, optimizer and pretraining term; its own way of collecting is not used."""
    settings = settings_of(world)
    return PPOPTX(token_env(world, settings.policy, None), settings)


def settings_of(world: World) -> PPOPTXSettings:
    """Return the loop's settings of PPO-ptx, with one optimizer step for each few rankings and no critic."""
    base, own = world.context.settings.ppo, world.settings.direct
    stream = str(world.context.run.path / "data" / "ptx.jsonl")
    return replace(
        base,
        policy=str(world.sft),
        value=None,
        value_network="head",  # never read: a head costs nothing
        value_first_trainable=None,
        ptx_data=stream if base.ptx_coef else None,
        learning_rate=own.learning_rate,
        decay_iterations=0,  # counted in iterations of PPO
        episodes_per_iteration=own.prompts_per_step * world.settings.labels.k,
        minibatches=1,
        epochs=1,
    )


@dataclass(frozen=True)
class Pay:
    """What a ranking is worth.

    Attributes:
        k: Responses of a ranking.
        scale: Reward of winning against all rivals.
        kl_coef: Penalty per nat from the reference.
    """

    k: int
    scale: float
    kl_coef: float


def step(learner: PPOPTX, labeler: Labeler, prompts: Sequence[Prompt], first: int, pay: Pay) -> int:
    """Sample, have it ranked, take one optimizer step, log; returns the number of rankings.

    Args:
        learner: Its policy is trained.
        labeler: Ranks the samples.
        prompts: G prompts.
        first: Number of the first prompt's candidates.
        pay: What the rankings are worth.
    """
    settings, networks, count = learner.settings, learner.networks, pay.k
    repeated = [prompt for prompt in prompts for _ in range(count)]
    episodes = torch.arange(first * count, first * count + len(repeated))
    rollout = sample(networks, learner.task, repeated, episodes, settings, learner.updater.sizes.rollout)
    ids, mask = rollout.ids, rollout.mask
    actions = torch.cat([torch.zeros_like(rollout.prompt_mask), rollout.response_mask], dim=1)
    trunk = rollout.trunk or networks.trunk(ids, mask)
    scored = score(networks, ids, mask, actions, trunk, learner.updater.sizes.micro)
    texts = [learner.task.decode(row[real].tolist()) for row, real in
             zip(rollout.response_ids, rollout.response_mask, strict=True)]  # fmt: skip
    candidates = [
        Candidates(first + index, prompt, tuple(texts[index * count : (index + 1) * count]))
        for index, prompt in enumerate(prompts)
    ]
    ranked = labeler.ranks(candidates)
    assert all(ranks is not None for ranks in ranked)  # who scores passes over nothing
    ranks = torch.tensor(ranked, dtype=torch.float32, device=ids.device)
    per_token = torch.where(actions, k1(scored["logprobs"], scored["ref_logprobs"]), 0.0)
    kl = per_token.sum(1).view(len(prompts), count)
    advantages = ranking_advantages(ranks, kl, scale=pay.scale, kl_coef=pay.kl_coef)
    experience = Experience(
        ids=ids,
        mask=mask,
        actions=actions,
        trunk=trunk,
        logprobs=scored["logprobs"],
        values=scored["values"],
        advantages=torch.where(actions, advantages.reshape(-1, 1), 0.0),
        returns=scored["values"],  # nothing for the value head to learn
        episodes=episodes,
        metrics={},
        stats={},
    )
    learner.updater.ratios = Ratios()
    rate = learner.updater.set_rates(learner.iteration)
    figures = learner.updater.step(experience, torch.arange(len(ids)))
    learner.iteration += 1
    learner.num_timesteps += int(actions.sum())
    kept = {name: value for name, value in figures.items() if "value" not in name}
    extra = {"train/kl_ref": float(kl.mean()), "train/learning_rate": rate, "direct/ties": tie_share(ranks)}
    learner.log(kept | extra, learner.iteration)
    return len(prompts)


def kl_coef(world: World) -> float:
    """Return the penalty per nat: the baseline's own, or that of the loop's source ``kl``."""
    own = world.settings.direct.kl_coef
    base = world.context.settings
    names = [name for name, section in base.sources.items() if (section or {}).get("use", name) == "kl"]
    return own if own is not None else float(sum(base.rewards[name] for name in names))


def ranking_advantages(ranks: Tensor, kl: Tensor, *, scale: float, kl_coef: float) -> Tensor:
    """Return what each response is paid beyond the mean of its rivals.

    Args:
        ranks: (G, K), 1 the best, equal for a tie.
        kl: (G, K) nats of each response, summed over its tokens.
        scale: Reward of winning against all rivals.
        kl_coef: Penalty per nat.

    Returns:
        (G, K); each row sums to 0.
    """
    count = ranks.shape[1]
    beaten = (ranks[:, :, None] < ranks[:, None, :]).float()  # (G, K, K): i is better than j
    reward = scale * (beaten.sum(2) - beaten.sum(1)) / (count - 1) - kl_coef * kl
    rivals = (reward.sum(1, keepdim=True) - reward) / (count - 1)
    return reward - rivals


def tie_share(ranks: Tensor) -> float:
    """Return the share of tied pairs in (G, K) ranks."""
    count = ranks.shape[1]
    equal = float((ranks[:, :, None] == ranks[:, None, :]).sum()) - ranks.numel()
    return equal / (len(ranks) * count * (count - 1))
