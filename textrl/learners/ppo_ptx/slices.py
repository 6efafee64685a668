"""A few rows of an iteration's experience, as they go through a network together.

Shapes: ``M`` rows of ``L`` tokens, ``N`` of them actions (row by row, the True entries of their mask).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from textrl.learners.ppo_ptx.experience import Experience
from textrl.learners.ppo_ptx.networks import Rows
from textrl.mdp.losses import value_loss
from textrl.models.stack import Trunk


@dataclass(frozen=True, eq=False)
class Slice:
    """A micro-batch, without the columns in which all its rows are padding.

    Attributes:
        ids: (M, L) int64.
        mask: (M, L) bool.
        actions: (M, L) bool.
        trunk: Lends the outputs of frozen blocks.
        logprobs: (N,) of the actions, when they were sampled.
        advantages: (N,) float32.
        values: (N,) before the first step.
        returns: (N,) float32.
        columns: Between which all their real tokens lie.
    """

    ids: Tensor
    mask: Tensor
    actions: Tensor
    trunk: Trunk
    logprobs: Tensor
    advantages: Tensor
    values: Tensor
    returns: Tensor
    columns: slice

    @classmethod
    def of(cls, experience: Experience, rows: Tensor) -> Slice:
        """Cut some rows out of an iteration's experience."""
        columns = _columns(experience.mask[rows])
        actions = experience.actions[rows, columns]

        def taken(figures: Tensor) -> Tensor:
            return figures[rows, columns][actions]

        return cls(
            ids=experience.ids[rows, columns],
            mask=experience.mask[rows, columns],
            actions=actions,
            trunk=experience.trunk.rows(rows, columns),
            logprobs=taken(experience.logprobs),
            advantages=taken(experience.advantages),
            values=taken(experience.values),
            returns=taken(experience.returns),
            columns=columns,
        )

    @property
    def rows(self) -> Rows:
        """What a network reads."""
        return Rows(self.ids, self.mask, self.actions, self.trunk)

    def value_loss(self, values: Tensor, clip: float | None) -> tuple[Tensor, dict[str, float]]:
        """Return the () loss of (N,) values, summed, and the figures to log."""
        loss = value_loss(values, self.values, self.returns, clip)
        figures = {"value": float(loss.total.detach()), "value_clipped": float(loss.clipped)}
        return loss.total, figures


def _columns(mask: Tensor) -> slice:
    """Return the columns between which all real tokens of a (B, L) mask lie."""
    used = mask.any(0).nonzero().squeeze(1).tolist()
    return slice(used[0], used[-1] + 1) if used else slice(None)
