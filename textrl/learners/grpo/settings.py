"""Every knob of GRPO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from textrl.learners.groups.settings import GroupSettings


@dataclass(frozen=True, kw_only=True)
class GRPOSettings(GroupSettings):
    """Settings of GRPO.

    Attributes:
        group_size: Responses to one prompt whose rewards are compared (DeepSeekMath: 64).
        scale_advantages: Divide the advantages of a group by its standard deviation (DeepSeekMath), which
            gives prompts with nearly equal rewards as much weight as others; false only subtracts the mean
            (Dr. GRPO).
        aggregation: What a token's term of the loss is divided by: ``sequence`` by the length of its response
            and the number of responses (DeepSeekMath), ``token`` by the tokens of the minibatch (DAPO),
            ``constant`` by the task's longest response and the number of responses (Dr. GRPO).
        kl: ``reward``: the penalty is the source ``kl`` under ``rewards:`` (k1 per token), or there is
            none; ``loss``: k3 is a term of the loss with weight `beta`, which has another optimum.
        beta: Weight of k3 under ``kl: loss`` (DeepSeekMath: 0.04).
    """

    group_size: int = 8
    scale_advantages: bool = True
    aggregation: Literal["sequence", "token", "constant"] = "sequence"
    kl: Literal["reward", "loss"] = "reward"
    beta: float | None = None

    def __post_init__(self) -> None:
        """Refuse values that cannot work; see `GroupSettings`."""
        super().__post_init__()
        if self.kl == "loss" and (self.beta is None or not self.beta > 0):
            raise ValueError(f"beta is {self.beta}; kl: loss needs a weight above 0, such as 0.04")
        if self.kl == "reward" and self.beta is not None:
            raise ValueError(
                f"beta is {self.beta}, but kl is reward, where the penalty's weight stands under rewards:; "
                "leave beta out or set kl to loss"
            )
