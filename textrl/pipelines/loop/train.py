"""What a round trains: the reward model on all rankings so far, then the policy against it.

Shapes: ``G`` groups, ``K`` completions of a group.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import torch

from textrl.batching import pad, plan
from textrl.data.prompts import read_prompts
from textrl.data.rankings import RankingGroup
from textrl.fit import checkpoint_step
from textrl.learners.ppo_ptx import PPOPTX, PPOPTXSettings
from textrl.mdp.ranking import pair_counts
from textrl.models.loading import load_causal_lm, load_scorer, scorer_from_causal_lm
from textrl.models.sources import build_once
from textrl.pipelines.loop.collect import rankings_until, token_task
from textrl.pipelines.loop.world import World
from textrl.pipelines.rlhf.stages import continue_from_checkpoint
from textrl.reward_model import score_rows, train_reward_model
from textrl.rewards import RewardSum, build_rewards
from textrl.sft import SFTExample, rows_of
from textrl.training import Log, progress


def reward_model(world: World, number: int) -> dict[str, Any]:
    """Train a reward model from the SFT model on the rankings of all rounds so far.

    Returns:
        Held-out accuracy on this round's rankings, of the new model and of the one of the round before,
        which has not seen this round's policy.
    """
    context, settings = world.context, world.context.settings.reward_model
    rounds = range(1, number + 1)
    groups = rankings_until(world.rankings(one) for one in rounds)
    fresh = rankings_until([world.held_out(number)])
    folder = world.models(number) / "reward_model"
    torch.manual_seed(settings.seed)
    policy, tokenizer = load_causal_lm(str(world.sft))
    model = scorer_from_causal_lm(policy, layers=settings.layers)
    with logging(world, f"reward_model_{number}", f"reward model, round {number}") as log:
        train_reward_model(
            model,
            tokenizer,
            groups,
            context.material.demonstrations[:256],
            settings,
            log=log,
            checkpoint_dir=context.checkpoints / f"reward_model_{number}",
            resume=context.resume,
            held_out=fresh,
        )

    def save(target: Path) -> None:
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)

    build_once(folder, save)
    figures: dict[str, Any] = {"rankings": len(groups)}
    figures["accuracy"], figures["pairs"] = pair_accuracy(world, folder, fresh)
    if number > 1:
        before = world.models(number - 1) / "reward_model"
        figures["accuracy_of_the_one_before"], _ = pair_accuracy(world, before, fresh)
    return figures


@torch.no_grad()
def pair_accuracy(world: World, folder: Path, groups: Sequence[RankingGroup]) -> tuple[float | None, int]:
    """Return the share of decided pairs that a reward model orders as the labeler did, and their number."""
    settings = world.context.settings.reward_model
    model, tokenizer = load_scorer(str(folder))
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    correct = decided = 0.0
    for group in groups:
        examples = [SFTExample(group.prompt, completion) for completion in group.completions]
        rows = rows_of(model, tokenizer, examples, settings, f"{folder}, completion")
        scores = torch.zeros(len(rows))
        for part in plan([len(row.ids) for row in rows], settings.micro_batch_tokens):
            scores[part] = score_rows(model, pad([[rows[i]] for i in part], pad_id)).float()
        ranks = torch.tensor([group.ranks])
        counts = pair_counts(scores[None], ranks, torch.ones_like(ranks, dtype=torch.bool))
        correct, decided = correct + float(counts.correct), decided + float(counts.decided)
    return (correct / decided if decided else None), int(decided)


def ppo(world: World, number: int) -> dict[str, Any]:
    """Train the policy of a round by PPO-ptx, from the chosen start, against the round's reward model."""
    context, folder, stage = world.context, world.models(number), f"ppo_{number}"
    rewards = round_rewards(world, number)
    settings = ppo_settings(world, number)
    env = token_env(world, settings.policy, rewards.side("env"))
    learner = PPOPTX(
        env, settings, rewards=rewards.side("learner"), checkpoint_dir=context.checkpoints / stage
    )
    continue_from_checkpoint(context, learner, stage)
    learner.set_logger(context.run.logger(stage))
    learner.learn(iterations=context.settings.iterations, progress_bar=True)
    averaged = bool(learner.updater.ema)
    build_once(folder / "policy", lambda path: learner.export(path, averaged=averaged))
    return {"iterations": learner.iteration, "timesteps": learner.num_timesteps}


def token_env(world: World, policy: str, rewards: RewardSum | None) -> Any:
    """Return the environment of all training prompts, for the policy in a folder."""
    _, tokenizer = load_causal_lm(policy)
    prompts = read_prompts(
        list(world.context.material.prompts),
        tokenizer,
        max_prompt_tokens=world.context.settings.max_prompt_tokens,
    )
    world.context.registry.register_envs()
    return gymnasium.make("TextRL/Tokens-v0", task=token_task(world, prompts, tokenizer, rewards))


def round_rewards(world: World, number: int) -> RewardSum:
    """Build the sources of ``base``; a reward model without a model of its own is the round's."""
    context = world.context
    own = {"model": str(world.models(number) / "reward_model"), "policy_tokenizer": str(world.sft)}
    filled = {
        name: {**own, **(section or {})} if (section or {}).get("use", name) == "reward_model" else section
        for name, section in context.settings.sources.items()
    }
    return build_rewards(
        filled, context.settings.rewards, context.registry, lambda key: context.node.where(f"base.{key}")
    )


def ppo_settings(world: World, number: int) -> PPOPTXSettings:
    """Return the learner's settings with the paths of a round."""
    ppo = world.context.settings.ppo
    scorer = str(world.models(number) / "reward_model")
    stream = str(world.context.run.path / "data" / "ptx.jsonl")
    return replace(
        ppo,
        policy=str(world.start(number)),
        value=scorer if ppo.value_network == "separate" else None,
        ptx_data=stream if ppo.ptx_coef else None,
    )


@contextmanager
def logging(world: World, stage: str, title: str) -> Iterator[Log]:
    """Show progress and write metrics; on resume the rows after the checkpoint are written again."""
    context = world.context
    folder = context.checkpoints / stage
    context.run.rewind(stage, checkpoint_step(folder) if context.resume and folder.exists() else 0)
    with progress(title) as show:

        def log(step: int, figures: Mapping[str, float]) -> None:
            context.run.append_metrics(stage, step, figures)
            show(step, figures)

        yield log
