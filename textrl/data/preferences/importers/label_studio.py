"""Label Studio's JSON export (not JSON-MIN, which leaves out what was asked): tasks with their annotations.

    {"data": {"prompt": ..., "answer1": ..., "answer2": ...}, "annotations": [{"completed_by": ...,
     "result": [{"type": "pairwise", "to_name": "answer1,answer2", "value": {"selected": "left"}}]}]}
    {"data": {"prompt": ..., "items": [{"id": ..., "body": ...}]}, "annotations": [{"result": [
     {"type": "ranker", "to_name": "items", "value": {"ranker": {"rank": ["2", "1"]}}}]}]}

A ranker's single list goes from best to worst. Its buckets are ties; textrl writes them as ``rank_1``,
``rank_2`` ..., and other names need to be told best first (`Options.buckets`). Ratings, numbers and choices
(a label yes or no; from the control ``flags`` what was ticked) are read too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from textrl.data.preferences.dialogue import cut
from textrl.data.preferences.importers.answers import (
    CARRIED,
    COMPLETIONS,
    NO,
    PROMPTS,
    SAID,
    YES,
    buckets_of,
    by_buckets,
    candidates,
    first_text,
    scores,
    ticked,
    verdict,
)
from textrl.data.preferences.importers.base import Format, Notes, Options
from textrl.data.preferences.schema import Form, Record
from textrl.errors import UserError

_SIDES = (
    ("answer1", "answer2"),
    ("text1", "text2"),
    ("response1", "response2"),
    ("completion1", "completion2"),
    ("left", "right"),
)
_RANK = re.compile(r"rank[_ -]?(\d+)", re.I)
_UNRANKED = "_"


def fits(record: Mapping[str, Any]) -> bool:
    """Tell whether a record is a task with annotations."""
    return isinstance(record.get("data"), Mapping) and isinstance(record.get("annotations"), list)


def read(where: str, record: Mapping[str, Any], options: Options, notes: Notes) -> Iterator[Record]:
    """Yield what each annotation of a task says.

    Raises:
        UserError: When texts cannot be found in the task or an answer cannot be read.
    """
    record = _given(record)
    data, annotations = record.get("data"), record.get("annotations")
    if not isinstance(data, Mapping) or not isinstance(annotations, list):
        raise UserError(f"{where}: a task has 'data' and a list of 'annotations'; export it as JSON.")
    notes.count("tasks without an annotation left out", not annotations)
    name = first_text(data, [options.rename.get("prompt", PROMPTS[0]), *PROMPTS])
    if annotations and name is None:
        raise UserError(
            f"{where}: the task's data has no prompt; name it, for example --columns prompt="
            f"{next(iter(data), 'question')}."
        )
    base = {"prompt": data.get(name or ""), **{c: data[c] for c in CARRIED if data.get(c) is not None}}
    used: set[str] = set()
    for annotation in annotations:
        results = annotation.get("result") if isinstance(annotation, Mapping) else None
        if not isinstance(results, list):
            raise UserError(f"{where}: an annotation is {cut(annotation)}; it must have a list 'result'.")
        if annotation.get("was_cancelled"):
            notes.count("cancelled annotations left out")
            continue
        notes.count("annotations without a result left out", not results)
        who = _who(annotation.get("completed_by"))
        said = base if who is None else {**base, "annotator": who}
        for one in _annotation(where, data, said, results, options, notes):
            used |= {value for value in one.values() if isinstance(value, str)}
            yield one
    for column, value in data.items():
        known = column in CARRIED or isinstance(value, list) or (isinstance(value, str) and value in used)
        notes.count(f"data '{column}' left out", bool(used) and not known)


def _given(value: Any) -> Any:
    """Return a task without nulls: parquet gives every object all keys that any object of its column has."""
    if isinstance(value, Mapping):
        return {key: _given(one) for key, one in value.items() if one is not None}
    return [_given(one) for one in value] if isinstance(value, list) else value


def _annotation(
    where: str,
    data: Mapping[str, Any],
    base: Record,
    results: Sequence[Any],
    options: Options,
    notes: Notes,
) -> Iterator[Record]:
    ratings: dict[str, Record] = {}
    for result in results:
        kind, value = result.get("type"), result.get("value")
        if not isinstance(value, Mapping):
            raise UserError(f"{where}: a result's value is {cut(value)}; it must be an object.")
        name = str(result.get("from_name"))
        if kind == "pairwise":
            yield _pairwise(where, data, base, result, options)
        elif kind == "ranker":
            yield from _ranker(where, data, base, result, options, notes)
        elif kind in ("rating", "number") or (kind == "choices" and name == "flags"):
            score = _score(kind, name, value)
            if "rating" in score and options.rename.get("rating", name) != name:
                notes.count(f"ratings '{name}' left out: another one was asked for")
                continue
            text = _completion(where, data, result, options)
            entry = ratings.setdefault(text, {**base, "completion": text})
            if entry.keys() & score.keys():
                raise UserError(
                    f"{where}: several results of one annotation rate the same text; say which one counts, "
                    f"for example --columns rating={name}."
                )
            entry |= score
        elif kind == "choices":
            answers = [verdict(str(choice)) for choice in value.get("choices", ())]
            if len(answers) == 1 and answers[0] is not None:
                text = _completion(where, data, result, options)
                yield {**base, "completion": text, "label": answers[0]}
            else:
                notes.count("choices left out that are neither yes nor no")
        else:
            notes.count(f"results of the type '{kind}' left out")
    yield from ratings.values()


def _score(kind: str, name: str, value: Mapping[str, Any]) -> Record:
    """Read a number or what was ticked."""
    if kind == "choices":
        return {"flags": {str(choice): True for choice in value.get("choices", ())}}
    return {"likert" if name == "likert" else "rating": value.get(kind)}


def _who(by: Any) -> str | int | None:
    """Return the annotator; the export gives an id or an account."""
    if isinstance(by, Mapping):
        by = by.get("email") or by.get("id")
    return by if isinstance(by, str | int) and not isinstance(by, bool) else None


def _targets(result: Mapping[str, Any]) -> list[str]:
    to = result.get("to_name")
    names = to if isinstance(to, list) else str(to or "").split(",")
    return [str(name).strip() for name in names]


def _pairwise(
    where: str, data: Mapping[str, Any], base: Record, result: Mapping[str, Any], options: Options
) -> Record:
    couples = [
        (options.rename.get("left", ""), options.rename.get("right", "")),
        tuple(_targets(result)),
        *_SIDES,
    ]
    sides = next(
        (two for two in couples if len(two) == 2 and all(isinstance(data.get(s), str) for s in two)), None
    )
    if sides is None:
        raise UserError(
            f"{where}: the two texts of the comparison are not found in the task's data ({', '.join(data)}); "
            "name them with --columns left=NAME --columns right=NAME."
        )
    selected = result["value"].get("selected")
    if selected not in ("left", "right"):
        raise UserError(f"{where}: 'selected' is {cut(selected)}; it must be left or right.")
    better, worse = sides if selected == "left" else sides[::-1]
    return {**base, "chosen": data[better], "rejected": data[worse]}


def _ranker(
    where: str,
    data: Mapping[str, Any],
    base: Record,
    result: Mapping[str, Any],
    options: Options,
    notes: Notes,
) -> Iterator[Record]:
    lists = [name for name, value in data.items() if isinstance(value, list) and name != "ratings"]
    targets = [name for name in _targets(result) if name in lists] or lists
    if len(targets) != 1:
        raise UserError(f"{where}: the task's data has {len(targets)} lists of items to rank; one is needed.")
    texts = dict(_item(where, index, item) for index, item in enumerate(data[targets[0]]))
    names, ranks = by_buckets(_buckets(where, result["value"].get("ranker"), options))
    strangers = [name for name in names if name not in texts]
    if strangers:
        raise UserError(f"{where}: '{strangers[0]}' is ranked and is no id in '{targets[0]}'; export again.")
    notes.count("items left out that were not ranked", len(texts) - len(names) if len(names) > 1 else 0)
    if len(names) < 2:
        notes.count("rankings left out with fewer than two ranked items")
        return
    rest = {column: value for column, value in base.items() if column != "margin"}
    yield {**rest, "completions": [texts[name] for name in names], "ranks": ranks}


def _item(where: str, index: int, item: Any) -> tuple[str, str]:
    if isinstance(item, str):
        return str(index), item
    name = first_text(item, ("body", "text", "html", "title")) if isinstance(item, Mapping) else None
    if name is None or item.get("id") is None:
        raise UserError(f"{where}: item {index} is {cut(item)}; it must have an id and a text in 'body'.")
    return str(item["id"]), item[name]


def _buckets(where: str, ranker: Any, options: Options) -> list[list[str]]:
    """Return the ids of what was ranked, best bucket first."""
    if isinstance(ranker, list):
        return [[str(name)] for name in ranker]
    if not isinstance(ranker, Mapping) or not all(isinstance(ids, list) for ids in ranker.values()):
        raise UserError(f"{where}: 'ranker' is {cut(ranker)}; it must hold lists of ids.")
    given = {name: [str(i) for i in ids] for name, ids in ranker.items() if name != _UNRANKED}
    if options.buckets:
        unknown = [name for name in given if name not in options.buckets]
        if unknown:
            raise UserError(f"{where}: the bucket '{unknown[0]}' is not among those of --buckets; add it.")
        return [given.get(name, []) for name in options.buckets]
    ranks = {name: _RANK.fullmatch(name) for name in given}
    if given and all(ranks.values()):
        return [given[name] for name in sorted(given, key=lambda name: int(_RANK.fullmatch(name)[1]))]  # type: ignore[index]
    if len(given) <= 1:
        return [[name] for ids in given.values() for name in ids]
    raise UserError(
        f"{where}: nothing says which of the buckets {', '.join(given)} is best; give them best first, "
        f"--buckets {','.join(given)}."
    )


def _completion(where: str, data: Mapping[str, Any], result: Mapping[str, Any], options: Options) -> str:
    names = [options.rename.get("completion", ""), *_targets(result), *COMPLETIONS]
    name = first_text(data, names)
    if name is None:
        raise UserError(
            f"{where}: the rated text is not found in the task's data ({', '.join(data)}); name it with "
            "--columns completion=NAME."
        )
    text: str = data[name]
    return text


def write(form: Form, record: Record, options: Options, notes: Notes) -> Iterator[Record]:
    """Yield the record as an annotated task."""
    data = {"prompt": record["prompt"], **{c: v for c, v in record.items() if c not in SAID}}
    if form in ("rating", "label"):
        data["completion"] = record["completion"]
        if form == "label":
            answer = {"choices": [YES if record["label"] else NO]}
            results = [(record.get("annotator"), [_result("label", "completion", "choices", answer)])]
        else:
            results = [(who, _scored(given, notes)) for who, given in scores(record)]
    else:
        notes.count("rankings whose ratings are left out: a ranker has ranks only", "ratings" in record)
        texts, ranks = candidates(record)
        if form == "pair" and not record.get("tie"):
            data |= {"answer1": texts[0], "answer2": texts[1]}
            result = _result("comparison", "answer1,answer2", "pairwise", {"selected": "left"})
        else:
            data["items"] = [{"id": str(i), "body": text} for i, text in enumerate(texts, start=1)]
            result = _result("rank", "items", "ranker", {"ranker": _ranked(ranks)})
        results = [(record.get("annotator"), [result])]
    yield {"data": data, "annotations": [_by(who, result) for who, result in results]}


def _ranked(ranks: Sequence[float]) -> dict[str, list[str]]:
    buckets = [[str(index + 1) for index in bucket] for bucket in buckets_of(ranks)]
    if len(buckets) == len(ranks):
        return {"rank": [name for bucket in buckets for name in bucket]}
    return {f"rank_{rank}": bucket for rank, bucket in enumerate(buckets, start=1)}


def _scored(given: Mapping[str, Any], notes: Notes) -> list[Record]:
    results = []
    for column in ("rating", "likert"):
        if column in given:
            value = given[column]
            # A rating in Label Studio is a number of stars.
            kind = "rating" if isinstance(value, int) and value >= 0 else "number"
            results.append(_result(column, "completion", kind, {kind: value}))
    if "flags" in given:
        chosen = {"choices": ticked(given["flags"], notes)}
        results.append(_result("flags", "completion", "choices", chosen))
    return results


def _result(name: str, to: str, kind: str, value: Mapping[str, Any]) -> Record:
    return {"from_name": name, "to_name": to, "type": kind, "value": dict(value)}


def _by(who: Any, results: list[Record]) -> Record:
    by = {} if who is None else {"completed_by": who if isinstance(who, int) else {"email": who}}
    return {**by, "was_cancelled": False, "result": results}


FORMAT = Format(
    name="label-studio",
    summary="Label Studio's JSON export: pairwise, ranker, rating, choices",
    read=read,
    write=write,
    fits=fits,
    holds=("pair", "ranking", "rating", "label"),
)
