"""The forms of record that people's judgements come in, and their columns.

    pair           prompt, chosen, rejected; tie: true where neither is better, margin: how much better
    ranking        prompt, completions, ranks (smaller is better, equal is a tie) or ratings, or both
    ranking_row    group, prompt, completion, rank: one line for each completion of a ranking
    rating         prompt, completion, rating; or ratings with annotators; or likert 1-7; or flags
    label          prompt, completion, label: true or false
    demonstration  prompt, completion
    prompt         prompt
    dialogue       messages

`COMMON` columns may stand in any record; others are left as they are. A prompt or completion is a text
or a list of messages, which becomes a text as `textrl.data.preferences.dialogue` says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

from textrl.data.preferences.columns import meant
from textrl.data.preferences.dialogue import (
    completion_text,
    cut,
    dialogue_text,
    is_messages,
    prompt_text,
    split_pair,
)
from textrl.errors import UserError, did_you_mean

Form = Literal["pair", "ranking", "ranking_row", "rating", "label", "demonstration", "prompt", "dialogue"]
FORMS: tuple[Form, ...] = get_args(Form)
#: Who judged, who wrote the prompt, which records belong together, which part of the data, where from.
COMMON = ("annotator", "user_id", "group", "split", "source")
#: The columns that each form has a meaning for, without `COMMON`.
COLUMNS: Mapping[Form, tuple[str, ...]] = {
    "pair": ("prompt", "chosen", "rejected", "tie", "margin"),
    "ranking": ("prompt", "completions", "ranks", "ratings"),
    "ranking_row": ("prompt", "completion", "rank", "rating"),
    "rating": ("prompt", "completion", "rating", "ratings", "annotators", "likert", "flags"),
    "label": ("prompt", "completion", "label"),
    "demonstration": ("prompt", "completion"),
    "prompt": ("prompt",),
    "dialogue": ("messages",),
}
#: Every column that has a meaning in some record.
KNOWN = frozenset(COMMON).union(*COLUMNS.values())
LIKERT = (1, 7)
Record = dict[str, Any]


def kind_of(record: Mapping[str, Any]) -> Form | None:
    """Return which form a record has by its columns (those that are not None), or None for no form.

    The columns decide, not their values: `canonical` says whether the values can be used.
    """
    has = {column for column, value in record.items() if value is not None}
    if has & {"chosen", "rejected"}:
        return "pair"
    if "completions" in has:
        return "ranking"
    if "completion" in has:
        if "rank" in has:
            return "ranking_row"
        if has & {"rating", "ratings", "likert", "flags"}:
            return "rating"
        return "label" if "label" in has else "demonstration"
    if "messages" in has:
        return "dialogue"
    return "prompt" if "prompt" in has else None


def canonical(record: Mapping[str, Any], where: str) -> tuple[Form, Record]:
    """Check a record and bring it into its canonical form.

    Columns that are None (a table has every column in every row) are left out, messages become text,
    and a pair of dialogues without a prompt is parted into prompt and completions.

    Args:
        record: As read.
        where: Names the place in errors.

    Returns:
        The form and a new record.

    Raises:
        UserError: When a column is missing or has a value that cannot be used; names place and column.
    """
    form = kind_of(record)
    if form is None:
        raise UserError(f"{where} {_no_form(record)}")
    given = {str(column): value for column, value in record.items() if value is not None}
    for column in COMMON:
        if column in given:
            _identity(given, column, where)
    _CHECKS[form](given, where)
    return form, given


def text(record: Record, column: str, where: str, *, prompt: bool = False, talk: bool = False) -> bool:
    """Check a text column, and write messages in it as text.

    Args:
        record: Changed where it holds messages.
        column: Which.
        where: Names the place in errors.
        prompt: The column is a prompt.
        talk: The prompt was a dialogue, so that a completion's messages continue it.

    Returns:
        Whether the column held messages.

    Raises:
        UserError: When the column is missing, is no text, or holds characters no tokenizer takes.
    """
    if column not in record:
        raise UserError(f"{where} has no '{column}'; add it.{_instead(record, column)}")
    value, messages = record[column], False
    if not isinstance(value, str):
        if not is_messages(value):
            raise UserError(f"{where}: '{column}' is {cut(value)}; it must be text or a list of messages.")
        place, messages = f"{where}: '{column}'", True
        value = prompt_text(value, place) if prompt else completion_text(value, place)
        # Behind a prompt that is plain text nothing parts the speaker's name from what is said.
        record[column] = value if prompt or talk else value.removeprefix(" ")
    check_characters(value, column, where)
    return messages


def check_characters(value: str, column: str, where: str) -> None:
    """Refuse a NUL and half a surrogate pair.

    Raises:
        UserError: On either; names the place and the column.
    """
    if "\0" in value:
        raise UserError(f"{where}: '{column}' contains a NUL character; remove it.")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            half = f"\\u{ord(value[error.start]):04x}"
            raise UserError(
                f"{where}: '{column}' contains half of a surrogate pair ({half}); remove it."
            ) from None


def number(value: Any, column: str, where: str, hint: str = "") -> float:
    """Return a finite number.

    Raises:
        UserError: For anything else, true and false included.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{where}: '{column}' is {cut(value)}; it must be a finite number{hint}.")
    return float(value)


