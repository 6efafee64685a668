"""Splits: nothing tied together is parted, sizes are near, records come out as they went in."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textrl.cli import main
from textrl.data.preferences.keys import components, read_keys
from textrl.data.preferences.lines import RecordFile
from textrl.data.preferences.results import new_file, new_folder
from textrl.data.preferences.split import PARTS, SplitSettings, fill, plan_split, within_cap
from textrl.data.preferences.split_files import split_file
from textrl.data.preferences.texts import normalise, prompt_of
from textrl.errors import UserError


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def parts_of(folder: Path) -> dict[str, list[bytes]]:
    return {name: (folder / f"{name}.jsonl").read_bytes().splitlines(keepends=True) for name in PARTS}


def tied(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Say whether two records share a user, a group or a prompt, without any of the code under test."""
    same = [
        first.get(name) is not None and first.get(name) == second.get(name) for name in ("user_id", "group")
    ]
    prompts = [" ".join(record["prompt"].lower().split()) for record in (first, second)]
    return any(same) or (prompts[0] == prompts[1] != "")


RECORD = st.fixed_dictionaries(
    {"prompt": st.sampled_from(["", *(f"Prompt  {i}" for i in range(30)), "prompt 1", "PROMPT 2 "])},
    optional={"user_id": st.integers(0, 25), "group": st.integers(0, 25)},
)


@given(records=st.lists(RECORD, min_size=1, max_size=40), seed=st.integers(0, 3))
@settings(deadline=None)
def test_no_user_group_or_prompt_is_on_two_sides(records: list[dict[str, Any]], seed: int) -> None:
    chosen = SplitSettings(by=(), test=0.2, validation=0.2, seed=seed)
    try:
        split = plan_split(read_keys(records, ("user_id", *chosen.columns), seed), _by_user(chosen, records))
    except UserError as error:
        assert "hang together" in str(error)  # noqa: PT017
        return
    for i, first in enumerate(records):
        for j, second in enumerate(records):
            if tied(first, second):
                assert split.part[i] == split.part[j]


def _by_user(chosen: SplitSettings, records: list[dict[str, Any]]) -> SplitSettings:
    by = ("user_id",) if any("user_id" in record for record in records) else ()
    return SplitSettings(by=by, test=chosen.test, validation=chosen.validation, seed=chosen.seed)


@given(keys=st.lists(st.tuples(*[st.integers(0, 8)] * 3), min_size=1, max_size=25))
@settings(deadline=None)
def test_components_are_those_found_by_walking(keys: list[tuple[int, ...]]) -> None:
    labels = components(np.asarray(keys, np.uint64).reshape(-1, 3))
    reached = [{i} for i in range(len(keys))]
    for _ in keys:
        for i, first in enumerate(keys):
            for j, second in enumerate(keys):
                if any(a == b != 0 for a, b in zip(first, second, strict=True)):
                    reached[i] |= reached[j]
    for i in range(len(keys)):
        assert {j for j in range(len(keys)) if labels[j] == labels[i]} == reached[i]


def test_parts_have_the_sizes_asked_for() -> None:
    sizes = np.array([1] * 70 + [5] * 20 + [30])
    order = np.random.default_rng(0).permutation(len(sizes))
    parts = fill(sizes, order, [30, 15])
    assert [int(sizes[parts == part].sum()) for part in range(3)] == [155, 30, 15]


def test_a_short_part_takes_what_brings_it_nearer() -> None:
    sizes = np.array([6, 6, 6, 6])
    assert sorted(fill(sizes, np.arange(4), [4]).tolist()) == [0, 0, 0, 1]  # 6 is nearer to 4 than 0 is
    assert fill(sizes, np.arange(4), [2]).tolist() == [0, 0, 0, 0]  # and not to 2


