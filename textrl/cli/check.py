"""``textrl check PLUGIN_OR_NAME``: the conformance kit (`textrl.testing`) on what a plugin offers."""

from __future__ import annotations

import json as json_module
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import App, Group, Parameter

from textrl.discovery import KINDS, Plugin
from textrl.errors import UserError, did_you_mean
from textrl.registry import Registry, get_registry


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        subject: What was checked, for example ``reward length``.
        name: The check.
        ok: Whether it held.
        detail: What was seen; where it did not hold, what to change.
    """

    subject: str
    name: str
    ok: bool
    detail: str = ""


def add_to(app: App, group: Group) -> None:
    """Add ``check`` to the app."""
    examples = "Examples: `textrl check rules`, `textrl check length`, `textrl check ./my_reward.py --json`"
    app.command(check, group=group, help_epilogue=examples)


def check(
    target: str, /, *, json: Annotated[bool, Parameter(negative="", help="Print JSON.")] = False
) -> int:
    """Check a plugin, one of its records, or a plugin file against the contracts.

    Args:
        target: A plugin's name, a record's name, or the path of a plugin file.
        json: Print JSON.

    Returns:
        0 if every check held, else 1.

    Raises:
        UserError: When there is no plugin and no record of that name.
    """
    found: list[Finding] = []
    subject = ""
    for finding in findings(target):
        found.append(finding)
        if json:
            continue
        if finding.subject != subject:
            subject = finding.subject
            print(subject)
        mark = "ok  " if finding.ok else "FAIL"
        print(f"  {mark} {finding.name}: {finding.detail}".rstrip(": "), flush=True)
    failed = sum(not finding.ok for finding in found)
    if json:
        print(json_module.dumps([asdict(finding) for finding in found], indent=2, ensure_ascii=False))
    else:
        print(f"\n{len(found) - failed} of {len(found)} checks passed.")
    return 1 if failed else 0


def findings(target: str) -> Iterator[Finding]:
    """Yield what is found about a plugin, a record, or a plugin file, as it is found.

    Raises:
        UserError: When there is no plugin and no record of that name, or the plugin is disabled.
    """
    is_file = target.endswith(".py")
    registry = get_registry(plugins=[target] if is_file else [])
    package = str(Path(target).resolve())
    plugins = [p for p in registry.plugins if (p.package == package if is_file else p.name == target)]
    if plugins:
        yield from _of_plugin(plugins[0], registry)
        return
    kinds = [kind for kind in KINDS if target in registry.specs(kind)]
    if not kinds:
        names = [p.name for p in registry.plugins]
        names += [name for kind in KINDS for name in registry.specs(kind)]
        hint = did_you_mean(target, names)
        raise UserError(f"There is no plugin and no record called '{target}'.{hint}{registry.excuse()}")
    for kind in kinds:
        yield from _of_record(kind, target, registry)


def _of_plugin(plugin: Plugin, registry: Registry) -> Iterator[Finding]:
    if plugin.status == "disabled":
        raise UserError(f"The plugin '{plugin.name}' is disabled; leave out --disable to check it.")
    seen = plugin.error or f"{len(plugin.offers)} records, imported in {plugin.import_ms:.1f} ms"
    yield Finding(f"plugin {plugin.name}", "loads", plugin.status == "ok", seen)
    for kind, spec in plugin.offers:
        yield from _of_record(kind, spec.name, registry)


def _of_record(kind: str, name: str, registry: Registry) -> Iterator[Finding]:
    from textrl.testing import check_record  # here: it imports torch

    for result in check_record(kind, name, registry=registry):
        yield Finding(f"{kind} {name}", result.name, result.ok, result.detail)
