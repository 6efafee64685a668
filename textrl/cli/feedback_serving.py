"""What the sessions of ``textrl feedback`` share: where one is served, who is simulated, how it starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from textrl.errors import UserError

if TYPE_CHECKING:
    from textrl.feedback.server.starting import Crowd, ServerOptions

NAMES = Parameter(consume_multiple=True, negative="", show_default=False)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Serving:
    """Where the session is kept and served.

    Attributes:
        store: A SQLite file, or postgresql://user:password@host/database.
        session: The session's name; an existing one goes on. A new name by default.
        host: The address to listen at.
        port: The port; 0 takes a free one.
        token: What opens the server, 16 characters or more; random by default (or TEXTRL_TOKEN).
        allow_host: A further name under which browsers reach the server; may be repeated.
    """

    store: str = "sessions.sqlite"
    session: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    allow_host: Annotated[tuple[str, ...], NAMES] = ()

    def options(self) -> ServerOptions:
        """Return them for the server."""
        from textrl.feedback.server.starting import ServerOptions

        return ServerOptions(
            store=self.store,
            session=self.session,
            host=self.host,
            port=self.port,
            token=self.token,
            allow_hosts=self.allow_host,
        )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Simulating:
    """Simulated people instead of real ones.

    Attributes:
        simulate: A preset of simulated people: reference, oracle, mistake10, skip10, adversarial, ...
        events_per_s: Keys (or items) a second of each of them.
        minutes: How long they stay; until the session is finished by default.
        people: How many there are.
        truth: What they know of the task: rule, pole_rule, solved, module:function or file.py:function.
        people_seed: Draws everything that they leave to chance.
    """

    simulate: str | None = None
    events_per_s: float | None = None
    minutes: float | None = None
    people: int = 1
    truth: str | None = None
    people_seed: int = 0

    def crowd(self) -> Crowd | None:
        """Return the people, or None.

        Raises:
            UserError: When an option does nothing or cannot be.
        """
        times = {"--events-per-s": self.events_per_s, "--minutes": self.minutes}
        given = {
            **times,
            "--truth": self.truth,
            "--people": None if self.people == 1 else self.people,
            "--people-seed": self.people_seed or None,
        }
        if self.simulate is None:
            for option, value in given.items():
                if value is not None:
                    raise UserError(f"{option} belongs to simulated people; add --simulate reference.")
            return None
        for option, number in times.items():
            if number is not None and not 0 < number < float("inf"):
                raise UserError(f"{option} is {number}; it must be above 0.")
        if self.people < 1:
            raise UserError(f"--people is {self.people}; it must be at least 1.")
        from textrl.feedback.server.starting import Crowd

        return Crowd(
            preset=self.simulate,
            people=self.people,
            rate=self.events_per_s,
            minutes=self.minutes,
            truth=self.truth,
            seed=self.people_seed,
        )


def start_session(
    mode: str,
    title: str,
    make: Any,
    given: Mapping[str, Any],
    serving: Serving,
    simulating: Simulating,
    making: Mapping[str, Any],
) -> int:
    """Serve; `making` are options of a new session that an existing one has no use for."""
    crowd = simulating.crowd()
    if serving.session == "" or not serving.store.strip():
        raise UserError("--session and --store must not be empty.")
    from textrl.feedback.server.starting import start

    return start(mode, title, make, given, serving.options(), crowd, [options_of([key]) for key in making])


def options_of(names: Iterable[str]) -> str:
    """Return parameters as they are written on the command line, joined by "and"."""
    return " and ".join(f"--{name.replace('_', '-')}" for name in names)


def given_of(**options: Any) -> dict[str, Any]:
    """Return the options that were given."""
    return {key: value for key, value in options.items() if value is not None}


def read_settings(file: Path | None) -> dict[str, Any]:
    """Read a YAML file of settings.

    Raises:
        UserError: When it cannot be read or holds something else.
    """
    if file is None:
        return {}
    import yaml

    try:
        found = yaml.safe_load(read_text(file))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f", line {mark.line + 1}"
        why = getattr(error, "problem", None) or "it cannot be read"
        raise UserError(f"{file}{where}: no YAML ({why}).") from error
    if not isinstance(found, dict):
        raise UserError(f"{file} must hold settings, one 'name: value' a line.")
    return {str(key): value for key, value in found.items()}


def read_text(file: Path) -> str:
    """Return what a file holds.

    Raises:
        UserError: When it cannot be read, or is no UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise UserError(f"{file} cannot be read ({why}); check its path.") from error
