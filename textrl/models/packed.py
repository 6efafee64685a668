"""GPT-2 and Llama over real tokens only: no padding in any matrix product.

transformers' models run on rectangles, padding included. Here the tokens of all rows stand in one list for
everything that treats tokens alone (norms, projections, MLPs) and in a rectangle for the attention only. The
blocks are the model's own submodules, so adapters and hooks inside them work; what is ours is their
composition. The last block continues only for the tokens whose output somebody wants: of a prompt the others
need its keys and values, not its MLP.

Shapes: ``N`` real tokens in row order, ``B`` sequences, ``L`` positions, ``H`` width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from textrl.models.again import project_again
from textrl.models.attention import causal_attention
from textrl.models.layers import base, blocks
from textrl.models.products import project

#: Under a CPU's autocast lists are as long as a multiple of this. oneDNN compiles its kernels anew for every
#: number of rows and keeps a thousand of them: 300 layouts of SmolLM2's products, forwards and backwards,
#: left 2.1 GB and took 82 s; rounded ones left .3 GB and took 60 s (two cores of a Zen 4, other work beside).
_MULTIPLE = 64


@dataclass(frozen=True)
class Packing:
    """Where the real tokens of a padded layout are.

    Attributes:
        real: (B, L) bool.
        positions: (N,) int64 index of each token in its row, real tokens counted.
        rows: B.
        width: Tokens of the longest row.
        slots: (N,) int64 place of each token in a (B, width) rectangle whose rows start at the left; None
            where no row is shorter than another, as the list then is the rectangle.
    """

    real: Tensor
    positions: Tensor
    rows: int
    width: int
    slots: Tensor | None

    @classmethod
    def of(cls, mask: Tensor) -> Packing:
        """Lay out a (B, L) mask."""
        mask = mask.bool()
        counted = (mask.long().cumsum(-1) - 1)[mask]
        lengths = mask.sum(1)
        width = int(lengths.max()) if len(lengths) else 0
        if int(lengths.sum()) == mask.shape[0] * width:
            return cls(mask, counted, mask.shape[0], width, None)
        row = torch.arange(mask.shape[0], device=mask.device)[:, None].expand_as(mask)[mask]
        return cls(mask, counted, mask.shape[0], width, row * width + counted)

    def rectangle(self, x: Tensor) -> Tensor:
        """(N, ...) -> (B, width, ...), zero where a row has ended."""
        if self.slots is None:
            return x.view(self.rows, self.width, *x.shape[1:])
        out = x.new_zeros(self.rows * self.width, *x.shape[1:])
        return out.index_copy(0, self.slots, x).view(self.rows, self.width, *x.shape[1:])

    def listed(self, x: Tensor) -> Tensor:
        """(B, width, ...) -> (N, ...)."""
        flat = x.reshape(self.rows * self.width, *x.shape[2:])
        return flat if self.slots is None else flat.index_select(0, self.slots)

    def padded(self, x: Tensor) -> Tensor:
        """(N, ...) -> (B, L, ...) of the mask, zero on padding."""
        out = x.new_zeros(*self.real.shape, *x.shape[1:])
        out[self.real] = x
        return out

    def attention(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Return (N, heads, D): every token attends to its own row up to itself."""
        rectangles = (self.rectangle(query), self.rectangle(key), self.rectangle(value))
        return self.listed(causal_attention(*rectangles, scale))


