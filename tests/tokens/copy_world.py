"""Copying: response token t should be prompt token t. All prompts of two of four tokens; 2 is the optimum."""

from __future__ import annotations

import itertools
from typing import Any

import gymnasium
import torch

from textrl.mdp.task import ActionMask, Prompt, TokenTask
from textrl.protocols import Batch
from textrl.registry import get_registry
from textrl.rewards import RewardSum, Source
from textrl.specs import RewardSpec

VOCAB, LENGTH, PAD = 4, 2, 0


class Copied:
    """1 for every token that stands where the prompt has it."""

    def __call__(self, batch: Batch) -> torch.Tensor:
        """Return (B, T) float32."""
        same = batch.response_ids == batch.prompt_ids[:, : batch.response_ids.shape[1]]
        return (same & batch.response_mask).float()


def copy_task(allowed: ActionMask | None = None) -> TokenTask:
    record = RewardSpec(
        name="copied", target="copy_world:Copied", summary="for tests", granularity="token", causal=True
    )
    prompts = [Prompt(ids=ids) for ids in itertools.product(range(VOCAB), repeat=LENGTH)]
    rewards = RewardSum([Source(name="copied", spec=record, reward=Copied())])
    return TokenTask(prompts, None, VOCAB, (), PAD, LENGTH, rewards, allowed=allowed)


def copy_env(**arguments: Any) -> gymnasium.Env[Any, Any]:
    get_registry().register_envs()
    return gymnasium.make("TextRL/Tokens-v0", task=copy_task(), **arguments)


def returns(learner: Any, env: gymnasium.Env[Any, Any] | None = None) -> list[float]:
    """Return what the learner's best answer to each of the prompts is paid."""
    world = env or copy_env()
    found = []
    for number in range(VOCAB**LENGTH):
        observation, _ = world.reset(seed=0, options={"episode": number})
        total, over = 0.0, False
        while not over:
            action, _ = learner.predict(observation, deterministic=True)
            observation, reward, over, _, _ = world.step(int(action))
            total += float(reward)
        found.append(total)
    return found