def ranks_of(ratings: Sequence[float]) -> tuple[float, ...]:
    """Return the ranks that ratings give: 1 for the largest; equal ratings tie."""
    order = sorted(set(ratings), reverse=True)
    return tuple(float(order.index(rating) + 1) for rating in ratings)


def _no_form(record: Mapping[str, Any]) -> str:
    columns = sorted(str(column) for column, value in record.items() if value is not None)
    known = sorted({column for form in FORMS for column in COLUMNS[form]})
    hints = [f"'{c}':{h}" for c in columns if c not in COMMON and "mean" in (h := did_you_mean(c, known))]
    return (
        f"has the columns {', '.join(columns) or '(none)'}, which are those of no form of record; see "
        f"docs/data.md.{' ' + hints[0] if hints else ''}"
    )


def _instead(given: Mapping[str, Any], *missing: str) -> str:
    """Point at a column that is there and is a misspelling of a missing one."""
    for column in given:
        found = None if column in KNOWN else meant(column, missing)
        if found is not None:
            return f" '{column}': Did you mean '{found}'?"
    return ""


def _identity(given: Record, column: str, where: str) -> None:
    value = given[column]
    if type(value) is str:
        check_characters(value, column, where)
    elif column in ("split", "source") or isinstance(value, bool) or not isinstance(value, int):
        kind = "text" if column in ("split", "source") else "text or a whole number"
        raise UserError(f"{where}: '{column}' is {cut(value)}; it must be {kind}.")


def _pair(given: Record, where: str) -> None:
    if "prompt" not in given:
        _part(given)
    talk = text(given, "prompt", where, prompt=True)
    text(given, "chosen", where, talk=talk)
    text(given, "rejected", where, talk=talk)
    tie = given.get("tie", False)
    if not isinstance(tie, bool):
        raise UserError(f"{where}: 'tie' is {cut(tie)}; write true or false.")
    if "margin" in given:
        margin = number(given["margin"], "margin", where)
        if margin < 0 or (tie and margin):
            raise UserError(
                f"{where}: 'margin' is {given['margin']}; it says how much better the chosen completion is: "
                "0 for a tie, more otherwise."
            )


def _part(given: Record) -> None:
    """Find the prompt that two dialogues begin with, where there is one."""
    first, second = given.get("chosen"), given.get("rejected")
    if isinstance(first, str) and isinstance(second, str):
        parts = split_pair(first, second)
        if parts is not None:
            given["prompt"], given["chosen"], given["rejected"] = parts
    elif is_messages(first) and is_messages(second):
        assert isinstance(first, list)
        assert isinstance(second, list)
        same = 0
        while same < min(len(first), len(second)) - 1 and first[same] == second[same]:
            same += 1
        if same:
            given["prompt"], given["chosen"], given["rejected"] = first[:same], first[same:], second[same:]


