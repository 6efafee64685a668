"""Entry of the command line: switches, dispatch, and how errors leave the process.

Listings are answered before cyclopts is imported (it costs 80 ms, more than everything else together);
every other command line, and every one that a listing does not understand, goes to cyclopts.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from textrl.cli import listing
from textrl.errors import UserError
from textrl.registry import Registry, get_registry, switches


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code.

    Args:
        argv: The arguments without the program's name; None takes them from `sys.argv`.

    Returns:
        0; 1 where a check failed; 2 on wrong input, with one sentence on stderr; 130 when interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
    except UserError as error:
        print(f"textrl: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("textrl: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (`| head`) has gone; Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def split_switches(argv: Sequence[str]) -> tuple[list[str], list[str], bool, list[str]]:
    """Take ``--plugin``, ``--disable`` and ``--strict`` out of a command line.

    They are read first because they decide which commands there are.

    Returns:
        Plugins, disabled names, strict, and what is left.

    Raises:
        UserError: When a switch lacks its value.
    """
    found: dict[str, list[str]] = {"--plugin": [], "--disable": []}
    strict = False
    rest: list[str] = []
    tokens = list(argv)
    while tokens:
        token = tokens.pop(0)
        switch, sign, value = token.partition("=")
        if token == "--":
            return found["--plugin"], found["--disable"], strict, [*rest, token, *tokens]
        if token == "--strict":
            strict = True
        elif switch not in found:
            rest.append(token)
        elif sign or tokens:
            found[switch].append(value if sign else tokens.pop(0))
        else:
            example = "my_reward.py" if switch == "--plugin" else "my_reward"
            raise UserError(f"{switch} needs a value, for example {switch} {example}.")
    return found["--plugin"], found["--disable"], strict, rest


def _dispatch(argv: list[str]) -> int:
    plugins, disable, strict, rest = split_switches(argv)
    with switches(plugins, disable, strict):
        registry = get_registry()
        request = _listing_request(rest)
        if request is not None:
            return listing.show(*request, registry=registry)
        return _cyclopts(registry, rest, argv)


def _listing_request(rest: Sequence[str]) -> tuple[str, str | None, bool] | None:
    """Return (listing, name, as_json) where the line is a plain listing, else None."""
    if not rest or rest[0] not in listing.LISTINGS:
        return None
    names = [token for token in rest[1:] if not token.startswith("-")]
    options = [token for token in rest[1:] if token.startswith("-")]
    if len(names) > 1 or any(option != "--json" for option in options):
        return None
    return rest[0], names[0] if names else None, bool(options)


def _cyclopts(registry: Registry, rest: list[str], argv: list[str]) -> int:
    from cyclopts import CycloptsError

    from textrl.cli.commands import build_app

    app = build_app(registry, rest, ["textrl", *argv])
    try:
        result = app(rest)
        if rest[:1] == ["run"] and len(rest) > 1 and {"--help", "-h"} & set(rest) and rest[1][0] != "-":
            from textrl.cli.run import keys_help

            print(keys_help(rest[1]))
    except CycloptsError as error:
        unknown = registry.excuse() if type(error).__name__ == "UnknownCommandError" else ""
        raise UserError(f"{error}{unknown} See 'textrl --help'.") from error
    return result if isinstance(result, int) else 0
