"""Reads the session logs of `bradknox/tamerproject`, the TAMER code of W. Bradley Knox.

A first line in parentheses lists parameters. Then each line is a step, in eight fields:

    [ints]:[doubles]:[action's ints]:[action's doubles]:reward:[{value @ time}, ...]:training:time

The last field is when the step appeared; the presses came before that, while the step before it was on
screen. A line without state and action ends an episode, an empty line follows it, and "finished" ends the
log. The press of an episode's last step is often written twice, with one stamp; it is read once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from textrl.errors import UserError
from textrl.protocols import Signal

_STEP = re.compile(
    r"\[(?P<ints>[^\]]*)\]:\[(?P<doubles>[^\]]*)\]:\[(?P<action>[^\]]*)\]:\[(?P<more>[^\]]*)\]:"
    r"(?P<reward>[^:]*):\[(?P<presses>[^\]]*)\]:(?P<training>true|false):(?P<time>[^:]*)"
)
_PRESS = re.compile(r"\{\s*(\S+)\s*@\s*([^\s}]+)\s*\}")


def is_tamerproject_log(path: Path) -> bool:
    """Return whether a file begins as these logs do."""
    try:
        with path.open(encoding="utf-8") as stream:
            return stream.read(2) == "(;"
    except (OSError, UnicodeDecodeError):
        return False  # the other reader says what is wrong


def read_tamerproject_log(path: str | Path) -> list[Signal]:
    """Return the events of a log as ``shown``, ``press``, ``training`` and ``end_episode`` signals.

    The payload of ``shown`` has the observation, (S,) float64, and the action: a whole number, or the list
    of them where the task's action has several.

    Raises:
        UserError: When the file cannot be read, a line is not of the format, or times fall; names file and
            line.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise UserError(f"The log {path} cannot be read ({reason}).") from error
    return list(_events(str(path), lines))


def _events(path: str, lines: list[str]) -> Iterator[Signal]:
    heard: set[tuple[float, float]] = set()
    training = True
    latest = latest_press = -np.inf
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text == "finished" or (number == 1 and text.startswith("(;")):
            continue
        where = f"{path}, line {number}"
        found = _STEP.fullmatch(text)
        if found is None:
            raise UserError(f"{where}: this is no step of a tamerproject log.")
        time_s = _number(where, "the time", found["time"])
        if time_s < latest:
            raise UserError(
                f"{where}: the time {time_s} is earlier than {latest} before it; times never fall."
            )
        latest = time_s
        if (found["training"] == "true") != training:
            training = not training
            yield Signal(kind="training", value=float(training), time_s=time_s)
        for press in _presses(where, found["presses"]):
            if (press.time_s, press.value) in heard:
                continue
            if press.time_s < latest_press:
                raise UserError(
                    f"{where}: a press at {press.time_s} is earlier than {latest_press} before it; times "
                    "never fall."
                )
            latest_press = press.time_s
            heard.add((press.time_s, press.value))
            yield press
        yield _step(where, found, time_s)


def _step(where: str, found: re.Match[str], time_s: float) -> Signal:
    state = _numbers(where, found["ints"]) + _numbers(where, found["doubles"])
    action = [int(number) for number in _numbers(where, found["action"])]
    if not state and not action:
        return Signal(kind="end_episode", value=0.0, time_s=time_s)
    payload: dict[str, Any] = {
        "observation": np.array(state, np.float64),
        "action": action[0] if len(action) == 1 else action,
    }
    return Signal(kind="shown", value=0.0, time_s=time_s, payload=payload)


def _presses(where: str, text: str) -> list[Signal]:
    parts = _PRESS.findall(text)
    if _PRESS.sub("", text).strip(" ,"):
        raise UserError(f"{where}: the presses [{text}] are not of the form {{value @ time}}.")
    return [
        Signal(value=_number(where, "a press", value), time_s=_number(where, "a press's time", at))
        for value, at in parts
    ]


def _numbers(where: str, text: str) -> list[float]:
    return [_number(where, "an entry", part) for part in text.split(",") if part.strip()]


def _number(where: str, what: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise UserError(f"{where}: {what} is '{text.strip()}'; it must be a finite number.")
    return value
