"""Advice while a policy writes: the reference runs beside it, token by token.

H reads the reference's last hidden state. What policy and reference share and is frozen is computed once:
the policy's decoder lends the output of those blocks, and only the reference's own are run again.

Shapes: ``n`` rows still written, ``B`` all rows, ``V`` vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import PreTrainedModel

from textrl.advice.text import TextAdvice
from textrl.models.decoding import Decoder, open_decoder


class Companion:
    """An adviser of `textrl.rollout.generate` (see `textrl.rollout.Adviser`)."""

    def __init__(self, advice: TextAdvice, decoder: Decoder, lent: int, rows: int, steps: int) -> None:
        """Begin with nothing; `open_companion` makes the decoder."""
        self.advice, self._decoder, self._lent = advice, decoder, lent
        self._hidden = torch.zeros(0)
        self._shape = (rows, steps)
        self._kept: dict[str, Tensor] = {}

    def prefill(self, ids: Tensor, mask: Tensor, decoder: Decoder) -> None:
        """See (n, P) left-padded prompts, after the policy's own `decoder` has."""
        self._hidden = self._decoder.prefill(ids, mask, self._of(decoder))

    def step(self, tokens: Tensor, decoder: Decoder) -> None:
        """See the (n,) tokens that were drawn, after the policy's own `decoder` has."""
        self._hidden = self._decoder.step(tokens, self._of(decoder))

    def keep(self, kept: Tensor, moved: Tensor, holes: Tensor) -> None:
        """Go on with fewer rows."""
        self._decoder.keep(kept, moved, holes)
        self._hidden = self._hidden[kept]

    def logits(self, logits: Tensor, alive: Tensor, t: int) -> Tensor:
        """Return the (n, V) logits of the distribution that acts, and remember what it was made of."""
        weights = self.advice.weights(self._hidden)
        chosen = None
        if self.advice.settings.technique == "control_sharing":
            chosen = self.advice.favourites(logits, self._hidden)
            self._remember("favourite", alive, t, chosen)
        self._remember("beta", alive, t, weights)
        return self.advice.behaviour(logits, self._hidden, weights, chosen)

    def kept(self, steps: int) -> Mapping[str, Tensor]:
        """Return (B, steps) ``beta``, and ``favourite`` in control sharing; 0 where nothing was written."""
        return {name: values[:, :steps] for name, values in self._kept.items()}

    def _of(self, decoder: Decoder) -> Tensor | None:
        return decoder.seen[self._lent] if self._lent else None

    def _remember(self, name: str, alive: Tensor, t: int, values: Tensor) -> None:
        if name not in self._kept:
            self._kept[name] = torch.zeros(self._shape, dtype=values.dtype, device=values.device)
        self._kept[name][alive, t] = values


@contextmanager
def open_companion(
    advice: TextAdvice, reference: PreTrainedModel, *, rows: int, prompt: int, steps: int, lent: int
) -> Iterator[Companion]:
    """Yield a companion for one call of `generate`.

    Args:
        advice: Of this iteration.
        reference: The frozen model whose hidden states H reads.
        rows: B.
        prompt: Tokens of the prompts, padding included.
        steps: Response tokens at most.
        lent: Leading blocks that the policy's decoder shows the outputs of; 0 computes all.
    """
    with open_decoder(reference, rows, prompt + steps, (), lent) as decoder:
        yield Companion(advice, decoder, lent, rows, steps)
