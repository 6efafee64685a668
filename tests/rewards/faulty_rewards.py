"""Rewards that break the contract in one way each, and one that keeps it; targets of records in tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from textrl.specs import RewardSpec


def spec(target: str, **fields: Any) -> RewardSpec:
    """A record of one of the classes below."""
    fields.setdefault("name", target.lower())
    return RewardSpec(target=f"faulty_rewards:{target}", summary="made for a test", **fields)


@dataclass(frozen=True)
class Settings:
    """Settings.

    Attributes:
        scale: Multiplies the value.
    """

    scale: float = 1.0


@dataclass
class Thawed:
    """Settings that can be changed.

    Attributes:
        scale: Multiplies the value.
    """

    scale: float = 1.0


@dataclass(frozen=True)
class Silent:
    """Settings without an explanation."""

    scale: float = 1.0


@dataclass(frozen=True)
class Greedy:
    """Settings that take even the kit's unknown key.

    Attributes:
        no_such_setting: Takes it.
    """

    no_such_setting: int = 0


class NotADataclass:
    """Settings that build() cannot check."""


class Good:
    """The sum of the real token ids."""

    def __init__(self, settings: Any = None) -> None:
        self.scale = getattr(settings, "scale", 1.0)

    def __call__(self, batch):
        return self.scale * (batch.response_ids * batch.response_mask).sum(-1).float()


class GoodTokens:
    """The real token ids themselves."""

    def __call__(self, batch):
        return (batch.response_ids * batch.response_mask).float()


class CannotBuild:
    def __init__(self) -> None:
        raise RuntimeError("no weights")


class Raises:
    def __call__(self, batch):
        raise KeyError("a column")


class ReturnsList:
    def __call__(self, batch):
        return [0.0] * len(batch.response_ids)


class Column:
    def __call__(self, batch):
        return torch.zeros(len(batch.response_ids), 1)


class PerToken:
    """(B, T), for a record that says one value per episode."""

    def __call__(self, batch):
        return torch.zeros(batch.response_ids.shape)


class Integers:
    def __call__(self, batch):
        return batch.response_mask.sum(-1)


class NotANumber:
    """NaN in row 1."""

    def __call__(self, batch):
        value = torch.zeros(len(batch.response_ids))
        value[min(1, len(value) - 1)] = float("nan")
        return value


class Infinite:
    def __call__(self, batch):
        return torch.full((len(batch.response_ids),), float("-inf"))


class PaysPadding:
    def __call__(self, batch):
        return torch.ones(batch.response_ids.shape)


class ComparesRows:
    """Depends on what else is in the batch."""

    def __call__(self, batch):
        length = batch.response_mask.sum(-1).float()
        return length - length.mean()


class DependsOnPlace:
    """Depends on the row's place; the rows alone are right."""

    def __call__(self, batch):
        return torch.arange(len(batch.response_ids)).float() * (len(batch.response_ids) > 1)


class MeasuresWidth:
    """Counts columns beyond ten, that is, padding."""

    def __call__(self, batch):
        extra = max(batch.response_ids.shape[1] - 10, 0)
        return torch.full((len(batch.response_ids),), float(extra))


class ReadsPaddingIds:
    """Right as long as the pad id is 0."""

    def __call__(self, batch):
        return batch.response_ids.sum(-1).float()


class ReadsPaddingFloats:
    """0 * NaN is NaN."""

    def __call__(self, batch):
        return (batch.logprobs * batch.response_mask).sum(-1)


class LooksAhead:
    """Declared causal, pays the length of the response to each of its tokens."""

    def __call__(self, batch):
        length = batch.response_mask.sum(-1, keepdim=True)
        return (length * batch.response_mask).float()


class Random:
    def __call__(self, batch):
        return torch.rand(len(batch.response_ids))


class PopsRecords:
    def __call__(self, batch):
        return torch.tensor([float(record.pop("label")) for record in batch.records])


class ReadsStars:
    """Correct, where the records have the column."""

    def __call__(self, batch):
        return torch.tensor([float(record["stars"]) for record in batch.records])


class WritesIds:
    def __call__(self, batch):
        value = (batch.response_ids * batch.response_mask).sum(-1).float()
        batch.response_ids.clamp_(max=5)
        return value


class NeedsWords:
    def __call__(self, batch):
        return torch.tensor([1.0 / len(text.split()) for text in batch.text])


class Learns:
    """Learns a bias online, by momentum; keeps and restores both of its numbers."""

    kept = ("bias", "speed")

    def __init__(self) -> None:
        self.bias = torch.zeros(())
        self.speed = torch.zeros(())

    def __call__(self, batch):
        return self.bias.expand(len(batch.response_ids)).clone()

    def observe(self, signals):
        for signal in signals:
            self.speed = 0.9 * self.speed + signal.value
            self.bias = self.bias + 0.1 * self.speed

    def state_dict(self):
        return {name: getattr(self, name) for name in self.kept}

    def load_state_dict(self, state):
        for name, value in state.items():
            setattr(self, name, value)


class ForgetsSpeed(Learns):
    """Answers the same after a resume, and learns on otherwise."""

    kept = ("bias",)


class ForgetsBias(Learns):
    kept = ("speed",)


class SavesOnly:
    def __call__(self, batch):
        return torch.zeros(len(batch.response_ids))

    def state_dict(self):
        return {}


class LearnsWithoutState:
    def __call__(self, batch):
        return torch.zeros(len(batch.response_ids))

    def observe(self, signals):
        pass


class SavesObjects(SavesOnly):
    def state_dict(self):
        return {"seen": {1, 2}}

    def load_state_dict(self, state):
        pass


class LoadsNothing(Learns):
    """Its state is not what it was given."""

    def load_state_dict(self, state):
        self.bias, self.speed = state["bias"], state["speed"] + 1

    def observe(self, signals):
        pass


class HandlesOnlyWide:
    """Wrong shape for a batch of responses of one token."""

    def __call__(self, batch):
        value = (batch.response_ids * batch.response_mask).float()
        return value.squeeze(-1)
