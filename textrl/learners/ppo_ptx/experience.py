"""From a rollout to advantages: score once, then everything the update needs stands in tensors.

Shapes: ``B`` sequences, ``P`` prompt tokens, ``T`` response tokens, ``N`` real decisions.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor

from textrl.distributed import sum_over_processes
from textrl.learners.ppo_ptx.diagnostics import describe, kl_offset
from textrl.learners.ppo_ptx.generation import sample
from textrl.learners.ppo_ptx.guards import require_finite
from textrl.learners.ppo_ptx.memory import BatchSizes, MicroBatches
from textrl.learners.ppo_ptx.networks import Networks
from textrl.learners.ppo_ptx.settings import PPOPTXSettings
from textrl.mdp.gae import episode_gae
from textrl.mdp.losses import moments, whiten
from textrl.mdp.task import TokenTask
from textrl.models.stack import Trunk
from textrl.rewards import RewardSum, add

#: What `score` returns, as messages call it.
_SCORED = {
    "logprobs": "policy's log-probabilities",
    "ref_logprobs": "reference's log-probabilities",
    "values": "values of the value network",
    "entropy": "policy's entropies",
}
_FIX = "lower the learning rate, or set precision to fp32"


@dataclass(frozen=True)
class Experience:
    """One iteration's sequences on this process.

    Attributes:
        ids: (B, P + T) int64.
        mask: (B, P + T) bool.
        actions: (B, P + T) bool, True on response tokens.
        trunk: Outputs of frozen blocks for these ids.
        logprobs: (B, P + T) of the policy that acted, zero elsewhere; likewise the next three.
        values: At rollout time.
        advantages: Whitened where the settings ask for it.
        returns: Value targets.
        episodes: (B,) int64 episode numbers.
        metrics: Figures of the iteration, over all processes.
        stats: What weight controllers read: ``kl_per_sequence``, ``episodes``.
    """

    ids: Tensor
    mask: Tensor
    actions: Tensor
    trunk: Trunk
    logprobs: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor
    episodes: Tensor
    metrics: dict[str, float]
    stats: dict[str, float]


def collect(
    networks: Networks,
    task: TokenTask,
    learner_rewards: RewardSum | None,
    settings: PPOPTXSettings,
    accelerator: Accelerator,
    first_episode: int,
    sizes: BatchSizes | None = None,
) -> Experience:
    """Sample this process's share of an iteration and score it.

    Args:
        networks: Policy, reference, value.
        task: Prompts and environment-side rewards.
        learner_rewards: Learner-side sources, such as the KL penalty.
        settings: Of the learner.
        accelerator: Of the process group.
        first_episode: Number of the iteration's first episode.
        sizes: How many rows are worked on together; by default as the settings say.

    Raises:
        UserError: When anything that would be trained on is not finite; names the component.
    """
    sizes = sizes or BatchSizes.of(settings)
    started = time.perf_counter()
    share = range(accelerator.process_index, settings.episodes_per_iteration, accelerator.num_processes)
    episodes = torch.tensor([first_episode + i for i in share], device=accelerator.device)
    prompts = [task.prompt_for(int(episode)) for episode in episodes]
    rollout = sample(networks, task, prompts, episodes, settings, sizes.rollout)
    metrics = {"time/rollout_s": time.perf_counter() - started}
    require_finite("log-probabilities of the sampled tokens", rollout.logprobs, _FIX)
    ids, mask = rollout.ids, rollout.mask
    actions = torch.cat([torch.zeros_like(rollout.prompt_mask), rollout.response_mask], dim=1)
    trunk = rollout.trunk or networks.trunk(ids, mask)
    scored = score(networks, ids, mask, actions, trunk, sizes.micro)
    needs = learner_rewards.needs if learner_rewards is not None else frozenset()
    width = rollout.prompt_ids.shape[1]
    batch = task.batch(
        prompts,
        rollout.response_ids,
        rollout.response_mask,
        logprobs=scored["logprobs"][:, width:],
        ref_logprobs=scored["ref_logprobs"][:, width:],
        memo={"trunk": trunk},
        needs=needs,
    )
    breakdown = task.score(batch)
    for rewards in (task.rewards, learner_rewards):
        metrics |= rewards.metrics(batch) if rewards is not None else {}
    if learner_rewards is not None:
        breakdown = add(breakdown, learner_rewards(batch))
    paid = shape_rewards(breakdown.total, rollout.response_mask, settings, accelerator)
    advantages, returns = episode_gae(
        paid, scored["values"][:, width:], rollout.response_mask, gamma=settings.gamma, lam=settings.lam
    )
    require_finite("rewards after clipping and whitening", paid, "look at the sources of reward")
    require_finite("advantages", advantages, "look at the rewards and the value network")
    metrics |= describe(rollout, scored, breakdown, paid, returns, task, accelerator)
    if first_episode == 0:
        metrics |= kl_offset(rollout, scored, accelerator)
    if settings.whiten_advantages:
        flat = advantages[rollout.response_mask]
        stats = sum_over_processes(accelerator, moments(flat))
        advantages = advantages.masked_scatter(rollout.response_mask, whiten(flat, stats))
    pad = torch.zeros(rollout.prompt_ids.shape, device=advantages.device)
    return Experience(
        ids=ids,
        mask=mask,
        actions=actions,
        trunk=trunk,
        logprobs=scored["logprobs"],
        values=scored["values"],
        advantages=torch.cat([pad, advantages], dim=1),
        returns=torch.cat([pad, returns], dim=1),
        episodes=episodes,
        metrics=metrics,
        stats={"kl_per_sequence": metrics["train/kl_ref"], "episodes": settings.episodes_per_iteration},
    )


@torch.no_grad()
def score(
    networks: Networks, ids: Tensor, mask: Tensor, actions: Tensor, trunk: Trunk, sizes: MicroBatches
) -> dict[str, Tensor]:
    """Return (B, L) ``logprobs``, ``ref_logprobs``, ``values`` and ``entropy``, zero off the actions.

    Raises:
        UserError: When one of them is not finite; names the network that it comes from.
    """

    def work(size: int) -> dict[str, Tensor]:
        wide = torch.promote_types(networks.policy.dtype, torch.float32)
        out = {name: torch.zeros(ids.shape, dtype=wide, device=ids.device) for name in _SCORED}
        for rows in torch.split(torch.arange(len(ids), device=ids.device), size):
            part = (ids[rows], mask[rows], actions[rows])
            lent = trunk.rows(rows)
            new, entropy, value = networks.logprobs_entropy_and_values(*part, lent)
            ref = networks.logprobs(networks.reference, *part, lent)
            for name, flat in zip(_SCORED, (new, ref, value, entropy), strict=True):
                out[name][rows] = out[name][rows].masked_scatter(actions[rows], flat.to(wide))
        return out

    scored = sizes.run(work, rows=len(ids))
    for name, tensor in scored.items():
        require_finite(_SCORED[name], tensor, _FIX)
    return scored


def shape_rewards(total: Tensor, mask: Tensor, settings: PPOPTXSettings, accelerator: Accelerator) -> Tensor:
    """Clip and whiten the (B, T) rewards as the settings say: steps after, and apart from, the sources."""
    if settings.reward_clip is not None:
        total = total.clamp(-settings.reward_clip, settings.reward_clip)
    if settings.whiten_rewards:
        stats = sum_over_processes(accelerator, moments(total[mask]))
        total = total.masked_scatter(mask, whiten(total[mask], stats, shift_mean=False))
    return total
