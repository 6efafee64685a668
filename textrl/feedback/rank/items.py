"""What a ranking session shows: prompts with K responses, from a file, and the session's config.

    {"prompt": "...", "completions": ["...", "..."]}     "item": an id; the line's number else
    {"prompt": "...", "chosen": "...", "rejected": "..."}     a pair; what was chosen is not shown

The items stand in the session's config, so that a session can be replayed without the file or the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from textrl.data.preferences.schema import text
from textrl.data.preferences.sources import open_source
from textrl.errors import UserError, did_you_mean
from textrl.feedback.events import FEWEST, FLAGS, MOST, NAME_CHARS

INSTRUCTIONS = (
    "Read the prompt and all responses, then put the responses in order, best first. Give equal places to "
    "responses of equal quality. Score each response from 1 (very bad) to 7 (very good), and tick what is "
    "true of it. A good response does what the prompt asks, is true, and harms nobody. Skip a prompt that "
    "you cannot judge."
)


@dataclass(frozen=True)
class Item:
    """One prompt with its responses.

    Attributes:
        item: Its id, unique in a session.
        prompt: May be empty.
        completions: K different texts, in their canonical order.
        made: How each was made (model, temperature), where that is known.
    """

    item: str
    prompt: str
    completions: tuple[str, ...]
    made: tuple[Mapping[str, Any], ...] = field(default=())


def read_items(source: str | Path, *, most: int | None = None, split: str = "train") -> list[Item]:
    """Read items from a file.

    Args:
        source: What `textrl.data.preferences.sources` reads; see the module's text for the records.
        most: Only the first so many.
        split: Which part of a dataset.

    Raises:
        UserError: When a record is no item, or two have one id; names the place.
    """
    items: list[Item] = []
    places: dict[str, str] = {}
    for where, record in open_source(source, split=split):
        if most is not None and len(items) >= most:
            break
        item = _item(record, where, len(items) + 1)
        if item.item in places:
            raise UserError(
                f"{where}: the id '{item.item}' is that of {places[item.item]}; give each its own."
            )
        places[item.item] = where
        items.append(item)
    if not items:
        raise UserError(f"{source} holds no items; give at least one.")
    return items


def rank_config(
    items: Sequence[Item],
    *,
    seed: int = 0,
    overlap: int = 1,
    instructions: str = "",
    flags: Sequence[str] = FLAGS,
    **more: Any,
) -> dict[str, Any]:
    """Return the config of a ranking session.

    Args:
        items: What is to be ranked.
        seed: Keys everybody's order of items and of the responses on the screen.
        overlap: How many people rank each item; 0 for everybody.
        instructions: What annotators read first; `INSTRUCTIONS` where empty.
        flags: Names of yes or no questions, of `FLAGS`.
        more: What else is worth keeping (the model, the command).

    Raises:
        UserError: When a setting cannot be used.
    """
    if overlap < 0:
        raise UserError(f"--overlap is {overlap}; give the number of people for each item, or 0 for all.")
    for flag in flags:
        if flag not in FLAGS:
            raise UserError(f"There is no flag '{flag}'.{did_you_mean(flag, FLAGS)}")
    if not items:
        raise UserError("A ranking session needs at least one item.")
    listed = [asdict(item) for item in items]
    settings = {"seed": seed, "overlap": overlap, "instructions": instructions or INSTRUCTIONS}
    return {**more, **settings, "flags": list(flags), "items": listed}


def items_of(config: Mapping[str, Any]) -> dict[str, Item]:
    """Return the items of a session's config by id.

    Raises:
        UserError: When it has none.
    """
    listed = config.get("items")
    if not isinstance(listed, Sequence) or not listed:
        raise UserError("The config of the ranking session holds no items.")
    made = (
        Item(one["item"], one["prompt"], tuple(one["completions"]), tuple(one.get("made", ())))
        for one in listed
    )
    return {item.item: item for item in made}


def keyed(count: int, *keys: object) -> list[int]:
    """Return 0..count-1 in an order that depends on the keys alone, on every machine and for ever."""
    name = "\0".join(str(key) for key in keys)
    return sorted(range(count), key=lambda index: sha256(f"{name}\0{index}".encode()).digest())


def _item(record: Mapping[str, Any], where: str, number: int) -> Item:
    given = {str(column): value for column, value in record.items() if value is not None}
    given.setdefault("prompt", "")
    talk = text(given, "prompt", where, prompt=True)
    if "completions" not in given and {"chosen", "rejected"} <= given.keys():
        given["completions"] = [given["chosen"], given["rejected"]]
    completions = given.get("completions")
    if not isinstance(completions, list):
        raise UserError(f"{where} has no 'completions'; give a list of {FEWEST} to {MOST} responses.")
    if not FEWEST <= len(completions) <= MOST:
        raise UserError(f"{where} has {len(completions)} completions; an item has {FEWEST} to {MOST}.")
    texts: list[str] = []
    for value in completions:
        one = {"completions": value}
        text(one, "completions", where, talk=talk)
        if one["completions"] in texts:
            places = texts.index(one["completions"]) + 1, len(texts) + 1
            raise UserError(f"{where}: completions {places[0]} and {places[1]} are the same; remove one.")
        texts.append(one["completions"])
    name = str(given.get("item", number))
    if not 1 <= len(name) <= NAME_CHARS or not name.isprintable():
        raise UserError(f"{where}: 'item' must be an id of 1 to {NAME_CHARS} visible characters.")
    return Item(name, given["prompt"], tuple(texts))
