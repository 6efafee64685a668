"""What happens where a policy goes further from its reference than the settings allow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from textrl.errors import TrainingError

#: Halvings of the learning rate after which backing off goes no further.
_MOST_HALVINGS = 10


@dataclass
class KlLimit:
    """Watches the KL to the reference.

    Backing off puts the policy back to the weights with which it was last within the limit, leaves the
    iteration's update out (its responses came from the weights that are given up), and halves the policy's
    learning rate; each iteration within the limit doubles it again. A lower rate alone would not do: it
    slows the way back as much as the way out. The penalty's weight is not touched, as it may follow a
    controller of its own.

    Attributes:
        limit: Nats per sequence, or None for no limit.
        action: What happens above it.
        halvings: How often the policy's learning rate is halved at present.
        kept: The policy's trainable weights when it was last within the limit, where the action needs them.
    """

    limit: float | None
    action: Literal["stop", "back_off"]
    halvings: int = 0
    kept: dict[str, Tensor] = field(default_factory=dict)

    @property
    def factor(self) -> float:
        """What the policy's learning rate is multiplied by."""
        return float(0.5**self.halvings)

    @torch.no_grad()
    def check(self, kl: float, policy: Mapping[str, Tensor]) -> bool:
        """Take note of an iteration's KL before its update, and put the policy back where it has to be.

        Args:
            kl: Nats per sequence, over all processes.
            policy: The policy's trainable weights by name.

        Returns:
            Whether the iteration's update may be taken.

        Raises:
            UserError: When the KL is above the limit and the action is to stop, or there is no way back.
        """
        if self.limit is None:
            return True
        within = kl <= self.limit
        if self.action == "stop" or not (within or self.kept):
            if within:
                return True
            raise TrainingError(
                f"The KL to the reference is {kl:.1f} nats per sequence, above kl_limit ({self.limit:g}); "
                "raise the KL reward's weight, lower learning_rate, or set kl_limit_action to back_off."
            )
        if within:
            self.halvings = max(self.halvings - 1, 0)
            self.kept = {name: tensor.detach().clone() for name, tensor in policy.items()}
            return True
        self.halvings = min(self.halvings + 1, _MOST_HALVINGS)
        for name, tensor in policy.items():
            tensor.copy_(self.kept[name])
        return False

    def figures(self) -> dict[str, float]:
        """Return what to log: the share that is left of the policy's learning rate."""
        backs_off = self.limit is not None and self.action == "back_off"
        return {"train/kl_back_off": self.factor} if backs_off else {}
