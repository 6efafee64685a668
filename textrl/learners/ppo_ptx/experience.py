"""From a rollout to advantages: score once, then everything the update needs stands in tensors.

Shapes: ``B`` sequences, ``P`` prompt tokens, ``T`` response tokens, ``N`` real decisions.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor

from textrl.advice.text import TextAdvice
from textrl.distributed import sum_over_processes
from textrl.learners.ppo_ptx.advised import Advised
from textrl.learners.ppo_ptx.diagnostics import describe, kl_offset
from textrl.learners.ppo_ptx.generation import sample
from textrl.learners.ppo_ptx.guards import require_finite
from textrl.learners.ppo_ptx.memory import BatchSizes, MicroBatches
from textrl.learners.ppo_ptx.networks import Networks
from textrl.learners.ppo_ptx.settings import PPOPTXSettings
from textrl.mdp.gae import episode_gae
from textrl.mdp.losses import moments, whiten
from textrl.mdp.task import TokenTask
from textrl.models.parking import let_go
from textrl.models.stack import Trunk
from textrl.rewards import RewardSum, add

#: What `score` returns, as messages call it.
_SCORED = {
    "logprobs": "policy's log-probabilities",
    "ref_logprobs": "reference's log-probabilities",
    "values": "values of the value network",
    "entropy": "policy's entropies",
}
_ADVISED = {
    "policy_logprobs": "policy's log-probabilities without advice",
    "kl_policy": "KL divergences that advice makes",
    "mean_rating": "mean ratings",
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
        advised: What makes the distribution that acted out of the policy, where that is trained.
        ref_hidden: (N, H) last hidden states of the reference before all decisions, where somebody wants
            them.
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
    advised: Advised | None = None
    ref_hidden: Tensor | None = None


def collect(
    networks: Networks,
    task: TokenTask,
    learner_rewards: RewardSum | None,
    settings: PPOPTXSettings,
    accelerator: Accelerator,
    first_episode: int,
    sizes: BatchSizes | None = None,
    *,
    advice: TextAdvice | None = None,
    keep_hidden: bool = False,
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
        advice: On tokens, where somebody gives some.
        keep_hidden: Whether the reference's hidden states are wanted afterwards.

    Raises:
        UserError: When anything that would be trained on is not finite; names the component.
    """
    sizes = sizes or BatchSizes.of(settings)
    started = time.perf_counter()
    share = range(accelerator.process_index, settings.episodes_per_iteration, accelerator.num_processes)
    episodes = torch.tensor([first_episode + i for i in share], device=accelerator.device)
    prompts = [task.prompt_for(int(episode)) for episode in episodes]
    rollout = sample(networks, task, prompts, episodes, settings, sizes.rollout, advice)
    metrics = {"time/rollout_s": time.perf_counter() - started}
    require_finite("log-probabilities of the sampled tokens", rollout.logprobs, _FIX)
    ids, mask = rollout.ids, rollout.mask
    actions = torch.cat([torch.zeros_like(rollout.prompt_mask), rollout.response_mask], dim=1)
    trunk = rollout.trunk or networks.trunk(ids, mask)
    advised = None if advice is None else Advised.of(advice, rollout, actions)
    needs = learner_rewards.needs if learner_rewards is not None else frozenset()
    keep_hidden = keep_hidden or advised is not None or "ref_hidden" in needs
    scored = score(networks, ids, mask, actions, trunk, sizes.micro, advised=advised, keep_hidden=keep_hidden)
    hidden = scored.pop("ref_hidden", None)
    width = rollout.prompt_ids.shape[1]
    batch = task.batch(
        prompts,
        rollout.response_ids,
        rollout.response_mask,
        logprobs=scored[_trained(advice)][:, width:],
        ref_logprobs=scored["ref_logprobs"][:, width:],
        ref_hidden=spread_states(hidden, rollout.response_mask) if "ref_hidden" in needs else None,
        memo={"trunk": trunk},
        needs=needs,
    )
    breakdown = task.score(batch)
    for rewards in (task.rewards, learner_rewards):
        metrics |= rewards.metrics(batch) if rewards is not None else {}
    if learner_rewards is not None:
        breakdown = add(breakdown, learner_rewards(batch))
    if advised is not None and hidden is not None:
        advised = advised.scored(hidden, scored["mean_rating"])
        metrics |= advised.figures(scored["kl_policy"], accelerator)
        breakdown = advised.paid(breakdown, rollout.response_mask, settings.gamma)
    paid = shape_rewards(breakdown.total, rollout.response_mask, settings, accelerator)
    advantages, returns = episode_gae(
        paid, scored["values"][:, width:], rollout.response_mask, gamma=settings.gamma, lam=settings.lam
    )
    if advised is not None:
        advantages = advised.advantages(advantages, rollout.response_mask)
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
        advised=None if advised is None else advised.for_update,
        ref_hidden=hidden,
    )


