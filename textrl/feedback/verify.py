"""`textrl feedback verify`: whether a store is whole, and its events in an order that makes sense."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from textrl.errors import UserError
from textrl.feedback.events import SERVER_KINDS, BadEvent, Event, check_client_event
from textrl.feedback.store import FeedbackStore, SessionInfo, StoreError

#: Seconds by which a press may carry an earlier stamp than the frame it names. A key is stamped when it goes
#: down, a frame when the screen's next picture is due, which the page hears of before it is there.
SLACK_S = 0.1


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        session: Where; None for the store as a whole.
        seq: The event; None where it is not one alone.
        what: One sentence.
    """

    session: str | None
    seq: int | None
    what: str

    def __str__(self) -> str:
        place = "" if self.session is None else f"session '{self.session}'"
        if self.seq is not None:
            place += f"{', ' if place else ''}event {self.seq}"
        return f"{place}: {self.what}" if place else self.what


@dataclass
class Report:
    """What was looked at.

    Attributes:
        store: Its address.
        sessions: Session -> events.
        findings: What is wrong.
        replayed: Session -> SHA-256 of what was learnt, of those that were replayed.
        digests: Digests that the server logged and a replay repeated.
    """

    store: str
    sessions: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    replayed: dict[str, str] = field(default_factory=dict)
    digests: int = 0


def verify(store: FeedbackStore, session: str | None = None, *, replay: bool = False) -> Report:
    """Check a store and its sessions.

    Args:
        store: Where they are; reading is enough.
        session: Only this one; all by default.
        replay: Also feed every session to a fresh machine and compare with the digests in its log.

    Raises:
        UserError: When there is no such session, or the store cannot be read.
    """
    report = Report(store.url)
    report.findings += [Finding(None, None, line) for line in store.check()]
    chosen = store.sessions() if session is None else [store.session(session)]
    try:
        _look(store, chosen, session, report, replay)
    except StoreError as error:  # what is damaged cannot be read to its end
        report.findings.append(Finding(None, None, str(error)))
    return report


def _look(
    store: FeedbackStore, chosen: Sequence[SessionInfo], session: str | None, report: Report, replay: bool
) -> None:
    modes = {info.session: info.mode for info in chosen}
    report.findings += _numbers(store, session, modes)
    for info in chosen:
        log = _Log(info)
        for event in store.events(info.session):
            report.findings += log.take(event)
        report.sessions[info.session] = log.count
        if replay:
            _replay(store, info, report)


def _numbers(store: FeedbackStore, session: str | None, modes: Mapping[str, str]) -> Iterator[Finding]:
    """Check what holds over all sessions: numbers grow, and no uuid stands twice."""
    last, seen = 0, set()
    for event in store.events(session):
        if event.seq <= last:
            yield Finding(event.session, event.seq, f"its number follows {last}.")
        if event.uuid in seen:
            yield Finding(event.session, event.seq, f"its uuid {event.uuid} stands twice.")
        if event.session not in modes:
            yield Finding(event.session, event.seq, "the store has no such session.")
        last = event.seq
        seen.add(event.uuid)


class _Log:
    """The events of one session, one after the other."""

    def __init__(self, info: SessionInfo) -> None:
        self.count = 0
        self._mode = info.mode
        self._t_server = float("-inf")
        self._now = float("-inf")
        self._shown: dict[int, float] = {}
        self._whose: dict[str, str] = {}
        self._finished: int | None = None

    def take(self, event: Event) -> Iterator[Finding]:
        """Yield what is wrong with the next event."""
        for what in self._take(event):
            yield Finding(event.session, event.seq, what)

    def _take(self, event: Event) -> Iterator[str]:
        self.count += 1
        if event.t_server < self._t_server:
            yield f"its server time falls by {self._t_server - event.t_server:.3f} s."
        self._t_server = max(self._t_server, event.t_server)
        yield from self._known(event)
        if event.kind == "tick":
            yield from self._tick(event)
        elif event.kind == "shown":
            frames = event.payload.get("frames")
            for frame, t in frames if isinstance(frames, list) else ():
                self._shown.setdefault(frame, t)
        elif event.kind == "press" and event.frame_id is not None:
            yield from self._press(event, event.frame_id)
        elif event.kind == "undone":
            uuid = event.payload.get("uuid")
            if self._whose.get(str(uuid)) != event.annotator:
                yield f"it takes back {uuid}, which is no earlier event of '{event.annotator}'."
        if self._finished is not None and event.kind not in SERVER_KINDS:
            yield f"it came after the session was finished (event {self._finished})."
        if event.kind == "finished":
            self._finished = event.seq
        self._whose[event.uuid] = event.annotator

    def _known(self, event: Event) -> Iterator[str]:
        if event.kind in SERVER_KINDS:
            return
        try:
            check_client_event(self._mode, event.kind, event.payload)
        except BadEvent as error:
            yield f"it is no event of a {self._mode} session: {error}"

    def _tick(self, event: Event) -> Iterator[str]:
        now = event.payload.get("now")
        if not isinstance(now, int | float):
            yield "it is a tick without a time."
            return
        if now < self._now:
            yield f"its tick falls behind the one before by {self._now - now:.3f} s."
        self._now = max(self._now, now)

    def _press(self, event: Event, frame: int) -> Iterator[str]:
        shown = self._shown.get(frame)
        if shown is None:
            yield f"it is a press on frame {frame}, which no screen had shown before."
        elif event.t_client is not None and event.t_client < shown - SLACK_S:
            yield f"it is a press {shown - event.t_client:.3f} s before its frame {frame} was shown."


def _replay(store: FeedbackStore, info: SessionInfo, report: Report) -> None:
    from textrl.feedback.replay import replay

    try:
        result = replay(store, info.session)
    except UserError as error:
        report.findings.append(Finding(info.session, None, f"it cannot be replayed: {error}"))
        return
    report.replayed[info.session] = result.sha256
    report.digests += len(result.digests)
    logged = sum(1 for _ in store.events(info.session, kinds=("digest",)))
    for digest in result.digests:
        if not digest.equal:
            what = f"its digest is {digest.logged[:16]}... and the replay's {digest.replayed[:16]}..."
            report.findings.append(Finding(info.session, digest.seq, what))
    if len(result.digests) < logged:
        why = f"; the replay ended with: {result.failure}" if result.failure else "."
        what = f"only {len(result.digests)} of its {logged} digests could be compared{why}"
        report.findings.append(Finding(info.session, None, what))
