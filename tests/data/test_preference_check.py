"""`textrl data check`: counts, warnings and bad lines, on files whose every oddity was put there by hand."""

from __future__ import annotations

import json
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from preference_world import write

from textrl.cli import main
from textrl.data.preferences.check import FileReport, inspect_file
from textrl.data.preferences.orders import Orders, runs_in_a_circle
from textrl.errors import UserError

P = {"prompt": "p", "annotator": "ann"}


def checked(tmp_path: Path, *records: Any) -> FileReport:
    return inspect_file(write(tmp_path / "file.jsonl", records))


def warned(report: FileReport) -> dict[str, int]:
    return {warning.name: warning.count for warning in report.warnings}


def test_a_file_is_counted(tmp_path: Path) -> None:
    report = checked(
        tmp_path,
        {**P, "chosen": "a", "rejected": "bbb", "split": "train", "user_id": 1, "domain": "x"},
        {**P, "prompt": "qq", "completions": ["a", "b", "c", "d"], "ranks": [1, 2, 2, 2], "split": "test"},
        {"prompt": "qq", "completion": "a", "ratings": [-1, 4], "annotators": ["bob", "ann"], "user_id": "1"},
        {"prompt": "qq", "completion": "b", "label": True, "annotator": 3},
        {"group": 1, "prompt": "r", "completion": "e", "rank": 1, "annotator": "ann"},
        {"group": 1, "prompt": "r", "completion": "f", "rank": 2, "annotator": "ann"},
    )
    assert report.forms == {"pair": 1, "ranking": 1, "rating": 1, "label": 1, "ranking_row": 2}
    assert (report.records, report.bad, report.format) == (6, 0, "textrl")
    assert (report.prompts, report.users) == (3, 1)
    assert report.annotators == {"ann": 5, "bob": 1, "3": 1}
    assert report.splits == {"train": 1, "test": 1}
    assert report.sizes == {2: 2, 4: 1}
    assert (report.pairs, report.tied_pairs) == (8, 3)
    assert report.ratings == (-1, 1.5, 4)
    assert report.labels == {True: 1}
    assert report.lengths == {"prompt": (1, 1, 2, 2), "completion": (1, 1, 1, 3)}
    assert report.columns["prompt"] == 6
    assert report.strangers == ["domain"]
    assert warned(report) == {"split_annotator": 1}


ODD: list[tuple[str, int, list[dict[str, Any]]]] = [
    ("contradictory", 1, [{**P, "chosen": "a", "rejected": "b"}, {**P, "chosen": "b", "rejected": "a"}]),
    (
        "contradictory",
        2,
        [
            {**P, "completions": ["a", "b", "c"], "ranks": [1, 2, 3]},
            {**P, "completions": ["c", "b", "a"], "ranks": [2, 1, 2.5]},
        ],
    ),
    (
        "undecided",
        1,
        [{**P, "chosen": "a", "rejected": "b"}, {**P, "completions": ["a", "c", "b"], "ranks": [1, 2, 1]}],
    ),
    (
        "circular",
        1,
        [{**P, "chosen": x, "rejected": y} for x, y in (("a", "b"), ("b", "c"), ("c", "d"), ("d", "a"))],
    ),
    (
        "all_tied",
        1,
        [{**P, "chosen": "a", "rejected": "b", "tie": True}, {**P, "chosen": "c", "rejected": "d"}],
    ),
    ("beaten_by_itself", 1, [{**P, "chosen": "a", "rejected": "a"}]),
    ("repeated_completion", 1, [{**P, "completions": ["a", "b", "a"], "ranks": [1, 2, 1]}]),
    ("duplicate", 2, [{**P, "chosen": "a", "rejected": "b"}] * 3),
    (
        "one_completion",
        1,
        [
            {**P, "completion": "a", "rating": 1},
            {**P, "completion": "a", "rating": 2},
            {"prompt": "q", "completion": "a", "label": True, "annotator": "ann"},
            {"prompt": "q", "completion": "b", "label": True, "annotator": "ann"},
        ],
    ),
    ("empty_prompt", 1, [{**P, "prompt": " \n", "chosen": "a", "rejected": "b"}]),
    ("empty_completion", 2, [{**P, "completions": ["", "b", " "], "ranks": [1, 2, 3]}]),
    (
        "no_annotator",
        1,
        [{**P, "completion": "a", "label": True}, {"prompt": "p", "completion": "b", "label": False}],
    ),
    ("misplaced", 1, [{"prompt": "p", "responses": ["a", "b"], "ranks": [1, 2]}]),
]


