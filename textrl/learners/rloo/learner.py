"""REINFORCE leave-one-out (Kool et al. 2019; Ahmadian et al. 2024, "Back to Basics", arXiv 2402.14740).

The reward of a response is the sum of everything that was paid for it, the KL penalty of the source ``kl``
included. Of K responses to one prompt each is compared with the mean of the other K - 1,

    A_i = R_i - 1/(K - 1) sum over j != i of R_j,

which does not depend on response i, so that the gradient of sum_i A_i log pi(y_i) / K stays unbiased. All
tokens of a response have its advantage, and their terms are added up: log pi(y) = sum over t.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from textrl.learners.groups.learner import GroupLearner
from textrl.learners.groups.loss import Aggregation
from textrl.learners.rloo.settings import RLOOSettings


class RLOO(GroupLearner):
    """REINFORCE with the leave-one-out baseline, over a token environment; see `GroupLearner`."""

    label: ClassVar[str] = "rloo"
    settings_class: ClassVar[type[Any]] = RLOOSettings

    def advantages(self, returns: Tensor) -> Tensor:
        """Return (G, K) rewards without the means of the others."""
        return leave_one_out(returns)

    @property
    def aggregation(self) -> Aggregation:
        """The terms of a response are added up."""
        return "sum"


def leave_one_out(returns: Tensor) -> Tensor:
    """Return each reward minus the mean of the others of its row: (G, K) from (G, K), K at least 2."""
    others = returns.shape[1] - 1
    # Differences to the row's mean first: rewards that are equal leave exactly 0 of it in float64 too.
    centred = returns - returns.mean(dim=1, keepdim=True)
    return centred * (returns.shape[1] / others)
