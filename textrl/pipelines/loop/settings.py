"""Settings of the online loop; the models and data of a round are those of an `RLHFSettings` section."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from textrl.pipelines.rlhf.settings import RLHFSettings


@dataclass(frozen=True)
class LabelSettings:
    """Who ranks what.

    Attributes:
        labeler: ``simulated`` ranks by scores with noise, ``judge`` by scores without, ``file`` waits for
            rankings that people made.
        prompts: Prompts whose responses are ranked in a round, to train on.
        held_out: Further prompts whose rankings only measure the reward model; the same ones every round.
        k: Responses sampled and ranked per prompt.
        sources: What scores, by name, as in a config's ``sources``. Without any a simulated labeler scores
            by a TF-IDF ridge that is fitted to people's ratings of the split ``rm``.
        rewards: Weight of each source.
        temperature: Of a simulated labeler, in the scores' unit: of two responses the better one comes
            first with probability sigmoid(difference / temperature). 0 makes no mistakes.
        tie_margin: Scores that differ by no more than this are a tie.
        file: JSONL or parquet of rankings under ``file``, with {round} in its name.
        seed: Of the labeler's mistakes.
    """

    labeler: Literal["simulated", "judge", "file"] = "simulated"
    prompts: int = 128
    held_out: int = 32
    k: int = 4
    sources: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    rewards: Mapping[str, float] = field(default_factory=dict)
    temperature: float = 0.0
    tie_margin: float = 0.0
    file: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.prompts < 1 or self.held_out < 0 or self.k < 2:
            raise ValueError(
                f"prompts is {self.prompts}, held_out {self.held_out} and k {self.k}; use at least 1, 0 and 2"
            )
        for name in ("temperature", "tie_margin"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; it must be 0 or more")
        if self.temperature and self.labeler != "simulated":
            raise ValueError(
                f"temperature is {self.temperature}, but only a simulated labeler makes mistakes"
            )
        if (self.labeler == "file") != (self.file is not None):
            raise ValueError("file belongs to the labeler 'file', which needs it")
        if self.file is not None and "{round}" not in self.file:
            raise ValueError(f"file is {self.file!r}; put {{round}} into it, since each round has its own")
        if self.labeler == "judge" and not self.sources:
            raise ValueError("sources is empty, but the labeler 'judge' needs one that judges")
        if self.labeler == "file" and self.sources:
            raise ValueError("sources are given, but the labeler 'file' does not score")


@dataclass(frozen=True)
class DirectSettings:
    """The baseline without a reward model: each ranking trains the policy at once.

    Attributes:
        enabled: Run it beside the loop, on the same number of rankings. Needs a labeler that answers at
            once: simulated or judge.
        learning_rate: Of the policy.
        prompts_per_step: Rankings behind one optimizer step.
        scale: Reward of a response that wins against all others of its ranking; one that loses against all
            gets the negative.
        kl_coef: Penalty per nat from the SFT model; None takes the weight that ``base.rewards`` gives to
            the source ``kl``.
    """

    enabled: bool = True
    learning_rate: float = 1e-4
    prompts_per_step: int = 8
    scale: float = 1.0
    kl_coef: float | None = None

    def __post_init__(self) -> None:
        if not self.learning_rate > 0 or not self.scale > 0:
            raise ValueError(
                f"learning_rate is {self.learning_rate} and scale {self.scale}; both must be above 0"
            )
        if self.prompts_per_step < 1:
            raise ValueError(f"prompts_per_step is {self.prompts_per_step}; it must be at least 1")
        if self.kl_coef is not None and self.kl_coef < 0:
            raise ValueError(f"kl_coef is {self.kl_coef}; it must be 0 or more")


@dataclass(frozen=True)
class LoopSettings:
    """The loop.

    Attributes:
        base: Models, data, training and evaluation, as in ``pipeline: rlhf``; ``base.iterations`` of
            PPO-ptx in each round.
        rounds: How often to sample, rank, retrain and train.
        labels: See `LabelSettings`.
        start: Where PPO-ptx begins, and what its KL penalty refers to: the ``sft`` model in every round, or
            the policy of the ``previous`` round.
        direct: See `DirectSettings`.
        pipeline: ``online_loop``.
    """

    base: RLHFSettings
    rounds: int = 3
    labels: LabelSettings = field(default_factory=LabelSettings)
    start: Literal["sft", "previous"] = "sft"
    direct: DirectSettings = field(default_factory=DirectSettings)
    pipeline: str = "online_loop"

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"rounds is {self.rounds}; it must be at least 1")
        if self.direct.enabled and self.labels.labeler == "file":
            raise ValueError(
                "direct.enabled is true, but rankings from a file come too late to train on at once; "
                "set it to false"
            )
        if self.direct.enabled and self.labels.prompts % self.direct.prompts_per_step:
            raise ValueError(
                f"labels.prompts is {self.labels.prompts}, no multiple of direct.prompts_per_step, "
                f"{self.direct.prompts_per_step}"
            )