@pytest.mark.parametrize(("name", "count", "records"), ODD, ids=[f"{n}{c}" for n, c, _ in ODD])
def test_an_oddity_is_a_warning_with_its_count(
    tmp_path: Path, name: str, count: int, records: list[dict[str, Any]]
) -> None:
    assert warned(checked(tmp_path, *records)) == {name: count}


def test_ties_throughout_are_said_to_be_all_there_is(tmp_path: Path) -> None:
    ties = [{**P, "chosen": "a", "rejected": text, "tie": True} for text in "bcd"]
    assert warned(checked(tmp_path, *ties)) == {"all_tied": 3, "only_ties": 3}


def test_different_people_may_disagree(tmp_path: Path) -> None:
    report = checked(
        tmp_path,
        {**P, "chosen": "a", "rejected": "b"},
        {**P, "chosen": "b", "rejected": "a", "annotator": "bob"},
        {**P, "prompt": "q", "chosen": "b", "rejected": "a"},
    )
    assert warned(report) == {}


def test_all_bad_lines_are_counted_and_the_first_named(tmp_path: Path) -> None:
    file = tmp_path / "bad.jsonl"
    good = json.dumps({**P, "chosen": "a", "rejected": "b"}).encode()
    row = json.dumps({"group": 9, "prompt": "p", "completion": "a", "rank": 1}).encode()
    bad = [
        b"{",
        b"[1]",
        b'{"prompt": "\xff"}',
        b'{"prompt": "p", "chosen": "a"}',
        b'{"x": 1}',
        b'{"prompt": 3}',
    ]
    nul = b'{"prompt": "a\\u0000b"}'
    file.write_bytes(b"\n".join([good, *bad, b"", nul, row]) + b"\n")
    report = inspect_file(file)
    assert (report.records, report.bad) == (9, 8)
    assert [f"line {number}" in said for number, said in enumerate(report.bad_examples, start=2)] == [
        True
    ] * 5
    assert inspect_file(write(tmp_path / "one.jsonl", [json.loads(row)])).bad_examples == [
        f"{tmp_path / 'one.jsonl'}, line 1: the group '9' has only one completion; a ranking needs two."
    ]
    rows = [json.loads(row), {**json.loads(row), "prompt": "q"}, json.loads(row)]
    assert "another prompt" in inspect_file(write(tmp_path / "two.jsonl", rows)).bad_examples[0]


def test_other_tools_files_are_checked_as_they_are(tmp_path: Path) -> None:
    dialogue = {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}
    report = checked(tmp_path, dialogue, {**dialogue, "rejected": "nothing"})
    assert (report.format, report.forms, report.bad) == ("hh", {"pair": 1}, 1)
    with pytest.raises(UserError, match="no format fits its records, which have the columns a, b"):
        checked(tmp_path, {"a": 1, "b": 2})


TEXTS = "abcd"


