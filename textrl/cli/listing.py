"""``textrl plugins | rewards | envs | learners | models | trainers [NAME] [--json]``.

Plain text in columns, nothing but the standard library: a listing answers in well under 150 ms.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from textrl.discovery import KINDS, Plugin
from textrl.registry import Registry
from textrl.specs import Spec

#: Command -> (kind of record, what it lists).
LISTINGS: dict[str, tuple[str, str]] = {
    "plugins": ("", "Plugins: what is installed, what each offers, what is broken."),
    "rewards": ("reward", "Sources of reward."),
    "envs": ("env", "Gymnasium environments."),
    "learners": ("learner", "Learners."),
    "models": ("model", "Models that have a short name."),
    "trainers": ("feedback", "Sources of human or simulated feedback."),
}
#: Columns between the name and the summary.
_COLUMNS: dict[str, tuple[str, ...]] = {"reward": ("granularity", "side")}


def show(listing: str, name: str | None, as_json: bool, *, registry: Registry) -> int:
    """Print a listing, or one entry in detail.

    Args:
        listing: A key of `LISTINGS`.
        name: The entry to show in detail, or None for all.
        as_json: Print JSON instead of text.
        registry: What there is.

    Raises:
        UserError: When there is no entry of that name.
    """
    kind = LISTINGS[listing][0]
    if not kind:
        rows = [plugin_record(plugin) for plugin in registry.plugins]
        detail = None if name is None else _plugin_detail(registry.plugin(name))
    else:
        rows = [spec_record(kind, spec, registry) for spec in registry.specs(kind).values()]
        detail = None if name is None else _spec_detail(kind, registry.find(kind, name), registry)
    if as_json:
        import json  # here and below: a listing imports only what it needs

        print(json.dumps(rows if detail is None else detail, indent=2, ensure_ascii=False))
    elif detail is not None:
        _print_detail(kind, detail)
    elif not kind:
        _print_plugins(registry.plugins)
    else:
        _print_specs(listing, kind, rows, registry)
    return 0


def plugin_record(plugin: Plugin) -> dict[str, Any]:
    """Return what ``textrl plugins --json`` says about one plugin."""
    offers: dict[str, list[str]] = {}
    for kind, spec in plugin.offers:
        offers.setdefault(kind, []).append(spec.name)
    return {
        "name": plugin.name,
        "package": plugin.package,
        "status": plugin.status,
        "offers": offers,
        "error": plugin.error,
        "import_ms": round(plugin.import_ms, 2),
    }


def spec_record(kind: str, spec: Spec, registry: Registry) -> dict[str, Any]:
    """Return what ``--json`` says about one record: its fields and its owner."""
    record: dict[str, Any] = {"name": spec.name, "plugin": registry.owner(kind, spec.name)}
    for item in fields(spec):
        value = getattr(spec, item.name)
        record[item.name] = sorted(value) if isinstance(value, (set, frozenset)) else value
    return record


def _plugin_detail(plugin: Plugin) -> dict[str, Any]:
    summaries = {f"{kind} {spec.name}": spec.summary for kind, spec in plugin.offers}
    return {**plugin_record(plugin), "summaries": summaries, "traceback": plugin.trace}


def _spec_detail(kind: str, spec: Spec, registry: Registry) -> dict[str, Any]:
    """Add the settings, whose class is imported here; what is wrong with it becomes the error."""
    from textrl.errors import UserError
    from textrl.settings import describe

    described = []
    error = ""
    try:
        settings = spec.load_settings()
        described = [] if settings is None else describe(settings)
    except UserError as failure:
        error = str(failure)
    return {
        **spec_record(kind, spec, registry),
        "fields": [asdict(item) for item in described],
        "error": error,
    }


def _print_plugins(plugins: Sequence[Plugin]) -> None:
    rows = []
    for plugin in plugins:
        offered = plugin_record(plugin)["offers"].items()
        offers = "; ".join(f"{kind} {', '.join(names)}" for kind, names in offered)
        state = {"ok": offers, "broken": f"BROKEN: {plugin.error}", "disabled": "disabled"}[plugin.status]
        rows.append([plugin.name, plugin.package, state])
    _print_table(["PLUGIN", "PACKAGE", "OFFERS"], rows)
    if not rows:
        print("No plugin is installed; run 'make install' (or pip install -e .) in the repository.")
    elif any(plugin.status == "broken" for plugin in plugins):
        print("\n'textrl plugins NAME' shows the traceback of a broken plugin.")


def _print_specs(listing: str, kind: str, rows: Sequence[dict[str, Any]], registry: Registry) -> None:
    columns = ("name", *_COLUMNS.get(kind, ()), "summary")
    if rows:
        head = [kind.upper(), *(column.upper() for column in columns[1:])]
        _print_table(head, [[row[column] for column in columns] for row in rows])
        print(f"\n'textrl {listing} NAME' shows one in detail.")
    else:
        print(f"No plugin offers a {kind}; see docs/plugins.md for the hook {KINDS[kind][0]}.")
    for problem in registry.problems:
        print(f"textrl: warning: plugin '{problem.plugin}' is broken: {problem.error}", file=sys.stderr)


def _print_detail(kind: str, detail: dict[str, Any]) -> None:
    """Print one entry as ``key  value`` lines, then its settings."""
    hidden = {"fields", "error", "traceback", "summaries", "offers", "import_ms"}
    lines = [(key, value) for key, value in detail.items() if key not in hidden]
    lines += list(detail.get("summaries", {}).items())
    if not kind:
        lines.append(("import", f"{detail['import_ms']} ms"))
    width = max(len(key) for key, _ in lines)
    for key, value in lines:
        words = isinstance(value, list) and all(isinstance(item, str) for item in value)
        shown = ", ".join(value) if words else value
        print(f"{key:<{width}}  {_plain(shown) if shown not in ('', None, ()) else '-'}")
    if detail.get("fields"):
        print("\nsettings")
        for item in detail["fields"]:
            default = "required" if item["required"] else f"= {_plain(item['default'])}"
            print(f"  {item['name']}: {item['type']} {default}")
            for line in textwrap.wrap(item["help"], _columns() - 6):
                print(f"      {line}")
    elif kind and kind not in ("env", "model", "command") and not detail["error"]:
        print("\nThis one has no settings.")
    if detail["error"]:
        print(f"\nERROR: {detail['error']}")
    if detail.get("traceback"):
        print(f"\n{detail['traceback'].rstrip()}")


def _plain(value: Any) -> str:
    """Return a value as a config would hold it."""
    import json

    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False, default=str)


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns; the last one is wrapped to the terminal's width."""
    if not rows:
        return
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head) - 1)]
    indent = sum(widths) + 2 * len(widths)
    room = max(_columns() - indent, 30)
    for row in [head, *rows]:
        start = "".join(f"{cell:<{width}}  " for cell, width in zip(row[:-1], widths, strict=True))
        first, *more = textwrap.wrap(row[-1], room) or [""]
        print(f"{start}{first}".rstrip())
        for line in more:
            print(" " * indent + line)


def _columns() -> int:
    """Return the width to wrap to; nothing is wrapped in a pipe, so that grep finds whole rows."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000
