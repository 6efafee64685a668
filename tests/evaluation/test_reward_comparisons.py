from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textrl.errors import UserError
from textrl.evaluation.reward_models.ceiling import ceiling
from textrl.evaluation.reward_models.comparisons import Comparisons, TextTable, from_ratings
from textrl.evaluation.reward_models.drawing import draw_pairs
from textrl.evaluation.reward_models.orders import agreement
from textrl.evaluation.reward_models.reading import annotator_groups, read_comparisons


def write(folder: Path, records: Sequence[Mapping[str, Any]], name: str = "said.jsonl") -> str:
    path = folder / name
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)


def shown(data: Comparisons) -> list[tuple[str, str, bool, float]]:
    """Return (better, worse, tie, margin) with the texts themselves; NaN as -1."""
    pairs = data.pairs
    rows = zip(pairs.better, pairs.worse, pairs.tie, pairs.margin, strict=True)
    return [
        (data.texts[a].completion, data.texts[b].completion, bool(t), -1.0 if math.isnan(m) else float(m))
        for a, b, t, m in rows
    ]


def test_pairs_with_margins_and_ties(tmp_path: Path) -> None:
    file = write(tmp_path, [
        {"prompt": "p", "chosen": "a", "rejected": "b", "margin": 2.5, "annotator": 7, "source": "x"},
        {"prompt": "p", "chosen": "b", "rejected": "c", "tie": True},
        {"prompt": "q", "chosen": "a", "rejected": "b", "margin": 0.5},
    ])  # fmt: skip
    data = read_comparisons(file)
    assert shown(data) == [("a", "b", False, 2.5), ("b", "c", True, -1.0), ("a", "b", False, 0.5)]
    assert len(data.texts) == 5  # "a" to another prompt is another text
    assert (data.margin_kind, data.possible) == ("margin", 3)
    assert data.column("annotator") == ["7", None, None]
    assert data.column("source") == ["x", None, None]
    assert np.isnan(data.pairs.earlier).all()  # a pair names the better text first, wherever it stood
    assert data.pairs.first[0] == data.pairs.first[1] != data.pairs.first[2]
    # Asked for a margin of 1, the last one counts as a tie; where no margin is known nothing changes.
    assert [row[2] for row in shown(read_comparisons(file, least=1.0))] == [False, True, True]
    with pytest.raises(UserError, match=r"no record has a column 'annotatr'.*Did you mean 'annotator'"):
        data.column("annotatr")


def test_rankings_of_both_forms(tmp_path: Path) -> None:
    file = write(tmp_path, [
        {"prompt": "p", "completions": ["a", "b", "c"], "ranks": [2, 1, 1]},
        {"group": 1, "prompt": "q", "completion": "d", "rank": 2, "source": "s"},
        {"group": 1, "prompt": "q", "completion": "e", "rank": 1, "source": "t"},
    ])  # fmt: skip
    data = read_comparisons(file)
    assert shown(data) == [
        ("b", "a", False, 1.0),
        ("c", "a", False, 1.0),
        ("b", "c", True, 0.0),
        ("e", "d", False, -1.0),
    ]
    assert data.pairs.earlier.tolist()[:2] == [0.0, 0.0]
    assert [ranking.columns for ranking in data.rankings] == [{}, {"group": "1", "source": "s"}]


def test_a_ranking_may_carry_ratings(tmp_path: Path) -> None:
    file = write(tmp_path, [{"prompt": "p", "completions": ["a", "b"], "ranks": [1, 2], "ratings": [7, 3]}])
    data = read_comparisons(file)
    assert shown(data) == [("a", "b", False, 4.0)]
    assert data.margin_kind == "rating"


def test_splits_of_a_file(tmp_path: Path) -> None:
    file = write(tmp_path, [
        {"prompt": "p", "chosen": "a", "rejected": "b", "split": "train"},
        {"prompt": "q", "chosen": "c", "rejected": "d", "split": "test"},
    ])  # fmt: skip
    assert [row[0] for row in shown(read_comparisons(file, split="test"))] == ["c"]
    assert any("splits test (1 records), train (1 records)" in note for note in read_comparisons(file).notes)
    with pytest.raises(UserError, match=r"no record has the split 'tst'.*Did you mean 'test'"):
        read_comparisons(file, split="tst")


