"""Errors that a user can act on: one sentence, no traceback, exit code 2."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Wrong input. The message is one sentence naming the file, the key, the value and the fix.

    Attributes:
        key: Dotted key of the setting at fault, as far as whoever raised this knows it; empty where nobody
            said. Who has the config turns it into a line (`at_place`).
    """

    def __init__(self, message: str = "", *, key: str = "") -> None:
        super().__init__(message)
        self.key = key


class TrainingError(UserError):
    """A training went wrong that was well begun; what it wrote so far may tell why."""


class PluginError(UserError):
    """A plugin failed; the message names the plugin and what it did."""


@contextmanager
def at_setting(key: str) -> Iterator[None]:
    """Tell which setting the reason for an error is; a key that the error has already stands below it.

    A source knows its own settings and not the name that a config gave it; so each level adds its own part.

    Raises:
        UserError: As in the block, with its key.
    """
    try:
        yield
    except UserError as error:
        error.key = ".".join(part for part in (key, error.key) if part)
        raise


@contextmanager
def at_place(where: Callable[[str], str], key: str) -> Iterator[None]:
    """Tell where in a config the reason for an error stands, unless the error tells it.

    Args:
        where: Gives the place of a dotted key, for example ``"quickstart.yaml, line 12"``.
        key: Whose place it is where the error names no key of its own.

    Raises:
        UserError: As in the block, with the place before it, and with the key where the error had one.
    """
    try:
        yield
    except UserError as error:
        said, place = str(error), where(error.key or key)
        if said.startswith(place.partition(", line")[0]):
            raise
        # The key makes a line plain that holds several; of the command line the place shows it already.
        told = error.key in ("", key) or f"--{error.key}" in place
        shown = place if told else f"{place}: '{error.key}'"
        kind = PluginError if isinstance(error, PluginError) else UserError
        raise kind(f"{shown}: {said}", key=error.key) from error


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` or a list of what exists, ready to append to a sentence."""
    import difflib  # here: it costs milliseconds that only a mistake should pay

    choices = sorted(set(known))
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    if close:
        return f" Did you mean '{close[0]}'?"
    return f" Known: {', '.join(choices)}." if choices else " None are registered."
