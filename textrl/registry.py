"""Everything that plugins offer, by kind and name.

`get_registry` finds the plugins once per set of switches, refuses to start where two of them offer the
same name, and keeps the errors of broken ones: they are shown in ``textrl plugins`` and mentioned
wherever a name is not found. Nothing here imports torch, transformers or gymnasium.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from textrl.discovery import KINDS, Plugin, Source, entry_points, file_plugin, new_manager, read_plugin
from textrl.errors import UserError, did_you_mean
from textrl.specs import EnvSpec, Spec

#: Switches for everything that runs in this process and in those it starts; the CLI sets them.
ENV_PLUGINS, ENV_DISABLE, ENV_STRICT = "TEXTRL_PLUGINS", "TEXTRL_DISABLE", "TEXTRL_STRICT"


@dataclass(frozen=True)
class Problem:
    """A plugin that could not be used, and why (one sentence)."""

    plugin: str
    error: str


class Registry:
    """The records of all working plugins.

    Attributes:
        plugins: Every plugin that was found, in the order of its name: working, broken and disabled.
        problems: What is wrong with the broken ones.
    """

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        """Index the records.

        Raises:
            UserError: When two plugins offer one name; the message names both owners.
        """
        self.plugins = tuple(plugins)
        self.problems = tuple(Problem(p.name, p.error) for p in plugins if p.status == "broken")
        self._specs: dict[str, dict[str, Spec]] = {kind: {} for kind in KINDS}
        self._owners: dict[tuple[str, str], Plugin] = {}
        for plugin in plugins:
            for kind, spec in plugin.offers:
                other = self._owners.setdefault((kind, spec.name), plugin)
                if other is not plugin:
                    raise UserError(
                        f"The {kind} '{spec.name}' is offered by {other.owner} and by {plugin.owner}; "
                        f"uninstall one of them or leave it out with --disable {_switch(plugin, other)}."
                    )
                self._specs[kind][spec.name] = spec

    def find(self, kind: str, name: str) -> Spec:
        """Return the record called `name`.

        Args:
            kind: One of ``reward``, ``env``, ``learner``, ``feedback``, ``model``, ``command``.
            name: The record's name.

        Raises:
            UserError: When there is none; suggests the nearest name and mentions broken plugins.
        """
        known = self.specs(kind)
        if name in known:
            return known[name]
        raise UserError(f"There is no {kind} '{name}'.{did_you_mean(name, known)}{self.excuse()}")

    def specs(self, kind: str) -> dict[str, Spec]:
        """Return all records of one kind by name, sorted.

        Raises:
            ValueError: When there is no such kind.
        """
        if kind not in KINDS:
            raise ValueError(f"no kind of record is called '{kind}'.{did_you_mean(kind, KINDS)}")
        return dict(sorted(self._specs[kind].items()))

    def owner(self, kind: str, name: str) -> str:
        """Return who offers a record, for example ``plugin 'kl' (textrl-mdp 0.1.0)``.

        Raises:
            UserError: As `find`.
        """
        self.find(kind, name)
        return self._owners[kind, name].owner

    def plugin(self, name: str) -> Plugin:
        """Return the plugin called `name`, working or not.

        Raises:
            UserError: When there is none.
        """
        for plugin in self.plugins:
            if plugin.name == name:
                return plugin
        raise UserError(f"There is no plugin '{name}'.{did_you_mean(name, [p.name for p in self.plugins])}")

    def register_envs(self) -> None:
        """Register every environment with Gymnasium, so that ``gymnasium.make(name)`` finds it.

        Raises:
            UserError: When somebody else has registered one of the names already.
        """
        import gymnasium  # here: listing plugins must not import it

        for name, spec in self.specs("env").items():
            assert isinstance(spec, EnvSpec)
            present = gymnasium.registry.get(name)
            if present is not None:
                if present.entry_point != spec.target:
                    raise UserError(
                        f"The environment '{name}' of {self.owner('env', name)} is already registered with "
                        f"Gymnasium as {present.entry_point}; rename one of them."
                    )
                continue
            gymnasium.register(
                id=name,
                entry_point=spec.target,
                vector_entry_point=spec.vector_target,
                max_episode_steps=spec.max_episode_steps,
                kwargs=dict(spec.kwargs),
            )

    def excuse(self) -> str:
        """Say which plugins are missing and might have offered what was asked for."""
        if not any(plugin.status == "ok" for plugin in self.plugins) and not self.problems:
            return " No plugin is installed; run 'make install' (or pip install -e .) in the repository."
        broken = [f"{problem.plugin} ({problem.error})" for problem in self.problems]
        disabled = [plugin.name for plugin in self.plugins if plugin.status == "disabled"]
        parts = []
        if broken:
            parts.append(f" It may be in a plugin that is broken: {'; '.join(broken)}.")
        if disabled:
            parts.append(f" These plugins are disabled: {', '.join(disabled)}.")
        return "".join(parts)


def get_registry(
    *, plugins: Sequence[str] = (), disable: Sequence[str] = (), strict: bool = False
) -> Registry:
    """Find, import and index all plugins; cached for each set of switches.

    The environment variables ``TEXTRL_PLUGINS`` and ``TEXTRL_DISABLE`` (separated by `os.pathsep`) and
    ``TEXTRL_STRICT`` (1) are added to the arguments, so that worker processes see the same plugins.

    Args:
        plugins: Python files or modules to load beside the installed plugins.
        disable: Plugins to leave out, by name, by distribution, or as ``distribution:name``.
        strict: Refuse to start if any plugin is broken.

    Raises:
        UserError: On a clash of names, a missing file, an unknown name to disable, or, where strict,
            any broken plugin.
    """
    return _build(
        tuple(dict.fromkeys(_absolute(plugin) for plugin in [*plugins, *_listed(ENV_PLUGINS)])),
        tuple(dict.fromkeys([*disable, *_listed(ENV_DISABLE)])),
        strict or os.environ.get(ENV_STRICT, "").lower() in ("1", "true", "yes"),
    )


@contextmanager
def switches(plugins: Sequence[str], disable: Sequence[str], strict: bool) -> Iterator[None]:
    """Put switches into the environment while a command runs, for `get_registry` here and in its children."""
    changed: Mapping[str, str] = {
        # Absolute, because a child may be started in another folder.
        ENV_PLUGINS: os.pathsep.join(_absolute(plugin) for plugin in [*plugins, *_listed(ENV_PLUGINS)]),
        ENV_DISABLE: os.pathsep.join([*disable, *_listed(ENV_DISABLE)]),
        ENV_STRICT: "1" if strict else os.environ.get(ENV_STRICT, ""),
    }
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update({name: value for name, value in changed.items() if value})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _absolute(plugin: str) -> str:
    """Return one name for a file however it was given; a module's name stays as it is."""
    return os.path.realpath(plugin) if os.path.isfile(plugin) else plugin


