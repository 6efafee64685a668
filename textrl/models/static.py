"""A key-value store of fixed size, and the least Python that a step can do with.

Shapes: ``n`` rows still written, ``P`` prompt tokens (left-padded), ``C`` capacity in tokens, ``H`` width,
``G`` key-value heads, ``R`` query heads of each, ``D`` their width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import PreTrainedModel

from textrl.models.layers import blocks
from textrl.models.packed import embed, final_norm, rotary, run_block


class StaticDecoder:
    """Keys and values in tensors of their final size: nothing is copied or allocated as a row grows."""

    def __init__(
        self, model: PreTrainedModel, rows: int, capacity: int, depths: tuple[int, ...], first: int = 0
    ) -> None:
        """Make an empty one; see `textrl.models.decoding.open_decoder`. The first keys make the store."""
        self.model, self.capacity, self.depths, self.first = model, capacity, depths, first
        self.rows, self.length = rows, 0
        self.seen: dict[int, Tensor] = {}
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self._bias: Tensor | None = None
        self._positions = torch.zeros(0, dtype=torch.int64)

    def prefill(self, ids: Tensor, mask: Tensor, lent: Tensor | None = None) -> Tensor:
        """Feed (n, P) left-padded prompts; return the (n, H) normalised state of the last token."""
        rows, width = ids.shape
        positions = (mask.long().cumsum(-1) - 1).clamp(min=0)
        self.length = width
        self._begin(mask)
        square: Tensor | None = None
        if not bool(mask.all()):
            before = torch.ones(width, width, dtype=torch.bool, device=ids.device).tril()
            # A query on padding sees itself, so that nothing is divided by zero; nobody reads it.
            square = (mask[:, None, None, :] & before) | torch.eye(width, dtype=torch.bool, device=ids.device)

        def attend(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
            q, k, v = (x.view(rows, width, *x.shape[1:]).transpose(1, 2) for x in (query, key, value))
            self._store(k, v)
            if square is not None and q.is_cuda:
                # With a mask and grouped heads CUDA has only the kernel that writes all scores out.
                k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
            out = torch.nn.functional.scaled_dot_product_attention(
                q, k, v, attn_mask=square, is_causal=square is None, scale=scale,
                enable_gqa=q.shape[1] != k.shape[1],
            )  # fmt: skip
            return out.transpose(1, 2).reshape(rows * width, *query.shape[1:])

        x = self._enter(ids.reshape(-1), positions.reshape(-1), lent)
        x = self._blocks(x, positions.reshape(-1), attend, (rows, width))
        self._positions = positions[:, -1] + 1
        return final_norm(self.model)(x.view(rows, width, -1)[:, -1])  # type: ignore[no-any-return]

    def step(self, tokens: Tensor, lent: Tensor | None = None) -> Tensor:
        """Feed (n,) tokens; return their (n, H) normalised states."""
        rows, end = len(tokens), self.length + 1
        layer = iter(range(len(self._keys)))
        bias: Tensor | None = None

        def attend(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
            nonlocal bias
            index = next(layer)
            keys, values = self._keys[index][:rows], self._values[index][:rows]
            keys[:, :, end - 1], values[:, :, end - 1] = key, value
            groups, width = key.shape[1], key.shape[2]
            k = keys[:, :, :end].reshape(rows * groups, end, width)  # views: rows and groups merge
            v = values[:, :, :end].reshape(rows * groups, end, width)
            q = query.reshape(rows * groups, -1, width)
            if self._bias is None:
                scores = torch.bmm(q, k.transpose(1, 2)).mul_(scale)
            else:
                if bias is None:
                    bias = self._bias[:rows, :, :end].repeat_interleave(groups, dim=0)
                scores = torch.baddbmm(bias.to(q.dtype), q, k.transpose(1, 2), alpha=scale)
            return torch.bmm(torch.softmax(scores, dim=-1).to(v.dtype), v).view_as(query)

        x = self._enter(tokens, self._positions, lent)
        x = self._blocks(x, self._positions, attend, (rows, 1))
        self.length = end
        self._positions = self._positions + 1
        return final_norm(self.model)(x)  # type: ignore[no-any-return]

    def keep(self, kept: Tensor, moved: Tensor, holes: Tensor) -> None:
        """Go on with fewer rows: only those that fill a hole are copied."""
        for store in (*self._keys, *self._values):
            store[holes, :, : self.length] = store[moved, :, : self.length]
        if self._bias is not None:
            self._bias = self._bias[kept]
        self._positions = self._positions[kept]

    def _begin(self, mask: Tensor) -> None:
        """Note which places of the prompts hold tokens."""
        rows, width = mask.shape
        if not bool(mask.all()):
            lowest = torch.finfo(self.model.dtype).min
            self._bias = torch.zeros(rows, 1, self.capacity, dtype=self.model.dtype)
            self._bias[:, 0, :width].masked_fill_(~mask, lowest)

    def _enter(self, ids: Tensor, positions: Tensor, lent: Tensor | None) -> Tensor:
        """Return what the first block of this decoder reads, (n * fed, H)."""
        if self.first:
            assert lent is not None  # whoever lends blocks lends what they give
            return lent.reshape(len(ids), -1)
        return embed(self.model, ids, positions)

    def _blocks(
        self, x: Tensor, positions: Tensor, attend: Callable[..., Tensor], shape: tuple[int, int]
    ) -> Tensor:
        """Run the blocks on (n * fed, H) and note the outputs that are wanted."""
        turned = rotary(self.model, x, positions)
        for index in range(self.first, len(blocks(self.model))):
            x = run_block(self.model, index, x, turned, attend)
            if index + 1 in self.depths:
                self.seen[index + 1] = x.view(*shape, -1)
        return x

    def _store(self, key: Tensor, value: Tensor) -> None:
        """Keep the prompt's (n, G, P, D) keys and values of the next block."""
        rows, groups, width, size = key.shape
        for kept, new in ((self._keys, key), (self._values, value)):
            kept.append(new.new_empty(rows, groups, self.capacity, size))
            kept[-1][:, :, :width] = new