def test_a_split_does_not_depend_on_the_order_of_the_file() -> None:
    records = [{"prompt": f"p{i}", "user_id": i // 3} for i in range(300)]
    chosen = SplitSettings()
    forward = plan_split(read_keys(records, chosen.columns, 0), chosen).part
    backward = plan_split(read_keys(records[::-1], chosen.columns, 0), chosen).part
    assert forward.tolist() == backward[::-1].tolist()
    other = SplitSettings(seed=1)
    assert plan_split(read_keys(records, other.columns, 1), other).part.tolist() != forward.tolist()


def test_large_users_are_held_out_as_often_as_small_ones() -> None:
    """A component's order must not depend on how many keys it has."""
    records = [
        {"prompt": f"{user} {i}", "user_id": user} for user in range(400) for i in range(1 + 9 * (user % 2))
    ]
    large = 0
    for seed in range(10):
        chosen = SplitSettings(test=0.3, validation=0.0, seed=seed)
        part = plan_split(read_keys(records, chosen.columns, seed), chosen).part
        held = {record["user_id"] for record, index in zip(records, part, strict=True) if index == 2}
        large += sum(user % 2 for user in held)
    assert 0.25 < large / 2000 < 0.35  # 200 large users, 10 seeds; 3 standard errors are 0.03


def test_records_come_out_byte_for_byte_and_in_order(tmp_path: Path) -> None:
    lines = [f'{{"prompt" :"Zahl {i} \u00e9", "x":  {i}.50}}\n' for i in range(50)]
    lines[-1] = lines[-1].rstrip("\n")
    source = tmp_path / "odd.jsonl"
    source.write_text("\ufeff" + "\n".join(["", *lines]), encoding="utf-8")
    split_file(source, tmp_path / "out", SplitSettings(by=()))
    found = parts_of(tmp_path / "out")
    assert [len(found[name]) for name in PARTS] == [40, 5, 5]
    wanted = [(line.rstrip("\n") + "\n").encode() for line in lines]
    for name in PARTS:
        assert found[name] == [line for line in wanted if line in found[name]]
    assert sorted(line for lines in found.values() for line in lines) == sorted(wanted)


def test_gzip_stays_gzip_and_parquet_stays_parquet(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    records = [{"prompt": f"p{i}", "user_id": i % 20, "list": [i, i + 1]} for i in range(60)]
    packed = tmp_path / "in.jsonl.gz"
    packed.write_bytes(gzip.compress("".join(json.dumps(record) + "\n" for record in records).encode()))
    table = tmp_path / "in.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), table)
    split_file(packed, tmp_path / "lines", SplitSettings())
    split_file(table, tmp_path / "rows", SplitSettings())
    for name in PARTS:
        lines = gzip.decompress((tmp_path / "lines" / f"{name}.jsonl.gz").read_bytes()).splitlines()
        rows = pyarrow.parquet.read_table(tmp_path / "rows" / f"{name}.parquet").to_pylist()
        assert [json.loads(line) for line in lines] == rows
        assert rows


def test_no_user_has_more_than_so_many_prompts() -> None:
    records = [{"prompt": f"{user} {i // 2}", "user_id": user} for user in range(5) for i in range(40)]
    records += [{"prompt": f"nobody {i}"} for i in range(30)]
    table = read_keys(records, SplitSettings().columns, 0)
    kept = within_cap(table, "user_id", 7)
    prompts = defaultdict(list)
    for record, stays in zip(records, kept, strict=True):
        if stays:
            prompts[record.get("user_id")].append(record["prompt"])
    for user in range(5):
        assert len(set(prompts[user])) == 7
        assert len(prompts[user]) == 14  # both records of a prompt stay or go
    assert len(prompts[None]) == 30


def test_an_annotator_on_both_sides_is_a_warning_with_counts(tmp_path: Path) -> None:
    records = [{"prompt": f"p{i}", "annotator": i % 3} for i in range(90)]
    report = split_file(write(tmp_path / "a.jsonl", records), tmp_path / "out", SplitSettings(by=()))
    assert any(w.startswith("3 of 3 annotators have records in more than one part") for w in report.warnings)
    assert report.both_sides == {"group": 0, "prompt": 0, "annotator": 3}
    many = [{"prompt": f"p{i}", "annotator": i % 30} for i in range(90)]
    by = split_file(write(tmp_path / "b.jsonl", many), tmp_path / "by", SplitSettings(by=("annotator",)))
    assert by.both_sides["annotator"] == 0
    assert by.warnings == []


def test_a_piece_too_large_goes_to_train_and_is_named(tmp_path: Path) -> None:
    records = [{"prompt": f"p{i}", "user_id": "busy" if i < 60 else i} for i in range(100)]
    report = split_file(write(tmp_path / "a.jsonl", records), tmp_path / "out", SplitSettings())
    assert report.largest == 60
    assert any("60.0% of the records" in w and "'user_id' (without it 1%)" in w for w in report.warnings)
    assert report.parts["test"]["records"] == 10


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--by", "user"], "only groups and prompts whole. Did you mean 'user_id'?"),
        (["--test", "1.5"], "--test is 1.5"),
        (["--test", "0.6", "--validation", "0.4"], "leave nothing to train on"),
        (["--max-per-user", "0"], "--max-per-user is 0"),
    ],
)
def test_mistakes_are_one_sentence_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    source = write(tmp_path / "a.jsonl", [{"prompt": f"p{i}", "user_id": i} for i in range(20)])
    assert main(["data", "split", str(source), "--out", str(tmp_path / "out"), *options]) == 2
    assert said in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl"]


def test_one_prompt_for_all_cannot_be_split_unless_prompts_may_be_shared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "a.jsonl", [{"prompt": "Review:", "user_id": i} for i in range(30)])
    assert main(["data", "split", str(source), "--out", str(tmp_path / "out")]) == 2
    assert "100% hang together (pieces: 1) through" in capsys.readouterr().err
    assert (
        main(["data", "split", str(source), "--out", str(tmp_path / "out"), "--shared-prompts", "--json"])
        == 0
    )
    report = json.loads(capsys.readouterr().out)
    assert report["both_sides"] == {"user_id": 0, "group": 0, "prompt": 1, "annotator": 0}
    assert json.loads((tmp_path / "out" / "split.json").read_text()) == report