def _ranking(given: Record, where: str) -> None:
    talk = text(given, "prompt", where, prompt=True)
    completions = given["completions"]
    lists = [column for column in ("ranks", "ratings") if column in given]
    if not isinstance(completions, list) or not lists or not all(isinstance(given[c], list) for c in lists):
        near = "" if lists else _instead(given, "ranks", "ratings")
        raise UserError(
            f"{where}: 'completions' and 'ranks' (or 'ratings') must be lists of equal length.{near}"
        )
    written = []
    for value in completions:
        if not isinstance(value, str) and not is_messages(value):
            raise UserError(f"{where}: a completion is {cut(value)}; every completion must be text.")
        one = {"completions": value}
        text(one, "completions", where, talk=talk)
        written.append(one["completions"])
    given["completions"] = written
    if len(written) < 2:
        raise UserError(f"{where}: A ranking needs two completions or more, this one has {len(written)}.")
    for column in lists:
        hint = " (1 is best)" if column == "ranks" else ""
        for value in given[column]:
            number(value, column, where, hint)
        if len(given[column]) != len(written):
            raise UserError(
                f"{where}: {len(written)} completions have {len(given[column])} {column}; give one each."
            )
    if "ranks" not in given:
        given["ranks"] = list(ranks_of(given["ratings"]))


def _completion(given: Record, where: str) -> None:
    talk = text(given, "prompt", where, prompt=True)
    text(given, "completion", where, talk=talk)


def _row(given: Record, where: str) -> None:
    if "group" not in given:
        raise UserError(
            f"{where} has a 'rank' but no 'group'; add the id that the lines of a ranking share."
            f"{_instead(given, 'group')}"
        )
    _completion(given, where)
    number(given["rank"], "rank", where, " (1 is best)")


def _rating(given: Record, where: str) -> None:
    _completion(given, where)
    if "rating" in given:
        number(given["rating"], "rating", where)
    ratings, annotators = given.get("ratings"), given.get("annotators")
    if ratings is not None:
        if not isinstance(ratings, list) or not ratings:
            raise UserError(f"{where}: 'ratings' is {cut(ratings)}; it must be a list of numbers.")
        for value in ratings:
            number(value, "ratings", where)
    if annotators is not None:
        if not isinstance(annotators, list) or ratings is None or len(annotators) != len(ratings):
            raise UserError(f"{where}: 'annotators' must be a list with one name for each of 'ratings'.")
        for value in annotators:
            _identity({"annotators": value}, "annotators", where)
    low, high = LIKERT
    likert = given.get("likert")
    if likert is not None and (type(likert) is not int or not low <= likert <= high):
        raise UserError(f"{where}: 'likert' is {cut(likert)}; give a whole number from {low} to {high}.")
    flags = given.get("flags")
    if flags is not None:
        if not isinstance(flags, Mapping) or not all(isinstance(v, bool | None) for v in flags.values()):
            raise UserError(f"{where}: 'flags' is {cut(flags)}; write {{\"name\": true or false}}.")
        given["flags"] = {str(name): value for name, value in flags.items() if value is not None}


def _label(given: Record, where: str) -> None:
    _completion(given, where)
    if not isinstance(given["label"], bool):
        raise UserError(f"{where}: 'label' is {cut(given['label'])}; write true or false.")


def _prompt(given: Record, where: str) -> None:
    text(given, "prompt", where, prompt=True)


def _dialogue(given: Record, where: str) -> None:
    if not isinstance(given["messages"], list):
        raise UserError(f"{where}: 'messages' is {cut(given['messages'])}; it must be a list of messages.")
    check_characters(dialogue_text(given["messages"], f"{where}: 'messages'"), "messages", where)


_CHECKS: Mapping[Form, Callable[[Record, str], None]] = {
    "pair": _pair,
    "ranking": _ranking,
    "ranking_row": _row,
    "rating": _rating,
    "label": _label,
    "demonstration": _completion,
    "prompt": _prompt,
    "dialogue": _dialogue,
}
