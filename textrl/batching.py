"""Rows of token ids, and micro-batches of rows: what the supervised trainers feed to a model.

Shapes: ``B`` sequences, ``T`` tokens (right-padded), ``N`` loss targets (a flat list), ``H`` width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from textrl.errors import UserError
from textrl.models.loading import base, blocks
from textrl.models.stack import frozen_depth

_ATTENTION = frozenset({"self_attn", "attn", "attention", "self_attention"})
_FEED_FORWARD = frozenset({"mlp", "feed_forward", "ffn", "fc2"})


class Row(NamedTuple):
    """One sequence. The loss counts the tokens `ids[first:]`; `first` is at least 1, since nothing
    predicts the first token of a sequence."""

    ids: tuple[int, ...]
    first: int

    @property
    def targets(self) -> int:
        """How many tokens the loss counts."""
        return max(len(self.ids) - self.first, 0)


@dataclass(frozen=True)
class Padded:
    """A micro-batch.

    Attributes:
        ids: (B, T) int64.
        mask: (B, T) bool, True on real tokens.
        positions: (B, T) int64, counted from 0 at the start of every sequence.
        targets: (B, T) bool, True where the token counts in the loss; never in the first column.
        packed: Some sequence holds several rows, one after the other.
        spans: (sequence, first token, one past the last token, row) of each row.
    """

    ids: Tensor
    mask: Tensor
    positions: Tensor
    targets: Tensor
    packed: bool
    spans: tuple[tuple[int, int, int, Row], ...]


def encode(
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    completion: str,
    *,
    max_tokens: int,
    append_eos: bool,
    what: str,
) -> Row:
    """Turn a prompt and its completion into a row; the loss counts the completion and its EOS.

    The two are tokenised apart, because a policy continues the prompt's tokens whatever text follows.
    A row that is too long loses the end of its completion (and the EOS, which did not come there).

    Raises:
        UserError: When the prompt leaves no room for a completion, or the row would be empty; `what`
            names the example.
    """
    # A chat template has written the BOS already.
    plain = not (tokenizer.bos_token and prompt.startswith(str(tokenizer.bos_token)))
    head: list[int] = list(tokenizer(prompt, add_special_tokens=plain).input_ids)
    eos = tokenizer.eos_token_id
    if head and head[-1] == eos and not prompt.endswith(str(tokenizer.eos_token)):
        head.pop()  # some tokenizers close every text
    tail: list[int] = list(tokenizer(completion, add_special_tokens=False).input_ids)
    if append_eos and eos is not None:
        tail.append(eos)
    if len(head) >= max_tokens:
        raise UserError(
            f"{what} has a prompt of {len(head)} tokens, which leaves no room for a completion within "
            f"{max_tokens}; shorten it or raise max_tokens."
        )
    if not tail:
        raise UserError(f"{what} has an empty completion; remove it or give it text.")
    return Row(tuple(head + tail)[:max_tokens], max(len(head), 1))


def context_length(model: PreTrainedModel, max_tokens: int | None) -> int:
    """Return `max_tokens` if the model can hold that many, its own limit (at most 1,024) for None.

    Raises:
        UserError: When `max_tokens` is more than the model's context.
    """
    limit = getattr(model.config, "max_position_embeddings", None) or 1024
    if max_tokens is None:
        return min(int(limit), 1024)
    if max_tokens > limit:
        raise UserError(
            f"max_tokens is {max_tokens}, but the model's context is {limit} tokens; use {limit} or fewer."
        )
    return max_tokens


def plan(lengths: Sequence[int], budget: int, rows: Sequence[int] | None = None) -> list[list[int]]:
    """Group item numbers into micro-batches of similar length, longest first.

    Args:
        lengths: Tokens of each item (of its longest row, where an item is several).
        budget: Most padded tokens (rows times longest row) of a micro-batch; an item that is larger
            still gets one, alone.
        rows: Rows of each item; 1 each when None.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    groups: list[list[int]] = []
    filled = longest = 0
    for i in order:
        more = 1 if rows is None else rows[i]
        fits = bool(groups) and (filled + more) * longest <= budget
        # On short texts padding would be nearly half of all tokens if every batch were filled up.
        wasteful = filled * longest >= budget / 8 and lengths[i] < 0.8 * longest
        if fits and not wasteful:
            groups[-1].append(i)
            filled += more
        else:
            groups.append([i])
            filled, longest = more, lengths[i]
    return groups


def pack(rows: Sequence[Row], length: int) -> list[list[Row]]:
    """Put rows one after the other into sequences of at most `length` tokens, first fit, longest first."""
    packs: list[list[Row]] = []
    room: list[int] = []
    for row in sorted(rows, key=lambda row: -len(row.ids)):
        fit = next((i for i, left in enumerate(room) if left >= len(row.ids)), None)
        if fit is None:
            packs.append([])
            room.append(max(length, len(row.ids)))
            fit = len(packs) - 1
        packs[fit].append(row)
        room[fit] -= len(row.ids)
    return packs


