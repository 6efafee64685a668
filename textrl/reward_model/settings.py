"""Settings of reward-model training, and what comes out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from textrl.mdp.ranking import PairDivisor
from textrl.training import TrainSettings, require

#: The losses of `textrl.mdp.ranking` by name.
LossName = Literal["kwise", "bradley_terry", "rao_kupper", "regression", "best_of_k"]
#: ``"full"`` trains the weights (of the top blocks alone, with ``first_trainable``), ``"lora"`` adapters
#: that are merged at the end, ``"linear"`` fits the score head to frozen features.
Mode = Literal["full", "lora", "linear"]


@dataclass(frozen=True, kw_only=True)
class RewardModelSettings(TrainSettings):
    """Settings of reward-model training; see also `TrainSettings`. Pairwise training is K = 2.

    Attributes:
        lr: 9e-6 in the paper, for a model of 6B.
        batch_size: Groups (prompts) per optimizer step; 64 in the paper.
        loss: ``kwise`` all pairs of a group (InstructGPT); ``bradley_terry`` the same with margins;
            ``rao_kupper`` with ties; ``regression`` to ratings; ``best_of_k`` the choice of the best.
        divide: Divide a group's loss by all its pairs (Eq. 1 as written) or by the decided ones; of
            ``kwise`` and ``bradley_terry``.
        margin_scale: Score wanted for a margin of 1; of ``bradley_terry``.
        theta: Of ``rao_kupper``, at least 1: equal completions tie with probability
            (theta - 1) / (theta + 1). At 1 ties are dropped.
        learn_theta: Learn theta, from the value given.
        theta_lr: Peak learning rate of log theta; follows the schedule of `lr`.
        mode: ``full`` trains the weights; ``lora`` adapters of the trainable blocks (needs the extra
            ``lora``), merged at the end; ``linear`` the score head alone, on features computed once.
        lora_rank: Rank of the adapters.
        l2: Penalties to try in ``linear`` mode, on standardised features; the held-out loss chooses.
        cache_frozen: Compute the output of the frozen blocks once and keep it (R * T * H * 4 bytes);
            pays where a completion is seen more than once. Decoders only.
        patience: Stop after this many evaluations without a better held-out loss, and keep the best
            weights; 0 trains to the end.
    """

    lr: float = 9e-6
    batch_size: int = 64
    loss: LossName = "kwise"
    divide: PairDivisor = "all"
    margin_scale: float = 1.0
    theta: float = 1.5
    learn_theta: bool = True
    theta_lr: float = 0.01
    mode: Mode = "full"
    lora_rank: int = 8
    l2: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 0.1, 1.0)
    cache_frozen: bool = False
    patience: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.patience >= 0, f"patience is {self.patience}; it must not be negative")
        require(not self.patience or self.eval_every > 0, "patience needs eval_every above 0")
        require(
            math.isfinite(self.margin_scale) and self.margin_scale >= 0,
            f"margin_scale is {self.margin_scale}; it must not be negative",
        )
        require(
            math.isfinite(self.theta) and self.theta >= 1, f"theta is {self.theta}; it must be at least 1"
        )
        require(
            self.loss != "rao_kupper" or not self.learn_theta or self.theta > 1,
            "theta is 1, where ties teach nothing; begin above 1 or set learn_theta to false",
        )
        require(self.theta_lr >= 0, f"theta_lr is {self.theta_lr}; it must not be negative")
        require(self.lora_rank >= 1, f"lora_rank is {self.lora_rank}; it must be at least 1")
        require(
            bool(self.l2) and all(math.isfinite(one) and one > 0 for one in self.l2),
            f"l2 is {list(self.l2)}; give one or more penalties above 0",
        )


@dataclass(frozen=True)
class RewardModelResult:
    """What came out; the weights are in the model, the offset in its config.

    Attributes:
        steps: Optimizer steps behind the weights; in ``linear`` mode the penalties tried.
        loss: Of the last step; in ``linear`` mode on all the training groups.
        val_loss: Held-out loss of the last evaluation; NaN without held-out groups.
        val_accuracy: Share of decided held-out pairs in the people's order; NaN without any.
        val_pairs: Decided held-out pairs.
        val_ties: Held-out pairs that people ranked equal; they count in no accuracy.
        offset: Mean score of the demonstrations, in ``model.config.textrl_reward_offset``. Without
            demonstrations 0, but for ``regression``, where score minus offset is then on the ratings' scale.
        seconds: Wall time of this process, s.
        resumed_from: Step of the checkpoint this process began at.
        stopped_early: Training ended because the held-out loss stopped improving.
        theta: Of ``rao_kupper``, in ``model.config.textrl_tie_theta``; else None.
        l2: The penalty chosen in ``linear`` mode; else None.
    """

    steps: int
    loss: float
    val_loss: float
    val_accuracy: float
    val_pairs: int
    val_ties: int
    offset: float
    seconds: float
    resumed_from: int
    stopped_early: bool
    theta: float | None = None
    l2: float | None = None
