"""Argilla's records, versions 1 and 2: fields, and for each question the answers of several people.

    {"fields": {"prompt": ..., "completion_1": ..., "completion_2": ...}, "metadata": {...},
     "responses": {"ranking": [{"user_id": ..., "value": ["completion_2", "completion_1"]}]}}

A ranking names fields, as a list from best to worst (version 2) or with ranks (version 1, which has ties).
Read are records as ``to_json`` and ``to_list`` of version 2 give them (flat or not), those of version 1,
and the columns of a dataset pushed to the hub. A number is a rating (a question ``likert``: a Likert
score), one word a label or the better of two fields, a list of other words flags.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import NAMESPACE_URL, uuid5

from textrl.data.preferences.dialogue import cut
from textrl.data.preferences.importers.answers import (
    CARRIED,
    COMPLETIONS,
    NO,
    PROMPTS,
    SAID,
    TIE,
    YES,
    buckets_of,
    candidates,
    first_text,
    scores,
    ticked,
    verdict,
)
from textrl.data.preferences.importers.base import Format, Notes, Options
from textrl.data.preferences.schema import COMMON, Form, Record
from textrl.errors import UserError

_FLAT = ".responses"
_SENT = (None, "submitted")
_PARTS = {"user_id", "value", "status"}
#: Columns of a record that are no fields.
_OTHER = ("id", "_server_id", "external_id", "metadata", "status", "score", "vectors", "suggestions")


class _Answer(NamedTuple):
    question: str
    value: Any
    user: str | None


def fits(record: Mapping[str, Any]) -> bool:
    """Tell whether a record is Argilla's."""
    if isinstance(record.get("fields"), Mapping) and "responses" in record:
        return True
    return any(str(name).endswith(_FLAT) or _is_column(value) for name, value in record.items())


def read(where: str, record: Mapping[str, Any], options: Options, notes: Notes) -> Iterator[Record]:
    """Yield what each person said about a record.

    Raises:
        UserError: When its texts cannot be found or an answer cannot be read.
    """
    answers = list(_answers(where, record, notes))
    notes.count("records without an answer left out", not answers)
    if not answers:
        return
    fields, metadata = _fields(record), _metadata(where, record)
    base = {c: v for c in CARRIED if (v := metadata.get(c, record.get(c))) is not None}
    name = first_text(fields, [options.rename.get("prompt", PROMPTS[0]), *PROMPTS])
    base["prompt"] = "" if name is None else fields[name]
    for column in metadata:
        notes.count(f"metadata '{column}' left out", column not in CARRIED)
    notes.count("records without a prompt among their fields: an empty one stands for it", name is None)
    texts = {key: value for key, value in fields.items() if key != name and isinstance(value, str)}
    ratings: dict[str | None, Record] = {}
    for answer in answers:
        who = {} if answer.user is None else {"annotator": answer.user}
        said = _ranking(where, answer, texts) or _label(answer, texts, options)
        if said is not None:
            rest = base if "chosen" in said else {c: v for c, v in base.items() if c != "margin"}
            yield {**rest, **who, **said}
            continue
        score = _score(where, answer, options)
        if score is None:
            notes.count(f"answers to '{answer.question}' left out: no ranking, rating, label or flags")
            continue
        text = _completion(where, answer, texts, options)
        entry = ratings.setdefault(answer.user, {**base, **who, "completion": text})
        if entry.keys() & score.keys():
            raise UserError(
                f"{where}: several questions have a {next(iter(score))} of one person; say which one counts, "
                f"for example --columns rating={answer.question}."
            )
        entry |= score
    yield from ratings.values()


def _is_column(value: Any) -> bool:
    """Tell the answers to a question, as a dataset on the hub has them in one column."""
    if isinstance(value, Mapping):
        return value.keys() >= _PARTS
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(v, Mapping) and v.keys() >= _PARTS for v in value)
    )


def _answers(where: str, record: Mapping[str, Any], notes: Notes) -> Iterator[_Answer]:
    """Yield the submitted answers, whichever way the export nests them."""
    for question, value, user, status in _nested(where, record):
        if value is None:
            continue
        if status not in _SENT:
            notes.count("answers left out that were not submitted")
            continue
        known = user is not None and str(user) != "None"  # version 2 writes a missing id as text
        yield _Answer(question, value, str(user) if known else None)


def _nested(where: str, record: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any, Any]]:
    responses = record.get("responses")
    if isinstance(responses, Mapping):
        for question, given in responses.items():
            for one in given or ():
                yield str(question), one.get("value"), one.get("user_id"), one.get("status")
    elif isinstance(responses, list):
        for one in responses:
            for question, given in (one.get("values") or {}).items():
                yield str(question), given.get("value"), one.get("user_id"), one.get("status")
    elif responses is not None:
        raise UserError(f"{where}: 'responses' is {cut(responses)}; it must hold the answers to questions.")
    for name, value in record.items():
        if str(name).endswith(_FLAT) and isinstance(value, list):
            users = record.get(f"{name}.users") or [None] * len(value)
            states = record.get(f"{name}.status") or [None] * len(value)
            for one in zip(value, users, states, strict=True):
                yield str(name).removesuffix(_FLAT), *one
        elif _is_column(value):
            rows = value
            if isinstance(value, Mapping):
                rows = [dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=True)]
            for one in rows:
                yield str(name), one["value"], one["user_id"], one["status"]


def _fields(record: Mapping[str, Any]) -> Mapping[str, Any]:
    fields = record.get("fields")
    if isinstance(fields, Mapping):
        return fields
    return {name: v for name, v in record.items() if isinstance(v, str) and name not in (*_OTHER, *COMMON)}