@torch.no_grad()
def score(
    networks: Networks,
    ids: Tensor,
    mask: Tensor,
    actions: Tensor,
    trunk: Trunk,
    sizes: MicroBatches,
    *,
    advised: Advised | None = None,
    keep_hidden: bool = False,
) -> dict[str, Tensor]:
    """Score what was written by all networks.

    Args:
        networks: Policy, reference, value.
        ids: (B, L) int64.
        mask: (B, L) bool.
        actions: (B, L) bool.
        trunk: Of these ids.
        sizes: How many rows are scored together.
        advised: What stood between the policy and the tokens that were drawn.
        keep_hidden: Whether the reference's hidden states are wanted.

    Returns:
        (B, L) ``logprobs`` of what acted, ``ref_logprobs``, ``values`` and ``entropy``, zero off the actions.
        With advice also ``policy_logprobs``, the policy's own, ``kl_policy``, which is KL(mu || pi),
        and ``mean_rating``. Where they are wanted, (N, H) ``ref_hidden`` before all N actions.

    Raises:
        UserError: When one of them is not finite; names the network that it comes from.
    """
    names = _SCORED if advised is None else _SCORED | _ADVISED

    def work(size: int) -> dict[str, Tensor]:
        wide = torch.promote_types(networks.policy.dtype, torch.float32)
        out = {name: torch.zeros(ids.shape, dtype=wide, device=ids.device) for name in names}
        states = []
        for rows in torch.split(torch.arange(len(ids), device=ids.device), size):
            part = (ids[rows], mask[rows], actions[rows], trunk.rows(rows))
            found = {}
            found["ref_logprobs"], before = networks.reference_states(*part)
            if keep_hidden:
                states.append(before)
            if advised is None:
                found["logprobs"], found["entropy"], found["values"] = networks.logprobs_entropy_and_values(
                    *part
                )
            else:
                found |= advised.measure(networks, rows, mask[rows], part[-1], before)
            for name, flat in found.items():
                out[name][rows] = out[name][rows].masked_scatter(actions[rows], flat.to(wide))
        return out | ({"ref_hidden": torch.cat(states)} if keep_hidden else {})

    scored = sizes.run(work, rows=len(ids))
    let_go(networks.reference)
    for name, what in names.items():
        require_finite(what, scored[name], _FIX)
    return scored


def _trained(advice: TextAdvice | None) -> str:
    """Return whose log-probabilities a penalty is about: of what is trained."""
    return "policy_logprobs" if advice is not None and advice.settings.trained == "policy" else "logprobs"


def spread_states(flat: Tensor | None, mask: Tensor) -> Tensor:
    """Put (N, H) states, or the first of them, onto the (B, T) decisions that they belong to.

    Returns:
        (B, T, H), zero elsewhere.
    """
    assert flat is not None  # whoever wants them said so before scoring
    out = flat.new_zeros(*mask.shape, flat.shape[-1])
    out[mask] = flat[: int(mask.sum())]
    return out


def shape_rewards(total: Tensor, mask: Tensor, settings: PPOPTXSettings, accelerator: Accelerator) -> Tensor:
    """Clip and whiten the (B, T) rewards as the settings say: steps after, and apart from, the sources."""
    if settings.reward_clip is not None:
        total = total.clamp(-settings.reward_clip, settings.reward_clip)
    if settings.whiten_rewards:
        stats = sum_over_processes(accelerator, moments(total[mask]))
        total = total.masked_scatter(mask, whiten(total[mask], stats, shift_mean=False))
    return total