def pad(sequences: Sequence[Sequence[Row]], pad_id: int, device: torch.device | str = "cpu") -> Padded:
    """Lay out a micro-batch: each of the B sequences is one row, or several rows packed.

    Positions restart at every row, and each padding token is a sequence of its own: from this
    transformers builds the block-diagonal mask that keeps packed rows apart.
    """
    width = max(sum(len(row.ids) for row in rows) for rows in sequences)
    shape = (len(sequences), width)
    packed = any(len(rows) > 1 for rows in sequences)
    # transformers warns about padding tokens without a mask, so packed sequences are filled with others.
    ids = torch.full(shape, sequences[0][0].ids[0] if packed else pad_id, dtype=torch.int64)
    positions = torch.zeros(shape, dtype=torch.int64)
    mask, targets = torch.zeros(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.bool)
    spans = []
    for b, rows in enumerate(sequences):
        start = 0
        for row in rows:
            stop = start + len(row.ids)
            ids[b, start:stop] = torch.tensor(row.ids)
            positions[b, start:stop] = torch.arange(len(row.ids))
            mask[b, start:stop] = True
            targets[b, start + row.first : stop] = True
            spans.append((b, start, stop, row))
            start = stop
    ids, mask, positions, targets = (x.to(device) for x in (ids, mask, positions, targets))
    return Padded(ids, mask, positions, targets, packed, tuple(spans))


def hidden_states(model: PreTrainedModel, batch: Padded) -> Tensor:
    """Return (B, T, H) final hidden states, after the final norm.

    A packed batch has no mask: it follows from the positions (see `pad`), and `check_packing` makes
    sure that the architecture follows them.
    """
    out = base(model)(
        input_ids=batch.ids,
        attention_mask=None if batch.packed else batch.mask.long(),
        position_ids=batch.positions,
        use_cache=False,
    )
    hidden: Tensor = out.last_hidden_state
    return hidden


@torch.no_grad()
def check_packing(model: PreTrainedModel) -> None:
    """Make sure that packed rows do not see each other.

    Raises:
        UserError: When a row's hidden states change by what is packed before it.
    """
    vocab = model.config.vocab_size
    rows = [Row(tuple((i * 7 + k) % vocab for i in range(1, 6)), 1) for k in (1, 3)]
    device = next(model.parameters()).device
    packed = hidden_states(model, pad([rows], 0, device))[0, 5:]
    alone = hidden_states(model, pad([rows[1:]], 0, device))[0]
    if not torch.allclose(packed, alone, rtol=1e-3, atol=1e-4):
        raise UserError(
            f"packing is on, but a {type(model).__name__} lets packed examples see each other; "
            "set packing to false."
        )


class ResidualDropout:
    """Dropout on what the attention and the feed-forward part of each trainable block add to the stream.

    InstructGPT's residual dropout (appendix C.1), by hooks, since most architectures of today have none.
    The model itself stays in evaluation mode, so no other dropout acts. A row's noise is a function
    of (seed, step, the row's tokens): micro-batches, packing and the number of processes do not change
    it, and a checkpoint needs no state of it.
    """

    def __init__(self, model: PreTrainedModel, probability: float, seed: int) -> None:
        """Hook the trainable blocks.

        Raises:
            UserError: When the two parts of a block cannot be found.
        """
        self.probability = probability
        self.seed = seed
        self._rows: list[tuple[int, int, int, torch.Generator]] = []
        self._handles: list[Any] = []
        if probability == 0.0:
            return
        for block in list(blocks(model))[frozen_depth(model) :]:
            parts = [child for name, child in block.named_children() if name in _ATTENTION | _FEED_FORWARD]
            if len(parts) != 2:
                self.remove()
                raise UserError(
                    f"dropout is {probability}, but the attention and feed-forward parts of a "
                    f"{type(block).__name__} cannot be found; set dropout to 0."
                )
            self._handles += [part.register_forward_hook(self._drop) for part in parts]

    @contextmanager
    def active(self, batch: Padded, step: int) -> Iterator[None]:
        """Drop inside the context, which is one forward pass of `batch` in optimizer step `step`."""
        if self.probability > 0.0:
            for b, start, stop, row in batch.spans:
                # hash() of a tuple of ints is the same in every process and run.
                seed = hash((self.seed, step, row.ids)) & (2**63 - 1)
                generator = torch.Generator(batch.ids.device).manual_seed(seed)
                self._rows.append((b, start, stop, generator))
        try:
            yield
        finally:
            self._rows = []

    def remove(self) -> None:
        """Take the hooks off the model."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _drop(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if not self._rows:
            return output
        first = output[0] if isinstance(output, tuple) else output
        keep = torch.zeros_like(first)
        for b, start, stop, generator in self._rows:
            keep[b, start:stop].bernoulli_(1 - self.probability, generator=generator)
        dropped = first * keep.div_(1 - self.probability)
        return (dropped, *output[1:]) if isinstance(output, tuple) else dropped