def _metadata(where: str, record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the metadata; datasets on the hub have it as JSON text."""
    metadata = record.get("metadata")
    if isinstance(metadata, str):
        try:
            metadata = json.loads(metadata)
        except ValueError as error:
            raise UserError(f"{where}: 'metadata' is text that is not JSON ({error}).") from None
    return metadata if isinstance(metadata, Mapping) else {}


def _ranking(where: str, answer: _Answer, texts: Mapping[str, str]) -> Record | None:
    """Read a list of fields, or of fields with ranks."""
    value = answer.value
    if isinstance(value, Mapping) and value.keys() == {"rank", "value"}:  # a struct of lists, from a table
        value = [{"rank": r, "value": v} for r, v in zip(value["rank"], value["value"], strict=True)]
    if not isinstance(value, list) or len(value) < 2:
        return None
    if all(isinstance(one, Mapping) and "value" in one for one in value):
        names = [str(one["value"]) for one in value]
        ranks = [one.get("rank") or place for place, one in enumerate(value, start=1)]
    elif all(isinstance(one, str) and one in texts for one in value):
        names, ranks = value, list(range(1, len(value) + 1))
    else:
        return None
    missing = [name for name in names if name not in texts]
    if missing:
        raise UserError(
            f"{where}: '{answer.question}' ranks '{missing[0]}', which is none of the fields "
            f"({', '.join(texts)})."
        )
    return {"completions": [texts[name] for name in names], "ranks": ranks}


def _label(answer: _Answer, texts: Mapping[str, str], options: Options) -> Record | None:
    """Read one word: the better one of two fields, a tie of two, or yes and no about one."""
    value = answer.value
    if not isinstance(value, str):
        return None
    if len(texts) == 2 and (value in texts or value.lower() in TIE):
        first, second = texts
        better, worse = (second, first) if value == second else (first, second)
        tie = {} if value in texts else {"tie": True}
        return {"chosen": texts[better], "rejected": texts[worse], **tie}
    said = verdict(value)
    name = first_text(texts, [options.rename.get("completion", ""), *COMPLETIONS])
    name = next(iter(texts)) if name is None and len(texts) == 1 else name
    return None if said is None or name is None else {"completion": texts[name], "label": said}


def _score(where: str, answer: _Answer, options: Options) -> Record | None:
    """Read a number or what was ticked."""
    value, question = answer.value, answer.question
    if isinstance(value, int | float) and not isinstance(value, bool):
        column = "likert" if question == "likert" else "rating"
        wanted = options.rename.get("rating", question)
        if column == "rating" and question != wanted:
            return None
        return {column: value}
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return {"flags": dict.fromkeys(value, True)}
    return None


def _completion(where: str, answer: _Answer, texts: Mapping[str, str], options: Options) -> str:
    """Return the text that a rating is about: the one field there is, or the one the question names."""
    name = first_text(texts, [options.rename.get("completion", ""), *COMPLETIONS])
    if name is None and len(texts) == 1:
        name = next(iter(texts))
    if name is None:
        raise UserError(
            f"{where}: which of the fields ({', '.join(texts)}) '{answer.question}' rates is not known; name "
            "it with --columns completion=NAME."
        )
    return texts[name]


def write(form: Form, record: Record, options: Options, notes: Notes) -> Iterator[Record]:
    """Yield the record with its answers."""
    fields = {"prompt": record["prompt"]}
    responses: dict[str, list[Record]] = {}
    if form in ("pair", "ranking"):
        texts, ranks = candidates(record)
        names = [f"completion_{index}" for index in range(1, len(texts) + 1)]
        fields |= zip(names, texts, strict=True)
        notes.count("rankings whose ratings are left out: a ranking has ranks only", "ratings" in record)
        responses["ranking"] = [_given(_ranked(names, ranks, notes), record.get("annotator"))]
    else:
        fields["completion"] = record["completion"]
        if form == "label":
            responses["label"] = [_given(YES if record["label"] else NO, record.get("annotator"))]
        else:
            for who, given in scores(record):
                for column, value in given.items():
                    value = ticked(value, notes) if column == "flags" else value
                    responses.setdefault(column, []).append(_given(value, who))
    metadata = {c: v for c, v in record.items() if c not in SAID and isinstance(v, str | int | float)}
    notes.columns({c: v for c, v in record.items() if c not in metadata}, SAID, "argilla")
    name = json.dumps([notes.next_serial(), fields], ensure_ascii=False)
    yield {
        "id": str(uuid5(NAMESPACE_URL, name)),
        "fields": fields,
        "metadata": metadata,
        "suggestions": {},
        "responses": responses,
        "vectors": {},
    }


def _ranked(names: Sequence[str], ranks: Sequence[float], notes: Notes) -> list[Any]:
    buckets = buckets_of(ranks)
    if len(buckets) == len(names):
        return [names[index] for bucket in buckets for index in bucket]
    notes.count("rankings with ties written with ranks, as Argilla 1 has them: Argilla 2 has no ties")
    return [
        {"rank": rank, "value": names[index]}
        for rank, bucket in enumerate(buckets, start=1)
        for index in bucket
    ]


def _given(value: Any, who: Any) -> Record:
    return {"value": value, "user_id": None if who is None else str(who), "status": "submitted"}


FORMAT = Format(
    name="argilla",
    summary="Argilla's records, versions 1 and 2: ranking, rating, label, flags",
    read=read,
    write=write,
    fits=fits,
    holds=("pair", "ranking", "rating", "label"),
)
