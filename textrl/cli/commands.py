"""All commands as one cyclopts app: the core's and those that plugins offer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from cyclopts import App, Group, Parameter

import textrl
from textrl.cli import check, data, feedback, listing, new, run
from textrl.cli import eval as evaluation
from textrl.errors import UserError
from textrl.registry import Registry

_HELP = "Language generation as a Markov decision process, with every source of reward a plugin."
_EPILOGUE = """Every command also takes these, anywhere on the line:

- `--plugin FILE.py`: load a plugin from a file or module (or `TEXTRL_PLUGINS`); may be repeated
- `--disable NAME`: leave a plugin out (or `TEXTRL_DISABLE`); may be repeated
- `--strict`: refuse to start if any plugin is broken (or `TEXTRL_STRICT=1`)

Examples:

- `textrl plugins`: what is installed, and what is broken
- `textrl rewards length`: one reward with its settings
- `textrl run configs/quickstart.yaml --name first`: run a config into runs/first
- `textrl new reward politeness`: write a plugin of your own
"""


def build_app(registry: Registry, rest: Sequence[str], command_line: Sequence[str]) -> App:
    """Return the app with the core's commands and those of plugins.

    Args:
        registry: Where the plugins' commands come from.
        rest: The command line without switches; only the plugin command it names is imported.
        command_line: The whole command line, which runs record.

    Raises:
        UserError: When a plugin's command takes the name of one of the core's.
    """
    app = App(
        name="textrl",
        help=_HELP,
        help_epilogue=_EPILOGUE,
        version=f"textrl {textrl.__version__}",
        version_flags=["--version"],
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
    )
    run.add_to(app, Group.create_ordered("Run"), list(command_line))
    _add_listings(app, Group.create_ordered("Look around"), registry)
    data.add_to(app, Group.create_ordered("Data"))
    evaluation.add_to(app, Group.create_ordered("Evaluate"), list(command_line))
    feedback.add_to(app, Group.create_ordered("People"))
    extend = Group.create_ordered("Extend")
    new.add_to(app, extend)
    check.add_to(app, extend)
    core = set(app)
    theirs = Group.create_ordered("From plugins")
    for name, spec in registry.specs("command").items():
        if name in core:
            raise UserError(
                f"The command '{name}' of {registry.owner('command', name)} is one of textrl's own; "
                "rename it or leave the plugin out with --disable."
            )
        target: Any = spec.load() if rest[:1] == [name] else _placeholder(spec.summary)
        app.command(target, name=name, help=spec.summary, group=theirs)
    return app


def _add_listings(app: App, group: Group, registry: Registry) -> None:
    """Add the listings, for their ``--help`` and for lines with a typing error."""
    for name, (kind, summary) in listing.LISTINGS.items():
        examples = f"Examples: `textrl {name}`, `textrl {name} NAME`, `textrl {name} --json`"
        command = _listing_command(name, kind or "plugin", registry)
        app.command(command, name=name, help=summary, group=group, help_epilogue=examples)


def _listing_command(name: str, kind: str, registry: Registry) -> Callable[..., int]:
    entry_type = Annotated[str | None, Parameter(name=f"{kind}", help=f"Show one {kind} in detail.")]
    json_type = Annotated[bool, Parameter(negative="", help="Print JSON.")]

    def command(entry=None, /, *, json=False) -> int:  # type: ignore[no-untyped-def]
        return listing.show(name, entry, json, registry=registry)

    # Written as objects: cyclopts could not resolve the text of an annotation that is made here.
    command.__annotations__ = {"entry": entry_type, "json": json_type, "return": int}
    return command


def _placeholder(summary: str) -> Callable[[], None]:
    """Stand for a plugin's command in ``--help`` without importing it."""

    def command() -> None: ...

    command.__doc__ = summary
    return command
