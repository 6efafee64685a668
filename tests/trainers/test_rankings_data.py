"""Rankings from files and from ratings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from textrl.data.rankings import RankingGroup, groups_from_ratings, read_rankings
from textrl.errors import UserError


def write(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def test_pairs_and_ties(tmp_path: Path) -> None:
    file = write(
        tmp_path / "pairs.jsonl",
        {"prompt": "p", "chosen": "a", "rejected": "b", "annotator": "ann"},
        {"prompt": "q", "chosen": "c", "rejected": "d", "tie": True},
    )
    assert read_rankings(file) == [
        RankingGroup("p", ("a", "b"), (1.0, 2.0), "ann"),
        RankingGroup("q", ("c", "d"), (1.0, 1.0)),
    ]


def test_a_group_is_put_together_from_its_lines_wherever_they_stand(tmp_path: Path) -> None:
    file = write(
        tmp_path / "groups.jsonl",
        {"group": 7, "prompt": "p", "completion": "a", "rank": 2},
        {"prompt": "q", "completions": ["x", "y", "z"], "ranks": [1, 2, 2]},
        {"group": 7, "prompt": "p", "completion": "b", "rank": 1.5},
        {"group": 7, "prompt": "p", "completion": "c", "rank": 2},
    )
    assert read_rankings(file) == [
        RankingGroup("p", ("a", "b", "c"), (2.0, 1.5, 2.0), None, "7"),
        RankingGroup("q", ("x", "y", "z"), (1.0, 2.0, 2.0)),
    ]


def test_two_people_who_rank_one_group_give_two_rankings(tmp_path: Path) -> None:
    file = write(
        tmp_path / "people.jsonl",
        *(
            {"group": "g", "prompt": "p", "completion": text, "rank": rank, "annotator": who}
            for who, order in (("ann", "ab"), ("bob", "ba"))
            for rank, text in enumerate(order, start=1)
        ),
    )
    first, second = read_rankings(file)
    assert (first.annotator, first.completions) == ("ann", ("a", "b"))
    assert (second.annotator, second.completions) == ("bob", ("b", "a"))


PAIR = {"prompt": "p", "chosen": "a", "rejected": "b"}


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"prompt": "p", "chosen": "a"}, "no 'rejected'"),
        ({"chosen": "a", "rejected": "b"}, "no 'prompt'"),
        ({**PAIR, "chosen": ["a"]}, "'chosen' is ['a']"),
        ({**PAIR, "chosen": "a\0"}, "NUL"),
        ({**PAIR, "tie": "yes"}, "'tie' is 'yes'"),
        ({**PAIR, "annotator": ["x"]}, "'annotator'"),
        ({"prompt": "p", "completion": "a"}, "has the columns completion, prompt"),
        ({"prompt": "p", "completions": ["a", "b"], "ranks": [1]}, "1 ranks"),
        ({"prompt": "p", "completions": ["a"], "ranks": [1]}, "two completions"),
        ({"prompt": "p", "completions": ["a", 3], "ranks": [1, 2]}, "a completion is 3"),
        ({"prompt": "p", "completions": ["a", "b"], "ranks": [1, True]}, "'ranks' is True"),
        ({"prompt": "p", "completions": "ab", "ranks": [1, 2]}, "lists"),
        ({"group": 1, "prompt": "p", "completion": "a", "rank": "best"}, "'rank' is 'best'"),
        ({"group": 1, "prompt": "p", "completion": "a"}, "'rank' is None"),
        ({"group": 1, "prompt": "p", "completion": "a", "rank": float("nan")}, "'rank' is nan"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, record: dict[str, Any], says: str) -> None:
    file = write(tmp_path / "bad.jsonl", PAIR, record)
    with pytest.raises(UserError) as caught:
        read_rankings(file)
    assert f"{file}, line 2" in str(caught.value)
    assert says in str(caught.value)


def test_groups_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    row = {"group": "g", "prompt": "p", "completion": "a", "rank": 1}
    with pytest.raises(UserError, match=r"line 1: the group 'g' has only one completion"):
        read_rankings(write(tmp_path / "one.jsonl", row))
    with pytest.raises(UserError, match=r"line 2: the group 'g' has another prompt"):
        read_rankings(write(tmp_path / "two.jsonl", row, {**row, "prompt": "q"}))


@dataclass(frozen=True)
class Text:
    text: str
    mean: float


def test_rankings_from_ratings_use_every_text_once_a_round() -> None:
    texts = [Text(str(i), i / 2) for i in range(11)]
    groups = groups_from_ratings(texts, 4, seed=3, rounds=2)
    assert len(groups) == 4
    for deal in (groups[:2], groups[2:]):
        assert len({text for group in deal for text in group.completions}) == 8
    assert {g.completions for g in groups[:2]} != {g.completions for g in groups[2:]}
    assert groups == groups_from_ratings(texts, 4, seed=3, rounds=2)
    assert groups != groups_from_ratings(texts, 4, seed=4, rounds=2)
    for group in groups:
        by_rank = [text for _, text in sorted(zip(group.ranks, group.completions, strict=True))]
        assert by_rank == sorted(group.completions, key=float, reverse=True)


def test_ties_are_transitive_and_measured_from_their_best_text() -> None:
    texts = [Text("a", 2.2), Text("b", 2.0), Text("c", 1.9), Text("d", -1.0)]
    (group,) = groups_from_ratings(texts, 4, seed=0, tie_margin=0.2)
    # b is within 0.2 of a; c is within 0.2 of b but not of a.
    assert dict(zip(group.completions, group.ranks, strict=True)) == {"a": 1, "b": 1, "c": 2, "d": 3}


def test_too_few_texts_or_a_wrong_k_are_refused() -> None:
    with pytest.raises(UserError, match="fewer than the 4"):
        groups_from_ratings([Text("a", 1.0)], 4, seed=0)
    with pytest.raises(UserError, match="k is 1"):
        groups_from_ratings([Text("a", 1.0)], 1, seed=0)
