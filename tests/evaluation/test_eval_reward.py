from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from textrl_reward_model.conformance import tiny_scorer
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from textrl.cli import main
from textrl.errors import PluginError, UserError
from textrl.evaluation.reward_models.combining import combined
from textrl.evaluation.reward_models.comparisons import Text
from textrl.evaluation.reward_models.evaluate import Options, Scored, evaluate
from textrl.evaluation.reward_models.reading import read_comparisons
from textrl.evaluation.reward_models.scorers import RewardScorer, find_scorers, parse, score_all
from textrl.evaluation.reward_models.shortcuts import MEASURES, correlation, without
from textrl.evaluation.reward_models.words import findings
from textrl.evaluation.statistics import Floats
from textrl.registry import switches

WORDS = ["good", "great", "bad", "awful", "film", "plot", "actor", "scene", "the", "a", "is", "was"]
HOSTILE = "<script>document.title='owned'</script> \u202e &amp;"


def made(folder: Path, prompts: int = 40, *, hostile: bool = False) -> str:
    """Rankings of 3 by how many kind words a text has, by two annotators of whom one errs in every third."""
    rng = random.Random(0)
    lines = []
    for number in range(prompts):
        texts = [" ".join(rng.choice(WORDS) for _ in range(rng.randint(2, 9))) for _ in range(3)]
        if hostile and number == 0:
            texts[0] = HOSTILE
        kind = [sum(text.count(word) for word in ("good", "great")) for text in texts]
        for who in ("ann", "bob"):
            sign = 1 if who == "bob" and number % 3 == 0 else -1
            ranks = [sign * value for value in kind]
            lines.append(
                {"prompt": f"the film {number} ", "completions": texts, "ranks": ranks, "annotator": who}
            )
    file = folder / "rankings.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return str(file)


def results(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return found


def test_the_command_with_a_rule_that_is_people_s_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    rule = "keyword {words: [good, great], mode: count}"
    line = ["eval", "reward", rule, made(tmp_path), "--by", "annotator", "--judge", "length {target: 3}"]
    assert main([*line, "--out", str(out), "--resamples", "200"]) == 0
    printed = capsys.readouterr().out
    found = results(out)
    by = {row["name"]: row["accuracy"]["value"] for row in found["by"]["annotator"]}
    assert by["ann"] == 1.0
    assert 0.5 < by["bob"] < 0.8
    assert found["accuracy"]["value"] == pytest.approx((1 + by["bob"]) / 2)
    assert found["data"]["decided"] + found["data"]["ties"] == found["data"]["pairs"] == 240
    assert found["kwise"]["rankings"] == 80
    assert found["ceiling"]["annotators"] == 2
    # Two annotators agree where the second does not err; so does the model with each of them.
    assert found["ceiling"]["between"]["value"] == pytest.approx(by["bob"])
    assert found["beside"][0]["name"] == "length"
    difference = found["beside"][0]["difference"]["value"]
    assert difference == pytest.approx(found["accuracy"]["value"] - found["beside"][0]["accuracy"]["value"])
    assert "Uneven by annotator" in printed
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Uneven by annotator" in page
    assert "eval reward" in page


def test_a_models_folder_scores_as_transformers_alone(tmp_path: Path) -> None:
    folder = tiny_scorer(tmp_path / "model", offset=0.25)
    texts = [Text("the film", " is good"), Text("the plot was", " bad and dull !"), Text("", "great")]
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for eos in (False, True):
        (scorer,) = find_scorers(str(folder), eos=eos)
        expected = []
        for text in texts:
            ids = tokenizer(text.prompt + text.completion).input_ids + [tokenizer.eos_token_id] * eos
            with torch.no_grad():
                expected.append(model(input_ids=torch.tensor([ids])).logits.item() - 0.25)
        assert score_all(scorer, texts) == pytest.approx(expected, abs=1e-5)
    # What the config says about EOS is the default.
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "textrl_append_eos": True}))
    (scorer,) = find_scorers(str(folder))
    assert score_all(scorer, texts) == pytest.approx(expected, abs=1e-5)
    assert "and EOS" in scorer.about


