"""Sampling an iteration's responses, as many at a time as memory holds.

The noise of a row is keyed by its episode, so that rows may be generated in any company.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from textrl.advice.text import TextAdvice
from textrl.learners.ppo_ptx.advised import companion
from textrl.learners.ppo_ptx.memory import MicroBatches
from textrl.learners.ppo_ptx.networks import Networks
from textrl.learners.ppo_ptx.settings import PPOPTXSettings
from textrl.mdp.task import Prompt, TokenTask
from textrl.models.stack import Trunk
from textrl.rollout import Rollout, generate


def sample(
    networks: Networks,
    task: TokenTask,
    prompts: list[Prompt],
    episodes: Tensor,
    settings: PPOPTXSettings,
    sizes: MicroBatches | None = None,
    advice: TextAdvice | None = None,
) -> Rollout:
    """Generate one response per prompt with the policy that is being trained.

    Args:
        networks: Of the learner.
        task: Whose prompts these are.
        prompts: B prompts.
        episodes: (B,) int64 episode numbers.
        settings: Of the learner.
        sizes: How many rows are generated together; by default as the settings say.
        advice: On tokens, where somebody gives some.
    """
    device = networks.policy.device
    ids, mask = (x.to(device) for x in task.collate(prompts))
    sizes = sizes or MicroBatches(settings.rollout_batch_size or len(prompts), "rollout_batch_size")

    def part(rows: slice) -> Rollout:
        count, steps = len(ids[rows]), task.max_new_tokens
        with companion(networks, advice, rows=count, prompt=ids.shape[1], steps=steps) as adviser:
            return generate(
                networks.policy,
                ids[rows],
                mask[rows],
                max_new_tokens=steps,
                eos_ids=task.eos_ids,
                pad_id=task.pad_id,
                seed=settings.seed,
                episodes=episodes[rows],
                temperature=settings.temperature,
                keep_depths=networks.depths,
                adviser=adviser,
            )

    def work(size: int) -> Rollout:
        starts = range(0, len(prompts), size)
        return join([part(slice(start, start + size)) for start in starts], task.pad_id)

    with networks.autocast():
        return sizes.run(work, rows=len(prompts))


def join(parts: Sequence[Rollout], pad_id: int) -> Rollout:
    """Put rollouts of equally wide prompts below each other; shorter responses are padded on the right."""
    if len(parts) == 1:
        return parts[0]
    length = max(part.response_ids.shape[1] for part in parts)
    prompt = parts[0].prompt_ids.shape[1]
    missing = [length - part.response_ids.shape[1] for part in parts]
    pairs = list(zip(parts, missing, strict=True))
    joined = Rollout(
        prompt_ids=torch.cat([part.prompt_ids for part in parts]),
        prompt_mask=torch.cat([part.prompt_mask for part in parts]),
        response_ids=torch.cat([pad(part.response_ids, (0, m), value=pad_id) for part, m in pairs]),
        response_mask=torch.cat([pad(part.response_mask, (0, m), value=False) for part, m in pairs]),
        logprobs=torch.cat([pad(part.logprobs, (0, m)) for part, m in pairs]),
        advice={name: torch.cat([pad(p.advice[name], (0, m)) for p, m in pairs]) for name in parts[0].advice},
    )
    trunks = [part.trunk for part in parts if part.trunk is not None]
    if len(trunks) < len(parts):
        return joined
    hidden = {
        depth: torch.cat(
            [pad(t.hidden[depth], (0, 0, 0, prompt + length - t.hidden[depth].shape[1])) for t in trunks]
        )
        for depth in trunks[0].hidden
    }
    trunk = Trunk(trunks[0].model, joined.ids, joined.mask, trunks[0].depths, hidden)
    return replace(joined, trunk=trunk)
