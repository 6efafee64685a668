"""What enters a session: events, in the order in which the store numbered them.

Everything that can change a session is an event: what a person did, what their screen showed and when, and
the server's own ticks with the time they used. A session is a function of its events, and nothing else.

Two clocks: ``t_client`` is the clock of the client's page (seconds), which presses and display stamps share;
``t_server`` is the server's unix time, for people who read the log, and no learner uses it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args
from uuid import uuid4

from textrl.errors import UserError, did_you_mean

Mode = Literal["control", "text", "rank"]
MODES: tuple[Mode, ...] = get_args(Mode)
#: The annotator of events that the server makes.
SERVER = "server"
#: Kinds that only the server makes.
SERVER_KINDS = frozenset({"joined", "left", "tick", "digest", "finished"})
#: What a client may send, by mode.
CLIENT_KINDS: Mapping[Mode, frozenset[str]] = {
    "control": frozenset({"shown", "control", "undone", "note", "press"}),
    "text": frozenset(
        {"shown", "control", "undone", "note", "press", "span", "delay_trial", "prompt"},
    ),
    "rank": frozenset(
        {"shown", "control", "undone", "note", "ranked", "rated", "labelled", "skipped", "opened"}
    ),
}
#: What the kind "control" can do.
DO = ("pause", "resume", "step", "speed", "reset", "next_episode", "training")
#: What a key press says.
PRESSES = (1, -1, 10, -10)
#: Yes or no questions of the InstructGPT paper (appendix) about a response, in the order of its form.
FLAGS = (
    "fails_instruction",
    "inappropriate_for_assistant",
    "hallucination",
    "satisfies_constraint",
    "sexual_content",
    "violent_content",
    "encourages_harm",
    "denigrates_protected_class",
    "harmful_advice",
    "expresses_opinion",
    "moral_judgment",
)
LIKERT = (1, 7)
#: How many responses one item may have.
FEWEST, MOST = 2, 9
#: Longest batch of display stamps.
MOST_SHOWN = 60
#: Longest texts, in characters.
NOTE_CHARS, PROMPT_CHARS, NAME_CHARS = 2_000, 20_000, 64

Payload = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class NewEvent:
    """An event that is not stored yet.

    Attributes:
        uuid: Made by who sends it; the store keeps one event for each, so that sending again is harmless.
        session: The session's name.
        annotator: Who; `SERVER` for the server's own.
        kind: One of `SERVER_KINDS` or `CLIENT_KINDS`.
        t_client: Seconds on the client's clock; None for the server's own. Never NaN.
        t_server: Seconds, unix time.
        env_step: Steps the environment had made, where that has a meaning.
        frame_id: What was on the screen: a frame, or the number of a token.
        payload: What the kind needs; JSON values only.
    """

    uuid: str
    session: str
    annotator: str
    kind: str
    t_client: float | None = None
    t_server: float
    env_step: int | None = None
    frame_id: int | None = None
    payload: Payload


@dataclass(frozen=True, kw_only=True)
class Event(NewEvent):
    """A stored event.

    Attributes:
        seq: Its number in the store: later events have larger ones, over all sessions; numbers may be left
            out.
    """

    seq: int


class BadEvent(UserError):
    """A client sent what cannot be an event.

    Attributes:
        code: ``unknown_kind`` or ``bad_event``, as the protocol names them.
    """

    def __init__(self, message: str, code: str = "bad_event") -> None:
        super().__init__(message)
        self.code = code


def server_event(session: str, kind: str, payload: Payload, *, t_server: float, **more: Any) -> NewEvent:
    """Return an event of the server's own, with a fresh uuid.

    Args:
        session: The session's name.
        kind: One of `SERVER_KINDS`.
        payload: What it says.
        t_server: Seconds, unix time.
        more: Other fields; ``annotator`` where the event is about somebody (joined, left).
    """
    fields: dict[str, Any] = {"annotator": SERVER} | more
    return NewEvent(
        uuid=str(uuid4()), session=session, kind=kind, t_server=t_server, payload=payload, **fields
    )


def check_client_event(mode: str, kind: str, payload: object) -> None:
    """Refuse what a client may not send; fields that a kind does not know are let through.

    Args:
        mode: The session's.
        kind: As sent.
        payload: As sent.

    Raises:
        BadEvent: For an unknown kind, a missing or wrong field and a text that is too long; one sentence.
    """
    from textrl.feedback.payloads import CHECKS  # here: payloads imports this module

    known = CLIENT_KINDS.get(mode)  # type: ignore[call-overload]
    if known is None:
        raise BadEvent(f"The mode '{mode}' does not exist.{did_you_mean(mode, MODES)}")
    if kind not in known:
        raise BadEvent(
            f"A client of a {mode} session cannot send '{str(kind)[:NAME_CHARS]}'."
            f"{did_you_mean(str(kind)[:NAME_CHARS], known)}",
            "unknown_kind",
        )
    if not isinstance(payload, Mapping):
        raise BadEvent(f"The payload of '{kind}' must be an object.")
    check: Callable[[Payload], None] = CHECKS[kind]
    check(payload)


def check_time(t: object, what: str = "t") -> float:
    """Return a time in seconds.

    Raises:
        BadEvent: When it is no finite number.
    """
    if isinstance(t, bool) or not isinstance(t, int | float) or not math.isfinite(t):
        raise BadEvent(f"'{what}' is {str(t)[:40]}; it must be a finite number of seconds.")
    return float(t)


def check_name(name: object, what: str) -> str:
    """Return the name of a person or a session.

    Raises:
        BadEvent: When it is empty, longer than `NAME_CHARS` or has characters that print nothing.
    """
    if not isinstance(name, str) or not name.strip() or len(name) > NAME_CHARS or not name.isprintable():
        raise BadEvent(
            f"The {what} must be 1 to {NAME_CHARS} visible characters; {str(name)[:NAME_CHARS]!r} is not."
        )
    return name.strip()
