"""From a rollout to advantages: score once, then everything the update needs stands in tensors.

Shapes: ``B`` sequences, ``P`` prompt tokens, ``T`` response tokens, ``N`` real decisions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor

from textrl.distributed import sum_metrics, sum_over_processes
from textrl.errors import UserError
from textrl.learners.ppo_ptx.networks import Networks
from textrl.learners.ppo_ptx.settings import PPOPTXSettings
from textrl.mdp.gae import episode_gae
from textrl.mdp.kl import k1, k2, k3
from textrl.mdp.losses import explained_variance, moments, whiten
from textrl.mdp.task import Prompt, TokenTask
from textrl.models.stack import Trunk
from textrl.rewards import RewardBreakdown, RewardSum, add
from textrl.rollout import Rollout, generate


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
) -> Experience:
    """Sample this process's share of an iteration and score it.

    Args:
        networks: Policy, reference, value.
        task: Prompts and environment-side rewards.
        learner_rewards: Learner-side sources, such as the KL penalty.
        settings: Of the learner.
        accelerator: Of the process group.
        first_episode: Number of the iteration's first episode.
    """
    share = range(accelerator.process_index, settings.episodes_per_iteration, accelerator.num_processes)
    episodes = torch.tensor([first_episode + i for i in share], device=accelerator.device)
    prompts = [task.prompt_for(int(episode)) for episode in episodes]
    rollout = sample(networks, task, prompts, episodes, settings)
    ids, mask = rollout.ids, rollout.mask
    actions = torch.cat([torch.zeros_like(rollout.prompt_mask), rollout.response_mask], dim=1)
    trunk = rollout.trunk or networks.trunk(ids, mask)
    scored = score(networks, ids, mask, actions, trunk, settings.micro_batch_size)
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
    metrics: dict[str, float] = {}
    for rewards in (task.rewards, learner_rewards):
        metrics |= rewards.metrics(batch) if rewards is not None else {}
    if learner_rewards is not None:
        breakdown = add(breakdown, learner_rewards(batch))
    paid = shape_rewards(breakdown.total, rollout.response_mask, settings, accelerator)
    advantages, returns = episode_gae(
        paid, scored["values"][:, width:], rollout.response_mask, gamma=settings.gamma, lam=settings.lam
    )
    metrics |= describe(rollout, scored, breakdown, paid, returns, task, accelerator)
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


def sample(
    networks: Networks, task: TokenTask, prompts: list[Prompt], episodes: Tensor, settings: PPOPTXSettings
) -> Rollout:
    """Generate one response per prompt with the policy that is being trained."""
    ids, mask = task.collate(prompts)
    device = networks.policy.device
    with networks.autocast():
        return generate(
            networks.policy,
            ids.to(device),
            mask.to(device),
            max_new_tokens=task.max_new_tokens,
            eos_ids=task.eos_ids,
            pad_id=task.pad_id,
            seed=settings.seed,
            episodes=episodes,
            temperature=settings.temperature,
            keep_depths=networks.depths,
        )


@torch.no_grad()
def score(
    networks: Networks, ids: Tensor, mask: Tensor, actions: Tensor, trunk: Trunk, micro_batch: int
) -> dict[str, Tensor]:
    """Return (B, L) ``logprobs``, ``ref_logprobs``, ``values`` and ``entropy``, zero off the actions."""
    names = ("logprobs", "ref_logprobs", "values", "entropy")
    out = {name: torch.zeros(ids.shape, device=ids.device) for name in names}
    for start in range(0, len(ids), micro_batch):
        rows = torch.arange(start, min(start + micro_batch, len(ids)), device=ids.device)
        part = (ids[rows], mask[rows], actions[rows])
        lent = trunk.rows(rows)
        new, entropy = networks.logprobs_and_entropy(networks.policy, *part, lent)
        ref = networks.logprobs(networks.reference, *part, lent)
        value = networks.values(*part, lent)
        for name, flat in zip(names, (new, ref, value, entropy), strict=True):
            out[name][rows] = out[name][rows].masked_scatter(actions[rows], flat)
    for name, tensor in out.items():
        if not bool(torch.isfinite(tensor).all()):
            raise UserError(f"The {name} of a rollout are not finite; lower the learning rate or use fp32.")
    return out


def shape_rewards(total: Tensor, mask: Tensor, settings: PPOPTXSettings, accelerator: Accelerator) -> Tensor:
    """Clip and whiten the (B, T) rewards as the settings say: steps after, and apart from, the sources."""
    if settings.reward_clip is not None:
        total = total.clamp(-settings.reward_clip, settings.reward_clip)
    if settings.whiten_rewards:
        stats = sum_over_processes(accelerator, moments(total[mask]))
        total = total.masked_scatter(mask, whiten(total[mask], stats, shift_mean=False))
    return total


def describe(
    rollout: Rollout,
    scored: dict[str, Tensor],
    breakdown: RewardBreakdown,
    paid: Tensor,
    returns: Tensor,
    task: TokenTask,
    accelerator: Accelerator,
) -> dict[str, float]:
    """Return the figures of an iteration, averaged over the episodes of all processes."""
    width = rollout.prompt_ids.shape[1]
    mask = rollout.response_mask
    new, ref, values, entropy = (
        scored[name][:, width:][mask].double() for name in ("logprobs", "ref_logprobs", "values", "entropy")
    )
    eos = torch.isin(rollout.response_ids, torch.tensor(sorted(task.eos_ids), device=mask.device)) & mask
    sums = {
        "rollout/ep_rew_mean": paid.double().sum(),
        "reward/total": breakdown.total.double().sum(),
        "rollout/ep_len_mean": mask.sum(),
        "rollout/eos_rate": eos.any(1).sum(),
        "train/kl_ref": k1(new, ref).sum(),
        "train/kl_ref_k2": k2(new, ref).sum(),
        "train/kl_ref_k3": k3(new, ref).sum(),
        "entropy": entropy.sum(),
        "episodes": torch.tensor(len(mask)),
    } | {f"reward/{name}": part.double().sum() for name, part in breakdown.components.items()}
    figures = sum_metrics(accelerator, {name: float(value) for name, value in sums.items()})
    episodes, tokens = figures.pop("episodes"), figures["rollout/ep_len_mean"]
    per_token = figures.pop("entropy") / tokens
    out = {name: value / episodes for name, value in figures.items()}
    gap = (rollout.logprobs[mask].double() - new).abs()
    variance = explained_variance(values, returns[mask])
    out |= {"train/entropy": per_token, "train/logprob_gap": float(gap.max())}
    return out | ({} if math.isnan(variance) else {"train/explained_variance": variance})
