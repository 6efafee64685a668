"""The reward of one learned reward model, or of several that are asked together.

Shapes: ``B`` sequences, ``M`` members of an ensemble.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from textrl.errors import UserError
from textrl.protocols import Batch
from textrl_reward_model.encoding import Encoder
from textrl_reward_model.scorer import Scorer
from textrl_reward_model.settings import RewardModelRewardSettings


class RewardModelReward:
    """A frozen scorer, or an ensemble of them, in evaluation mode.

    Attributes:
        settings: As given.
        members: One scorer a folder; each subtracts its own offset before scores are combined.
    """

    def __init__(self, settings: RewardModelRewardSettings) -> None:
        """Load the models and decide what they read.

        Raises:
            UserError: When a model cannot be loaded, or ids cannot be shared although they should.
        """
        self.settings = settings
        folders = member_folders(settings)
        if len(folders) == 1 and settings.ensemble != "mean":
            raise UserError(
                f"ensemble is '{settings.ensemble}', but {settings.model} is one reward model; name more "
                "under members or set ensemble to 'mean'."
            )
        self.members = [Scorer(replace(settings, model=name, members=())) for name in folders]
        self._spread = 0.0

    @property
    def model(self) -> PreTrainedModel:
        """The first member's model."""
        return self.members[0].model

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The first member's tokenizer."""
        return self.members[0].tokenizer

    @property
    def offset(self) -> float:
        """The first member's offset."""
        return self.members[0].offset

    @property
    def limit(self) -> int:
        """The longest input that the first member reads, in tokens."""
        return self.members[0].limit

    @property
    def shared(self) -> bool:
        """Whether the first member scores the policy's ids as they are."""
        return self.members[0].shared

    @property
    def encoder(self) -> Encoder:
        """What turns text into the first member's tokens."""
        return self.members[0].encoder

    def __call__(self, batch: Batch) -> Tensor:
        """Return (B,) float32: score minus offset, combined over the members.

        Raises:
            UserError: When an input is longer than a model can read, or has ids it does not know.
        """
        scores = torch.stack([member(batch) for member in self.members])
        if len(self.members) > 1:
            self._spread = float(scores.std(0).mean()) if scores.shape[1] else 0.0
        return combine(scores, self.settings)

    def metrics(self, batch: Batch) -> Mapping[str, float]:
        """Return the share of truncated inputs, and of an ensemble by how much the members differ."""
        found = self.members[0].metrics(batch)
        return found | {"ensemble_std": self._spread} if len(self.members) > 1 else found


def combine(scores: Tensor, settings: RewardModelRewardSettings) -> Tensor:
    """Return (B,) of the (M, B) scores of an ensemble (Coste et al. 2023, section 3.3).

    ``mean``; ``minimum``, what the hardest to please says; ``pessimistic``, mean - k * standard deviation
    (of a sample: divided by M - 1) with k = `pessimism`.
    """
    if len(scores) == 1:
        return scores[0]
    if settings.ensemble == "minimum":
        return scores.amin(0)
    mean = scores.mean(0)
    return mean if settings.ensemble == "mean" else mean - settings.pessimism * scores.std(0)


def member_folders(settings: RewardModelRewardSettings) -> list[str]:
    """Return the models to ask: `model`, or the folders in it where it holds an ensemble, and `members`."""
    folder = Path(settings.model).expanduser()
    inside: list[str] = []
    if folder.is_dir() and not (folder / "config.json").is_file():
        inside = [str(file.parent) for file in sorted(folder.glob("member-*/config.json"))]
    return [*(inside or [settings.model]), *settings.members]
