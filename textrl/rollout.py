"""Batched generation: one forward pass per token, finished rows leave the batch.

The tokens are those that stepping the environment row by row would give: the sampling noise is keyed by
(seed, episode, position), and log-probabilities come from the function that training uses. Sampling
processors (top-k, top-p, penalties) do not exist here: scoring would not see them, and the logged KL
would go negative.

Shapes: ``B`` sequences, ``P`` prompt tokens (left-padded), ``T`` response tokens (right-padded),
``V`` vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from textrl.mdp.logprobs import logits_of
from textrl.mdp.sampling import greedy, sample
from textrl.models.layers import base, blocks
from textrl.models.stack import Trunk, frozen_depth, positions


@dataclass(frozen=True)
class Rollout:
    """Sampled responses.

    Attributes:
        prompt_ids: (B, P) int64, left-padded.
        prompt_mask: (B, P) bool.
        response_ids: (B, T) int64, right-padded with the pad id; holds the EOS action where there was one.
        response_mask: (B, T) bool.
        logprobs: (B, T) float32 log-probabilities as sampled, zero on padding.
        trunk: Outputs of the frozen blocks at every position, where asked for.
    """

    prompt_ids: Tensor
    prompt_mask: Tensor
    response_ids: Tensor
    response_mask: Tensor
    logprobs: Tensor
    trunk: Trunk | None = None

    @property
    def ids(self) -> Tensor:
        """(B, P + T) int64 prompts and responses."""
        return torch.cat([self.prompt_ids, self.response_ids], dim=1)

    @property
    def mask(self) -> Tensor:
        """(B, P + T) bool."""
        return torch.cat([self.prompt_mask, self.response_mask], dim=1)


def head_of(model: PreTrainedModel) -> tuple[Tensor, Tensor | None]:
    """Return the (V, H) weight and the (V,) bias, or None, of the language-model head."""
    head = model.get_output_embeddings()
    return head.weight, getattr(head, "bias", None)


@torch.no_grad()
def generate(
    model: PreTrainedModel,
    prompt_ids: Tensor,
    prompt_mask: Tensor,
    *,
    max_new_tokens: int,
    eos_ids: Collection[int],
    pad_id: int,
    seed: int,
    episodes: Tensor,
    temperature: float = 1.0,
    deterministic: bool = False,
    keep_depths: tuple[int, ...] = (),
) -> Rollout:
    """Sample one response per prompt.

    Args:
        model: A causal LM in evaluation mode.
        prompt_ids: (B, P) int64, left-padded.
        prompt_mask: (B, P) bool.
        max_new_tokens: The task's own length limit, T.
        eos_ids: Tokens that end an episode; they are actions and belong to the response.
        pad_id: Fills the right of shorter responses.
        seed: Of the sampling noise.
        episodes: (B,) int64 episode numbers, which key the noise.
        temperature: Divides the logits; training must use the same.
        deterministic: Take the most probable token instead of sampling.
        keep_depths: Frozen block counts whose outputs the returned trunk holds.
    """
    device, rows = prompt_ids.device, prompt_ids.shape[0]
    weight, bias = head_of(model)
    eos = torch.tensor(sorted(eos_ids), dtype=torch.int64, device=device)
    out = _Buffers.empty(rows, prompt_ids.shape[1], max_new_tokens, pad_id, device)
    alive = torch.arange(rows, device=device)
    cache = DynamicCache(config=model.config)
    mask, step_ids, step_positions = prompt_mask, prompt_ids, positions(prompt_mask)
    with _capture(model, keep_depths) as captured:
        for t in range(max_new_tokens + 1):
            if t == max_new_tokens and not keep_depths:
                break
            hidden = base(model)(
                input_ids=step_ids,
                attention_mask=mask.long(),
                position_ids=step_positions,
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state[:, -1]
            out.keep(captured, alive, t)
            going = ~out.finished[alive]
            if t == max_new_tokens or not bool(going.any()):
                break
            if not bool(going.all()):
                kept = going.nonzero().squeeze(1)
                cache.batch_select_indices(kept)
                alive, hidden, mask, step_positions = (
                    alive[kept],
                    hidden[kept],
                    mask[kept],
                    step_positions[kept],
                )
            logits = logits_of(hidden, weight, bias, temperature)
            at = torch.full_like(alive, t)
            tokens = greedy(logits) if deterministic else sample(logits, seed, episodes[alive], at)
            chosen = logits.gather(1, tokens[:, None]).squeeze(1) - torch.logsumexp(logits, dim=-1)
            out.write(alive, t, tokens, chosen, torch.isin(tokens, eos))
            if not keep_depths and bool(out.finished.all()):
                break
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
            step_ids, step_positions = tokens[:, None], step_positions[:, -1:] + 1
    return out.rollout(model, prompt_ids, prompt_mask, keep_depths)


@dataclass
class _Buffers:
    """What generation fills in, row by row and step by step."""

    ids: Tensor
    mask: Tensor
    logprobs: Tensor
    finished: Tensor
    prompt_length: int
    hidden: dict[int, Tensor]

    @classmethod
    def empty(cls, rows: int, prompt_length: int, steps: int, pad_id: int, device: torch.device) -> _Buffers:
        return cls(
            ids=torch.full((rows, steps), pad_id, dtype=torch.int64, device=device),
            mask=torch.zeros((rows, steps), dtype=torch.bool, device=device),
            logprobs=torch.zeros((rows, steps), device=device),
            finished=torch.zeros(rows, dtype=torch.bool, device=device),
            prompt_length=prompt_length,
            hidden={},
        )

    def write(self, alive: Tensor, t: int, tokens: Tensor, logprobs: Tensor, ended: Tensor) -> None:
        self.ids[alive, t] = tokens
        self.mask[alive, t] = True
        self.logprobs[alive, t] = logprobs
        self.finished[alive] = ended

    def keep(self, captured: dict[int, Tensor], alive: Tensor, t: int) -> None:
        """Store what the hooks saw: the whole prompt at t = 0, then the token fed at each step."""
        rows, steps = self.ids.shape
        for depth, seen in captured.items():
            if depth not in self.hidden:
                shape = (rows, self.prompt_length + steps, seen.shape[-1])
                self.hidden[depth] = torch.zeros(shape, dtype=seen.dtype, device=seen.device)
            start = 0 if t == 0 else self.prompt_length + t - 1
            self.hidden[depth][alive, start : start + seen.shape[1]] = seen

    def rollout(
        self, model: PreTrainedModel, prompt_ids: Tensor, prompt_mask: Tensor, depths: tuple[int, ...]
    ) -> Rollout:
        """Cut the unused steps off and assemble the result."""
        length = max(int(self.mask.sum(1).max()), 1)
        ids, mask = self.ids[:, :length], self.mask[:, :length]
        result = Rollout(prompt_ids, prompt_mask, ids, mask, self.logprobs[:, :length])
        if not depths:
            return result
        total = self.prompt_length + length
        hidden = {depth: seen[:, :total].contiguous() for depth, seen in self.hidden.items()}
        trunk = Trunk(model, result.ids, result.mask, depths, hidden)
        return Rollout(prompt_ids, prompt_mask, ids, mask, result.logprobs, trunk)


@contextmanager
def _capture(model: PreTrainedModel, depths: tuple[int, ...]) -> Iterator[dict[int, Tensor]]:
    """Yield a dict that holds, after each forward pass, the output of the first `depth` blocks."""
    seen: dict[int, Tensor] = {}
    limit = frozen_depth(model)
    handles = []

    def keeper(depth: int) -> Callable[..., None]:
        def hook(module: Any, args: Any, output: Any) -> None:
            seen[depth] = output[0] if isinstance(output, tuple) else output

        return hook

    for depth in depths:
        if 0 < depth <= limit:
            handles.append(blocks(model)[depth - 1].register_forward_hook(keeper(depth)))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
