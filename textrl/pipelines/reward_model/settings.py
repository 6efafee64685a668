"""Settings of the pipeline that trains reward models; the file is the config, section by section."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from textrl.data.ratings import DOMAINS, Domain
from textrl.errors import did_you_mean
from textrl.models.heads import PLAIN_TEMPLATE
from textrl.reward_model import RewardModelSettings

SplitBy = Literal["prompt", "user_id", "annotator"]


@dataclass(frozen=True)
class TextSizes:
    """How many rated texts each part gets.

    Attributes:
        train: To learn from.
        validation: To stop early and to choose a penalty by.
        test: For the figures alone.
    """

    train: int = 4000
    validation: int = 500
    test: int = 1000

    def __post_init__(self) -> None:
        for name, size in vars(self).items():
            if size < 2:
                raise ValueError(f"{name} is {size}; it must be at least 2")


@dataclass(frozen=True)
class PreferenceData:
    """Where preferences come from. No prompt is in two parts.

    Attributes:
        source: ``ratings`` are short texts that people rated (downloaded once); ``made`` are sentences from a
            small grammar, rated by VADER's rules, for machines without a network; ``file`` reads `train`.
        domain: Of ``ratings``: movie, amazon, nyt or tweets.
        sizes: Of ``ratings`` and ``made``.
        k: Rated texts of a group.
        rounds: Times the training texts are dealt into new groups.
        tie_margin: Mean ratings that differ by no more than this are a tie.
        gap: Of ``ratings`` and ``made``: test pairs count whose mean ratings differ by this and more.
        train: File, folder or dataset id with rankings, pairs or ratings. Records that name a ``split``
            (train, validation or test) go to that part.
        validation: The same, to stop early and to choose a penalty by; None sets aside a share of `train`.
        test: The same, for the figures; None sets aside a share of `train`.
        validation_share: Share of the prompts of `train`, where nothing else says what is for validation.
        test_share: Share of the prompts of `train`, where nothing else says what is for the figures.
        by: What is drawn apart keeps one prompt's rankings together, and with ``user_id`` or ``annotator``
            all of one person.
        demonstrations: File with ``prompt`` and ``completion``: texts whose mean score becomes 0.
        seed: Of the deals and the parts.
    """

    source: Literal["ratings", "made", "file"] = "ratings"
    domain: Domain = "movie"
    sizes: TextSizes = field(default_factory=TextSizes)
    k: int = 4
    rounds: int = 1
    tie_margin: float = 0.2
    gap: float = 1.0
    train: str | None = None
    validation: str | None = None
    test: str | None = None
    validation_share: float = 0.1
    test_share: float = 0.1
    by: SplitBy = "prompt"
    demonstrations: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.domain not in DOMAINS:
            raise ValueError(f"domain is '{self.domain}'.{did_you_mean(self.domain, DOMAINS)}")
        if (self.source == "file") != (self.train is not None):
            raise ValueError("train names a file exactly where source is 'file'")
        for name in ("validation", "test"):
            if self.source != "file" and getattr(self, name) is not None:
                raise ValueError(f"{name} names a file, and source is '{self.source}'; set source to 'file'")
        for name in ("validation_share", "test_share"):
            if not 0 < getattr(self, name) < 0.5:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be between 0 and 0.5")
        if self.gap < 0:
            raise ValueError(f"gap is {self.gap}; it must not be negative")


@dataclass(frozen=True, kw_only=True)
class ArmSettings(RewardModelSettings):
    """How one reward model is made and trained; see also `RewardModelSettings`.

    Attributes:
        layers: Blocks of the backbone that are kept, from the first; None keeps all.
        template: What the model reads, with ``{prompt}`` and ``{response}`` in the places of the two texts. A
            question after the response gathers in the last token what the head is to find. The model's
            config keeps it, and the reward ``reward_model`` then tokenises texts instead of sharing ids.
        pairs: ``together`` keeps all pairs of a prompt in one batch element; ``independent`` makes every
            decided pair a group of its own, which `batch_size` then counts.
    """

    layers: int | None = None
    template: str = PLAIN_TEMPLATE
    pairs: Literal["together", "independent"] = "together"

    def __post_init__(self) -> None:
        super().__post_init__()
        if "{response}" not in self.template:
            raise ValueError(f"template is {self.template!r}; it must contain '{{response}}'")
        if self.template != PLAIN_TEMPLATE and self.append_eos:
            raise ValueError(
                "append_eos is on, but a text in a template ends where the template does; set it to false"
            )


@dataclass(frozen=True)
class RewardModelRunSettings:
    """A run of the pipeline.

    Attributes:
        model: Backbone: registered name, folder (an SFT model's, an encoder's, a reward model's), GGUF
            file or hub id.
        pipeline: ``reward_model``.
        data: See `PreferenceData`.
        training: See `ArmSettings`.
        members: Reward models per arm; more than one are an ensemble.
        resample: Each member of an ensemble learns from groups drawn with replacement (bagging); without
            it only seeds differ, which changes nothing in ``linear`` mode.
        arms: Name -> settings of `training` that differ; none is one arm called ``reward_model``.
        targets: Figures to reach: ``pair_accuracy_min``; the run says whether the first arm did.
    """

    model: str
    pipeline: str = "reward_model"
    data: PreferenceData = field(default_factory=PreferenceData)
    training: ArmSettings = field(default_factory=ArmSettings)
    members: int = 1
    resample: bool = True
    arms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    targets: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.members < 1:
            raise ValueError(f"members is {self.members}; it must be at least 1")
        for name in self.targets:
            if name != "pair_accuracy_min":
                raise ValueError(f"targets has no '{name}'.{did_you_mean(name, ['pair_accuracy_min'])}")
