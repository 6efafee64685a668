"""A session again from its log: to go on after a restart, and to prove that the log makes the weights.

Both feed the stored events, in the order of their numbers, to a fresh machine. No clock is read: every tick
holds the time that it used. The server logs digests of what was learnt as it goes; a replay makes its own
after the same events and compares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from textrl.errors import UserError
from textrl.feedback.events import Event
from textrl.feedback.machine import Machine, build_machine
from textrl.feedback.store import FeedbackStore, SessionInfo


@dataclass(frozen=True)
class Digest:
    """One digest that the server logged, and what the replay had there.

    Attributes:
        seq: Of the event that holds it.
        logged: SHA-256 by the server.
        replayed: SHA-256 by the replay.
    """

    seq: int
    logged: str
    replayed: str

    @property
    def equal(self) -> bool:
        """Whether both are the same."""
        return self.logged == self.replayed


@dataclass(frozen=True)
class ReplayResult:
    """What a replay gave.

    Attributes:
        session: Its name.
        sha256: Of everything that was learnt, after the last event.
        digests: Those that the server logged, beside the replay's.
        steps: Events that were applied.
        last_seq: Of the last of them; 0 where there was none.
        failure: The sentence of the fault that ended the session, if one did; a replay ends there too.
        source: Section of a config's ``sources`` that has the H that was written.
    """

    session: str
    sha256: str
    digests: tuple[Digest, ...]
    steps: int
    last_seq: int
    failure: str | None = None
    source: Mapping[str, Any] | None = None

    @property
    def equal(self) -> bool:
        """Whether every logged digest is the replay's; true where none was logged."""
        return all(digest.equal for digest in self.digests)


def replay(
    store: FeedbackStore, session: str, upto: int | None = None, save_h: Path | None = None
) -> ReplayResult:
    """Replay a session from its log.

    Args:
        store: Where it is; reading is enough.
        session: Its name.
        upto: Leave out events with a larger number.
        save_h: Where to write the H that was taught; nothing is written where a digest is unequal.

    Raises:
        UserError: When there is no such session, its machine cannot be built, or H cannot be written.
    """
    machine = build_machine(store.session(session), pictures=False)
    logged = _logged(store, session)
    digests: list[Digest] = []
    steps = last_seq = 0
    failure = None
    try:
        with _unwatched(machine):
            for event in store.events(session):
                if upto is not None and event.seq > upto:
                    break
                try:
                    machine.apply(event)
                except UserError as error:
                    failure = str(error)
                    break
                steps, last_seq = steps + 1, event.seq
                for seq, sha256 in logged.get(event.seq, ()):
                    digests.append(Digest(seq, sha256, machine.digest()))
        result = ReplayResult(session, machine.digest(), tuple(digests), steps, last_seq, failure)
        if save_h is not None and result.equal:
            result = replace(result, source=machine.save_h(save_h))
        return result
    finally:
        machine.close()


def rebuild(store: FeedbackStore, info: SessionInfo, each: Callable[[Event], None] | None = None) -> Machine:
    """Build the machine of a session and bring it to where its log ends, to go on from there.

    Args:
        store: Where the log is.
        info: The session.
        each: Told every event after it was applied.

    Raises:
        UserError: When the machine cannot be built, or when a fault of the environment or the model ended
            the session: it ends again at the same event, with the same sentence.
    """
    machine = build_machine(info)
    try:
        with _unwatched(machine):
            for event in store.events(info.session):
                machine.apply(event)
                if each is not None:
                    each(event)
    except BaseException:
        machine.close()
        raise
    return machine


def _logged(store: FeedbackStore, session: str) -> dict[int, list[tuple[int, str]]]:
    """Return the logged digests, (number of the event, SHA-256), by the last event that each covers.

    A digest is stored a little after it was made: its ``after`` says which events it covers.
    """
    found: dict[int, list[tuple[int, str]]] = {}
    for event in store.events(session, kinds=("digest",)):
        after = int(event.payload.get("after", event.seq))
        found.setdefault(after, []).append((event.seq, str(event.payload["sha256"])))
    return found


@contextmanager
def _unwatched(machine: Machine) -> Iterator[None]:
    """While a log is fed in nobody looks: machines that draw need not."""
    if not hasattr(machine, "live"):
        yield
        return
    machine.live = False
    try:
        yield
    finally:
        machine.live = True
