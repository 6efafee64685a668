"""Prompts in their order, batches, episode ends, and what a task refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from token_rewards import (
    EOS,
    PAD,
    VOCAB,
    ascending,
    count,
    from_record,
    letters_only,
    number_task,
    prompt,
    source,
    text_length,
)

from textrl.errors import UserError
from textrl.mdp.task import Prompt, TokenTask
from textrl.rewards import RewardSum

PROMPTS = [prompt(2 + i % 6, 2 + i // 6) for i in range(20)]


def test_every_epoch_visits_each_prompt_once_in_another_order() -> None:
    task = number_task(prompts=PROMPTS)
    epochs = [[task.prompt_for(20 * epoch + i) for i in range(20)] for epoch in range(3)]
    for epoch in epochs:
        assert sorted(p.ids for p in epoch) == sorted(p.ids for p in PROMPTS)
    assert epochs[0] != epochs[1] != epochs[2]


def test_the_order_is_keyed_by_the_seed_and_needs_no_history() -> None:
    forwards = [number_task(prompts=PROMPTS, seed=7).prompt_for(e) for e in range(50)]
    task = number_task(prompts=PROMPTS, seed=7)
    assert [task.prompt_for(e) for e in reversed(range(50))] == forwards[::-1]
    assert [number_task(prompts=PROMPTS, seed=8).prompt_for(e) for e in range(50)] != forwards
    assert [number_task(prompts=PROMPTS, seed=8).prompt_for(e, seed=7) for e in range(50)] == forwards


def test_the_order_does_not_change_between_releases() -> None:
    # Written down from the first release: a saved run resumes with the same prompts.
    task = number_task(prompts=[prompt(2 + i) for i in range(6)], seed=3)
    assert [task.prompt_for(e).ids[0] for e in range(12)] == [2, 6, 3, 7, 5, 4, 2, 4, 3, 5, 6, 7]


@given(
    st.lists(st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=6), min_size=1, max_size=5),
    st.integers(0, 3),
)
def test_collate_pads_on_the_left(rows: list[list[int]], extra: int) -> None:
    prompts = [Prompt(ids=tuple(row)) for row in rows]
    task = number_task(prompts=prompts)
    width = max(map(len, rows)) + extra
    ids, mask = task.collate(prompts, width)
    assert ids.dtype == torch.int64
    assert mask.dtype == torch.bool
    assert ids.shape == mask.shape == (len(rows), width)
    for row, given_ids, real in zip(rows, ids, mask, strict=True):
        assert given_ids[real].tolist() == row
        assert real[width - len(row) :].all()
        assert not real[: width - len(row)].any()
        assert (given_ids[~real] == PAD).all()
    assert task.collate(prompts)[0].shape[1] == max(map(len, rows))


def test_collate_refuses_a_prompt_wider_than_asked() -> None:
    with pytest.raises(UserError, match="3 tokens does not fit a width of 2"):
        number_task().collate([prompt(4, 5, 6)], 2)


def test_a_batch_carries_text_and_records_only_where_needed() -> None:
    ids = torch.tensor([[3, 4, EOS], [5, PAD, PAD]])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    prompts = [prompt(2), prompt(4, 5)]
    plain = number_task([count()]).batch(prompts, ids, mask)
    assert (plain.text, plain.prompt_text, plain.records) == (None, None, None)
    text = number_task([text_length()]).batch(prompts, ids, mask)
    assert text.text == ["3 4", "5"]
    assert text.prompt_text == ["2", "4 5"]
    assert text.records is None
    records = number_task([from_record()]).batch(prompts, ids, mask)
    assert records.records == [{"worth": 0.5}, {"worth": 2.25}]
    memo: dict[object, object] = {}
    more = number_task([count()]).batch(prompts, ids, mask, needs=["text"], memo=memo, logprobs=-ids.float())
    assert more.text == ["3 4", "5"]
    assert more.memo is memo
    assert more.logprobs is not None
    assert more.prompt_ids.tolist() == [[PAD, 2], [4, 5]]


def test_score_is_the_reward_sum_and_zero_without_one() -> None:
    ids = torch.tensor([[3, 4, 3]])
    mask = torch.ones(1, 3, dtype=torch.bool)
    task = number_task([count(3, 2.0), ascending()])
    scored = task.score(task.batch([prompt(2)], ids, mask))
    assert scored.total.tolist() == [[1.0, 1.0, 4.0]]  # 2->3, 3->4, then two threes at weight 2
    nothing = number_task()
    assert nothing.score(nothing.batch([prompt(2)], ids, mask)).total.tolist() == [[0.0, 0.0, 0.0]]


def test_finish_reasons() -> None:
    task = number_task(max_new_tokens=3)
    assert [task.finish_reason(4, n) for n in (1, 2, 3)] == [None, None, "length"]
    assert [task.finish_reason(EOS, n) for n in (1, 3)] == ["eos", "eos"]


def test_action_mask_is_all_true_without_a_rule_and_checked_with_one() -> None:
    assert number_task().action_mask(prompt(2), []).tolist() == [True] * VOCAB
    assert (
        number_task(allowed=letters_only).action_mask(prompt(2), []).tolist() == [False, False] + [True] * 6
    )
    for wrong, words in [
        (lambda p, r: np.ones(3, dtype=bool), r"bool of shape \(3,\); it must return bool of shape \(8,\)"),
        (lambda p, r: np.ones(VOCAB), "returned float64"),
        (lambda p, r: np.zeros(VOCAB, dtype=bool), "left no token after 2 tokens"),
    ]:
        with pytest.raises(UserError, match=words):
            number_task(allowed=wrong).action_mask(prompt(2), [3, 4])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompts": []}, "no prompts"),
        ({"prompts": [prompt(2), Prompt(ids=())]}, "Prompt 1 .* no tokens"),
        ({"prompts": [prompt(2), prompt(8)]}, "Prompt 1 holds token 8, outside the vocabulary of 8"),
        ({"prompts": [prompt(-1)]}, "Prompt 0 holds token -1"),
        ({"vocab_size": 0}, "vocab_size is 0"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"pad_id": 8}, "pad_id holds 8, outside"),
        ({"eos_ids": {1, 9}}, "eos_ids holds 9, outside"),
    ],
)
def test_refusals(change: dict[str, object], words: str) -> None:
    good = {
        "prompts": [prompt(2)],
        "tokenizer": None,
        "vocab_size": VOCAB,
        "eos_ids": {EOS},
        "pad_id": PAD,
        "max_new_tokens": 4,
        "rewards": None,
    }
    TokenTask(**good)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=words):
        TokenTask(**{**good, **change})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"side": "learner", "granularity": "token"}, r"'penalty' \(penalty\) needs the learner's side"),
        (
            {"side": "learner", "needs": frozenset({"logprobs", "ref_logprobs"})},
            "needs logprobs, ref_logprobs",
        ),
        (
            {"needs": frozenset({"ref_hidden", "text"})},
            "needs ref_hidden, which an environment does not have",
        ),
    ],
)
def test_learner_side_sources_are_refused_by_name(record: dict[str, object], words: str) -> None:
    mixed = [count(), source("penalty", lambda batch: batch.logprobs, **record)]
    with pytest.raises(UserError, match=words):
        number_task(mixed)
    number_task(RewardSum(mixed[:1]).side("env").sources)
