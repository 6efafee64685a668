"""Errors that a user can act on: one sentence, no traceback, exit code 2."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(Exception):
    """Wrong input. The message is one sentence naming the file, the key, the value and the fix."""


class PluginError(UserError):
    """A plugin failed; the message names the plugin and what it did."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` or a list of what exists, ready to append to a sentence."""
    import difflib  # here: it costs milliseconds that only a mistake should pay

    choices = sorted(set(known))
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    if close:
        return f" Did you mean '{close[0]}'?"
    return f" Known: {', '.join(choices)}." if choices else " None are registered."