def test_a_bad_line_is_named_and_an_old_result_is_not_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "a.jsonl"
    source.write_text('{"prompt": "a"}\n\n{"prompt": \n', encoding="utf-8")
    assert main(["data", "split", str(source), "--out", str(tmp_path / "out"), "--by"]) == 2
    assert "a.jsonl, line 3: the line is not JSON" in capsys.readouterr().err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    good = write(tmp_path / "b.jsonl", [{"prompt": f"p{i}", "user_id": i} for i in range(20)])
    assert main(["data", "split", str(good), "--out", str(tmp_path / "full")]) == 2
    assert "exists already and is not empty" in capsys.readouterr().err


def test_by_alone_keeps_groups_and_prompts_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "a.jsonl", [{"prompt": f"p{i}"} for i in range(20)])
    assert main(["data", "split", str(source), "--by", "--out", str(tmp_path / "out"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["by"] == []
    assert [len(lines) for lines in parts_of(tmp_path / "out").values()] == [16, 2, 2]


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with new_folder(tmp_path / "out") as folder, new_file(tmp_path / "one.jsonl") as file:
            (folder / "half").write_text("x")
            file.write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_changes_is_noticed(tmp_path: Path) -> None:
    file = RecordFile(write(tmp_path / "a.jsonl", [{"prompt": "a"}, {"prompt": "b"}]))
    assert len(list(file.records())) == 2
    write(tmp_path / "a.jsonl", [{"prompt": "a"}, {"prompt": "b"}, {"prompt": "c"}])
    with pytest.raises(UserError, match="changed while it was read"):
        file.copy([0, 0], [tmp_path / "out.jsonl"])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Say  HELLO\n", "say hello"),
        ("\uff21\uff22\uff23", "abc"),
        ("Stra\u00dfe", "STRASSE"),
        ("e\u0301", "\u00c9"),
    ],
)
def test_texts_that_count_as_one(one: str, other: str) -> None:
    assert normalise(one) == normalise(other)


def test_prompts_of_other_forms() -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    assert prompt_of({"messages": messages}) == "user: Hi" == prompt_of({"prompt": messages[:1]})
    dialogue = "\n\nHuman: Why?\n\nAssistant:"
    assert prompt_of({"chosen": f"{dialogue} So.", "rejected": f"{dialogue} No."}) == dialogue
