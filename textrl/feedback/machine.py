"""A session's machine: what the log's events do, without a clock, a socket or a store.

Everything that enters a session is an event (`textrl.feedback.events`). It is stored first and then given
to `Machine.apply`, in the order of its number. A machine draws random numbers only from generators keyed
by the session's config, and reads no clock, so the same events make the same parameters: a replay and a
restart of the server both build a fresh machine and feed it the log (`textrl.feedback.replay`).

Nothing here imports an environment, a model or a numerical library before a machine is built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from textrl.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from textrl.feedback.events import Event
    from textrl.feedback.store.base import SessionInfo

#: A message for clients: JSON data with a "type". With "to", only that annotator gets it; else everybody.
Message = dict[str, Any]

MODES = ("control", "text", "rank")


class Machine(Protocol):
    """The deterministic part of a session.

    Attributes:
        mode: ``control``, ``text`` or ``rank``.
    """

    mode: str

    def apply(self, event: Event) -> Sequence[Message]:
        """Take in one stored event; events come in the order of their number.

        Returns:
            Messages for clients, in order, without acknowledgements, which are the server's.

        Raises:
            UserError: The environment or the model failed; the sentence is for the page. The machine is
                of no use afterwards, and a replay fails at the same event with the same sentence.
        """
        ...

    def view(self, annotator: str) -> Message:
        """Return the whole state, as a page needs it that connects or comes back.

        Everywhere: ``mode``, ``trainer`` (a name or None), ``finished``, ``panel`` (a message of that
        type). Control: ``env``, ``learner``, ``actions`` (names), ``frame`` (a message, or None),
        ``curves`` (name -> points), ``maps`` (messages). Text: ``model``, ``sample`` (the message of the
        one that is being written, or None), ``tokens`` and ``ratings`` (its messages so far), ``samples``
        (messages of the last finished ones), ``delay`` (a message, or None), ``curves``. Rank: see its
        machine.
        """
        ...

    def due(self) -> float | None:
        """Return the seconds of session time between ticks now; None when no tick is wanted."""
        ...

    def digest(self) -> str:
        """Return the SHA-256, in hexadecimal, of what was learnt (the judgements, for rank)."""
        ...

    def save_h(self, path: Path) -> Mapping[str, Any]:
        """Write H where the machine is now, for runs that take advice from it.

        Returns:
            The section of a config's ``sources`` that has it.

        Raises:
            UserError: When the session teaches no H, this H has no form of its own on the disk, or it
                cannot be written.
        """
        ...

    def close(self) -> None:
        """Let go of the environment or the model; it may be called twice."""
        ...


def build_machine(info: SessionInfo, *, pictures: bool = True) -> Machine:
    """Build the machine of a session at its start, before its first event.

    Args:
        info: The session, with its mode and everything that was set when it was created.
        pictures: Whether frames and maps are wanted. A replay needs none, and is many times faster
            without; they never change what is learnt.

    Raises:
        UserError: When the mode is unknown, or the config asks for what cannot be built.
    """
    if info.mode == "control":
        from textrl.feedback.control import ControlMachine

        return ControlMachine(info, pictures=pictures)
    if info.mode == "text":
        from textrl.feedback.text import TextMachine

        return TextMachine(info)
    if info.mode == "rank":
        from textrl.feedback.rank import RankMachine

        return RankMachine(info)
    raise UserError(f"Session {info.session!r} has the mode {info.mode!r}.{did_you_mean(info.mode, MODES)}")


def resolve_config(mode: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config to store with a new session: checked, with every choice made and every file read.

    Args:
        mode: ``control`` or ``text``; the config of a rank session comes from `textrl.feedback.rank`.
        config: Settings as given; those of `ControlSettings` or `TextSettings`.

    Raises:
        UserError: When no session could be built from it.
    """
    if mode == "control":
        from textrl.feedback.control.machine import resolved as control

        return control(config)
    if mode == "text":
        from textrl.feedback.text.machine import resolved as text

        return text(config)
    raise UserError(f"There are no settings to complete for the mode {mode!r}.{did_you_mean(mode, MODES)}")


def config_of(info: SessionInfo) -> Mapping[str, Any]:
    """Return a session's config as a mapping, whether the store gave it parsed or as JSON text."""
    import json

    config: Any = json.loads(info.config) if isinstance(info.config, str) else info.config
    if not isinstance(config, Mapping):
        raise UserError(f"The config of session {info.session!r} is {config!r}, not a mapping of settings.")
    return config
