"""What the payload of each kind of client event must hold: one function a kind, each raises one sentence."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from textrl.errors import UserError, did_you_mean
from textrl.feedback.events import (
    DO,
    FEWEST,
    FLAGS,
    LIKERT,
    MOST,
    MOST_SHOWN,
    NAME_CHARS,
    NOTE_CHARS,
    PRESSES,
    PROMPT_CHARS,
    BadEvent,
    Payload,
    check_time,
)

_LARGEST = 2**53 - 1  # the largest whole number that JavaScript and JSON readers agree on
_SPEED = (0.0, 1000.0)
_MOST_TEXT = 60_000  # characters of a completion; the server limits the message as a whole


def _press(payload: Payload) -> None:
    value = payload.get("value")
    if isinstance(value, bool) or value not in PRESSES:
        raise BadEvent(f"'value' of a press is {_cut(value)}; it must be one of {_list(PRESSES)}.")


def _shown(payload: Payload) -> None:
    frames = payload.get("frames")
    if not isinstance(frames, list) or not 1 <= len(frames) <= MOST_SHOWN:
        raise BadEvent(f"'frames' of 'shown' must be a list of 1 to {MOST_SHOWN} pairs [frame_id, t].")
    for pair in frames:
        if not isinstance(pair, list) or len(pair) != 2:
            raise BadEvent(f"A display stamp is {_cut(pair)}; it must be a pair [frame_id, t].")
        _whole(pair[0], "frame_id of a display stamp")
        check_time(pair[1], "t of a display stamp")


def _control(payload: Payload) -> None:
    do, value = payload.get("do"), payload.get("value")
    if do not in DO:
        raise BadEvent(f"'do' is {_cut(do)}.{did_you_mean(str(do)[:NAME_CHARS], DO)}")
    if do == "speed":
        speed = _number(value, "the 'value' of 'speed'")
        if not _SPEED[0] < speed <= _SPEED[1]:
            raise BadEvent(f"The 'value' of 'speed' is {speed}; it must be over 0 and at most {_SPEED[1]:g}.")
    elif do == "training":
        if not isinstance(value, bool):
            raise BadEvent(f"The 'value' of 'training' is {_cut(value)}; it must be true or false.")
    elif value is not None:
        raise BadEvent(f"'{do}' takes no 'value'; it has {_cut(value)}.")


def _undone(payload: Payload) -> None:
    _text(payload, "uuid", NAME_CHARS)


def _note(payload: Payload) -> None:
    _text(payload, "text", NOTE_CHARS)


def _prompt(payload: Payload) -> None:
    _text(payload, "text", PROMPT_CHARS, empty=True)


def _span(payload: Payload) -> None:
    start = _whole(payload.get("start_token"), "start_token")
    end = _whole(payload.get("end_token"), "end_token")
    if end < start:
        raise BadEvent(f"The span ends at token {end}, before its start at token {start}.")
    value = _number(payload.get("value"), "the 'value' of a span")
    if not 0 < abs(value) <= max(PRESSES):
        raise BadEvent(f"The 'value' of a span is {value:g}; it must be from -10 to 10 and not 0.")


def _delay_trial(payload: Payload) -> None:
    check_time(payload.get("cue_t"), "cue_t")
    if payload.get("press_t") is not None:  # None: the person missed the cue
        check_time(payload["press_t"], "press_t")


def _item(payload: Payload) -> None:
    item = payload.get("item")
    if isinstance(item, bool) or not isinstance(item, int | str):
        raise BadEvent(f"'item' is {_cut(item)}; it must be the id of an item.")
    if isinstance(item, int):
        _whole(item, "item")
    else:
        _text(payload, "item", NAME_CHARS)


def _ranked(payload: Payload) -> None:
    """Check a ranking; prompt and completions may be left out, since the server knows its items."""
    _item(payload)
    ranks = payload.get("ranks")
    if not isinstance(ranks, list) or not FEWEST <= len(ranks) <= MOST:
        raise BadEvent(f"'ranks' must be a list of {FEWEST} to {MOST} numbers, 1 for the best; equal ties.")
    for rank in ranks:
        if not 0 < _number(rank, "a rank") <= MOST:
            raise BadEvent(f"A rank is {_cut(rank)}; it must be from 1 (best) to {MOST}.")
    _each(payload, "completions", len(ranks), _completion)
    _each(payload, "likert", len(ranks), _likert)
    _each(payload, "flags", len(ranks), _flags)
    if payload.get("prompt") is not None:
        _text(payload, "prompt", _MOST_TEXT, empty=True)
    _seconds(payload)


def _each(payload: Payload, column: str, size: int, check: Callable[[Any], None]) -> None:
    values = payload.get(column)
    if values is None:
        return
    if not isinstance(values, list) or len(values) != size:
        raise BadEvent(f"'{column}' must be a list with one entry for each of the {size} ranks.")
    for value in values:
        check(value)


def _completion(value: object) -> None:
    _text({"completion": value}, "completion", _MOST_TEXT, empty=True)


def _likert(value: object) -> None:
    low, high = LIKERT
    if value is not None and (type(value) is not int or not low <= value <= high):
        raise BadEvent(f"A Likert score is {_cut(value)}; it must be a whole number from {low} to {high}.")


def _flags(value: object) -> None:
    if value is None:
        return
    if not isinstance(value, Mapping):
        raise BadEvent(f"The flags of a response are {_cut(value)}; write {{name: true or false}}.")
    for name, ticked in value.items():
        if name not in FLAGS:
            raise BadEvent(f"There is no flag {_cut(name)}.{did_you_mean(str(name)[:NAME_CHARS], FLAGS)}")
        if not isinstance(ticked, bool):
            raise BadEvent(f"The flag '{name}' is {_cut(ticked)}; it must be true or false.")


def _record(payload: Payload) -> None:
    """Check a rating or a label by what reads it later."""
    from textrl.data.preferences.schema import canonical

    for column in ("prompt", "completion"):
        _text(payload, column, _MOST_TEXT, empty=True)
    try:
        form, _ = canonical(payload, "The payload")
    except UserError as error:
        raise BadEvent(str(error)) from None
    if form not in ("rating", "label"):
        raise BadEvent("The payload must hold a 'rating', a 'likert' score, 'flags' or a 'label'.")
    _flags(payload.get("flags"))
    _seconds(payload)


def _seconds(payload: Payload) -> None:
    seconds = payload.get("seconds")
    if seconds is not None and _number(seconds, "seconds") < 0:
        raise BadEvent(f"'seconds' is {_cut(seconds)}; it must not be negative.")


def _text(payload: Payload, key: str, most: int, *, empty: bool = False) -> str:
    value = payload.get(key)
    if not isinstance(value, str) or (not value and not empty):
        raise BadEvent(f"'{key}' is {_cut(value)}; it must be text.")
    if len(value) > most:
        raise BadEvent(f"'{key}' has {len(value):,} characters; {most:,} is the most.")
    if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise BadEvent(f"'{key}' contains a NUL character or half of a surrogate pair; remove it.")
    return value


def _whole(value: object, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST:
        raise BadEvent(f"'{what}' is {_cut(value)}; it must be a whole number of 0 or more.")
    return value


def _number(value: object, what: str) -> float:
    # The bound before the conversion: a number of 400 digits is no float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
        raise BadEvent(f"{what} is {_cut(value)}; it must be a finite number.")
    if not math.isfinite(value):
        raise BadEvent(f"{what} is {_cut(value)}; it must be a finite number.")
    return float(value)


def _cut(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _list(values: tuple[int, ...]) -> str:
    return f"{', '.join(map(str, values[:-1]))} or {values[-1]}"


#: Kind -> its check.
CHECKS: Mapping[str, Callable[[Payload], None]] = {
    "shown": _shown,
    "control": _control,
    "undone": _undone,
    "note": _note,
    "press": _press,
    "span": _span,
    "delay_trial": _delay_trial,
    "prompt": _prompt,
    "ranked": _ranked,
    "rated": _record,
    "labelled": _record,
    "skipped": _item,
    "opened": _item,
}
