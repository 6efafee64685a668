"""One token a step, for any model: `open_decoder` chooses how.

The architectures that `textrl.models.packed` composes itself get a `StaticDecoder` on a CPU and a
`CapturedDecoder` on a CUDA device, all others a `ModuleDecoder` around transformers' own cache. All number
the rows that are still written from 0; `keep` lets finished rows leave.

Shapes: ``n`` rows still written, ``P`` prompt tokens (left-padded), ``H`` width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from textrl.models.captured import borrow, capturable
from textrl.models.layers import base, blocks
from textrl.models.packed import composable
from textrl.models.static import StaticDecoder


class Decoder(Protocol):
    """Feeds tokens and returns the hidden states that choose the next ones.

    Attributes:
        seen: Block count -> (n, fed tokens, H) output of that many blocks in the last call.
    """

    seen: dict[int, Tensor]

    def prefill(self, ids: Tensor, mask: Tensor, lent: Tensor | None = None) -> Tensor:
        """Feed (n, P) left-padded prompts; return the (n, H) normalised state of the last token.

        Args:
            ids: (n, P) int64.
            mask: (n, P) bool.
            lent: (n, P, H) outputs of the blocks that are lent, where some are.
        """
        ...

    def step(self, tokens: Tensor, lent: Tensor | None = None) -> Tensor:
        """Feed (n,) tokens, with the (n, 1, H) outputs of lent blocks; return their (n, H) final states."""
        ...

    def keep(self, kept: Tensor, moved: Tensor, holes: Tensor) -> None:
        """Go on with fewer rows.

        Args:
            kept: (m,) the old row of each new one.
            moved: (k,) old rows that take the places of rows that left, as `kept` says.
            holes: (k,) those places.
        """
        ...


@contextmanager
def open_decoder(
    model: PreTrainedModel, rows: int, capacity: int, depths: tuple[int, ...], first: int = 0
) -> Iterator[Decoder]:
    """Yield a decoder.

    Args:
        model: A causal LM in evaluation mode; call this without gradients.
        rows: Prompts.
        capacity: Prompt and response tokens of a row at most.
        depths: Block counts whose outputs `seen` shows.
        first: Blocks that another decoder lends, whose outputs come with each call; a decoder around
            transformers' own cache computes them again.
    """
    if composable(model) and model.device.type == "cpu":
        yield StaticDecoder(model, rows, capacity, depths, first)
        return
    if composable(model) and model.device.type == "cuda" and capturable(model):
        with borrow(model, rows, capacity, depths, first) as captured:
            yield captured
        return
    decoder = ModuleDecoder(model)
    handles = [
        blocks(model)[depth - 1].register_forward_hook(_keeper(decoder.seen, depth)) for depth in depths
    ]
    try:
        yield decoder
    finally:
        for handle in handles:
            handle.remove()


class ModuleDecoder:
    """transformers' own forward pass and growing cache, for every architecture it knows."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Make an empty one; `open_decoder` adds the hooks that fill `seen`."""
        self.model = model
        self.seen: dict[int, Tensor] = {}
        self._cache = DynamicCache(config=model.config)
        self._mask = self._positions = torch.zeros(0)

    def prefill(self, ids: Tensor, mask: Tensor, lent: Tensor | None = None) -> Tensor:
        """Feed (n, P) left-padded prompts; return the (n, H) normalised state of the last token."""
        self._mask, self._positions = mask, (mask.long().cumsum(-1) - 1).clamp(min=0)
        return self._feed(ids)

    def step(self, tokens: Tensor, lent: Tensor | None = None) -> Tensor:
        """Feed (n,) tokens; return their (n, H) normalised states."""
        self._mask = torch.cat([self._mask, torch.ones_like(self._mask[:, :1])], dim=1)
        self._positions = self._positions[:, -1:] + 1
        return self._feed(tokens[:, None])

    def keep(self, kept: Tensor, moved: Tensor, holes: Tensor) -> None:
        """Go on with fewer rows: a growing cache is copied whole."""
        self._cache.batch_select_indices(kept)
        self._mask, self._positions = self._mask[kept], self._positions[kept]

    def _feed(self, ids: Tensor) -> Tensor:
        inner: Any = base(self.model)
        out: Tensor = inner(
            input_ids=ids,
            attention_mask=self._mask.long(),
            position_ids=self._positions,
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state[:, -1]
        return out


def _keeper(seen: dict[int, Tensor], depth: int) -> Callable[..., None]:
    def hook(module: Any, args: Any, output: Any) -> None:
        seen[depth] = output[0] if isinstance(output, tuple) else output

    return hook