def _listed(variable: str) -> list[str]:
    return [part for part in os.environ.get(variable, "").split(os.pathsep) if part]


def refresh() -> None:
    """Forget what was found: the next `get_registry` looks again, for example after an installation."""
    _build.cache_clear()


@functools.lru_cache(maxsize=32)
def _build(plugins: tuple[str, ...], disable: tuple[str, ...], strict: bool) -> Registry:
    sources = [*entry_points(), *(file_plugin(path) for path in plugins)]
    known = {label for source in sources for label in _labels(source)}
    for name in disable:
        if name not in known:
            raise UserError(f"There is no plugin '{name}' to disable.{did_you_mean(name, known)}")
    _refuse_twins([s for s in sources if not _labels(s) & set(disable)])
    manager = new_manager()
    found = [
        Plugin(name=s.name, package=s.package, distribution=s.distribution, status="disabled")
        if _labels(s) & set(disable)
        else read_plugin(s, manager)
        for s in sources
    ]
    registry = Registry(sorted(found, key=lambda plugin: plugin.name))
    if strict and registry.problems:
        first = registry.problems[0]
        raise UserError(
            f"Plugin '{first.plugin}' is broken and --strict is on: {first.error}; "
            f"repair it or leave it out with --disable {first.plugin}."
        )
    return registry


def _labels(source: Source) -> set[str]:
    """Return the names under which a plugin can be disabled."""
    if not source.distribution:
        return {source.name}
    return {source.name, source.distribution, f"{source.distribution}:{source.name}"}


def _refuse_twins(sources: Sequence[Source]) -> None:
    """Refuse two plugins of one name: pluggy would keep the first without a word."""
    first: dict[str, Source] = {}
    for source in sources:
        other = first.setdefault(source.name, source)
        if other is not source:
            label = f"{source.distribution}:{source.name}" if source.distribution else other.distribution
            raise UserError(
                f"Two plugins are called '{source.name}', one from {other.package} and one from "
                f"{source.package}; uninstall one of them or leave it out with --disable {label}."
            )


def _switch(plugin: Plugin, other: Plugin) -> str:
    """Prefer to leave out the plugin that did not come with textrl."""
    return other.name if plugin.distribution == "textrl-mdp" else plugin.name
