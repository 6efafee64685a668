"""H(s, a) over all tokens of a vocabulary, on the frozen model's last hidden state.

    H(s, a) = (W h) . p_a + b_a,   h = h_t / |h_t|,   p_a = P (E_a - mean E) / |P (E_a - mean E)|

with the hidden state h_t before the token, the embedding E_a of the token and a fixed random P. W and b are
0 at first: without feedback there is no influence. A gradient step on half the squared error at (s, a) moves
H at (s', a') by

    alpha err (h . h' p_a . p_a' + [a = a']),

so a press speaks of like tokens in like contexts, and of the same token everywhere.

A learner does not work on the head that people are teaching but on a snapshot of it, `FrozenHead`, which
rates many states at once on the learner's device.

Shapes: ``D`` width of the model, ``r`` rank, ``V`` vocabulary, ``N`` states.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from textrl.errors import UserError

Floats = NDArray[np.float64]
State = NDArray[np.float32]
#: Shorter than this is no direction.
_SHORTEST = 1e-12


@dataclass(frozen=True, eq=False)
class FrozenHead:
    """H as it was at one moment; what is learnt later does not change it.

    Attributes:
        w: (r, D) float32, W.
        p: (V, r) float32, the tokens' directions.
        b: (V,) float32.
        learnt: Gradient steps up to that moment.
    """

    w: Tensor
    p: Tensor
    b: Tensor
    learnt: int
    _copies: dict[torch.device, tuple[Tensor, Tensor, Tensor]] = field(
        default_factory=dict, init=False, repr=False
    )

    @property
    def zero(self) -> bool:
        """Whether H is 0 everywhere because nothing was learnt yet."""
        return self.learnt == 0

    def rate(self, hidden: Tensor) -> Tensor:
        """Return H(s, .), (N, V) float32, of (N, D) raw hidden states of any length and dtype."""
        w, p, b = self._on(hidden.device)
        return torch.addmm(b, _units(hidden) @ w.T, p.T)

    def values(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        """Return H(s, a), (N,) float32.

        Args:
            hidden: (N, D) raw hidden states.
            tokens: (N,) ids.
        """
        w, p, b = self._on(hidden.device)
        return ((_units(hidden) @ w.T) * p[tokens]).sum(-1) + b[tokens]

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Return w, p and b on a device; they go there once."""
        if device not in self._copies:
            self._copies[device] = (self.w.to(device), self.p.to(device), self.b.to(device))
        return self._copies[device]


