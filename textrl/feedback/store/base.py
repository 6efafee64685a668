"""The protocol of a store of events, and what both kinds of store share.

A store only ever grows: no event is changed or deleted, and taking something back is an event too. An event
that `append` has returned outlives the process, and after `sync` the machine's power too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from textrl.errors import UserError, did_you_mean
from textrl.feedback.events import MODES, Event, NewEvent

#: Version of the tables. A store of a later version is refused, an earlier one is brought up to this.
SCHEMA = 1
#: Columns of the table of events, in the order in which a row is read.
COLUMNS = (
    "seq",
    "uuid",
    "session",
    "annotator",
    "t_client",
    "t_server",
    "env_step",
    "frame_id",
    "kind",
    "payload",
)


class StoreError(UserError):
    """Nothing can be stored at present; the events are not lost as long as whoever has them tries again."""


class StoreFull(StoreError):
    """There is no room for more events."""


class StoreUsed(UserError):
    """Another server writes what this one wanted to write."""


@dataclass(frozen=True, kw_only=True)
class SessionInfo:
    """What a session is.

    Attributes:
        session: Its name, unique in a store.
        mode: ``control``, ``text`` or ``rank``.
        created: Seconds, unix time.
        config: Everything that is needed to build its machine again; JSON values only.
        versions: Package -> version, of who created it.
    """

    session: str
    mode: str
    created: float
    config: Mapping[str, Any]
    versions: Mapping[str, str]


class FeedbackStore(Protocol):
    """A store of events. Every method may be called from any thread."""

    @property
    def url(self) -> str:
        """What `open_store` opens again; without a password."""
        ...

    def create_session(self, info: SessionInfo) -> None:
        """Add a session.

        Raises:
            UserError: When there is one of that name, or it cannot be stored as JSON.
            StoreError: When nothing can be stored.
        """
        ...

    def sessions(self) -> list[SessionInfo]:
        """Return all sessions in the order in which they were created."""
        ...

    def session(self, name: str) -> SessionInfo:
        """Return one session.

        Raises:
            UserError: When there is none of that name; says which is near.
        """
        ...

    def append(self, events: Sequence[NewEvent]) -> list[Event]:
        """Store events in one transaction: they are read from now on, and outlive the process.

        The machine's power they outlive after `sync`.

        A uuid that is there already gives the event that is stored under it, whatever else it says.

        Returns:
            One stored event for each, with its payload as it will be read back.

        Raises:
            StoreFull: When there is no room; nothing of these events is stored.
            StoreError: When the store cannot be written; nothing of these events is stored.
            UserError: When an event can never be stored (no such session, no JSON); nothing is stored.
        """
        ...

    def sync(self) -> None:
        """Return when everything that was appended before is on the disk. Meanwhile others may append.

        Raises:
            StoreError: When the disk cannot be written.
        """
        ...

    def find(self, uuid: str) -> Event | None:
        """Return the event that is stored under a uuid; None where there is none."""
        ...

    def events(
        self, session: str | None, after: int = 0, kinds: Collection[str] | None = None
    ) -> Iterator[Event]:
        """Yield events in the order of seq: those that were stored when the first is asked for.

        Args:
            session: Of which session; None for all.
            after: Only those with a larger seq.
            kinds: Only these kinds.
        """
        ...

    def check(self) -> list[str]:
        """Return what is wrong with the stored data itself, one sentence each; empty when all is well."""
        ...

    def close(self) -> None:
        """Give back what the store holds; twice does no harm."""
        ...


def open_store(url: str | Path, *, readonly: bool = False) -> FeedbackStore:
    """Open a store, and make it where there is none yet.

    Args:
        url: The path of a SQLite file, or ``postgresql://user:password@host/database``.
        readonly: Only read: any number of readers may be there while one server writes.

    Raises:
        UserError: When it cannot be opened, comes from a newer textrl or is written by another server.
    """
    text = str(url)
    if text.startswith(("postgresql:", "postgres:", "postgresql+")):
        from textrl.feedback.store.postgres import PostgresStore

        return PostgresStore(text, readonly=readonly)
    if "://" in text:
        raise UserError(f"The store '{text}' is neither the path of a SQLite file nor postgresql://...")
    from textrl.feedback.store.sqlite import SqliteStore

    return SqliteStore(Path(text), readonly=readonly)


def check_info(info: SessionInfo) -> tuple[str, str]:
    """Return a session's config and versions as JSON.

    Raises:
        UserError: When the name, the mode or the config cannot be stored.
    """
    from textrl.feedback.events import check_name

    if check_name(info.session, "name of a session") != info.session:
        raise UserError(f"The name of a session must not begin or end with a space: '{info.session}'.")
    if info.mode not in MODES:
        raise UserError(f"The mode '{info.mode}' does not exist.{did_you_mean(info.mode, MODES)}")
    what = f"session '{info.session}'"
    return to_json(dict(info.config), f"The config of {what}"), to_json(dict(info.versions), what)


def check_new(event: NewEvent) -> str:
    """Return an event's payload as JSON.

    Raises:
        UserError: When a field could not be stored or read back as it is.
    """
    what = f"The event '{event.kind}' ({event.uuid[:40]})"
    if not 1 <= len(event.uuid) <= 64 or not event.uuid.isprintable() or not event.uuid.isascii():
        raise UserError(f"{what} needs a uuid of 1 to 64 plain characters.")
    for name, value in (("t_client", event.t_client), ("t_server", event.t_server)):
        if value is not None and not math.isfinite(value):
            raise UserError(f"{what}: {name} is {value}; it must be a finite number of seconds.")
    for name, number in (("env_step", event.env_step), ("frame_id", event.frame_id)):
        if number is not None and not -(2**63) <= number < 2**63:
            raise UserError(f"{what}: {name} is {number}; it must fit in 64 bits.")
    to_json([event.session, event.annotator, event.kind], what)
    return to_json(event.payload, what)


def to_json(value: object, what: str) -> str:
    """Return JSON that every store can keep.

    Raises:
        UserError: On NaN, a NUL character, half a surrogate pair, and what is no JSON value.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{what} cannot be stored as JSON: {' '.join(str(error).split())}.") from None
    if "\\u0000" in text and "\0" in "".join(_texts(value)):
        raise UserError(f"{what} contains a NUL character; remove it.")
    return text