def test_ratings_are_gathered_by_text_and_compared(tmp_path: Path) -> None:
    file = write(tmp_path, [
        {"completion": "a", "rating": 1, "annotator": 1},
        {"completion": "b", "ratings": [4, 2]},
        {"completion": "a", "rating": 2, "annotator": 2},
        {"completion": "c", "likert": 3},
    ])  # fmt: skip
    data = read_comparisons(file)
    assert data.ratings == ((1.0, 2.0), (4.0, 2.0), (3.0,))
    assert sorted(shown(data)) == [("b", "a", False, 1.5), ("b", "c", True, 0.0), ("c", "a", False, 1.5)]
    # Prompts say nothing here, so texts are what is drawn again.
    assert (data.pairs.first != data.pairs.second).all()


def test_ratings_of_completions_are_compared_within_their_prompt(tmp_path: Path) -> None:
    rows = [("p", "a", 1), ("q", "b", 5), ("p", "c", 3), ("r", "d", 4), ("q", "e", 4)]
    file = write(tmp_path, [{"prompt": p, "completion": c, "rating": r} for p, c, r in rows])
    data = read_comparisons(file)
    assert sorted(shown(data)) == [("b", "e", False, 1.0), ("c", "a", False, 2.0)]
    assert (data.pairs.first == data.pairs.second).all()
    assert "1 prompts with one text each are left out." in data.notes


PAIR = {"prompt": "p", "chosen": "a", "rejected": "b", "source": "s"}


@pytest.mark.parametrize("pairs", [1, 3])
def test_pairs_and_ratings_in_one_file(tmp_path: Path, pairs: int) -> None:
    # With one pair there are as many rankings as records that are none: counting them told nothing.
    records = [
        *({**PAIR, "prompt": f"p{i}"} for i in range(pairs)),
        {"prompt": "q", "completion": "c", "ratings": [1, 3]},
        {"prompt": "q", "completion": "d", "rating": 5, "source": "t"},
        {"prompt": "r", "completion": "e", "rating": 5},
    ]
    for ordered in (records, records[::-1]):
        data = read_comparisons(write(tmp_path, ordered))
        assert sorted(shown(data)) == [("a", "b", False, -1.0)] * pairs + [("d", "c", False, 3.0)]
        assert data.column("source") == ["s"] * pairs + [None]
        rated = {text.completion: one for text, one in zip(data.texts, data.ratings, strict=True)}
        assert rated == {"a": (), "b": (), "c": (1.0, 3.0), "d": (5.0,), "e": (5.0,)}
        assert any("rankings and ratings" in note for note in data.notes)
        assert "1 prompts with one text each are left out." in data.notes
        assert ceiling(data, np.zeros(len(data.texts))) is None


@pytest.mark.parametrize("first", [True, False])
def test_who_ranked_and_rated_counts_once(tmp_path: Path, first: bool) -> None:
    """As a session is converted: the ranking, then a score or flags alone for each of its completions."""
    who = {"prompt": "p", "annotator": "ann", "group": "s/1"}
    records = [
        {**who, "completions": ["a", "b"], "ranks": [1, 2]},
        {**who, "completion": "a", "likert": 2},
        {**who, "completion": "b", "flags": {"toxic": True}},
    ]
    data = read_comparisons(write(tmp_path, records if first else records[::-1]))
    assert shown(data) == [("a", "b", False, -1.0)]
    assert "2 ratings of completions that the same person ranked are left out." in data.notes
    other = [record | {"annotator": "bob"} for record in records[1:2]]
    assert len(read_comparisons(write(tmp_path, [*records, *other])).ratings) == 2


