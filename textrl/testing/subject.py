"""The reward under test: its record, its settings, and the episodes it is shown."""

from __future__ import annotations

import dataclasses
import functools
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import torch
from torch import Tensor

from textrl.protocols import Batch
from textrl.rewards import Source, build_reward
from textrl.rewards.breakdown import package
from textrl.settings import describe
from textrl.specs import RewardSpec, Spec
from textrl.testing.batches import Sample, eos_alone, make_batch, samples
from textrl.testing.plugins import conformance_settings, hook_module, owner_label
from textrl.testing.results import demand

if TYPE_CHECKING:
    from textrl.registry import Registry


class Subject:
    """A reward under test; everything is built when it is first asked for, and the reward once.

    Args:
        find: Returns the record.
        settings: What to build it from; by default what its plugin says.
        registry: Where its plugin is found.
        record: Columns added to every prompt's record.
        plugin: The hook module, if known.
        folder: Where the plugin's `conformance_settings` may write.
    """

    def __init__(
        self,
        find: Callable[[], RewardSpec],
        settings: Mapping[str, Any] | None,
        registry: Registry | None,
        record: Mapping[str, Any] | None,
        plugin: str | None,
        folder: Path | None,
    ) -> None:
        self.spec = functools.cache(find)
        self._given = settings
        self._registry = registry
        self._plugin = plugin
        self._folder = folder
        self._record = record
        self._reward: Any = None
        self._settings: dict[str, Any] | None = None
        self.samples: list[Sample] = samples(record)

    def plugin(self) -> str:
        """Return the name of the hook module."""
        return self._plugin or hook_module(self.spec(), self._registry)

    def label(self) -> str:
        """Return how messages name the reward."""
        return f"The reward '{self.spec().name}' of {self.owner()}"

    def owner(self) -> str:
        """Return how messages name the plugin."""
        return owner_label(self.spec(), "reward", self._registry) or package(self.spec())

    def settings(self) -> dict[str, Any]:
        """Return what the reward is built from."""
        if self._settings is None:
            stated = self._given
            if stated is None:
                folder = self._folder or temporary_folder(self)
                stated = conformance_settings(self.plugin(), folder).get(self.spec().name, {})
            self._settings = dict(stated)
        return self._settings

    def build(self, extra: Mapping[str, Any] | None = None) -> Any:
        """Return a fresh instance."""
        settings = {**self.settings(), **(extra or {})}
        return build_reward(self.spec(), settings, plugin=self.owner())

    def reward(self) -> Any:
        """Return the instance that most checks share."""
        if self._reward is None:
            self._reward = self.build()
        return self._reward

    def source(self) -> Source:
        """Return the instance as a source of reward."""
        return Source(name=self.spec().name, spec=self.spec(), reward=self.reward(), plugin=self.owner())

    def batch(self, episodes: Sequence[Sample] | None = None, **options: Any) -> Batch:
        """Return episodes (all of them by default) as a batch with what the record needs."""
        return make_batch(self.samples if episodes is None else episodes, self.spec().needs, **options)

    def eos_alone(self) -> list[Sample]:
        """Return episodes whose only action is EOS."""
        return eos_alone(self._record)

    def call(self, batch: Batch, reward: Any = None) -> Any:
        """Return what the reward answers, whatever that is."""
        with torch.no_grad():
            return (self.reward() if reward is None else reward)(batch)

    def tensor(self, batch: Batch, reward: Any = None) -> Tensor:
        """Return the answer, which must be a tensor with one row per episode."""
        value = self.call(batch, reward)
        demand(isinstance(value, Tensor), f"returned a {type(value).__name__}; return a torch.Tensor.")
        assert isinstance(value, Tensor)
        fits = value.ndim >= 1 and len(value) == len(batch.response_mask)
        demand(fits, f"returned the shape {tuple(value.shape)} for {len(batch.response_mask)} episodes.")
        return value.detach()

    def episodes(self, batch: Batch) -> list[Tensor]:
        """Return each episode's rewards without padding: (its length,) per token, else ()."""
        value = self.tensor(batch).float()
        if self.spec().granularity == "episode":
            return list(value)
        fits = value.shape == batch.response_mask.shape
        demand(
            fits,
            f"returned the shape {tuple(value.shape)}; return (B, T) = {tuple(batch.response_mask.shape)}.",
        )
        return [row[mask] for row, mask in zip(value, batch.response_mask, strict=True)]


class SubjectArguments(TypedDict, total=False):
    """Where a reward under test comes from, beside its name and settings.

    Attributes:
        registry: Where the name is looked up; the installed plugins by default.
        record: Columns that the reward reads from a prompt's record, added to every record.
        plugin: The hook module; by default the one that the registry found, or the target's package.
        folder: Where `conformance_settings` may write; a temporary folder by default.
    """

    registry: Registry | None
    record: Mapping[str, Any] | None
    plugin: str | None
    folder: Path | None


def subject_of(
    reward: RewardSpec | str, settings: Mapping[str, Any] | None, given: SubjectArguments
) -> Subject:
    """Return a subject; a name is looked up when it is needed, so that a test can be collected without."""
    registry = given.get("registry")
    rest = (given.get("record"), given.get("plugin"), given.get("folder"))
    if isinstance(reward, RewardSpec):
        known = reward
        return Subject(lambda: known, settings, registry, *rest)
    from textrl.registry import get_registry

    where = registry if registry is not None else get_registry()

    def find() -> RewardSpec:
        spec = where.find("reward", reward)
        assert isinstance(spec, RewardSpec)  # the registry keeps records by kind
        return spec

    return Subject(find, settings, where, *rest)


def check_settings_class(spec: Spec) -> str:
    """Demand a frozen dataclass whose every field is documented, or no settings at all.

    Raises:
        Violation: Naming the class and what it lacks.
    """
    cls = spec.load_settings()
    if cls is None:
        return "takes no settings"
    name = spec.settings
    demand(
        dataclasses.is_dataclass(cls) and vars(cls)["__dataclass_params__"].frozen,
        f"the settings class {name} is not a frozen dataclass; write @dataclass(frozen=True) above it.",
    )
    fields = describe(cls)
    silent = [item.name for item in fields if not item.help]
    demand(
        not silent,
        f"the setting '{(silent or [''])[0]}' of {name} is not explained; add it under 'Attributes:' "
        "in the class docstring, or give it field(metadata={'help': ...}).",
    )
    return f"{len(fields)} documented settings"


def temporary_folder(owner: object) -> Path:
    """Return a folder that is removed together with `owner`."""
    folder = Path(tempfile.mkdtemp(prefix="textrl-conformance-"))
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    return folder
