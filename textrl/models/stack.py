"""A transformer as a stack of blocks, so that frozen blocks which networks share run once.

Policy, reference, value and reward model of one run often begin with the same frozen blocks. A
`Trunk` holds the outputs of the policy's frozen prefix for one layout of ids; each network starts from
the deepest output that is provably its own (same ids, same mask, equal frozen weights) and runs only
its remaining blocks. Equal frozen weights are also stored once (`share_frozen`).

Shapes: ``B`` sequences, ``L`` positions (prompt and response), ``H`` width.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from textrl.models.layers import base, blocks
from textrl.models.packed import Joined, Packing, packable, run_packed


@dataclass
class Trunk:
    """Outputs of the first blocks of `model` for one layout of ids.

    Attributes:
        model: The network whose frozen prefix is meant, usually the policy.
        ids: (B, L) int64.
        mask: (B, L) bool.
        depths: Block counts worth keeping: where networks branch off.
        hidden: Block count -> (B, L, H) output of that many blocks, without a graph.
    """

    model: PreTrainedModel
    ids: Tensor
    mask: Tensor
    depths: tuple[int, ...]
    hidden: dict[int, Tensor] = field(default_factory=dict)

    def fits(self, ids: Tensor, mask: Tensor) -> bool:
        """Return whether these are the ids and the mask that the outputs belong to."""
        return ids is self.ids or (
            ids.shape == self.ids.shape and torch.equal(ids, self.ids) and torch.equal(mask, self.mask)
        )

    def rows(self, index: Tensor, columns: slice = slice(None)) -> Trunk:
        """Return the trunk of some rows, (M,) int64, and of columns that hold all their tokens."""
        hidden = {depth: out[index, columns] for depth, out in self.hidden.items()}
        return Trunk(self.model, self.ids[index, columns], self.mask[index, columns], self.depths, hidden)

    def output(self, depth: int) -> Tensor:
        """Return the (B, L, H) output of the first `depth` > 0 blocks, computing what is missing."""
        if depth not in self.hidden:
            start = max((d for d in self.hidden if d < depth), default=0)
            x = self.hidden[start] if start else self.ids
            for stop in sorted({d for d in self.depths if start < d < depth} | {depth}):
                with torch.no_grad():
                    x = run_blocks(self.model, x, self.mask, start, stop)
                self.hidden[stop] = x
                start = stop
        return self.hidden[depth]


def positions(mask: Tensor) -> Tensor:
    """Return (B, L) int64 position ids that count real tokens only, so left padding changes nothing."""
    return (mask.long().cumsum(-1) - 1).clamp(min=0)


def final_hidden(model: PreTrainedModel, ids: Tensor, mask: Tensor, trunk: Trunk | None = None) -> Tensor:
    """Return the (B, L, H) normalised final hidden states, as the model's head reads them.

    Args:
        model: A causal LM or a sequence classifier.
        ids: (B, L) int64.
        mask: (B, L) bool.
        trunk: Where the outputs of shared frozen blocks are found, and left.
    """
    depth, x = _start(model, ids, mask, trunk)
    return run_blocks(model, x, mask, depth, len(blocks(model)), final=True)


@dataclass(frozen=True)
class Part:
    """Tokens whose final hidden states somebody wants.

    Attributes:
        ids: (B, L) int64.
        mask: (B, L) bool.
        wanted: (B, L) bool with N entries True, all of them real tokens.
        trunk: Where the outputs of shared frozen blocks are found, and left.
    """

    ids: Tensor
    mask: Tensor
    wanted: Tensor
    trunk: Trunk | None = None


def hidden_at(model: PreTrainedModel, *parts: Part) -> Tensor:
    """Return the normalised final hidden states of some tokens only, part by part in row order: (N, H).

    The same numbers as `final_hidden`, without computing on padding, or what nobody asked for above the
    keys and values of the last block. Several parts go through the blocks together where all of them can
    begin at the same one.

    Args:
        model: A causal LM or a sequence classifier.
        parts: Layouts of tokens; each attends within itself.
    """
    if not all(_packs(model, part.mask) for part in parts):
        hidden = [final_hidden(model, part.ids, part.mask, part.trunk)[part.wanted] for part in parts]
        return torch.cat(hidden)
    starts = [_start(model, part.ids, part.mask, part.trunk) for part in parts]
    depth = starts[0][0]
    if any(other != depth for other, _ in starts):
        return torch.cat([hidden_at(model, part) for part in parts])
    masks = [part.mask.bool() for part in parts]
    packings = tuple(Packing.of(mask) for mask in masks)
    return run_packed(
        model,
        torch.cat([x[mask] for (_, x), mask in zip(starts, masks, strict=True)]),
        packings[0] if len(packings) == 1 else Joined(packings),
        depth,
        len(blocks(model)),
        final=True,
        wanted=torch.cat([part.wanted[mask] for part, mask in zip(parts, masks, strict=True)]),
    )


def states_before(actions: Tensor) -> Tensor:
    """Return the (B, L) positions whose hidden states choose the actions: one to the left of each."""
    return torch.cat([actions[:, 1:], torch.zeros_like(actions[:, :1])], dim=1)


def _packs(model: PreTrainedModel, mask: Tensor) -> bool:
    """Return whether to leave the padding out; without any token there is nothing to lay out."""
    return packable(model) and bool(mask.any())


def _start(model: PreTrainedModel, ids: Tensor, mask: Tensor, trunk: Trunk | None) -> tuple[int, Tensor]:
    """Return how many blocks the trunk saves, and what the next block reads."""
    if trunk is not None and trunk.fits(ids, mask):
        depth = shared_depth(trunk.model, model)
        if depth:
            return depth, trunk.output(depth)
    return 0, ids


def run_blocks(
    model: PreTrainedModel, x: Tensor, mask: Tensor, start: int, stop: int, *, final: bool = False
) -> Tensor:
    """Run blocks `start` to `stop` on ids (where `start` is 0) or on the hidden states below them.

    Args:
        model: The network.
        x: (B, L) ids or (B, L, H) hidden states.
        mask: (B, L) bool.
        start: First block.
        stop: One past the last block.
        final: Also apply the final norm.

    Returns:
        (B, L, H), zero on padding where the tokens were packed.
    """
    if start == stop and not final:
        return x
    if _packs(model, mask):
        mask = mask.bool()
        packing = Packing.of(mask)
        return packing.padded(run_packed(model, x[mask], packing, start, stop, final=final))
    source = {"input_ids": x} if start == 0 else {"inputs_embeds": x}
    out = _view(model, start, stop, final)(
        **source, attention_mask=mask.long(), position_ids=positions(mask), use_cache=False
    )
    hidden: Tensor = out.last_hidden_state
    return hidden


def frozen_depth(model: PreTrainedModel) -> int:
    """Return how many leading blocks (with the embeddings) have no trainable parameter."""
    embeddings = _embedding_parameters(model)
    if any(p.requires_grad for p in embeddings):
        return 0
    for index, block in enumerate(blocks(model)):
        if any(p.requires_grad for p in block.parameters()):
            return index
    return len(blocks(model))


def shared_depth(first: PreTrainedModel, second: PreTrainedModel) -> int:
    """Return how many leading frozen blocks the two networks have in common, and store those once.

    The answer is remembered on `second` for as long as the same blocks stay frozen.
    """
    if first is second:
        return frozen_depth(first)
    known: WeakKeyDictionary[nn.Module, tuple[int, int, int]]
    known = second.__dict__.setdefault("_textrl_shared", WeakKeyDictionary())
    frozen = (frozen_depth(first), frozen_depth(second))
    if first not in known or known[first][:2] != frozen:
        known[first] = (*frozen, share_frozen(first, second))
    return known[first][2]


@torch.no_grad()
def share_frozen(first: PreTrainedModel, second: PreTrainedModel) -> int:
    """Let equal leading frozen blocks of `second` use the tensors of `first`; return how many."""
    if type(base(first)) is not type(base(second)):
        return 0
    depth = min(frozen_depth(first), frozen_depth(second))
    if not depth or not _alias(_embedding_parameters(first), _embedding_parameters(second)):
        return 0
    equal = 0
    for ours, theirs in zip(blocks(first)[:depth], blocks(second)[:depth], strict=True):
        if not _alias(list(ours.parameters()), list(theirs.parameters())):
            break
        equal += 1
    _leave_file(first, second)
    return equal


def _leave_file(first: PreTrainedModel, second: PreTrainedModel) -> None:
    """Copy what `second` has of its own.

    Weights that were loaded are pages of their file, which stays in memory as a whole, the blocks that are
    shared now included, for as long as one of its tensors is used.
    """
    shared = {param.untyped_storage().data_ptr() for param in first.parameters()}
    for param in second.parameters():
        if param.device.type == "cpu" and param.untyped_storage().data_ptr() not in shared:
            param.data = param.data.clone()


def score_positions(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """Return (B, L) scores of a `num_labels=1` classifier at every position."""
    head = model.score if hasattr(model, "score") else model.classifier
    out = head(hidden).squeeze(-1)
    scores: Tensor = out.to(torch.promote_types(out.dtype, torch.float32))
    return scores


def score_ids(
    model: PreTrainedModel, ids: Tensor, mask: Tensor, memo: dict[Any, Any] | None = None
) -> Tensor:
    """Return the (B,) score at the last real token of each row.

    The position is found by the mask, never by the pad id: a pad id equal to EOS would otherwise be
    read one position early.

    Args:
        model: A decoder with a score head (`AutoModelForSequenceClassification`, one label).
        ids: (B, L) int64.
        mask: (B, L) bool.
        memo: `Batch.memo`; its ``"trunk"`` lends the outputs of shared frozen blocks.
    """
    trunk = (memo or {}).get("trunk")
    scores = score_positions(model, final_hidden(model, ids, mask, trunk))
    index = torch.arange(mask.shape[1], device=mask.device)
    last = torch.where(mask, index, -1).amax(-1)
    return scores.gather(1, last[:, None]).squeeze(1)


def _alias(ours: list[nn.Parameter], theirs: list[nn.Parameter]) -> bool:
    """Point `theirs` at the storage of `ours` if all are equal; return whether they were."""
    if len(ours) != len(theirs):
        return False
    for mine, other in zip(ours, theirs, strict=True):
        if mine is not other and (mine.shape != other.shape or not torch.equal(mine, other)):
            return False
    for mine, other in zip(ours, theirs, strict=True):
        other.data = mine.data
    return True


def _embedding_parameters(model: PreTrainedModel) -> list[nn.Parameter]:
    inner: Any = base(model)
    found: list[nn.Parameter] = list(inner.get_input_embeddings().parameters())
    if hasattr(inner, "wpe"):
        found += list(inner.wpe.parameters())
    return found


class _NoPositions(nn.Module):
    """Stands for a learned position embedding above the first block, where it was already added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, position_ids: Tensor) -> Tensor:
        return torch.zeros(1, device=position_ids.device).expand(*position_ids.shape, self.width)


def _view(model: PreTrainedModel, start: int, stop: int, final: bool) -> nn.Module:
    """Return the base model cut to some of its blocks; modules are shared, nothing is copied.

    transformers then still makes the masks and rotary embeddings for whatever architecture it is.
    """
    views: dict[Any, nn.Module] = model.__dict__.setdefault("_textrl_views", {})
    key = (start, stop, final)
    if key in views:
        # A view is not a submodule of the model, so train() and eval() do not reach its own flag.
        views[key].training = base(model).training
        return views[key]
    inner: Any = base(model)
    view: Any = copy.copy(inner)
    view._modules = dict(inner._modules)
    view.config = copy.copy(inner.config)
    view.config.num_hidden_layers = stop - start
    list_name = next(name for name, module in inner._modules.items() if module is blocks(model))
    view._modules[list_name] = nn.ModuleList(list(blocks(model))[start:stop])
    if not final:
        norm = next(name for name in ("norm", "ln_f", "final_layer_norm") if name in inner._modules)
        view._modules[norm] = nn.Identity()
    if start and "wpe" in inner._modules:
        view._modules["wpe"] = _NoPositions(inner.config.n_embd)
    views[key] = view
    return views[key]
