"""From prompts to groups of scored responses.

Shapes: ``G`` groups on this process, ``K`` responses of each, ``B = G K`` sequences (the responses to one
prompt stand next to each other), ``P`` prompt tokens, ``T`` response tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor

from textrl.distributed import sum_metrics
from textrl.learners.groups.settings import GroupSettings
from textrl.learners.ppo_ptx.diagnostics import describe, kl_offset
from textrl.learners.ppo_ptx.experience import score, spread_states
from textrl.learners.ppo_ptx.generation import sample
from textrl.learners.ppo_ptx.guards import require_finite
from textrl.learners.ppo_ptx.memory import BatchSizes
from textrl.learners.ppo_ptx.networks import Networks
from textrl.mdp.task import TokenTask
from textrl.models.stack import Trunk
from textrl.rewards import RewardSum, add

#: (G, K) rewards of whole responses -> (G, K) advantages.
Advantages = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Experience:
    """One iteration's groups on this process.

    Attributes:
        ids: (B, P + T) int64.
        mask: (B, P + T) bool.
        actions: (B, P + T) bool, True on response tokens.
        trunk: Outputs of frozen blocks for these ids.
        logprobs: (B, P + T) of the policy that acted, zero elsewhere.
        ref_logprobs: (B, P + T) of the reference, zero elsewhere.
        returns: (G, K) float64, rewards of whole responses.
        advantages: (B,) of the policy's type, the same for all tokens of a response.
        groups: (G,) int64 numbers of the groups.
        metrics: Figures of the iteration, over all processes.
        stats: What weight controllers read: ``kl_per_sequence``, ``episodes``.
    """

    ids: Tensor
    mask: Tensor
    actions: Tensor
    trunk: Trunk
    logprobs: Tensor
    ref_logprobs: Tensor
    returns: Tensor
    advantages: Tensor
    groups: Tensor
    metrics: dict[str, float]
    stats: dict[str, float]


def collect(
    networks: Networks,
    task: TokenTask,
    learner_rewards: RewardSum | None,
    settings: GroupSettings,
    accelerator: Accelerator,
    first_group: int,
    advantages: Advantages,
    sizes: BatchSizes,
) -> Experience:
    """Sample this process's share of an iteration, score it, compare the responses of each group.

    Group g starts from the task's prompt number g; its responses are the episodes g K ... g K + K - 1.

    Args:
        networks: Policy and reference.
        task: Prompts and environment-side rewards.
        learner_rewards: Learner-side sources, such as the KL penalty.
        settings: Of the learner.
        accelerator: Of the process group.
        first_group: Number of the iteration's first group.
        advantages: Compares the responses of each group.
        sizes: How many rows are worked on together.

    Raises:
        UserError: When anything that would be trained on is not finite; names the component.
    """
    started, size = time.perf_counter(), settings.group_size
    share = range(accelerator.process_index, settings.groups_per_iteration, accelerator.num_processes)
    groups = torch.tensor([first_group + i for i in share], device=accelerator.device)
    prompts = [task.prompt_for(int(group)) for group in groups for _ in range(size)]
    episodes = (groups[:, None] * size + torch.arange(size, device=groups.device)).flatten()
    rollout = sample(networks, task, prompts, episodes, settings.engine(), sizes.rollout)
    metrics = {"time/rollout_s": time.perf_counter() - started}
    actions = torch.cat([torch.zeros_like(rollout.prompt_mask), rollout.response_mask], dim=1)
    trunk = rollout.trunk or networks.trunk(rollout.ids, rollout.mask)
    needs = learner_rewards.needs if learner_rewards is not None else frozenset()
    states = "ref_hidden" in needs
    scored = score(networks, rollout.ids, rollout.mask, actions, trunk, sizes.micro, keep_hidden=states)
    hidden = scored.pop("ref_hidden", None)
    width = rollout.prompt_ids.shape[1]
    batch = task.batch(
        prompts,
        rollout.response_ids,
        rollout.response_mask,
        logprobs=scored["logprobs"][:, width:],
        ref_logprobs=scored["ref_logprobs"][:, width:],
        ref_hidden=spread_states(hidden, rollout.response_mask) if states else None,
        memo={"trunk": trunk},
        needs=needs,
    )
    breakdown = task.score(batch)
    for rewards in (task.rewards, learner_rewards):
        metrics |= rewards.metrics(batch) if rewards is not None else {}
    if learner_rewards is not None:
        breakdown = add(breakdown, learner_rewards(batch))
    returns = breakdown.total.double().sum(1).view(-1, size)
    compared = advantages(returns)
    require_finite("advantages", compared, "look at the sources of reward")
    metrics |= describe(rollout, scored, breakdown, breakdown.total, breakdown.total, task, accelerator)
    metrics.pop("train/explained_variance", None)  # of a critic, which is not here
    if first_group == 0:
        metrics |= kl_offset(rollout, scored, accelerator)
    return Experience(
        ids=rollout.ids,
        mask=rollout.mask,
        actions=actions,
        trunk=trunk,
        logprobs=scored["logprobs"],
        ref_logprobs=scored["ref_logprobs"],
        returns=returns,
        advantages=compared.flatten().to(scored["logprobs"].dtype),
        groups=groups,
        metrics=metrics | _spread(returns, accelerator),
        stats={"kl_per_sequence": metrics["train/kl_ref"], "episodes": settings.episodes_per_iteration},
    )


def _spread(returns: Tensor, accelerator: Accelerator) -> dict[str, float]:
    """Return how far the responses to one prompt are apart, and the share of groups that say nothing."""
    spread = returns.std(dim=1, correction=1)
    sums = {"std": float(spread.sum()), "equal": float((spread == 0).sum()), "n": float(len(spread))}
    total = sum_metrics(accelerator, sums)
    return {
        "train/group_std": total["std"] / total["n"],
        "train/equal_groups": total["equal"] / total["n"],
    }
