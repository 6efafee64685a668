"""``textrl fit-judge``: a TF-IDF judge from a file of labels or ratings."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from cyclopts import Parameter

from textrl.data.records import read_records
from textrl.errors import UserError, did_you_mean
from textrl.evaluation.statistics import pair_accuracy
from textrl.mdp.order import keyed_order
from textrl_judges.settings import Scope
from textrl_judges.tfidf import TfidfModel

#: Where a target is looked for, in this order.
_COLUMNS = ("label", "rating", "ratings")


@dataclass(frozen=True)
class Labelled:
    """Texts and what is known of them: N names of labels, or N ratings."""

    texts: list[str]
    targets: list[Any]


def fit_judge(
    data: str,
    *,
    out: Path,
    column: str | None = None,
    scope: Scope = "prompt+response",
    kind: Literal["auto", "labels", "ratings"] = "auto",
    test: float = 0.1,
    strength: float = 1.0,
    seed: int = 0,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> int:
    """Fit a TF-IDF judge to labels or ratings, for the reward 'classifier'.

    Some prompts are held out first, to say how far the judge can be trusted; it is then fitted to the rest.

    Args:
        data: JSONL, parquet or a dataset with ``prompt``, ``completion`` and a label or rating.
        out: Folder of the judge; must not exist yet.
        column: Column of the target; by default ``label``, ``rating`` or ``ratings`` (their mean counts).
        scope: Judge the response alone, or the prompt and the response as one text.
        kind: Whether targets are labels or ratings; by default numbers are ratings, all else labels.
        test: Share of the prompts that is held out.
        strength: Of the penalty on the weights.
        seed: Chooses the prompts that are held out.
        as_json: Print the figures as JSON.
    """
    if not 0 < test < 1:
        raise UserError(f"--test is {test}; it must be between 0 and 1.")
    if not strength > 0:
        raise UserError(f"--strength is {strength}; it must be above 0.")
    if out.exists():
        raise UserError(f"The folder {out} exists already; choose another or remove it.")
    rows = read_labelled(data, column=column, scope=scope, kind=kind)
    train, held_out = split(rows, test, seed)
    model = TfidfModel.fit(train.texts, train.targets, strength=strength)
    figures = measure(model, train, held_out)
    model.save(out)
    if as_json:
        print(json.dumps(figures | {"out": str(out)}, indent=2))  # noqa: T201
    else:
        shown = ", ".join(
            f"{name} {value:.3f}" for name, value in figures.items() if isinstance(value, float)
        )
        print(f"Fitted to {figures['train']} texts; on {figures['test']} held-out texts: {shown}.")  # noqa: T201
        print(f"Use it as the source {{use: classifier, model: {out}}}.")  # noqa: T201
    return 0


def read_labelled(
    source: str, *, column: str | None = None, scope: Scope = "prompt+response", kind: str = "auto"
) -> dict[str, Labelled]:
    """Read texts and targets, by prompt.

    Args:
        source: See `textrl.data.records.read_records`.
        column: Of the target; None looks for one.
        scope: What of a record is the text.
        kind: As `fit_judge`.

    Raises:
        UserError: On a record that lacks a column or holds something else in it; names file and line.
    """
    found: list[tuple[str, str, Any]] = []
    for place, record in read_records(source):
        prompt, response = (_text(record, name, place) for name in ("prompt", "completion"))
        target = _target(record, column, place)
        found.append((prompt, response if scope == "response" else prompt + response, target))
    numbers = all(isinstance(target, float) for _, _, target in found)
    if kind == "ratings" and not numbers:
        odd = next(target for _, _, target in found if not isinstance(target, float))
        raise UserError(f"{source}: the target {odd!r} is no number; fit labels, or correct it.")
    if kind == "auto" and not numbers and any(isinstance(target, float) for _, _, target in found):
        raise UserError(
            f"{source}: some targets are numbers and some are not; say --kind labels, or correct them."
        )
    rows: dict[str, Labelled] = {}
    for prompt, text, target in found:
        one = rows.setdefault(prompt, Labelled([], []))
        one.texts.append(text)
        one.targets.append(target if numbers and kind != "labels" else _name(target))
    return rows


def split(rows: Mapping[str, Labelled], test: float, seed: int) -> tuple[Labelled, Labelled]:
    """Deal prompts into a part to fit and a part held out; a prompt's texts stay together.

    Raises:
        UserError: When there are too few prompts.
    """
    if len(rows) < 2:
        raise UserError(f"There are texts of {len(rows)} prompt; a judge needs two, one of them held out.")
    prompts = list(rows)
    order = [prompts[index] for index in keyed_order((seed,), len(prompts))]
    count = min(max(1, round(test * len(prompts))), len(prompts) - 1)
    return _joined([rows[prompt] for prompt in order[count:]]), _joined(
        [rows[prompt] for prompt in order[:count]]
    )


def measure(model: TfidfModel, train: Labelled, test: Labelled) -> dict[str, float | int]:
    """Return counts and held-out figures: accuracy and the commonest label's, or errors and pair accuracy."""
    logits = model.logits(test.texts)
    figures: dict[str, float | int] = {"train": len(train.texts), "test": len(test.texts)}
    if model.labels:
        said = [model.labels[index] for index in logits.argmax(1)]
        common = max(set(train.targets), key=train.targets.count)
        figures["accuracy"] = float(np.mean([a == b for a, b in zip(said, test.targets, strict=True)]))
        figures["commonest_label"] = float(np.mean([target == common for target in test.targets]))
        return figures
    truth = np.asarray(test.targets, dtype=np.float64)
    figures["rmse"] = float(np.sqrt(np.mean((logits[:, 0] - truth) ** 2)))
    figures["rmse_of_the_mean"] = float(
        np.sqrt(np.mean((np.mean(np.asarray(train.targets, float)) - truth) ** 2))
    )
    accuracy = pair_accuracy(logits[:, 0], truth)
    if not math.isnan(accuracy):  # no two held-out ratings need be 1 apart
        figures["pair_accuracy"] = accuracy
    return figures


def _joined(parts: Sequence[Labelled]) -> Labelled:
    targets: list[Any] = [target for part in parts for target in part.targets]
    return Labelled([text for part in parts for text in part.texts], targets)


def _text(record: Mapping[str, Any], column: str, place: str) -> str:
    if column not in record:
        raise UserError(f"{place}: there is no column '{column}'.{did_you_mean(column, map(str, record))}")
    if not isinstance(record[column], str):
        raise UserError(f"{place}: '{column}' is {record[column]!r}; it must be text.")
    return str(record[column])


def _target(record: Mapping[str, Any], column: str | None, place: str) -> str | bool | float:
    """Return a label as it is, and a rating (or the mean of several) as a float."""
    names = _COLUMNS if column is None else (column,)
    name = next((name for name in names if record.get(name) is not None), None)
    if name is None:
        raise UserError(f"{place}: there is no column {' or '.join(names)}; add a label or a rating.")
    value = record[name]
    if isinstance(value, list | tuple) and value and all(_is_number(item) for item in value):
        return float(np.mean(value))
    if isinstance(value, bool | str):
        return value
    if _is_number(value):
        return float(value)
    raise UserError(f"{place}: '{name}' is {value!r}; it must be a label, a number or a list of numbers.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _name(target: str | bool | float) -> str:
    if isinstance(target, bool):
        return str(target).lower()
    return f"{target:g}" if isinstance(target, float) else target
