"""`textrl feedback export`: a session as a file that other tools, and reward-model training, read.

    rankings   what was ranked: prompt, completions, ranks, annotator (sessions of the mode rank)
    ratings    what was scored or flagged: prompt, completion, likert, flags, annotator (rank)
    events     everything, as `textrl data convert --from session` reads it (every mode)

What was taken back is in the events only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from textrl.data.preferences.writing import Writer
from textrl.errors import UserError, did_you_mean
from textrl.feedback.events import SERVER
from textrl.feedback.store import FeedbackStore, SessionInfo

What = Literal["rankings", "ratings", "events"]
WHAT: tuple[What, ...] = get_args(What)


@dataclass(frozen=True)
class Export:
    """What came of it.

    Attributes:
        session: Which.
        what: In which form.
        out: The file.
        written: Records.
        annotators: People whose judgements they are.
        skipped: Items that somebody skipped, which are in no record of rankings or ratings.
    """

    session: str
    what: str
    out: str
    written: int
    annotators: int
    skipped: int


def export(store: FeedbackStore, session: str, out: str | Path, what: str | None = None) -> Export:
    """Write a session to a file, which appears whole or not at all.

    Args:
        store: Where it is; reading is enough.
        session: Its name.
        out: The file; its ending decides how (`textrl.data.preferences.writing`).
        what: One of `WHAT`; rankings by default for a ranking session, events for others.

    Raises:
        UserError: When there is no such session, it has no such records, or the file cannot be written.
    """
    info = store.session(session)
    what = what or ("rankings" if info.mode == "rank" else "events")
    if what not in WHAT:
        raise UserError(f"--what {what}: there is no such form.{did_you_mean(what, WHAT)}")
    if what != "events" and info.mode != "rank":
        raise UserError(
            f"Session '{session}' is of the mode {info.mode}, which has no {what}; use --what events."
        )
    skipped, people = 0, set[str]()
    with Writer(out) as writer:
        if what == "events":
            for event in store.events(session):
                writer.add(asdict(event))
                people |= {event.annotator} - {SERVER}
        else:
            judgements = _judgements(store, info)
            skipped = sum(judgement.payload is None for judgement in judgements)
            for record in _records(judgements, session, what):
                writer.add(record)
                people.add(record["annotator"])
        if not writer.written:
            raise UserError(f"Session '{session}' holds no {what} yet; {out} was not written.")
    return Export(session, what, str(out), writer.written, len(people), skipped)


def _judgements(store: FeedbackStore, info: SessionInfo) -> list[Any]:
    """Return what stands at the end, by feeding the log to the machine that gave out the items."""
    from textrl.feedback.rank import RankMachine

    machine = RankMachine(info)
    machine.live = False
    for event in store.events(info.session):
        machine.apply(event)
    return machine.judgements()


def _records(judgements: list[Any], session: str, what: str) -> Iterator[dict[str, Any]]:
    from textrl.feedback.rank.records import rankings, ratings

    return (rankings if what == "rankings" else ratings)(judgements, session)
