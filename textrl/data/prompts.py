"""Prompts from a JSONL or parquet file, a dataset, or Python lists; every defect named by its place.

A prompt is a string, or a list of messages that the tokenizer's chat template turns into one. All
other columns of its record stay with it, for the rewards that need them (an exact answer, say).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from textrl.data.records import Place, read_records
from textrl.errors import UserError, did_you_mean
from textrl.mdp.task import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: Prompts tokenized per call; fast tokenizers use all cores inside one.
CHUNK = 1024


class _Text(NamedTuple):
    place: Place
    text: str
    record: Mapping[str, Any]
    templated: bool


def read_prompts(
    source: str | Path | Sequence[Any],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_prompt_tokens: int,
    column: str = "prompt",
    split: str = "train",
) -> list[Prompt]:
    """Read and tokenize prompts.

    Args:
        source: A ``.jsonl``, ``.jsonl.gz`` or ``.parquet`` file, a folder or hub id that `datasets`
            loads, or a list of strings, of records, or of message lists.
        tokenizer: The policy's.
        max_prompt_tokens: A longer prompt is refused; the context less `max_new_tokens`.
        column: Where a record keeps its prompt. Records without it may have ``messages`` instead.
        split: Which part of a dataset.

    Returns:
        The prompts in the order of the source.

    Raises:
        UserError: On a file that is missing, empty or damaged, and on a prompt that is missing, blank,
            not text, or too long; names the file and the line.
    """
    if max_prompt_tokens < 1:
        raise UserError(f"max_prompt_tokens is {max_prompt_tokens}; allow at least one token.")
    if isinstance(source, str | Path):
        name, records = str(source), read_records(source, split=split)
    else:
        name, records = "The list of prompts", _listed(source, column)
    prompts: list[Prompt] = []
    pending: list[_Text] = []
    for place, record in records:
        pending.append(_text(place, record, column, tokenizer))
        if len(pending) == CHUNK:
            prompts += _tokenize(pending, tokenizer, max_prompt_tokens)
            pending = []
    prompts += _tokenize(pending, tokenizer, max_prompt_tokens)
    if not prompts:
        raise UserError(f"{name} holds no prompts; give at least one.")
    return prompts


def _listed(source: Sequence[Any], column: str) -> Iterator[tuple[Place, Mapping[str, Any]]]:
    """Make records of a list's strings, records and message lists."""
    for index, item in enumerate(source):
        place = f"prompts[{index}]"
        if isinstance(item, Mapping):
            yield place, item
        elif isinstance(item, str) or (isinstance(item, Sequence) and not isinstance(item, bytes)):
            yield place, {column: item}
        else:
            raise UserError(
                f"{place}: a prompt is a string, a record or a list of messages, not {_kind(item)}."
            )


def _text(place: Place, record: Mapping[str, Any], column: str, tokenizer: PreTrainedTokenizerBase) -> _Text:
    """Take the prompt out of its record, as text."""
    key = column if column in record or "messages" not in record else "messages"
    if key not in record:
        raise UserError(f"{place}: there is no column '{column}'.{did_you_mean(column, map(str, record))}")
    value = record[key]
    templated = not isinstance(value, str)
    if isinstance(value, str):
        text = value
    elif isinstance(value, Sequence) and not isinstance(value, bytes):
        text = _apply_template(f"{place}: '{key}'", value, tokenizer)
    else:
        raise UserError(f"{place}: '{key}' is {_kind(value)}; it must be a string or a list of messages.")
    if not text.strip():
        raise UserError(f"{place}: the prompt is empty; remove the record or give it text.")
    check_text(place, text)
    return _Text(place, text, record, templated)


def check_text(place: Place, text: str) -> None:
    """Refuse characters that no tokenizer can take.

    Raises:
        UserError: On a NUL character or half a surrogate pair.
    """
    if "\x00" in text:
        raise UserError(
            f"{place}: the text holds a NUL character (\\u0000) at {text.index(chr(0))}; remove it."
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        raise UserError(
            f"{place}: the text holds half of a surrogate pair ({half}) at {error.start}; remove it."
        ) from None


def _apply_template(place: Place, messages: Sequence[Any], tokenizer: PreTrainedTokenizerBase) -> str:
    """Turn messages into the text that asks for the next one."""
    for index, message in enumerate(messages):
        fields = message if isinstance(message, Mapping) else {}
        if not isinstance(fields.get("role"), str) or not isinstance(fields.get("content"), str):
            raise UserError(
                f"{place}: message {index} is {_cut(message)}; "
                "give a mapping with the strings 'role' and 'content'."
            )
    if not messages:
        raise UserError(f"{place}: the list of messages is empty; give at least one.")
    if messages[-1]["role"] == "assistant":
        raise UserError(f"{place}: the last message is the assistant's answer; a prompt ends before it.")
    if not getattr(tokenizer, "chat_template", None):
        raise UserError(f"{place}: the tokenizer has no chat template for messages; give prompts as strings.")
    try:
        text: str = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
    except Exception as error:  # templates are programs and raise what they like
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{place}: the tokenizer's chat template refuses the messages: {reason}.") from error
    return text


def _tokenize(
    texts: Sequence[_Text], tokenizer: PreTrainedTokenizerBase, max_prompt_tokens: int
) -> Iterable[Prompt]:
    """Encode; a chat template has written its special tokens already."""
    encoded: dict[int, list[int]] = {}
    for templated in (False, True):
        rows = [index for index, item in enumerate(texts) if item.templated is templated]
        if rows:
            ids = tokenizer(
                [texts[row].text for row in rows], add_special_tokens=not templated, verbose=False
            )["input_ids"]
            encoded.update(zip(rows, ids, strict=True))
    prompts = []
    for index, item in enumerate(texts):
        length = len(encoded[index])
        if length == 0:
            raise UserError(
                f"{item.place}: the prompt {_cut(item.text)} gives no tokens; give it other text."
            )
        if length > max_prompt_tokens:
            raise UserError(
                f"{item.place}: the prompt has {length} tokens, more than the {max_prompt_tokens} allowed; "
                "shorten it or raise max_prompt_tokens (prompt and response must fit the model's context)."
            )
        prompts.append(Prompt(ids=tuple(encoded[index]), text=item.text, record=item.record))
    return prompts


def _cut(value: Any, limit: int = 60) -> str:
    shown = repr(value)
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."


def _kind(value: Any) -> str:
    """Name a value the way JSON would."""
    if value is None:
        return "null"
    return {bool: "a boolean", int: "a number", float: "a number", dict: "an object"}.get(
        type(value), f"a {type(value).__name__}"
    )
