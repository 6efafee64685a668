"""The record of a session: JSON lines of everything that was shown and pressed, for replay.

One event a line, in the order in which it reached TAMER:

    {"kind": "shown", "time_s": 0.2, "observation": [-0.52, 0.001], "action": 2}
    {"kind": "press", "time_s": 0.31, "value": 1.0}
    {"kind": "training", "time_s": 9.8, "value": 0.0, "by": "person"}    1 on, 0 off; or by "schedule"
    {"kind": "end_episode", "time_s": 10.2}
    {"kind": "tick", "time_s": 10.4}                                     H was brought up to date

Times of what was shown never fall, nor do those of what the person did, which arrives a little after its
own stamp. Numbers are written so that they read back
exactly: a replay teaches H the same weights bit for bit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from textrl.errors import UserError, did_you_mean
from textrl.protocols import Signal

#: Kind of event -> the fields it must have beside `time_s`.
KINDS: dict[str, tuple[str, ...]] = {
    "shown": ("observation", "action"),
    "press": ("value",),
    "training": ("value",),
    "end_episode": (),
    "tick": (),
}


class EventLog:
    """Writes events; what a resumed run has written after its checkpoint is cut off.

    Attributes:
        written: Bytes in the file that count.
    """

    def __init__(self, path: Path) -> None:
        """Make ready; a file of that name is replaced when the first events are written."""
        self.path, self.written = path, 0
        self._lines: list[str] = []

    def add(self, kind: str, time_s: float, **fields: Any) -> None:
        """Note one event."""
        plain = {
            name: value.tolist() if isinstance(value, np.ndarray | np.generic) else value
            for name, value in fields.items()
        }
        self._lines.append(json.dumps({"kind": kind, "time_s": time_s, **plain}))

    def flush(self) -> None:
        """Write what was noted.

        Raises:
            UserError: When the file cannot be written.
        """
        if not self._lines:
            return
        text = "".join(f"{line}\n" for line in self._lines).encode()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch()
            with self.path.open("r+b") as stream:
                stream.truncate(self.written)
                stream.seek(self.written)
                stream.write(text)
        except OSError as error:
            raise UserError(f"The session's log {self.path} cannot be written ({error.strerror}).") from error
        self.written += len(text)
        self._lines.clear()


def read_log(path: str | Path) -> list[Signal]:
    """Return the events of a log in their order.

    Raises:
        UserError: When there is no such file, or a line is no event, lacks a field, or is earlier than
            the one before; names file and line.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise UserError(f"The log {path} cannot be read ({reason}).") from error
    return list(_events(str(path), lines))


def _events(path: str, lines: list[str]) -> Iterator[Signal]:
    heard = shown = -np.inf
    for number, line in enumerate(lines, 1):
        where = f"{path}, line {number}"
        event = _parsed(where, line)
        signal = _signal(where, event)
        # What the person does is delivered after the step in which it fell.
        by_person = signal.kind in ("press", "training")
        before = heard if by_person else shown
        if signal.time_s < before:
            raise UserError(
                f"{where}: time_s is {signal.time_s}, earlier than {before} before it; a log's times never "
                "fall."
            )
        if by_person:
            heard = signal.time_s
        else:
            shown = signal.time_s
        yield signal


def _parsed(where: str, line: str) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where}: this is not JSON ({error}).") from error
    if not isinstance(event, dict):
        raise UserError(f"{where}: this is no event; write an object with kind and time_s.")
    kind = event.get("kind")
    if kind not in KINDS:
        hint = did_you_mean(str(kind), KINDS)
        raise UserError(f"{where}: there is no event of kind {kind!r}.{hint}")
    for field in ("time_s", *KINDS[kind]):
        if field not in event:
            raise UserError(f"{where}: the event '{kind}' has no '{field}'; add it.")
    return event


def _signal(where: str, event: dict[str, Any]) -> Signal:
    for field in ("time_s", "value"):
        number = event.get(field, 0.0)
        if isinstance(number, bool) or not isinstance(number, int | float) or not np.isfinite(number):
            raise UserError(f"{where}: {field} is {number!r}; it must be a finite number.")
    action = event.get("action", 0)
    if isinstance(action, bool) or not isinstance(action, int) or action < 0:
        raise UserError(f"{where}: action is {action!r}; it must be a whole number from 0 on.")
    payload: dict[str, Any] = {"by": str(event["by"])} if "by" in event else {}
    if event["kind"] == "shown":
        payload = {"observation": _observation(where, event["observation"]), "action": action}
    return Signal(
        kind=event["kind"],
        time_s=float(event["time_s"]),
        value=float(event.get("value", 0.0)),
        payload=payload,
    )


def _observation(where: str, value: Any) -> Any:
    if value is None:
        return None
    try:
        array = np.array(value)
        plain = array.dtype.kind in "iufb" and bool(np.isfinite(array).all())
    except ValueError:  # ragged
        plain = False
    if not plain:
        raise UserError(f"{where}: observation is {value!r}; it must be a number or an array of numbers.")
    return array
