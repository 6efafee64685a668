"""`textrl bench sessions`: how fast feedback sessions answer, and what they lose when things break.

Every server is a process of its own, started as a person would start it; clients are real ones too, over
sockets, and the page runs in a real browser where there is one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textrl.bench import sessions_faults, sessions_load, sessions_page
from textrl.bench.rollout import write
from textrl.bench.running import Options, say
from textrl.bench.tables import Check, Table, checks_table, figure
from textrl.errors import UserError


@dataclass(frozen=True)
class Sizes:
    """How much of everything.

    Attributes:
        kills: How often the server is killed.
        cuts: How often a socket is torn off.
        minutes: Of the long session.
        seconds: Of each load.
    """

    kills: int
    cuts: int
    minutes: float
    seconds: float


USUAL = Sizes(kills=100, cuts=200, minutes=20.0, seconds=30.0)
QUICK = Sizes(kills=5, cuts=20, minutes=0.5, seconds=5.0)


def bench(options: Options, kills: int | None, cuts: int | None, minutes: float | None) -> int:
    """Measure, print, write; return 0, or 1 where something was lost.

    Args:
        options: Of the command.
        kills: How often the server is killed; None takes the usual number.
        cuts: How often a socket is torn off.
        minutes: Of the long session.

    Raises:
        UserError: When a number cannot be, or a server does not start.
    """
    from textrl.feedback.server.starting import check_installed

    check_installed()
    usual = QUICK if options.quick else USUAL
    sizes = Sizes(
        usual.kills if kills is None else kills,
        usual.cuts if cuts is None else cuts,
        usual.minutes if minutes is None else minutes,
        usual.seconds,
    )
    if sizes.kills < 1 or sizes.cuts < 1 or not 0 < sizes.minutes < 1e4:
        raise UserError("--kills and --cuts must be at least 1, and --minutes above 0.")
    folder = options.folder / "stores"
    folder.mkdir(parents=True, exist_ok=True)
    found = measure(Path(tempfile.mkdtemp(dir=folder)), sizes)
    checks = judged(found)
    tables = [checks_table(checks, "Sessions"), *_tables(found)]
    write(options, {"sizes": vars(sizes), **found}, tables)
    return (
        0 if all(check.holds for check in checks if "lost" in check.claim or "replay" in check.claim) else 1
    )


def measure(folder: Path, sizes: Sizes) -> dict[str, Any]:
    """Return all figures; every part has a store of its own under `folder`."""
    found: dict[str, Any] = {}
    say("textrl: durable events a second")
    found["events"] = sessions_load.events_per_second(folder, min(5.0, sizes.seconds))
    binary = sessions_page.browser()
    if binary is None:
        say("textrl: without a browser: it needs chromium and the package playwright")
        found["page"] = None
    else:
        say("textrl: keys in a browser")
        found["page"] = sessions_page.latencies(folder / "page", sizes.seconds, binary)
    say(f"textrl: {sessions_load.CLIENTS} clients")
    found["clients"] = sessions_load.fan_out(folder / "clients", sizes.seconds)
    say(f"textrl: {sizes.cuts} cuts")
    found["cuts"] = sessions_faults.cuts(folder / "cuts", sizes.cuts)
    say(f"textrl: {sizes.kills} kills")
    found["kills"] = sessions_faults.kills(folder / "kills", sizes.kills)
    say(f"textrl: a session of {sizes.minutes:g} minutes")
    found["long"] = sessions_load.long_session(folder / "long", sizes.minutes)
    say("textrl: replaying all sessions")
    stores = [part["store"] for part in found.values() if part and "store" in part]
    found["replay"] = sessions_faults.replayed(stores)
    return found


def judged(found: Mapping[str, Any]) -> list[Check]:
    """Return the targets, with what was found."""
    checks = []
    page = found["page"]
    if page is not None:
        idle, busy = page["idle"]["key_ms"], page["learning"]["key_ms"]
        checks += [
            _at_most("key to page, 30 frames/s: p50 at most 10 ms", idle["p50"], 10),
            _at_most("key to page, 30 frames/s: p99 at most 50 ms", idle["p99"], 50),
            _at_most("key to page while a learner learns: p99 at most 100 ms", busy["p99"], 100),
        ]
    clients, events = found["clients"], found["events"]
    cut, killed, long, replay = found["cuts"], found["kills"], found["long"], found["replay"]
    gone = {
        name: found[name]["lost"] + found[name].get("doubled", 0) for name in ("clients", "cuts", "kills")
    }
    return [
        *checks,
        _at_most("32 clients: sent to stored, p99 at most 25 ms", clients["ack_ms"]["p99"], 25),
        Check(
            "32 clients: at least 29 frames/s each",
            f"{clients['frames_per_s']:.1f}/s",
            clients["frames_per_s"] >= 29,
        ),
        Check("durable events: at least 5,000/s", f"{events['per_s']:,.0f}/s", events["per_s"] >= 5000),
        _none(f"kill -9, {killed['trials']} times: no event lost or doubled", gone["kills"], killed),
        _none(f"{cut['trials']} cuts: no event lost or doubled", gone["cuts"], cut),
        Check("cuts: back within 2 s", f"{cut['back_s']['max']:.2f} s", cut["back_s"]["max"] <= 2.0),
        _none("32 clients: no event lost or doubled", gone["clients"], clients),
        Check(
            f"{long['minutes']:g} minutes: no event lost",
            f"{long['lost']} of {long['acknowledged']:,}",
            long["lost"] == 0,
        ),
        _at_most(f"{long['minutes']:g} minutes: no frame older than 100 ms", long["age_ms"]["max"], 100),
        Check(
            "replay: the same SHA-256, always",
            f"{replay['equal']} of {replay['digests']}, {replay['events']:,} events",
            replay["equal"] == replay["digests"] > 0,
        ),
    ]


def _at_most(claim: str, found: float, limit: float) -> Check:
    return Check(claim, f"{found:.1f} ms", found <= limit)


def _none(claim: str, gone: int, part: Mapping[str, Any]) -> Check:
    return Check(claim, f"{gone} of {part['sent']:,}", gone == 0)


def _tables(found: Mapping[str, Any]) -> list[Table]:
    rows = []
    page = found["page"]
    if page is not None:
        for name, label in (("idle", "frames only"), ("learning", "TAMER learns")):
            for key, what in (("key_ms", "key to stored"), ("painted_ms", "to next picture")):
                rows.append(_row(f"page, {label}: {what}", page[name][key]))
    rows += [
        _row("32 clients: sent to stored", found["clients"]["ack_ms"]),
        _row("32 clients: age of frames", found["clients"]["age_ms"]),
        _row("long session: sent to stored", found["long"]["ack_ms"]),
        _row("long session: age of frames", found["long"]["age_ms"]),
    ]
    times = Table("Times, ms", ("what", "p50", "p99", "largest"), tuple(rows))
    cuts, kills = found["cuts"]["back_s"], found["kills"]["back_s"]
    back = Table(
        "Coming back, s",
        ("what", "p50", "p99", "largest"),
        (
            _row("after a cut", cuts, 2),
            _row("after a kill, with the start of the server", kills, 2),
        ),
    )
    return [times, back]


def _row(name: str, spread: Mapping[str, float], digits: int = 1) -> tuple[str, str, str, str]:
    return name, figure(spread["p50"], digits), figure(spread["p99"], digits), figure(spread["max"], digits)
