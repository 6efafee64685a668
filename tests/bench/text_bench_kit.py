"""Policies made by hand, and specs of jobs that take a moment, for the tests of the text benchmark."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from textrl.bench.text_grid import grid
from textrl.bench.text_play import NEVER, Floats, Observation, Stateless
from textrl.evaluation.optimum import all_responses, episode_rewards
from textrl.mdp.task import Prompt, TokenTask

#: Keeps learners small and updates few.
LITTLE: dict[str, dict[str, Any]] = {
    "sarsa": {},
    "sb3/dqn": {"n_envs": 2, "learning_starts": 16, "net_arch": [16], "batch_size": 16, "buffer_size": 500},
    "sb3/a2c": {"n_envs": 2, "n_steps": 4, "net_arch": [16]},
    "sb3/ppo": {"n_envs": 2, "n_steps": 16, "batch_size": 16, "n_epochs": 1, "net_arch": [16]},
    "contrib/maskable_ppo": {"n_envs": 2, "n_steps": 16, "batch_size": 16, "n_epochs": 1, "net_arch": [16]},
    "contrib/recurrent_ppo": {
        "n_envs": 2, "n_steps": 16, "batch_size": 16, "n_epochs": 1, "net_arch": [16], "lstm_hidden_size": 8,
    },
    "rloo": {"episodes_per_iteration": 16, "group_size": 4, "minibatches": 2, "epochs": 1},
    "grpo": {"episodes_per_iteration": 16, "group_size": 4, "minibatches": 2, "epochs": 1},
    "ppo_ptx": {"episodes_per_iteration": 16, "minibatches": 2, "epochs": 1},
}  # fmt: skip


def job_of(row: str, task: str, budget: int = 96, **changes: Any) -> dict[str, Any]:
    """Return the spec of a job of the grid, tiny and short."""
    (cell,) = [cell for cell in grid("tiny", False) if (cell.row, cell.task) == (row, task)]
    spec = cell.spec(3)
    settings = spec["settings"] | LITTLE.get(spec["learner"] or "", {})
    return spec | {"settings": settings, "budget": budget, "points": 2, "episodes": 64} | changes


class Table(Stateless):
    """A policy that is given by log-probabilities of whole responses, and asked about their beginnings."""

    def __init__(self, task: TokenTask, log_policy: torch.Tensor) -> None:
        """Keep (X, R) log-probabilities in the order of `all_responses`."""
        self.task, self.ids = task, [prompt.ids for prompt in task.prompts]
        responses, mask = all_responses(task)
        self.responses = [row[real].tolist() for row, real in zip(responses, mask, strict=True)]
        self.p = log_policy.exp().numpy()

    def __call__(
        self, observation: Observation, state: Any, masks: NDArray[np.bool_] | None
    ) -> tuple[Floats, Any]:
        width, out = self.task.max_prompt_tokens, []
        for ids, mask in zip(observation["input_ids"], observation["attention_mask"], strict=True):
            prompt = tuple(int(one) for one in ids[:width][mask[:width] > 0])
            said = ids[width:][mask[width:] > 0].tolist()
            share = np.zeros(self.task.vocab_size)
            for p, response in zip(self.p[self.ids.index(prompt)], self.responses, strict=True):
                if response[: len(said)] == said and len(response) > len(said):
                    share[response[len(said)]] += p
            total = share.sum()
            share = share / total if total > 0 else np.full(len(share), 1 / len(share))
            out.append(np.where(share > 0, np.log(np.maximum(share, 1e-300)), NEVER))
        return np.stack(out), None


def best_table(task: TokenTask) -> Table:
    """Return the policy that gives one of the responses that are paid most, found by trying all."""
    ids, mask = all_responses(task)
    rows = []
    for prompt in task.prompts:
        paid = episode_rewards(task, prompt, ids, mask)
        row = torch.full((len(ids),), NEVER, dtype=torch.float64)
        row[int(paid.argmax())] = 0.0
        rows.append(row)
    return Table(task, torch.stack(rows))


def mean_return(task: TokenTask, log_policy: torch.Tensor) -> float:
    """Return the exact mean return of a policy over the prompts, by trying all responses."""
    ids, mask = all_responses(task)
    paid = torch.stack([episode_rewards(task, prompt, ids, mask) for prompt in task.prompts])
    return float((log_policy.exp() * paid).sum(1).mean())


def prompt_of(task: TokenTask, text: str) -> Prompt:
    """Return the prompt of a text."""
    return next(prompt for prompt in task.prompts if prompt.text == text)
