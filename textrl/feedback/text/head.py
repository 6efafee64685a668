"""H(s, a) over all tokens of a vocabulary, on the frozen model's last hidden state.

    H(s, a) = (W h) . p_a + b_a,   h = h_t / |h_t|,   p_a = P (E_a - mean E) / |P (E_a - mean E)|

with the hidden state h_t before the token, the embedding E_a of the token and a fixed random P. W and b are
0 at first: without feedback there is no influence. A gradient step on half the squared error at (s, a) moves
H at (s', a') by

    alpha err (h . h' p_a . p_a' + [a = a']),

so a press speaks of like tokens in like contexts, and of the same token everywhere.

Shapes: ``D`` width of the model, ``r`` rank, ``V`` vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float64]
State = NDArray[np.float32]


class TokenHead:
    """The regression of what a reader gives on context and token.

    Attributes:
        w: (r, D), W.
        b: (V,).
        learnt: Gradient steps so far.
    """

    def __init__(self, embeddings: NDArray[np.float32], *, rank: int, alpha: float, seed: int) -> None:
        """Begin with H = 0.

        Args:
            embeddings: (V, D) of the model.
            rank: r.
            alpha: Step size.
            seed: Of P.
        """
        vocabulary, width = embeddings.shape
        random = np.random.default_rng([seed, 0x7E87]).standard_normal((width, rank)).astype(np.float32)
        projected = (embeddings - embeddings.mean(axis=0)) @ random
        length = np.linalg.norm(projected, axis=1, keepdims=True)
        # A row of zeros (padding) keeps a bias of its own and shares nothing.
        self._p = torch.from_numpy((projected / np.maximum(length, 1e-12)).astype(np.float32))
        self.alpha = alpha
        self.w: Floats = np.zeros((rank, width))
        self.b: Floats = np.zeros(vocabulary)
        # Sums go through torch, whose number of threads, and so their rounding, is the session's own.
        self._w = torch.from_numpy(self.w)
        self.learnt = 0

    def clear(self) -> None:
        """Forget everything."""
        self.w[:], self.b[:], self.learnt = 0.0, 0.0, 0

    def rate(self, state: State) -> Floats:
        """Return H(s, .), (V,), from the (D,) state that `unit` made."""
        rating: Floats = torch.mv(self._p, self._along(state).float()).numpy() + self.b
        return rating

    def value(self, state: State, token: int) -> float:
        """Return H(s, a)."""
        return float(torch.dot(self._p[token].double(), self._along(state))) + float(self.b[token])

    def learn(self, state: State, token: int, label: float, weight: float = 1.0) -> None:
        """Move H(s, a) towards `label`; `weight` multiplies the squared error."""
        self._move(state, token, self.alpha * weight * (label - self.value(state, token)))

    def learn_window(
        self, states: Sequence[State], tokens: Sequence[int], credits: Sequence[float], label: float
    ) -> None:
        """Move sum_j credits[j] H(s_j, a_j) towards `label`."""
        rows = list(zip(states, tokens, credits, strict=True))
        error = label - sum(c * self.value(state, token) for state, token, c in rows)
        for state, token, c in rows:
            self._move(state, token, self.alpha * error * c)

    def parameters(self) -> dict[str, Any]:
        """Return what was learnt."""
        return {"w": self.w, "b": self.b, "learnt": self.learnt}

    def _along(self, state: State) -> torch.Tensor:
        """Return W h, (r,) float64."""
        return torch.mv(self._w, torch.from_numpy(state).double())

    def _move(self, state: State, token: int, step: float) -> None:
        self.w += np.outer(self._p[token].numpy() * step, state)
        self.b[token] += step
        self.learnt += 1


def unit(hidden: NDArray[Any]) -> State:
    """Return a (D,) hidden state scaled to length 1."""
    scaled: State = (hidden / max(float(np.linalg.norm(hidden)), 1e-12)).astype(np.float32)
    return scaled