@dataclass(frozen=True)
class Joined:
    """Several layouts in one list: their rectangles stay apart, and the matrix products grow.

    Attributes:
        parts: In the order of the list.
    """

    parts: tuple[Packing | Filler, ...]

    @property
    def positions(self) -> Tensor:
        """(N,) int64 index of each token in its row."""
        return torch.cat([part.positions for part in self.parts])

    def attention(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Return (N, heads, D): every token attends to its own row up to itself."""
        sizes = [len(part.positions) for part in self.parts]
        split = (torch.split(x, sizes) for x in (query, key, value))
        return torch.cat(
            [part.attention(*three, scale) for part, *three in zip(self.parts, *split, strict=True)]
        )


@dataclass(frozen=True)
class Filler:
    """Tokens at the end of the list that round its length up, and whose output nobody reads.

    Attributes:
        count: How many.
        device: Where they are.
    """

    count: int
    device: torch.device

    @property
    def positions(self) -> Tensor:
        """(count,) int64 zeros."""
        return torch.zeros(self.count, dtype=torch.int64, device=self.device)

    def attention(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Return something finite of the right shape, (count, heads, D)."""
        return query


#: A block: (module, (N, H) input, rotary (cos, sin) or None, attention, tokens to go on with or None).
Attend = Callable[[Tensor, Tensor, Tensor, float], Tensor]
Rotary = tuple[Tensor, Tensor] | None


def packable(model: PreTrainedModel) -> bool:
    """Return whether whole sequences should run here.

    GPUs keep transformers' own forward pass: their kernels for whole rectangles are not what is slow there.
    """
    return model.device.type == "cpu" and composable(model)


def composable(model: PreTrainedModel) -> bool:
    """Return whether this module knows the architecture and nothing in the model asks for more.

    Dropout in training belongs to transformers' own forward pass.
    """
    inner: Any = base(model)
    if type(inner).__name__ not in _BLOCKS or inner.training:
        return False
    if getattr(inner.config, "add_cross_attention", False):
        return False
    return not any(_watched(block) for block in blocks(model))


def _watched(block: nn.Module) -> bool:
    """Return whether a block is more than its submodules: what hangs on it would be passed over."""
    if block._forward_hooks or block._forward_pre_hooks or hasattr(block, "_hf_hook"):  # accelerate's
        return True
    # Recomputing in the backward pass, which matters only where there will be one.
    recomputed = "forward" in vars(block) or getattr(block, "gradient_checkpointing", False)
    return bool(recomputed) and torch.is_grad_enabled()


def embed(model: PreTrainedModel, ids: Tensor, positions: Tensor) -> Tensor:
    """Return the (N, H) input of the first block for (N,) ids."""
    inner: Any = base(model)
    x: Tensor = inner.get_input_embeddings()(ids)
    return x + inner.wpe(positions) if hasattr(inner, "wpe") else x


def rotary(model: PreTrainedModel, x: Tensor, positions: Tensor) -> Rotary:
    """Return the (N, 1, D) cosines and sines of an architecture that turns queries and keys, or None."""
    inner: Any = base(model)
    if not hasattr(inner, "rotary_emb"):
        return None
    cos, sin = inner.rotary_emb(x[None], positions[None])
    return cos[0][:, None], sin[0][:, None]


def run_packed(
    model: PreTrainedModel,
    x: Tensor,
    packing: Packing | Joined,
    start: int,
    stop: int,
    *,
    final: bool = False,
    wanted: Tensor | None = None,
) -> Tensor:
    """Run blocks `start` to `stop` on listed tokens.

    Args:
        model: One that is `packable`.
        x: (N,) ids where `start` is 0, else the (N, H) hidden states below.
        packing: Of the tokens.
        start: First block.
        stop: One past the last block.
        final: Also apply the final norm.
        wanted: (N,) bool: only these tokens come back.

    Returns:
        (N, H), or as many rows as are wanted.
    """
    keep = None if wanted is None else wanted.nonzero().squeeze(1)
    asked = len(x) if keep is None else len(keep)
    filler = _to_round(len(x))
    if filler:
        parts = packing.parts if isinstance(packing, Joined) else (packing,)
        packing = Joined((*parts, Filler(filler, x.device)))
        x = torch.cat([x, x.new_zeros(filler, *x.shape[1:])])
        keep = keep if keep is None else nn.functional.pad(keep, (0, _to_round(asked)))
    if start == 0:
        x = embed(model, x, packing.positions)
    turned = rotary(model, x, packing.positions)
    run = _BLOCKS[type(base(model)).__name__]
    for index in range(start, stop):
        last = index == stop - 1
        x = run(blocks(model)[index], x, turned, packing.attention, keep if last else None)
    if start == stop and keep is not None:
        x = x.index_select(0, keep)
    x = final_norm(model)(x) if final else x
    return x[:asked]


def _to_round(rows: int) -> int:
    """Return how many rows are missing to a number for which autocast's products are compiled already."""
    return -rows % _MULTIPLE if torch.is_autocast_enabled("cpu") else 0


def run_block(model: PreTrainedModel, index: int, x: Tensor, turned: Rotary, attend: Attend) -> Tensor:
    """Run one block on (N, H) tokens with an attention of the caller's."""
    return _BLOCKS[type(base(model)).__name__](blocks(model)[index], x, turned, attend, None)


def final_norm(model: PreTrainedModel) -> nn.Module:
    """Return the norm after the last block."""
    inner: Any = base(model)
    norm: nn.Module = inner.ln_f if hasattr(inner, "ln_f") else inner.norm
    return norm


def _gpt2(block: Any, x: Tensor, turned: Rotary, attend: Attend, keep: Tensor | None) -> Tensor:
    attn, mlp = block.attn, block.mlp
    joined = project_again(attn.c_attn, partial(block.ln_1, x)).view(len(x), 3, attn.num_heads, attn.head_dim)
    query, key, value = joined.unbind(1)
    mixed = attend(query, key, value, attn.scaling).reshape(len(x), -1)
    if keep is not None:
        mixed, x = mixed.index_select(0, keep), x.index_select(0, keep)
    x = x + project(attn.c_proj, mixed)
    inner = project_again(mlp.c_fc, partial(block.ln_2, x))
    return x + project_again(mlp.c_proj, partial(_activate, mlp.act, inner))


def _llama(block: Any, x: Tensor, turned: Rotary, attend: Attend, keep: Tensor | None) -> Tensor:
    attn, mlp = block.self_attn, block.mlp
    below = block.input_layernorm(x)
    query, key, value = (
        project(module, below).view(len(x), -1, attn.head_dim)
        for module in (attn.q_proj, attn.k_proj, attn.v_proj)
    )
    assert turned is not None
    mixed = attend(_turn(query, turned), _turn(key, turned), value, attn.scaling).reshape(len(x), -1)
    if keep is not None:
        mixed, x = mixed.index_select(0, keep), x.index_select(0, keep)
    x = x + project(attn.o_proj, mixed)
    below = block.post_attention_layernorm(x)
    gate, up = project(mlp.gate_proj, below), project(mlp.up_proj, below)
    return x + project_again(mlp.down_proj, lambda: mlp.act_fn(gate) * up)


_BLOCKS: dict[str, Callable[[Any, Tensor, Rotary, Attend, Tensor | None], Tensor]] = {
    "GPT2Model": _gpt2,
    "LlamaModel": _llama,
}


def _turn(x: Tensor, turned: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary embedding of (N, heads, D), in the half-split layout that Llama's weights expect."""
    cos, sin = turned
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


def _activate(module: nn.Module, x: Tensor) -> Tensor:
    """Apply an activation; GPT-2's tanh form of GELU in one kernel where transformers takes eight."""
    if type(module).__name__ == "NewGELUActivation":
        return torch.nn.functional.gelu(x, approximate="tanh")
    out: Tensor = module(x)
    return out