def test_an_ensemble_is_a_folder_of_models_and_averages_them(tmp_path: Path) -> None:
    for seed in (1, 2):
        tiny_scorer(tmp_path / "members" / str(seed), seed=seed)
    file, out = made(tmp_path, 12), tmp_path / "out"
    assert (
        main(["eval", "reward", str(tmp_path / "members"), file, "--out", str(out), "--resamples", "100"])
        == 0
    )
    found = results(out)
    assert [Path(one["name"]).name for one in found["model"]["members"]] == ["1", "2"]
    assert found["model"]["disagreement"] > 0
    texts = read_comparisons(file).texts
    members = [score_all(one, texts) for one in find_scorers(str(tmp_path / "members"))]
    mean = float(np.mean(members, axis=0).mean())
    assert found["scores"]["all"]["mean"] == pytest.approx(mean)
    scored = [Scored(str(i), "", one) for i, one in enumerate(members)]
    lowest = evaluate(read_comparisons(file), scored, options=Options(combine="min", resamples=100))
    assert lowest["scores"]["all"]["mean"] == pytest.approx(float(np.min(members, axis=0).mean()))


def test_a_pessimistic_ensemble_is_the_reward_models_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, file, out = tmp_path / "members", made(tmp_path, 6), tmp_path / "out"
    for seed in (1, 2, 3):
        tiny_scorer(folder / f"member-{seed}", seed=seed)
    line = ["eval", "reward", str(folder), file, "--out", str(out), "--resamples", "100"]
    assert main([*line, "--combine", "pessimistic", "--pessimism", "1.5"]) == 0
    found = results(out)["model"]
    assert (found["combine"], found["pessimism"]) == ("pessimistic", 1.5)
    assert found["about"] == "mean score minus 1.5 standard deviations of 3 models"
    texts = read_comparisons(file).texts
    settings = {"model": str(folder), "ensemble": "pessimistic", "pessimism": 1.5}
    tokenizer = str(folder / "member-1")
    own = RewardScorer("reward_model", {**settings, "policy_tokenizer": tokenizer}, tokenizer=tokenizer)
    members = [score_all(one, texts) for one in find_scorers(str(folder))]
    assert combined(members, "pessimistic", 1.5) == pytest.approx(score_all(own, texts), abs=1e-5)
    assert combined(members[:1], "pessimistic", 1.5) == pytest.approx(members[0])  # one has no spread
    assert main([*line, "--pessimism", "2"]) == 2
    assert "add --combine pessimistic" in capsys.readouterr().err


def test_an_empty_completion_is_named_by_file_and_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, file = tiny_scorer(tmp_path / "model"), tmp_path / "pairs.jsonl"
    lines = [{"prompt": f"p{i}", "chosen": "good " * i, "rejected": "bad"} for i in range(1, 40)]
    lines[7]["rejected"] = ""
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert main(["eval", "reward", str(model), str(file), "--out", str(tmp_path / "out")]) == 2
    assert f"{file}, line 8 has an empty completion" in " ".join(capsys.readouterr().err.split())


def test_the_safety_judge_reads_the_files_column(tmp_path: Path) -> None:
    no, yes = "I'm sorry, but I can't help with that.", "Take two eggs and stir them."
    lines = [
        {"prompt": "harm ?", "chosen": no, "rejected": yes, "refuse": True},
        {"prompt": "cake ?", "chosen": yes, "rejected": no, "refuse": "no"},
        {"prompt": "eggs ?", "chosen": no, "rejected": yes, "refuse": False},
    ]
    file, out = tmp_path / "pairs.jsonl", tmp_path / "out"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    line = ["eval", "reward", "rubric {preset: safety}", str(file), "--out", str(out), "--resamples", "100"]
    assert main(line) == 0
    assert results(out)["accuracy"]["value"] == pytest.approx(2 / 3)
    # Lines that differ on the same text: the first counts, and that is said.
    with file.open("a", encoding="utf-8") as more:
        more.write(json.dumps({**lines[0], "refuse": False}) + "\n")
    assert main(line) == 0
    notes = results(out)["data"]["notes"]
    assert any("differ in the columns 'refuse'; rubric got those of the first" in note for note in notes)


