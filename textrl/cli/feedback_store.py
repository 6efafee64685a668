"""``textrl feedback sessions | replay | export | verify``: what can be done with the log of sessions."""

from __future__ import annotations

import json as json_module
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from textrl.errors import UserError

if TYPE_CHECKING:
    from textrl.feedback.store import FeedbackStore
    from textrl.feedback.verify import Report

_JSON = Parameter(negative="", help="Print JSON.")
_FLAG = Parameter(negative="")
_STORE = "sessions.sqlite"


def add_to(feedback: App) -> None:
    """Add the commands to ``textrl feedback``."""
    feedback.command(sessions, help_epilogue="Example: `textrl feedback sessions --store study.sqlite`")
    feedback.command(replay, help_epilogue="Example: `textrl feedback replay control-1`")
    feedback.command(export, help_epilogue="Example: `textrl feedback export rank-1 --out rankings.jsonl`")
    feedback.command(verify, help_epilogue="Example: `textrl feedback verify --replay`")


def sessions(*, store: str = _STORE, json: Annotated[bool, _JSON] = False) -> int:
    """List the sessions of a store.

    Args:
        store: A SQLite file, or postgresql://user:password@host/database.
        json: Print JSON.
    """
    opened = _open(store)
    try:
        rows: list[dict[str, Any]] = []
        for info in opened.sessions():
            count, last, people = 0, info.created, set()
            for event in opened.events(info.session):
                count, last = count + 1, event.t_server
                if event.kind == "joined":
                    people.add(event.annotator)
            rows.append(
                {
                    "session": info.session,
                    "mode": info.mode,
                    "created": info.created,
                    "last": last,
                    "events": count,
                    "people": sorted(people),
                    "versions": dict(info.versions),
                }
            )
    finally:
        opened.close()
    if json:
        print(json_module.dumps(rows, indent=2, ensure_ascii=False))
        return 0
    if not rows:
        print(f"{opened.url} holds no sessions yet.")
        return 0
    width = max(len("session"), *(len(str(row["session"])) for row in rows))
    print(f"{'session':<{width}}  mode     created           last event        events  people")
    for row in rows:
        when = "  ".join(
            time.strftime("%Y-%m-%d %H:%M", time.localtime(row[key])) for key in ("created", "last")
        )
        names = ", ".join(row["people"]) or "-"
        print(f"{row['session']:<{width}}  {row['mode']:<7}  {when}  {row['events']:>6,}  {names}")
    return 0


def replay(
    session: str,
    /,
    *,
    store: str = _STORE,
    upto: int | None = None,
    save_h: Path | None = None,
    json: Annotated[bool, _JSON] = False,
) -> int:
    """Feed a session's log to a fresh machine, without a clock, and say what was learnt.

    Args:
        session: Its name.
        store: A SQLite file, or postgresql://user:password@host/database.
        upto: Leave out events with a larger number.
        save_h: Write the H that the presses taught here: a JSON file from control, a folder from text. Runs
            take advice from it; the lines for their config are printed.
        json: Print JSON.

    Returns:
        0; 1 when a digest that the server logged is another than the replay's.
    """
    if upto is not None and upto < 1:
        raise UserError(f"--upto is {upto}; events are numbered from 1.")
    from textrl.feedback.replay import replay as run

    opened = _open(store)
    try:
        started = time.perf_counter()
        result = run(opened, session, upto, save_h)
        seconds = time.perf_counter() - started
    finally:
        opened.close()
    if json:
        print(json_module.dumps({**asdict(result), "equal": result.equal, "seconds": seconds}, indent=2))
        return 0 if result.equal else 1
    print(f"session   {result.session}: {result.steps:,} events in {seconds:.1f} s, up to {result.last_seq}")
    print(f"learnt    sha256 {result.sha256}")
    unequal = [digest for digest in result.digests if not digest.equal]
    if not result.digests:
        print("digests   none are in the log yet")
    elif not unequal:
        print(f"digests   all {len(result.digests):,} in the log are equal to the replay's")
    for digest in unequal:
        print(f"UNEQUAL   event {digest.seq}: logged {digest.logged}, replayed {digest.replayed}")
    if result.failure:
        print(f"ended     {result.failure}")
    if result.source is not None:
        print(f"wrote     {save_h}; in a config:\n\nsources:\n  h: {json_module.dumps(result.source)}")
    elif save_h is not None:
        print(f"note      {save_h} was not written: this H is not the one that was taught")
    return 1 if unequal else 0


def export(
    session: str,
    /,
    *,
    out: Path | None = None,
    what: Literal["rankings", "ratings", "events"] | None = None,
    store: str = _STORE,
    json: Annotated[bool, _JSON] = False,
) -> int:
    """Write a session to a file: rankings and ratings for training and evaluation, or all events.

    Args:
        session: Its name.
        out: File to write: .jsonl, .json (a list), .parquet; .gz packs the first two. SESSION.jsonl by
            default.
        what: rankings (the default of a ranking session), ratings (Likert scores and flags) or events.
        store: A SQLite file, or postgresql://user:password@host/database.
        json: Print JSON.
    """
    from textrl.feedback.export import export as run

    opened = _open(store)
    try:
        name = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in session)
        result = run(opened, session, out or f"{name.lstrip('.') or 'session'}.jsonl", what)
    finally:
        opened.close()
    if json:
        print(json_module.dumps(asdict(result), indent=2, ensure_ascii=False))
        return 0
    people = f" of {result.annotators} {'person' if result.annotators == 1 else 'people'}"
    print(f"wrote     {result.written:,} {result.what}{people}: {result.out}")
    if result.skipped:
        print(f"note      {result.skipped:,} items were skipped")
    return 0


def verify(
    session: str | None = None,
    /,
    *,
    store: str = _STORE,
    replay: Annotated[bool, _FLAG] = False,
    json: Annotated[bool, _JSON] = False,
) -> int:
    """Check that a store is whole and that its events stand in an order that makes sense.

    Args:
        session: Only this one; all by default.
        store: A SQLite file, or postgresql://user:password@host/database.
        replay: Also replay, and compare with the digests in the log.
        json: Print JSON.

    Returns:
        0; 1 when something is wrong.
    """
    from textrl.feedback.verify import verify as run

    opened = _open(store)
    try:
        report = run(opened, session, replay=replay)
    finally:
        opened.close()
    if json:
        print(json_module.dumps(asdict(report), indent=2, ensure_ascii=False))
    else:
        _tell(report, replay)
    return 1 if report.findings else 0


def _tell(report: Report, replayed: bool) -> None:
    for finding in report.findings:
        print(f"WRONG     {finding}")
    count = len(report.sessions)
    events = f"{sum(report.sessions.values()):,} events of {count} session{'' if count == 1 else 's'}"
    compared = f", {report.digests:,} digests repeated" if replayed else ""
    verdict = f"{len(report.findings):,} findings" if report.findings else "nothing wrong was found"
    print(f"{report.store}: {events}{compared}: {verdict}.")


def _open(store: str) -> FeedbackStore:
    """Open a store for reading.

    Raises:
        UserError: When it is not there or cannot be read.
    """
    from textrl.feedback.store import open_store

    try:
        return open_store(store, readonly=True)
    except UserError as error:
        if store == _STORE and not Path(store).exists():
            raise UserError(f"There is no {_STORE} in this folder; name the store with --store.") from error
        raise
