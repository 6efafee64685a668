"""Group relative policy optimisation (Shao et al. 2024, DeepSeekMath, arXiv 2402.03300, section 4.1).

Of K responses to one prompt each has the advantage

    A_i = (R_i - mean of R) / (standard deviation of R + 1e-4)

for all of its tokens, under PPO's clipped loss. Liu et al. 2025 (Dr. GRPO, arXiv 2503.20783) leave the
division out (`scale_advantages`) and divide by no response's length (`aggregation`); Yu et al. 2025 (DAPO,
arXiv 2503.14476) average over tokens.

DeepSeekMath puts the KL to the reference into the loss, estimated by k3. On samples of pi the gradient of k3
is that of KL(ref || pi) in each visited state, so that this form has another optimum than
E[r] - beta KL(pi || ref): see `textrl.evaluation.loss_kl`. With the penalty in the reward it has the same.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from textrl.learners.groups.learner import GroupLearner
from textrl.learners.groups.loss import Aggregation
from textrl.learners.grpo.settings import GRPOSettings

#: Added to the standard deviation, in units of the reward: a group of equal rewards has no advantages.
EPSILON = 1e-4


class GRPO(GroupLearner):
    """Clipped policy gradient on advantages relative to the group; see `GroupLearner`."""

    label: ClassVar[str] = "grpo"
    settings_class: ClassVar[type[Any]] = GRPOSettings
    settings: GRPOSettings

    def advantages(self, returns: Tensor) -> Tensor:
        """Return (G, K) rewards relative to their groups."""
        return relative(returns, scale=self.settings.scale_advantages)

    @property
    def aggregation(self) -> Aggregation:
        """As the settings say."""
        return self.settings.aggregation

    @property
    def beta(self) -> float:
        """Weight of k3 in the loss; 0 where the KL is paid in the reward."""
        return self.settings.beta or 0.0


def relative(returns: Tensor, *, scale: bool) -> Tensor:
    """Return (G, K) rewards minus the mean of their row, the row's own included.

    Args:
        returns: (G, K).
        scale: Divide by the row's standard deviation, unbiased (K - 1), plus `EPSILON`.
    """
    centred = returns - returns.mean(dim=1, keepdim=True)
    return centred / (returns.std(dim=1, keepdim=True, correction=1) + EPSILON) if scale else centred
