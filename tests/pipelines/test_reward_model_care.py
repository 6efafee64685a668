"""What a training says of the preferences that it is given, and how it parts them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from reward_model_kit import CONFIG, Start, starter, summary, write

from textrl.config import build
from textrl.errors import UserError
from textrl.pipelines.reward_model.care import oddities
from textrl.pipelines.reward_model.material import Material, gather
from textrl.pipelines.reward_model.settings import PreferenceData


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    return starter(tmp_path, monkeypatch)


def pairs(count: int, first: int = 0, **more: Any) -> list[dict[str, Any]]:
    return [
        {"prompt": f"Film {number}", "chosen": " good", "rejected": " bad", **more}
        for number in range(first, first + count)
    ]


def material(tmp_path: Path, records: list[dict[str, Any]], *, loss: Any = "kwise", **data: Any) -> Material:
    file = write(tmp_path / "records.jsonl", records)
    return gather(build(PreferenceData, {"source": "file", "train": file, **data}, where=str), [loss])


def prompts(groups: Any) -> set[str]:
    return {group.prompt for group in groups}


def test_records_go_to_the_part_that_they_name(tmp_path: Path) -> None:
    parts = [*pairs(20, split="train"), *pairs(5, 20, split="dev"), *pairs(8, 40, split="test")]
    found = material(tmp_path, parts)
    assert (len(found.train), len(found.validation), len(found.test)) == (20, 5, 8)
    assert prompts(found.test) == {f"Film {number}" for number in range(40, 48)}
    # What no record names is drawn from what is left to learn from.
    found = material(tmp_path, [*pairs(20), *pairs(8, 40, split="test")])
    assert (len(found.train), len(found.validation), len(found.test)) == (18, 2, 8)
    with pytest.raises(UserError, match="line 1: 'split' is 'holdout'; it must be train, validation or test"):
        material(tmp_path, pairs(20, split="holdout"))
    with pytest.raises(UserError, match="1 of the 8 rankings for test have a prompt that stands in"):
        material(tmp_path, [*pairs(20), *pairs(8, 19, split="test")])


def test_the_files_of_a_split_are_its_parts(tmp_path: Path) -> None:
    files = {
        name: write(tmp_path / f"{name}.jsonl", pairs(count, first))
        for name, count, first in (("validation", 4, 100), ("test", 6, 200))
    }
    found = material(tmp_path, pairs(20), **files)
    assert (len(found.train), len(found.validation), len(found.test)) == (20, 4, 6)
    with pytest.raises(UserError, match=r"say that they are for test, and data\.test names another"):
        material(tmp_path, [*pairs(20), *pairs(8, 40, split="test")], **files)


def test_whoever_ranked_stays_on_one_side(tmp_path: Path) -> None:
    records = [record | {"annotator": f"a{index % 15}"} for index, record in enumerate(pairs(60))]
    found = material(tmp_path, records, by="annotator")
    names = [{group.annotator for group in part} for part in (found.train, found.validation, found.test)]
    assert sum(map(len, names)) == len(set().union(*names)) == 15
    assert not any("annotators" in said for said in oddities(found))
    mixed = list(oddities(material(tmp_path, records)))
    (said,) = mixed
    assert said.startswith("annotators of the test part who are in the training part too: ")
    assert "for example 'a" in said


def test_contradictions_circles_and_empty_texts_are_counted(tmp_path: Path) -> None:
    circle = [("good", "fair"), ("fair", "bad"), ("bad", "good")]
    records = [
        *pairs(20),
        {"prompt": "Film 0", "chosen": " bad", "rejected": " good"},
        *({"prompt": "Round", "chosen": one, "rejected": other} for one, other in circle),
        {"prompt": "Empty", "chosen": " a", "rejected": ""},
        {"prompt": "", "chosen": " a", "rejected": " c"},
    ]
    test = write(tmp_path / "test.jsonl", [*pairs(4, 60), *pairs(1, 60)])
    found = material(tmp_path, records, validation=write(tmp_path / "v.jsonl", pairs(3, 80)), test=test)
    said = list(oddities(found))
    assert any(one.startswith("training: 1 pairs that one annotator (or ") for one in said)
    assert any(one.startswith("training: 1 prompts whose rankings by one annot") for one in said)
    assert any("1 rankings hold an empty completion (the first: " in one and "line 25" in one for one in said)
    assert any("1 of 26 rankings have an empty prompt" in one for one in said)
    assert len(said) == 4


def test_a_run_says_it_and_keeps_it(
    run: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    tied = [{**record, "tie": True} for record in pairs(20, 40)]
    records = [{**record, "annotator": "ann"} for record in [*pairs(40), *tied]]
    data = {"source": "file", "train": write(tmp_path / "ties.jsonl", records)}
    with caplog.at_level(logging.WARNING):
        code, folder = run("ties", data=data, training={**CONFIG["training"], "epochs": 2})
    assert code == 0
    (note,) = summary(folder)["data_notes"]
    assert "who are in the training part too: 1 of 1, for example 'ann'" in note
    assert f"note: {note}" in capsys.readouterr().out
    assert "groups tie throughout; 'kwise' learns nothing from them" in caplog.text
    # Only what was learnt from was shown.
    row = summary(folder)["arms"][0]["members"][0]
    assert row["rows"] == row["shown"]


def test_a_refused_run_leaves_its_name_free(run: Start, tmp_path: Path) -> None:
    broken = [*pairs(40), {"prompt": "Film 99", "chosen": " good", "rejected": ""}]
    training = {**CONFIG["training"], "append_eos": False}
    code, folder = run(
        "again",
        data={"source": "file", "train": write(tmp_path / "broken.jsonl", broken)},
        training=training,
    )
    assert (code, folder.exists()) == (2, False)
    mended = {"source": "file", "train": write(tmp_path / "mended.jsonl", pairs(40))}
    assert run("again", data=mended, training=training)[0] == 0


def test_a_bad_text_is_named_by_its_line(
    run: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [*pairs(40), {"prompt": "long " * 60, "chosen": " good", "rejected": " bad"}]
    file = write(tmp_path / "long.jsonl", records)
    code, _ = run(
        "long", data={"source": "file", "train": file, "test": write(tmp_path / "t.jsonl", pairs(4, 90))}
    )
    said = " ".join(capsys.readouterr().err.split())
    assert code == 2
    assert "long.jsonl, line 41, completion 1 has a prompt of" in said


def test_nothing_to_measure_is_refused(
    run: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = {"source": "file", "train": write(tmp_path / "tied.jsonl", pairs(60, tie=True))}
    code, folder = run("tied", data=data, training={**CONFIG["training"], "loss": "rao_kupper"})
    assert (code, folder.exists()) == (2, False)
    assert "6 rankings of the test part prefers one text to another" in capsys.readouterr().err
    same = [{**record, "rejected": record["chosen"]} for record in pairs(40)]
    assert run("same", data={"source": "file", "train": write(tmp_path / "same.jsonl", same)})[0] == 2
    capsys.readouterr()
    code, _ = run("one", data={"source": "file", "train": write(tmp_path / "one.jsonl", pairs(1) * 60)})
    assert code == 2
    assert "60 rankings of 1 different prompts are too few" in " ".join(capsys.readouterr().err.split())


def test_cut_completions_are_counted(run: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    long = [
        {"prompt": "Film", "chosen": " so" * 60 + " good", "rejected": " so" * 60 + " bad", "group": str(n)}
        | {"prompt": f"Film {n}"}
        for n in range(10)
    ]
    file = write(tmp_path / "cut.jsonl", [*pairs(40, 50), *long])
    with caplog.at_level(logging.WARNING):
        assert run("cut", data={"source": "file", "train": file, "test_share": 0.05})[0] == 0
    (said,) = [record.getMessage() for record in caplog.records if "lost their end" in record.getMessage()]
    assert "longer than max_tokens 32" in said
    assert "rankings hold different texts that read the same then" in said


def rated(count: int, **more: Any) -> list[dict[str, Any]]:
    words = (" dull", " fair", " good", " fine")
    return [
        {"prompt": f"Film {number // 2}", "completion": words[number % 4], "rating": number % 4, **more}
        for number in range(count)
    ]


def test_ratings_are_read_for_every_loss(run: Start, tmp_path: Path) -> None:
    data = {"source": "file", "train": write(tmp_path / "rated.jsonl", rated(120))}
    arms: dict[str, Any] = {
        "kwise": {},
        "margins": {"loss": "bradley_terry"},
        "level": {"loss": "regression"},
    }
    assert run("arms", data=data, arms=arms)[0] == 0
    lists = [
        {"prompt": f"Film {number}", "completions": [" good", " bad"], "ratings": [3, 1]}
        for number in range(40)
    ]
    data = {"source": "file", "train": write(tmp_path / "lists.jsonl", lists)}
    assert run("lists", data=data, training={**CONFIG["training"], "loss": "regression"})[0] == 0


def test_two_peoples_ratings_of_a_text_are_one(tmp_path: Path) -> None:
    records = [*rated(60, annotator="ann"), *rated(60, annotator="bob")]
    for record in records[60:]:
        record["rating"] += 1
    found = material(tmp_path, records, loss="regression")
    groups = [*found.train, *found.validation, *found.test]
    assert {len(group.completions) for group in groups} == {2}
    assert {group.ratings for group in groups} == {(0.5, 1.5), (2.5, 3.5)}


def test_single_rated_texts_are_measured_across_prompts(run: Start, tmp_path: Path) -> None:
    records = [{**record, "prompt": f"Only {index}"} for index, record in enumerate(rated(80))]
    data = {"source": "file", "train": write(tmp_path / "single.jsonl", records)}
    code, folder = run("single", data=data, training={**CONFIG["training"], "loss": "regression"})
    assert code == 0
    row = summary(folder)["arms"][0]
    assert row["pairs"] > 10
    assert 0 <= row["pair_accuracy"]["value"] <= 1
    assert row["group_pairs"] == 0
