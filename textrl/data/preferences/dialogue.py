"""Conversations as text, and back.

A message becomes a paragraph with the speaker's name, as in the hh-rlhf data of Bai et al. (2022):

    [{"role": "user", "content": "Why?"}]       ->  "\\n\\nHuman: Why?\\n\\nAssistant:"
    [{"role": "assistant", "content": "So."}]   ->  " So."

so that prompt and completion put together are one dialogue. Roles are system, user and assistant. Only
``role`` and ``content`` are read. A content that itself holds such a mark reads as a further turn.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from textrl.errors import UserError

#: What stands before the answer that a prompt asks for.
ANSWER = "\n\nAssistant:"
#: What a dialogue begins with.
QUESTION = "\n\nHuman:"
_NAMES = {"system": "System", "user": "Human", "assistant": "Assistant"}
_ROLES = {name: role for role, name in _NAMES.items()}
_TURN = re.compile(r"\n\n(System|Human|Assistant): ")


def is_messages(value: Any) -> bool:
    """Tell a list of messages (by its first entry) from everything else."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping) and "role" in value[0]


def prompt_text(messages: Sequence[Any], where: str) -> str:
    """Write the messages of a prompt; the text ends where the assistant's answer begins.

    Args:
        messages: The conversation so far; the last message is not the assistant's.
        where: Names the place in errors.

    Raises:
        UserError: When a message is not one, or the assistant has spoken last.
    """
    text = _turns(messages, where)
    if messages[-1]["role"] == "assistant":
        raise UserError(f"{where}: the last message is the assistant's answer; a prompt ends before it.")
    return text + ANSWER


def completion_text(messages: Sequence[Any], where: str) -> str:
    """Write the messages of a completion, which follow what `prompt_text` wrote.

    Raises:
        UserError: When a message is not one, or the first is not the assistant's.
    """
    text = _turns(messages, where)
    if not text.startswith(ANSWER):
        raise UserError(f"{where}: a completion begins with a message of the role 'assistant'.")
    return text[len(ANSWER) :]


def dialogue_text(messages: Sequence[Any], where: str) -> str:
    """Write all messages of a conversation.

    Raises:
        UserError: When a message is not one.
    """
    return _turns(messages, where)


def messages_of(prompt: str) -> list[dict[str, str]]:
    """Return the messages of a prompt; a text that is no dialogue is one message of the user.

    `prompt_text` of the result is `prompt` again wherever that is a dialogue.
    """
    plain = [{"role": "user", "content": prompt}]
    if not prompt.endswith(ANSWER):
        return plain
    pieces = _TURN.split(prompt[: -len(ANSWER)])
    roles, contents = pieces[1::2], pieces[2::2]
    if pieces[0] or not roles or roles[-1] == _NAMES["assistant"]:
        return plain
    return [{"role": _ROLES[name], "content": content} for name, content in zip(roles, contents, strict=True)]


def completion_messages(completion: str) -> list[dict[str, str]]:
    """Return the messages of a completion; the first is the assistant's.

    `completion_text` of the result is `completion` again wherever that follows a dialogue's colon.
    """
    pieces = _TURN.split(ANSWER + completion)
    if pieces[0] or len(pieces) < 3:
        return [{"role": "assistant", "content": completion}]
    turns = zip(pieces[1::2], pieces[2::2], strict=True)
    return [{"role": _ROLES[name], "content": content} for name, content in turns]


def is_dialogue(prompt: str) -> bool:
    """Tell whether a prompt is a dialogue that waits for the assistant."""
    return prompt.startswith((QUESTION, "\n\nSystem:")) and prompt.endswith(ANSWER)


def split_pair(first: str, second: str) -> tuple[str, str, str] | None:
    """Part two dialogues into their common prompt and what follows.

    The prompt ends with the last mark of the assistant that both have in common. The three parts put
    together are the dialogues again, to the character.

    Returns:
        (prompt, rest of the first, rest of the second), or None where no answer begins in common.
    """
    start = first.rfind(ANSWER)
    while start >= 0:
        end = start + len(ANSWER)
        if second.startswith(first[:end]):
            return first[:end], first[end:], second[end:]
        start = first.rfind(ANSWER, 0, start)
    return None


def _turns(messages: Sequence[Any], where: str) -> str:
    if not messages:
        raise UserError(f"{where}: the list of messages is empty; give at least one.")
    parts = []
    for index, message in enumerate(messages, start=1):
        fields = message if isinstance(message, Mapping) else {}
        role, content = fields.get("role"), fields.get("content")
        if not isinstance(role, str) or not isinstance(content, str):
            raise UserError(
                f"{where}: message {index} is {cut(message)}; give it the strings 'role' and 'content'."
            )
        if role not in _NAMES:
            raise UserError(f"{where}: message {index} has the role '{role}'; use system, user or assistant.")
        parts.append(f"\n\n{_NAMES[role]}: {content}")
    return "".join(parts)


def cut(value: Any, limit: int = 60) -> str:
    """Show a value in an error, shortened."""
    shown = repr(value)
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."