class TokenHead:
    """The regression of what a reader gives on context and token.

    Attributes:
        w: (r, D), W.
        b: (V,).
        alpha: Step size.
        rank: r.
        seed: Of P.
        fingerprint: SHA-256 of the embeddings, rounded to bfloat16: a model that was loaded in half
            precision is the same model.
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
        self._p = torch.from_numpy((projected / np.maximum(length, _SHORTEST)).astype(np.float32))
        self.alpha, self.rank, self.seed = alpha, rank, seed
        self.fingerprint = fingerprint_of(embeddings)
        self.w: Floats = np.zeros((rank, width))
        self.b: Floats = np.zeros(vocabulary)
        # Sums go through torch, whose number of threads, and so their rounding, is the session's own.
        self._w = torch.from_numpy(self.w)
        self.learnt = 0
        self._frozen: FrozenHead | None = None  # the snapshot, while nothing has changed since

    @property
    def vocabulary(self) -> int:
        """V."""
        return len(self.b)

    @property
    def width(self) -> int:
        """D."""
        return int(self.w.shape[1])

    def clear(self) -> None:
        """Forget everything."""
        self.w[:], self.b[:], self.learnt = 0.0, 0.0, 0
        self._frozen = None

    def snapshot(self) -> FrozenHead:
        """Return H as it is now; the same object until something is learnt."""
        if self._frozen is None:
            w, b = torch.from_numpy(self.w).float(), torch.from_numpy(self.b).float()
            self._frozen = FrozenHead(w, self._p, b, self.learnt)
        return self._frozen

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
        """Move sum_j credits[j] H(s_j, a_j) towards `label`.

        Args:
            states: The tokens' states, (D,) each.
            tokens: Their ids.
            credits: They sum to 1 at most. The gradient of the sum is then at most as long as a token's, the
                root of 2, also where tokens and states repeat, so that no `alpha` below 1 overshoots.
            label: What the sum should be.
        """
        rows = list(zip(states, tokens, credits, strict=True))
        error = label - sum(c * self.value(state, token) for state, token, c in rows)
        for state, token, c in rows:
            self._move(state, token, self.alpha * error * c)

    def parameters(self) -> dict[str, Any]:
        """Return what was learnt."""
        return {"w": self.w, "b": self.b, "learnt": self.learnt}

    def state_dict(self) -> dict[str, Any]:
        """Return what was learnt, numpy arrays and JSON data, and which model it belongs to."""
        return {
            "w": self.w.copy(),
            "b": self.b.copy(),
            "learnt": self.learnt,
            "rank": self.rank,
            "alpha": self.alpha,
            "seed": self.seed,
            "vocabulary": self.vocabulary,
            "width": self.width,
            "fingerprint": self.fingerprint,
        }

    def load_state_dict(self, state: Mapping[str, Any], where: str = "The saved head") -> None:
        """Continue from `state_dict`; the step size stays this head's own.

        Args:
            state: As `state_dict` returned it.
            where: What to call it in messages; a message begins with it.

        Raises:
            UserError: When it was learnt on another model, or with another rank or seed.
        """
        theirs, ours = (state["vocabulary"], state["width"]), (self.vocabulary, self.width)
        if theirs != ours:
            raise UserError(
                f"{where} was learnt on another model, of {theirs[0]} tokens and width {theirs[1]} where "
                f"this one has {ours[0]} and {ours[1]}; give the model that it was learnt on."
            )
        if state["fingerprint"] != self.fingerprint:
            raise UserError(
                f"{where} was learnt on another model, whose token embeddings have the SHA-256 "
                f"{state['fingerprint'][:12]}... where this one's have {self.fingerprint[:12]}...; give the "
                "model that it was learnt on."
            )
        for name, mine in (("rank", self.rank), ("seed", self.seed)):
            if state[name] != mine:
                raise UserError(
                    f"{where} was learnt with {name} {state[name]}, but {name} is {mine} here; set {name}: "
                    f"{state[name]}.",
                    key=name,
                )
        self.w[:], self.b[:], self.learnt = state["w"], state["b"], int(state["learnt"])
        self._frozen = None

    def _along(self, state: State) -> Tensor:
        """Return W h, (r,) float64."""
        return torch.mv(self._w, torch.from_numpy(state).double())

    def _move(self, state: State, token: int, step: float) -> None:
        self.w += np.outer(self._p[token].numpy() * step, state)
        self.b[token] += step
        self.learnt += 1
        self._frozen = None


def unit(hidden: NDArray[Any]) -> State:
    """Return a (D,) hidden state scaled to length 1."""
    scaled: State = (hidden / max(float(np.linalg.norm(hidden)), _SHORTEST)).astype(np.float32)
    return scaled


def fingerprint_of(embeddings: NDArray[np.float32]) -> str:
    """Return the SHA-256 of (V, D) embeddings, rounded to bfloat16."""
    rounded = torch.tensor(embeddings, dtype=torch.bfloat16)
    return hashlib.sha256(rounded.view(torch.int16).numpy().data).hexdigest()


def _units(hidden: Tensor) -> Tensor:
    """Return (N, D) hidden states scaled to length 1, float32, without a gradient."""
    wide = hidden.detach().float()
    length: Tensor = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    return wide / length.clamp_min(_SHORTEST)