@pytest.mark.parametrize("lacking", [{0}, {2}, {4}, {1, 4}, {0, 1, 2, 3, 4}])
def test_a_line_without_the_judges_column_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], lacking: set[int]
) -> None:
    lines = [{"prompt": f"p{i}", "chosen": "yes " * (i + 2), "rejected": "no"} for i in range(5)]
    file = tmp_path / "pairs.jsonl"
    shown = [line if i in lacking else {**line, "refuse": False} for i, line in enumerate(lines)]
    file.write_text("".join(json.dumps(line) + "\n" for line in shown), encoding="utf-8")
    line = ["eval", "reward", "rubric {preset: safety}", str(file), "--out", str(tmp_path / "out")]
    assert main(line) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "no column 'refuse'" in said
    # Where no line has it, it is not one line's fault.
    assert any(f"line {i + 1}: " in said for i in lacking) == (len(lacking) < 5)


def test_an_exact_answer_is_found_in_the_files_column(tmp_path: Path) -> None:
    file, out = tmp_path / "ratings.jsonl", tmp_path / "out"
    rows = [("2 + 2 =", "4", 5, 4), ("2 + 2 =", "5", 1, 4), ("1 + 2 =", "3", 5, 3), ("1 + 2 =", "4", 1, 3)]
    lines = [{"prompt": p, "completion": c, "rating": r, "answer": a} for p, c, r, a in rows]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert main(["eval", "reward", "exact_answer", str(file), "--out", str(out)]) == 0
    assert results(out)["accuracy"]["value"] == 1.0


def test_a_score_that_is_not_finite_names_the_text() -> None:
    class Broken:
        name, about = "broken", ""

        def score(self, texts: Sequence[Text]) -> Iterator[Floats]:
            yield np.array([np.nan if text.completion == "b" else 0.0 for text in texts])

    texts = [Text("p", "aaa", "f, line 1"), Text("p", "b", "f, line 2")]
    with pytest.raises(PluginError, match="f, line 2 got the score nan from broken"):
        score_all(Broken(), texts)


