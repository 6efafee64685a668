"""The three steps of InstructGPT, each from files of the run folder to files of the run folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium
import torch

from textrl import checkpoint
from textrl.config import ConfigNode
from textrl.data.prompts import read_prompts
from textrl.data.records import read_records
from textrl.fit import checkpoint_step
from textrl.learners.ppo_ptx import PPOPTX, PPOPTXSettings
from textrl.mdp.task import TokenTask
from textrl.memory import release_free_memory
from textrl.models.loading import load_causal_lm, scorer_from_causal_lm
from textrl.models.sources import build_once
from textrl.pipelines.rlhf.material import Material
from textrl.pipelines.rlhf.settings import RLHFSettings
from textrl.registry import Registry
from textrl.reward_model import train_reward_model
from textrl.rewards import RewardSum, build_rewards
from textrl.runs import Run
from textrl.sft import train_sft
from textrl.training import Log, progress


@dataclass(frozen=True)
class Context:
    """What every stage gets."""

    run: Run
    settings: RLHFSettings
    node: ConfigNode
    registry: Registry
    material: Material
    resume: bool

    @property
    def models(self) -> Path:
        """Folder of finished models."""
        return self.run.path / "models"

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints, one folder per stage below it."""
        return self.run.path / "checkpoints"


def sft(context: Context) -> dict[str, Any]:
    """Step 1: fine-tune the model on the demonstrations; writes ``models/sft``."""
    settings = context.settings
    torch.manual_seed(settings.sft.seed)
    model, tokenizer = load_causal_lm(settings.model, registry=context.registry)
    held_out = min(64, len(context.material.demonstrations) // 20)
    with _logging(context, "sft", "SFT") as log:
        result = train_sft(
            model,
            tokenizer,
            context.material.demonstrations[held_out:],
            settings.sft,
            log=log,
            checkpoint_dir=context.checkpoints / "sft",
            resume=context.resume,
            held_out=context.material.demonstrations[:held_out],
            pretrain=_pretraining_texts(context) if settings.sft.pretrain_fraction else (),
        )

    def save(folder: Path) -> None:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    build_once(context.models / "sft", save)
    return {"steps": result.steps, "val_loss": result.val_loss}


def _pretraining_texts(context: Context) -> list[str]:
    """Return the documents of the pretraining stream, which the stage before SFT has written."""
    return [str(record["text"]) for _, record in read_records(context.run.path / "data" / "ptx.jsonl")]


def reward_model(context: Context) -> dict[str, Any]:
    """Step 2: train the reward model on rankings; writes ``models/reward_model``."""
    settings = context.settings.reward_model
    torch.manual_seed(settings.seed)
    policy, tokenizer = load_causal_lm(str(context.models / "sft"))
    model = scorer_from_causal_lm(policy, layers=settings.layers)
    with _logging(context, "reward_model", "reward model") as log:
        result = train_reward_model(
            model,
            tokenizer,
            context.material.rankings,
            context.material.demonstrations[:256],
            settings,
            log=log,
            checkpoint_dir=context.checkpoints / "reward_model",
            resume=context.resume,
            held_out=context.material.rankings_test,
        )

    def save(folder: Path) -> None:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    build_once(context.models / "reward_model", save)
    return {"pair_accuracy": result.val_accuracy, "pairs": result.val_pairs, "ties": result.val_ties}


def ppo(context: Context) -> dict[str, Any]:
    """Step 3: PPO-ptx against the reward model; writes ``models/policy``.

    Where averaged weights are kept, ``models/policy_last`` holds the last ones beside them.
    """
    learner = make_learner(context, "ppo")
    continue_from_checkpoint(context, learner, "ppo")
    learner.set_logger(context.run.logger("ppo"))

    def tidy(_: PPOPTX) -> None:
        """Autocast's copies of weights leave gaps: the heap would grow by 50 MB an iteration."""
        release_free_memory()

    learner.learn(iterations=context.settings.iterations, callback=tidy, progress_bar=True)
    # As in the paper, the policy that counts is the averaged one, where an average is kept.
    averaged = bool(learner.updater.ema)
    build_once(context.models / "policy", lambda path: learner.export(path, averaged=averaged))
    if averaged:
        build_once(context.models / "policy_last", learner.export)
    return {"iterations": learner.iteration, "timesteps": learner.num_timesteps}


def continue_from_checkpoint(context: Context, learner: PPOPTX, stage: str) -> None:
    """On resume go on from the newest intact checkpoint, and drop the rows logged after it."""
    folder = context.checkpoints / stage
    newest = checkpoint.latest(folder) if context.resume and folder.exists() else None
    if newest is not None:
        learner.restore(newest)
    context.run.rewind(stage, learner.iteration)


def make_learner(context: Context, stage: str) -> PPOPTX:
    """Build the environment's task, the rewards and the learner on the models of the run."""
    settings, run = context.settings, context.run
    ppo_settings = ppo_settings_of(settings, run.path)
    rewards = make_rewards(context)
    _, tokenizer = load_causal_lm(ppo_settings.policy)
    task = TokenTask(
        read_prompts(list(context.material.prompts), tokenizer, max_prompt_tokens=settings.max_prompt_tokens),
        tokenizer,
        len(tokenizer),
        {tokenizer.eos_token_id},
        tokenizer.pad_token_id,
        settings.max_new_tokens,
        rewards.side("env"),
        seed=ppo_settings.seed,
    )
    context.registry.register_envs()
    env = gymnasium.make("TextRL/Tokens-v0", task=task)
    return PPOPTX(
        env, ppo_settings, rewards=rewards.side("learner"), checkpoint_dir=context.checkpoints / stage
    )


def make_rewards(context: Context) -> RewardSum:
    """Build the config's sources; the reward model of this run is the default ``model``."""
    own = {
        "model": str(context.models / "reward_model"),
        "policy_tokenizer": str(context.models / "sft"),
    }
    filled = {
        name: {**own, **(section or {})} if (section or {}).get("use", name) == "reward_model" else section
        for name, section in context.settings.sources.items()
    }
    return build_rewards(filled, context.settings.rewards, context.registry, context.node.where)


def ppo_settings_of(settings: RLHFSettings, run_dir: Path) -> PPOPTXSettings:
    """Fill in the paths that the pipeline knows."""
    ppo = settings.ppo
    return replace(
        ppo,
        policy=str(run_dir / "models" / "sft"),
        value=str(run_dir / "models" / "reward_model") if ppo.value_network == "separate" else None,
        ptx_data=str(run_dir / "data" / "ptx.jsonl") if ppo.ptx_coef else None,
    )


@contextmanager
def _logging(context: Context, stage: str, title: str) -> Iterator[Log]:
    """Show progress and write metrics; on resume the rows after the checkpoint are written again."""
    folder = context.checkpoints / stage
    context.run.rewind(stage, checkpoint_step(folder) if context.resume and folder.exists() else 0)
    with progress(title) as show:

        def log(step: int, figures: Mapping[str, float]) -> None:
            context.run.append_metrics(stage, step, figures)
            show(step, figures)

        yield log
