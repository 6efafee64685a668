"""``textrl check PLUGIN_OR_NAME``: the conformance kit on rewards, and a smoke test of everything else."""

from __future__ import annotations

import json as json_module
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated

from cyclopts import App, Group, Parameter

from textrl.discovery import KINDS, Plugin
from textrl.errors import UserError, did_you_mean
from textrl.registry import Registry, get_registry
from textrl.settings import describe
from textrl.specs import EnvSpec, RewardSpec, Spec, resolve


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        subject: What was checked, for example ``reward length``.
        name: The check.
        ok: Whether it passed.
        detail: What was found where it failed.
    """

    subject: str
    name: str
    ok: bool
    detail: str = ""


def add_to(app: App, group: Group) -> None:
    """Add ``check`` to the app."""

    def check(
        target: str, /, *, json: Annotated[bool, Parameter(negative="", help="Print JSON.")] = False
    ) -> int:
        """Check a plugin, one of its records, or a file against the contracts.

        Args:
            target: A plugin's name, a record's name, or the path of a plugin file.
        """
        return run_checks(target, as_json=json)

    examples = "Examples: `textrl check rules`, `textrl check length`, `textrl check ./my_reward.py --json`"
    app.command(check, group=group, help_epilogue=examples)


def run_checks(target: str, *, as_json: bool) -> int:
    """Run and print all checks of `target`; return 0 if all passed, else 1.

    Raises:
        UserError: When there is no plugin and no record of that name.
    """
    found = list(checks(target))
    failed = [check for check in found if not check.ok]
    if as_json:
        print(json_module.dumps([vars(check) for check in found], indent=2, ensure_ascii=False))
        return 1 if failed else 0
    subject = ""
    for check in found:
        if check.subject != subject:
            subject = check.subject
            print(subject)
        detail = f": {check.detail}" if check.detail else ""
        print(f"  {'ok  ' if check.ok else 'FAIL'} {check.name}{detail}")
    print(f"\n{len(found) - len(failed)} of {len(found)} checks passed.")
    return 1 if failed else 0


def checks(target: str) -> Iterable[Check]:
    """Yield the checks of a plugin, a record, or a plugin file.

    Raises:
        UserError: When there is no plugin and no record of that name.
    """
    is_file = target.endswith(".py")
    registry = get_registry(plugins=[target] if is_file else [])
    plugins = [p for p in registry.plugins if p.name == target or (is_file and p.package == target)]
    if plugins:
        yield from _plugin_checks(plugins[0], registry)
        return
    records = [(kind, registry.specs(kind)[target]) for kind in KINDS if target in registry.specs(kind)]
    if not records:
        names = [p.name for p in registry.plugins] + [name for kind in KINDS for name in registry.specs(kind)]
        raise UserError(
            f"There is no plugin and no record called '{target}'."
            f"{did_you_mean(target, names)}{registry.excuse()}"
        )
    for kind, spec in records:
        yield from _record_checks(kind, spec)


def _plugin_checks(plugin: Plugin, registry: Registry) -> Iterable[Check]:
    subject = f"plugin {plugin.name}"
    if plugin.status == "disabled":
        raise UserError(f"The plugin '{plugin.name}' is disabled; remove it from --disable to check it.")
    yield Check(subject, "loads, and its records are valid", plugin.status == "ok", plugin.error)
    for kind, spec in plugin.offers:
        yield from _record_checks(kind, spec)


def _record_checks(kind: str, spec: Spec) -> Iterable[Check]:
    subject = f"{kind} {spec.name}"
    yield _settings_check(subject, spec)
    if isinstance(spec, RewardSpec):
        from textrl.testing import check_reward

        for result in check_reward(spec):
            yield Check(subject, result.name, result.ok, result.detail)
        return
    yield _target_check(subject, "target", spec.target, spec.name)
    if isinstance(spec, EnvSpec) and spec.vector_target is not None:
        yield _target_check(
            subject, "vector target can be imported and called", spec.vector_target, spec.name
        )


def _settings_check(subject: str, spec: Spec) -> Check:
    """Check that the settings are a documented dataclass, as listings and configs want them."""
    check = Check(subject, "settings are a frozen dataclass with help for every field", True)
    try:
        settings = spec.load_settings()
        described = [] if settings is None else describe(settings)
    except UserError as error:
        return replace(check, ok=False, detail=str(error))
    if settings is not None and not settings.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        return replace(check, ok=False, detail=f"{settings.__qualname__} is not frozen")
    silent = [item.name for item in described if not item.help]
    if silent:
        wanted = f"add them to the Attributes of {settings.__qualname__}" if settings else ""
        return replace(check, ok=False, detail=f"no help for {', '.join(silent)}; {wanted}")
    return check


def _target_check(subject: str, part: str, target: str, owner: str) -> Check:
    name = f"{part} can be imported and called"
    try:
        loaded = resolve(target, owner)
    except UserError as error:
        return Check(subject, name, False, str(error))
    return Check(subject, name, callable(loaded), "" if callable(loaded) else f"{target} is not callable")
