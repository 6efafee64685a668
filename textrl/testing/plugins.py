"""Where a record's plugin is, what it says its records can be built from, and how light it is.

A plugin whose records have settings without defaults (the path of a model, say) offers a function
``conformance_settings(folder: Path) -> dict[str, dict]``, record name -> settings, either in its hook
module or in a module ``conformance`` beside it. It may write what it needs (a tiny model) into `folder`.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textrl.errors import UserError
from textrl.specs import Spec
from textrl.testing.results import demand

if TYPE_CHECKING:
    from textrl.registry import Registry

#: What a hook module must not import: listing plugins has to stay fast.
HEAVY = ("torch", "transformers", "gymnasium", "stable_baselines3", "datasets")

_PROBE = """
import importlib, importlib.util, json, sys
name, file, heavy = json.loads(sys.argv[1])
if file:
    spec = importlib.util.spec_from_file_location(name, file)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
else:
    module = importlib.import_module(name)
for attribute in dir(module):
    hook = getattr(module, attribute)
    if isinstance(getattr(hook, "textrl_impl", None), dict):
        list(hook())
print(json.dumps([package for package in heavy if package in sys.modules]))
"""


def hook_module(spec: Spec, registry: Registry | None) -> str:
    """Return the name of the module whose hooks yield `spec`.

    Without a registry that knows the record, it is the package of the record's target.
    """
    if registry is not None:
        for plugin in registry.plugins:
            if not any(offered is spec for _, offered in plugin.offers):
                continue
            for point in metadata.entry_points(group="textrl", name=plugin.name):
                if point.dist is not None and point.dist.name == plugin.distribution:
                    return point.module
            return plugin.name  # a file or a module that was loaded by --plugin, under its own name
    return spec.target.partition(":")[0].partition(".")[0]


def conformance_settings(module_name: str, folder: Path) -> dict[str, Mapping[str, Any]]:
    """Return record name -> settings as the plugin states them; empty where it states none."""
    module = importlib.import_module(module_name)
    function: Callable[[Path], dict[str, Mapping[str, Any]]] | None
    function = getattr(module, "conformance_settings", None)
    if function is None and module.__package__:
        beside = f"{module.__package__}.conformance"
        if importlib.util.find_spec(beside) is not None:
            function = importlib.import_module(beside).conformance_settings
    return {} if function is None else function(folder)


def check_light_import(module_name: str) -> str:
    """Import the hook module and call its hooks in a fresh interpreter; nothing heavy may come along.

    Raises:
        Violation: When it does not import, or imports one of `HEAVY`.
    """
    error, heavy = _imported_by(module_name)
    demand(not error, f"importing {module_name} in a fresh interpreter failed: {error}")
    demand(
        not heavy,
        f"importing {module_name} imports {', '.join(heavy)}; keep hooks in a module that imports only "
        "textrl.hookspecs and textrl.specs, and name the implementation by a string.",
    )
    return f"{module_name} imports nothing heavy"


@functools.cache
def _imported_by(module_name: str) -> tuple[str, tuple[str, ...]]:
    """Return an error, or which of `HEAVY` came along; once per module, since an interpreter takes time."""
    module = importlib.import_module(module_name)
    # A single file may have been given to --plugin, so that its name alone does not find it elsewhere.
    file = None if module.__package__ else module.__file__
    done = subprocess.run(
        [sys.executable, "-c", _PROBE, json.dumps([module_name, file, HEAVY])],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["no message"])[-1], ()
    return "", tuple(json.loads(done.stdout.strip().splitlines()[-1]))


def owner_label(spec: Spec, kind: str, registry: Registry | None) -> str:
    """Name a record's owner as the registry does, where it knows the record."""
    if registry is None:
        return ""
    try:
        known = registry.find(kind, spec.name)
    except UserError:
        return ""
    return registry.owner(kind, spec.name) if known is spec else ""
