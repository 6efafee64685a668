"""`pipeline: reward_model` on a tiny model: one arm, an ensemble, files; and its figures by brute force."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reward_model_kit import CONFIG, Start, starter, summary

from textrl.config import build
from textrl.data.rankings import RankingGroup
from textrl.data.ratings import Rated
from textrl.models.loading import load_scorer
from textrl.pipelines.reward_model.material import gather, split_by_prompt
from textrl.pipelines.reward_model.measure import (
    group_accuracy,
    order_ceiling,
    rated_accuracy,
    rater_accuracy,
)
from textrl.pipelines.reward_model.reading import Reader
from textrl.pipelines.reward_model.settings import ArmSettings, PreferenceData
from textrl.registry import get_registry
from textrl.reward_model.backbones import reward_backbone
from textrl.sft import SFTExample


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    return starter(tmp_path, monkeypatch)


def test_arms_side_by_side_and_what_they_cost(run: Start, capsys: pytest.CaptureFixture[str]) -> None:
    arms = {
        "kwise": {},
        "pairwise": {"pairs": "independent", "batch_size": 24},
        "head": {"mode": "linear", "loss": "regression", "l2": [0.1]},
    }
    code, folder = run("arms", arms=arms, targets={"pair_accuracy_min": 0.999})
    assert code == 0
    rows = {row["arm"]: row for row in summary(folder)["arms"]}
    assert list(rows) == ["kwise", "pairwise", "head"]
    for row in rows.values():
        assert (
            0
            <= row["pair_accuracy"]["lo"]
            <= row["pair_accuracy"]["value"]
            <= row["pair_accuracy"]["hi"]
            <= 1
        )
        assert row["group_pairs"] + row["group_ties"] == 10 * 3
    kwise, pairwise = rows["kwise"]["members"][0], rows["pairwise"]["members"][0]
    # Each completion of a group that is no tie throughout goes through the network once; alone, each pair
    # brings both of its completions.
    assert kwise["rows"] <= kwise["shown"] == 60
    assert pairwise["rows"] > 1.5 * kwise["rows"]
    assert rows["head"]["members"][0]["rows"] is None
    model, _ = load_scorer(str(folder / "models" / "kwise"))
    assert model.config.num_hidden_layers == 1
    assert (folder / "report.html").exists()
    said = capsys.readouterr().out
    assert "target 0.999 missed" in said
    assert "forward rows a completion" in said


def test_an_ensemble_and_a_resume(run: Start) -> None:
    changes = {"members": 2, "training": {**CONFIG["training"], "mode": "linear", "l2": [0.1, 1.0]}}
    assert run("members", **changes)[0] == 0
    _, folder = run("members", "--resume", **changes)
    weights = [
        load_scorer(str(folder / "models" / "reward_model" / f"member-{number}"))[0].score.weight
        for number in (1, 2)
    ]
    # The groups were drawn anew for each member, or the convex fits would be the same.
    assert not torch.allclose(weights[0], weights[1])
    assert len(summary(folder)["arms"][0]["members"]) == 2


def test_a_template_is_read_and_kept(run: Start) -> None:
    training = {"layers": 1, "mode": "linear", "l2": [0.1], "append_eos": False}
    template = "Somebody said: {response} That was"
    code, folder = run("template", training={**training, "template": template})
    assert code == 0
    model, tokenizer = load_scorer(str(folder / "models" / "reward_model"))
    assert model.config.textrl_template == template
    material = gather(build(PreferenceData, CONFIG["data"], where=str), ["kwise"])
    groups = material.test
    scores = []
    for group in groups:
        for text in group.completions:
            ids = tokenizer(template.replace("{response}", text), return_tensors="pt").input_ids
            with torch.no_grad():
                scores.append(float(model(ids).logits))
    sized = np.array(scores).reshape(len(groups), -1).tolist()
    expected, _, _ = group_accuracy(sized, groups)
    assert summary(folder)["arms"][0]["group_accuracy"]["value"] == pytest.approx(expected.value)
    assert run("eos", training={**training, "template": template, "append_eos": True})[0] == 2


def test_a_template_keeps_its_end_where_a_text_is_too_long(
    run: Start, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model, tokenizer = reward_backbone("tiny-gpt2", layers=1, seed=0, registry=get_registry())
    template = "Somebody said: {response} That was"
    long, short = "a film that goes on and on and never comes to its end" * 3, "good"
    arm = build(ArmSettings, {"template": template, "append_eos": False, "max_tokens": 40}, where=str)
    reader = Reader(model, tokenizer, arm)
    cut, whole = (one.completion for one in reader.examples([SFTExample("", long), SFTExample("", short)]))
    assert whole == "Somebody said: good That was"
    assert cut.startswith("Somebody said: a film")
    assert cut.endswith(" That was")
    assert 36 < len(tokenizer(cut).input_ids) <= 40
    assert reader.shortened == 1
    training = {"layers": 1, "mode": "linear", "l2": [0.1], "append_eos": False, "template": template}
    assert run("cut", training={**training, "max_tokens": 24})[0] == 0
    assert "texts are with their template longer than max_tokens 24" in capsys.readouterr().out
    assert run("no-room", training={**training, "max_tokens": 8})[0] == 2
    assert "leaves no room for a response within 8 tokens" in capsys.readouterr().err


def test_a_file_is_parted_by_prompt(run: Start, tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    lines = [{"prompt": f"Film {i % 20} was", "chosen": " good", "rejected": f" bad {i}"} for i in range(40)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    data = {"source": "file", "train": str(file), "validation_share": 0.2, "test_share": 0.2}
    code, folder = run("file", data=data)
    assert code == 0
    assert summary(folder)["arms"][0]["group_pairs"] == 8
    assert "pair_accuracy" not in summary(folder)["arms"][0]


def test_a_test_file_with_trained_prompts_is_refused(
    run: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, prompts in (("train", range(30)), ("test", (3, 99))):
        lines = [{"prompt": f"Film {i}", "chosen": " good", "rejected": " bad"} for i in prompts]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    data = {"source": "file", "train": str(tmp_path / "train.jsonl"), "test": str(tmp_path / "test.jsonl")}
    code, folder = run("leak", data=data)
    assert code == 2
    assert "1 of the 2 rankings for test have a prompt" in " ".join(capsys.readouterr().err.split())
    assert not folder.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": {"one": {"los": "kwise"}}}, "unknown key 'arms.one.los'. Did you mean 'loss'"),
        ({"data": {"source": "file"}}, "train names a file"),
        ({"targets": {"accuracy": 0.9}}, "Did you mean 'pair_accuracy_min'"),
        ({"members": 0}, "members is 0"),
    ],
)
def test_wrong_settings_are_one_sentence(
    run: Start, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], message: str
) -> None:
    assert run("wrong", **changes)[0] == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_rated_accuracy_is_a_count_of_pairs() -> None:
    draw = np.random.default_rng(1)
    means, scores = draw.integers(-8, 9, 40) / 4, draw.integers(0, 6, 40).astype(float)
    right = total = 0.0
    for i, j in itertools.permutations(range(40), 2):
        if means[i] - means[j] >= 1:
            right += (scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j])
            total += 1
    interval, pairs = rated_accuracy(scores, means, gap=1.0)
    assert pairs == total
    assert interval.value == pytest.approx(right / total)
    assert interval.lo < interval.value < interval.hi


def test_the_single_rater_is_the_mean_over_all_draws() -> None:
    draw = np.random.default_rng(2)
    texts = []
    for number in range(12):
        ratings = tuple(int(one) for one in draw.integers(-4, 5, 6))
        texts.append(Rated(str(number), "x", sum(ratings) / 6, ratings))
    chances = []
    for one, two in itertools.permutations(texts, 2):
        if one.mean - two.mean >= 1:
            drawn = [(a > b) + 0.5 * (a == b) for a in one.ratings for b in two.ratings]
            chances.append(sum(drawn) / len(drawn))
    assert rater_accuracy(texts, gap=1.0).value == pytest.approx(sum(chances) / len(chances))


def test_group_accuracy_counts_half_for_equal_scores_and_none_for_ties() -> None:
    groups = [RankingGroup("a", ("x", "y", "z"), (1, 2, 2)), RankingGroup("b", ("x", "y"), (2, 1))]
    interval, decided, ties = group_accuracy([[1.0, 1.0, 0.0], [0.0, 1.0]], groups)
    assert (decided, ties) == (3, 1)
    assert interval.value == pytest.approx((0.5 + 1 + 1) / 3)


def test_a_cycle_costs_one_pair() -> None:
    def beats(prompt: str, *pairs: str) -> list[RankingGroup]:
        return [RankingGroup(prompt, (pair[0], pair[1]), (1, 2)) for pair in pairs]

    assert order_ceiling(beats("p", "ab", "bc", "ac")) == 1.0
    assert order_ceiling(beats("p", "ab", "bc", "ca") + beats("q", "ab")) == 3 / 4
    assert order_ceiling(beats("p", "ab", "ab", "ba")) == 2 / 3
    tied = RankingGroup("p", ("a", "b"), (1, 1))
    assert order_ceiling([*beats("p", "ab"), tied]) == 1.0
    assert np.isnan(order_ceiling([tied]))
    # One person's ranking contradicts nothing, however long; a text beaten by itself is no pair.
    assert order_ceiling([RankingGroup("p", tuple(map(str, range(40))), tuple(range(40)))]) == 1.0
    assert order_ceiling([RankingGroup("p", ("a", "a", "b"), (1, 2, 3))]) == 1.0
    long = [RankingGroup("p", tuple("abcdefghijklmno"), tuple(range(15)))]
    assert np.isnan(order_ceiling(long + beats("p", "oa")))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=25))
def test_the_best_order_is_the_best_of_all_orders(pairs: list[tuple[int, int]]) -> None:
    groups = [RankingGroup("p", (str(a), str(b)), (1, 2)) for a, b in pairs]
    decided = [(a, b) for a, b in pairs if a != b]
    if not decided:
        assert np.isnan(order_ceiling(groups))
        return
    most = max(
        sum(order.index(a) < order.index(b) for a, b in decided) for order in itertools.permutations(range(5))
    )
    assert order_ceiling(groups) == most / len(decided)


def test_all_right_is_no_certainty() -> None:
    groups = [RankingGroup(f"p{number}", ("x", "y"), (1, 2)) for number in range(60)]
    interval, _, _ = group_accuracy([[1.0, 0.0]] * 60, groups)
    # Wilson: z^2 / (n + z^2) below 1.
    assert (interval.value, interval.hi) == (1.0, pytest.approx(1.0))
    assert interval.lo == pytest.approx(1 - 1.96**2 / (60 + 1.96**2), abs=1e-4)


def test_a_text_is_not_held_against_itself() -> None:
    group = RankingGroup("p", ("x", "x", "y"), (1, 2, 3))
    interval, decided, ties = group_accuracy([[1.0, 1.0, 0.0]], [group])
    assert (interval.value, decided, ties) == (1.0, 2, 0)


def test_intervals_cover_the_truth() -> None:
    """A scorer that is right with probability .7 on prompts of three pairs each."""
    draw = np.random.default_rng(3)
    covered = 0
    for trial in range(100):
        groups = [RankingGroup(f"p{i // 3}", ("x", "y"), (1, 2)) for i in range(120)]
        # The three pairs of a prompt are right or wrong together.
        scores = [[1.0, 0.0] if right else [0.0, 1.0] for right in np.repeat(draw.random(40) < 0.7, 3)]
        interval, _, _ = group_accuracy(scores, groups, seed=trial)
        covered += interval.lo <= 0.7 <= interval.hi
    assert 86 <= covered <= 100


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 30)), min_size=4, max_size=40), st.integers(0, 99)
)
def test_no_prompt_and_no_text_without_one_is_on_two_sides(names: list[tuple[int, int]], seed: int) -> None:
    groups = [
        RankingGroup("" if prompt < 4 else f"Prompt {prompt}", (f"text {text}", f"Text  {text + 1}"), (1, 2))
        for prompt, text in names
    ]
    parts = split_by_prompt(groups, (0.2, 0.3), seed)
    assert sorted(map(id, itertools.chain(*parts))) == sorted(map(id, groups))
    for one, two in itertools.combinations(parts, 2):
        keys = [
            {g.prompt for g in part if g.prompt}
            | {" ".join(t.lower().split()) for g in part if not g.prompt for t in g.completions}
            for part in (one, two)
        ]
        assert not keys[0] & keys[1]