def stored(event: NewEvent, seq: int, payload: str, t_server: float) -> Event:
    """Return the event as it will be read back: tuples have become lists, keys text."""
    return Event(
        uuid=event.uuid,
        session=event.session,
        annotator=event.annotator,
        kind=event.kind,
        t_client=None if event.t_client is None else float(event.t_client),
        t_server=float(t_server),
        env_step=event.env_step,
        frame_id=event.frame_id,
        payload=json.loads(payload),
        seq=seq,
    )


def event_of(row: Sequence[Any]) -> Event:
    """Return the event of a row: the columns of `COLUMNS`, with the payload as JSON text."""
    fields = dict(zip(COLUMNS, row, strict=True))
    return Event(**{**fields, "payload": json.loads(fields["payload"])})


def info_of(row: Sequence[Any]) -> SessionInfo:
    """Return the session of a row: name, mode, created, config and versions as JSON text."""
    name, mode, created, config, versions = row
    return SessionInfo(
        session=name, mode=mode, created=created, config=json.loads(config), versions=json.loads(versions)
    )


def find_session(name: str, found: Sequence[SessionInfo], where: str) -> SessionInfo:
    """Return the session of that name.

    Raises:
        UserError: When there is none.
    """
    for info in found:
        if info.session == name:
            return info
    hint = did_you_mean(name, [info.session for info in found]) if found else " It holds none yet."
    raise UserError(f"{where} holds no session '{name}'.{hint}")


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield str(key)
            yield from _texts(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)
