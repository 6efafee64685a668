"""Files of records: JSON lists read as a stream, whole files or none, ratings, and rankings with margins."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from preference_world import read, write

from textrl.data.preferences import sources
from textrl.data.preferences.convert import convert
from textrl.data.preferences.rated import read_ratings
from textrl.data.preferences.sources import open_source, records_expected
from textrl.data.preferences.writing import Writer
from textrl.data.rankings import RankingGroup, groups_from_ratings, read_rankings
from textrl.errors import UserError

RECORDS = [{"prompt": 'a "[{,]}" é ' * n, "number": n} for n in range(1, 9)]


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
@pytest.mark.parametrize("form", ["list", "indented", "lines"])
def test_a_json_file_is_read_in_pieces_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, form: str
) -> None:
    file = tmp_path / "file.json"
    texts = {
        "list": json.dumps(RECORDS),
        "indented": "\ufeff" + json.dumps(RECORDS, indent=2) + "\n",
        "lines": "\n".join(json.dumps(record, ensure_ascii=False) for record in RECORDS),
    }
    file.write_text(texts[form], encoding="utf-8")
    monkeypatch.setattr(sources, "_CHUNK", chunk)
    found = list(open_source(file))
    assert [record for _, record in found] == RECORDS
    assert found[2][0] == f"{file}, item 3"
    with gzip.open(tmp_path / "file.json.gz", "wt", encoding="utf-8") as packed:
        packed.write(texts[form])
    assert [record for _, record in open_source(tmp_path / "file.json.gz")] == RECORDS


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[]", "holds no objects"),
        (b"", "holds no objects"),
        (b'[{"a": 1}, {"a": ', "item 2: the text is not JSON"),
        (b'[{"a": 1}', "not closed after item 1"),
        (b'[{"a": 1}, 3]', "item 2 is a int and no JSON object"),
        (b'[{"a": "\xff"}]', "not valid UTF-8"),
    ],
)
def test_a_json_file_that_cannot_be_read_says_where(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "file.json"
    file.write_bytes(content)
    with pytest.raises(UserError) as caught:
        list(open_source(file))
    assert says in str(caught.value)
    assert str(file) in str(caught.value)


def test_the_number_of_records_is_estimated(tmp_path: Path) -> None:
    file = write(tmp_path / "file.jsonl", [{"prompt": "x" * 100}] * 500)
    assert records_expected(file) == 500
    assert records_expected(tmp_path / "none.jsonl") is None


def write_and(out: Path, *records: Any, error: BaseException | None = None) -> None:
    """Write records, and fail in the midst of it."""
    with Writer(out) as writer:
        for record in records:
            writer.add(record)
        if error is not None:
            raise error


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".jsonl.gz", ".parquet"])
def test_a_file_appears_whole_or_not_at_all(tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"out{ending}"
    with pytest.raises(KeyboardInterrupt):
        write_and(out, {"a": 1}, error=KeyboardInterrupt())
    write_and(out)
    assert list(tmp_path.iterdir()) == []
    write_and(out, {"a": 1})
    before = out.read_bytes()
    with pytest.raises(RuntimeError):
        write_and(out, {"a": 2}, error=RuntimeError())
    assert (out.read_bytes(), list(tmp_path.iterdir())) == (before, [out])


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    for name, says in (("out.csv", "let it end in"), ("no/out.jsonl", "there is no folder")):
        with pytest.raises(UserError, match=says):
            Writer(tmp_path / name)
    with pytest.raises(UserError, match="cannot be JSON"):
        write_and(tmp_path / "out.jsonl", {"a": float("nan")})
    with pytest.raises(UserError, match="are no table"):
        write_and(tmp_path / "out.parquet", {"a": 1}, {"a": "one"})
    assert list(tmp_path.iterdir()) == []


def test_rankings_keep_margins_and_users(tmp_path: Path) -> None:
    pair = {"prompt": "p", "chosen": "a", "rejected": "b", "margin": 1.5, "user_id": 7}
    row = {"group": "g", "prompt": "q", "user_id": "u"}
    file = write(
        tmp_path / "file.jsonl",
        [pair, {**row, "completion": "a", "rank": 1}, {**row, "completion": "b", "rank": 2}],
    )
    assert read_rankings(file) == [
        RankingGroup("p", ("a", "b"), (1.0, 2.0), margin=1.5, user_id="7"),
        RankingGroup("q", ("a", "b"), (1.0, 2.0), None, "g", user_id="u"),
    ]
    for margin, ranks in ((-0.5, (1.0, 2.0)), (float("nan"), (1.0, 2.0)), (1.0, (1.0, 2.0, 3.0))):
        with pytest.raises(UserError, match="margin"):
            RankingGroup("p", tuple("abc")[: len(ranks)], ranks, margin=margin)


def test_conversations_are_read_as_rankings(tmp_path: Path) -> None:
    question = [{"role": "user", "content": "Why?"}]
    answers = [[{"role": "assistant", "content": text}] for text in ("So.", "No.")]
    file = write(
        tmp_path / "talk.jsonl", [{"prompt": question, "chosen": answers[0], "rejected": answers[1]}]
    )
    assert read_rankings(file) == [
        RankingGroup("\n\nHuman: Why?\n\nAssistant:", (" So.", " No."), (1.0, 2.0))
    ]


def rate(prompt: str, completion: str, **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "completion": completion, **more}


def test_who_ranked_and_rated_counts_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ranking = {"prompt": "p", "completions": ["a", "b"], "ranks": [1, 2]}
    by_ann = [ranking | {"annotator": "ann"}, *(rate("p", text, likert=3, annotator="ann") for text in "ab")]
    others = [rate("p", "a", rating=1, annotator="bob"), rate("p", "b", rating=2, annotator="bob")]
    file = write(tmp_path / "both.jsonl", [*by_ann, *others])
    assert [(group.annotator, group.ranks) for group in read_rankings(file)] == [
        ("ann", (1.0, 2.0)),
        ("bob", (2.0, 1.0)),
    ]
    assert "2 ratings of completions that the same person ranked are left out." in caplog.text
    # Nobody knows whether two judgements without a name are one person's.
    nameless = [ranking, rate("p", "a", rating=1), rate("p", "b", rating=2)]
    assert len(read_rankings(write(tmp_path / "nameless.jsonl", nameless))) == 2
    made = convert(file, tmp_path / "out.jsonl", to="textrl", form="ranking")
    assert made.notes["ratings left out of completions that the same person ranked"] == 2
    assert len(read_rankings(tmp_path / "out.jsonl")) == 2


def test_a_dialogue_with_an_annotator_is_no_ranking(tmp_path: Path) -> None:
    talk = {"messages": [{"role": "user", "content": "Why?"}], "annotator": "ann"}
    pair = {"prompt": "p", "chosen": "a", "rejected": "b", "annotator": "ann"}
    made = convert(
        write(tmp_path / "in.jsonl", [talk, pair]), tmp_path / "o.jsonl", to="textrl", form="ranking"
    )
    assert [group.completions for group in read_rankings(tmp_path / "o.jsonl")] == [("a", "b")]
    assert any("dialogue" in said for said in made.notes)


def test_ratings_rank_the_completions_of_a_prompt(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = write(
        tmp_path / "ratings.jsonl",
        [
            rate("p", "a", rating=1, annotator="ann", user_id="u"),
            rate("p", "b", rating=5, annotator="ann"),
            rate("p", "b", rating=2, annotator="ann"),  # with the 5: 3.5
            rate("p", "c", rating=3.5, annotator="ann"),
            rate("p", "a", rating=4, annotator="bob"),
            rate("q", "a", ratings=[1, 2, 3]),
            rate("q", "b", ratings=[4]),
            rate("r", "a", likert=2, annotator="ann"),
            rate("r", "b", likert=1, annotator="ann"),
            rate("", "a", ratings=[1, 2], annotators=["x", "y"], group=1),
            rate("", "b", ratings=[2, 1], annotators=["x", "y"], group=1),
        ],
    )
    groups = read_rankings(file)
    assert groups == [
        RankingGroup("p", ("a", "b", "c"), (2.0, 1.0, 1.0), "ann", user_id="u", ratings=(1.0, 3.5, 3.5)),
        RankingGroup("q", ("a", "b"), (2.0, 1.0), ratings=(2.0, 4.0)),
        RankingGroup("r", ("a", "b"), (1.0, 2.0), "ann", ratings=(2.0, 1.0)),
        RankingGroup("", ("a", "b"), (2.0, 1.0), "x", "1", ratings=(1.0, 2.0)),
        RankingGroup("", ("a", "b"), (1.0, 2.0), "y", "1", ratings=(2.0, 1.0)),
    ]
    assert "1 prompts with one rated completion" in caplog.text
    entries = read_ratings(file)
    assert [entry.mean for entry in entries[:2]] == [1.0, 5.0]
    assert entries[5].ratings == (1.0, 2.0, 3.0)
    assert entries[9].annotators == ("x", "y")
    assert len(groups_from_ratings(entries, 3, seed=0)) == 3


def test_ratings_that_compare_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="line 1: no prompt has two completions"):
        read_rankings(write(tmp_path / "one.jsonl", [rate("p", "a", rating=1), rate("q", "a", rating=1)]))
    with pytest.raises(UserError, match="line 1: a rating without a prompt"):
        read_rankings(write(tmp_path / "two.jsonl", [rate("", "a", rating=1), rate("", "b", rating=2)]))
    with pytest.raises(UserError, match="line 1 has flags and no rating"):
        read_ratings(write(tmp_path / "flags.jsonl", [rate("p", "a", flags={"rude": True})]))
    with pytest.raises(UserError, match="line 1 holds a pair and no rating"):
        read_ratings(write(tmp_path / "pair.jsonl", [{"prompt": "p", "chosen": "a", "rejected": "b"}]))
    assert read(tmp_path / "pair.jsonl")