def test_messages_can_be_rated(tmp_path: Path) -> None:
    def said(text: str, rating: float) -> dict[str, Any]:
        ask, answer = (
            [{"role": role, "content": one}] for role, one in (("user", "Why?"), ("assistant", text))
        )
        return {"prompt": ask, "completion": answer, "rating": rating}

    data = read_comparisons(write(tmp_path, [said("So.", 2), said("No.", 1)]))
    (better, worse, _, _) = shown(data)[0]
    assert ("So." in better, "No." in worse, "Why?" in data.texts[0].prompt) == (True, True, True)


def test_a_text_knows_its_place_and_the_columns_that_are_no_verdict(tmp_path: Path) -> None:
    file = write(tmp_path, [
        {**PAIR, "annotator": "x", "margin": 1, "refuse": True},
        {"group": 1, "prompt": "q", "completion": "c", "rank": 2, "page": 1},
        {"group": 1, "prompt": "q", "completion": "d", "rank": 1, "page": 2},
        {**PAIR, "rejected": "e", "refuse": False},
        {"prompt": "q", "completions": ["f", "c"], "ranks": [1, 2], "page": 1, "group": 1},
    ])  # fmt: skip
    data = read_comparisons(file)
    known = {text.completion: (text.where, dict(text.record)) for text in data.texts}
    first = {"prompt": "p", "source": "s", "refuse": True}
    assert known["a"] == known["b"] == (f"{file}, line 1", first)
    assert known["c"] == (f"{file}, line 2", {"group": 1, "prompt": "q", "page": 1})
    assert known["d"] == (f"{file}, line 3", {"group": 1, "prompt": "q", "page": 2})
    assert known["e"] == (f"{file}, line 4", {**first, "refuse": False})
    assert known["f"][0] == f"{file}, line 5"
    # Text "a" stands in lines 1 and 4, "c" in 2 and 5.
    assert data.differing == ("refuse",)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([{"completion": "a", "rating": 1}], "only 1 text is rated"),
        ([{"completion": "a", "rating": 1}, {"completion": "b"}], "line 2 has no rating"),
        ([{"completion": "a", "ratings": []}], "line 1: 'ratings' is"),
        ([{"completion": "a", "rating": True}], "line 1: 'rating' is True"),
        ([{"completion": 3, "rating": 1}], "line 1: 'completion' is 3"),
        ([{"prompt": "p", "completion": "x"}], "has the columns"),
        (
            [PAIR, {"prompt": "p", "completion": "x", "label": True}],
            "line 2 has no rating, no rank and no pair",
        ),
        (
            [PAIR, {"prompt": "p", "completion": "x", "flags": {"rude": True}}],
            "line 2 has flags and no rating",
        ),
    ],
)
def test_mistakes_in_a_file_are_named(
    tmp_path: Path, records: Sequence[Mapping[str, Any]], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        read_comparisons(write(tmp_path, records))


def test_unknown_ratings_and_parts() -> None:
    with pytest.raises(UserError, match=r"no ratings 'movies'.*Did you mean 'movie'"):
        read_comparisons("ratings:movies")
    with pytest.raises(UserError, match=r"write ratings:movie/test"):
        read_comparisons("ratings:movie", split="test")


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 40), st.integers(1, 300), st.integers(0, 5))
def test_drawn_pairs_are_pairs_and_different(count: int, most: int, seed: int) -> None:
    one, two = draw_pairs(count, most, seed)
    assert (
        len(set(zip(one.tolist(), two.tolist(), strict=True)))
        == len(one)
        == min(most, count * (count - 1) // 2)
    )
    assert ((one >= 0) & (one < two) & (two < count)).all()


def test_many_rankings_are_drawn_whole(tmp_path: Path) -> None:
    records = [{"prompt": f"p{i}", "completions": ["a", "b", "c"], "ranks": [1, 2, 3]} for i in range(20)]
    data = read_comparisons(write(tmp_path, records), most_pairs=12)
    assert (len(data.pairs), len(data.rankings), data.possible) == (12, 4, 60)
    assert any("Of 20 rankings, 4 were drawn" in note for note in data.notes)


def test_annotator_groups(tmp_path: Path) -> None:
    path = tmp_path / "groups.yaml"
    path.write_text("training: [1, ann]\nheld-out: [bob]\n", encoding="utf-8")
    assert annotator_groups(path) == {"1": "training", "ann": "training", "bob": "held-out"}
    path.write_text("a: [1]\nb: [1]\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"'1' is in the groups 'a' and 'b'"):
        annotator_groups(path)
    path.write_text("[1]", encoding="utf-8")
    with pytest.raises(UserError, match="from groups to lists of annotators"):
        annotator_groups(path)


def test_the_ceiling_of_ratings_is_that_of_all_ways_to_set_ratings_apart() -> None:
    ratings = [(1, 2, 4), (3, 3, 0), (2, 2), (4, 1, 1)]
    table = TextTable()
    for i in range(len(ratings)):
        table.index("", f"t{i}")
    data = from_ratings("x", table, ratings, least=0.4)
    scores = np.array([1.0, 0.5, 2.0, 0.1])
    top = {"human": 0.0, "model": 0.0}
    foot = 0.0
    for i in range(4):
        for j in range(i):
            ways = len(ratings[i]) * len(ratings[j])
            for a in range(len(ratings[i])):
                for b in range(len(ratings[j])):
                    others = np.mean(np.delete(ratings[i], a)) - np.mean(np.delete(ratings[j], b))
                    if abs(others) < 0.4:
                        continue
                    own = (ratings[i][a] - ratings[j][b]) * np.sign(others)
                    top["human"] += float(agreement([own])[0]) / ways
                    top["model"] += float(agreement([(scores[i] - scores[j]) * np.sign(others)])[0]) / ways
                    foot += 1 / ways
    found = [ceiling(data, scores, least=0.4, seed=seed, resamples=100) for seed in range(60)]
    assert found[0] is not None
    assert found[0].basis == "ratings"
    for name in ("human", "model"):
        values = [getattr(one, name).value for one in found]
        assert np.mean(values) == pytest.approx(top[name] / foot, abs=0.02)


def test_the_ceiling_of_annotators_by_hand(tmp_path: Path) -> None:
    def said(who: str, prompt: str, chosen: str, rejected: str, tie: bool = False) -> dict[str, Any]:
        return {"prompt": prompt, "chosen": chosen, "rejected": rejected, "tie": tie, "annotator": who}

    file = write(tmp_path, [
        said("x", "p", "a", "b"), said("y", "p", "a", "b"), said("z", "p", "b", "a"),
        said("x", "q", "c", "d"), said("y", "q", "c", "d", tie=True),
        said("x", "r", "e", "f"),
    ])  # fmt: skip
    data = read_comparisons(file)
    score = {"a": 1.0, "b": 0.0, "c": 0.0, "d": 1.0, "e": 0.0, "f": 0.0}
    found = ceiling(data, np.array([score[text.completion] for text in data.texts]))
    assert found is not None
    # p: x has y and z against each other (no majority), so has y; z against x and y: wrong.
    # q: x against y's tie: no majority; y, who ties, against x: half.
    assert found.human.value == pytest.approx((0 + 0.5) / 2)
    # The model against x and y on p: right; against x on q: wrong.
    assert found.model.value == pytest.approx((1 + 0) / 2)
    # Decided by both: x-y agree, x-z and y-z do not; on q one of them ties.
    assert (found.between.value, found.between.n) == (pytest.approx(1 / 3), 3)
    assert found.annotators == 3


def test_without_second_opinions_there_is_no_ceiling(tmp_path: Path) -> None:
    data = read_comparisons(
        write(tmp_path, [{"prompt": "p", "chosen": "a", "rejected": "b", "annotator": 1}])
    )
    assert ceiling(data, np.zeros(2)) is None
    data = read_comparisons(
        write(tmp_path, [{"completion": "a", "rating": 1}, {"completion": "b", "rating": 2}])
    )
    assert ceiling(data, np.zeros(2)) is None
