"""Converting to a format and back gives the same rankings, wherever the format can hold them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from preference_world import NAMES, TEXTS, dialogues, rankings, read, write

from textrl.data.preferences.convert import convert
from textrl.data.preferences.schema import canonical
from textrl.data.rankings import RankingGroup, read_rankings

SOME = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ANNOTATED = st.builds(lambda record, who: {**record, "annotator": who}, rankings(), NAMES)


def there_and_back(folder: Path, records: list[dict[str, Any]], name: str, ending: str = ".json") -> Path:
    """Convert to a format and back, guessing what it is on the way back."""
    start, middle, end = (
        write(folder / "start.jsonl", records),
        folder / f"there{ending}",
        folder / "end.jsonl",
    )
    convert(start, middle, to=name)
    result = convert(middle, end, to="textrl")
    assert (result.guessed, result.origin) == (True, name)
    return end


def essence(group: RankingGroup) -> Any:
    """What a ranking says: order of completions and numbering of ranks do not matter."""
    dense = sorted(set(group.ranks))
    said = sorted(
        (dense.index(rank), text) for rank, text in zip(group.ranks, group.completions, strict=True)
    )
    return group.prompt, said, group.annotator, group.group, group.user_id


def essences(path: Path) -> list[Any]:
    return [essence(group) for group in read_rankings(path)]


@SOME
@given(records=st.lists(ANNOTATED, min_size=1, max_size=4))
@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("label-studio", ".json"),
        ("label-studio", ".parquet"),
        ("argilla", ".jsonl"),
        ("session", ".jsonl"),
        ("session", ".parquet"),
    ],
)
def test_the_labelling_tools_hold_rankings_with_ties_and_annotators(
    tmp_path: Path, name: str, ending: str, records: list[dict[str, Any]]
) -> None:
    end = there_and_back(tmp_path, records, name, ending)
    assert essences(end) == essences(tmp_path / "start.jsonl")


@SOME
@given(records=st.lists(rankings(spaced=True), min_size=1, max_size=4))
def test_open_assistant_holds_rankings_of_dialogues(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    records = [{"group": f"g{index}", **record} for index, record in enumerate(records)]
    end = there_and_back(tmp_path, records, "oasst", ".jsonl")
    assert essences(end) == essences(tmp_path / "start.jsonl")


@SOME
@given(records=st.lists(rankings(), min_size=1, max_size=4))
def test_qa_feedback_holds_rankings_with_ties(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    end = there_and_back(tmp_path, records, "qa-feedback", ".json")
    assert essences(end) == essences(tmp_path / "start.jsonl")


@SOME
@given(prompt=dialogues(), texts=st.lists(TEXTS, min_size=2, max_size=2, unique=True))
def test_hh_holds_pairs_of_dialogues_to_the_character(tmp_path: Path, prompt: str, texts: list[str]) -> None:
    record = {"prompt": prompt, "chosen": f" {texts[0]}", "rejected": f" {texts[1]}"}
    assert read(there_and_back(tmp_path, [record], "hh", ".jsonl")) == [record]


@SOME
@given(prompt=dialogues(), texts=st.lists(TEXTS, min_size=2, max_size=2, unique=True))
def test_trl_messages_hold_pairs_of_dialogues(tmp_path: Path, prompt: str, texts: list[str]) -> None:
    from textrl.data.preferences.importers.base import Options

    record = {"prompt": prompt, "chosen": f" {texts[0]}", "rejected": f" {texts[1]}", "margin": 1.5}
    start = write(tmp_path / "start.jsonl", [record])
    convert(start, tmp_path / "there.jsonl", to="trl", options=Options(messages=True))
    assert read(tmp_path / "there.jsonl")[0]["prompt"][-1]["role"] == "user"
    result = convert(tmp_path / "there.jsonl", tmp_path / "end.jsonl", to="textrl")
    assert (result.origin, read(tmp_path / "end.jsonl")) == ("trl", [record])


FLAT = st.fixed_dictionaries(
    {"prompt": TEXTS, "completion": TEXTS},
    optional={"annotator": NAMES, "user_id": NAMES, "split": st.sampled_from(["train", "test"])},
)
SCORED = st.one_of(
    st.builds(lambda record, value: {**record, "rating": value}, FLAT, st.floats(-4, 4) | st.integers(1, 5)),
    st.builds(lambda record, value: {**record, "label": value}, FLAT, st.booleans()),
    st.builds(
        lambda record, likert, flags: {**record, "likert": likert, "flags": dict.fromkeys(flags, True)},
        FLAT,
        st.integers(1, 7),
        st.lists(NAMES.map("flag_".__add__), min_size=1, unique=True),
    ),
)


@SOME
@given(records=st.lists(SCORED, min_size=1, max_size=4))
@pytest.mark.parametrize("name", ["label-studio", "argilla", "session"])
def test_the_labelling_tools_hold_ratings_labels_likert_and_flags(
    tmp_path: Path, name: str, records: list[dict[str, Any]]
) -> None:
    ending = ".json" if name == "label-studio" else ".jsonl"
    found = [canonical(record, "")[1] for record in read(there_and_back(tmp_path, records, name, ending))]
    assert found == [canonical(record, "")[1] for record in records]


def test_several_ratings_become_one_record_each_with_their_annotators(tmp_path: Path) -> None:
    record = {"prompt": "p", "completion": "c", "ratings": [1, 4], "annotators": ["ann", "bob"]}
    wanted = [
        {"prompt": "p", "completion": "c", "rating": r, "annotator": a} for a, r in (("ann", 1), ("bob", 4))
    ]
    for name in ("label-studio", "argilla"):
        assert [dict(sorted(found.items())) for found in read(there_and_back(tmp_path, [record], name))] == [
            dict(sorted(one.items())) for one in wanted
        ]


@SOME
@given(records=st.lists(ANNOTATED, min_size=1, max_size=4))
@pytest.mark.parametrize("ending", [".jsonl.gz", ".json", ".json.gz", ".parquet"])
def test_every_kind_of_file_holds_textrls_own_records(
    tmp_path: Path, ending: str, records: list[dict[str, Any]]
) -> None:
    start, middle = write(tmp_path / "start.jsonl", records), tmp_path / f"there{ending}"
    convert(start, middle, to="textrl")
    convert(middle, tmp_path / "end.jsonl", to="textrl")
    assert read(tmp_path / "end.jsonl") == records


@SOME
@given(records=st.lists(rankings(), min_size=1, max_size=4))
def test_rows_and_pairs_say_what_the_rankings_say(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    records = [{**record, "group": f"g{index}"} for index, record in enumerate(records)]
    start = write(tmp_path / "start.jsonl", records)
    convert(start, tmp_path / "rows.jsonl", to="textrl", form="ranking_row")
    assert essences(tmp_path / "rows.jsonl") == essences(start)
    convert(tmp_path / "rows.jsonl", tmp_path / "pairs.jsonl", to="textrl", form="pair")
    pairs = [(e[0], e[3], tuple(map(tuple, e[1]))) for e in essences(tmp_path / "pairs.jsonl")]
    wanted = []
    for prompt, said, _, group, _ in essences(start):
        for i, (first, text) in enumerate(said):
            for second, other in said[i + 1 :]:
                two = sorted([(0, text), (int(first != second), other)])
                wanted.append((prompt, group, tuple(two)))
    assert sorted(pairs) == sorted(wanted)


def test_a_conversion_is_the_same_every_time(tmp_path: Path) -> None:
    record = {"prompt": "p", "completions": ["a", "b", "c"], "ranks": [1, 2, 3]}
    start = write(tmp_path / "start.jsonl", [record, record])
    for name in ("session", "argilla", "oasst"):
        for out in ("one.jsonl.gz", "two.jsonl.gz"):
            convert(start, tmp_path / out, to=name)
        assert (tmp_path / "one.jsonl.gz").read_bytes() == (tmp_path / "two.jsonl.gz").read_bytes()
    convert(start, tmp_path / "events.jsonl", to="session")
    events = read(tmp_path / "events.jsonl")
    assert len({event["uuid"] for event in events}) == 2, "equal records are two events all the same"
    assert json.dumps(events[0]["payload"]) == json.dumps(record)
