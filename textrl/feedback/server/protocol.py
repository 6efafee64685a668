"""The wire format: what a client may say, read and checked, and the short answers.

docs/feedback_protocol.md describes every message. Nothing here knows sockets or sessions, so a test can give
it anything.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from textrl.errors import UserError, did_you_mean
from textrl.feedback.events import check_name, check_time

PROTOCOL: Final = 1
TYPES = ("hello", "event", "ping", "finish")
#: Containers within containers that a message may have.
DEPTH = 12
#: Integers beyond this are not exact in a page's numbers.
EXACT = 2**53
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class Refused(Exception):
    """A message that is answered with an error.

    Attributes:
        code: As the protocol names it.
        uuid: Of the event it is about, where that could be read.
    """

    def __init__(self, code: str, message: str, uuid: str | None = None) -> None:
        super().__init__(message)
        self.code, self.uuid = code, uuid


@dataclass(frozen=True, kw_only=True)
class Hello:
    """Who is there.

    Attributes:
        annotator: Their name.
        client: The uuid of the tab.
        t: Seconds on the client's clock.
    """

    annotator: str
    client: str
    t: float


@dataclass(frozen=True, kw_only=True)
class Ping:
    """A question for the server's time, stamped `t` seconds on the client's clock."""

    t: float


@dataclass(frozen=True, kw_only=True)
class Finish:
    """The session is to end; `t` is in seconds on the client's clock."""

    t: float


@dataclass(frozen=True, kw_only=True)
class Sent:
    """An event as a client sent it; its payload is not checked yet.

    Attributes:
        uuid: Its name, for ever.
        kind: What happened.
        t: Seconds on the client's clock.
        frame_id: The frame or token on the screen.
        payload: JSON values that any store can keep.
    """

    uuid: str
    kind: str
    t: float
    frame_id: int | None
    payload: dict[str, Any]


def parse(text: str, limit_bytes: int) -> Hello | Ping | Finish | Sent:
    """Read one message.

    Raises:
        Refused: With one sentence, whatever the text is.
    """
    if len(text) > limit_bytes or len(text.encode("utf-8", "replace")) > limit_bytes:
        raise Refused("too_large", f"A message may have {limit_bytes} bytes; this one has more.")
    try:
        message = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Refused("bad_message", "The message is no JSON.") from None
    if not isinstance(message, dict):
        raise Refused("bad_message", "The message must be a JSON object.")
    uuid = message.get("uuid")
    uuid = uuid if isinstance(uuid, str) and _UUID.fullmatch(uuid) else None
    try:
        check_values(message)
        return _read(message, uuid)
    except UserError as error:
        raise Refused(getattr(error, "code", "bad_message"), str(error), uuid) from None


def check_values(value: Any, depth: int = 0) -> None:
    """Refuse values that a store could not keep, or a page not read.

    Raises:
        UserError: On numbers that are not finite or not exact, text that is no Unicode, and deep nesting.
    """
    if depth > DEPTH:
        raise UserError(f"The message nests deeper than {DEPTH} levels.")
    if isinstance(value, str):
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            raise UserError("A text contains a NUL character or half a surrogate pair.")
    elif isinstance(value, dict):
        for key, one in value.items():
            check_values(key, depth + 1)
            check_values(one, depth + 1)
    elif isinstance(value, list):
        for one in value:
            check_values(one, depth + 1)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise UserError("A number is not finite.")
    elif isinstance(value, int) and abs(value) > EXACT:
        raise UserError(f"The integer {str(value)[:24]} is beyond 2^53, where numbers are not exact.")


def error(code: str, message: str, uuid: str | None = None) -> dict[str, Any]:
    """Return an error message."""
    about = {} if uuid is None else {"uuid": uuid}
    return {"type": "error", "code": code, "message": message, **about}


def dump(message: Mapping[str, Any]) -> str:
    """Return a message as text.

    Raises:
        ValueError: On a number that is not finite: a page could not read it.
    """
    return json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _read(message: dict[str, Any], uuid: str | None) -> Hello | Ping | Finish | Sent:
    kind = message.get("type")
    if kind == "ping":
        return Ping(t=check_time(message.get("t")))
    if kind == "finish":
        return Finish(t=check_time(message.get("t")))
    if kind == "hello":
        return _hello(message)
    if kind != "event":
        hint = did_you_mean(kind[:64], TYPES) if isinstance(kind, str) else f" Known: {', '.join(TYPES)}."
        raise UserError(f"The type {str(kind)[:64]!r} of a message does not exist.{hint}")
    if uuid is None:
        raise UserError("An event needs a 'uuid' of the usual form, 8-4-4-4-12 hexadecimal digits.")
    name, payload, frame = message.get("kind"), message.get("payload", {}), message.get("frame_id")
    if not isinstance(name, str):
        raise UserError("The 'kind' of an event must be a text.")
    if not isinstance(payload, dict):
        raise UserError("The 'payload' of an event must be an object.")
    if frame is not None and (not isinstance(frame, int) or isinstance(frame, bool) or frame < 0):
        raise UserError(f"'frame_id' is {str(frame)[:40]}; it must be a whole number of 0 or more.")
    return Sent(uuid=uuid.lower(), kind=name, t=check_time(message.get("t")), frame_id=frame, payload=payload)


def _hello(message: dict[str, Any]) -> Hello:
    if message.get("protocol") != PROTOCOL:
        raise UserError(
            f"The page speaks protocol {str(message.get('protocol'))[:20]} and the server {PROTOCOL}; "
            "reload the page."
        )
    client = message.get("client")
    if not isinstance(client, str) or not _UUID.fullmatch(client):
        raise UserError("'client' must be the uuid of the tab.")
    annotator = check_name(message.get("annotator"), "annotator's name")
    if annotator in ("server",):
        raise UserError("The name 'server' stands for the server itself in the log; take another one.")
    return Hello(annotator=annotator, client=client.lower(), t=check_time(message.get("t")))


def _no_constant(name: str) -> float:
    raise ValueError(name)
