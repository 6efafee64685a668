"""Rewards by rule: a small machine that reads a response token by token and pays for each.

What a rule pays for a token depends on the prompt and on the response up to that token, so every such
reward is causal; and since the machine's states are few, the exact value of a policy that depends on them
alone follows by dynamic programming (`textrl_text.tasks.facts`).

Shapes: ``B`` sequences, ``T`` response tokens (right-padded), ``V`` vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from textrl.mdp.task import ActionMask, Prompt
from textrl.protocols import Batch
from textrl.rewards import Source
from textrl.specs import RewardSpec

#: What a task's own reward is called in every log, so that tasks can be compared.
TASK_REWARD = "task"

State = Hashable


class Rules(Protocol):
    """The machine. It need not know how an episode ends: it is not asked about later tokens."""

    def start(self, prompt: Sequence[int]) -> State:
        """Return the state before the first token.

        Args:
            prompt: Token ids, without padding.
        """
        ...

    def step(self, state: State, token: int) -> tuple[State, float]:
        """Return the next state, and what the token is paid."""
        ...

    def allowed(self, state: State) -> Collection[int] | None:
        """Return the tokens that the rules leave open; None where this task has no such rules."""
        ...


class RulesReward:
    """Pays what the rules say."""

    def __init__(self, rules: Rules, pays: Literal["token", "episode"]) -> None:
        """Keep the rules.

        Args:
            rules: The machine.
            pays: ``token`` pays as tokens are written, ``episode`` gives their sum with the last one.
        """
        self.rules = rules
        self.pays = pays

    def __call__(self, batch: Batch) -> Tensor:
        """Return (B, T) float32 where tokens are paid, zero outside the mask, else (B,)."""
        lengths = batch.response_mask.sum(1).tolist()
        prompts = zip(batch.prompt_ids.tolist(), batch.prompt_mask.sum(1).tolist(), strict=True)
        paid = np.zeros(tuple(batch.response_ids.shape), dtype=np.float32)
        for row, (ids, size) in enumerate(prompts):
            state = self.rules.start(tuple(ids[len(ids) - size :]))
            for column, token in enumerate(batch.response_ids[row, : lengths[row]].tolist()):
                state, paid[row, column] = self.rules.step(state, token)
        found = torch.from_numpy(paid).to(batch.response_ids.device)
        return found if self.pays == "token" else found.sum(1)


def rules_source(rules: Rules, pays: Literal["token", "episode"]) -> Source:
    """Return the task's own source of reward.

    Args:
        rules: The machine.
        pays: See `RulesReward`.
    """
    spec = RewardSpec(
        name=TASK_REWARD,
        target="textrl_text.tasks.rules:RulesReward",
        summary="what the task's rules pay",
        granularity=pays,
        causal=pays == "token",
    )
    return Source(name=TASK_REWARD, spec=spec, reward=RulesReward(rules, pays))


def rule_masks(rules: Rules, vocab_size: int) -> ActionMask:
    """Return the (V,) bool mask of what the rules leave open, as a function of prompt and response."""

    def allowed(prompt: Prompt, response: Sequence[int]) -> NDArray[np.bool_]:
        state = rules.start(prompt.ids)
        for token in response:
            state, _ = rules.step(state, token)
        tokens = rules.allowed(state)
        mask = np.zeros(vocab_size, dtype=np.bool_)
        mask[list(range(vocab_size) if tokens is None else tokens)] = True
        return mask

    return allowed
