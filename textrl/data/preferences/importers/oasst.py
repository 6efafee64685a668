"""Open-Assistant's export: trees of messages, or the messages one by one.

    {"message_tree_id": ..., "prompt": {"text": ..., "role": "prompter", "replies": [{"text": ..., "role":
     "assistant", "rank": 0, "replies": [...]}, ...]}}
    {"message_id": ..., "parent_id": ..., "text": ..., "role": ..., "rank": ...}

Two or more assistant's replies with a rank (0 is best) to one message are a ranking. It is the consensus of
several people, so it has no annotator; ``user_id`` is who wrote the first message, ``group`` the id of the
message that is answered. Names and columns: LAION-AI/Open-Assistant, oasst-data/oasst_data/schemas.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from textrl.data.preferences.dialogue import completion_messages, cut, messages_of, prompt_text
from textrl.data.preferences.importers.base import Format, Notes, Options, as_dialogue
from textrl.data.preferences.schema import Form, Record
from textrl.data.records import Records
from textrl.errors import UserError

_ROLES = {"prompter": "user", "assistant": "assistant"}
_THEIRS = {role: name for name, role in _ROLES.items()}
_HELD = ("prompt", "completions", "chosen", "rejected", "ranks", "tie", "group", "user_id", "lang")


def fits(record: Mapping[str, Any]) -> bool:
    """Tell whether a record is a tree, or a message of one."""
    tree = "message_tree_id" in record and isinstance(record.get("prompt"), Mapping)
    return tree or {"message_id", "parent_id", "text", "role"} <= record.keys()


def prepare(records: Records, notes: Notes) -> Records:
    """Yield trees; single messages are held until the end of the file and put together."""
    nodes: dict[str, dict[str, Any]] = {}
    places: dict[str, str] = {}
    for where, record in records:
        if "message_id" in record and "text" in record:
            key = str(record["message_id"])
            nodes[key], places[key] = {**record, "replies": []}, where
        else:
            yield where, record
    roots = []
    for key, node in nodes.items():
        parent = node.get("parent_id")
        if parent is None:
            roots.append(key)
        elif str(parent) in nodes:
            nodes[str(parent)]["replies"].append(node)
        else:
            notes.count("messages left out: the one they answer is not in the file")
    for key in roots:
        yield places[key], {"message_tree_id": key, "prompt": nodes[key]}


def read(where: str, record: Mapping[str, Any], options: Options, notes: Notes) -> Iterator[Record]:
    """Yield the rankings of a tree, from the first message downwards.

    Raises:
        UserError: When a message has no text or role.
    """
    root = record.get("prompt")
    if not isinstance(root, Mapping):
        raise UserError(f"{where}: 'prompt' is {cut(root)}; a tree has its first message there.")
    todo: list[tuple[Mapping[str, Any], list[dict[str, str]]]] = [(root, [])]
    while todo:
        node, before = todo.pop()
        thread = [*before, _message(node, where)]
        notes.count("messages whose quality labels were left out", bool(node.get("labels")))
        notes.count("messages whose rankings by single people were left out", bool(node.get("events")))
        replies = node.get("replies") or []
        kept = [reply for reply in replies if not reply.get("deleted")]
        notes.count("deleted replies left out", len(replies) - len(kept))
        answers = [reply for reply in kept if reply.get("role") == "assistant"]
        ranked = [reply for reply in answers if reply.get("rank") is not None]
        notes.count(
            "rankings of the user's replies left out",
            sum(reply.get("rank") is not None for reply in kept) > len(ranked) + 1,
        )
        if len(ranked) > 1:
            notes.count("replies without a rank left out", len(answers) - len(ranked))
            yield _ranking(where, node, root, thread, ranked)
        else:
            notes.count("replies left out: no second one with a rank to compare with", len(answers))
        todo += [(reply, thread) for reply in reversed(kept)]


def _message(node: Mapping[str, Any], where: str) -> dict[str, str]:
    role, text = node.get("role"), node.get("text")
    if role not in _ROLES or not isinstance(text, str):
        raise UserError(
            f"{where}: the message {node.get('message_id')} has the role {cut(role)} and the text "
            f"{cut(text)}; it needs a text and the role prompter or assistant."
        )
    return {"role": _ROLES[role], "content": text}


def _ranking(
    where: str,
    node: Mapping[str, Any],
    root: Mapping[str, Any],
    thread: Sequence[Mapping[str, str]],
    ranked: Sequence[Mapping[str, Any]],
) -> Record:
    given: Record = {
        "prompt": prompt_text(thread, where),
        "completions": [f" {_message(reply, where)['content']}" for reply in ranked],
        "ranks": [reply["rank"] + 1 if type(reply["rank"]) is int else reply["rank"] for reply in ranked],
        "group": node.get("message_id"),
        "user_id": root.get("user_id"),
        "lang": node.get("lang"),
    }
    return {column: value for column, value in given.items() if value is not None}


def write(form: Form, record: Record, options: Options, notes: Notes) -> Iterator[Record]:
    """Yield a tree: the prompt's messages above each other, and below the last one the completions."""
    notes.columns(record, _HELD, "oasst")
    prompt, _ = as_dialogue(record["prompt"], notes)
    thread = messages_of(prompt)
    if any(message["role"] not in _THEIRS for message in thread):
        notes.count(f"{form}s left out: oasst has no messages of the system")
        return
    texts, ranks = _completions(form, record)
    notes.count("ties written as equal ranks, which oasst itself never has", len(ranks) - len(set(ranks)))
    notes.count(
        "completions that did not begin with a space, and will when read again",
        sum(not text.startswith(" ") for text in texts),
    )
    serial = notes.next_serial()
    tree = str(uuid5(NAMESPACE_URL, json.dumps([serial, prompt, texts], ensure_ascii=False)))
    replies: list[Record] = []
    for index, text in enumerate(texts):
        content = completion_messages(text)[0]["content"] if _single(text) else text
        reply = {"message_id": f"{tree}-{index}", "text": content, "role": "assistant"}
        replies.append({**reply, "rank": ranks[index], "replies": []})
    node: Record = {}
    for depth, message in reversed(list(enumerate(thread))):
        last = depth == len(thread) - 1
        key = str(record["group"]) if last and "group" in record else f"{tree}-m{depth}"
        for reply in replies:
            reply["parent_id"] = key
        node = {"message_id": key, "text": message["content"], "role": _THEIRS[message["role"]]}
        if "lang" in record:
            node["lang"] = record["lang"]
        node["replies"] = replies
        replies = [node]
    node["parent_id"] = None
    if "user_id" in record:
        node["user_id"] = str(record["user_id"])
    yield {"message_tree_id": tree, "tree_state": "ready_for_export", "prompt": node}


def _single(text: str) -> bool:
    return len(completion_messages(text)) == 1


def _completions(form: Form, record: Record) -> tuple[list[str], list[int]]:
    """Return the texts and their ranks, from 0 without gaps."""
    if form == "pair":
        return [record["chosen"], record["rejected"]], [0, 0] if record.get("tie") else [0, 1]
    order = sorted(set(record["ranks"]))
    return list(record["completions"]), [order.index(rank) for rank in record["ranks"]]


FORMAT = Format(
    name="oasst",
    summary="Open-Assistant's trees or messages",
    read=read,
    write=write,
    fits=fits,
    holds=("pair", "ranking"),
    prepare=prepare,
)
