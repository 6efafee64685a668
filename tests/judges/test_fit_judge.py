"""``textrl fit-judge``: from a file of labels or ratings to a judge that a config can use."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from judge_world import judge
from textrl_judges.fitting import read_labelled, split

from textrl.cli import main
from textrl.errors import UserError

GOOD, BAD = ("fine", "lovely", "superb", "warm"), ("dire", "dreadful", "stale", "cold")


def write(file: Path, rows: Iterable[Mapping[str, Any]]) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def rows(target: str) -> list[dict[str, Any]]:
    """Two completions of each of 24 prompts, one in good words and one in bad ones."""
    made = []
    for number in range(24):
        for good, words in ((True, GOOD), (False, BAD)):
            text = f" was {words[number % 4]} and {words[(number + 1) % 4]}."
            value: Any = {
                "label": good,
                "rating": 3.5 if good else -3.0,
                "ratings": [4, 3] if good else [-3, -3],
            }
            made.append({"prompt": f"Film {number}", "completion": text, target: value[target]})
    return made


@pytest.mark.parametrize("target", ["label", "rating", "ratings"])
def test_a_judge_is_fitted_measured_and_used(
    tmp_path: Path, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = write(tmp_path / "data.jsonl", rows(target)), tmp_path / "judge"
    assert main(["fit-judge", data, "--out", str(out), "--test", "0.25", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["train"], figures["test"]) == (36, 12)
    if target == "label":
        assert figures["accuracy"] == 1.0
        assert figures["commonest_label"] == 0.5
        taste = judge("classifier", model=str(out), label="true", scope="response")
    else:
        assert figures["rmse"] < figures["rmse_of_the_mean"] == pytest.approx(3.25)
        assert figures["pair_accuracy"] == 1.0
        taste = judge("classifier", model=str(out), scope="response")
    from judge_world import episodes

    high, low = taste(episodes([" was superb", " was stale"])).tolist()
    assert high > low
    assert main(["fit-judge", data, "--out", str(out)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_a_prompts_texts_stay_on_one_side(tmp_path: Path) -> None:
    found = read_labelled(write(tmp_path / "data.jsonl", rows("label")), scope="response")
    train, test = split(found, 0.3, seed=4)
    assert len(test.texts) == 14
    assert sorted(train.texts + test.texts) == sorted(row["completion"] for row in rows("label"))
    by_prompt = read_labelled(write(tmp_path / "data.jsonl", rows("label")))
    left, right = split(by_prompt, 0.3, seed=4)
    assert not {text.split(" was")[0] for text in left.texts} & {
        text.split(" was")[0] for text in right.texts
    }


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"prompt": "a", "completion": "b"}, "line 2: there is no column label or rating or ratings"),
        ({"prompt": "a", "label": True}, "line 2: there is no column 'completion'"),
        ({"prompt": "a", "completion": 3, "label": True}, "'completion' is 3; it must be text"),
        ({"prompt": "a", "completion": "b", "label": {"x": 1}}, "it must be a label, a number"),
        ({"prompt": "a", "completion": "b", "rating": 3}, "some targets are numbers and some are not"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: dict[str, Any], said: str) -> None:
    data = write(tmp_path / "data.jsonl", [{"prompt": "a", "completion": "b", "label": True}, line])
    with pytest.raises(UserError) as error:
        read_labelled(data)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--test", "1.5"], "--test is 1.5"),
        (["--strength", "0"], "--strength is 0.0"),
        (["--kind", "ratings"], "is no number"),
        (["--column", "stars"], "there is no column stars"),
    ],
)
def test_wrong_options_are_one_sentence_and_leave_nothing(
    tmp_path: Path, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "data.jsonl", rows("label"))
    assert main(["fit-judge", data, "--out", str(tmp_path / "out"), *options]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert said in lines[0]
    assert not (tmp_path / "out").exists()


def test_numbers_can_be_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(tmp_path / "data.jsonl", rows("rating"))
    assert main(["fit-judge", data, "--out", str(tmp_path / "judge"), "--kind", "labels"]) == 0
    capsys.readouterr()
    described = json.loads((tmp_path / "judge" / "tfidf_judge.json").read_text())
    assert described["labels"] == ["-3", "3.5"]
