"""Finds plugins and reads their records, each in isolation: one that fails is reported, never fatal.

Data flow: `entry_points` and `file_plugin` say where plugins are (`Source`), `read_plugin` imports one
and returns what it offers or why it is broken (`Plugin`). Who may offer what beside whom is decided in
`textrl.registry`.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from textrl import hookspecs
from textrl.errors import UserError, did_you_mean
from textrl.specs import (
    API_VERSION,
    NEEDS,
    CommandSpec,
    EnvSpec,
    FeedbackSpec,
    LearnerSpec,
    ModelSpec,
    RewardSpec,
    Spec,
)

GROUP = "textrl"
#: Kind of record -> (hook that yields it, its class).
KINDS: dict[str, tuple[str, type[Spec]]] = {
    "reward": ("textrl_rewards", RewardSpec),
    "env": ("textrl_envs", EnvSpec),
    "learner": ("textrl_learners", LearnerSpec),
    "feedback": ("textrl_feedback", FeedbackSpec),
    "model": ("textrl_models", ModelSpec),
    "command": ("textrl_commands", CommandSpec),
}
_HOOKS = {hook: (kind, cls) for kind, (hook, cls) in KINDS.items()}
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]*")
_FIELD_CHOICES = {
    "granularity": ("token", "episode"),
    "side": ("env", "learner"),
    "accepts": ("reward", "target", "action_scores", "behaviour"),
    "needs": tuple(sorted(NEEDS)),
}


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a plugin is, before it is imported.

    Attributes:
        name: The entry point's name, or the stem of the file.
        package: The distribution and its version, or the path of the file.
        distribution: The distribution's name alone, empty for a file.
        load: Imports it and returns the module.
    """

    name: str
    package: str
    distribution: str
    load: Callable[[], Any]


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """A plugin after it was looked at.

    Attributes:
        name: See `Source`.
        package: See `Source`.
        distribution: See `Source`.
        status: ``"ok"``, ``"broken"`` or ``"disabled"``.
        offers: (kind, record) pairs; empty unless the status is ``"ok"``.
        error: One sentence about what is wrong, empty unless broken.
        trace: The traceback where an exception was the cause.
        import_ms: Milliseconds that importing it and calling its hooks took.
    """

    name: str
    package: str
    distribution: str
    status: str
    offers: tuple[tuple[str, Spec], ...] = ()
    error: str = ""
    trace: str = ""
    import_ms: float = 0.0

    @property
    def owner(self) -> str:
        """How messages name the plugin, for example ``plugin 'kl' (textrl-mdp 0.1.0)``."""
        return f"plugin '{self.name}' ({self.package})"


class _Broken(Exception):
    """Internal: a plugin breaks a rule; the message is one sentence."""


def entry_points() -> list[Source]:
    """Return the installed plugins, sorted by name so that every machine sees the same order."""
    found = []
    for point in metadata.entry_points(group=GROUP):
        distribution = point.dist.name if point.dist else "unknown"
        version = f" {point.dist.version}" if point.dist else ""
        found.append(
            Source(
                name=point.name,
                package=distribution + version,
                distribution=distribution,
                load=point.load,
            )
        )
    return sorted(found, key=lambda source: (source.name, source.package))


def file_plugin(path: str) -> Source:
    """Return the plugin in a Python file (``--plugin my_reward.py``) or in a module (``--plugin my.module``).

    A file is imported under its own stem, so that its records can say ``target="my_reward:Swear"``.

    Raises:
        UserError: When there is no such file, or its name cannot be a module's.
    """
    load: Callable[[], Any]
    if not path.endswith(".py") and "/" not in path and "\\" not in path:
        load = functools.partial(importlib.import_module, path)
        return Source(name=path, package="module", distribution="", load=load)
    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError(f"There is no plugin file '{path}'; give the path of a Python file to --plugin.")
    if not file.stem.isidentifier():
        raise UserError(
            f"The plugin file '{path}' cannot be imported under the name '{file.stem}'; "
            "rename it to letters, digits and underscores."
        )
    load = functools.partial(_import_file, file.stem, file.resolve())
    return Source(name=file.stem, package=str(file), distribution="", load=load)


