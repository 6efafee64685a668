"""Batched generation: one forward pass per token, finished rows leave the batch.

The tokens are those that stepping the environment row by row would give: the sampling noise is keyed by
(seed, episode, position), and log-probabilities come from the function that training uses. Sampling
processors (top-k, top-p, penalties) do not exist here: scoring would not see them, and the logged KL
would go negative.

Shapes: ``B`` sequences, ``P`` prompt tokens (left-padded), ``T`` response tokens (right-padded),
``V`` vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from textrl.mdp.sampling import chosen_logprobs, greedy, sample_with_logprobs
from textrl.models.decoding import Decoder, open_decoder
from textrl.models.products import head_logits
from textrl.models.stack import Trunk, frozen_depth


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
        advice: Name -> (B, T) what an adviser kept of each step.
    """

    prompt_ids: Tensor
    prompt_mask: Tensor
    response_ids: Tensor
    response_mask: Tensor
    logprobs: Tensor
    trunk: Trunk | None = None
    advice: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def ids(self) -> Tensor:
        """(B, P + T) int64 prompts and responses."""
        return torch.cat([self.prompt_ids, self.response_ids], dim=1)

    @property
    def mask(self) -> Tensor:
        """(B, P + T) bool."""
        return torch.cat([self.prompt_mask, self.response_mask], dim=1)


class Adviser(Protocol):
    """Somebody who changes the distribution that tokens are drawn from, step by step.

    Rows that are still written are numbered from 0, as in `Decoder`.
    """

    def prefill(self, ids: Tensor, mask: Tensor, decoder: Decoder) -> None:
        """See (n, P) left-padded prompts, after the policy's own `decoder` has."""
        ...

    def logits(self, logits: Tensor, alive: Tensor, t: int) -> Tensor:
        """Return (n, V) logits to draw from.

        Args:
            logits: (n, V) of the policy, divided by the temperature.
            alive: (n,) which rows of the batch these are.
            t: Position in the response.
        """
        ...

    def step(self, tokens: Tensor, decoder: Decoder) -> None:
        """See the (n,) tokens that were drawn, after the policy's own `decoder` has."""
        ...

    def keep(self, kept: Tensor, moved: Tensor, holes: Tensor) -> None:
        """Go on with fewer rows; see `Decoder.keep`."""
        ...

    def kept(self, steps: int) -> Mapping[str, Tensor]:
        """Return what is to be remembered, name -> (B, steps)."""
        ...


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
    adviser: Adviser | None = None,
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
        adviser: Who has a say in the choice of tokens; log-probabilities are then those of what acted.
    """
    device, rows = prompt_ids.device, prompt_ids.shape[0]
    weight, bias = head_of(model)
    eos = torch.tensor(sorted(eos_ids), dtype=torch.int64, device=device)
    out = _Buffers.empty(rows, prompt_ids.shape[1], max_new_tokens, pad_id, device)
    alive = torch.arange(rows, device=device)
    depths = tuple(depth for depth in keep_depths if 0 < depth <= frozen_depth(model))
    capacity = prompt_ids.shape[1] + max_new_tokens
    with open_decoder(model, rows, capacity, depths) as decoder:
        hidden = decoder.prefill(prompt_ids, prompt_mask)
        out.keep(decoder.seen, alive, 0)
        if adviser is not None:
            adviser.prefill(prompt_ids, prompt_mask, decoder)
        for t in range(max_new_tokens):
            logits = head_logits(hidden, weight, bias, temperature)
            if adviser is not None:
                logits = adviser.logits(logits, alive, t)
            if deterministic:
                tokens = greedy(logits)
                chosen = chosen_logprobs(logits, tokens)
            else:
                tokens, chosen = sample_with_logprobs(
                    logits, seed, episodes[alive], torch.full_like(alive, t)
                )
            ended = torch.isin(tokens, eos) if len(eos) else None
            out.write(alive, t, tokens, chosen)
            finished = ended is not None and bool(ended.all())
            # The outputs for the last tokens are wanted too where the frozen blocks' are kept.
            if (finished or t == max_new_tokens - 1) and not depths:
                break
            hidden = decoder.step(tokens)
            out.keep(decoder.seen, alive, t + 1)
            if finished or t == max_new_tokens - 1:
                break
            if adviser is not None:
                adviser.step(tokens, decoder)
            if ended is not None and bool(ended.any()):
                kept, moved, holes = _survivors(~ended)
                decoder.keep(kept, moved, holes)
                if adviser is not None:
                    adviser.keep(kept, moved, holes)
                alive, hidden = alive[kept], hidden[kept]
    return out.rollout(model, prompt_ids, prompt_mask, keep_depths, adviser)


def _survivors(going: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Close the gaps that finished rows leave with the last rows, so that few rows move.

    Args:
        going: (n,) bool.

    Returns:
        (m,) the old row of each new one, and of those that changed their place (k,) the old and the new.
    """
    rows = going.nonzero().squeeze(1)
    count = len(rows)
    holes = (~going[:count]).nonzero().squeeze(1)
    moved = rows[rows >= count]
    kept = torch.arange(count, device=going.device)
    kept[holes] = moved
    return kept, moved, holes


@dataclass
class _Buffers:
    """What generation fills in, row by row and step by step."""

    ids: Tensor
    mask: Tensor
    logprobs: Tensor
    prompt_length: int
    hidden: dict[int, Tensor]

    @classmethod
    def empty(cls, rows: int, prompt_length: int, steps: int, pad_id: int, device: torch.device) -> _Buffers:
        return cls(
            ids=torch.full((rows, steps), pad_id, dtype=torch.int64, device=device),
            mask=torch.zeros((rows, steps), dtype=torch.bool, device=device),
            logprobs=torch.zeros((rows, steps), device=device),
            prompt_length=prompt_length,
            hidden={},
        )

    def write(self, alive: Tensor, t: int, tokens: Tensor, logprobs: Tensor) -> None:
        self.ids[alive, t] = tokens
        self.mask[alive, t] = True
        self.logprobs[alive, t] = logprobs

    def keep(self, captured: dict[int, Tensor], alive: Tensor, t: int) -> None:
        """Store what the decoder saw: the whole prompt at t = 0, then the token fed at each step."""
        rows, steps = self.ids.shape
        for depth, seen in captured.items():
            if depth not in self.hidden:
                shape = (rows, self.prompt_length + steps, seen.shape[-1])
                self.hidden[depth] = torch.zeros(shape, dtype=seen.dtype, device=seen.device)
            start = 0 if t == 0 else self.prompt_length + t - 1
            self.hidden[depth][alive, start : start + seen.shape[1]] = seen

    def rollout(
        self,
        model: PreTrainedModel,
        prompt_ids: Tensor,
        prompt_mask: Tensor,
        depths: tuple[int, ...],
        adviser: Adviser | None,
    ) -> Rollout:
        """Cut the unused steps off and assemble the result."""
        length = max(int(self.mask.sum(1).max()), 1)
        ids, mask = self.ids[:, :length], self.mask[:, :length]
        advice = {} if adviser is None else adviser.kept(length)
        result = Rollout(prompt_ids, prompt_mask, ids, mask, self.logprobs[:, :length], None, advice)
        if not depths:
            return result
        total = self.prompt_length + length
        hidden = {depth: seen[:, :total].contiguous() for depth, seen in self.hidden.items()}
        return replace(result, trunk=Trunk(model, result.ids, result.mask, depths, hidden))
