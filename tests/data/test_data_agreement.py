"""Agreement: published worked examples, scikit-learn, enumeration; judgements from every form of record."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textrl.cli import main
from textrl.data.preferences.agreement import agreement_of
from textrl.data.preferences.reliability import (
    Judgements,
    Metric,
    alpha,
    coincidences,
    kappa,
    ordered_pairs,
    pair_tables,
    with_interval,
)

X = None  # nothing said
# Krippendorff (2011), section C: four observers, twelve units.
FOUR = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, X, X, X],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, X, 3],
    [X, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, X],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, X],
]
# The same paper, section A: Meg and Owen, binary; section B: Ben and Gerry, five letters.
TWO_BINARY = [[0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]]
TWO_LETTERS = [[ord(c) for c in "aabbdcccedda"], [ord(c) for c in "babbbccceddd"]]


def judged(rows: list[list[Any]]) -> Judgements:
    said = [
        (unit, value, rater)
        for rater, row in enumerate(rows)
        for unit, value in enumerate(row)
        if value is not X
    ]
    item, value, rater = (np.asarray(column) for column in zip(*said, strict=True))
    return Judgements(item, value.astype(float), rater, np.arange(len(rows[0])))


def alpha_of(one: Judgements, metric: Metric) -> float:
    values, tables = coincidences(one, *ordered_pairs(one.item))
    size = len(values)
    return alpha(np.asarray(tables.sum(axis=0)).reshape(size, size), values, metric)


@pytest.mark.parametrize(
    ("rows", "metric", "published"),
    [
        (FOUR, "nominal", 0.743),
        (FOUR, "ordinal", 0.815),
        (FOUR, "interval", 0.849),
        (TWO_BINARY, "nominal", 0.095),
        (TWO_LETTERS, "nominal", 0.692),
    ],
)
def test_alpha_of_the_published_examples(rows: list[list[Any]], metric: Metric, published: float) -> None:
    assert alpha_of(judged(rows), metric) == pytest.approx(published, abs=5e-4)


def alpha_by_hand(one: Judgements, metric: Metric) -> float:
    """Write the definition out: squared differences within items over those among all judgements."""
    usable = [i for i in range(len(one.item)) if (one.item == one.item[i]).sum() > 1]
    values = one.value[usable]

    def distance(a: float, b: float) -> float:
        if metric == "nominal":
            return float(a != b)
        if metric == "interval":
            return (a - b) ** 2
        low, high = min(a, b), max(a, b)
        between = ((values >= low) & (values <= high)).sum()
        return float(between - ((values == a).sum() + (values == b).sum()) / 2) ** 2

    within = 0.0
    for unit in set(one.item[usable].tolist()):
        said = one.value[one.item == unit]
        within += sum(distance(a, b) for a, b in permutations(said, 2)) / (len(said) - 1)
    among = sum(distance(a, b) for a, b in permutations(values, 2)) / (len(values) - 1)
    return 1 - within / among if among else float("nan")


CELLS = st.lists(st.sampled_from([X, 1, 2, 2.5, 7]), min_size=6, max_size=6)


@given(
    rows=st.lists(CELLS, min_size=2, max_size=4), metric=st.sampled_from(["nominal", "ordinal", "interval"])
)
@settings(deadline=None)
def test_alpha_is_its_definition(rows: list[list[Any]], metric: Metric) -> None:
    if all(value is X for row in rows for value in row):
        return
    one = judged(rows)
    if len(ordered_pairs(one.item)[0]):
        assert alpha_of(one, metric) == pytest.approx(alpha_by_hand(one, metric), nan_ok=True)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=30))
@settings(deadline=None, max_examples=30)
def test_kappa_is_that_of_scikit_learn(said: list[tuple[int, int]]) -> None:
    from sklearn.metrics import cohen_kappa_score

    first, second = (list(column) for column in zip(*said, strict=True))
    if len({*first, *second}) < 2:
        return
    one = judged([first, second])
    a, b = ordered_pairs(one.item)
    forward = one.rater[a] < one.rater[b]
    values, tables = pair_tables(one, a[forward], b[forward])
    size = len(values)
    table = np.asarray(tables.sum(axis=0)).reshape(size, size)
    labels = values.astype(int).tolist()
    assert kappa(table, values) == pytest.approx(cohen_kappa_score(first, second, labels=labels))
    # scikit-learn weighs by the places of the labels, not by their values: give it every value in between.
    every = list(range(4))
    weighted = cohen_kappa_score(first, second, labels=every, weights="quadratic")
    assert kappa(table, values, "quadratic") == pytest.approx(weighted)


def test_an_interval_is_that_of_drawing_whole_prompts() -> None:
    rng = np.random.default_rng(1)
    agreed = rng.random(60) < 0.7
    cluster = np.repeat(np.arange(20), 3)
    rows = [[1] * 60, [1 if same else 2 for same in agreed]]
    one = Judgements(*[getattr(judged(rows), name) for name in ("item", "value", "rater")], cluster)
    _, tables = pair_tables(one, *ordered_pairs(one.item))
    found = with_interval(tables, cluster, lambda t: float(np.trace(t) / t.sum()), seed=0, resamples=4000)
    assert found is not None
    assert found.value == pytest.approx(agreed.mean())
    by_prompt = agreed.reshape(20, 3).mean(axis=1)
    drawn = by_prompt[np.random.default_rng(5).integers(20, size=(20_000, 20))].mean(axis=1)
    assert [found.lo, found.hi] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.02)


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def test_pairs_and_rankings_are_the_same_judgements(tmp_path: Path) -> None:
    pairs = [
        {"prompt": "p", "chosen": "a", "rejected": "b", "annotator": "ann"},
        {"prompt": "p", "chosen": "b", "rejected": "a", "annotator": "bob"},
        {"prompt": "p", "chosen": "a", "rejected": "b", "annotator": "cyd", "tie": True},
        {"prompt": "q", "chosen": "a", "rejected": "b", "annotator": "ann"},
        {"prompt": "q", "chosen": "a", "rejected": "b", "annotator": "bob"},
    ]
    whole = [
        {"prompt": "p", "completions": ["b", "a"], "ranks": [2, 1], "annotator": "ann"},
        {"prompt": "p", "completions": ["a", "b"], "ranks": [2, 1], "annotator": "bob"},
        {"prompt": "p", "completions": ["a", "b"], "ranks": [1, 1], "annotator": "cyd"},
    ]
    whole += [
        {"prompt": "q", "completions": ["a", "b"], "ranks": [1, 2], "annotator": who}
        for who in ("ann", "bob")
    ]
    rows = [
        {"group": f"{r['prompt']} {r['annotator']}", "prompt": r["prompt"], "completion": c, "rank": k,
         "annotator": r["annotator"]}
        for r in whole for c, k in zip(r["completions"], r["ranks"], strict=True)
    ]  # fmt: skip
    reports = [
        agreement_of(write(tmp_path / f"{i}.jsonl", records), resamples=50).kinds["comparison"]
        for i, records in enumerate((pairs, whole, rows))
    ]
    assert reports[0] == reports[1] == reports[2]
    found = reports[0]
    assert (found.items, found.shared, found.judgements, found.raters) == (2, 2, 5, 3)
    assert found.agreement is not None
    assert found.agreement["value"] == pytest.approx(1 / 4)  # of three pairs of people on p none, on q one
    assert found.without_ties is not None
    assert found.without_ties["value"] == pytest.approx(1 / 2)
    assert found.ties == pytest.approx(1 / 5)


@given(flip=st.lists(st.booleans(), min_size=8, max_size=8))
@settings(deadline=None, max_examples=20)
def test_which_completion_comes_first_changes_nothing(flip: list[bool], tmp_path_factory: Any) -> None:
    """Texts are compared in the order of the alphabet, which is arbitrary: renaming them must not matter."""
    folder = tmp_path_factory.mktemp("flip")

    def records(renamed: list[bool]) -> list[dict[str, Any]]:
        found = []
        for item in range(8):
            names = ("b", "a") if renamed[item] else ("a", "b")
            for who in range(3):
                better = (item * 7 + who * item) % 3 == 0
                chosen, rejected = names if better else names[::-1]
                found.append({"prompt": f"p{item}", "chosen": chosen, "rejected": rejected, "annotator": who})
        return found

    one = agreement_of(write(folder / "a.jsonl", records([False] * 8)), resamples=5).kinds["comparison"]
    two = agreement_of(write(folder / "b.jsonl", records(flip)), resamples=5).kinds["comparison"]
    assert one.alpha["nominal"]["value"] == pytest.approx(two.alpha["nominal"]["value"])  # type: ignore[index]


def test_ratings_labels_and_flags(tmp_path: Path) -> None:
    records: list[dict[str, Any]] = [
        {"prompt": "p", "completion": "a", "ratings": [1, 2], "annotators": ["ann", "bob"]},
        {"prompt": "p", "completion": "b", "ratings": [4, 4]},
        {"prompt": "p", "completion": "a", "likert": 6, "flags": {"harm": False}, "annotator": "ann"},
        {"prompt": "p", "completion": "a", "likert": 6, "flags": {"harm": True}, "annotator": "bob"},
        {"prompt": "p", "completion": "a", "label": True, "annotator": "ann"},
        {"prompt": "p", "completion": "a", "label": True, "annotator": "bob"},
        {"prompt": "p", "completion": "a", "label": False, "annotator": "bob"},
        {"prompt": "nothing judged"},
    ]
    report = agreement_of(write(tmp_path / "a.jsonl", records), resamples=20)
    values = {kind: one.agreement and one.agreement["value"] for kind, one in report.kinds.items()}
    assert values == {"rating": 0.5, "likert": 1.0, "flag harm": 0.0, "label": 1.0}
    assert report.kinds["label"].repeated == report.kinds["label"].contradicted == 1
    assert report.kinds["label"].alpha == {"nominal": None}  # everybody says the same: not defined
    assert (report.anonymous, report.others) == (2, 1)


def test_named_people_get_a_kappa(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [[1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 5], [1, 2, 3, 4, 4, 1, 2, 2, 4, 5, 2, 5]]
    records = [
        {"prompt": f"p{i}", "completion": "c", "rating": value, "annotator": who}
        for who, row in zip(("ann", "bob"), rows, strict=True)
        for i, value in enumerate(row)
    ]
    source = write(tmp_path / "a.jsonl", records)
    from sklearn.metrics import cohen_kappa_score

    expected = cohen_kappa_score(*rows, weights="quadratic")
    assert main(["data", "agreement", str(source), "--resamples", "100", "--json"]) == 0
    line = json.loads(capsys.readouterr().out)["kinds"]["rating"]["kappas"][0]
    assert line["raters"] == ["ann", "bob"]
    assert line["kappa"]["value"] == pytest.approx(expected)
    assert line["kappa"]["lo"] < expected < line["kappa"]["hi"]
    assert main(["data", "agreement", str(source), "--resamples", "100"]) == 0
    assert "ann and bob (12 items)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([{"prompt": "p", "completion": "c", "rating": 1}], "none of the 1 items was judged by two people"),
        ([{"prompt": "p"}], "no record judges anything"),
        ([{"prompt": "p", "completion": "c", "rating": "good"}], "line 1"),
    ],
)
def test_nothing_to_compare(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], records: list[dict[str, Any]], said: str
) -> None:
    assert main(["data", "agreement", str(write(tmp_path / "a.jsonl", records))]) == 2
    assert said in capsys.readouterr().err
