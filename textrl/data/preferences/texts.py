"""The texts of a record, whatever its form, and the form in which two prompts count as one.

The forms are those of `textrl.data.preferences.schema`; here only their text columns matter.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from textrl.data.preferences.dialogue import is_messages, split_pair

#: Columns that may hold text, a list of texts or a list of messages, in the order people read them.
TEXT_COLUMNS = ("prompt", "messages", "completion", "completions", "chosen", "rejected", "text")


def normalise(text: str) -> str:
    """Return a text without the differences that do not make two prompts different.

    Letter case, the width and composition of characters (Unicode NFKC) and the amount of white space.
    """
    if text.isascii():  # nearly every prompt, at a third of the cost
        return " ".join(text.lower().split())
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def text_of(value: Any) -> str:
    """Return a string as it is and a list of messages as lines of ``role: content``; else nothing."""
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        lines = [
            f"{message.get('role', '')}: {message['content']}"
            for message in value
            if isinstance(message, Mapping) and isinstance(message.get("content"), str)
        ]
        return "\n".join(lines)
    return ""


def prompt_of(record: Mapping[str, Any]) -> str:
    """Return a record's prompt as text, empty where it has none.

    A dialogue's prompt is everything before the assistant's last message; that of two dialogues without a
    column for it is what both begin with.
    """
    if record.get("prompt") is not None:
        return text_of(record["prompt"])
    if "chosen" in record and "rejected" in record:
        return _common(record["chosen"], record["rejected"])
    messages: Any = record.get("messages")
    if is_messages(messages):
        return text_of(messages[:-1] if messages[-1].get("role") == "assistant" else messages)
    return ""


def completions_of(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (column, text) of everything that answers the prompt, in the record's order."""
    found = [
        (column, text_of(record[column]))
        for column in ("completion", "chosen", "rejected", "text")
        if record.get(column) is not None
    ]
    several = record.get("completions")
    if isinstance(several, Sequence) and not isinstance(several, str | bytes):
        found += [("completions", text_of(text)) for text in several]
    messages: Any = record.get("messages")
    if record.get("prompt") is None and is_messages(messages) and messages[-1].get("role") == "assistant":
        found.append(("messages", text_of(messages[-1:])))
    return found


def strings_of(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (column, string) of every string in a record's text columns, lists and messages included."""
    for column in TEXT_COLUMNS:
        value = record.get(column)
        if value is not None:
            for text in _strings(value):
                yield column, text


def replace_strings(record: Mapping[str, Any], change: Any) -> dict[str, Any]:
    """Return the record with `change` applied to every string that `strings_of` yields.

    Args:
        record: Is not altered.
        change: From the old string to the new one.
    """
    return {
        column: _changed(value, change) if column in TEXT_COLUMNS else value
        for column, value in record.items()
    }


def _common(first: Any, second: Any) -> str:
    """Return what two dialogues begin with: strings in the form of hh-rlhf, or lists of messages."""
    if isinstance(first, str) and isinstance(second, str):
        parts = split_pair(first, second)
        return "" if parts is None else parts[0]
    if is_messages(first) and is_messages(second):
        same = 0
        while same < min(len(first), len(second)) - 1 and first[same] == second[same]:
            same += 1
        return text_of(first[:same])
    return ""


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        # Of a message only what was said: its role names nobody.
        yield from _strings(value.get("content", value.get("text")))
    elif isinstance(value, Sequence) and not isinstance(value, bytes):
        for item in value:
            yield from _strings(item)


def _changed(value: Any, change: Any) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {
            key: _changed(item, change) if key in ("content", "text") else item for key, item in value.items()
        }
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [_changed(item, change) for item in value]
    return value
