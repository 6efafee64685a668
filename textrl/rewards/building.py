"""From the ``sources:`` and ``rewards:`` sections of a config to a `RewardSum`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from textrl.errors import PluginError, UserError, at_place, at_setting, did_you_mean
from textrl.rewards.breakdown import Source, package
from textrl.rewards.checks import check_spec
from textrl.rewards.weighted import RewardSum
from textrl.specs import RewardSpec

if TYPE_CHECKING:
    from textrl.registry import Registry

Where = Callable[[str], str]


def build_rewards(
    sources: Mapping[str, Mapping[str, Any] | None],
    weights: Mapping[str, Any],
    registry: Registry,
    where: Where,
) -> RewardSum:
    """Build every source once and weigh it.

    Args:
        sources: Name -> settings; ``use`` names the registered reward and defaults to the source's name.
        weights: Name of a source -> its weight.
        registry: Where registered rewards are found.
        where: Tells the place of a dotted key, such as ``"quickstart.yaml, line 12"``.

    Raises:
        UserError: On an unknown name, key or value, and on a source that nothing weighs.
        PluginError: When a reward cannot be built.
    """
    for name in weights:
        if name not in sources:
            hint = did_you_mean(name, sources)
            raise UserError(f"{where(f'rewards.{name}')}: there is no source called '{name}'.{hint}")
    for name in sources:
        if name not in weights:
            raise UserError(
                f"{where(f'sources.{name}')}: the source '{name}' is never used; "
                f"give it a weight under 'rewards' or remove it."
            )
    built = []
    for name, section in sources.items():
        weight = _weight(name, weights[name], where)
        settings, use = _section(name, section, where)
        spec = _find(
            registry, use, where(f"sources.{name}.use" if "use" in (section or {}) else f"sources.{name}")
        )
        plugin = registry.owner("reward", use)
        reward = build_reward(spec, settings, plugin=plugin, where=where, prefix=f"sources.{name}")
        built.append(Source(name=name, spec=spec, reward=reward, weight=weight, plugin=plugin))
    return RewardSum(built)


def build_reward(
    spec: RewardSpec,
    settings: Mapping[str, Any],
    *,
    plugin: str = "",
    where: Where | None = None,
    prefix: str = "",
) -> Any:
    """Build one reward from its record and a plain mapping of settings.

    Args:
        spec: The record.
        settings: Values for the record's settings dataclass.
        plugin: The record's owner, for messages.
        where: Tells the place of a dotted key; by default whose settings they are.
        prefix: Dotted key of the section that holds the settings.

    Raises:
        UserError: When a setting is unknown or has a wrong type or value.
        PluginError: When the record contradicts itself or its target cannot be built.
    """
    from textrl.settings import build

    place = where if where is not None else lambda key: f"The settings of the reward '{spec.name}'"
    label = f"The reward '{spec.name}' of {plugin or package(spec)}"
    check_spec(spec, label)
    cls = spec.load_settings()
    arguments: tuple[Any, ...] = ()
    if cls is not None:
        arguments = (build(cls, settings, where=place, prefix=prefix),)
    elif settings:
        key = next(iter(settings))
        full = f"{prefix}.{key}" if prefix else key
        raise UserError(f"{place(full)}: unknown key '{full}': the reward '{spec.name}' takes no settings.")
    target = spec.load()
    try:
        if where is None:
            reward = target(*arguments)
        else:
            with at_place(where, prefix), at_setting(prefix):
                reward = target(*arguments)
    except UserError:
        raise
    except Exception as error:
        raise PluginError(f"{label} could not be built: {type(error).__name__}: {error}.") from error
    if not callable(reward):
        raise PluginError(f"{label} built a {type(reward).__name__}, which cannot be called with a batch.")
    return reward


def _find(registry: Registry, name: str, place: str) -> RewardSpec:
    """Look a reward up; the error says where the config asks for it."""
    with at_place(lambda _: place, ""):
        spec = registry.find("reward", name)
    assert isinstance(spec, RewardSpec)  # the registry keeps records by kind
    return spec


def _section(name: str, section: Any, where: Where) -> tuple[dict[str, Any], str]:
    """Split a source's section into its settings and the registered reward it uses."""
    if section is not None and not isinstance(section, Mapping):
        raise UserError(
            f"{where(f'sources.{name}')}: the source '{name}' is {section!r}; "
            "write a mapping of settings, with 'use' naming a registered reward."
        )
    settings = dict(section or {})
    use = settings.pop("use", name)
    if not isinstance(use, str):
        raise UserError(
            f"{where(f'sources.{name}.use')}: 'use' is {use!r}; write the name of a registered reward."
        )
    return settings, use


def _weight(name: str, value: Any, where: Where) -> float:
    """Read a weight; YAML 1.1 gives ``5e-4`` as a string."""
    number: float | None = None
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = None
    if number is None or not math.isfinite(number):
        raise UserError(
            f"{where(f'rewards.{name}')}: the weight of '{name}' is {value!r}; "
            "write a finite number, such as 1.0."
        )
    return number