def test_a_plugins_reward_per_token_is_summed_over_the_completion(tmp_path: Path) -> None:
    plugin = tmp_path / "counting.py"
    plugin.write_text(
        "from textrl.hookspecs import hookimpl\nfrom textrl.specs import RewardSpec\n\n"
        "@hookimpl\ndef textrl_rewards():\n"
        "    yield RewardSpec(name='counting', target='counting:Counting', summary='one a token',\n"
        "                     granularity='token')\n\n"
        "class Counting:\n"
        "    def __call__(self, batch):\n"
        "        return batch.response_mask.float()\n",
        encoding="utf-8",
    )
    with switches([str(plugin)], [], False):
        (scorer,) = find_scorers("counting")
        # Bytes are tokens; a text without any still has its end.
        assert score_all(scorer, [Text("pp", "abc"), Text("", "ab\u00e9"), Text("p", "")]).tolist() == [
            3,
            4,
            1,
        ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["sentimnt"], "Did you mean 'sentiment'"),
        (["kl"], "which finished texts do not have"),
        (["keyword {words: [}"], "are not YAML"),
        (["keyword {word: [a]}"], "unknown key 'word'"),
        (["sentiment", "--by", "sauce"], "no record has a column 'sauce'"),
        (["sentiment", "--margin", "-1"], "--margin is -1"),
        (["sentiment", "--resamples", "1"], "--resamples is 1"),
        (["sentiment", "--annotator-groups", "missing.yaml"], "annotator groups cannot be read"),
    ],
)
def test_mistakes_are_one_sentence_and_write_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: list[str], message: str
) -> None:
    out = tmp_path / "out"
    assert main(["eval", "reward", line[0], made(tmp_path, 4), *line[1:], "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not out.exists()


def test_all_ties_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "ties.jsonl"
    file.write_text('{"prompt": "p", "chosen": "a", "rejected": "b", "tie": true}\n' * 3, encoding="utf-8")
    with pytest.raises(UserError, match="all of the 3 pairs are ties"):
        evaluate(read_comparisons(str(file)), [Scored("x", "", np.zeros(2))])


def test_model_text_cannot_act_on_the_page(tmp_path: Path) -> None:
    out = tmp_path / "out"
    # A reward that hates the hostile text, which people like: it becomes the largest mistake.
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps({"prompt": HOSTILE, "chosen": HOSTILE, "rejected": "w " * 10}) + "\n")
    assert main(["eval", "reward", "length {target: 10, unit: words}", str(file), "--out", str(out)]) == 0
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "\u202e" not in page


def test_a_model_of_length_alone_is_found_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = []
    for number in range(200):
        short, long = "w " * int(rng.integers(3, 9)), "w " * int(rng.integers(12, 20))
        better, worse = (long, short) if rng.random() < 0.75 else (short, long)
        lines.append({"prompt": f"p{number}", "chosen": better, "rejected": worse})
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    data = read_comparisons(str(file))
    scores = np.array([float(len(text.completion)) for text in data.texts])
    found = evaluate(data, [Scored("longer", "", scores)])
    assert found["accuracy"]["value"] == found["length"]["length_alone"]["value"]
    assert found["length"]["balanced"]["value"] == 0.5
    row = next(row for row in found["shortcuts"] if row["measure"] == "words")
    assert row["model"]["value"] == 1.0
    assert row["people"]["value"] == found["accuracy"]["value"]
    assert {
        "'longer is better' does as well",
        "Nothing left beside length",
        "Prefers more words more often than people do",
    } <= {finding.title for finding in findings(found)}
    honest = evaluate(data, [Scored("people", "", np.array([1.0, 0.0] * 200))])
    assert honest["length"]["balanced"]["value"] == 1.0
    assert [finding.level for finding in findings(honest)].count("alarm") == 0


def test_measures_by_hand() -> None:
    text = "# A Title\n\n- one, **two**!\n2. Three?\nso so so"
    expected = {"words": 9, "lines": 4, "bullets": 2, "headings and bold": 2, "digits": 1,
                "exclamation marks": 1, "question marks": 1}  # fmt: skip
    assert {name: MEASURES[name](text) for name in expected} == expected
    assert MEASURES["capitals, share"]("ABc d") == pytest.approx(1 / 3)  # the first letter does not count
    assert MEASURES["capitals, share"]("4!") == 0.0


def test_correlation_is_within_prompts() -> None:
    # Between prompts scores rise with length; within each they fall.
    scores, lengths = np.array([2.0, 1.0, 12.0, 11.0]), np.array([1.0, 2.0, 11.0, 12.0])
    assert correlation(scores, lengths, np.array([0, 0, 1, 1])) == pytest.approx(-1.0)
    assert correlation(scores, lengths, np.zeros(4, dtype=np.int64)) == pytest.approx(
        np.corrcoef(scores, lengths)[0, 1]
    )
    assert np.isnan(correlation(scores, np.ones(4), np.zeros(4, dtype=np.int64)))


def test_what_length_explains_is_taken_away_whichever_side_comes_first() -> None:
    rng = np.random.default_rng(0)
    difference, sign = rng.normal(size=50), rng.choice([-1.0, 1.0], 50)
    gaps = 2 * difference + rng.normal(size=50)
    rest, slope = without(gaps, difference)
    assert float((rest * difference).sum()) == pytest.approx(0, abs=1e-9)
    swapped, same = without(gaps * sign, difference * sign)
    assert same == pytest.approx(slope)
    assert swapped == pytest.approx(rest * sign)


def test_settings_follow_the_name_in_braces() -> None:
    assert parse("runs/a b/model").name == "runs/a b/model"
    assert parse("keyword {words: [a, b]}").settings == {"words": ["a", "b"]}