def _import_file(stem: str, file: Path) -> ModuleType:
    """Import a file under its stem; refuses to hide a module of the same name."""
    present = sys.modules.get(stem)
    if present is not None:
        origin, taken = getattr(present, "__file__", None), True
    else:
        found = importlib.util.find_spec(stem)
        origin, taken = found.origin if found else None, found is not None
    if origin is not None and Path(origin).resolve() == file:
        return importlib.import_module(stem)
    if taken:
        raise _Broken(f"its file name hides the module '{stem}' that is already there; rename the file")
    spec = importlib.util.spec_from_file_location(stem, file)
    if spec is None or spec.loader is None:
        raise _Broken("it is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # Known before it runs: dataclasses and the records' targets look their module up by name.
    sys.modules[stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[stem]
        raise
    return module


def read_plugin(source: Source, manager: pluggy.PluginManager) -> Plugin:
    """Import one plugin, register it and collect its records; all of it counts or nothing does.

    Args:
        source: Where the plugin is.
        manager: Holds the six hook specifications; the plugin is registered there under its name.

    Returns:
        The plugin with its records, or with the status ``"broken"`` and the reason.
    """
    start = time.perf_counter()
    offers: tuple[tuple[str, Spec], ...] = ()
    error = trace = ""
    try:
        # A plugin that prints while it is imported must not end up inside somebody's --json.
        with contextlib.redirect_stdout(sys.stderr):
            module = source.load()
            _check_hooks(module)
            manager.register(module, source.name)
            offers = tuple(_records(manager, source.name))
    except KeyboardInterrupt:
        raise
    except _Broken as broken:
        error = str(broken)
    except pluggy.PluginValidationError as invalid:
        error = f"a hook takes no arguments: {' '.join(str(invalid).split())}"
    except BaseException as raised:
        # BaseException: a plugin that calls sys.exit() while it is imported is as broken as any other.
        error = f"{type(raised).__name__}: {' '.join(str(raised).split())}"
        import traceback  # here: only a broken plugin pays for it

        trace = traceback.format_exc()
    if error and manager.has_plugin(source.name):
        manager.unregister(name=source.name)
    return Plugin(
        name=source.name,
        package=source.package,
        distribution=source.distribution,
        status="broken" if error else "ok",
        offers=() if error else offers,
        error=error,
        trace=trace,
        import_ms=(time.perf_counter() - start) * 1e3,
    )


def new_manager() -> pluggy.PluginManager:
    """Return a manager that knows the six hooks and no plugin."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


def _check_hooks(module: Any) -> None:
    """Refuse unknown and unmarked hooks: pluggy would leave both out without a word."""
    hooks = 0
    for attribute in dir(module):
        value = getattr(module, attribute, None)
        marker = getattr(value, f"{hookspecs.PROJECT}_impl", None)
        if isinstance(marker, dict):
            name = marker.get("specname") or attribute
            if name not in _HOOKS:
                raise _Broken(f"it implements an unknown hook '{name}'.{did_you_mean(name, _HOOKS)}")
            if marker.get("wrapper") or marker.get("hookwrapper"):
                raise _Broken(f"its {name} is a hook wrapper, which is never called; yield records instead")
            hooks += 1
        elif attribute in _HOOKS and callable(value):
            raise _Broken(f"its {attribute} lacks the marker; write @hookimpl above it from textrl.hookspecs")
        elif attribute.startswith("textrl_") and _is_own_function(value, module):
            raise _Broken(f"it defines an unknown hook '{attribute}'.{did_you_mean(attribute, _HOOKS)}")
    if not hooks:
        raise _Broken(f"it implements no hook; it needs one of {', '.join(_HOOKS)}, marked with @hookimpl")


def _is_own_function(value: Any, module: Any) -> bool:
    return callable(value) and getattr(value, "__module__", None) == getattr(module, "__name__", "")


def _records(manager: pluggy.PluginManager, plugin: str) -> Iterator[tuple[str, Spec]]:
    """Yield the checked records of one registered plugin."""
    seen: set[tuple[str, str]] = set()
    for hook, (kind, cls) in _HOOKS.items():
        for implementation in getattr(manager.hook, hook).get_hookimpls():
            if implementation.plugin_name != plugin:
                continue
            yielded = implementation.function()
            if yielded is None or isinstance(yielded, (str, Spec)) or not isinstance(yielded, Iterable):
                raise _Broken(f"its {hook} returned {_shown(yielded)}; yield {cls.__name__} records")
            for record in yielded:
                _check_record(record, hook, cls)
                if (kind, record.name) in seen:
                    raise _Broken(f"its {hook} offers '{record.name}' twice")
                seen.add((kind, record.name))
                yield kind, record


def _check_record(record: Any, hook: str, cls: type[Spec]) -> None:
    """Check one record's fields; dataclasses check nothing by themselves."""
    if not isinstance(record, cls):
        raise _Broken(f"its {hook} yielded {_shown(record)}; yield {cls.__name__} records")
    which = f"its {cls.__name__} '{record.name}'"
    if record.api_version != API_VERSION:
        newer = isinstance(record.api_version, int) and record.api_version > API_VERSION
        raise _Broken(
            f"{which} is written for record format {record.api_version!r} and this textrl reads "
            f"{API_VERSION}; upgrade {'textrl-mdp' if newer else 'the plugin'}"
        )
    if not isinstance(record.name, str) or not _NAME.fullmatch(record.name):
        raise _Broken(f"{which} has a name with other characters than letters, digits and _ . / -")
    if not isinstance(record.summary, str) or not record.summary.strip() or "\n" in record.summary:
        raise _Broken(f"{which} needs a summary of one line")
    for part in ("target", "settings", "vector_target"):
        value = getattr(record, part, None)
        if (part == "target" or value is not None) and not (
            isinstance(value, str) and _TARGET.fullmatch(value)
        ):
            raise _Broken(f"{which} has the {part} {value!r}; write it as 'module:attribute'")
    steps = getattr(record, "max_episode_steps", None)
    if steps is not None and (type(steps) is not int or steps < 1):
        raise _Broken(f"{which} has max_episode_steps={steps!r}; write a whole number of at least 1")
    for field in fields(record):
        if field.name in _FIELD_CHOICES:
            _check_choice(which, field.name, getattr(record, field.name))
    if isinstance(record, RewardSpec) and record.causal and record.granularity != "token":
        raise _Broken(f"{which} is causal, which only granularity 'token' can be")


def _check_choice(which: str, field: str, value: Any) -> None:
    allowed = _FIELD_CHOICES[field]
    several = field in ("needs", "accepts")
    if several and not isinstance(value, (set, frozenset)):
        raise _Broken(f"{which} has {field}={value!r}; write it as frozenset({{...}})")
    for item in sorted(value, key=str) if several else [value]:
        if item not in allowed:
            raise _Broken(f"{which} has {field} {item!r}.{did_you_mean(str(item), allowed)}")


def _shown(value: object) -> str:
    return f"{value!r:.60} ({type(value).__name__})" if value is not None else "None"
