"""Tokens for a linear learner: which token stands where, told apart by how far the text has come.

A value that is linear in one-hot tokens alone would prefer the same next token at every step. Crossed with
the step, tasks whose next token is a function of one earlier token (copying, reversing) are linear.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from textrl.errors import UserError
from textrl.features.base import MOST_FEATURES, Floats


class Tokens:
    """One feature for each (step, column, token): 1 for every real token of the observation, at its step.

    The step is the last column that holds a token; the next one is to be written. Padding is no token.

    Attributes:
        size: F = L * L * V, for L columns and V tokens.
    """

    constant = 0
    unit_interval = True

    def __init__(self, columns: int, vocabulary: int) -> None:
        """Lay out the features.

        Args:
            columns: L, columns of an observation.
            vocabulary: V.

        Raises:
            UserError: When there are more than `MOST_FEATURES`.
        """
        self.size = columns * columns * vocabulary
        if self.size > MOST_FEATURES:
            raise UserError(
                f"Observations of {columns} columns and {vocabulary:,} tokens make {self.size:,} features of "
                f"kind tokens (columns^2 * tokens), above {MOST_FEATURES:,}; shorten prompts or "
                "max_new_tokens, or take a smaller vocabulary."
            )
        self._columns, self._vocabulary = columns, vocabulary
        self._ones = np.ones(columns)
        self._ones.setflags(write=False)

    @classmethod
    def over(cls, space: Any) -> Tokens:
        """Return the features of a token environment's observation space.

        Raises:
            UserError: When the space is another one, or there would be too many features.
        """
        if not is_token_space(space):
            raise UserError(
                "Features of kind tokens need the observations of a token environment, a Dict of input_ids "
                f"and attention_mask, not {space}."
            )
        ids = space["input_ids"]
        return cls(ids.shape[0], int(ids.high.max()) + 1)

    def active(self, observation: Any) -> tuple[NDArray[np.int64], Floats]:
        """Return (indices, ones), both (K,) for K real tokens."""
        columns = np.flatnonzero(observation["attention_mask"])
        if not len(columns):
            return columns.astype(np.int64), self._ones[:0]
        tokens = np.asarray(observation["input_ids"])[columns]
        indices = (columns[-1] * self._columns + columns) * self._vocabulary + tokens
        return indices.astype(np.int64), self._ones[: len(columns)]

    def __call__(self, observation: Any) -> Floats:
        """Return (F,) float64."""
        out = np.zeros(self.size)
        out[self.active(observation)[0]] = 1.0
        return out

    def batch(self, observations: Any) -> Floats:
        """Return (B, F) float64 of stacked observations: ``input_ids`` and ``attention_mask``, (B, L)."""
        rows = zip(observations["input_ids"], observations["attention_mask"], strict=True)
        return np.stack([self({"input_ids": ids, "attention_mask": mask}) for ids, mask in rows])


def is_token_space(space: Any) -> bool:
    """Return whether these are the observations of a token environment."""
    from gymnasium.spaces import Box, Dict

    if not isinstance(space, Dict) or set(space.spaces) != {"input_ids", "attention_mask"}:
        return False
    ids, mask = space["input_ids"], space["attention_mask"]
    return isinstance(ids, Box) and len(ids.shape) == 1 and mask.shape == ids.shape