@given(st.lists(st.permutations(TEXTS).map(lambda p: p[:3]), min_size=1, max_size=4), st.data())
@settings(deadline=None)
def test_contradictions_and_circles_against_brute_force(orders: list[list[str]], data: st.DataObject) -> None:
    """Every pair is looked up, and a circle is looked for along every sequence of texts."""
    found = Orders()
    said: dict[tuple[str, str], set[int]] = {pair: set() for pair in permutations(TEXTS, 2)}
    for texts in orders:
        ranks = data.draw(st.lists(st.integers(1, 2), min_size=3, max_size=3))
        found.add("here", 1, "ann", texts, ranks)
        for (i, a), (j, b) in permutations(enumerate(texts), 2):
            said[a, b].add((ranks[i] > ranks[j]) - (ranks[i] < ranks[j]))
    both = sum({1, -1} <= said[pair] for pair in combinations(TEXTS, 2))
    mixed = sum(len(said[pair]) == 2 and 0 in said[pair] for pair in combinations(TEXTS, 2))
    better = {pair for pair, verdicts in said.items() if verdicts == {-1}}
    circle = any(
        all((path[i], path[(i + 1) % k]) in better for i in range(k))
        for k in (3, 4)
        for path in permutations(TEXTS, k)
    )
    counts = {name: count for name, (count, _) in found.found().items()}
    assert counts.get("contradictory", 0) == both
    assert counts.get("undecided", 0) == mixed
    assert counts.get("circular", 0) == circle
    assert found.pairs == 3 * len(orders)


def test_a_long_chain_is_no_circle_until_it_is_closed() -> None:
    chain: dict[int, list[int]] = {i: [i + 1] for i in range(10_000)}
    assert not runs_in_a_circle(chain)
    assert runs_in_a_circle({**chain, 10_000: [5_000]})


def test_the_command_prints_one_screen_and_an_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write(tmp_path / "good.jsonl", [{**P, "chosen": "a", "rejected": "b", "n": i} for i in range(3)])
    assert main(["data", "check", str(good)]) == 0
    shown = capsys.readouterr().out
    assert "pair 3" in shown
    assert "Nothing wrong was found." in shown
    assert len(shown.splitlines()) <= 24
    odd = write(tmp_path / "odd.jsonl", [{**P, "chosen": "a", "rejected": "a"}])
    assert main(["data", "check", str(odd)]) == 0
    assert main(["data", "check", str(odd), "--fail-on-warnings", "--json"]) == 1
    shown = capsys.readouterr().out
    assert json.loads(shown[shown.index("{") :])["warnings"][0]["name"] == "beaten_by_itself"
    bad = write(tmp_path / "bad.jsonl", [{**P, "chosen": "a"}] * 9)
    assert main(["data", "check", str(bad)]) == 2
    shown = capsys.readouterr().out
    assert "BAD       9 records cannot be used" in shown
    assert "and 4 more" in shown


def test_the_command_converts_and_says_what_it_guessed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ranking = {"prompt": "question", "answers": ["a", "b", "c"], "ranks": [1, 2, 2]}
    start, out = write(tmp_path / "in.jsonl", [ranking]), tmp_path / "out.parquet"
    line = [
        "data",
        "convert",
        str(start),
        "--columns",
        "completions=answers",
        "--to",
        "trl",
        "--out",
        str(out),
    ]
    assert main(line) == 0
    shown = capsys.readouterr().out
    assert "format textrl (guessed from the content" in shown
    assert "wrote     2 records, format trl" in shown
    assert "1  ties left out: trl has no ties" in shown
    assert inspect_file(out).forms == {"pair": 2}
    for wrong, says in (
        (["--to", "trll"], "There is no format 'trll'. Did you mean 'trl'?"),
        (["--to", "trl", "--as", "pears"], "there is no such form. Did you mean 'pair'?"),
        (["--to", "trl", "--columns", "completion"], "write NAME=THEIRS"),
        (["--to", "trl", "--columns", "promt=x"], "Did you mean 'prompt'?"),
    ):
        assert main(["data", "convert", str(start), "--out", str(out), *wrong]) == 2
        assert says in capsys.readouterr().err
    assert main(["data", "convert", str(start), "--to", "trl", "--out", str(tmp_path / "x.csv")]) == 2
    assert "let it end in .jsonl" in capsys.readouterr().err
